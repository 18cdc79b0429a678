"""pocketsphinx in a worker: language models and dictionaries, decoders built from them, and one stream's utterances.

The decoder holds the GIL while it works, up to a sixth of a second, so it runs in a process of its own.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from anycarrier.audio import PCM16_16K, AudioFormat, Transcoder

RATE = 16000  # of the acoustic model, which refuses 8000
DITHER = 8.0
"""Noise added to every sample, about 2.5e-4 of full scale: digital silence has no logarithm."""
INTERIM_EVERY = 0.2
"""Seconds of audio between two looks at the guess."""

WHOLE_SENTENCES = {"bestpath": False, "beam": 1e-80, "pbeam": 1e-80, "wbeam": 1e-80}
"""How a grammar is searched. The pass over the lattice asks only what fits the sound best, and answers with a beginning
("that" of "that sounds great"), so it is left out: without it the answer ends where the grammar does. That path must
then still be alive at the end, whatever a word of it sounded like, and a grammar is small enough for wide beams. The
widths are a bargain: with words at 1e-60, 14 of 100 clips of one voice's "that sounds great" came back empty, and 28 of
96 clips of what no grammar knew as one of its sentences; with these it is none, and 45."""


class DecoderConfig(msgspec.Struct, frozen=True):
    """What a decoder is built from; streams with equal ones share idle decoders."""

    phrases: tuple[str, ...] = ()
    grammar: str | None = None
    pronunciations: dict[str, str] = {}
    second_pass: bool = False

    @property
    def key(self) -> bytes:
        """The same for equal configurations."""
        return msgspec.msgpack.encode(self)


_MARKS = re.compile(r"\(\d+\)|<[^>]*>|\[[^\]]*\]|\+\+[^+]*\+\+")


def clean(hypothesis: str) -> str:
    """A hypothesis without the decoder's own marks: ``<sil>``, ``[NOISE]``, ``word(2)``."""
    return " ".join(_MARKS.sub(" ", hypothesis).split())


@contextmanager
def _files(**texts: str | None) -> Iterator[dict[str, str]]:
    """Texts as files, for a library that reads nothing else; gone once it has read them."""
    with tempfile.TemporaryDirectory(prefix="anycarrier-speech-") as folder:
        paths = {}
        for name, text in texts.items():
            if text is not None:
                path = Path(folder, name)
                path.write_text(text, encoding="utf-8")
                paths[name] = str(path)
        yield paths


EXAMPLE = "#JSGF V1.0; grammar g; public <g> = yes | no;"
NO_GRAMMAR = f"the grammar is not JSGF that pocketsphinx reads. It must look like: {EXAMPLE}"


def build(config: DecoderConfig) -> Any:
    """A decoder. ``ValueError`` for what cannot be listened for, with advice."""
    pocketsphinx: Any = import_module("pocketsphinx")
    model = Path(pocketsphinx.get_model_path(), "en-us")
    dictionary = model / "cmudict-en-us.dict"
    settings: dict[str, Any] = {
        "hmm": str(model / "en-us"),
        "samprate": RATE,
        "loglevel": "FATAL",
        "fwdflat": config.second_pass,
    }
    if config.grammar is not None:
        known = trimmed(grammar_words(config.grammar), dictionary, config.pronunciations)
        with _files(dict=known, jsgf=config.grammar) as paths:
            return _decoder({**settings, **paths, **WHOLE_SENTENCES}, NO_GRAMMAR)
    if config.phrases:
        spoken = {word for phrase in config.phrases for word in words(phrase)}
        known = trimmed(spoken, dictionary, config.pronunciations)
        with _files(dict=known, lm=arpa(config.phrases)) as paths:
            # The phrases are worth more than usual against the sound: callers mostly say one of them.
            return _decoder({**settings, **paths, "lw": 9.0}, "the phrases make no language model")
    settings.update(dict=str(dictionary), lm=str(model / "en-us.lm.bin"))
    return _decoder(settings, "the model that came with pocketsphinx cannot be loaded")


def _decoder(settings: dict[str, Any], otherwise: str) -> Any:
    pocketsphinx: Any = import_module("pocketsphinx")
    try:
        return pocketsphinx.Decoder(**settings)
    except (RuntimeError, ValueError) as failure:
        raise ValueError(otherwise) from failure


class Listener:
    """One stream on one decoder."""

    def __init__(self, decoder: Any, source: AudioFormat) -> None:
        self.decoder = decoder
        self._transcoder = Transcoder(source, PCM16_16K)
        self._noise = np.random.default_rng(0)
        self._open = False
        self._since_look = 0.0
        self._shown = ""

    def feed(self, audio: bytes) -> str | None:
        """Decode; a new guess, when there is one."""
        if not self._open:
            self.decoder.start_utt()
            self._open, self._since_look, self._shown = True, 0.0, ""
        self._decode(self._transcoder.convert(audio))
        if self._since_look < INTERIM_EVERY:
            return None
        self._since_look = 0.0
        guess = self._hypothesis()
        if guess == self._shown:
            return None
        self._shown = guess
        return guess

    def begin(self) -> None:
        """Forget what was fed."""
        if self._open:
            self.decoder.end_utt()
            self._open = False

    def finish(self) -> str:
        """The words of the utterance, empty when nothing was fed."""
        if not self._open:
            return ""
        self._decode(self._transcoder.flush())
        self.decoder.end_utt()
        self._open = False
        return self._hypothesis()

    def _decode(self, pcm: bytes) -> None:
        if not pcm:
            return
        samples = np.frombuffer(pcm, "<i2").astype("f4")
        samples += self._noise.uniform(-DITHER, DITHER, len(samples)).astype("f4")
        self.decoder.process_raw(np.clip(samples, -32768, 32767).astype("i2").tobytes(), False, False)
        self._since_look += len(samples) / RATE

    def _hypothesis(self) -> str:
        guess = self.decoder.hyp()
        return clean(guess.hypstr) if guess is not None else ""


