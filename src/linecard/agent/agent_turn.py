"""One thing the agent says, from its first word to what was heard of it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from linecard.agent.door import Said
from linecard.agent.sentences import Sentences
from linecard.agent.spoken import SpokenText


def _future() -> asyncio.Future[Said]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class AgentTurn:
    """``starts`` and ``ends`` lie on the session's timeline of heard audio; ``began`` is the clock's.

    ``patient``: more words come for certain, however long that takes. ``privileged``: is said even to a machine.
    """

    id: str
    interruptible: bool = True
    patient: bool = False
    privileged: bool = False
    pieces: deque[str | bytes] = field(default_factory=deque)
    complete: bool = False
    dropped: bool = False
    sent: bool = False
    touched: float = 0.0
    starts: float | None = None
    ends: float = 0.0
    due: float = 0.0
    began: float | None = None
    spoken: SpokenText = field(default_factory=SpokenText)
    over: asyncio.Future[Said] = field(default_factory=_future)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    sentences: Sentences = field(default_factory=Sentences)

    def add(self, text: str) -> None:
        """More words; they are spoken sentence by sentence."""
        self.pieces.extend(self.sentences.feed(text))

    def finish(self) -> None:
        """No more words will come: the last ones need no full stop."""
        self.pieces.extend(self.sentences.flush())
        self.complete = True

    def drop(self) -> None:
        """Say no more of it."""
        self.dropped = self.complete = True
        self.pieces.clear()
        self.news.set()

    def heard(self, position: float) -> Said:
        """What was heard of it when playback has come to ``position``."""
        begins = self.starts if self.starts is not None else position
        seconds = max(0.0, min(position, self.ends) - begins)
        whole = self.sent and not self.dropped and position >= self.ends - 0.05
        return Said(self.spoken.heard(position), not whole, round(seconds, 3))
