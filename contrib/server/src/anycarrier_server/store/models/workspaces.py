"""Who uses the service: a workspace, the keys it hands out, and the agents that take its calls."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Created, RowId, Table, Updated, public_id

ALIVE = text("deleted_at IS NULL")


class Workspace(Table):
    """A tenant: everything below belongs to exactly one."""

    __tablename__ = "workspaces"

    id: Mapped[RowId]
    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[Created]

    @property
    def public_id(self) -> str:
        return public_id("workspace", self.id)


class ApiKey(Table):
    """A key's hash and what people recognise it by. ``agent_id`` None is an admin key."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "workspace_id", "created_at"),)

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    hash: Mapped[str] = mapped_column(unique=True)
    label: Mapped[str]
    description: Mapped[str | None]
    display_prefix: Mapped[str]
    last4: Mapped[str]
    created_by: Mapped[str]
    creator_type: Mapped[str] = mapped_column(default="human")
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    @property
    def admin(self) -> bool:
        """True when the key speaks for the whole workspace."""
        return self.agent_id is None


class Agent(Table):
    """Where calls go (a WebSocket or a handler in our process) and how they are taken.

    ``incoming_call_action`` None means nobody has said yet. Filter modes are ``blacklist`` or ``whitelist``.
    """

    __tablename__ = "agents"
    __table_args__ = (
        Index("uq_agents_handle", "workspace_id", "handle", unique=True, sqlite_where=ALIVE, postgresql_where=ALIVE),
        Index(None, "workspace_id", "created_at"),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    handle: Mapped[str]
    name: Mapped[str]
    description: Mapped[str | None]
    websocket_url: Mapped[str | None]
    handler: Mapped[str | None]
    settings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    incoming_call_action: Mapped[str | None]
    incoming_call_webhook_url: Mapped[str | None]
    forwarding_target_type: Mapped[str | None]
    forwarding_phone_number: Mapped[str | None]
    forwarding_sip_uri: Mapped[str | None]
    inbound_filter_mode: Mapped[str] = mapped_column(default="blacklist")
    outbound_filter_mode: Mapped[str] = mapped_column(default="blacklist")
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    deleted_at: Mapped[datetime | None]

    @property
    def public_id(self) -> str:
        return public_id("agent", self.id)


class ContactRule(Table):
    """``allow`` or ``block`` one number for one agent, on one side or both. A ``paused`` rule keeps its slot."""

    __tablename__ = "contact_rules"
    __table_args__ = (
        Index("uq_contact_rules_slot", "agent_id", "match_target", "direction", unique=True),
        Index(None, "agent_id", "created_at"),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), index=True)
    agent_id: Mapped[UUID] = mapped_column(ForeignKey("agents.id"))
    action: Mapped[str]
    match_type: Mapped[str] = mapped_column(default="exact_number")
    match_target: Mapped[str]
    direction: Mapped[str] = mapped_column(default="both")
    status: Mapped[str] = mapped_column(default="active")
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
