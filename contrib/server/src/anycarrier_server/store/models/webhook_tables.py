"""What we tell others: who wants to hear (subscriptions), what happened (outbox), what was sent (deliveries)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Counter, Created, RowId, Table, Updated, new_id, public_id

PENDING = text("status = 'pending'")
UNSENT = text("fanned_out_at IS NULL")


class SigningKey(Table):
    """What we sign with: one per agent, and one for the workspace (``agent_id`` None). The key text is sealed."""

    __tablename__ = "signing_keys"
    __table_args__ = (
        Index("uq_signing_keys_agent", "agent_id", unique=True),
        Index(
            "uq_signing_keys_workspace",
            "workspace_id",
            unique=True,
            sqlite_where=text("agent_id IS NULL"),
            postgresql_where=text("agent_id IS NULL"),
        ),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]


class Subscription(Table):
    """A URL that wants events. ``face`` says whose payloads and signature it gets.

    Without ``agent_id`` and ``line_id`` it hears the whole workspace. ``sealed_secret`` signs (None: the agent's
    key does), ``sealed_token`` is sent as a bearer token.
    """

    __tablename__ = "webhook_subscriptions"
    __table_args__ = (Index(None, "workspace_id", "created_at"),)

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    line_id: Mapped[UUID | None] = mapped_column(ForeignKey("lines.id"))
    face: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    url: Mapped[str]
    events: Mapped[list[str]]
    status: Mapped[str] = mapped_column(default="active")
    sealed_secret: Mapped[bytes | None]
    sealed_token: Mapped[bytes | None]
    context: Mapped[dict[str, Any] | None]
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    deleted_at: Mapped[datetime | None]

    @property
    def public_id(self) -> str:
        return public_id("subscription", self.id)


class OutboxEvent(Table):
    """Something to tell, written in the transaction in which it became true.

    ``dedupe`` makes what may be told once untellable twice (``<call>:over``).
    """

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_unsent", "id", sqlite_where=UNSENT, postgresql_where=UNSENT),)

    id: Mapped[Counter]
    event_id: Mapped[UUID] = mapped_column(default=new_id, unique=True)
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    call_id: Mapped[UUID | None] = mapped_column(ForeignKey("calls.id"), index=True)
    kind: Mapped[str]
    at: Mapped[datetime]
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    dedupe: Mapped[str | None] = mapped_column(unique=True)
    fanned_out_at: Mapped[datetime | None]

    @property
    def public_id(self) -> str:
        """``evt_...``: the same on every retry and replay, so receivers can drop what they have."""
        return f"evt_{self.event_id}"


class Delivery(Table):
    """One event for one URL. ``lane`` keeps the order: within it, nothing is sent before what came earlier is done.

    ``receiver`` is what is slow or dead as one: a subscription, or the host of calls' own URLs in one workspace.
    ``status``: pending, delivered, failed. ``lease_until`` in the future: a process is sending it now.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_deliveries_due", "next_at", sqlite_where=PENDING, postgresql_where=PENDING),
        Index("ix_deliveries_lane", "lane", "id", sqlite_where=PENDING, postgresql_where=PENDING),
        Index("ix_deliveries_subscription", "subscription_id", "id"),
    )

    id: Mapped[Counter]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    subscription_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhook_subscriptions.id"))
    line_id: Mapped[UUID | None]
    agent_id: Mapped[UUID | None]
    call_id: Mapped[UUID | None]
    face: Mapped[str]
    lane: Mapped[str]
    receiver: Mapped[str] = mapped_column(default="", server_default="")
    event_id: Mapped[str]
    event_type: Mapped[str]
    url: Mapped[str]
    body: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    lease_token: Mapped[str | None]
    created_at: Mapped[Created]
    finished_at: Mapped[datetime | None]


class Attempt(Table):
    """The log: one POST and what came of it. ``response_body`` is cut to 2,000 characters."""

    __tablename__ = "webhook_attempts"
    __table_args__ = (
        Index("ix_attempts_newest", "workspace_id", "created_at", "id"),
        Index("ix_attempts_delivery", "delivery_id"),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    delivery_id: Mapped[int] = mapped_column(ForeignKey("webhook_deliveries.id"))
    response_status: Mapped[int | None]
    response_body: Mapped[str | None]
    error_detail: Mapped[str | None]
    duration_ms: Mapped[int | None]
    success: Mapped[bool]
    is_replay: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Created]
