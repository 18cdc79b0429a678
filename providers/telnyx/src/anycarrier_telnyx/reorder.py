"""Media frames back in the carrier's order. Telnyx does not promise it; each frame carries its ``chunk`` number.

A frame that comes in its turn is passed on at once, with no delay. One that comes too early waits for those before
it, but only until :data:`WINDOW` frames wait: then the missing ones are given up. One that comes after it was given
up is too late. Pure: how long to wait is counted in frames, not by a clock.
"""

from __future__ import annotations

from typing import Generic, TypeVar

WINDOW = 5
"""Frames that may wait, 100 ms of the usual 20 ms frames."""

T = TypeVar("T")


class Reorder(Generic[T]):
    """One stream's order. ``next`` is the chunk whose turn it is; chunks count from 1.

    Callers in a hurry may take the frame that is ``next`` themselves while none is ``waiting``, and count on.
    """

    __slots__ = ("_late", "_late_at", "next", "waiting", "window")

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.next = 1
        self.waiting: dict[int, T] = {}
        self._late = 0
        self._late_at = 0

    def push(self, chunk: int, item: T) -> list[T] | None:
        """What is in order now that ``item`` is here (maybe nothing yet); None when it comes too late to be used."""
        if chunk == self.next and not self.waiting:
            self.next = chunk + 1
            return [item]
        if self.next == 1 and not self.waiting and (chunk < 1 or chunk > self.window + 1):
            self.next = chunk + 1  # numbered otherwise than documented, or joined in the middle: begin here
            return [item]
        if chunk < self.next or chunk in self.waiting:
            # Late ones in a row, none in its turn between them.
            self._late = self._late + 1 if self._late_at == self.next else 1
            self._late_at = self.next
            if self._late <= self.window:
                return None
            self.next = chunk  # nothing but old numbers: the counter has begun anew
            self.waiting.clear()
        self.waiting[chunk] = item
        if len(self.waiting) > self.window:
            self.next = min(self.waiting)
        return self._in_turn()

    def drain(self) -> list[T]:
        """All that still waits, in order; nothing more will come before it."""
        rest = [self.waiting[chunk] for chunk in sorted(self.waiting)]
        if self.waiting:
            self.next = max(self.waiting) + 1
            self.waiting.clear()
        return rest

    def _in_turn(self) -> list[T]:
        ready = []
        while self.next in self.waiting:
            ready.append(self.waiting.pop(self.next))
            self.next += 1
        return ready
