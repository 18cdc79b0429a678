"""Once-only keys over all processes: :class:`anycarrier.once.OnceStore` on the database."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, delete

from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Once
from anycarrier_server.store.statements import Act, Statement, table_of

SWEEP_EVERY = 60.0

TABLE = table_of(Once)


def _take(insert: Any) -> Any:
    """A row comes back when it was inserted, or was there and had expired; else nothing was done."""
    made = insert(TABLE)
    return made.on_conflict_do_update(
        index_elements=[TABLE.c.key],
        set_={"expires_at": made.excluded.expires_at},
        where=TABLE.c.expires_at <= bindparam("now"),
    ).returning(TABLE.c.key)


TAKE = Statement(_take, columns=["key", "expires_at"])
FORGET = Statement(delete(TABLE).where(TABLE.c.key == bindparam("key")))
SWEEP = Statement(delete(TABLE).where(TABLE.c.expires_at < bindparam("now")))


class SqlOnce:
    """Keys with an expiry; the database decides who was first."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._swept = time.monotonic()

    async def first(self, key: str, ttl: float, *, at: datetime | None = None) -> bool:
        """True exactly once per key within ``ttl`` seconds, whichever process asks."""
        now = at or utc_now()
        if time.monotonic() - self._swept > SWEEP_EVERY:
            self._swept = time.monotonic()
            await self._db.act(SWEEP, now=now)
        take, values = taking(key, ttl, at=now)
        return await self._db.act(take, **values) is not None

    async def forget(self, key: str) -> None:
        """Let the key be used again."""
        await self._db.act(FORGET, key=key)


def taking(key: str, ttl: float, *, at: datetime | None = None) -> Act:
    """What takes the key for ``ttl`` seconds: it gives a row to the first, and none to the others."""
    now = at or utc_now()
    return TAKE, {"key": key, "expires_at": now + timedelta(seconds=ttl), "now": now}
