"""Sounds a sandbox makes itself: tones, an answering machine's greeting and beep, a fax machine."""

from __future__ import annotations

import math
from array import array

from anycarrier.audio import pcm16_to_pcmu

RATE = 8000


def tone(seconds: float, *frequencies: float, level: float = 0.3) -> bytes:
    """Mu-law of the frequencies (Hz) sounding together; ``level`` is their peak together, 0 to 1."""
    peak = level * 32767 / max(1, len(frequencies))
    turns = [2 * math.pi * frequency / RATE for frequency in frequencies]
    instants = range(round(seconds * RATE))
    samples = array("h", (round(sum(peak * math.sin(turn * n) for turn in turns)) for n in instants))
    return pcm16_to_pcmu(samples.tobytes())


def greeting() -> bytes:
    """One second that a machine speaks: a voice-like buzz in syllables. :func:`beep` follows it."""
    syllable = tone(0.15, 140, 280, 420, 700) + tone(0.05)
    return syllable * 5


def beep() -> bytes:
    """The machine's beep, 0.4 s of 1 kHz."""
    return tone(0.4, 1000)


def fax() -> bytes:
    """A fax machine's answer tone (CED), one second of 2100 Hz."""
    return tone(1.0, 2100)
