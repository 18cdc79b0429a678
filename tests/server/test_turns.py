"""Turns: of the database's one writer by workspace, and of requests by whom they are for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select

from anycarrier.incoming import WebhookHandler
from anycarrier_server import fair_scheduling
from anycarrier_server.fair_scheduling import WORKSPACE, FairLock, FairQueue, RequestSlots, YieldingCredentials
from anycarrier_server.service import Service
from anycarrier_server.store import migrations
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Once
from anycarrier_server.store.statements import Statement, Transaction, table_of

ONCE = table_of(Once)
WRITE = Statement(insert(ONCE), columns=["key", "expires_at"])
ALL = Statement(select(ONCE.c.key).order_by(ONCE.c.key))
A, B, C = uuid4(), uuid4(), uuid4()


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn ends because it is given away or over, and not because the machine was slow."""
    monkeypatch.setattr(fair_scheduling, "TURN", 600)


def working_for(workspace: UUID | None, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    context = copy_context()
    context.run(WORKSPACE.set, workspace)
    return asyncio.get_running_loop().create_task(work, context=context)


def put(queue: FairQueue[str], workspace: UUID | None, *items: str) -> None:
    context = copy_context()
    context.run(WORKSPACE.set, workspace)
    for item in items:
        context.run(queue.put, item)


def drained(queue: FairQueue[str]) -> list[str]:
    found = []
    while (item := queue.get()) is not None:
        found.append(item)
    return found


# --- who is next ----------------------------------------------------------------------------------------------------


def test_workspaces_take_turns_and_each_ones_own_come_in_order() -> None:
    queue: FairQueue[str] = FairQueue()
    assert not queue and queue.get() is None
    put(queue, A, "a1", "a2", "a3")
    put(queue, B, "b1", "b2")
    put(queue, None, "n1")
    assert queue
    assert drained(queue) == ["a1", "b1", "n1", "a2", "b2", "a3"]
    assert not queue


def test_who_comes_back_stands_behind_the_others() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, A, "a1")
    put(queue, B, "b1", "b2")
    assert queue.get() == "a1"
    put(queue, A, "a2")
    assert drained(queue) == ["b1", "a2", "b2"]


def test_what_is_dropped_is_not_handed_out_and_what_is_gone_cannot_be_dropped() -> None:
    queue: FairQueue[str] = FairQueue()
    put(queue, A, "a1", "a2")
    put(queue, B, "b1")
    assert queue.drop("a1") and queue.drop("b1") and not queue.drop("b1")
    assert drained(queue) == ["a2"]
    assert not queue.drop("a2")


# --- the lock -------------------------------------------------------------------------------------------------------


async def test_a_workspace_with_many_waiting_delays_another_by_one() -> None:
    turns, order = FairLock(), []

    async def use(name: str) -> None:
        async with turns:
            order.append(name)
            await asyncio.sleep(0)

    async with turns:
        tasks = [working_for(A, use(f"a{number}")) for number in range(10)]
        await asyncio.sleep(0)
        tasks += [working_for(B, use("b")), working_for(C, use("c"))]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order[:4] == ["a0", "b", "c", "a1"] and len(order) == 12


async def test_who_gives_up_waiting_takes_no_turn_and_keeps_none() -> None:
    turns, got = FairLock(), []

    async def use(name: str) -> None:
        async with turns:
            got.append(name)

    async with asyncio.timeout(30):
        async with turns:
            early, late, last = (working_for(of, use(of.hex)) for of in (A, B, C))
            await asyncio.sleep(0)
            early.cancel()
            await asyncio.sleep(0)
        late.cancel()  # its turn has come in this moment
        await asyncio.gather(early, late, last, return_exceptions=True)
        async with turns:
            got.append("free again")
    assert got == [C.hex, "free again"]


# --- transactions ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def sqlite(tmp_path: Path) -> Any:
    db = Database(f"sqlite:///{tmp_path / 'turns.db'}")
    await migrations.upgrade(db)
    yield db
    await db.close()


async def write(db: Database, key: str, order: list[str] | None = None) -> None:
    async def work(tx: Transaction) -> None:
        await tx.run(WRITE, key=key, expires_at=utc_now())

    await db.transact(work)
    if order is not None:
        order.append(key)


async def test_changes_are_made_by_workspace_in_turn_and_sessions_wait_for_some_of_them_only(sqlite: Database) -> None:
    order: list[str] = []

    async def session() -> None:
        async with sqlite.write():
            order.append("session")

    async with sqlite.write():
        tasks = [working_for(A, write(sqlite, f"a{number:02}", order)) for number in range(20)]
        await asyncio.sleep(0)
        tasks += [working_for(B, write(sqlite, "b", order)), working_for(C, session())]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order[:2] == ["a00", "b"] and order.index("session") < len(order) - 1
    assert [row.key for row in await sqlite.rows(ALL)] == [*(f"a{number:02}" for number in range(20)), "b"]


