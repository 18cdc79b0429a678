"""The rolling day: exact when fifty ask at once, and when the window moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from tenants import Tenant, make_tenant

from anycarrier.calls import CallStatus, EndReason
from anycarrier_server.settings import Settings
from anycarrier_server.store import CallFilter, NewCall, OverLimit, Store
from anycarrier_server.store.database import Database
from anycarrier_server.store.limits import DAY, Limits, Snapshot, correct, settle

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
    now = datetime.now(UTC)
    call = tenant.call(status=CallStatus.ANSWERED, answered_at=now - timedelta(minutes=3))
    await store.callbook.open(call)
    snapshot = await limits(store).snapshot(tenant.workspace.id, at=now)
    assert snapshot.minutes_used == pytest.approx(3, abs=0.01)
    assert (await limits(store).snapshot(tenant.workspace.id)).minutes_used >= snapshot.minutes_used, "it goes on"
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


# --- at the edges ---------------------------------------------------------------------------------------------------


def snapshot_of(**fields: Any) -> Snapshot:
    return Snapshot(
        **{
            "calls_used": 0, "calls_limit": 10, "minutes_used": 0.0, "minutes_limit": 100.0, "minutes_free": 100.0,
            "reset_at": NOON, **fields,
        }
    )  # fmt: skip


def test_nothing_remains_below_zero_when_a_limit_was_lowered() -> None:
    over = snapshot_of(calls_used=12, minutes_used=120.0)
    assert (over.calls_remaining, over.minutes_remaining) == (0, 0.0)
    left_over = snapshot_of(calls_used=7, minutes_used=99.5)
    assert (left_over.calls_remaining, left_over.minutes_remaining) == (3, 0.5)


@pytest.mark.parametrize(
    ("fields", "full"),
    [
        ({}, False),
        ({"calls_used": 9}, False),
        ({"calls_used": 10}, True),
        ({"calls_used": 11}, True),
        ({"minutes_free": 0.0}, True),
        ({"minutes_free": 0.49 / 60}, True),
        ({"minutes_free": 0.5 / 60}, False),
        ({"minutes_used": 100.0}, False),  # what is used is in what is free already
    ],
)
def test_a_window_is_full_without_a_call_or_half_a_second_left(fields: dict[str, Any], full: bool) -> None:
    assert snapshot_of(**fields).full is full


def test_a_snapshot_shows_hundredths_of_minutes_and_whole_limits() -> None:
    shown = snapshot_of(calls_used=3, minutes_used=1.23456, minutes_limit=1.5).as_dict()
    assert shown == {
        "calls_used": 3, "calls_remaining": 7, "calls_limit": 10,
        "minutes_used": 1.23, "minutes_remaining": 0.27, "minutes_limit": 2,
    }  # fmt: skip


async def test_a_call_that_does_not_say_how_long_it_may_be_reserves_the_longest(store: Store, tenant: Tenant) -> None:
    of = tenant.workspace.id
    assert (await limits(store).reserve(of, uuid4())).granted == 600
    short = Limits(store.db, calls=10, minutes=100, longest=30)
    snapshot = await short.reserve(of, uuid4())
    assert (snapshot.granted, snapshot.calls_used, snapshot.minutes_free) == (30, 2, 89.5)
    assert (await short.reserve(of, uuid4(), seconds=0.25)).granted == 0.25


async def test_what_is_reserved_now_is_in_the_window_now(store: Store, tenant: Tenant) -> None:
    before = datetime.now(UTC)
    snapshot = await limits(store).reserve(tenant.workspace.id, uuid4())
    assert snapshot.reset_at - before < timedelta(seconds=60) + DAY, "with nobody before it, a day from now"
    seen = await limits(store).snapshot(tenant.workspace.id)
    assert timedelta() <= seen.reset_at - DAY - before < timedelta(seconds=60)
    assert (seen.calls_used, seen.calls_limit, seen.minutes_limit) == (1, 10, 100)


async def test_the_oldest_entry_says_when_the_window_opens_and_a_second_is_the_least(
    store: Store, tenant: Tenant
) -> None:
    two = limits(store, calls=2)
    for later in (0, 5):
        await two.reserve(tenant.workspace.id, uuid4(), at=NOON + timedelta(hours=later))
    for at, wait in ((timedelta(hours=23), 3600), (DAY - timedelta(seconds=0.25), 1)):
        with pytest.raises(OverLimit, match="2 calls in 24 hours") as refused:
            await two.reserve(tenant.workspace.id, uuid4(), at=NOON + at)
        assert refused.value.retry_after == wait
    third = await two.reserve(tenant.workspace.id, uuid4(), at=NOON + DAY)
    assert (third.calls_used, third.reset_at) == (2, NOON + timedelta(hours=5) + DAY)


async def test_each_refusal_names_the_limit_that_is_reached(store: Store, tenant: Tenant) -> None:
    one, call_id, at = limits(store, calls=3, minutes=1), uuid4(), NOON
    await one.reserve(tenant.workspace.id, call_id, seconds=60, at=at)
    with pytest.raises(OverLimit, match="reserved by calls in progress") as held:
        await one.reserve(tenant.workspace.id, uuid4(), at=at)
    assert held.value.retry_after == 10
    with pytest.raises(OverLimit, match="reserved by calls in progress") as soon:
        await one.reserve(tenant.workspace.id, uuid4(), at=at + DAY - timedelta(seconds=4))
    assert soon.value.retry_after == 4, "sooner, when the reservation leaves the window before"
    await ended(store, call_id, 59.5)
    last = await one.reserve(tenant.workspace.id, uuid4(), at=at)  # half a second is enough
    assert last.granted == 0.5
    with pytest.raises(OverLimit, match="reserved by calls in progress"):
        await one.reserve(tenant.workspace.id, uuid4(), at=at)
    with pytest.raises(OverLimit, match="2 calls in 24 hours") as refused:
        await limits(store, calls=2).reserve(tenant.workspace.id, uuid4(), at=at)
    assert refused.value.retry_after == DAY.total_seconds()


async def test_more_than_was_granted_or_the_same_is_not_less(store: Store, tenant: Tenant) -> None:
    ten, one, other = limits(store, minutes=10), uuid4(), uuid4()
    await ten.reserve(tenant.workspace.id, one, seconds=60)
    await ten.reserve(tenant.workspace.id, other, seconds=60)
    for had, needs in ((60, 60), (60, 90), (50, 10)):
        await ten.needs_less(one, had=had, needs=needs)
    await ten.needs_less(uuid4(), had=60, needs=1)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 8
    await ended(store, other, 30)
    await ten.needs_less(other, had=60, needs=1)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 8.5
    await ten.needs_less(one, had=60, needs=30)
    await ended(store, one, 0)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_free == 9.5


async def test_a_time_below_zero_is_none_and_what_was_never_counted_is_ignored(store: Store, tenant: Tenant) -> None:
    ten, call_id = limits(store, minutes=10), uuid4()
    await ten.reserve(tenant.workspace.id, call_id, seconds=60)
    await ended(store, uuid4(), 300)
    await ended(store, call_id, -5)
    snapshot = await ten.snapshot(tenant.workspace.id)
    assert (snapshot.calls_used, snapshot.minutes_used, snapshot.minutes_free) == (1, 0, 10)


async def test_a_corrected_time_takes_the_place_of_the_first_one(store: Store, tenant: Tenant) -> None:
    ten, call_id, open_ = limits(store, minutes=10), uuid4(), uuid4()
    await ten.reserve(tenant.workspace.id, open_, seconds=60)
    await ten.reserve(tenant.workspace.id, call_id, seconds=60)
    await ended(store, call_id, 60)
    for one, seconds in ((call_id, 30.0), (call_id, 45.0), (open_, 500.0), (uuid4(), 500.0)):
        await store.db.transact(lambda tx, one=one, seconds=seconds: correct(tx, one, seconds))  # type: ignore[misc]
    snapshot = await ten.snapshot(tenant.workspace.id)
    assert (snapshot.minutes_used, snapshot.minutes_free, snapshot.calls_used) == (0.75, 8.25, 2)
    await ten.release(call_id)
    assert (await ten.snapshot(tenant.workspace.id)).minutes_used == 0


async def test_only_calls_that_were_answered_here_and_are_not_over_are_talking(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    now = datetime.now(UTC)
    for of, seconds in ((tenant, 60), (tenant, 120), (other, 600)):
        await store.callbook.open(
            of.call(status=CallStatus.ANSWERED, answered_at=now - timedelta(seconds=seconds))
        )
    await store.callbook.open(tenant.call(status=CallStatus.RINGING))
    over = {"status": CallStatus.ENDED, "answered_at": now - timedelta(hours=1), "ended_at": now}
    await store.callbook.open(tenant.call(**over))
    ours = await limits(store).snapshot(tenant.workspace.id, at=now)
    assert ours.minutes_used == pytest.approx(3, abs=0.01)
    assert (await limits(store).snapshot(other.workspace.id, at=now)).minutes_used == pytest.approx(10, abs=0.01)
    before_any = await limits(store).snapshot(tenant.workspace.id, at=now - timedelta(days=1))
    assert before_any.minutes_used == 0, "never less than nothing"


async def test_a_call_that_talks_longer_than_it_reserved_holds_what_it_talks(store: Store, tenant: Tenant) -> None:
    now, of = datetime.now(UTC), tenant.workspace.id
    call = tenant.call(status=CallStatus.ANSWERED, answered_at=now - timedelta(seconds=120))
    await limits(store).reserve(of, UUID(call.reference), seconds=60)
    await store.callbook.open(call)
    snapshot = await limits(store).snapshot(of, at=now)
    assert snapshot.minutes_free == pytest.approx(98, abs=0.01)
    await limits(store).reserve(of, uuid4(), seconds=240)  # more is reserved than talked: that is what is held
    assert (await limits(store).snapshot(of, at=now)).minutes_free == pytest.approx(95, abs=0.01)


async def test_placing_is_refused_without_a_trace_and_counts_what_it_lets_in(store: Store, tenant: Tenant) -> None:
    tight = Store(store.db, store.sealer, Settings(minutes_per_day=0.2, calls_per_day=2), root=b"r" * 32)

    def new(limit: float | None) -> NewCall:
        return NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, time_limit=limit)

    first, _, seen = await tight.placing.place(new(5))
    second, _, after = await tight.placing.place(new(60))
    assert (first.time_limit, second.time_limit) == (5, 7)
    assert seen is not None and after is not None
    assert (seen.calls_used, after.calls_used) == (1, 2)
    with pytest.raises(OverLimit, match="2 calls"):
        await tight.placing.place(new(5))
    assert await tight.calls.total(tenant.workspace.id, CallFilter()) == 2
    await tight.limits.release(first.id)
    third, _, _ = await tight.placing.place(new(None))
    assert third.time_limit == 5, "what was given back, and no more"
    with pytest.raises(OverLimit, match="2 calls"):
        await tight.placing.place(new(5))


@pytest.mark.parametrize("db", ["postgresql"], indirect=True)  # SQLite lets one write at a time: no row versions
async def test_what_is_foreseen_is_what_admission_says_and_holds_until_somebody_else_is_let_in(
    store: Store, tenant: Tenant
) -> None:
    ten, of = limits(store, minutes=10), tenant.workspace.id
    assert await ten.foresee(of, uuid4(), 60) is None, "of a workspace that never called nothing is known"
    await ten.reserve(of, uuid4(), seconds=60)
    mine, rival = uuid4(), uuid4()
    foreseen = await ten.foresee(of, mine, 120)
    beaten = await ten.foresee(of, rival, 30)
    assert foreseen is not None and beaten is not None
    snapshot, acts = foreseen
    assert (snapshot.calls_used, snapshot.granted, snapshot.minutes_free) == (2, 120, 7)
    assert acts[0][1]["version"] and acts[1][1]["call_id"] == mine and acts[1][1]["workspace_id"] == of

    async def write(acts: Any) -> bool:
        async def work(tx: Any) -> bool:
            if await tx.value(acts[0][0], **acts[0][1]) is None:
                return False
            await tx.run_joined(*acts[1:])
            return True

        return await store.db.transact(work)

    assert await write(acts)
    assert not await write(beaten[1])
    now = await ten.snapshot(of)
    assert (now.calls_used, now.minutes_free) == (2, 7)
    assert (await ten.reserve(of, mine, seconds=600)).granted == 120
    full = Limits(store.db, calls=2, minutes=10)
    with pytest.raises(OverLimit, match="2 calls"):
        await full.foresee(of, uuid4(), 60)
    assert await ten.foresee((await store.workspaces.create("other")).id, uuid4(), 60) is None
