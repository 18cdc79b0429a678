"""How many calls there are of each sort, without counting a million rows.

Whoever opens a call or moves it on adds rows of +1 and -1; their sum is the count. Nobody waits for anybody, since
nothing is updated. A reader that had to add up many folds them into one per sort.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from linecard.server.store.database import Database
from linecard.server.store.models import CallTally

FOLD_ABOVE = 500
FOLD_AT_ONCE = 20_000

Sort = tuple[UUID, UUID | None, str, str, bool]
"""Workspace, agent, direction, stage, blocked."""


async def count(session: AsyncSession, *changes: tuple[Sort, int]) -> None:
    """Add changes to the tally, in the caller's transaction."""
    rows = [
        {"workspace_id": w, "agent_id": a, "direction": d, "stage": s, "is_blocked": b, "delta": delta}
        for (w, a, d, s, b), delta in changes
    ]
    await session.execute(insert(CallTally), rows)


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
    async with db.write() as session:
        # Only rows already visible are taken, so a change that commits meanwhile stays as it is.
        taken = (
            select(CallTally.id)
            .where(CallTally.workspace_id == workspace_id)
            .limit(FOLD_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        gone = await session.execute(
            delete(CallTally)
            .where(CallTally.id.in_(taken))
            .returning(
                CallTally.agent_id, CallTally.direction, CallTally.stage, CallTally.is_blocked, CallTally.delta
            )
        )
        sums: dict[Sort, int] = {}
        for agent_id, direction, stage, is_blocked, delta in gone:
            sort = (workspace_id, agent_id, direction, stage, is_blocked)
            sums[sort] = sums.get(sort, 0) + delta
        if changes := [(sort, delta) for sort, delta in sums.items() if delta]:
            await count(session, *changes)
