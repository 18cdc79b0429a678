"""What several processes agree on through the database: once-only keys, claims, rolling use, the key's canary."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from anycarrier_server.store.columns import Counter, Created, Serial, Table


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
