"""One agent turn, from its first word to what the caller heard of it.

Text that arrives in parts is cut into sentences (:class:`Sentences`); audio is matched with its text
(:class:`SpokenText`), so that an interrupted turn knows which words were heard. No clock, no audio.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anycarrier.speech.sentence_ends import SENTENCE_END

if TYPE_CHECKING:
    from anycarrier.agent.synthesis import Synthesis

SLICE = 2000
"""Characters cut into sentences at a time, so that a long text does not block the event loop."""


@dataclass(frozen=True, slots=True)
class Said:
    """The result of speaking: the words and seconds that the caller heard.

    ``interrupted``: not everything was heard, because the caller spoke, the agent cleared it, or the call ended.
    """

    text: str
    interrupted: bool
    seconds: float


CLAUSE = re.compile(r"(?:(?<=,)|(?<![\d\s])\s*[–—])\s+")
FIRST_CLAUSE = 24
"""Characters a first clause must have to be spoken by itself."""

LONGEST = 400
"""Characters after which a sentence without an end is cut at a space."""


class Sentences:
    """Cuts text that arrives in parts into pieces to speak; ``flush`` returns the rest.

    Pieces end at sentence ends, because a voice needs a whole sentence to sound right. The first one of a turn may end
    at a comma, so that the caller does not wait. A piece has at most :data:`LONGEST` characters, and no cut looks
    further than that, so the work is proportional to the text.
    """

    def __init__(self) -> None:
        self._text = ""
        self._first = True

    @property
    def pending(self) -> int:
        """Characters that belong to no piece yet."""
        return len(self._text)

    def feed(self, delta: str) -> list[str]:
        """The pieces that are now complete."""
        text = self._text + delta
        pieces: list[str] = []
        start = 0
        while start < len(text) and (length := self._cut(text[start : start + LONGEST + 1])):
            if piece := text[start : start + length].strip():
                pieces.append(piece)
                self._first = False
            start += length
        self._text = text[start:]
        return pieces

    def flush(self) -> list[str]:
        """The rest of the text; the next feed starts a new turn."""
        rest, self._text, self._first = self._text.strip(), "", True
        return [rest] if rest else []

    def _cut(self, window: str) -> int:
        """Length of the first piece; 0 if it is not complete yet."""
        if match := SENTENCE_END.search(window):
            return match.end()
        if self._first and (match := CLAUSE.search(window, FIRST_CLAUSE)):
            return match.end()
        if len(window) > LONGEST:
            return window.rfind(" ", 0, LONGEST) + 1 or LONGEST
        return 0


@dataclass(slots=True)
class Piece:
    """A sentence, and where its audio is on the timeline of heard audio, in seconds."""

    text: str
    start: float
    end: float


@dataclass(slots=True)
class SpokenText:
    """The sentences of one turn, matched with their audio as it is sent."""

    pieces: list[Piece] = field(default_factory=list)

    def begin(self, text: str, at: float) -> None:
        """The next piece is being sent; its audio will be heard from ``at`` on."""
        self.pieces.append(Piece(text, at, at))

    def extend(self, to: float) -> None:
        """More audio of the current piece was sent."""
        self.pieces[-1].end = to

    @property
    def text(self) -> str:
        """All words sent."""
        return " ".join(piece.text for piece in self.pieces)

    def heard(self, position: float) -> str:
        """The words heard when playback has reached ``position``.

        Of a sentence cut in the middle, the share of its words equals the share of its time; speech is even enough.
        """
        words: list[str] = []
        for piece in self.pieces:
            if position >= piece.end - 0.02:
                words.append(piece.text)
                continue
            if position > piece.start:
                parts = piece.text.split()
                share = (position - piece.start) / (piece.end - piece.start)
                words.extend(parts[: int(len(parts) * share)])
            break
        return " ".join(words)


def _future() -> asyncio.Future[Said]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class AgentTurn:
    """``starts`` and ``ends`` are on the session's timeline of heard audio; ``began`` is the clock's time.

    ``patient``: more words will come, so wait for them. ``privileged``: spoken even to an answering machine.
    ``synthesis``: its own voice; None: the conversation's.
    """

    id: str
    interruptible: bool = True
    patient: bool = False
    privileged: bool = False
    synthesis: Synthesis | None = None
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
        """Add words; they are cut into sentences when taken."""
        self._uncut.extend(text[at : at + SLICE] for at in range(0, len(text), SLICE))
        self._uncut_size += len(text)

    def take(self) -> str | bytes | None:
        """The next piece to speak; None if more words are needed, or none are left."""
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
        """No more words will come, so the last ones need no full stop."""
        self.complete = True

    def drop(self) -> None:
        """Stop speaking it."""
        self.dropped = self.complete = True
        self.pieces.clear()
        self._uncut.clear()
        self._uncut_size = self._cut_size = 0
        self.sentences = Sentences()
        self.news.set()

    def _slice(self) -> str:
        """Up to a slice of words, from as many messages as it takes."""
        parts, size = list[str](), 0
        while self._uncut and size < SLICE:
            parts.append(self._uncut.popleft())
            size += len(parts[-1])
        self._uncut_size -= size
        return "".join(parts)

    def heard(self, position: float) -> Said:
        """What was heard when playback has reached ``position``."""
        begins = self.starts if self.starts is not None else position
        seconds = max(0.0, min(position, self.ends) - begins)
        whole = self.sent and not self.dropped and position >= self.ends - 0.05
        return Said(self.spoken.heard(position), not whole, round(seconds, 3))
