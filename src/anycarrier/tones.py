"""DTMF as sound, for carriers that cannot send digits while they stream."""

from __future__ import annotations

import math
import sys
from array import array
from functools import cache

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder

ROWS = (697, 770, 852, 941)
COLUMNS = (1209, 1336, 1477, 1633)
KEYS = "123A456B789C*0#D"
PAUSES = {"w": 0.5, "W": 1.0}
"""Seconds of silence that stand in a string of digits."""

LEVEL = 0.36
"""Peak of the upper tone as part of full scale; both tones together stay under it."""
TWIST = 10 ** (-2 / 20)
"""The lower tone is 2 dB softer: telephone lines lose more of the upper one (ITU-T Q.23, Q.24)."""
RAMP = 0.003
"""Seconds in which a tone fades in and out, so that it does not click into the neighbouring frequencies."""


def dtmf_tones(digits: str, format: AudioFormat = PCMU_8K, tone: float = 0.1, gap: float = 0.06) -> bytes:
    """The sound of pressing ``digits``: each key sounds for ``tone`` seconds, ``gap`` seconds of silence between.

    Keys are 0-9, A-D, ``*`` and ``#``; ``w`` is half a second of silence and ``W`` a whole one. ``ValueError``
    for anything else, and for a channel count other than one.
    """
    if format.channels != 1:
        raise ValueError("DTMF is made in one channel")
    samples = array("h")
    for digit in digits:
        if digit in PAUSES:
            samples.extend(_silence(PAUSES[digit], format.rate))
            continue
        key = KEYS.find(digit.upper())
        if key < 0:
            raise ValueError(f"{digit!r} is not a telephone key: use 0-9, A-D, * and #, w or W for a pause")
        samples.extend(_tone(ROWS[key // 4], COLUMNS[key % 4], tone, format.rate))
        samples.extend(_silence(gap, format.rate))
    if sys.byteorder == "big":
        samples.byteswap()
    return Transcoder(AudioFormat("PCM16", format.rate), format).convert(samples.tobytes())


def _silence(seconds: float, rate: int) -> array[int]:
    return array("h", bytes(2 * round(seconds * rate)))


@cache
def _tone(row: int, column: int, seconds: float, rate: int) -> array[int]:
    count = round(seconds * rate)
    ramp = max(1, round(RAMP * rate))
    low, high = 2 * math.pi * row / rate, 2 * math.pi * column / rate
    return array(
        "h",
        [
            round(
                32767
                * LEVEL
                * min(1.0, (n + 1) / ramp, (count - n) / ramp)
                * (TWIST * math.sin(low * n) + math.sin(high * n))
            )
            for n in range(count)
        ],
    )
