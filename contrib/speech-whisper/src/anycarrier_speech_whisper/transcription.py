"""One utterance to text with a Whisper model: prompt, context, decoding, and what guards against invented words.

The figures were measured on 122 telephone-band recordings of people, 48 of them with transcripts, and 54 sounds
without words; `docs/benchmarks.md` has what `./dev bench speech` measures today.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from anycarrier.speech import primary_language
from anycarrier_speech_whisper.features import LONGEST, RATE, Samples, log_mel, padded
from anycarrier_speech_whisper.models import ModelUnusable, find_model

MARGIN = 0.2
"""Seconds of silence put before and after an utterance, since speech that touches the edge is misheard more."""

AFTER = 1.0
"""Least seconds of context after the utterance; with less, the model repeats the sentence until its limit."""

TOKENS_AT_LEAST, TOKENS_PER_SECOND = 12, 7.0
"""How many tokens an utterance may have. Nobody says more in that time, a loop does."""

COMPRESSION = 1.9
"""Text that zlib makes smaller than by this ratio is repetition (openai/whisper has 2.4, for 30 s of text)."""

COMPRESSED_FROM = 30
"""Characters below which the ratio says nothing."""

SAME_TOKEN = 5
"""One token so many times running is a loop."""

TIMES_RUNNING = {1: 5, 2: 3}
"""How often so many words in a row must come to be a loop: "five" five times, "bye now" three times, and three words or
more twice. Digits count one by one."""

SAME_TAIL = 4
"""So many last words that were said before are a loop that was just cut off: "3 1 1 5 4 2 2 3 1 1 5"."""

RETRIES = ((16.0, 5), (30.0, 5))
"""Context in seconds and beam with which a loop is decoded again, until it is none. 30 s is as the model was trained.
Of 576 utterances on a simulated line, two thirds of them noisy or with lost frames, 41 were taken for loops; of their
176 words, 44 were wrong with 30 s at once, and 49 so, at half of the work: other callers wait for it."""

PROMPT_TOKENS = 220
"""Tokens of phrases at most; the model's own limit for a previous text is 223."""

LONGEST_PHRASE = 200
"""Characters of a phrase that is used; the tokenizer takes minutes for a word of 100,000 letters."""

TOTAL_TOKENS = 448
"""Tokens of prompt and text together that a model can hold."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a :class:`Transcriber` loads and how it decodes.

    ``model``, ``cache`` and ``downloads`` are those of :func:`~anycarrier_speech_whisper.models.find_model`.
    ``compute_type`` is CTranslate2's; by default ``int8``, on ``cuda`` ``float16``. ``beam``: by default 1 for a tiny
    model, which gains nothing by more, and 5 for others, which loop less with it. ``context``: seconds that the model
    hears at least (12: 6.3 % of words wrong at a quarter of the work of 30; 9: 11.8 %). ``no_speech``: probability of
    "no speech" above which there are no words (speech had 0.655 at most, noise mostly 0.7 to 0.98).
    """

    model: str = "tiny.en"
    device: str = "cpu"
    compute_type: str | None = None
    beam: int | None = None
    context: float = 12.0
    no_speech: float = 0.7
    threads: int = 1
    downloads: bool = False
    cache: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one decoding gave. ``cut``: it was stopped at the limit. ``looping``: it repeats itself, or was cut."""

    text: str
    no_speech: float
    cut: bool
    looping: bool


class Transcriber:
    """A loaded model. Not for use from several threads at once; raises :class:`ModelUnusable` when there is none.

    >>> Transcriber(Options()).transcribe(samples, phrases=("oat milk", "flat white"))
    'A flat white with oat milk, please.'
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options = options or Options()
        folder = find_model(options.model, cache=options.cache, downloads=options.downloads)
        os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
        ctranslate2: Any = import_module("ctranslate2")
        tokenizers: Any = import_module("tokenizers")
        try:
            self._model: Any = ctranslate2.models.Whisper(
                str(folder),
                device=options.device,
                compute_type=options.compute_type or ("float16" if options.device == "cuda" else "int8"),
                intra_threads=options.threads,
            )
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as failure:  # both libraries raise bare ones
            raise ModelUnusable(
                str(folder), f"a Whisper model that CTranslate2 loads on {options.device} ({failure})",
                "set the engine's model to tiny.en, and device and compute_type to what this machine has",
            ) from failure  # fmt: skip
        self.beam = options.beam or (1 if "tiny" in folder.name or "tiny" in options.model else 5)
        self.multilingual: bool = self._model.is_multilingual
        self._end: int = self._token("<|endoftext|>")
        self._array = ctranslate2.StorageView.from_array

    def transcribe(
        self, samples: Samples, *, phrases: Sequence[str] = (), language: str = "en", retry: bool = True
    ) -> str:
        """The words in ``samples`` (16 kHz, -1 to 1, of any length), empty when there are none.

        ``phrases`` are words that are likely. ``retry``: decode a loop again; otherwise it has no words. ``ValueError``
        for a language that the model does not hear.
        """
        prompt = self.prompt(phrases, language)
        return " ".join(filter(None, (self._utterance(piece, prompt, retry) for piece in pieces(samples))))

    def _utterance(self, samples: Samples, prompt: list[int], retry: bool) -> str:
        silence = np.zeros(round(MARGIN * RATE), np.float32)
        sound = np.concatenate([silence, samples, silence])
        seconds = len(sound) / RATE
        features = log_mel(sound, self._model.n_mels)
        decoded = self._decode(features, prompt, seconds, max(self.options.context, seconds + AFTER), self.beam)
        if decoded.looping and not retry:
            return ""
        for context, beam in RETRIES:
            if decoded.looping and decoded.no_speech <= self.options.no_speech and context > seconds:
                decoded = self._decode(features, prompt, seconds, context, beam)
        if decoded.cut:
            return ""
        if decoded.no_speech > self.options.no_speech or not any(map(str.isalnum, decoded.text)):
            return ""
        return decoded.text

    def _decode(self, features: Samples, prompt: list[int], seconds: float, context: float, beam: int) -> Decoded:
        limit = int(TOKENS_AT_LEAST + TOKENS_PER_SECOND * seconds)
        limit = min(limit, TOTAL_TOKENS - len(prompt))
        encoded = self._model.encode(self._array(padded(features, context)[None]))
        result = self._model.generate(
            encoded,
            [prompt],
            beam_size=beam,
            max_length=len(prompt) + limit,
            return_no_speech_prob=True,
            suppress_blank=True,
            suppress_tokens=[-1],
        )[0]
        tokens = [number for number in result.sequences_ids[0] if number < self._end]
        text = " ".join(self._tokenizer.decode(tokens).split())
        cut = len(tokens) >= limit - 2
        return Decoded(text, result.no_speech_prob, cut, cut or repeats(text, tokens))

    def prompt(self, phrases: Sequence[str], language: str) -> list[int]:
        """The tokens before the text; ``ValueError`` for a language that the model does not know."""
        language = primary_language(language)
        prompt = [self._token("<|startoftranscript|>")]
        if self.multilingual:
            prompt += [self._token(f"<|{language}|>"), self._token("<|transcribe|>")]
        elif language != "en":
            raise ValueError(f"the model {self.options.model} hears English only, not {language!r}. Use model base")
        prompt.append(self._token("<|notimestamps|>"))
        previous: list[int] = []
        for phrase in hints(phrases):
            more = self._tokenizer.encode(f", {phrase}" if previous else f" {phrase}", add_special_tokens=False).ids
            if len(previous) + len(more) > PROMPT_TOKENS:
                break
            previous += (number for number in more if number < self._end)  # what steers the decoder is no text
        return [self._token("<|startofprev|>"), *previous, *prompt] if previous else prompt

    def _token(self, text: str) -> int:
        number: int | None = self._tokenizer.token_to_id(text)
        if number is None:
            raise ValueError(f"the model {self.options.model} has no token {text}: is the language right?")
        return number


