"""Calls whose papers are not finished yet, and which process has them: a note in the claims, made when a call's sound
begins and taken away when all is filed. What a dead process leaves here, another one finishes."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import and_, delete, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import aliased

from linecard.server.store import Store
from linecard.server.store.columns import utc_now
from linecard.server.store.models import Claim

PREFIX = "unsettled:"
PAST_PREFIX = "unsettled;"  # the character after the colon: a range on the key, which LIKE would not be everywhere


async def begin(store: Store, reference: str) -> None:
    """The call is ours to settle, whoever had it before."""
    insert = sqlite_insert if store.db.sqlite else postgresql_insert
    values = {"name": PREFIX + reference, "owner": store.owner, "expires_at": utc_now() + timedelta(days=2)}
    ours = insert(Claim).values(values)
    ours = ours.on_conflict_do_update(index_elements=[Claim.name], set_={"owner": store.owner})
    async with store.db.write() as session:
        await session.execute(ours)


async def done(store: Store, reference: str) -> None:
    """All is filed."""
    async with store.db.write() as session:
        await session.execute(delete(Claim).where(Claim.name == PREFIX + reference))


async def left_behind(store: Store, limit: int = 50) -> list[str]:
    """References of calls whose process has not been heard of."""
    process = aliased(Claim)
    alive = and_(process.name == "process:" + Claim.owner, process.expires_at > utc_now())
    query = (
        select(Claim.name)
        .outerjoin(process, alive)
        .where(Claim.name >= PREFIX, Claim.name < PAST_PREFIX, process.name.is_(None))
        .limit(limit)
    )
    async with store.db.read() as session:
        return [name.removeprefix(PREFIX) for name in await session.scalars(query)]
