"""Changing the sample rate of a stream, chunk by chunk, without clicks at the seams.

The filter is a polyphase windowed sinc that holds back about 2 ms; numpy turns it where it is installed (the extra
``resampling``), plain Python (some 40 times real time) elsewhere. For 20 ms of a call between 8 and 16 or 24 kHz, numpy
takes 10 to 15 microseconds of a CPU and plain Python 290 to 540, in one run on one machine.

soxr may be asked for by name. It takes 3 microseconds, but its filters keep 40 to 150 ms of a stream to themselves,
which is right for files and wrong for a live call. Its QQ quality keeps nothing, but has no filter: a tone of 5 kHz at
24 kHz comes out at 8 kHz at full level, as one of 3 kHz. So it is never chosen for a call.
"""

from __future__ import annotations

import math
import sys
from array import array
from functools import cache
from importlib import import_module
from operator import mul
from typing import Any, Literal

Engine = Literal["numpy", "python", "soxr"]

ZERO_CROSSINGS = 16
"""Half the length of the filter, in zero crossings of the sinc: the price and the steepness of the band edge."""
KAISER_BETA = 8.0
"""Shape of the window: about 80 dB of stop band."""
SHORT_BLOCK = 6
"""Samples in that numpy may wait for, to treat them alike: a fraction of a millisecond for the rates of telephony."""
ROLLOFF = 0.92
"""The pass band ends here, as part of the lower rate's half, so that the transition band does not fold back."""


class Resampler:
    """One mono stream of PCM16 from ``rate_in`` to ``rate_out``.

    Chunks may have any even length. The resampler holds back the little it must see ahead; ``flush`` gives it out,
    and then a new stream may begin. ``engine`` is numpy where it is installed, else plain Python, unless named;
    ``ModuleNotFoundError`` when the named one is not there.
    """

    def __init__(self, rate_in: int, rate_out: int, *, engine: Engine | None = None) -> None:
        if rate_in <= 0 or rate_out <= 0:
            raise ValueError("sample rates are positive numbers of samples per second")
        self.rate_in = rate_in
        self.rate_out = rate_out
        self.engine: Engine = engine or ("numpy" if _numpy() is not None else "python")
        self._stream: _Polyphase | _Soxr | None = None
        if rate_in != rate_out:
            self._stream = _ENGINES[self.engine](rate_in, rate_out)

    def convert(self, data: bytes) -> bytes:
        """What is certain so far. ``ValueError`` when ``data`` ends in half a sample."""
        if len(data) % 2:
            raise ValueError("16-bit audio has an even number of bytes; keep the odd one for the next chunk")
        return data if self._stream is None else self._stream.convert(data)

    def flush(self) -> bytes:
        """The rest of the stream: in all, ``rate_out / rate_in`` times the samples that went in."""
        return b"" if self._stream is None else self._stream.flush()


@cache
def _numpy() -> Any:
    """numpy, imported with the first resampler and not with anycarrier; None when it is not installed."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


@cache
def _phases(up: int, down: int) -> tuple[int, tuple[tuple[float, ...], ...]]:
    """Taps on each side, and one row of taps for each of the ``up`` places a sample can fall between two others."""
    cutoff = ROLLOFF * min(1.0, up / down)
    half = math.ceil(ZERO_CROSSINGS / cutoff)
    norm = _bessel(KAISER_BETA)
    rows = []
    for phase in range(up):
        row = []
        for tap in range(2 * half):
            x = tap - half + 1 - phase / up
            inside = 1.0 - (x / half) ** 2
            window = _bessel(KAISER_BETA * math.sqrt(inside)) / norm if inside > 0 else 0.0
            turn = math.pi * cutoff * x
            row.append(window * (math.sin(turn) / turn if turn else 1.0))
        level = sum(row)  # every phase passes a constant unchanged, or the phases would be heard as a tone
        rows.append(tuple(value / level for value in row))
    return half, tuple(rows)


def _bessel(x: float) -> float:
    """The modified Bessel function I0, by its series."""
    total = term = 1.0
    k = 1
    while term > total * 1e-9:
        term *= (x / (2 * k)) ** 2
        total += term
        k += 1
    return total


class _Polyphase:
    """Each sample out is one row of taps over the samples in around its place, walking ``down / up`` a time."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        shared = math.gcd(rate_in, rate_out)
        self._up, self._down = rate_out // shared, rate_in // shared
        self._half, self._rows = _phases(self._up, self._down)
        self._restart()

    def _restart(self) -> None:
        # Before the first sample there was silence.
        self._window: list[int] = [0] * (self._half - 1)
        self._phase = 0
        self._taken = 0
        self._given = 0

    def convert(self, data: bytes) -> bytes:
        samples = array("h", data)
        if sys.byteorder == "big":
            samples.byteswap()
        self._taken += len(samples)
        return self._advance(samples)

    def _advance(self, samples: array[int]) -> bytes:
        window = self._window
        window.extend(samples)
        rows, up, down, width = self._rows, self._up, self._down, 2 * self._half
        phase, start, last = self._phase, 0, len(window) - width
        out = []
        while start <= last:
            out.append(sum(map(mul, rows[phase], window[start : start + width])))
            phase += down
            start += phase // up
            phase %= up
        del window[:start]  # a step is always shorter than the filter, so start is never past the end
        self._phase = phase
        self._given += len(out)
        made = array("h", [max(-32768, min(32767, round(value))) for value in out])
        if sys.byteorder == "big":
            made.byteswap()
        return made.tobytes()

    def flush(self) -> bytes:
        due = self._taken * self._up // self._down - self._given
        ahead = array("h", bytes(2 * (2 * self._half + 2 * self._down)))
        rest = self._advance(ahead)[: 2 * max(0, due)]
        self._restart()
        return rest


