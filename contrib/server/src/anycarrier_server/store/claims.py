"""What all processes agree on: which process does what, which processes are alive, and which keys were used once.

A claim expires unless it is renewed, so what a dead process held is free again after ``seconds``. A process's own sign
of life is the claim ``process:<owner>``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, bindparam, delete, or_, select, update

from anycarrier_server.store.columns import utc_now, word
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallRow, Claim, Once
from anycarrier_server.store.statements import Act, Statement, table_of

ALIVE_SECONDS = 20.0

TABLE, CALL = table_of(Claim), table_of(CallRow)


def _take(insert: Any) -> Any:
    made = insert(TABLE)
    return made.on_conflict_do_update(
        index_elements=[TABLE.c.name],
        set_={"owner": made.excluded.owner, "expires_at": made.excluded.expires_at},
        where=or_(TABLE.c.owner == bindparam("me"), TABLE.c.expires_at <= bindparam("now")),
    ).returning(TABLE.c.name)


BEGUN = or_(CALL.c.scheduled_at.is_(None), CALL.c.dial_claimed_at.is_not(None))
"""Every call but scheduled ones that have not been claimed for dialling."""


def _orphans() -> Any:
    keeper = and_(
        TABLE.c.owner == CALL.c.owner, TABLE.c.name == "process:" + CALL.c.owner, TABLE.c.expires_at > bindparam("now")
    )
    return (
        select(CALL)
        .outerjoin(TABLE, keeper)
        .where(CALL.c.status != word("ended"), TABLE.c.name.is_(None), BEGUN, CALL.c.updated_at <= bindparam("before"))
        .order_by(CALL.c.created_at)
        .limit(200)
    )


TAKE = Statement(_take, columns=["name", "owner", "expires_at"])
DROP = Statement(delete(TABLE).where(TABLE.c.name == bindparam("name"), TABLE.c.owner == bindparam("owner")))
ORPHANS = Statement(_orphans(), into=[CallRow])
OURS = Statement(
    select(CALL.c.id).where(
        CALL.c.status != word("ended"), CALL.c.owner == bindparam("owner"), BEGUN,
        CALL.c.updated_at <= bindparam("before"),
    )
)  # fmt: skip


# A call whose post-call work is not done is claimed under this name, which is stored.
PREFIX = "unsettled:"
PAST_PREFIX = "unsettled;"  # the character after the colon: a range on the key, which LIKE would not be everywhere


def _take_over(insert: Any) -> Any:
    made = insert(TABLE)
    return made.on_conflict_do_update(index_elements=[TABLE.c.name], set_={"owner": made.excluded.owner})


def _abandoned() -> Any:
    process = TABLE.alias()
    alive = and_(process.c.name == "process:" + TABLE.c.owner, process.c.expires_at > bindparam("now"))
    return (
        select(TABLE.c.name)
        .outerjoin(process, alive)
        .where(TABLE.c.name >= PREFIX, TABLE.c.name < PAST_PREFIX, process.c.name.is_(None))
        .limit(50)
    )


CLAIM_CALL = Statement(_take_over, columns=["name", "owner", "expires_at"])
RELEASE_CALL = Statement(delete(TABLE).where(TABLE.c.name == bindparam("name")))
ABANDONED = Statement(_abandoned())
CLAIMED = Statement(
    select(TABLE.c.name).where(TABLE.c.name >= PREFIX, TABLE.c.name < PAST_PREFIX, TABLE.c.owner == bindparam("owner"))
)


class Claims:
    """Claims of one process, ``owner``."""

    def __init__(self, db: Database, owner: str) -> None:
        self._db = db
        self.owner = owner

    async def take(self, name: str, seconds: float, *, at: datetime | None = None) -> bool:
        """Claim or renew; False while another owner holds it."""
        now = at or utc_now()
        expires_at = now + timedelta(seconds=seconds)
        taken = await self._db.act(TAKE, name=name, owner=self.owner, me=self.owner, expires_at=expires_at, now=now)
        return taken is not None

    async def drop(self, name: str) -> None:
        """Give a claim back, if it is ours."""
        await self._db.act(DROP, name=name, owner=self.owner)

    async def alive(self, *, at: datetime | None = None) -> None:
        """Say that this process lives; to be called well within ``ALIVE_SECONDS``."""
        await self.take(f"process:{self.owner}", ALIVE_SECONDS, at=at)

    async def orphans(self, *, at: datetime | None = None) -> list[CallRow]:
        """Calls in progress whose process has not been heard of: ask the carrier how they stand.

        Scheduled calls nobody has begun to dial are no orphans. A call nobody owns yet is one after
        ``ALIVE_SECONDS``.
        """
        now = at or utc_now()
        return await self._db.rows(ORPHANS, now=now, before=now - timedelta(seconds=ALIVE_SECONDS))

    async def ours(self, *, at: datetime | None = None) -> list[Any]:
        """Ids of open calls that this process owns, unless something was written of them in the last seconds."""
        before = (at or utc_now()) - timedelta(seconds=ALIVE_SECONDS)
        return await self._db.rows(OURS, owner=self.owner, before=before)

    async def reclaim(self, calls: Sequence[UUID]) -> None:
        """Take these open calls back for this process, even if another one has adopted them."""
        async with self._db.write() as session:
            open_ = (CallRow.id.in_(calls), CallRow.status != word("ended"), CallRow.owner != self.owner)
            await session.execute(update(CallRow).where(*open_).values(owner=self.owner))

    # --- post-call work -----------------------------------------------------------------------------------------------

    async def claim_call(self, reference: str) -> None:
        """Take the call's post-call work for this process, even from another one."""
        expires_at = utc_now() + timedelta(days=2)
        await self._db.act(CLAIM_CALL, name=PREFIX + reference, owner=self.owner, expires_at=expires_at)

    async def release_call(self, reference: str) -> None:
        """The call's post-call work is done."""
        await self._db.act(RELEASE_CALL, name=PREFIX + reference)

    async def abandoned_calls(self) -> list[str]:
        """References of calls with post-call work of processes that have not been heard of; 50 at most."""
        return [row.name.removeprefix(PREFIX) for row in await self._db.rows(ABANDONED, now=utc_now())]

    async def claimed_calls(self) -> list[str]:
        """References of calls with post-call work of this process: in progress here, or failed before."""
        return [row.name.removeprefix(PREFIX) for row in await self._db.rows(CLAIMED, owner=self.owner)]


