"""Workspaces, the tenants; and their API keys: made once, shown once, kept as a hash.

Keys are 256 random bits, so a plain SHA-256 is enough: they cannot be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import bindparam, select, update

from anycarrier_server.store.columns import new_id, utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import ApiKey, Workspace
from anycarrier_server.store.statements import Statement, table_of


class Workspaces:
    """All workspaces."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def first(self) -> Workspace | None:
        """The oldest workspace; None before the first start."""
        async with self._db.read() as session:
            return await session.scalar(select(Workspace).order_by(Workspace.created_at, Workspace.id).limit(1))

    async def create(self, name: str) -> Workspace:
        """A new workspace."""
        async with self._db.write() as session:
            made = Workspace(name=name)
            session.add(made)
        return made

    async def get(self, workspace_id: UUID) -> Workspace | None:
        """The workspace, None when there is none."""
        async with self._db.read() as session:
            return await session.get(Workspace, workspace_id)


TABLE = table_of(ApiKey)
BY_HASH = Statement(select(TABLE).where(TABLE.c.hash == bindparam("hash")), into=[ApiKey])
USED = Statement(
    update(TABLE)
    .where(TABLE.c.id == bindparam("row_id"))
    .values(last_used_at=bindparam("last_used_at"), updated_at=TABLE.c.updated_at)
)

USED_EVERY = timedelta(seconds=60)
"""``last_used_at`` is as fine as this; writing it on every request would make every read a write."""


def hash_key(secret: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


LONG = 32
"""Characters from which on the beginning of a key may be shown: ours are longer, one from the settings may be short."""


def _end_of(secret: str) -> str:
    """What tells a key from others and gives nothing away: four characters of a long one, an eighth of a short one."""
    shown = min(4, len(secret) // 8)
    return secret[len(secret) - shown :]


class Keys:
    """The API keys of every workspace."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        workspace_id: UUID,
        label: str,
        *,
        agent_id: UUID | None = None,
        description: str | None = None,
        created_by: str = "",
        creator_type: str = "human",
        style: str = "ApiKey",
        secret: str | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """A key and its secret, which nobody can read again. ``agent_id`` None is an admin key.

        ``style`` is the prefix: ``ApiKey`` (``ApiKey_<uuid>_<random>``) or ``oi_sk``. ``secret`` fixes the whole key.
        """
        id_ = new_id()
        tail = secrets.token_urlsafe(32)
        secret = secret or (f"ApiKey_{id_}_{tail}" if style == "ApiKey" else f"{style}_{tail}")
        async with self._db.write() as session:
            key = ApiKey(
                id=id_,
                workspace_id=workspace_id,
                agent_id=agent_id,
                hash=hash_key(secret),
                label=label,
                description=description,
                display_prefix=secret[: 15 if style == "ApiKey" else 10] if len(secret) >= LONG else "",
                last4=_end_of(secret),
                created_by=created_by,
                creator_type=creator_type,
                expires_at=expires_at,
            )
            session.add(key)
        return key, secret

    async def ensure_admin(self, workspace_id: UUID, secret: str) -> ApiKey:
        """The admin key with this secret, made when it is missing (``ANYCARRIER_ADMIN_KEY``)."""
        async with self._db.read() as session:
            known = await session.scalar(select(ApiKey).where(ApiKey.hash == hash_key(secret)))
        if known is not None:
            return known
        key, _ = await self.create(workspace_id, "admin key from settings", created_by="settings", secret=secret)
        return key

    async def authenticate(self, secret: str, *, at: datetime | None = None) -> ApiKey | None:
        """The key with this secret; None when unknown, revoked or expired."""
        now = at or utc_now()
        hashed = hash_key(secret)
        key: ApiKey | None = await self._db.row(BY_HASH, hash=hashed)
        if key is None or not hmac.compare_digest(key.hash, hashed):
            return None
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            return None
        if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
            await self._db.act(USED, row_id=key.id, last_used_at=now)
        return key

    async def list(self, workspace_id: UUID) -> list[ApiKey]:
        """Every key, revoked ones too, newest first."""
        async with self._db.read() as session:
            query = select(ApiKey).where(ApiKey.workspace_id == workspace_id).order_by(ApiKey.created_at.desc())
            return list(await session.scalars(query))

    async def revoke(self, workspace_id: UUID, key_id: UUID | None) -> ApiKey | None:
        """End a key; again is no error. None when it is not this workspace's."""
        async with self._db.write() as session:
            key = await session.get(ApiKey, key_id) if key_id else None
            if key is None or key.workspace_id != workspace_id:
                return None
            key.revoked_at = key.revoked_at or utc_now()
        return key
