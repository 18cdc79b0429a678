"""How many calls there are of each sort, without counting a million rows.

Whoever opens a call or moves it on adds rows of +1 and -1; their sum is the count. Nobody waits for anybody, since
nothing is updated. A reader that had to add up many folds them into one per sort.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import bindparam, delete, func, select

from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallTally
from anycarrier_server.store.statements import Act, Rows, Statement, table_of
from anycarrier_server.store.transactions import Transaction

FOLD_ABOVE = 500
FOLD_AT_ONCE = 20_000

Sort = tuple[UUID, UUID | None, str, str, bool]
"""Workspace, agent, direction, stage, blocked."""

TABLE = table_of(CallTally)
SORT = ("workspace_id", "agent_id", "direction", "stage", "is_blocked")
ADD = Rows(CallTally, [*SORT, "delta"])
# Only rows already visible are taken, so a change that commits meanwhile stays as it is.
TAKE = Statement(
    delete(TABLE)
    .where(
        TABLE.c.id.in_(
            select(TABLE.c.id)
            .where(TABLE.c.workspace_id == bindparam("workspace_id"))
            .limit(FOLD_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    )
    .returning(*(TABLE.c[name] for name in SORT), TABLE.c.delta)
)


def counting(*changes: tuple[Sort, int]) -> Act:
    """What adds changes to the tally, in the caller's transaction."""
    return ADD.of([{**dict(zip(SORT, sort, strict=True)), "delta": delta} for sort, delta in changes])


async def total(
    db: Database,
    workspace_id: UUID,
    *,
    agent_id: UUID | None = None,
    stages: tuple[str, ...] = (),
    direction: str | None = None,
    is_blocked: bool | None = None,
) -> int:
    """The number of calls of a sort; None and empty mean any."""
    query = select(func.coalesce(func.sum(CallTally.delta), 0), func.count()).where(
        CallTally.workspace_id == workspace_id
    )
    if agent_id is not None:
        query = query.where(CallTally.agent_id == agent_id)
    if stages:
        query = query.where(CallTally.stage.in_(stages))
    if direction is not None:
        query = query.where(CallTally.direction == direction)
    if is_blocked is not None:
        query = query.where(CallTally.is_blocked == is_blocked)
    async with db.read() as session:
        found, rows = (await session.execute(query)).one()
    if rows > FOLD_ABOVE:
        await fold(db, workspace_id)
    return int(found)


async def fold(db: Database, workspace_id: UUID) -> None:
    """Replace many small changes by their sums; what somebody else is folding is left to them."""

    async def work(tx: Transaction) -> None:
        sums: dict[Sort, int] = {}
        for *sort, delta in await tx.rows(TAKE, workspace_id=workspace_id):
            key: Sort = tuple(sort)  # the columns are SORT's
            sums[key] = sums.get(key, 0) + delta
        if changes := [(sort, delta) for sort, delta in sums.items() if delta]:
            await tx.together(counting(*changes))

    await db.transact(work)
