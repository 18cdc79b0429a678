"""How much a workspace may call in a rolling day, exact under concurrency.

One row per workspace holds the sums of the window and is the lock: whoever reserves holds it from reading the sums
to adding the call. Entries older than the window are taken off the sums once, as the window moves past them, so a
reservation costs the same after a million calls as after ten.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from linecard.server.refusals import OverLimit
from linecard.server.store.columns import utc_now, word
from linecard.server.store.database import Database
from linecard.server.store.models import CallRow, Usage, UsageWindow

DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Use and limits of the last 24 hours; minutes include those of calls still talking. ``reset_at``: when the
    oldest entry leaves the window."""

    calls_used: int
    calls_limit: int
    minutes_used: float
    minutes_limit: float
    reset_at: datetime

    @property
    def calls_remaining(self) -> int:
        return max(0, self.calls_limit - self.calls_used)

    @property
    def minutes_remaining(self) -> float:
        return max(0.0, self.minutes_limit - self.minutes_used)

    def as_dict(self) -> dict[str, float]:
        """The six keys both contracts show."""
        return {
            "calls_used": self.calls_used,
            "calls_remaining": self.calls_remaining,
            "calls_limit": self.calls_limit,
            "minutes_used": round(self.minutes_used, 2),
            "minutes_remaining": round(self.minutes_remaining, 2),
            "minutes_limit": self.minutes_limit,
        }


class Limits:
    """The rolling day's limits. ``calls`` and ``minutes`` apply to every workspace."""

    def __init__(self, db: Database, *, calls: int, minutes: float) -> None:
        self._db = db
        self.calls = calls
        self.minutes = minutes

    async def reserve(self, workspace_id: UUID, call_id: UUID, *, at: datetime | None = None) -> Snapshot:
        """Count one call, or raise :class:`OverLimit`. Reserving the same call again changes nothing."""
        at = at or utc_now()
        async with self._db.write() as session:
            window = await self._locked(session, workspace_id, at)
            known = await session.scalar(select(Usage.id).where(Usage.call_id == call_id))
            snapshot = await self._snapshot(session, window, at)
            if known is not None:
                return snapshot
            if not snapshot.calls_remaining or snapshot.minutes_remaining <= 0:
                what = f"{self.calls} calls" if not snapshot.calls_remaining else f"{self.minutes:g} minutes"
                # Commit what was swept; the refusal itself changes nothing.
                refusal = OverLimit(what, snapshot, max(1.0, math.ceil((snapshot.reset_at - at).total_seconds())))
            else:
                refusal = None
                session.add(Usage(workspace_id=workspace_id, call_id=call_id, at=at))
                window.calls += 1
                snapshot = await self._snapshot(session, window, at)
        if refusal is not None:
            raise refusal
        return snapshot

    async def release(self, call_id: UUID) -> None:
        """Give a reservation back: the call was never made."""
        async with self._db.write() as session:
            usage = await session.scalar(select(Usage).where(Usage.call_id == call_id))
            if usage is None:
                return
            window = await self._lock(session, usage.workspace_id)
            gone = await session.execute(delete(Usage).where(Usage.id == usage.id).returning(Usage.seconds))
            seconds = gone.scalar_one_or_none()
            if seconds is not None and usage.id > window.swept_to:
                window.calls -= 1
                window.seconds -= seconds

    async def snapshot(self, workspace_id: UUID, *, at: datetime | None = None) -> Snapshot:
        """How things stand now."""
        at = at or utc_now()
        async with self._db.write() as session:
            window = await self._locked(session, workspace_id, at)
            return await self._snapshot(session, window, at)

    async def _locked(self, session: AsyncSession, workspace_id: UUID, at: datetime) -> UsageWindow:
        """The window's row, ours until the transaction ends, with what has left it taken off."""
        window = await self._lock(session, workspace_id)
        horizon = select(func.max(Usage.id)).where(
            Usage.workspace_id == workspace_id, Usage.at <= at - DAY, Usage.id > window.swept_to
        )
        swept_to = await session.scalar(horizon)
        if swept_to is not None:
            left = select(func.count(), func.coalesce(func.sum(Usage.seconds), 0.0)).where(
                Usage.workspace_id == workspace_id, Usage.id > window.swept_to, Usage.id <= swept_to
            )
            calls, seconds = (await session.execute(left)).one()
            window.calls -= calls
            window.seconds = max(0.0, window.seconds - seconds)
            window.swept_to = swept_to
        return window

    async def _lock(self, session: AsyncSession, workspace_id: UUID) -> UsageWindow:
        found = select(UsageWindow).where(UsageWindow.workspace_id == workspace_id).with_for_update()
        window = await session.scalar(found)
        if window is None:
            insert = sqlite_insert if self._db.sqlite else postgresql_insert
            row = {"workspace_id": workspace_id, "calls": 0, "seconds": 0.0, "swept_to": 0}
            await session.execute(insert(UsageWindow).values(row).on_conflict_do_nothing())
            window = (await session.scalars(found)).one()
        return window

    async def _snapshot(self, session: AsyncSession, window: UsageWindow, at: datetime) -> Snapshot:
        oldest = await session.scalar(
            select(Usage.at)
            .where(Usage.workspace_id == window.workspace_id, Usage.id > window.swept_to)
            .order_by(Usage.id)
            .limit(1)
        )
        talking = await session.scalars(
            select(CallRow.answered_at).where(
                CallRow.workspace_id == window.workspace_id,
                CallRow.status != word("ended"),
                CallRow.answered_at.is_not(None),
            )
        )
        live = sum(max(0.0, (at - since).total_seconds()) for since in talking if since is not None)
        return Snapshot(
            calls_used=window.calls,
            calls_limit=self.calls,
            minutes_used=(window.seconds + live) / 60,
            minutes_limit=self.minutes,
            reset_at=(oldest or at) + DAY,
        )


async def settle(session: AsyncSession, call_id: UUID, seconds: float) -> None:
    """Write down how long a counted call talked, in the transaction that ends it. Calls not counted are ignored."""
    usage = await session.scalar(select(Usage).where(Usage.call_id == call_id))
    if usage is None:
        return
    # The window first, the entry second: the order in which reserve and release take them.
    window = await session.scalar(
        select(UsageWindow).where(UsageWindow.workspace_id == usage.workspace_id).with_for_update()
    )
    done = await session.execute(
        update(Usage).where(Usage.id == usage.id, Usage.seconds == 0.0).values(seconds=seconds).returning(Usage.id)
    )
    if done.scalar_one_or_none() is not None and window is not None and usage.id > window.swept_to:
        window.seconds += seconds
