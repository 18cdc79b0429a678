"""Fewer wake-ups while many calls talk: a loop with nothing to do looks again in a millisecond, not at the next frame.

To be woken for a frame costs more than to relay it: at 100 calls 24 µs of CPU for each, and 13 when those that came
within a millisecond are taken together (docs/benchmarks.md). Network cards do the same and call it interrupt
coalescing. A loop that always has work is left alone, and so is one with a request at hand: that goes from socket to
database and back a dozen times, and would be a millisecond late each time. With few calls the looks themselves cost
more than they save, so there are none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TICK = 0.001
"""Seconds from one look to the next: a twentieth of a frame, which nobody hears."""

MANY = 24
"""Live calls from which on it pays: it did at 20, and at 10 it did not."""

IDLE = 0.00005
"""A round of the loop shorter than this, in seconds, had nothing to do."""

BREAK = 0.005
"""Seconds without looks once a request was seen; then it may be over."""

EVERY = 1.0
"""Seconds between counts of the calls."""


class Coalescer:
    """``live`` tells how many calls are up, ``busy`` whether the loop has a request at hand.

    From :meth:`start` to :meth:`stop`; the loop is the running one.
    """

    def __init__(
        self,
        live: Callable[[], int],
        busy: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._live = live
        self._busy = busy
        self._clock = clock
        self._sleep = sleep
        self._timer: asyncio.TimerHandle | None = None
        self._next: asyncio.Handle | None = None
        self._due = 0.0
        self._last = 0.0

    @property
    def looking(self) -> bool:
        """Whether wake-ups are being saved just now."""
        return self._next is not None

    def start(self) -> None:
        """Count the calls, and look when there are many, until :meth:`stop`."""
        self._loop = asyncio.get_running_loop()
        self.count()

    def stop(self) -> None:
        """The loop is woken by every frame again."""
        if self._timer is not None:
            self._timer.cancel()
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def count(self) -> None:
        """Begin or end, as many calls as there are."""
        many = self._live() >= MANY
        if many is not self.looking:
            self.stop()
            self._next = self._loop.call_soon(self._round) if many else None
        self._timer = self._loop.call_later(EVERY, self.count)

    def _round(self) -> None:
        """Once in every round of the loop, which therefore never waits for its sockets: the waiting is done here."""
        if self._busy():
            self._next = self._loop.call_later(BREAK, self._round)
            return
        now = self._clock()
        if now - self._last < IDLE:
            self._sleep(self._due - now if self._due > now else TICK)
            now = self._clock()
            self._due = now + TICK
        self._last = now
        self._next = self._loop.call_soon(self._round)
