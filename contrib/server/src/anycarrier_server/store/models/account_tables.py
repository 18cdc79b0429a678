"""Tables of workspaces, their accounts and numbers, and of what all processes agree on."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, false, text
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Counter, Created, RowId, Serial, Table, Updated, public_id

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


class Once(Table):
    """A key that has been used, until ``expires_at``: tickets, replays."""

    __tablename__ = "once"

    key: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Claim(Table):
    """Who does what just now; lapses by itself when the owner stops renewing."""

    __tablename__ = "claims"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    expires_at: Mapped[datetime]


class UsageWindow(Table):
    """A workspace's use in the rolling day, kept as running sums: what left the window is taken off once.

    ``reserved`` are the seconds that calls in progress may still talk, those they have talked included. ``swept_to`` is
    the counter up to which entries have left. This row is also the lock of the limit.
    """

    __tablename__ = "usage_windows"

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"), primary_key=True)
    calls: Mapped[int] = mapped_column(default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)
    reserved: Mapped[float] = mapped_column(default=0.0, server_default="0")
    swept_to: Mapped[int] = mapped_column(Serial, default=0)


class Usage(Table):
    """One call that counted. ``reserved`` are the seconds it may talk; ``seconds`` is filled when it ends, and it is
    ``settled`` then."""

    __tablename__ = "usage"
    __table_args__ = (Index(None, "workspace_id", "id"), Index(None, "workspace_id", "at"))

    id: Mapped[Counter]
    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id"))
    call_id: Mapped[UUID] = mapped_column(unique=True)
    at: Mapped[datetime]
    seconds: Mapped[float] = mapped_column(default=0.0)
    reserved: Mapped[float] = mapped_column(default=0.0, server_default="0")
    settled: Mapped[bool] = mapped_column(default=False, server_default=false())


class Canary(Table):
    """A known text sealed with the master key: opening it at start proves the key is the right one. Beside it ``root``,
    sealed too: what media tickets and recording addresses are signed with is derived from it. Older rows get theirs at
    the next start."""

    __tablename__ = "canary"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sealed: Mapped[bytes]
    root: Mapped[bytes | None]
    created_at: Mapped[Created]
