"""What a carrier does with audio sent to it: queue it, play it in real time, tell when a mark is reached.

Positions come from a clock, not from counted sleeps: audio queued at t has byte n played at t + n / rate, however
late a timer fires. ``clear`` drops the unplayed rest and lets all pending marks go at once, as carriers do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A pending call, as ``loop.call_at`` returns it."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The two methods of an event loop that a playback needs; tests bring a clock of their own."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer: ...


class Playback:
    """The buffer between our side's audio frames and the far end's ear, for one call.

    ``limit`` is how many seconds may wait unplayed; more is refused by :meth:`play`.
    """

    def __init__(self, *, rate: int = 8000, limit: float = 600.0, clock: Clock | None = None) -> None:
        self.rate = rate
        self.limit = limit
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._heard = bytearray()
        self._waiting = bytearray()
        self._epoch = 0.0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()  # (place in all audio ever accepted, told)
        self._timer: Timer | None = None
        self._changed = asyncio.Event()
        self.taps: list[Callable[[float, bytes], None]] = []
        """Told of every piece played: when its first byte sounded (clock time), and the piece."""
        self.cleared = 0
        """Bytes dropped unplayed by :meth:`clear` so far."""

    # --- the carrier's side ---------------------------------------------------------------------------------------

    def play(self, payload: bytes) -> bool:
        """Queue audio; False when the buffer is full and it was dropped."""
        self._settle()
        if len(self._waiting) + len(payload) > self.limit * self.rate:
            return False
        if not self._waiting:
            self._epoch = self._clock.time()
        self._waiting += payload
        self._tell()
        self._arm()
        return True

    def mark(self, reached: Callable[[], None]) -> None:
        """Call ``reached`` once everything queued so far was played: at once when nothing waits."""
        self._settle()
        if not self._waiting:
            reached()
            return
        self._marks.append((len(self._heard) + len(self._waiting), reached))
        self._arm()

    def clear(self) -> None:
        """Drop what was not played; every pending mark is told now, in order."""
        self._settle()
        self.cleared += len(self._waiting)
        self._waiting.clear()
        self._tell()
        marks, self._marks = self._marks, deque()
        self._arm()
        for _, reached in marks:
            reached()

    def cut(self) -> None:
        """The stream is cut: what was not played never will be, and marks are told no more."""
        self._settle()
        self._waiting.clear()
        self._marks.clear()
        self._arm()
        self._tell()

    # --- the far end's side ---------------------------------------------------------------------------------------

    @property
    def heard(self) -> bytes:
        """All audio played so far; the silence in between is left out."""
        self._settle()
        return bytes(self._heard)

    @property
    def seconds(self) -> float:
        """How much was played so far."""
        self._settle()
        return len(self._heard) / self.rate

    @property
    def waiting(self) -> float:
        """Seconds queued and not played yet."""
        self._settle()
        return len(self._waiting) / self.rate

    async def drained(self) -> None:
        """Wait until nothing waits to be played (played or cleared)."""
        while self.waiting:
            await self._news(len(self._waiting))

    async def played(self, seconds: float) -> None:
        """Wait until ``seconds`` in all were played."""
        need = round(seconds * self.rate)
        while (missing := need - len(self.heard)) > 0:
            await self._news(missing)

    async def _news(self, missing: int) -> None:
        """Wait until ``missing`` more bytes should have been played, or something else happened."""
        self._changed.clear()
        due = self._epoch + missing / self.rate - self._clock.time()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), due if missing <= len(self._waiting) else None)

    # --- the clock ------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Move what was played by now from waiting to heard."""
        if not self._waiting:
            return
        # A timer may fire a hair early; a microsecond's grace keeps the mark it was set for from being missed.
        played = min(int((self._clock.time() - self._epoch) * self.rate + 1e-3), len(self._waiting))
        if played > 0:
            piece = bytes(self._waiting[:played])
            self._heard += piece
            for tap in self.taps:
                tap(self._epoch, piece)
            del self._waiting[:played]
            self._epoch += played / self.rate

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._marks:
            away = self._marks[0][0] - len(self._heard)
            self._timer = self._clock.call_at(self._epoch + away / self.rate, self._due)

    def _due(self) -> None:
        self._timer = None
        self._settle()
        due = []
        while self._marks and self._marks[0][0] <= len(self._heard):
            due.append(self._marks.popleft()[1])
        self._arm()
        for reached in due:
            reached()

    def _tell(self) -> None:
        self._changed.set()
