"""The database goes away and comes back: what counts as that, what is answered meanwhile, and that nothing is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from postgres import Server, binaries, scratch_folder
from running import SOMEBODY, Running, agent_server, running
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from anycarrier_server.outage import DatabaseUnavailable, Watch, no_connection, outages_named
from anycarrier_server.store import database, parse_id
from anycarrier_server.store.callbook import SqlCallBook
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.database import Database


def of_sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("of SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionRefusedError(111, "refused"), True),
        (OperationalError("SELECT 1", {}, Exception("the database system is starting up")), True),
        (InterfaceError("SELECT 1", {}, Exception("connection is closed")), True),
        (DBAPIError("SELECT 1", {}, Exception("cut off"), connection_invalidated=True), True),
        (PoolTimeout("no connection was free"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), False),
        (asyncpg.DataError("closed is no number"), False),
        (asyncpg.exceptions.ConnectionDoesNotExistError("in the middle of operation"), True),
        (asyncpg.exceptions.CannotConnectNowError("the database system is starting up"), True),
        (asyncpg.exceptions.TooManyConnectionsError("sorry, too many clients already"), True),
        (asyncpg.exceptions.AdminShutdownError("terminating connection"), True),
        (asyncpg.exceptions.CrashShutdownError("terminating connection"), True),
        (asyncpg.UniqueViolationError("duplicate key"), False),
        (asyncpg.UndefinedTableError("no such table"), False),
        (of_sqlite(sqlite3.SQLITE_BUSY), True),
        (of_sqlite(sqlite3.SQLITE_CANTOPEN), True),
        (of_sqlite(sqlite3.SQLITE_IOERR | 1 << 8), True),
        (of_sqlite(sqlite3.SQLITE_ERROR), False),
        (OperationalError("SELECT", {}, of_sqlite(sqlite3.SQLITE_BUSY)), True),
        (OperationalError("SELECT", {}, of_sqlite(sqlite3.SQLITE_ERROR)), False),
        (TimeoutError("no answer"), True),
        (socket.gaierror("its name is not known"), True),
        (IntegrityError("INSERT", {}, Exception("duplicate key")), False),
        (ProgrammingError("SELEC 1", {}, Exception("syntax error")), False),
        (KeyError("x"), False),
    ],
)
def test_only_a_connection_that_is_not_there_counts(error: Exception, away: bool) -> None:
    assert no_connection(error) is away
    with pytest.raises(DatabaseUnavailable if away else type(error)) as raised, outages_named():
        raise error
    assert raised.value.__cause__ is error if away else raised.value is error


def test_without_asyncpg_nothing_is_one_of_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    monkeypatch.delitem(sys.modules, "asyncpg")
    assert not no_connection(KeyError("x")) and no_connection(ConnectionResetError())
    assert "asyncpg" not in sys.modules


def test_an_outage_is_told_once_and_any_other_failure_each_time(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch("writing")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            watch.failed(DatabaseUnavailable())
        assert watch.went_well() and not watch.went_well()
        watch.failed(KeyError("a bug"))
        watch.failed(TimeoutError("somebody's"))
        watch.failed(FileNotFoundError("a recording"))
    told = [(record.levelname, bool(record.exc_info)) for record in caplog.records]
    assert told == [("ERROR", False), ("WARNING", False), *[("ERROR", True)] * 3]


async def test_what_a_call_lost_to_an_outage_is_one_line_and_looked_after_and_an_agent_s_own_fault_is_neither(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as at:
        exchange, missed = at.service.exchange, list[str]()
        monkeypatch.setattr(at.service.reconciler, "missed_something", lambda: missed.append("asked for afterwards"))
        caplog.clear()
        exchange.switchboard.report("agent agt_1 failed", DatabaseUnavailable("ConnectionRefusedError"))
        assert missed == ["asked for afterwards"]
        exchange.switchboard.report("agent agt_1 failed", ConnectionRefusedError())  # of its own model, say
        assert missed == ["asked for afterwards"]
    told = [(record.getMessage(), bool(record.exc_info)) for record in caplog.records if record.levelname == "ERROR"]
    assert told == [
        ("agent agt_1 failed: the database is unavailable (ConnectionRefusedError)", False),
        ("agent agt_1 failed: ConnectionRefusedError", True),
    ]


async def test_a_call_that_cannot_be_routed_in_an_outage_is_declined_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def away(*words: Any) -> Any:
        raise DatabaseUnavailable("gone")

    async with running(tmp_path) as at:
        mine = await at.equip("twilio")
        at.service.exchange.switchboard.router = away
        call = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{call}", lambda seen: seen["status"] in ("completed", "failed"))
    declined = [record for record in caplog.records if "declined" in record.getMessage()]
    assert [(record.getMessage(), bool(record.exc_info)) for record in declined] == [
        ("call on twilio declined: the database is unavailable (gone)", False)
    ]


# --- a PostgreSQL that goes away --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shaky() -> Iterator[Server]:
    if binaries() is None:
        if os.environ.get("ANYCARRIER_CI") == "1":
            pytest.fail("CI must run these on PostgreSQL too: install postgresql")
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    with scratch_folder() as folder:
        server = Server(folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture
async def address(shaky: Server) -> str:
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(f"{shaky.url}/postgres")
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    return f"{shaky.url}/{name}"


async def asked_everywhere(at: Running, mine: dict[str, Any]) -> list[httpx.Response]:
    """What a client asks of either face, by the short way and by sessions, and what a carrier and a player ask."""
    placed = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
    asks: list[tuple[str, str, Any]] = [
        ("GET", "/v1/calls", None),
        ("POST", "/v1/calls", placed),
        ("GET", "/v1/agents", None),
        ("GET", "/api/v1/phone/numbers", None),
        ("POST", "/api/v1/phone/place-call", {"to_number": SOMEBODY, "from_number": mine["number"]}),
    ]
    answers = [at.http.request(method, path, json=body) for method, path, body in asks]
    return list(await asyncio.gather(*answers))


def not_now(answer: httpx.Response) -> None:
    assert answer.status_code == 503, f"{answer.request.url}: {answer.status_code} {answer.text}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Traceback" not in answer.text and "asyncpg" not in answer.text


async def back(at: Running) -> None:
    """It answers again, and nobody restarted it."""
    async with asyncio.timeout(30):
        while (await at.http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.1)


LOOPS = ("looking for scheduled calls", "sending webhooks", "writing transcripts and events")


def away(loop: str, line: str) -> bool:
    return line.startswith(f"{loop}: the database is unavailable")


@pytest.mark.timeout(240)
async def test_while_it_is_gone_requests_hear_not_now_and_afterwards_all_goes_on(
    shaky: Server, address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, database=address) as at:
        mine = await at.equip("twilio")
        first = await at.ring(mine["number"])
        assert first
        call = (await at.ask("GET", "/v1/calls"))["items"][0]["id"]
        # Due while the database is unavailable: it is dialled when it is back.
        body = {"agent_id": mine["agent"]["id"], "to_number": SOMEBODY, "from_number": mine["number"]}
        due = (utc_now() + timedelta(seconds=4)).isoformat()
        later = await at.ask("POST", "/v1/calls", 201, json={**body, "scheduled_at": due})
        caplog.clear()
        shaky.stop()
        try:
            for answer in await asked_everywhere(at, mine):
                not_now(answer)
            at.service.store.writer.segment(_uuid(call), party="local", text="said meanwhile", ts_ms=1)
            for credential in (mine["credential"]["id"], f"crd_{uuid4().hex}"):
                webhook = await at.http.post(f"/twilio/{credential}", data={"CallSid": "CA1"})
                assert webhook.status_code in (403, 503) and "Traceback" not in webhook.text
                if webhook.status_code == 503:
                    not_now(webhook)
            async with asyncio.timeout(30):
                while not all(any(away(loop, line) for line in caplog.messages) for loop in LOOPS):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(2)  # some more rounds of every loop
        finally:
            shaky.start()
        await back(at)
        for answer in await asked_everywhere(at, mine):
            assert answer.status_code < 500, answer.text
        await at.service.store.writer.flush(30)
        assert "said meanwhile" in [said.text for said in await at.service.store.transcripts.of_call(_uuid(call))]
        await at.until(f"/v1/calls/{later['id']}", lambda seen: seen["status"] == "in_progress")
    ours = [record for record in caplog.records if record.name == "anycarrier"]
    assert [record.getMessage() for record in ours if record.exc_info] == []
    for loop in LOOPS:
        lines = [record for record in ours if away(loop, record.getMessage())]
        assert len(lines) == 1, [record.getMessage() for record in ours]


def _uuid(public: str) -> UUID:
    found = parse_id("call", public)
    assert found is not None
    return found


@pytest.mark.timeout(120)
async def test_one_that_accepts_and_never_answers_is_away_too(
    shaky: Server, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ANSWERS_WITHIN", 3.0)  # one that stutters is not away
    async with running(tmp_path, database=address) as at:
        mine = await at.equip("twilio")
        await asked_everywhere(at, mine)
        db = at.service.store.db

        async def by_session() -> None:
            async with db.read() as session:
                await session.execute(text("SELECT 1"))

        shaky.freeze()
        try:
            async with asyncio.timeout(60):
                for answer in await asked_everywhere(at, mine):
                    not_now(answer)
                asks = [by_session() for _ in range(12)]
                failures = await asyncio.gather(*asks, return_exceptions=True)
            assert all(isinstance(each, DatabaseUnavailable) for each in failures), failures
        finally:
            shaky.thaw()
        await back(at)
        for answer in await asked_everywhere(at, mine):
            assert answer.status_code < 500, answer.text


async def test_a_migration_may_wait_longer_than_an_answer_may_take(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ANSWERS_WITHIN", 2.0)  # also to connect, which may take a while
    db = Database(address)
    async with db.unhurried() as session:
        await session.execute(text("SELECT pg_sleep(2.1)"))
    await db.close()
    monkeypatch.setattr(database, "ANSWERS_WITHIN", 0.3)
    db = Database(address)
    with pytest.raises(DatabaseUnavailable):
        async with db.write() as session:
            await session.execute(text("SELECT pg_sleep(60)"))
    await db.close()


async def test_a_call_whose_end_could_not_be_written_down_is_asked_for_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip("twilio", agent.url)
        call = (await at.ring(mine["number"]))["id"]
        await at.until(f"/v1/calls/{call}", lambda seen: seen["status"] == "in_progress")
        refused: list[str] = []

        async def away(*words: Any) -> Any:
            refused.append(str(words[0]))
            raise DatabaseUnavailable("gone")

        with monkeypatch.context() as outage:
            outage.setattr(SqlCallBook, "update", away)
            outage.setattr(SqlCallBook, "update_once", away)
            await at.ask("POST", f"/sandbox/calls/{call}/hangup")
            async with asyncio.timeout(30):
                while len(refused) < 2 or at.service.exchange.switchboard.sessions:
                    await asyncio.sleep(0.05)
        done = await at.until(f"/v1/calls/{call}", lambda seen: seen["status"] == "completed")
        assert done["end_reason"] == "user_hangup"


async def test_a_media_socket_is_told_not_now_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as at, agent_server("Hello.") as agent:
        mine = await at.equip("twilio", agent.url)
        exchange, addresses, routed = at.service.exchange, list[str](), asyncio.Event()
        original = exchange.switchboard.stream_target

        def noting(*call: Any, **more: Any) -> Any:
            target = original(*call, **more)
            addresses.append(target.url)
            routed.set()
            return target

        async def away(*words: Any) -> Any:
            raise DatabaseUnavailable("gone")

        once = at.service.store.once
        first = once.first

        async def away_for_tickets(key: str, ttl: float) -> bool:
            return await (away(key) if key.startswith("ticket:") else first(key, ttl))

        monkeypatch.setattr(exchange.switchboard, "stream_target", noting)
        with monkeypatch.context() as outage:
            outage.setattr(once, "first", away_for_tickets)
            unheard = (await at.ring(mine["number"]))["id"]
            async with asyncio.timeout(30):
                await routed.wait()
            with pytest.raises(InvalidStatus) as refused:
                await connect(addresses[0])
            assert refused.value.response.status_code == 503
            await at.until(f"/v1/calls/{unheard}", lambda seen: seen["status"] in ("completed", "failed"))
        update = SqlCallBook.update

        async def away_once_routed(book: SqlCallBook, key: str, change: Any) -> Any:
            return await (away(key) if len(addresses) > 1 else update(book, key, change))

        with monkeypatch.context() as outage:
            outage.setattr(SqlCallBook, "update", away_once_routed)
            cut_off = (await at.ring(mine["number"]))["id"]
            async with asyncio.timeout(30):
                while sum("a media socket" in line for line in caplog.messages) < 3:
                    await asyncio.sleep(0.05)
        await at.until(f"/v1/calls/{cut_off}", lambda seen: seen["status"] in ("completed", "failed"))
    ours = [record for record in caplog.records if record.name == "anycarrier"]
    assert [record.getMessage() for record in ours if record.exc_info] == []
    assert "a media socket: the database is unavailable (gone)" in caplog.messages
