"""The call book: one transaction per change, one ending per call, whoever changes it and however often."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from tenants import Tenant, make_tenant

from anycarrier.callbook import CallBook, OnceCallBook, SweptCallBook
from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price, TransferStatus, advance
from anycarrier.errors import UnknownCall, UnknownCredential
from anycarrier_server.domain import control_call
from anycarrier_server.store import CallFilter, NewCall, Store
from anycarrier_server.store.call_state import ENDING
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import CallTally, OutboxEvent


async def announced(store: Store) -> list[str]:
    async with store.db.read() as session:
        return list(await session.scalars(select(OutboxEvent.kind).order_by(OutboxEvent.id)))


def ended(call: Call, reason: EndReason = EndReason.USER_HANGUP) -> Call:
    return advance(call, call.model_copy(update={"status": CallStatus.ENDED, "reason": reason}), datetime.now(UTC))


def answered(call: Call) -> Call:
    return advance(call, call.model_copy(update={"status": CallStatus.ANSWERED}), datetime.now(UTC))


def test_it_is_a_call_book(store: Store) -> None:
    assert isinstance(store.callbook, CallBook)


async def test_an_opened_call_is_found_by_reference_and_by_carrier_id(store: Store, tenant: Tenant) -> None:
    call = tenant.call()
    opened = await store.callbook.open(call)
    assert opened.reference == call.reference
    assert opened.created_at is not None
    for key in (call.reference, call.id):
        found = await store.callbook.get(key)
        assert found is not None
        assert (found.id, found.agent_id, found.credential_id) == (call.id, call.agent_id, call.credential_id)
    row = await store.calls.get(tenant.workspace.id, UUID(call.reference))
    assert row is not None
    assert row.line_id == tenant.line.id
    assert row.agent_id == tenant.agent.id


async def test_opening_a_known_carrier_leg_gives_the_stored_call(store: Store, tenant: Tenant) -> None:
    first = await store.callbook.open(tenant.call(id="leg-1"))
    again = await store.callbook.open(tenant.call(id="leg-1"))
    assert again.reference == first.reference
    assert await store.calls.total(tenant.workspace.id, CallFilter()) == 1


async def test_of_many_openings_of_one_leg_one_is_new(store: Store, tenant: Tenant) -> None:
    references = await asyncio.gather(*(store.callbook.open(tenant.call(id="leg-1")) for _ in range(20)))
    assert len({call.reference for call in references}) == 1
    assert await store.calls.total(tenant.workspace.id, CallFilter()) == 1


async def test_a_call_without_a_credential_of_ours_is_refused(store: Store, tenant: Tenant) -> None:
    with pytest.raises(UnknownCredential):
        await store.callbook.open(tenant.call(credential_id=f"crd_{uuid4().hex}"))


async def test_an_agent_of_another_workspace_is_not_written_on_a_call(store: Store, tenant: Tenant) -> None:
    other = await make_tenant(store, "+12125550101", "other")
    call = await store.callbook.open(tenant.call(agent_id=other.agent.public_id))
    row = await store.calls.find(call.reference)
    assert row is not None
    assert row.agent_id is None


async def test_updating_an_unknown_call_is_an_error(store: Store) -> None:
    with pytest.raises(UnknownCall):
        await store.callbook.update("nothing", lambda c: c)


async def test_a_change_that_changes_nothing_writes_nothing(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    before = await store.calls.find(call.reference)
    await store.callbook.update(call.reference, lambda c: c)
    await store.callbook.update(call.reference, lambda c: c.model_copy())
    after = await store.calls.find(call.reference)
    assert before is not None
    assert after is not None
    assert before.updated_at == after.updated_at


async def test_a_call_from_ring_to_hang_up_is_told_once_each(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.id, answered)
    await store.callbook.update(call.reference, ended)
    await store.callbook.update(call.reference, ended)
    assert await announced(store) == ["call.started", "call.ended"]
    row = await store.calls.find(call.reference)
    assert row is not None
    assert (row.status, row.stage, row.reason) == ("ended", "completed", "user_hangup")
    kinds = [event.kind for event in await store.calls.events(row.id)]
    assert kinds == ["call.initiated", "call.answered", "call.ended"]


async def test_a_call_nobody_answered_is_told_as_failed(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call(direction=Direction.OUTBOUND))
    await store.callbook.update(call.reference, lambda c: ended(c, EndReason.BUSY))
    assert await announced(store) == ["call.failed"]


async def test_concurrent_endings_make_one_announcement(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.reference, answered)
    reasons = [EndReason.USER_HANGUP, EndReason.AGENT_HANGUP, EndReason.API_STOP] * 5
    results = await asyncio.gather(
        *(store.callbook.update(call.reference, partial(ended, reason=reason)) for reason in reasons)
    )
    assert len({result.reason for result in results}) == 1
    assert await announced(store) == ["call.started", "call.ended"]


async def test_a_reopened_call_cannot_be_announced_over_again(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.reference, ended)
    await store.callbook.update(call.reference, lambda c: c.model_copy(update={"status": CallStatus.RINGING}))
    await store.callbook.update(call.reference, ended)
    assert await announced(store) == ["call.failed"]


async def test_concurrent_changes_lose_nothing(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call(sip_code=0))
    await asyncio.gather(
        *(
            store.callbook.update(call.reference, lambda c: c.model_copy(update={"sip_code": (c.sip_code or 0) + 1}))
            for _ in range(30)
        )
    )
    found = await store.callbook.get(call.reference)
    assert found is not None
    assert found.sip_code == 30


async def test_of_one_event_told_ten_times_at_once_one_changes_the_call(store: Store, tenant: Tenant) -> None:
    assert isinstance(store.callbook, OnceCallBook)
    call = await store.callbook.open(tenant.call(sip_code=0))

    def more(call: Call) -> Call:
        return call.model_copy(update={"sip_code": (call.sip_code or 0) + 1})

    told = await asyncio.gather(*(store.callbook.update_once("e1", 60, call.reference, more) for _ in range(10)))
    assert len([one for one in told if one is not None]) == 1
    assert not await store.once.first("e1", 60), "it is the key that everybody else asks for"
    assert await store.callbook.update_once("e1", 60, call.reference, more) is None
    other = await store.callbook.update_once("e2", 60, call.reference, more)
    found = await store.callbook.get(call.reference)
    assert other is not None and found is not None
    assert (other.sip_code, found.sip_code) == (2, 2)


async def test_an_event_that_changes_nothing_is_told_once_too(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    same = [await store.callbook.update_once("e1", 60, call.reference, lambda c: c) for _ in range(2)]
    assert same == [call, None]


async def test_an_event_whose_change_fails_may_come_again(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())

    def broken(call: Call) -> Call:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.callbook.update_once("e1", 60, call.reference, broken)
    assert await store.callbook.update_once("e1", 60, call.reference, answered) is not None


async def test_a_failing_change_leaves_the_call_as_it_was(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())

    def broken(call: Call) -> Call:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await store.callbook.update(call.reference, broken)
    assert (await store.callbook.get(call.reference)) == call
    # and the lock is free
    await asyncio.wait_for(store.callbook.update(call.reference, answered), 20)


async def test_calls_in_progress_are_those_begun_and_not_over(store: Store, tenant: Tenant) -> None:
    live = await store.callbook.open(tenant.call())
    over = await store.callbook.open(tenant.call())
    await store.callbook.update(over.reference, ended)
    later = datetime.now(UTC) + timedelta(hours=1)
    await store.calls.create(
        NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, scheduled_at=later)
    )
    assert [call.reference for call in await store.callbook.in_progress()] == [live.reference]


async def test_a_blocked_call_is_not_announced(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.calls.block(UUID(call.reference))
    await store.callbook.update(call.reference, lambda c: ended(c, EndReason.REJECTED))
    assert await announced(store) == []
    assert await store.calls.total(tenant.workspace.id, CallFilter(is_blocked=True)) == 1
    assert await store.calls.total(tenant.workspace.id, CallFilter(is_blocked=False)) == 0


async def test_a_call_written_down_by_a_face_is_the_one_the_exchange_opens(store: Store, tenant: Tenant) -> None:
    row, _ = await store.calls.create(
        NewCall(line=tenant.line, to_number="+14155550178", agent_id=tenant.agent.id, variables={"name": "Sama"})
    )
    seen = tenant.call(id="", reference=row.reference, direction=Direction.OUTBOUND, status=CallStatus.QUEUED)
    opened = await store.callbook.open(seen)
    assert opened.reference == row.reference
    dialled = seen.model_copy(update={"id": "leg-9", "status": CallStatus.INITIATED})
    await store.callbook.update(row.reference, lambda c: advance(c, dialled, datetime.now(UTC)))
    by_leg = await store.calls.find("leg-9")
    assert by_leg is not None
    assert by_leg.variables == {"name": "Sama"}


async def test_a_call_keeps_its_facts_and_the_carriers_price(store: Store, tenant: Tenant) -> None:
    opened = await store.callbook.open(tenant.call().model_copy(update={"facts": {"region": "https://eu.example.com"}}))
    assert (await store.callbook.get(opened.reference)) == opened
    assert (opened.facts, opened.price) == ({"region": "https://eu.example.com"}, None)
    price = Price(amount=Decimal("0.0085"), currency="USD")
    told = opened.model_copy(update={"facts": {"region": "https://us.example.com"}, "price": price})
    await store.callbook.update(opened.reference, lambda c: advance(c, told, datetime.now(UTC)))
    known = await store.callbook.get(opened.id)
    assert known is not None and (known.facts, known.price) == ({"region": "https://us.example.com"}, price)


async def test_the_tally_agrees_with_counting_after_many_concurrent_calls(store: Store, tenant: Tenant) -> None:
    async def one(number: int) -> None:
        call = await store.callbook.open(tenant.call())
        if number % 3:
            await store.callbook.update(call.reference, answered)
        if number % 2:
            await store.callbook.update(call.reference, ended)

    await asyncio.gather(*(one(i) for i in range(30)))
    for stage, expected in (("completed", 10), ("failed", 5), ("in_progress", 10), ("initiated", 5)):
        assert await store.calls.total(tenant.workspace.id, CallFilter(stages=[stage])) == expected


async def test_folding_the_tally_keeps_its_sums(store: Store, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        call = await store.callbook.open(tenant.call())
        await store.callbook.update(call.reference, answered)
    monkeypatch.setattr("anycarrier_server.store.call_state.FOLD_ABOVE", 3)
    before = await store.calls.total(tenant.workspace.id, CallFilter(stages=["in_progress"]))
    async with store.db.read() as session:
        rows = len((await session.scalars(select(CallTally.id))).all())
    assert (before, rows) == (5, 1)
    assert await store.calls.total(tenant.workspace.id, CallFilter(stages=["in_progress"])) == 5
    assert await store.calls.total(tenant.workspace.id, CallFilter(stages=["initiated"])) == 0


async def test_an_update_waits_for_another_process_and_sees_its_change(
    store: Store, tenant: Tenant, settings: object
) -> None:
    from anycarrier_server.store.callbook import SqlCallBook

    other_db = Database(store.db.url.render_as_string(hide_password=False))
    other = SqlCallBook(other_db)
    call = await store.callbook.open(tenant.call(sip_code=0))

    def more(call: Call) -> Call:
        return call.model_copy(update={"sip_code": (call.sip_code or 0) + 1})

    await asyncio.gather(*(book.update(call.reference, more) for book in (store.callbook, other) for _ in range(10)))
    found = await store.callbook.get(call.reference)
    await other_db.close()
    assert found is not None
    assert found.sip_code == 20


async def test_an_answer_told_after_the_end_corrects_the_call_its_tally_and_the_minutes(
    store: Store, tenant: Tenant
) -> None:
    """Carriers promise no order. What subscribers were told of the end stands; the log says that it was corrected."""
    noon = datetime.now(UTC)
    call = await store.callbook.open(tenant.call(direction=Direction.OUTBOUND, status=CallStatus.INITIATED))
    await store.limits.reserve(tenant.workspace.id, UUID(call.reference))
    over = call.model_copy(
        update={"status": CallStatus.ENDED, "reason": EndReason.USER_HANGUP, "ended_at": noon + timedelta(seconds=90)}
    )
    await store.callbook.update(call.reference, lambda c: advance(c, over, noon))
    assert (await store.limits.snapshot(tenant.workspace.id)).minutes_used == 0
    late = call.model_copy(update={"status": CallStatus.ANSWERED, "answered_at": noon})
    corrected = await store.callbook.update(call.reference, lambda c: advance(c, late, noon))
    await store.callbook.update(call.reference, lambda c: advance(c, late, noon))
    assert (corrected.reason, corrected.duration) == (EndReason.USER_HANGUP, 90.0)
    row = await store.calls.find(call.reference)
    assert row is not None and (row.stage, row.reason, row.duration_seconds) == ("completed", "user_hangup", 90.0)
    assert (await store.limits.snapshot(tenant.workspace.id)).minutes_used == 1.5
    counts = [await store.calls.total(tenant.workspace.id, CallFilter(stages=[s])) for s in ("failed", "completed")]
    assert counts == [0, 1]
    assert await announced(store) == ["call.failed"]
    [correction] = [event for event in await store.calls.events(row.id) if event.kind == "call.corrected"]
    assert (correction.payload["reason"], correction.payload["duration_seconds"]) == ("user_hangup", 90.0)


async def test_a_call_whose_agent_failed_is_failed_though_it_was_answered(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.reference, answered)
    await store.callbook.update(call.reference, lambda c: ended(c, EndReason.AGENT_ERROR))
    row = await store.calls.find(call.reference)
    assert row is not None and (row.stage, row.reason) == ("failed", "agent_error")
    assert control_call.shown_outcome(row) is None
    assert await announced(store) == ["call.started", "call.failed"]


async def test_a_call_that_nobody_answered_is_not_connected(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.reference, lambda c: ended(c, EndReason.NO_ANSWER))
    row = await store.calls.find(call.reference)
    assert row is not None and control_call.shown_outcome(row) == "Not Connected"


async def test_a_transfer_is_kept_in_the_book_and_told_in_the_log(store: Store, tenant: Tenant) -> None:
    call = await store.callbook.open(tenant.call())
    await store.callbook.update(call.reference, answered)
    for transfer in (TransferStatus.REQUESTED, None, TransferStatus.REQUESTED, TransferStatus.ANSWERED):
        await store.callbook.update(call.reference, lambda c, t=transfer: c.model_copy(update={"transfer": t}))
        found = await store.callbook.get(call.reference)
        assert found is not None and found.transfer is transfer
    over = await store.callbook.update(call.reference, ended)
    assert (over.reason, over.carrier_reason) == (EndReason.TRANSFERRED, EndReason.USER_HANGUP)
    assert await store.callbook.get(call.reference) == over
    kinds = [event.kind for event in await store.calls.events(UUID(call.reference))]
    asked = "call.transfer_requested"
    assert kinds[2:] == [asked, "call.transfer_failed", asked, "call.transferred", "call.ended"]


async def test_calls_that_are_to_end_are_found_among_those_asked_about(store: Store, tenant: Tenant) -> None:
    assert isinstance(store.callbook, SweptCallBook)
    calls = [await store.callbook.open(tenant.call(id=f"leg-{number}")) for number in range(4)]
    up, asked, over, another = (call.reference for call in calls)
    wanted = {"intent": EndReason.API_STOP}
    for reference in (asked, another):
        await store.callbook.update(reference, lambda c: c.model_copy(update=wanted))
    await store.callbook.update(over, ended)
    found = await store.callbook.ending([up, asked, over, uuid4().hex])
    assert {(call.reference, call.intent, call.ended) for call in found} == {
        (asked, EndReason.API_STOP, False),
        (over, None, True),
    }
    assert await store.callbook.ending([]) == []


async def test_asking_which_calls_are_to_end_looks_at_those_rows_only(store: Store, tenant: Tenant) -> None:
    """Every process that has calls on its own sockets asks each second."""
    explain = "EXPLAIN QUERY PLAN" if store.db.sqlite else "EXPLAIN"
    compiled = ENDING.on(store.db.engine.dialect)
    ids = json.dumps([uuid4().hex] * 100)
    async with store.db.engine.connect() as connection:
        if not store.db.sqlite:
            await connection.exec_driver_sql("SET enable_seqscan = off")
        plan = (await connection.exec_driver_sql(f"{explain} {compiled.sql}", (ids,))).all()
    text = "\n".join(str(row) for row in plan)
    assert "SCAN calls" not in text and "Seq Scan on calls" not in text, text
