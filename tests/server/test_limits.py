"""The rolling day: exact when fifty ask at once, and when the window moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from tenants import Tenant

from linecard.calls import CallStatus, EndReason
from linecard.server.refusals import OverLimit
from linecard.server.settings import Settings
from linecard.server.store import NewCall, Store
from linecard.server.store.database import Database
from linecard.server.store.limits import DAY, Limits, settle

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


async def test_calls_and_their_minutes_leave_the_window_after_a_day(store: Store, tenant: Tenant) -> None:
    two = limits(store, calls=2, minutes=30)
    early, late = uuid4(), uuid4()
    await two.reserve(tenant.workspace.id, early, at=NOON)
    await two.reserve(tenant.workspace.id, late, at=NOON + timedelta(hours=1))
    await ended(store, early, 120)
    await ended(store, late, 300)
    assert (await two.snapshot(tenant.workspace.id, at=NOON + timedelta(hours=23))).minutes_used == 7
    snapshot = await two.reserve(tenant.workspace.id, uuid4(), at=NOON + DAY)
    assert (snapshot.calls_used, snapshot.minutes_used, snapshot.minutes_free) == (2, 5, 15)
    with pytest.raises(OverLimit):
        await two.reserve(tenant.workspace.id, uuid4(), at=NOON + DAY)
    empty = await two.snapshot(tenant.workspace.id, at=NOON + 3 * DAY)
    assert (empty.calls_used, empty.minutes_used, empty.minutes_free) == (0, 0, 30)  # what never ended too


async def test_what_ends_after_it_has_left_the_window_changes_nothing_in_it(store: Store, tenant: Tenant) -> None:
    two, slow, quick = limits(store), uuid4(), uuid4()
    await two.reserve(tenant.workspace.id, slow, at=NOON)
    await two.reserve(tenant.workspace.id, quick, at=NOON + DAY)  # with it, what is older is taken off the sums
    await ended(store, slow, 600)
    snapshot = await two.snapshot(tenant.workspace.id, at=NOON + DAY)
    assert (snapshot.calls_used, snapshot.minutes_used, snapshot.minutes_free) == (1, 0, 90)


# --- minutes are reserved -------------------------------------------------------------------------------------------


async def ended(store: Store, call_id: UUID, seconds: float) -> None:
    """The call has ended after so long."""
    await store.db.transact(lambda tx: settle(tx, call_id, seconds))


async def test_calls_at_once_reserve_no_more_than_there_is_in_two_processes(store: Store, tenant: Tenant) -> None:
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    here, there = Limits(store.db, calls=100, minutes=0.2), Limits(other_db, calls=100, minutes=0.2)
    asked = [
        (here if i % 2 else there).reserve(tenant.workspace.id, uuid4(), seconds=5) for i in range(25)
    ]
    results = await asyncio.gather(*asked, return_exceptions=True)
    await other_db.close()
    granted = sorted(one.granted for one in results if not isinstance(one, BaseException))
    assert granted == [2, 5, 5]  # of 12 seconds
    refused = [one for one in results if isinstance(one, OverLimit)]
    assert len(refused) == 22
    assert all("reserved by calls in progress" in str(one) and one.retry_after == 10 for one in refused)


async def test_placing_cuts_a_calls_time_to_what_it_reserved_in_two_processes(store: Store, tenant: Tenant) -> None:
    other_db = Database(store.db.url.render_as_string(hide_password=False))
    there = Store(other_db, store.sealer, Settings(minutes_per_day=0.2), root=b"r" * 32)
    here = Store(store.db, store.sealer, Settings(minutes_per_day=0.2), root=b"r" * 32)

    def new() -> NewCall:
        return NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, time_limit=600)

    results = await asyncio.gather(
        *((here if i % 2 else there).placing.place(new()) for i in range(25)), return_exceptions=True
    )
    await other_db.close()
    placed = [one[0] for one in results if not isinstance(one, BaseException)]
    assert [row.time_limit for row in placed] == [12]
    kept = await here.callbook.get(placed[0].reference)
    assert kept is not None and kept.time_limit == 12
    over = {"status": CallStatus.ENDED, "reason": EndReason.NO_ANSWER, "ended_at": datetime.now(UTC)}
    await here.callbook.update(kept.reference, lambda c: c.model_copy(update=over))
    row, _, _ = await here.placing.place(new())  # nobody answered: all of it is free again
    assert row.time_limit == 12


async def test_what_a_call_did_not_use_is_free_when_it_ends_and_only_once(store: Store, tenant: Tenant) -> None:
    ten, call_id = limits(store, minutes=10), uuid4()
    first = await ten.reserve(tenant.workspace.id, call_id, seconds=240)
    assert (first.granted, first.minutes_used, first.minutes_free) == (240, 0, 6)
    assert (await ten.reserve(tenant.workspace.id, call_id, seconds=600)).granted == 240  # the same call, asked again
    await ended(store, call_id, 60)
    await ended(store, call_id, 60)
    after = await ten.snapshot(tenant.workspace.id)
    assert (after.minutes_used, after.minutes_free) == (1, 9)


async def test_who_needs_less_frees_the_rest_and_a_call_never_made_all_of_it(store: Store, tenant: Tenant) -> None:
    ten, call_id = limits(store, minutes=10), uuid4()
    await ten.reserve(tenant.workspace.id, call_id, seconds=600)
    assert (await ten.snapshot(tenant.workspace.id)).full
    await ten.needs_less(call_id, had=600, needs=60)
    await ten.needs_less(call_id, had=600, needs=60)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 9
    await ten.release(call_id)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 10
    other = uuid4()
    await ten.reserve(tenant.workspace.id, other, seconds=300)
    await ended(store, other, 120)
    await ten.release(other)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 10


async def test_nobody_is_rung_for_less_than_half_a_second(store: Store, tenant: Tenant) -> None:
    one, call_id = limits(store, minutes=1), uuid4()
    await one.reserve(tenant.workspace.id, call_id, seconds=60)
    await ended(store, call_id, 59.6)
    with pytest.raises(OverLimit, match="1 minutes in 24 hours"):
        await one.reserve(tenant.workspace.id, uuid4())


# --- who is counted -------------------------------------------------------------------------------------------------


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
    assert snapshot.minutes_free == pytest.approx(100 - snapshot.minutes_used)  # it is from before reservations


async def test_the_window_of_one_workspace_is_not_anothers(store: Store, tenant: Tenant) -> None:
    other = await store.workspaces.create("other")
    await limits(store).reserve(tenant.workspace.id, uuid4())
    untouched = await limits(store).snapshot(other.id)
    assert (untouched.calls_used, untouched.minutes_free) == (0, 100)


async def test_a_snapshot_has_the_six_keys_of_the_contract(store: Store, tenant: Tenant) -> None:
    snapshot = await limits(store, calls=100).reserve(tenant.workspace.id, uuid4())
    assert snapshot.as_dict() == {
        "calls_used": 1,
        "calls_remaining": 99,
        "calls_limit": 100,
        "minutes_used": 0.0,  # reserved is not used yet
        "minutes_remaining": 100.0,
        "minutes_limit": 100,
    }
