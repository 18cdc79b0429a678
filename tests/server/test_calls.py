"""Calls as the faces see them: idempotent creation, pages, filters, notes, scheduled dials, orphans."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update
from tenants import Tenant, make_tenant

from anycarrier.calls import CallStatus
from anycarrier_server.refusals import BadCursor, IdempotencyConflict
from anycarrier_server.store import CallFilter, NewCall, Store, calls
from anycarrier_server.store.claims import ALIVE_SECONDS, Claims
from anycarrier_server.store.models import CallRow

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def new(tenant: Tenant, **fields: Any) -> NewCall:
    return NewCall(**{"line": tenant.line, "to_number": "+14155550178", "agent_id": tenant.agent.id, **fields})


async def test_what_a_call_was_created_with_can_be_read_back(store: Store, tenant: Tenant) -> None:
    row, fresh = await store.calls.create(
        new(tenant, variables={"name": "Sama"}, metadata={"crm": 7}, overrides={"tts": {"speed": 1.1}})
    )
    assert fresh
    again = await store.calls.get(tenant.workspace.id, row.id)
    assert again is not None
    assert (again.variables, again.details, again.overrides) == ({"name": "Sama"}, {"crm": 7}, {"tts": {"speed": 1.1}})
    assert (again.status, again.stage, again.from_number) == ("initiated", "initiated", tenant.line.number)
    assert again.public_id == f"call_{row.id.hex}"
    assert again.created_at.tzinfo is UTC


async def test_a_foreign_call_is_not_there_but_exists(store: Store, tenant: Tenant) -> None:
    row, _ = await store.calls.create(new(tenant))
    other = await store.workspaces.create("other")
    assert await store.calls.get(other.id, row.id) is None
    assert await store.calls.exists(row.id)
    assert not await store.calls.exists(uuid4())


async def test_the_same_key_and_body_give_the_first_call_however_many_ask(store: Store, tenant: Tenant) -> None:
    results = await asyncio.gather(
        *(store.calls.create(new(tenant, idempotency_key="k", body_hash="h")) for _ in range(20))
    )
    assert len({row.id for row, _ in results}) == 1
    assert sum(fresh for _, fresh in results) == 1
    assert await store.calls.total(tenant.workspace.id, CallFilter()) == 1


async def test_the_same_key_with_another_body_is_refused(store: Store, tenant: Tenant) -> None:
    await store.calls.create(new(tenant, idempotency_key="k", body_hash="h"))
    with pytest.raises(IdempotencyConflict):
        await store.calls.create(new(tenant, idempotency_key="k", body_hash="other"))


async def test_a_key_is_free_again_after_a_day_and_in_another_workspace(store: Store, tenant: Tenant) -> None:
    first, _ = await store.calls.create(new(tenant, idempotency_key="k", body_hash="h"))
    other = await make_tenant(store, "+12125550101", "other")
    assert (await store.calls.create(new(other, idempotency_key="k", body_hash="x")))[1]
    async with store.db.write() as session:
        long_ago = first.created_at - timedelta(hours=25)
        await session.execute(update(CallRow).where(CallRow.id == first.id).values(created_at=long_ago))
    row, fresh = await store.calls.create(new(tenant, idempotency_key="k", body_hash="x"))
    assert fresh
    assert row.id != first.id


async def test_pages_by_cursor_show_every_call_once_even_when_times_are_equal(store: Store, tenant: Tenant) -> None:
    made = [(await store.calls.create(new(tenant)))[0].id for _ in range(25)]
    async with store.db.write() as session:
        await session.execute(update(CallRow).values(created_at=NOON))
    seen: list[UUID] = []
    cursor = None
    while True:
        page = await store.calls.page(tenant.workspace.id, CallFilter(), limit=10, cursor=cursor)
        seen += [row.id for row in page.items]
        if not page.has_more:
            break
        cursor = page.next_cursor
    assert sorted(seen, key=str) == sorted(made, key=str)
    assert len(seen) == 25


async def test_pages_by_offset_are_newest_first(store: Store, tenant: Tenant) -> None:
    made = [(await store.calls.create(new(tenant)))[0].id for _ in range(5)]
    page = await store.calls.page(tenant.workspace.id, CallFilter(), limit=2, offset=1)
    assert [row.id for row in page.items] == [made[3], made[2]]
    assert page.has_more


@pytest.mark.parametrize("cursor", ["", "x", "====", "AAAA", "日本", "A" * 32 + "!", "f" * 32])
async def test_a_cursor_of_somebody_elses_making_is_refused(store: Store, tenant: Tenant, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await store.calls.page(tenant.workspace.id, CallFilter(), cursor=cursor)


async def test_filters_choose_and_count_the_same_calls(store: Store, tenant: Tenant) -> None:
    other_agent = await store.agents.create(tenant.workspace.id, name="Ben")
    await store.calls.create(new(tenant))
    await store.calls.create(new(tenant, agent_id=other_agent.id, to_number="+14155550179"))
    await store.callbook.open(tenant.call(status=CallStatus.ANSWERED, answered_at=NOON))
    for which, expected in (
        (CallFilter(), 3),
        (CallFilter(agent_id=other_agent.id), 1),
        (CallFilter(stages=["in_progress"]), 1),
        (CallFilter(direction="inbound"), 1),
        (CallFilter(to_number="+14155550179"), 1),
        (CallFilter(line_id=tenant.line.id), 3),
        (CallFilter(created_before=NOON - timedelta(days=9999)), 0),
        (CallFilter(is_blocked=True), 0),
    ):
        page = await store.calls.page(tenant.workspace.id, which)
        assert (len(page.items), await store.calls.total(tenant.workspace.id, which)) == (expected, expected), which


async def test_notes_are_set_and_the_course_is_not_to_be_touched(store: Store, tenant: Tenant) -> None:
    row, _ = await store.calls.create(new(tenant))
    noted = await store.calls.note(row.id, outcome="Interested", use_tts=False, details={"a": 1})
    assert noted is not None
    assert (noted.outcome, noted.use_tts, noted.details) == ("Interested", False, {"a": 1})
    assert await store.calls.note(uuid4(), outcome="x") is None
    with pytest.raises(ValueError, match="status"):
        await store.calls.note(row.id, status="ended")


async def test_a_due_call_is_given_to_one_process_and_never_again(store: Store, tenant: Tenant) -> None:
    due = [(await store.calls.create(new(tenant, scheduled_at=NOON)))[0].id for _ in range(10)]
    later, _ = await store.calls.create(new(tenant, scheduled_at=NOON + timedelta(hours=1)))
    claimed = await asyncio.gather(
        *(store.calls.claim_due(f"process-{i}", at=NOON + timedelta(seconds=1), limit=3) for i in range(8))
    )
    ids = [row.id for rows in claimed for row in rows]
    assert len(ids) == len(set(ids))
    ids += [row.id for row in await store.calls.claim_due("last", at=NOON + timedelta(minutes=1), limit=50)]
    assert sorted(ids, key=str) == sorted(due, key=str)
    assert later.id not in ids


async def test_a_call_whose_process_died_is_an_orphan_and_others_are_not(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.calls.create(new(tenant, scheduled_at=NOON + timedelta(days=9999)))
    now = datetime.now(UTC) + timedelta(seconds=ALIVE_SECONDS + 1)
    await store.claims.alive(at=now)
    assert await store.claims.orphans(at=now) == []
    later = now + timedelta(seconds=ALIVE_SECONDS + 1)
    other = Claims(store.db, "another process")
    await other.alive(at=later)
    assert [row.reference for row in await other.orphans(at=later)] == [call.reference]


async def test_of_many_asking_at_once_one_gets_the_claim(store: Store) -> None:
    claims = [Claims(store.db, f"p{i}") for i in range(10)]
    got = await asyncio.gather(*(one.take("job", 60, at=NOON) for one in claims))
    assert sum(got) == 1
    winner = claims[got.index(True)]
    assert await winner.take("job", 60, at=NOON + timedelta(seconds=30))
    other = claims[got.index(False)]
    assert not await other.take("job", 60, at=NOON + timedelta(seconds=80))
    assert await other.take("job", 60, at=NOON + timedelta(seconds=91))
    await winner.drop("job")
    assert not await winner.take("job", 60, at=NOON + timedelta(seconds=92))


async def test_once_is_once_over_all_who_ask(store: Store) -> None:
    from anycarrier.callbook import OnceStore
    from anycarrier_server.store.claims import SqlOnce

    stores = [SqlOnce(store.db) for _ in range(4)]
    assert isinstance(stores[0], OnceStore)
    got = await asyncio.gather(*(stores[i % 4].first("ticket:x", 60) for i in range(40)))
    assert sum(got) == 1


async def test_once_again_after_its_time_and_after_being_forgotten(store: Store) -> None:
    assert await store.once.first("k", 60, at=NOON)
    assert not await store.once.first("k", 60, at=NOON + timedelta(seconds=59))
    assert await store.once.first("k", 60, at=NOON + timedelta(seconds=60))
    await store.once.forget("k")
    assert await store.once.first("k", 60, at=NOON + timedelta(seconds=61))


async def test_a_call_is_found_by_how_its_id_begins_in_its_own_workspace_only(store: Store, tenant: Tenant) -> None:
    twin, other = UUID("5c0ba9e9" + "0" * 24), UUID("5c0ba9e9" + "f" * 24)
    for id_ in (twin, other, UUID("5c0ba9ea" + "0" * 24)):
        await store.calls.create(new(tenant, id=id_))

    async def found(prefix: str, workspace: UUID = tenant.workspace.id) -> set[UUID]:
        return {row.id for row in (await store.calls.page(workspace, CallFilter(id_prefix=prefix))).items}

    assert await found("5c0ba9e9") == {twin, other}
    assert await found("5c0ba9e9f") == {other}
    assert await found("5c0ba9e8") == set()
    assert await found("5c0ba9e9", (await store.workspaces.create("other")).id) == set()
    assert await store.calls.total(tenant.workspace.id, CallFilter(id_prefix="5c0ba9e9")) == 2


async def test_recorded_calls_are_those_whose_recording_is_whole(store: Store, tenant: Tenant) -> None:
    rows = [(await store.calls.create(new(tenant)))[0] for _ in range(3)]
    for row in rows[:2]:
        recording = await store.recordings.begin(tenant.workspace.id, row.id, f"{row.id}.wav", format="wav")
    await store.recordings.finish(recording.id, duration=1.0, size=10)

    async def found(recorded: bool) -> set[UUID]:
        page = await store.calls.page(tenant.workspace.id, CallFilter(recorded=recorded))
        return {row.id for row in page.items}

    assert await found(True) == {rows[1].id}
    assert await found(False) == {rows[0].id, rows[2].id}
    assert await store.calls.total(tenant.workspace.id, CallFilter(recorded=True)) == 1


async def test_calls_are_seen_by_their_workspace_and_their_agent_only(store: Store, tenant: Tenant) -> None:
    row, _ = await store.calls.create(new(tenant))
    other = await store.workspaces.create("other")
    another = await store.agents.create(tenant.workspace.id, name="Ben")
    assert await store.calls.seen(tenant.workspace.id, [row.id, uuid4()], agent_id=None) == 1
    assert await store.calls.seen(tenant.workspace.id, [row.id], agent_id=tenant.agent.id) == 1
    assert await store.calls.seen(tenant.workspace.id, [row.id], agent_id=another.id) == 0
    assert await store.calls.seen(other.id, [row.id], agent_id=None) == 0


async def test_each_filter_chooses_by_itself_and_its_ends_are_as_stated(store: Store, tenant: Tenant) -> None:
    second = await store.lines.create(tenant.credential, "+12125550111", agent_id=tenant.agent.id)
    first, _ = await store.calls.create(new(tenant))
    other, _ = await store.calls.create(new(tenant, line=second, to_number="+14155550179"))
    for row, at in ((first, NOON), (other, NOON + timedelta(hours=1))):
        async with store.db.write() as session:
            await session.execute(update(CallRow).where(CallRow.id == row.id).values(created_at=at))
    incoming = await store.callbook.open(tenant.call())
    blocked = await store.calls.find(incoming.reference)
    assert blocked is not None
    await store.calls.block(blocked.id)
    for which, expected in (
        (CallFilter(line_id=second.id), {other.id}),
        (CallFilter(from_number=second.number), {other.id}),
        (CallFilter(to_number="+14155550178"), {first.id}),
        (CallFilter(direction="outbound"), {first.id, other.id}),
        (CallFilter(stages=["ringing", "initiated"]), {first.id, other.id, blocked.id}),
        (CallFilter(stages=["completed"]), set()),
        (CallFilter(is_blocked=True), {blocked.id}),
        (CallFilter(is_blocked=False), {first.id, other.id}),
        (CallFilter(created_from=NOON, created_before=NOON + timedelta(hours=1)), {first.id}),
        (CallFilter(created_from=NOON + timedelta(seconds=1), created_before=NOON + timedelta(hours=2)), {other.id}),
        (CallFilter(id_prefix=first.id.hex), {first.id}),
        (CallFilter(recorded=True), set()),
        (CallFilter(recorded=False, line_id=second.id), {other.id}),
    ):
        page = await store.calls.page(tenant.workspace.id, which)
        assert {row.id for row in page.items} == expected, which
        assert await store.calls.total(tenant.workspace.id, which) == len(expected), which


async def test_a_page_that_is_full_to_the_last_call_is_the_last_one(store: Store, tenant: Tenant) -> None:
    made = [(await store.calls.create(new(tenant)))[0].id for _ in range(4)]
    page = await store.calls.page(tenant.workspace.id, CallFilter(), limit=4)
    assert [row.id for row in page.items] == made[::-1] and not page.has_more and page.next_cursor is None
    first = await store.calls.page(tenant.workspace.id, CallFilter(), limit=2)
    assert first.has_more and first.next_cursor
    second = await store.calls.page(tenant.workspace.id, CallFilter(), limit=2, cursor=first.next_cursor)
    assert [row.id for row in second.items] == made[1::-1] and not second.has_more
    for _ in range(48):
        await store.calls.create(new(tenant))
    assert len((await store.calls.page(tenant.workspace.id, CallFilter())).items) == 50


async def test_a_call_is_found_by_reference_and_by_the_carriers_id(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call(id="leg-77"))
    other = await store.callbook.open(tenant.call(id="leg-78"))
    for key in (call.reference, UUID(call.reference), f"call_{call.reference}", "leg-77"):
        found = await store.calls.find(key)
        assert found is not None and found.reference == call.reference, key
    assert await store.calls.find("leg-79") is None and await store.calls.find(uuid4()) is None
    assert await store.calls.get(tenant.workspace.id, None) is None and not await store.calls.exists(None)
    assert other.reference != call.reference


async def test_a_call_is_made_by_this_process_and_with_all_that_was_said_of_it(store: Store, tenant: Tenant) -> None:
    at = NOON + timedelta(days=9999)
    said = {
        "options": {"timeout": 20}, "webhook_url": "https://a.example/", "websocket_url": "wss://b.example/",
        "time_limit": 60.0, "scheduled_at": at, "idempotency_key": "k", "body_hash": "h",
    }  # fmt: skip
    made, _ = await store.calls.create(new(tenant, **said))
    row = await store.calls.get(tenant.workspace.id, made.id)
    assert row is not None
    assert {name: getattr(row, name) for name in said} == said
    assert (row.status, row.stage, row.direction, row.owner) == ("queued", "queued", "outbound", store.owner)
    assert (row.line_id, row.credential_id, row.provider) == (tenant.line.id, tenant.credential.id, "acme")
    assert (row.agent_id, row.to_number, row.is_blocked) == (tenant.agent.id, "+14155550178", False)
    assert [event.kind for event in await store.calls.events(row.id)] == ["call.created"]


async def test_notes_are_of_that_call_and_say_when(store: Store, tenant: Tenant) -> None:
    row, _ = await store.calls.create(new(tenant, metadata={"a": 0}))
    other, _ = await store.calls.create(new(tenant, metadata={"a": 0}))
    noted = await store.calls.note(row.id, details={"a": 1}, summary="short")
    assert noted is not None and noted.updated_at > row.updated_at
    again = await store.calls.get(tenant.workspace.id, row.id)
    assert again is not None and (again.details, again.summary) == ({"a": 1}, "short")
    untouched = await store.calls.get(tenant.workspace.id, other.id)
    assert untouched is not None and (untouched.details, untouched.summary) == ({"a": 0}, None)
    with pytest.raises(ValueError, match="not notes of a call: owner, status"):
        await store.calls.note(row.id, status="ended", owner="me", summary="x")


async def test_a_blocked_call_is_counted_as_such_once_and_no_agents_key_sees_it(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    id_, before = UUID(call.reference), await store.calls.find(call.reference)
    assert before is not None
    for _ in range(2):
        await store.calls.block(id_)
    await store.calls.block(uuid4())
    row = await store.calls.find(id_)
    assert row is not None and row.is_blocked and row.updated_at > before.updated_at
    total = store.calls.total
    assert await total(tenant.workspace.id, CallFilter(is_blocked=True)) == 1
    assert await total(tenant.workspace.id, CallFilter(is_blocked=False)) == 0
    assert await store.calls.seen(tenant.workspace.id, [id_], agent_id=None) == 1
    assert await store.calls.seen(tenant.workspace.id, [id_], agent_id=tenant.agent.id) == 0


async def test_a_calls_log_is_its_own_in_order_and_by_kind(
    store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, _ = await store.calls.create(new(tenant))
    other, _ = await store.calls.create(new(tenant))
    for minute in (2, 1, 3):
        store.writer.event(row.id, "note", {"n": minute}, workspace_id=tenant.workspace.id)
    store.writer.event(other.id, "note", {"n": 9}, workspace_id=tenant.workspace.id)
    await store.writer.flush()
    log = await store.calls.events(row.id)
    assert sorted(event.kind for event in log) == ["call.created", "note", "note", "note"]
    assert [event.at for event in log] == sorted(event.at for event in log)
    assert [event.payload["n"] for event in await store.calls.events(row.id, kind="note")] == [2, 1, 3]
    monkeypatch.setattr(calls, "EVENTS", 2)
    assert len(await store.calls.events(row.id)) == 2


async def test_due_calls_are_claimed_the_longest_due_first_and_by_their_claimer(store: Store, tenant: Tenant) -> None:
    late, _ = await store.calls.create(new(tenant, scheduled_at=NOON))
    early, _ = await store.calls.create(new(tenant, scheduled_at=NOON - timedelta(hours=1)))
    over, _ = await store.calls.create(new(tenant, scheduled_at=NOON - timedelta(hours=2)))
    async with store.db.write() as session:
        await session.execute(update(CallRow).where(CallRow.id == over.id).values(status="ended"))
    await store.calls.create(new(tenant))  # never scheduled
    assert await store.calls.claim_due("p1", at=NOON - timedelta(hours=1, seconds=1)) == []
    (first,) = await store.calls.claim_due("p1", at=NOON, limit=1)
    assert (first.id, first.owner, first.dial_claimed_at) == (early.id, "p1", NOON)
    (second,) = await store.calls.claim_due("p2", at=NOON)
    assert (second.id, second.owner) == (late.id, "p2")
    assert await store.calls.claim_due("p3") == []
    many = [(await store.calls.create(new(tenant, scheduled_at=NOON)))[0].id for _ in range(11)]
    assert len(await store.calls.claim_due("p3")) == 10
    assert len(await store.calls.claim_due("p3")) == 1 and many
