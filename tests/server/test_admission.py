"""Room on a carrier account and on a number: exact when many ask at once, and nobody who waits holds up the others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import update
from tenants import Tenant, make_tenant

from anycarrier_server.domain import call_limits
from anycarrier_server.domain.call_limits import DAY, NoRoom, limited, take_room
from anycarrier_server.encryption import Sealer
from anycarrier_server.settings import Settings
from anycarrier_server.store import NewCall, Store
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallRow, LineRow
from anycarrier_server.work.scheduler import AT_ONCE, Scheduler


def desk(store: Store, **settings: Any) -> Any:
    """As much of a service as admission looks at."""
    return SimpleNamespace(store=store, settings=Settings(**settings))


async def made(store: Store, tenant: Tenant, line: LineRow | None = None, **fields: Any) -> CallRow:
    new = NewCall(line=line or tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, **fields)
    return (await store.calls.create(new))[0]


async def change(store: Store, call_id: UUID, **values: Any) -> None:
    async with store.db.write() as session:
        await session.execute(update(CallRow).where(CallRow.id == call_id).values(**values))


@pytest.mark.parametrize(
    ("limits", "places", "kind", "whose"),
    [
        ({"max_concurrent": 3}, 3, "concurrency", "credential"),
        ({"calls_per_second": 0.02}, 1, "pace", "credential"),
        ({"max_concurrent_per_number": 3}, 3, "concurrency", "number"),
        ({"calls_per_day_per_number": 3}, 3, "day", "number"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_twenty_at_once_in_two_processes_get_exactly_as_many_places_as_there_are(
    store: Store, tenant: Tenant, limits: dict[str, Any], places: int, kind: str, whose: str
) -> None:
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    desks = [desk(store, **limits), desk(Store(other_db, Sealer([b"k" * 32]), Settings(), root=b"r" * 32), **limits)]
    calls = [await made(store, tenant) for _ in range(20)]
    results = await asyncio.gather(
        *(take_room(desks[i % 2], call) for i, call in enumerate(calls)), return_exceptions=True
    )
    await other_db.close()
    assert [result for result in results if not isinstance(result, NoRoom)] == [True] * places
    refused = [result for result in results if isinstance(result, NoRoom)]
    assert {(no.kind, no.whose) for no in refused} == {(kind, whose)}
    assert all(no.retry_after is not None and 0 < no.retry_after <= DAY.total_seconds() for no in refused)


async def test_without_limits_nothing_is_counted(store: Store) -> None:
    assert not limited(desk(store))
    for limit in ("max_concurrent", "calls_per_second", "max_concurrent_per_number", "calls_per_day_per_number"):
        assert limited(desk(store, **{limit: 1}))


async def test_one_numbers_limit_is_not_anothers_though_they_share_a_credential(store: Store, tenant: Tenant) -> None:
    second = await store.lines.create(tenant.credential, "+12125550101", agent_id=tenant.agent.id)
    at = desk(store, max_concurrent_per_number=1)
    assert await take_room(at, await made(store, tenant))
    with pytest.raises(NoRoom):
        await take_room(at, await made(store, tenant))
    assert await take_room(at, await made(store, tenant, second))


async def test_an_incoming_call_takes_one_of_the_numbers_places(store: Store, tenant: Tenant) -> None:
    at = desk(store, max_concurrent_per_number=1)
    await store.callbook.open(tenant.call())
    with pytest.raises(NoRoom):
        await take_room(at, await made(store, tenant))


async def test_a_numbers_day_counts_what_rang_for_24_hours_and_not_what_the_carrier_refused(
    store: Store, tenant: Tenant
) -> None:
    at = desk(store, calls_per_day_per_number=2)
    first, refused = await made(store, tenant), await made(store, tenant)
    for call in (first, refused):
        assert await take_room(at, call)
    await change(store, first.id, status="ended", carrier_id="leg-1", dial_claimed_at=utc_now() - timedelta(hours=23))
    await change(store, refused.id, status="ended")
    assert await take_room(at, await made(store, tenant))
    late = await made(store, tenant)
    with pytest.raises(NoRoom) as no:
        await take_room(at, late)
    assert no.value.retry_after == pytest.approx(3600, abs=60)
    await change(store, first.id, dial_claimed_at=utc_now() - timedelta(hours=25))
    assert await take_room(at, late)


async def test_registering_a_number_again_does_not_empty_its_day(store: Store, tenant: Tenant) -> None:
    at = desk(store, calls_per_day_per_number=1)
    call = await made(store, tenant)
    assert await take_room(at, call)
    await change(store, call.id, status="ended", carrier_id="leg-1")
    await store.lines.release(tenant.line.id)
    again = await store.lines.create(tenant.credential, tenant.line.number, agent_id=tenant.agent.id)
    with pytest.raises(NoRoom):
        await take_room(at, await made(store, tenant, again))


async def test_a_number_that_another_workspace_had_before_has_room_of_its_own(store: Store, tenant: Tenant) -> None:
    at = desk(store, calls_per_day_per_number=1, max_concurrent_per_number=1)
    assert await take_room(at, await made(store, tenant))
    await store.lines.release(tenant.line.id)
    other = await make_tenant(store, tenant.line.number, "other")
    assert await take_room(at, await made(store, other))


@pytest.mark.parametrize(
    "limit",
    [{"max_concurrent": 1}, {"calls_per_second": 0.02}, {"max_concurrent_per_number": 1},
     {"calls_per_day_per_number": 1}],
    ids=lambda limit: next(iter(limit)),
)  # fmt: skip
async def test_a_call_does_not_take_its_own_place_from_itself(
    store: Store, tenant: Tenant, limit: dict[str, Any]
) -> None:
    at = desk(store, **limit)
    call = await made(store, tenant)
    assert await take_room(at, call)
    assert not await take_room(at, call), "somebody dials it already: no lack of room"


async def test_a_number_that_may_not_dial_at_all_is_asked_again_tomorrow(store: Store, tenant: Tenant) -> None:
    with pytest.raises(NoRoom) as no:
        await take_room(desk(store, calls_per_day_per_number=0), await made(store, tenant))
    assert no.value.retry_after == DAY.total_seconds()


@pytest.mark.parametrize(("account", "number", "full"), [(1, 5, "credential"), (5, 1, "number")])
async def test_an_account_and_a_number_may_both_have_a_limit(
    store: Store, tenant: Tenant, account: int, number: int, full: str
) -> None:
    at = desk(store, max_concurrent=account, max_concurrent_per_number=number)
    assert limited(at) and await take_room(at, await made(store, tenant))
    with pytest.raises(NoRoom) as no:
        await take_room(at, await made(store, tenant))
    assert no.value.whose == full


@pytest.mark.parametrize("setting", ["max_concurrent", "max_concurrent_per_number"])
async def test_scheduled_calls_without_room_hold_up_nobody_behind_them(
    store: Store, tenant: Tenant, setting: str
) -> None:
    """More of them than are looked at in one go, on a full number; behind them one of another account's."""
    at = desk(store, **{setting: 1})
    assert await take_room(at, await made(store, tenant))
    long_due = utc_now() - timedelta(minutes=5)
    for _ in range(AT_ONCE + 5):
        await made(store, tenant, scheduled_at=long_due)
    account = await store.credentials.create(
        tenant.workspace.id,
        name="b",
        provider="acme",
        api_key=SecretStr("secret-0123456789"),
        metadata={"account_sid": "AC2"},
    )
    line = await store.lines.create(account, "+12125550102", agent_id=tenant.agent.id)
    behind = await made(store, tenant, line, scheduled_at=utc_now() - timedelta(minutes=1))
    assert [call.id for call in await Scheduler(at)._due()] == [behind.id]


