"""Keys heard in audio: DTMF tones found by the Goertzel algorithm, for far ends that were sent tones, not messages."""

from __future__ import annotations

import math
from array import array

from anycarrier.audio import pcmu_to_pcm16
from anycarrier.testing.tones import RATE, tone

LOW = (697, 770, 852, 941)
HIGH = (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")
WINDOW = 160
"""Samples judged at a time: 20 ms."""

SHARE = 0.7
"""Part of a window's energy that its two tones must hold; speech and noise spread theirs."""

LOUD = 200_000.0
"""Mean square below which a window counts as silence."""


def key_tone(digit: str, seconds: float = 0.1) -> bytes:
    """Mu-law of one key."""
    row = next(index for index, keys in enumerate(KEYS) if digit.upper() in keys)
    return tone(seconds, LOW[row], HIGH[KEYS[row].index(digit.upper())], level=0.5)


def keys_heard(mulaw: bytes) -> str:
    """The keys in mu-law 8 kHz audio; one counts when two windows in a row hold it, and again after a pause."""
    samples = array("h", pcmu_to_pcm16(mulaw))
    found, before, counted = "", "", ""
    for start in range(0, len(samples) - WINDOW + 1, WINDOW):
        key = _key(samples[start : start + WINDOW])
        if key and key == before and key != counted:
            found += key
            counted = key
        elif not key and not before:
            counted = ""
        before = key
    return found


def _key(window: array[int]) -> str:
    energy = sum(sample * sample for sample in window)
    if energy < LOUD * WINDOW:
        return ""
    low, high = ([_power(window, frequency) for frequency in group] for group in (LOW, HIGH))
    if max(low) + max(high) < SHARE * energy or min(max(low), max(high)) < 0.1 * energy:
        return ""
    return KEYS[low.index(max(low))][high.index(max(high))]


def _power(window: array[int], frequency: float) -> float:
    """Energy of ``frequency`` in the window, on the scale of the sum of squares."""
    turn = 2 * math.cos(2 * math.pi * frequency / RATE)
    one = two = 0.0
    for sample in window:
        one, two = sample + turn * one - two, one
    return 2 * (one * one + two * two - turn * one * two) / len(window)
