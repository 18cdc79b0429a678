"""What we hold elsewhere: carriers' credentials, sealed; lines, the numbers in service; speech engines' settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Created, RowId, Table, Updated, public_id

ACTIVE = text("status = 'active'")
HELD = text("status <> 'released'")


class CredentialRow(Table):
    """A carrier account. ``sealed`` is readable only with the master key, and is emptied on deletion."""

    __tablename__ = "credentials"
    __table_args__ = (Index(None, "workspace_id", "created_at"),)

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str]
    provider: Mapped[str]
    sealed: Mapped[bytes]
    version: Mapped[int] = mapped_column(default=1)
    masked_key: Mapped[str]
    account: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active")
    missing: Mapped[list[str]] = mapped_column(default=list)
    is_default: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    deleted_at: Mapped[datetime | None]

    @property
    def public_id(self) -> str:
        return public_id("credential", self.id)


class LineRow(Table):
    """A number of ours. ``active`` lines route; ``inactive`` ones failed to configure; ``released`` ones are history.

    A number is active once in the whole system, because a ring names only the number; and held once per
    credential. ``bought`` says we ordered it at the carrier, so giving it back there is ours to do.
    ``call_handling`` holds what was set for this number alone of how its agent's calls are taken.
    """

    __tablename__ = "lines"
    __table_args__ = (
        Index("uq_lines_routing", "number", unique=True, sqlite_where=ACTIVE, postgresql_where=ACTIVE),
        Index("uq_lines_held", "credential_id", "number", unique=True, sqlite_where=HELD, postgresql_where=HELD),
        Index(None, "workspace_id", "created_at"),
        Index(None, "agent_id"),
        Index(None, "number"),
    )

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    credential_id: Mapped[UUID] = mapped_column(ForeignKey("credentials.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    provider: Mapped[str]
    number: Mapped[str]
    friendly_name: Mapped[str | None]
    type: Mapped[str] = mapped_column(default="local")
    country: Mapped[str | None]
    state: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="active")
    carrier_number_id: Mapped[str | None]
    bought: Mapped[bool] = mapped_column(default=False)
    routing: Mapped[dict[str, Any]] = mapped_column(default=dict)
    inbound_webhook_url: Mapped[str | None]
    call_handling: Mapped[dict[str, Any]] = mapped_column(default=dict)
    sync: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
    released_at: Mapped[datetime | None]

    @property
    def public_id(self) -> str:
        return public_id("line", self.id)


class EngineRow(Table):
    """A workspace's own settings of a speech engine. ``shown`` is what may be told: secrets by their last four."""

    __tablename__ = "engines"
    __table_args__ = (Index("uq_engines_name", "workspace_id", "name", unique=True),)

    id: Mapped[RowId]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    name: Mapped[str]
    sealed: Mapped[bytes]
    version: Mapped[int] = mapped_column(default=1)
    shown: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[Created]
    updated_at: Mapped[Updated]