async def test_a_call_is_dialled_by_one_and_not_at_all_once_it_is_over(store: Store, tenant: Tenant) -> None:
    at = desk(store, max_concurrent=5)
    call, over = await made(store, tenant), await made(store, tenant)
    assert await take_room(at, call)
    assert not await take_room(at, call)
    await change(store, over.id, status="ended")
    assert not await take_room(at, over)
    row = await store.calls.find(call.id)
    assert row is not None and row.owner == store.owner and row.dial_claimed_at is not None


@pytest.mark.parametrize(("pace", "window"), [(2.0, 1.0), (0.5, 2.0), (0.013, 1 / 0.013)])
async def test_the_pace_is_of_the_last_second_or_of_as_long_as_one_call_may_take(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, pace: float, window: float
) -> None:
    began = utc_now()
    monkeypatch.setattr(call_limits, "utc_now", lambda: began)
    at = desk(store, calls_per_second=pace)
    for call in [await made(store, tenant) for _ in range(max(1, int(pace)))]:
        assert await take_room(at, call)
    late = await made(store, tenant)
    monkeypatch.setattr(call_limits, "utc_now", lambda: began + timedelta(seconds=window - 0.001))
    with pytest.raises(NoRoom, match=f"{pace:g} calls per second on this credential") as no:
        await take_room(at, late)
    assert no.value.retry_after == window
    monkeypatch.setattr(call_limits, "utc_now", lambda: began + timedelta(seconds=window))
    assert await take_room(at, late)


@pytest.mark.parametrize("whose", ["credential", "number"])
async def test_a_call_that_is_over_gives_its_place_back(store: Store, tenant: Tenant, whose: str) -> None:
    at = desk(store, **{"max_concurrent" if whose == "credential" else "max_concurrent_per_number": 1})
    first, second = await made(store, tenant), await made(store, tenant)
    assert await take_room(at, first)
    with pytest.raises(NoRoom, match=f"1 calls at once on this {whose}"):
        await take_room(at, second)
    await change(store, first.id, status="ended")
    assert await take_room(at, second)
