"""What a call leaves behind while it goes: who said what and when. A service writes it to its store."""

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
    """Where a call's words and happenings go. Writing never waits; ``flush`` returns once all of it is kept."""

    def said(self, party: str, text: str, at_ms: int) -> None:
        """Somebody said something, and it was heard."""
        ...

    def note(self, kind: str, **facts: Any) -> None:
        """Something happened: ``barge_in``, ``digit``, ``engine_failed``, ``mode`` ..."""
        ...

    async def flush(self) -> None:
        """Wait until everything written so far will survive us."""
        ...


@dataclass
class MemoryTranscript:
    """In memory: for tests, and for platforms that read it when the call is over."""

    segments: list[Segment] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def said(self, party: str, text: str, at_ms: int) -> None:
        self.segments.append(Segment(party, text, at_ms))

    def note(self, kind: str, **facts: Any) -> None:
        self.notes.append((kind, facts))

    async def flush(self) -> None:
        return None
