"""The transcript of a call: who said what and when, and what else happened. A service writes it to its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Segment:
    """One utterance. ``party`` is ``local`` (the agent), ``remote`` (the caller) or ``system``."""

    party: str
    text: str
    at_ms: int


@runtime_checkable
class Transcript(Protocol):
    """Where a call's words and events go. Writing never waits; ``flush`` returns once all of it is stored."""

    def said(self, party: str, text: str, at_ms: int) -> None:
        """A party said something, and it was heard."""
        ...

    def note(self, kind: str, **facts: Any) -> None:
        """An event: ``barge_in``, ``digit``, ``engine_failed``, ``mode`` ..."""
        ...

    async def flush(self) -> None:
        """Wait until everything written so far is stored."""
        ...


@dataclass
class MemoryTranscript:
    """A transcript in memory, for tests and for platforms that read it after the call."""

    segments: list[Segment] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def said(self, party: str, text: str, at_ms: int) -> None:
        self.segments.append(Segment(party, text, at_ms))

    def note(self, kind: str, **facts: Any) -> None:
        self.notes.append((kind, facts))

    async def flush(self) -> None:
        return None


@dataclass
class TranscriptCopy:
    """Forwards to ``inner``, and keeps a copy for the analysis."""

    inner: Transcript
    segments: list[Segment] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def said(self, party: str, text: str, at_ms: int) -> None:
        self.segments.append(Segment(party, text, at_ms))
        self.inner.said(party, text, at_ms)

    def note(self, kind: str, **facts: Any) -> None:
        self.notes.append((kind, facts))
        self.inner.note(kind, **facts)

    async def flush(self) -> None:
        await self.inner.flush()
