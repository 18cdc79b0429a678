"""How much was called: today, this month, and within the rolling day's limits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from anycarrier_server.auth import Caller
from anycarrier_server.store import Snapshot
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import CallRow, Usage

if TYPE_CHECKING:
    from anycarrier_server.service import Service


@dataclass(frozen=True, slots=True)
class Used:
    """Days and months begin at 00:00 UTC; ``cost_cents`` is None when no carrier told any price."""

    calls_today: int
    calls_this_month: int
    minutes_this_month: float
    cost_cents_this_month: float | None
    month_began: datetime
    day_ends: datetime
    rolling: Snapshot


async def of_workspace(service: Service, caller: Caller) -> Used:
    """The workspace's use."""
    now = utc_now()
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    month = day.replace(day=1)
    ours = Usage.workspace_id == caller.workspace_id
    async with service.store.db.read() as session:
        today = await session.scalar(select(func.count()).where(ours, Usage.at >= day)) or 0
        monthly = select(func.count(), func.coalesce(func.sum(Usage.seconds), 0.0)).where(ours, Usage.at >= month)
        calls, seconds = (await session.execute(monthly)).one()
        cost = await session.scalar(
            select(func.sum(CallRow.cost_cents)).where(
                CallRow.workspace_id == caller.workspace_id, CallRow.created_at >= month
            )
        )
    rolling = await service.store.limits.snapshot(caller.workspace_id, at=now)
    return Used(today, calls, seconds / 60, cost, month, day + timedelta(days=1), rolling)