async def test_a_workspaces_sessions_do_not_stand_before_anothers_change(sqlite: Database) -> None:
    order: list[str] = []

    async def session(name: str) -> None:
        async with sqlite.write():
            order.append(name)

    async with sqlite.write():
        tasks = [working_for(A, session(f"session {number}")) for number in range(4)]
        await asyncio.sleep(0)
        tasks += [working_for(A, write(sqlite, "a", order)), working_for(B, write(sqlite, "b", order))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order.index("b") < order.index("session 2")


async def test_one_change_that_fails_fails_alone(sqlite: Database) -> None:
    await write(sqlite, "taken")
    results = await asyncio.gather(*(write(sqlite, key) for key in ("x", "taken", "y")), return_exceptions=True)
    assert [type(one).__name__ for one in results] == ["NoneType", "IntegrityError", "NoneType"]
    assert [row.key for row in await sqlite.rows(ALL)] == ["taken", "x", "y"]


async def test_a_change_nobody_waits_for_any_more_is_not_begun(sqlite: Database) -> None:
    async with sqlite.write():
        first, second = working_for(A, write(sqlite, "first")), working_for(A, write(sqlite, "second"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(first, second, return_exceptions=True)
    assert first.cancelled() and [row.key for row in await sqlite.rows(ALL)] == ["second"]


async def test_what_waits_when_the_writer_is_gone_is_told_so(sqlite: Database) -> None:
    await sqlite.close()
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="after shutdown"):
            await write(sqlite, "too late")


# --- requests -------------------------------------------------------------------------------------------------------


async def test_requests_of_one_come_one_after_the_other_and_beside_anothers() -> None:
    turns, events = RequestSlots(), []

    async def request(whom: str, number: int) -> None:
        async with turns.of(whom):
            events.append(f"{whom}{number} begins")
            await asyncio.sleep(0)
            events.append(f"{whom}{number} ends")

    await asyncio.gather(request("a", 1), request("a", 2), request("b", 1))
    assert events == ["a1 begins", "b1 begins", "a1 ends", "b1 ends", "a2 begins", "a2 ends"]


async def test_a_request_that_takes_long_keeps_the_next_one_waiting_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fair_scheduling, "TURN", 0.001)
    turns, over = RequestSlots(), asyncio.Event()

    async def slow() -> None:
        async with turns.of("a"):
            await over.wait()

    waiting = asyncio.ensure_future(slow())
    await asyncio.sleep(0)
    monkeypatch.setattr(fair_scheduling, "TURN", 600)  # of those after it
    async with asyncio.timeout(30):
        async with turns.of("a"):
            assert not waiting.done()
            over.set()
            await waiting  # it has given its turn away already, and takes nobody else's with it
            third = asyncio.ensure_future(slow())
            await asyncio.sleep(0)
            assert not third.done()
        await third


async def test_who_waits_for_a_carrier_gives_way() -> None:
    turns, answered = RequestSlots(), asyncio.Event()

    async def dial() -> None:
        async with turns.of("a"):
            fair_scheduling.give_way()
            await answered.wait()
            fair_scheduling.give_way()  # a second time changes nothing

    dialling = asyncio.ensure_future(dial())
    await asyncio.sleep(0)
    async with asyncio.timeout(30), turns.of("a"):
        assert not dialling.done()
        answered.set()
        await dialling
        next_one = asyncio.ensure_future(dial())
        await asyncio.sleep(0)
        assert not next_one.done()
    await next_one
    fair_scheduling.give_way()  # nobody's turn


async def test_a_carriers_events_take_turns_by_workspace_and_so_many_go_on_at_once_as_the_database_bears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    going: list[UUID | None] = []
    most = 0

    async def handled(self: WebhookHandler, provider: Any, credential_id: str, event: Any) -> Any:
        nonlocal most
        going.append(WORKSPACE.get())
        most = max(most, going.count(A))
        assert going.count(B) <= 1
        for _ in range(5):
            await asyncio.sleep(0)
        going.remove(WORKSPACE.get())

    monkeypatch.setattr(WebhookHandler, "_handle_event", handled)
    for at_once in (1, 3):
        service, most = object.__new__(Service), 0
        service._event_slots = RequestSlots(at_once)
        nothing: Any = None
        webhooks = WebhookHandler(nothing, nothing, nothing, service._turn_of_workspace)
        events = [webhooks.handle_event(nothing, "crd_1", nothing) for _ in range(7)]
        await asyncio.gather(*(working_for(B if n == 3 else A, event) for n, event in enumerate(events)))
        assert most == at_once


async def test_asking_for_a_carrier_s_credential_gives_the_turn_away() -> None:
    turns, asked, answered = RequestSlots(), asyncio.Event(), asyncio.Event()

    class Source:
        async def credential(self, credential_id: str) -> Any:
            asked.set()
            await answered.wait()
            return credential_id

    async def dial() -> Any:
        async with turns.of("a"):
            return await YieldingCredentials(Source()).credential("crd_1")

    dialling = asyncio.ensure_future(dial())
    async with asyncio.timeout(30):
        await asked.wait()
        async with turns.of("a"):
            answered.set()
        assert await dialling == "crd_1"


async def test_a_request_that_fails_gives_its_turn_on() -> None:
    turns = RequestSlots()
    async with asyncio.timeout(30):
        with pytest.raises(ValueError):
            async with turns.of("a"):
                raise ValueError
        async with turns.of("a"):
            pass
