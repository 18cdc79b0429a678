"""The rolling day: exact when fifty ask at once, and when the window moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from tenants import Tenant

from linecard.calls import CallStatus, EndReason
from linecard.server.refusals import OverLimit
from linecard.server.store import Store
from linecard.server.store.database import Database
from linecard.server.store.limits import DAY, Limits

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def limits(store: Store, calls: int = 10, minutes: float = 100) -> Limits:
    return Limits(store.db, calls=calls, minutes=minutes)


async def test_fifty_at_once_get_exactly_as_many_calls_as_there_are(store: Store, tenant: Tenant) -> None:
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    here, there = limits(store), Limits(other_db, calls=10, minutes=100)
    results = await asyncio.gather(
        *((here if i % 2 else there).reserve(tenant.workspace.id, uuid4()) for i in range(50)), return_exceptions=True
    )
    await other_db.close()
    granted = [r for r in results if not isinstance(r, BaseException)]
    refused = [r for r in results if isinstance(r, OverLimit)]
    assert (len(granted), len(refused)) == (10, 40)
    assert sorted(s.calls_used for s in granted) == list(range(1, 11))
    assert all(r.snapshot.calls_remaining == 0 for r in refused)


async def test_the_same_call_counts_once(store: Store, tenant: Tenant) -> None:
    call_id = uuid4()
    for _ in range(3):
        snapshot = await limits(store).reserve(tenant.workspace.id, call_id)
    assert snapshot.calls_used == 1


async def test_a_refusal_says_when_the_window_opens(store: Store, tenant: Tenant) -> None:
    one = limits(store, calls=1)
    await one.reserve(tenant.workspace.id, uuid4(), at=NOON)
    with pytest.raises(OverLimit) as refused:
        await one.reserve(tenant.workspace.id, uuid4(), at=NOON + timedelta(hours=23))
    assert refused.value.retry_after == 3600


async def test_calls_leave_the_window_after_a_day(store: Store, tenant: Tenant) -> None:
    two = limits(store, calls=2)
    await two.reserve(tenant.workspace.id, uuid4(), at=NOON)
    await two.reserve(tenant.workspace.id, uuid4(), at=NOON + timedelta(hours=1))
    snapshot = await two.reserve(tenant.workspace.id, uuid4(), at=NOON + DAY)
    assert snapshot.calls_used == 2
    with pytest.raises(OverLimit):
        await two.reserve(tenant.workspace.id, uuid4(), at=NOON + DAY)
    assert (await two.snapshot(tenant.workspace.id, at=NOON + 3 * DAY)).calls_used == 0


async def test_a_released_reservation_may_be_used_again(store: Store, tenant: Tenant) -> None:
    one = limits(store, calls=1)
    call_id = uuid4()
    await one.reserve(tenant.workspace.id, call_id)
    await one.release(call_id)
    await one.release(call_id)
    assert (await one.reserve(tenant.workspace.id, uuid4())).calls_used == 1


async def test_minutes_of_ended_calls_count_and_stop_the_next(store: Store, tenant: Tenant) -> None:
    five = limits(store, minutes=5)
    call = tenant.call()
    await five.reserve(tenant.workspace.id, UUID(call.reference))
    await store.callbook.open(call)
    start = datetime.now(UTC) - timedelta(minutes=10)
    over = {
        "status": CallStatus.ENDED,
        "answered_at": start,
        "ended_at": start + timedelta(minutes=5),
        "reason": EndReason.USER_HANGUP,
    }
    await store.callbook.update(call.reference, lambda c: c.model_copy(update=over))
    snapshot = await five.snapshot(tenant.workspace.id)
    assert snapshot.as_dict()["minutes_used"] == 5.0
    with pytest.raises(OverLimit, match="minutes"):
        await five.reserve(tenant.workspace.id, uuid4())


async def test_minutes_of_a_call_still_talking_count_too(store: Store, tenant: Tenant) -> None:
    call = tenant.call(status=CallStatus.ANSWERED, answered_at=datetime.now(UTC) - timedelta(minutes=3))
    await store.callbook.open(call)
    snapshot = await limits(store).snapshot(tenant.workspace.id)
    assert 3.0 <= snapshot.minutes_used < 3.2


async def test_the_window_of_one_workspace_is_not_anothers(store: Store, tenant: Tenant) -> None:
    other = await store.workspaces.create("other")
    await limits(store).reserve(tenant.workspace.id, uuid4())
    assert (await limits(store).snapshot(other.id)).calls_used == 0


async def test_a_snapshot_has_the_six_keys_of_the_contract(store: Store, tenant: Tenant) -> None:
    snapshot = await limits(store, calls=100).reserve(tenant.workspace.id, uuid4())
    assert snapshot.as_dict() == {
        "calls_used": 1,
        "calls_remaining": 99,
        "calls_limit": 100,
        "minutes_used": 0.0,
        "minutes_remaining": 100.0,
        "minutes_limit": 100,
    }
