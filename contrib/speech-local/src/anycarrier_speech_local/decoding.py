"""pocketsphinx inside a worker: decoders built from phrases or a grammar, and one stream's utterances through one.

The decoder holds the GIL while it works, up to a sixth of a second, which is why all of this has a process of its own.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from anycarrier.audio import PCM16_16K, AudioFormat, Transcoder
from anycarrier_speech_local.language_model import arpa, words
from anycarrier_speech_local.messages import HearingConfig
from anycarrier_speech_local.pronunciation import grammar_words, trimmed

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


def build(config: HearingConfig) -> Any:
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
            return _decoder({**settings, **paths, **WHOLE_SENTENCES}, "the grammar is not JSGF that pocketsphinx reads")
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