DISCOUNT = 0.05
START, END = "<s>", "</s>"
_NUMBERS = "zero one two three four five six seven eight nine".split()

Gram = tuple[str, ...]


def words(phrase: str) -> list[str]:
    """The words of a phrase as a pronouncing dictionary spells them: lower case, digits spelled out."""
    text = phrase.lower().replace("’", "'")
    text = re.sub(r"\d", lambda digit: f" {_NUMBERS[int(digit.group())]} ", text)
    return [word.strip("'-") for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text)]


def arpa(phrases: Iterable[str], order: int = 3) -> str:
    """A small trigram model over ``phrases``, as ARPA text. Katz back-off with a fixed discount: a seen n-gram keeps
    nearly all of its probability, and the rest lets the words be recombined. A larger rest makes the recognizer hear
    "no to an to you" for "no thank you". ``ValueError`` when there is no word in them."""
    sentences = [[START, *spoken, END] for phrase in phrases if (spoken := words(phrase))]
    if not sentences:
        raise ValueError("a language model needs at least one phrase with a word in it")
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for sentence in sentences:
        for size in range(1, order + 1):
            counts[size - 1].update(tuple(sentence[i : i + size]) for i in range(len(sentence) - size + 1))
    probabilities = [_unigrams(counts[0])]
    for size in range(2, order + 1):
        contexts = counts[size - 2]
        seen = counts[size - 1].items()
        probabilities.append({gram: count * (1 - DISCOUNT) / contexts[gram[:-1]] for gram, count in seen})
    lines = ["\\data\\", *(f"ngram {size}={len(table)}" for size, table in enumerate(probabilities, 1))]
    for size, table in enumerate(probabilities, 1):
        lines.append(f"\n\\{size}-grams:")
        weights = _backoff(probabilities, size) if size < order else {}
        for gram in sorted(table):
            probability = -99.0 if gram == (START,) else math.log10(table[gram])
            weight = f" {weights[gram]:.4f}" if gram in weights else ""
            lines.append(f"{probability:.4f} {' '.join(gram)}{weight}")
    return "\n".join([*lines, "\n\\end\\\n"])


def _unigrams(counts: Counter[Gram]) -> dict[Gram, float]:
    total = sum(count for gram, count in counts.items() if gram != (START,))
    return {gram: 1.0 if gram == (START,) else count / total for gram, count in counts.items()}


def _backoff(probabilities: list[dict[Gram, float]], size: int) -> dict[Gram, float]:
    """For each n-gram of ``size``, log10 of the weight its unseen continuations are given."""
    longer = probabilities[size]
    seen: dict[Gram, float] = {}
    lower: dict[Gram, float] = {}
    for gram, probability in longer.items():
        context = gram[:-1]
        seen[context] = seen.get(context, 0.0) + probability
        lower[context] = lower.get(context, 0.0) + probabilities[size - 1][gram[1:]]
    weights = {}
    for context in probabilities[size - 1]:
        if context[-1] == END:
            continue
        left = max(1e-9, 1.0 - seen.get(context, 0.0))
        unseen = max(1e-9, 1.0 - lower.get(context, 0.0))
        weights[context] = math.log10(left / unseen)
    return weights


# What in a JSGF text is no word to be said: comments, weights, tags, rule names, header, keywords.
_NO_WORDS = re.compile(
    r"//[^\n]*|/\*.*?\*/|/[\d.]+/|\{[^}]*\}|<[^>]*>|#JSGF[^;]*;|\b(?:public|grammar\s+[\w.]+|import)\b", re.DOTALL
)


class UnknownWords(ValueError):
    """Words nobody knows how to pronounce."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(sorted(words))
        example = self.words[0]
        super().__init__(
            f"no pronunciation for {', '.join(map(repr, self.words))}. Spell them as English words, or give "
            f'pronunciations={{"{example}": "..."}} in ARPABET'
        )


def grammar_words(grammar: str) -> list[str]:
    """The words a JSGF grammar may produce."""
    text = _NO_WORDS.sub(" ", grammar)
    return sorted({word.strip("'") for word in re.findall(r"[^\W\d_]+(?:['-][^\W\d_]+)*", text.lower())} - {""})


@cache
def _dictionary(path: Path) -> bytes:
    return b"\n" + path.read_bytes()


def trimmed(words: Iterable[str], path: Path, extra: Mapping[str, str]) -> str:
    """The lines of the pronouncing dictionary at ``path`` for ``words``, all variants; ``extra`` comes first.

    A whole dictionary would cost each decoder a second and forty megabytes.

    :class:`UnknownWords` for words that are in neither.
    """
    text = _dictionary(path)
    own = {word.lower(): phones for word, phones in extra.items()}
    lines, missing = [], []
    for word in sorted(set(words)):
        if word in own:
            lines.append(f"{word} {own[word]}")
            continue
        found = _line(text, word)
        if found is None:
            missing.append(word)
            continue
        lines.append(found)
        variant = 2
        while (found := _line(text, f"{word}({variant})")) is not None:
            lines.append(found)
            variant += 1
    if missing:
        raise UnknownWords(missing)
    return "\n".join(lines) + "\n"


def _line(text: bytes, word: str) -> str | None:
    at = text.find(f"\n{word} ".encode())
    if at < 0:
        return None
    end = text.find(b"\n", at + 1)
    return text[at + 1 : end if end >= 0 else len(text)].decode().strip()
