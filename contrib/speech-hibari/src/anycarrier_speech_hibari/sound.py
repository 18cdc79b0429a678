"""From text to audio, one sentence at a time: cut, read, made, trimmed, resampled. Runs in the engine's threads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import spoken_sentences

LONGEST = 120
"""Characters in one piece; longer sentences are cut at a comma or a space."""
LONG_FIRST = 60
"""Characters from which a first sentence is cut at a comma, so that its first sound is not late."""
FIRST_CLAUSE = 20
"""Characters that the first piece must have to be spoken by itself."""
LONGEST_WORD = 40
"""Longer words are cut: reading one takes time by the square of its length."""
PHONEMES = 140
"""Phonemes made at once: seven seconds of speech. Memory grows with the longest."""

AUDIBLE = 0.006
"""Samples below this are silence at the edges of a sentence."""
LEAD = 0.04
"""Seconds kept before the first audible sample. The model makes a third of a second, which a caller would wait for."""
PAUSE = 0.35
"""Seconds kept after a sentence, at most."""
SHORT_PAUSE = 0.15
"""Seconds kept after a piece that does not end a sentence, at most."""

_CLAUSE = re.compile(r"(?<=[,;:–—])\s+")
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD}}}")
_LONG_NUMBER = re.compile(r"\d{16,}")
_ENDS = re.compile(r"[.!?…][\"'”’)\]]*$")


def speech(model: Any, text: str, language: str, speed: float, format: AudioFormat) -> Iterator[bytes]:
    """``text`` in ``format``, sentence by sentence, each made when it is asked for. The same text gives the same audio.

    Raises ``SpeechFailed`` if there are words but nothing in them that hibari can read.
    """
    made = False
    for piece in pieces(text, language):
        for phonemes in _phonemes(model, piece):
            sound = _trimmed(_synthesized(model, phonemes, speed), PAUSE if _ENDS.search(piece) else SHORT_PAUSE)
            if len(sound):
                made = True
                yield _encoded(sound, model.sample_rate, format)
    if not made and any(c.isalpha() for c in text):
        raise SpeechFailed("hibari", "speak", "no word of the text can be read in English")


def pieces(text: str, language: str) -> list[str]:
    """``text`` as words, cut where a listener expects a pause; the first piece is short if a comma allows it."""
    found: list[str] = []
    for sentence in spoken_sentences(text, language, LONGEST):
        sentence = _LONG_WORD.sub(r"\g<0> ", _LONG_NUMBER.sub(lambda match: " ".join(match[0]), sentence))
        comma = _CLAUSE.search(sentence, FIRST_CLAUSE) if not found and len(sentence) > LONG_FIRST else None
        found += [sentence[: comma.start()], sentence[comma.end() :]] if comma else [sentence]
    return found


def _phonemes(model: Any, piece: str) -> list[str]:
    try:
        found: str = model.g2p(piece)
    except Exception as failure:
        raise SpeechFailed("hibari", "speak", f"a text cannot be read: {type(failure).__name__}") from failure
    found = "".join(c for c in found if c in model.vocab)
    if len(found) <= PHONEMES:
        return [found] if any(c.isalpha() for c in found) else []
    chunks = [""]
    for word in found.split():
        if len(chunks[-1]) + len(word) >= PHONEMES:
            chunks.append("")
        chunks[-1] += f" {word[:PHONEMES]}"
    return chunks


def _synthesized(model: Any, phonemes: str, speed: float) -> NDArray[np.float32]:
    try:
        sound: NDArray[np.float32] = model.from_phonemes(phonemes.strip(), speed, 0)
    except Exception as failure:
        raise SpeechFailed("hibari", "speak", f"a sentence cannot be made: {type(failure).__name__}") from failure
    return sound


def _trimmed(sound: NDArray[np.float32], pause: float, rate: int = 24000) -> NDArray[np.float32]:
    audible = np.flatnonzero(np.abs(sound) > AUDIBLE)
    if not len(audible):
        return sound[:0]
    return sound[max(0, audible[0] - round(LEAD * rate)) : audible[-1] + 1 + round(pause * rate)]


def _encoded(sound: NDArray[np.float32], rate: int, format: AudioFormat) -> bytes:
    resampled = soxr.resample(sound, rate, format.rate, quality="HQ")
    samples = np.clip(np.rint(resampled * 32767), -32768, 32767).astype("<i2").tobytes()
    transcoder = Transcoder(AudioFormat("PCM16", format.rate), format)
    return transcoder.convert(samples) + transcoder.flush()
