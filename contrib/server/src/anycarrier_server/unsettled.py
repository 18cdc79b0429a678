"""Calls whose papers are not finished yet, and which process has them: a note in the claims, made when a call's sound
begins and taken away when all is filed. What a dead process leaves here, another one finishes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import and_, bindparam, delete, select

from anycarrier_server.store import Store
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import Claim
from anycarrier_server.store.statements import Statement, table_of

PREFIX = "unsettled:"
PAST_PREFIX = "unsettled;"  # the character after the colon: a range on the key, which LIKE would not be everywhere

CLAIM = table_of(Claim)


def _ours(insert: Any) -> Any:
    made = insert(CLAIM)
    return made.on_conflict_do_update(index_elements=[CLAIM.c.name], set_={"owner": made.excluded.owner})


def _left_behind() -> Any:
    process = CLAIM.alias()
    alive = and_(process.c.name == "process:" + CLAIM.c.owner, process.c.expires_at > bindparam("now"))
    return (
        select(CLAIM.c.name)
        .outerjoin(process, alive)
        .where(CLAIM.c.name >= PREFIX, CLAIM.c.name < PAST_PREFIX, process.c.name.is_(None))
        .limit(50)
    )


BEGIN = Statement(_ours, columns=["name", "owner", "expires_at"])
DONE = Statement(delete(CLAIM).where(CLAIM.c.name == bindparam("name")))
LEFT_BEHIND = Statement(_left_behind())
OURS = Statement(
    select(CLAIM.c.name).where(CLAIM.c.name >= PREFIX, CLAIM.c.name < PAST_PREFIX, CLAIM.c.owner == bindparam("owner"))
)


async def begin(store: Store, reference: str) -> None:
    """The call is ours to settle, whoever had it before."""
    expires_at = utc_now() + timedelta(days=2)
    await store.db.act(BEGIN, name=PREFIX + reference, owner=store.owner, expires_at=expires_at)


async def done(store: Store, reference: str) -> None:
    """All is filed."""
    await store.db.act(DONE, name=PREFIX + reference)


async def left_behind(store: Store) -> list[str]:
    """References of calls whose process has not been heard of; not all of them at once."""
    return [row.name.removeprefix(PREFIX) for row in await store.db.rows(LEFT_BEHIND, now=utc_now())]


async def ours(store: Store) -> list[str]:
    """References of calls that this process has to settle: those going on here, and those it could not settle."""
    return [row.name.removeprefix(PREFIX) for row in await store.db.rows(OURS, owner=store.owner)]
