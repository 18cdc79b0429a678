"""Calls and what they leave behind: events, transcripts, recordings, and the tally that makes counting cheap."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Counter, Created, RowId, Serial, Table, Updated, public_id

LIVE = text("status <> 'ended'")
WAITING = text("status = 'queued'")


class CallRow(Table):
    """One call. ``id`` is the exchange's ``reference``; ``carrier_id`` the carrier's own, None until it has one.

    ``stage`` condenses status and outcome to one indexed word: queued, initiated, in_progress, completed, failed.
    ``owner`` is the process that holds the call's media; ``dial_claimed_at`` says somebody has begun to dial a
    scheduled call, after which nobody else may: a second dial would ring a person twice.
    """

    __tablename__ = "calls"
    __table_args__ = (
        Index("ix_calls_newest", "workspace_id", "created_at", "id"),
        Index("ix_calls_stage", "workspace_id", "stage", "created_at", "id"),
        Index("ix_calls_agent", "agent_id", "created_at", "id"),
        Index("ix_calls_line", "line_id", "created_at", "id"),
        Index("ix_calls_dialled", "credential_id", "dial_claimed_at"),
        Index("ix_calls_dialled_line", "line_id", "dial_claimed_at"),
        Index("uq_calls_carrier", "credential_id", "carrier_id", unique=True),
        Index("ix_calls_carrier", "carrier_id"),
        Index("uq_calls_idempotency", "workspace_id", "idempotency_key", unique=True),
        Index("ix_calls_live", "workspace_id", "answered_at", sqlite_where=LIVE, postgresql_where=LIVE),
        Index("ix_calls_due", "scheduled_at", sqlite_where=WAITING, postgresql_where=WAITING),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    credential_id: Mapped[UUID | None] = mapped_column(ForeignKey("credentials.id"))
    line_id: Mapped[UUID | None] = mapped_column(ForeignKey("lines.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    provider: Mapped[str]
    carrier_id: Mapped[str | None]
    direction: Mapped[str]
    from_number: Mapped[str]
    to_number: Mapped[str]
    status: Mapped[str]
    stage: Mapped[str]
    reason: Mapped[str | None]
    intent: Mapped[str | None]
    transfer: Mapped[str | None]
    carrier_status: Mapped[str | None]
    carrier_reason: Mapped[str | None]
    sip_code: Mapped[int | None]
    answered_by: Mapped[str | None]
    time_limit: Mapped[float | None]
    price: Mapped[dict[str, Any] | None]
    facts: Mapped[dict[str, Any] | None]
    is_blocked: Mapped[bool] = mapped_column(default=False)
    raw: Mapped[dict[str, Any]] = mapped_column(default=dict)

    variables: Mapped[dict[str, Any]] = mapped_column(default=dict)
    details: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    overrides: Mapped[dict[str, Any]] = mapped_column(default=dict)
    options: Mapped[dict[str, Any]] = mapped_column(default=dict)
    webhook_url: Mapped[str | None]
    websocket_url: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    body_hash: Mapped[str | None]
    use_tts: Mapped[bool | None]
    use_stt: Mapped[bool | None]
    outcome: Mapped[str | None]
    summary: Mapped[str | None]
    analysis: Mapped[dict[str, Any] | None]
    latency: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    cost_cents: Mapped[float | None]
    owner: Mapped[str | None]

    scheduled_at: Mapped[datetime | None]
    dial_claimed_at: Mapped[datetime | None]
    created_at: Mapped[Created]
    answered_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    updated_at: Mapped[Updated]

    @property
    def public_id(self) -> str:
        return public_id("call", self.id)

    @property
    def reference(self) -> str:
        """The id as the exchange knows it."""
        return self.id.hex

    @property
    def local_number(self) -> str:
        """Our own number on this call."""
        return self.to_number if self.direction == "inbound" else self.from_number

    @property
    def remote_number(self) -> str:
        """The other party's number."""
        return self.from_number if self.direction == "inbound" else self.to_number

    @property
    def duration_seconds(self) -> float:
        """Seconds from answer to end, 0 when never answered or not over."""
        if self.answered_at is None or self.ended_at is None:
            return 0.0
        return max(0.0, (self.ended_at - self.answered_at).total_seconds())


class CallEventRow(Table):
    """Something that happened on a call; ``id`` orders them."""

    __tablename__ = "call_events"
    __table_args__ = (Index(None, "call_id", "id"),)

    id: Mapped[Counter]
    call_id: Mapped[UUID] = mapped_column(ForeignKey("calls.id"))
    kind: Mapped[str]
    at: Mapped[datetime]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)


class Segment(Table):
    """One utterance. ``seq`` counts from 0 per call, ``ts_ms`` from the call's start; party local, remote or system.

    Workspace, line and agent are repeated here so that a text search never leaves this table.
    """

    __tablename__ = "transcripts"
    __table_args__ = (Index("uq_transcripts_call", "call_id", "seq", unique=True),)

    id: Mapped[Counter]
    call_id: Mapped[UUID] = mapped_column(ForeignKey("calls.id"))
    workspace_id: Mapped[UUID]
    line_id: Mapped[UUID | None]
    agent_id: Mapped[UUID | None]
    seq: Mapped[int]
    ts_ms: Mapped[int]
    party: Mapped[str]
    text: Mapped[str]
    created_at: Mapped[Created]


PLAYABLE = frozenset({"completed", "cut"})
"""Statuses of recordings that can be heard: whole, or as much as the disk took."""


class Recording(Table):
    """A recording on our disk: ``path`` is relative to the recordings folder, ``duration`` in seconds."""

    __tablename__ = "recordings"

    id: Mapped[RowId]
    call_id: Mapped[UUID] = mapped_column(ForeignKey("calls.id"), index=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    path: Mapped[str]
    format: Mapped[str]
    channels: Mapped[int] = mapped_column(default=2)
    status: Mapped[str] = mapped_column(default="in_progress")
    duration: Mapped[float | None]
    size: Mapped[int | None] = mapped_column(Serial)
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]

    @property
    def public_id(self) -> str:
        return public_id("recording", self.id)


class CallTally(Table):
    """Changes in how many calls there are of each sort. Summed, they are the count; folded now and then."""

    __tablename__ = "call_tallies"
    __table_args__ = (Index(None, "workspace_id", "agent_id"),)

    id: Mapped[Counter]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    agent_id: Mapped[UUID | None]
    direction: Mapped[str]
    stage: Mapped[str]
    is_blocked: Mapped[bool]
    delta: Mapped[int]