def hints(phrases: Sequence[str]) -> list[str]:
    """Phrases fit for a prompt: each once, without the names of special tokens, which would steer the decoder, and
    without figures, after which the model writes figures for everything (a prompt of digits: 27 % of words wrong,
    without it 6.9 %)."""
    text = (phrase.encode(errors="ignore").decode() for phrase in phrases if len(phrase) <= LONGEST_PHRASE)
    cleaned = (" ".join(re.sub(r"<\|.*?\|>|[^\S ]|\S*\d\S*|[<>|\x00]", " ", phrase).split()) for phrase in text)
    return list(dict.fromkeys(phrase for phrase in cleaned if any(map(str.isalpha, phrase))))


def repeats(text: str, tokens: Sequence[int]) -> bool:
    """Whether a text repeats itself as few speakers do."""
    raw = text.encode()
    if len(text) > COMPRESSED_FROM and len(raw) > COMPRESSION * len(zlib.compress(raw)):
        return True
    runs = (tokens[at : at + SAME_TOKEN] for at in range(len(tokens) - SAME_TOKEN + 1))
    if any(len(set(run)) == 1 for run in runs):
        return True
    words = re.findall(r"\d|[^\W\d_]+", text.lower())
    tail, before = words[-SAME_TAIL:], range(len(words) - SAME_TAIL)
    return any(words[at : at + SAME_TAIL] == tail for at in before) or _runs(words)


def _runs(words: Sequence[str]) -> bool:
    """Whether some words follow themselves too often."""
    for length in range(1, len(words) // 2 + 1):
        again = length * (TIMES_RUNNING.get(length, 2) - 1)
        same = 0
        for word, later in zip(words, words[length:], strict=False):
            same = same + 1 if word == later else 0
            if same == again:
                return True
    return False


def pieces(samples: Samples) -> list[Samples]:
    """``samples`` in pieces that the model can hear at once, cut where it is quietest in the last third."""
    longest = round((LONGEST - AFTER - 2 * MARGIN) * RATE)
    found = []
    while len(samples) > longest:
        step = RATE // 10
        start = longest * 2 // 3
        blocks = samples[start : start + (longest - start) // step * step].reshape(-1, step)
        at = start + int(np.argmin((blocks**2).mean(axis=1))) * step + step // 2
        found.append(samples[:at])
        samples = samples[at:]
    return [*found, samples] if len(samples) else found
