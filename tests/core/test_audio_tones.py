"""DTMF as sound: a Goertzel receiver hears the keys that were pressed, and only those."""

from __future__ import annotations

import math
import struct

import pytest

from anycarrier.audio import (
    COLUMNS,
    KEYS,
    L16_16K,
    PCM16_8K,
    PCMA_8K,
    PCMU_8K,
    ROWS,
    AudioFormat,
    Transcoder,
    dtmf_tones,
)


def power(block: list[int], frequency: float, rate: int) -> float:
    """Goertzel: the block's energy at one frequency."""
    turn = 2 * math.cos(math.tau * frequency / rate)
    before = last = 0.0
    for sample in block:
        before, last = last, sample + turn * last - before
    return before * before + last * last - turn * before * last


def keys_heard(audio: bytes, format: AudioFormat) -> str:
    """Keys in order: a key counts once it fills two 13 ms blocks, and again after a block without it."""
    pcm = Transcoder(format, AudioFormat("PCM16", format.rate)).convert(audio)
    heard = list(struct.unpack(f"<{len(pcm) // 2}h", pcm))
    size = format.rate * 105 // 8000
    keys, previous, held = "", "", 0
    for at in range(0, len(heard) - size + 1, size):
        block = heard[at : at + size]
        energy = sum(s * s for s in block) * size / 2 or 1.0
        rows = [power(block, f, format.rate) for f in ROWS]
        columns = [power(block, f, format.rate) for f in COLUMNS]
        key = ""
        if energy > 1e9 and max(rows) + max(columns) > 0.8 * energy and min(max(rows), max(columns)) > 0.15 * energy:
            key = KEYS[rows.index(max(rows)) * 4 + columns.index(max(columns))]
        held = held + 1 if key == previous else 1
        if key and held == 2:
            keys += key
        previous = key
    return keys


@pytest.mark.parametrize("format", [PCMU_8K, PCMA_8K, L16_16K, PCM16_8K], ids=str)
def test_every_key_is_heard_once_and_in_order(format: AudioFormat) -> None:
    assert keys_heard(dtmf_tones(KEYS, format), format) == KEYS


def test_the_same_key_twice_is_two_keys() -> None:
    assert keys_heard(dtmf_tones("1100#"), PCMU_8K) == "1100#"


def test_lengths_are_tone_and_gap() -> None:
    assert len(dtmf_tones("12", tone=0.1, gap=0.06)) == 2 * 1280
    assert len(dtmf_tones("1wW", tone=0.1, gap=0.0)) == 800 + 4000 + 8000
    assert dtmf_tones("") == b""


def test_tones_do_not_clip() -> None:
    pcm = dtmf_tones(KEYS, PCM16_8K)
    assert max(abs(s) for s in struct.unpack(f"<{len(pcm) // 2}h", pcm)) < 30000


@pytest.mark.parametrize("digits", ["12E", "+1", "1 2"])
def test_what_is_no_key_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match="not a telephone key"):
        dtmf_tones(digits)
