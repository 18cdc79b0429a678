"""One thing the agent says, from its first word to what was heard of it."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from anycarrier.agent.door import Said
from anycarrier.agent.sentences import Sentences
from anycarrier.agent.spoken import SpokenText

SLICE = 2000
"""Characters cut into pieces at a time: however long a text is, cutting it never holds up the event loop."""


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
    _uncut: deque[str] = field(default_factory=deque)
    _uncut_size: int = 0
    _cut_size: int = 0

    @property
    def waiting(self) -> int:
        """Characters not taken yet."""
        return self._uncut_size + self.sentences.pending + self._cut_size

    def add(self, text: str) -> None:
        """More words; they are cut into sentences as they are taken."""
        self._uncut.extend(text[at : at + SLICE] for at in range(0, len(text), SLICE))
        self._uncut_size += len(text)

    def take(self) -> str | bytes | None:
        """The next piece to speak; None when it takes more words, or there are none left."""
        while not self.pieces:
            if self._uncut:
                cut = self.sentences.feed(self._slice())
            elif self.complete:
                cut = self.sentences.flush()
            else:
                return None
            if not cut and not self._uncut and not self.sentences.pending:
                return None
            self.pieces.extend(cut)
            self._cut_size += sum(map(len, cut))
        piece = self.pieces.popleft()
        if isinstance(piece, str):
            self._cut_size -= len(piece)
        return piece

    def finish(self) -> None:
        """No more words will come: the last ones need no full stop."""
        self.complete = True

    def drop(self) -> None:
        """Say no more of it."""
        self.dropped = self.complete = True
        self.pieces.clear()
        self._uncut.clear()
        self._uncut_size = self._cut_size = 0
        self.sentences = Sentences()
        self.news.set()

    def _slice(self) -> str:
        """Some words, of however many messages."""
        parts, size = list[str](), 0
        while self._uncut and size < SLICE:
            parts.append(self._uncut.popleft())
            size += len(parts[-1])
        self._uncut_size -= size
        return "".join(parts)

    def heard(self, position: float) -> Said:
        """What was heard of it when playback has come to ``position``."""
        begins = self.starts if self.starts is not None else position
        seconds = max(0.0, min(position, self.ends) - begins)
        whole = self.sent and not self.dropped and position >= self.ends - 0.05
        return Said(self.spoken.heard(position), not whole, round(seconds, 3))
