"""What we are saying, what waits to be said, and what must not be said any more."""

from __future__ import annotations

from collections import deque

REMEMBERED = 64
"""Dropped turns kept in mind, so that their late words are refused; a call has a few of them in flight at most."""


class OurSpeech:
    """The agent's turns by their ids. Times are on the call's clock."""

    def __init__(self) -> None:
        self.playing: str | None = None
        self.since = 0.0
        self._heard = (0.0, 0.0)
        self._queued: dict[str, None] = {}
        self._dropped: deque[str] = deque(maxlen=REMEMBERED)

    def refuses(self, turn: str) -> bool:
        """True for a turn that was dropped."""
        return turn in self._dropped

    def queue(self, turn: str) -> None:
        """Words of ``turn`` wait to be heard."""
        if turn != self.playing:
            self._queued[turn] = None

    def start(self, turn: str, at: float) -> None:
        """``turn`` begins to be heard."""
        self._queued.pop(turn, None)
        self.playing, self.since, self._heard = turn, at, (0.0, at)

    def position(self, turn: str, heard: float, at: float) -> None:
        """``heard`` seconds of ``turn`` were played by ``at``."""
        if turn == self.playing:
            self._heard = (heard, at)

    def end(self, turn: str) -> bool:
        """``turn`` is played out; whether it was the one being played."""
        self._queued.pop(turn, None)
        if turn != self.playing:
            return False
        self.playing = None
        return True

    def heard(self, at: float) -> float:
        """Seconds of the current turn played by ``at``, going on from the last position known."""
        seconds, known = self._heard
        return seconds + max(0.0, at - known)

    def cut(self) -> list[str]:
        """Stop, and drop all there is: the turn being played first. They are refused from now on."""
        dropped = [turn for turn in (self.playing, *self._queued) if turn is not None]
        self._dropped.extend(dropped)
        self._queued.clear()
        self.playing = None
        return dropped
