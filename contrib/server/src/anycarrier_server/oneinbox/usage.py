"""``/v1/usage``: how much was called. Days and months begin at 00:00 UTC; one credit is one minute talked."""

from __future__ import annotations

from anycarrier_server.domain import usage
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.shapes import Moment, Shown


class UsageShown(Shown):
    """``max_calls_per_day`` and ``calls_remaining_today`` are of the rolling 24 hours in which the limit counts."""

    calls_made_today: int
    max_calls_per_day: int
    calls_remaining_today: int
    calls_this_month: int
    minutes_used_this_month: float
    cost_cents_this_month: float | None
    kb_token_budget: int | None
    minutes_remaining_today: float
    period_start: Moment
    day_ends: Moment


async def get(asked: Asked[None, None]) -> UsageShown:
    """The workspace's use."""
    used = await usage.of_workspace(asked.service, asked.caller)
    return UsageShown(
        calls_made_today=used.calls_today,
        max_calls_per_day=used.rolling.calls_limit,
        calls_remaining_today=used.rolling.calls_remaining,
        calls_this_month=used.calls_this_month,
        minutes_used_this_month=round(used.minutes_this_month, 2),
        cost_cents_this_month=used.cost_cents_this_month,
        kb_token_budget=None,
        minutes_remaining_today=round(used.rolling.minutes_remaining, 2),
        period_start=used.month_began,
        day_ends=used.day_ends,
    )


ENDPOINTS = [Endpoint("GET", "/v1/usage", get, "How much was called", answer=UsageShown)]
