"""How much of what was sent has been heard.

Bytes sent prove nothing: carriers buffer minutes of audio. Two sources are joined. The *clock* knows that audio plays
in real time from when it was queued. *Marks* come back when playback passes them: an echoed mark is a lower bound,
the next one outstanding an upper bound, and each echo sets the clock right. A ``clear`` closes a generation: some
carriers echo all outstanding marks at once then, which proves nothing, and others drop them, so marks of closed
generations are ignored. A mark that is overdue bounds nothing: until another comes back, the position goes by the clock
alone and says so (``measured``), so that whoever waits for it never waits for a mark that was lost.
Positions are seconds of audio; times are any monotonic clock's seconds, passed in.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

LATE = 2.0
"""Seconds after which an outstanding mark is given up: until another comes back, the position goes by the clock."""


class Playback(NamedTuple):
    """What a ``clear`` came to, in seconds: heard of this stretch of speech, and dropped unheard.

    ``measured`` is True where marks that came back bear it out, False where it goes by the clock alone.
    """

    heard: float
    dropped: float
    measured: bool = False


class PlaybackPosition:
    """Bookkeeping for one stream; pure.

    Without ``carrier_marks`` the marks that :meth:`reached` is told of are the clock's.
    """

    __slots__ = ("_by_clock", "_carrier_marks", "_closed", "_count", "_dropped", "_due", "_lost", "_marked",
                 "_marks", "_over", "_proven", "_queued", "ends_at", "generation")  # fmt: skip

    def __init__(self, *, carrier_marks: bool = True) -> None:
        self.generation = 0
        self._carrier_marks = carrier_marks
        self._closed = 0.0
        self._dropped = 0.0
        self._queued = 0.0
        self._proven = 0.0
        self._by_clock = 0.0
        """The furthest position reported without marks: one that comes back late does not take it back."""
        self.ends_at = 0.0
        """When, by the clock, all that was queued has been played."""
        self._marks: deque[tuple[int, float]] = deque()
        self._due = 0.0
        """When, by the clock, the first of them is reached."""
        self._lost = False
        """One was given up and none has come back since: then none is waited for again."""
        self._over: float | None = None
        self._marked = 0.0
        self._count = 0

    @property
    def sent(self) -> float:
        """Seconds sent so far, cleared ones included."""
        return self._closed + self._dropped + self._queued

    @property
    def queued(self) -> float:
        """Where on the timeline of heard audio the next second sent would begin."""
        return self._closed + self._queued

    @property
    def since_mark(self) -> float:
        """Seconds queued after the last mark of this generation."""
        return self._queued - self._marked

    @property
    def proven(self) -> bool:
        """True when a mark has come back from behind all that is queued: the carrier lags behind our clock."""
        return self._proven >= self._queued

    def measured(self, now: float) -> bool:
        """True where marks that came back bear the position out, False where it goes by the clock alone."""
        return self._carrier_marks and self._proven > 0.0 and not self._overdue(self._until_over(now))

    def queue(self, seconds: float, now: float) -> float:
        """Audio was sent. Returns :attr:`since_mark`, which is needed after every frame."""
        self._queued = queued = self._queued + seconds
        self.ends_at = (self.ends_at if self.ends_at > now else now) + seconds
        return queued - self._marked

    def mark(self) -> str:
        """The name to send for a mark at the present end of the queue."""
        self._count += 1
        if not self._marks:
            self._due = self.ends_at
        self._marks.append((self._count, self._queued))
        self._marked = self._queued
        return f"lc{self.generation}.{self._count}"

    def reached(self, name: str, now: float) -> bool:
        """A mark came back; True when it proves playback, False when it is of a cleared generation or not ours."""
        try:
            generation, number = (int(part) for part in name.removeprefix("lc").split("."))
        except ValueError:
            return False
        # Those outstanding are numbered one after the other.
        if generation != self.generation or not self._marks or not self._marks[0][0] <= number <= self._marks[-1][0]:
            return False
        while self._marks and self._marks[0][0] <= number:
            _, self._proven = self._marks.popleft()
        # All that is unheard lies at the carrier: it plays without a gap from here.
        self.ends_at = now + self._queued - self._proven
        if self._marks:
            self._due = now + self._marks[0][1] - self._proven
        self._lost = False
        return True

    def heard(self, now: float) -> float:
        """Seconds heard so far, over all generations."""
        return self._closed + self._heard_here(now)

    def remaining(self, now: float) -> float:
        """Seconds queued and, by our best knowledge, not heard yet."""
        return self._queued - self._heard_here(now)

    def ahead(self, now: float) -> float:
        """Seconds until all that was queued has been played, by the clock."""
        unheard = self.ends_at - now
        return unheard if unheard > 0.0 else 0.0

    def clear(self, now: float) -> Playback:
        """The queue was emptied: close the generation."""
        heard, measured = self._heard_here(now), self.measured(now)
        dropped = self._queued - heard
        self._closed += heard
        self._dropped += dropped
        self.generation += 1
        self._queued = self._proven = self._by_clock = self._marked = 0.0
        self.ends_at = now
        self._marks.clear()
        return Playback(heard, dropped, measured)

    def end(self, now: float) -> None:
        """The stream is over: nothing is heard after this."""
        self._over = now

    def _until_over(self, now: float) -> float:
        return now if self._over is None or now < self._over else self._over

    def _overdue(self, now: float) -> bool:
        if not self._lost and self._marks and now > self._due + LATE:
            self._lost = True
        return self._lost

    def _heard_here(self, now: float) -> float:
        now = self._until_over(now)
        by_clock = self._queued - self.ahead(now)
        if not self._marks:
            return max(by_clock, self._proven, self._by_clock)
        if self._overdue(now):
            self._by_clock = max(by_clock, self._proven, self._by_clock)
            return self._by_clock
        return max(min(max(by_clock, self._proven), self._marks[0][1]), self._by_clock)
