"""A call that is over, as whoever analyses or files it gets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anycarrier.agent.record import CallRecord, Segment
from anycarrier.agent.settings import AgentSettings
from anycarrier.calls import Call, EndReason


@dataclass(frozen=True, slots=True)
class Analysis:
    """What came of a call. ``outcome`` is a label or None when nothing can be said; ``source`` says who says so."""

    outcome: str | None
    summary: str
    source: str


@dataclass(frozen=True, slots=True)
class FinishedCall:
    """What ``Agents(finished=...)`` and analyzers are given, once for each call.

    ``call`` is the call as it ended, ``segments`` what was said on it in order, ``reason`` why it ended, ``seconds``
    how long the conversation lasted, ``notes`` what happened beside the words (kind, facts), ``latency_ms`` each
    wait of the caller's in milliseconds by kind (:class:`anycarrier.agent.timings.Timings`), ``variables`` those of
    agent and call together, ``recording`` the WAV when there is one, ``analysis`` what came of it (None for an
    analyzer).
    """

    call: Call
    agent_id: str
    settings: AgentSettings
    reason: EndReason
    seconds: float
    segments: tuple[Segment, ...]
    notes: tuple[tuple[str, dict[str, Any]], ...]
    latency_ms: Mapping[str, list[float]]
    variables: Mapping[str, Any]
    recording: Path | None = None
    analysis: Analysis | None = None

    @property
    def reference(self) -> str:
        """Our id of the call, as ``exchange.dial`` returned it."""
        return self.call.reference

    @property
    def barge_ins(self) -> int:
        """How often the caller cut the agent short."""
        return sum(kind == "barge_in" for kind, _ in self.notes)


@dataclass
class KeptRecord:
    """Writes to a platform's record, and keeps what the analysis needs."""

    inner: CallRecord
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