class _Vectorised(_Polyphase):
    """The same walk, all steps of a chunk at once."""

    def __init__(self, rate_in: int, rate_out: int) -> None:
        self._np = _numpy()
        if self._np is None:
            raise ModuleNotFoundError(
                "numpy is not installed: install anycarrier with its extra 'resampling', or let the resampler choose"
            )
        super().__init__(rate_in, rate_out)
        self._taps = _taps(self._up, self._down)
        self._block: Any = _block(self._up, self._down) if self._down <= SHORT_BLOCK else None

    def _restart(self) -> None:
        super()._restart()
        self._samples = self._np.zeros(self._half - 1, "f4")

    def _advance(self, samples: array[int]) -> bytes:
        np, up, down, width = self._np, self._up, self._down, 2 * self._half
        window = np.concatenate((self._samples, np.frombuffer(samples, np.int16)))
        if self._block is not None:
            return self._advance_blocks(window)
        self._samples = window
        room = len(window) - width
        if room < 0:
            return b""
        count = ((room + 1) * up - self._phase - 1) // down + 1
        places = np.arange(self._phase, self._phase + (count + 1) * down, down)[: count + 1]
        starts, phases = places // up, places % up
        views = np.lib.stride_tricks.sliding_window_view(window, width)
        out = np.einsum("ij,ij->i", views[starts[:count]], self._taps[phases[:count]])
        self._samples = window[starts[count] :].astype("f4")
        self._phase = int(phases[count])
        self._given += count
        made: bytes = np.clip(np.rint(out), -32768, 32767).astype("<i2").tobytes()
        return made

    def _advance_blocks(self, window: Any) -> bytes:
        """Each ``down`` samples in give ``up`` out by the same taps: all at once are one matrix product."""
        np, down, reach = self._np, self._down, len(self._block)
        count = (len(window) - reach) // down + 1
        if count <= 0:
            self._samples = window
            return b""
        step = window.strides[0]
        blocks = np.lib.stride_tricks.as_strided(window, (count, reach), (down * step, step), writeable=False)
        out = blocks @ self._block
        self._samples = window[count * down :]
        self._given += count * self._up
        np.rint(out, out)
        made: bytes = np.clip(out, -32768, 32767, out).astype("<i2").tobytes()
        return made


@cache
def _block(up: int, down: int) -> Any:
    """The taps of all places of a block, one column for each sample out, over the samples in from the block's first."""
    half, rows = _phases(up, down)
    block = _numpy().zeros(((up - 1) * down // up + 2 * half, up), "f4")
    for out in range(up):
        start, phase = divmod(out * down, up)
        block[start : start + 2 * half, out] = rows[phase]
    return block


@cache
def _taps(up: int, down: int) -> Any:
    return _numpy().array(_phases(up, down)[1], "f4")


class _Soxr:
    def __init__(self, rate_in: int, rate_out: int) -> None:
        try:
            soxr: Any = import_module("soxr")
        except ImportError:
            raise ModuleNotFoundError("soxr is not installed: pip install soxr, or let the resampler choose") from None
        self._np = _numpy()
        # HQ costs what the lower qualities cost at these sizes, and passes the whole telephone band.
        self._new: Any = lambda: soxr.ResampleStream(rate_in, rate_out, 1, dtype="int16", quality="HQ")
        self._stream: Any = self._new()

    def convert(self, data: bytes, last: bool = False) -> bytes:
        samples = self._np.frombuffer(data, "<i2").astype(self._np.int16, copy=False)
        out: bytes = self._stream.resample_chunk(samples, last).astype("<i2", copy=False).tobytes()
        return out

    def flush(self) -> bytes:
        out = self.convert(b"", last=True)
        self._stream = self._new()
        return out


_ENGINES: dict[str, type[_Polyphase | _Soxr]] = {"numpy": _Vectorised, "python": _Polyphase, "soxr": _Soxr}