SWEEP_EVERY = 60.0

ONCE = table_of(Once)


def _take_key(insert: Any) -> Any:
    """A row comes back when it was inserted, or was there and had expired; else nothing was done."""
    made = insert(ONCE)
    return made.on_conflict_do_update(
        index_elements=[ONCE.c.key],
        set_={"expires_at": made.excluded.expires_at},
        where=ONCE.c.expires_at <= bindparam("now"),
    ).returning(ONCE.c.key)


TAKE_KEY = Statement(_take_key, columns=["key", "expires_at"])
FORGET_KEY = Statement(delete(ONCE).where(ONCE.c.key == bindparam("key")))
SWEEP_KEYS = Statement(delete(ONCE).where(ONCE.c.expires_at < bindparam("now")))


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
            await self._db.act(SWEEP_KEYS, now=now)
        take, values = taking(key, ttl, at=now)
        return await self._db.act(take, **values) is not None

    async def forget(self, key: str) -> None:
        """Let the key be used again."""
        await self._db.act(FORGET_KEY, key=key)


def taking(key: str, ttl: float, *, at: datetime | None = None) -> Act:
    """What takes the key for ``ttl`` seconds: it gives a row to the first, and none to the others."""
    now = at or utc_now()
    return TAKE_KEY, {"key": key, "expires_at": now + timedelta(seconds=ttl), "now": now}
