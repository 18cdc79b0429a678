"""The short way to the database: what it reads is what a session reads, and what it does is whole or not at all."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import bindparam, inspect, select, update
from sqlalchemy.orm import class_mapper
from tenants import Tenant

from anycarrier_server.store import NewCall, Store
from anycarrier_server.store.call_state import LOG, READ_VERSION, changing_version
from anycarrier_server.store.columns import Table, utc_now
from anycarrier_server.store.database import Database
from anycarrier_server.store.models import Agent, CallEventRow, CallRow, LineRow, Workspace
from anycarrier_server.store.new_calls import CREATED
from anycarrier_server.store.sqlite import SqliteDriver
from anycarrier_server.store.statements import Rows, Statement, Transaction, as_stored, table_of, values_fault

WORKSPACE = table_of(Workspace)
RENAME = Statement(update(WORKSPACE).where(WORKSPACE.c.id == bindparam("id")).values(name=bindparam("to")))
NAMED = Statement(select(WORKSPACE).where(WORKSPACE.c.name == bindparam("name")), into=[Workspace])
MAKE = Rows(Workspace, ["id", "name", "settings", "created_at"])


def columns_of(row: Table) -> dict[str, Any]:
    return {attribute.key: getattr(row, attribute.key) for attribute in class_mapper(type(row)).column_attrs}


async def a_call(store: Store, tenant: Tenant) -> CallRow:
    new = NewCall(
        line=tenant.line,
        to_number="+14155550178",
        agent_id=tenant.agent.id,
        variables={"name": "Zoë", "deep": {"list": [1, None, True, 2.5]}},
        metadata={"crm": 7},
        time_limit=600.5,
        scheduled_at=utc_now() + timedelta(days=1),
        idempotency_key="k",
        body_hash="h",
    )
    return (await store.calls.create(new))[0]


async def test_a_row_is_what_a_session_reads_column_by_column(store: Store, tenant: Tenant) -> None:
    call = await a_call(store, tenant)
    for model, id_ in ((CallRow, call.id), (Agent, tenant.agent.id), (LineRow, tenant.line.id)):
        table = table_of(model)
        short = await store.db.row(Statement(select(table).where(table.c.id == bindparam("id")), into=[model]), id=id_)
        async with store.db.read() as session:
            long = await session.get(model, id_)
        assert long is not None
        assert columns_of(short) == columns_of(long)
        assert {name: type(value) for name, value in columns_of(short).items() if not isinstance(value, UUID)} == {
            name: type(value) for name, value in columns_of(long).items() if not isinstance(value, UUID)
        }
        assert short.public_id == long.public_id


async def test_a_row_just_inserted_is_the_row_one_would_read(store: Store, tenant: Tenant) -> None:
    made = await a_call(store, tenant)
    read = await store.calls.get(tenant.workspace.id, made.id)
    assert read is not None
    assert columns_of(made) == columns_of(read)
    assert set(CREATED) <= {column.name for column in table_of(CallRow).columns}


async def test_several_models_come_side_by_side_and_none_for_what_is_not_there(store: Store, tenant: Tenant) -> None:
    line, agent = table_of(LineRow), table_of(Agent)
    joined = (
        select(line, agent)
        .outerjoin(agent, agent.c.id == bindparam("agent"))
        .where(line.c.id == bindparam("line"))
    )
    pair = Statement(joined, into=[LineRow, Agent])
    found = await store.db.row(pair, line=tenant.line.id, agent=tenant.agent.id)
    assert (found[0].number, found[1].name) == (tenant.line.number, tenant.agent.name)
    assert (await store.db.row(pair, line=tenant.line.id, agent=tenant.workspace.id))[1] is None
    assert await store.db.row(pair, line=tenant.workspace.id, agent=tenant.agent.id) is None


async def test_a_transaction_that_raises_has_done_nothing(db: Database) -> None:
    rows = [{"id": UUID(int=n), "name": "a", "settings": {}, "created_at": utc_now()} for n in (1, 2)]

    async def half(tx: Transaction) -> None:
        await tx.run_joined(MAKE.of(rows))
        assert len(await tx.rows(NAMED, name="a")) == 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await db.transact(half)
    assert await db.rows(NAMED, name="a") == []
    await db.transact(lambda tx: tx.run_joined(MAKE.of(rows)))
    assert len(await db.rows(NAMED, name="a")) == 2


async def test_a_value_that_is_not_given_is_named(db: Database) -> None:
    with pytest.raises(KeyError, match="to"):
        await db.act(RENAME, id=UUID(int=1))


async def test_what_its_columns_cannot_hold_is_the_values_fault_and_a_lost_database_is_not(db: Database) -> None:
    row = {"id": UUID(int=1), "name": "a", "settings": {}, "created_at": utc_now()}
    for wrong in ({"name": None}, {"created_at": "noon"}, {"settings": {1, 2}}):
        with pytest.raises(Exception) as refused:
            await db.act(*MAKE.of([row | wrong])[:1], **MAKE.of([row | wrong])[1])
        assert values_fault(refused.value), refused.value
    assert not values_fault(ConnectionResetError())


async def test_waiting_for_anything_else_in_a_transaction_is_refused_where_it_would_hold_a_thread(
    store: Store,
) -> None:
    async def wait(tx: Transaction) -> None:
        await asyncio.sleep(0)

    if store.db.sqlite:
        with pytest.raises(RuntimeError, match="waited for something"):
            await store.db.transact(wait)
    else:
        await store.db.transact(wait)
    await asyncio.wait_for(store.once.first("the lock is free", 60), 20)


async def test_rows_go_in_in_their_order(store: Store, tenant: Tenant) -> None:
    call = await a_call(store, tenant)
    kinds = [f"call.{number}" for number in range(12)]
    happened = [{"call_id": call.id, "kind": kind, "at": utc_now(), "payload": {}} for kind in kinds]
    await store.db.transact(lambda tx: tx.run_joined(LOG.of(happened), (RENAME, {"id": UUID(int=9), "to": "x"})))
    assert [event.kind for event in await store.calls.events(call.id)] == ["call.created", *kinds]


async def test_an_act_on_a_row_that_has_changed_since_does_none_of_it(store: Store, tenant: Tenant) -> None:
    optimistic = store.db.optimistic
    if optimistic is None:
        assert isinstance(store.db._driver, SqliteDriver)  # there, the lock is the quickest way
        return
    call = await a_call(store, tenant)
    seen = (await store.db.row(READ_VERSION[0], id=call.id)).version
    change = {"row_id": call.id, "version": seen, "carrier_status": "ringing", "updated_at": utc_now()}
    log = LOG.of([{"call_id": call.id, "kind": "call.ringing", "at": utc_now(), "payload": {}}])
    act = changing_version(("carrier_status", "updated_at"))
    wrote = await optimistic.act_if(1, (act, change), log)
    assert wrote == (await store.db.row(READ_VERSION[0], id=call.id)).version != seen
    assert await optimistic.act_if(1, (act, change), log) is None
    assert [event.kind for event in await store.calls.events(call.id)] == ["call.created", "call.ringing"]


async def test_a_reader_that_gives_up_leaves_the_writers_turn_alone(store: Store) -> None:
    """Cancelled while its statement runs, a write ends before the next one begins."""
    for _ in range(20):
        task = asyncio.create_task(store.once.first("k", 60))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.wait_for(store.once.first("another", 60), 20)


def test_rows_made_here_are_no_sessions() -> None:
    made = as_stored(Workspace, {"id": UUID(int=1), "name": "a", "settings": {}, "created_at": utc_now()})
    assert inspect(made).session is None
    assert (made.name, made.public_id) == ("a", f"org_{UUID(int=1).hex}")
    assert CallEventRow.__tablename__ == "call_events"
