"""Once-only keys over all processes: :class:`linecard.once.OnceStore` on the database."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from linecard.server.store.columns import utc_now
from linecard.server.store.database import Database
from linecard.server.store.models import Once

SWEEP_EVERY = 60.0


class SqlOnce:
    """Keys with an expiry; the database decides who was first."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._swept = time.monotonic()

    async def first(self, key: str, ttl: float, *, at: datetime | None = None) -> bool:
        """True exactly once per key within ``ttl`` seconds, whichever process asks."""
        now = at or utc_now()
        insert = sqlite_insert if self._db.sqlite else postgresql_insert
        statement = insert(Once).values(key=key, expires_at=now + timedelta(seconds=ttl))
        # A row comes back when it was inserted, or was there and had expired; else nothing was done.
        taken = statement.on_conflict_do_update(
            index_elements=[Once.key],
            set_={"expires_at": statement.excluded.expires_at},
            where=Once.expires_at <= now,
        ).returning(Once.key)
        async with self._db.write() as session:
            mine = (await session.execute(taken)).scalar_one_or_none() is not None
            if time.monotonic() - self._swept > SWEEP_EVERY:
                self._swept = time.monotonic()
                await session.execute(delete(Once).where(Once.expires_at < now))
        return mine

    async def forget(self, key: str) -> None:
        """Let the key be used again."""
        async with self._db.write() as session:
            await session.execute(delete(Once).where(Once.key == key))
