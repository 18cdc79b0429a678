"""Records a call as stereo WAV: caller left, agent right, each at the time it was heard.

Agent audio is placed where it will be played, and cut where playback was cut, so the file holds what was heard. One or
two seconds are held in memory; the file is valid up to then if the process dies.

If the disk is full or missing, the recording ends and the call continues; what was written is kept.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder, pcmu_to_pcm16
from anycarrier.wav import WavWriter, repair_wav

log = logging.getLogger("anycarrier")

RATE = PCMU_8K.rate
LAG = 1.0
"""Seconds after which audio is final; newer audio may still be cut or arrive late."""

DRIFT = 0.12
"""Seconds a side may differ from the clock before silence is inserted; less than that is jitter."""


class Recorder:
    """Takes both sides as mu-law 8 kHz, or in what :meth:`set_format` says. ``clock`` is a monotonic clock in seconds.

    ``failed(why, seconds)`` is called once if writing fails; the file then holds ``seconds`` of the call.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.monotonic,
        failed: Callable[[str, float], None] | None = None,
    ) -> None:
        self._path = Path(path)
        self._told = failed or (lambda why, seconds: None)
        self._wav: WavWriter | None = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._wav = WavWriter(path, rate=RATE, channels=2)
        except OSError as problem:
            self._give_up(problem)
        self._clock = clock
        self._began = clock()
        self._written = 0
        self._sides = (bytearray(), bytearray())
        self._converters: tuple[Transcoder, Transcoder] | None = None

    @property
    def path(self) -> str:
        """The file."""
        return str(self._path)

    def set_format(self, format: AudioFormat) -> None:
        """Audio comes in ``format`` from now on; the file stays at 8 kHz."""
        self._converters = None
        if format != PCMU_8K:
            self._converters = (Transcoder(format, PCMU_8K), Transcoder(format, PCMU_8K))

    def caller(self, payload: bytes) -> None:
        """Audio that has just arrived from the caller, so it ends now."""
        if self._wav is None:
            return
        if self._converters is not None:
            payload = self._converters[0].convert(payload)
        self._place(0, payload, self._clock() - len(payload) / RATE)
        self._flush(self._clock() - LAG)

    def agent(self, payload: bytes, starts_in: float) -> None:
        """Audio sent to the caller, to be heard in ``starts_in`` seconds."""
        if self._wav is None:
            return
        if self._converters is not None:
            payload = self._converters[1].convert(payload)
        self._place(1, payload, self._clock() + starts_in)

    def cut(self) -> None:
        """Playback was cleared: drop what would have been heard from now on."""
        del self._sides[1][max(0, self._index(self._clock()) - self._written) :]

    def close(self) -> None:
        """Write what was heard so far and close the file."""
        self.cut()
        self._flush(self._clock())
        if self._wav is not None:
            try:
                self._wav.close()
            except OSError as problem:
                self._give_up(problem)

    def _index(self, at: float) -> int:
        return round((at - self._began) * RATE)

    def _place(self, side: int, payload: bytes, at: float) -> None:
        pending = self._sides[side]
        end = self._written + len(pending)
        gap = self._index(at) - end
        if gap > DRIFT * RATE:
            pending += b"\xff" * gap
        pending += payload

    def _flush(self, until: float) -> None:
        count = self._index(until) - self._written
        if self._wav is None or count < RATE // 4:
            return
        both = array("h", bytes(4 * count))
        for side, pending in enumerate(self._sides):
            samples = array("h", pcmu_to_pcm16(bytes(pending[:count])))
            both[side : 2 * len(samples) : 2] = samples
            del pending[:count]
        self._written += count
        try:
            self._wav.write(both.tobytes())
        except (OSError, ValueError) as problem:  # the latter: the WAV file is full
            self._give_up(problem)

    def _give_up(self, problem: OSError | ValueError) -> None:
        wav, self._wav = self._wav, None
        seconds = 0.0
        if wav is not None:
            with contextlib.suppress(OSError):
                wav.close()
            with contextlib.suppress(OSError, ValueError):
                seconds = repair_wav(self._path)
        why = getattr(problem, "strerror", None) or str(problem)
        log.error("a recording ended after %.1f s, its call continues: %s", seconds, why)
        self._told(why, round(seconds, 3))
