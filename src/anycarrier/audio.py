"""Telephone audio: formats, G.711 and linear PCM, and a transcoder from any of them to any other.

DTMF as sound is here too, for carriers that cannot send digits while they stream.

G.711 is table look-up (``audioop`` is gone from Python 3.13). Changing the rate lives in ``resampling.py``.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from anycarrier.resampling import Resampler

__all__ = [
    "COLUMNS",
    "KEYS",
    "L16_8K",
    "L16_16K",
    "PCM16_8K",
    "PCM16_16K",
    "PCMA_8K",
    "PCMU_8K",
    "ROWS",
    "SILENCE",
    "AudioFormat",
    "Resampler",
    "Transcoder",
    "dtmf_tones",
    "pcm16_to_pcma",
    "pcm16_to_pcmu",
    "pcma_to_pcm16",
    "pcma_to_pcmu",
    "pcmu_to_pcm16",
    "pcmu_to_pcma",
    "silence",
    "swap16",
]


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """An audio format by its RTP encoding name (RFC 3551), e.g. ``AudioFormat("PCMU", 8000)``.

    ``L16`` is big-endian, as on the wire; ``PCM16`` is our name for native little-endian 16-bit samples,
    the form speech engines and WAV files use.
    """

    encoding: str = "PCMU"
    rate: int = 8000
    channels: int = 1

    @property
    def sample_width(self) -> int:
        """Bytes per sample of one channel."""
        return 2 if self.encoding in ("L16", "PCM16") else 1

    @property
    def bytes_per_second(self) -> int:
        """Bytes in one second of audio."""
        return self.rate * self.channels * self.sample_width

    def seconds(self, size: int) -> float:
        """How long ``size`` bytes sound."""
        return size / self.bytes_per_second

    def size(self, seconds: float) -> int:
        """How many bytes ``seconds`` take: whole samples, rounded to the nearest."""
        return round(seconds * self.rate) * self.sample_width * self.channels


PCMU_8K = AudioFormat("PCMU", 8000)
PCMA_8K = AudioFormat("PCMA", 8000)
L16_8K = AudioFormat("L16", 8000)
L16_16K = AudioFormat("L16", 16000)
PCM16_8K = AudioFormat("PCM16", 8000)
PCM16_16K = AudioFormat("PCM16", 16000)

SILENCE = {"PCMU": 0xFF, "PCMA": 0xD5, "L16": 0x00, "PCM16": 0x00}
"""The byte that means silence, by encoding."""


def silence(format: AudioFormat, seconds: float) -> bytes:
    """``seconds`` of silence in ``format``, whole samples, rounded to the nearest."""
    return bytes((SILENCE[format.encoding],)) * format.size(seconds)


# --- G.711 ---------------------------------------------------------------------------------------------------------
# A code is a sign and one of 128 levels: eight segments, each twice as coarse as the one before, of sixteen steps.
# Mu-law works on the upper 14 bits of a 16-bit sample and A-law on the upper 13, both in two's complement, which is
# what audioop, Sun's g711.c and their many descendants do.


def _mulaw_floor(level: int) -> int:
    """The smallest 14-bit magnitude that belongs to a level."""
    segment, step = divmod(level, 16)
    return max(0, ((16 + step) << (segment + 1)) - 33)


def _alaw_floor(level: int) -> int:
    """The smallest 12-bit magnitude that belongs to a level."""
    segment, step = divmod(level, 16)
    return step * 2 if segment == 0 else (16 + step) << segment


def _mulaw_sample(code: int) -> int:
    segment, step = divmod(~code & 0x7F, 16)
    magnitude = ((2 * step + 33) << segment) - 33
    return (magnitude if code & 0x80 else -magnitude) * 4


def _alaw_sample(code: int) -> int:
    segment, step = divmod((code ^ 0x55) & 0x7F, 16)
    magnitude = 2 * step + 1 if segment == 0 else (2 * step + 33) << (segment - 1)
    return (magnitude if code & 0x80 else -magnitude) * 8


def _runs(floors: list[int], end: int, code: Callable[[int], int], width: int) -> bytes:
    """The codes for the magnitudes 0 to ``end``, each repeated for the ``width`` samples that share it."""
    edges = [*floors, end]
    return b"".join(bytes((code(level),)) * ((edges[level + 1] - edges[level]) * width) for level in range(128))


def _native(table: bytes) -> bytes:
    """A table by little-endian sample, re-ordered where this machine reads samples the other way round."""
    if sys.byteorder == "little":
        return table
    return bytes(table[(i >> 8) | (i & 0xFF) << 8] for i in range(65536))


@cache
def _mulaw_codes() -> bytes:
    """65536 codes by unsigned 16-bit sample."""
    floors = [_mulaw_floor(level) for level in range(128)]
    positive = _runs(floors, 8192, lambda level: 0xFF - level, 4)
    # -1 .. -4 all have the 14-bit value -1, magnitude 1: nothing negative has magnitude 0, and -32768 has 8192.
    negative = _runs(floors, 8193, lambda level: 0x7F - level, 4)[4:]
    return _native(positive + negative[::-1])


@cache
def _alaw_codes() -> bytes:
    """65536 codes by unsigned 16-bit sample."""
    floors = [_alaw_floor(level) for level in range(128)]
    positive = _runs(floors, 4096, lambda level: level ^ 0xD5, 8)
    negative = _runs(floors, 4096, lambda level: level ^ 0x55, 8)
    return _native(positive + negative[::-1])


def _halves(sample: Callable[[int], int]) -> tuple[bytes, bytes]:
    samples = [sample(code) & 0xFFFF for code in range(256)]
    return bytes(s & 0xFF for s in samples), bytes(s >> 8 for s in samples)


@cache
def _mulaw_samples() -> tuple[bytes, bytes]:
    return _halves(_mulaw_sample)


@cache
def _alaw_samples() -> tuple[bytes, bytes]:
    return _halves(_alaw_sample)


@cache
def _across(a_to_mu: bool) -> bytes:
    """Code to code, by way of the linear sample."""
    every = bytes(range(256))
    return pcm16_to_pcmu(pcma_to_pcm16(every)) if a_to_mu else pcm16_to_pcma(pcmu_to_pcm16(every))


def _decode(data: bytes, tables: tuple[bytes, bytes]) -> bytes:
    out = bytearray(2 * len(data))
    out[0::2] = data.translate(tables[0])
    out[1::2] = data.translate(tables[1])
    return bytes(out)


def pcmu_to_pcm16(data: bytes) -> bytes:
    """Mu-law to little-endian 16-bit samples: twice the bytes."""
    return _decode(data, _mulaw_samples())


def pcma_to_pcm16(data: bytes) -> bytes:
    """A-law to little-endian 16-bit samples: twice the bytes."""
    return _decode(data, _alaw_samples())


def pcm16_to_pcmu(data: bytes) -> bytes:
    """Little-endian 16-bit samples to mu-law: half the bytes. ``ValueError`` when a sample is cut in two."""
    return _encode(data, _mulaw_codes())


def pcm16_to_pcma(data: bytes) -> bytes:
    """Little-endian 16-bit samples to A-law: half the bytes. ``ValueError`` when a sample is cut in two."""
    return _encode(data, _alaw_codes())


def _encode(data: bytes, codes: bytes) -> bytes:
    samples = _samples(data)
    # numpy does it in a sixth of the time. A process that uses it has it imported; it is not imported for this alone.
    if (frombuffer := getattr(sys.modules.get("numpy"), "frombuffer", None)) is not None:
        encoded: bytes = frombuffer(codes, "u1").take(frombuffer(samples, "u2")).tobytes()
        return encoded
    return bytes([codes[sample] for sample in samples])


def _samples(data: bytes) -> array[int]:
    if len(data) % 2:
        raise ValueError("16-bit audio has an even number of bytes; keep the odd one for the next chunk")
    return array("H", data)


def pcmu_to_pcma(data: bytes) -> bytes:
    """Mu-law to A-law, byte for byte."""
    return data.translate(_across(a_to_mu=False))


def pcma_to_pcmu(data: bytes) -> bytes:
    """A-law to mu-law, byte for byte."""
    return data.translate(_across(a_to_mu=True))


def swap16(data: bytes) -> bytes:
    """L16 (big-endian) to PCM16 (little-endian), and back. ``ValueError`` when a sample is cut in two."""
    samples = _samples(data)
    samples.byteswap()
    return samples.tobytes()


# --- from any format to any other ------------------------------------------------------------------------------------

_TO_PCM16: dict[str, Callable[[bytes], bytes]] = {"PCMU": pcmu_to_pcm16, "PCMA": pcma_to_pcm16, "L16": swap16}
_FROM_PCM16: dict[str, Callable[[bytes], bytes]] = {"PCMU": pcm16_to_pcmu, "PCMA": pcm16_to_pcma, "L16": swap16}
_DIRECT: dict[tuple[str, str], Callable[[bytes], bytes]] = {
    ("PCMU", "PCMA"): pcmu_to_pcma,
    ("PCMA", "PCMU"): pcma_to_pcmu,
}


class Transcoder:
    """One stream of audio from ``source`` to ``target``, chunk by chunk; chunks may end anywhere.

    Half a sample at the end of a chunk waits for the next one, and so does what the resampler still needs to see.
    ``ValueError`` for an encoding we do not know, for a change of channels, and for resampling several channels.
    """

    def __init__(self, source: AudioFormat, target: AudioFormat) -> None:
        for format in (source, target):
            if format.encoding not in SILENCE:
                known = ", ".join(SILENCE)
                raise ValueError(f"no such audio encoding: {format.encoding!r}. Use one of {known}")
        if source.channels != target.channels:
            raise ValueError("a transcoder does not change the number of channels; mix or split them first")
        if source.rate != target.rate and source.channels != 1:
            raise ValueError("a transcoder resamples one channel; split the channels and take one for each")
        self.source = source
        self.target = target
        self._resampler: Resampler | None = None
        self._tail = b""
        self._width = source.sample_width
        self._before: Callable[[bytes], bytes] | None = None
        self._after: Callable[[bytes], bytes] | None = None
        if source.rate != target.rate:
            self._resampler = Resampler(source.rate, target.rate)
        if self._resampler is not None or source.encoding != target.encoding:
            self._before = _TO_PCM16.get(source.encoding)
            self._after = _FROM_PCM16.get(target.encoding)
        direct = _DIRECT.get((source.encoding, target.encoding))
        if self._resampler is None and direct is not None:
            self._before, self._after = direct, None

    @property
    def is_identity(self) -> bool:
        """True when bytes come out as they went in."""
        return self._before is None and self._after is None and self._resampler is None

    def convert(self, data: bytes) -> bytes:
        """What can be said in the target format now."""
        if self.is_identity:
            return data
        if self._width == 2:
            data = self._tail + data if self._tail else data
            whole = len(data) & ~1
            self._tail = data[whole:]
            data = data[:whole]
        if self._before is not None:
            data = self._before(data)
        if self._resampler is not None:
            data = self._resampler.convert(data)
        return data if self._after is None else self._after(data)

    def flush(self) -> bytes:
        """The rest, once the stream (or the utterance) is over; the transcoder then starts afresh."""
        self._tail = b""
        if self._resampler is None:
            return b""
        data = self._resampler.flush()
        return data if self._after is None else self._after(data)


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
