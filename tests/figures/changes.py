"""``python tests/figures/changes.py``: what one change of a call costs on PostgreSQL, done in three ways.

The change is one of the call book's: a transfer is asked for, or fails. It writes the call's row and its log.

- *joined, version*: what the store does. The row is read; all that is written goes as one statement, which does nothing
  when the row has changed since (``act_if``).
- *joined, lock*: BEGIN, the row read and locked, all that is written as one statement (``run_joined``), COMMIT.
- *plain, lock*: the same with one statement after the other.

Rounds are interleaved. PostgreSQL is a scratch server on this machine, reached directly and through a proxy that holds
each message back, as a network between two machines does. asyncpg has no pipeline mode: statements that are not joined
wait for each other's answers.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "server")]
# ruff: noqa: E402  the folders above are not packages

from postgres import scratch_folder, scratch_postgres
from tenants import build_acme, make_tenant

from anycarrier.calls import Call, CallStatus, Direction, TransferStatus
from anycarrier_server.settings import Settings
from anycarrier_server.store import Store, public_id
from anycarrier_server.store.postgresql import PostgresqlTransaction

ROUNDS, CHANGES, AT_ONCE = 10, 200, 8
DELAY = 0.0005
"""Seconds that the proxy holds a message back, each way."""


@contextmanager
def joined_version(store: Store) -> Any:
    """As it is."""
    yield


@contextmanager
def joined_lock(store: Store) -> Any:
    """Under a lock."""
    optimistic, store.db.optimistic = store.db.optimistic, None
    try:
        yield
    finally:
        store.db.optimistic = optimistic


@contextmanager
def plain_lock(store: Store) -> Any:
    """Under a lock, each statement by itself."""
    run_joined = PostgresqlTransaction.run_joined

    async def one_by_one(tx: PostgresqlTransaction, *acts: Any) -> None:
        for statement, values in acts:
            await tx.run(statement, **values)

    PostgresqlTransaction.run_joined = one_by_one  # type: ignore[method-assign]
    try:
        with joined_lock(store):
            yield
    finally:
        PostgresqlTransaction.run_joined = run_joined  # type: ignore[method-assign]


Work = Callable[[Store, list[str]], Coroutine[Any, Any, None]]
WAYS: dict[str, Callable[[Store], Any]] = {
    "joined, version": joined_version,
    "joined, lock": joined_lock,
    "plain, lock": plain_lock,
}


def transferring(call: Call) -> Call:
    """To and fro: each is a change that is logged and told."""
    wanted = None if call.transfer is TransferStatus.REQUESTED else TransferStatus.REQUESTED
    return call.model_copy(update={"transfer": wanted})


async def alone(store: Store, calls: list[str]) -> None:
    for _ in range(CHANGES):
        await store.callbook.update(calls[0], transferring)


async def at_once(store: Store, calls: list[str]) -> None:
    async def some(reference: str) -> None:
        for _ in range(CHANGES // AT_ONCE):
            await store.callbook.update(reference, transferring)

    await asyncio.gather(*(some(reference) for reference in calls))


async def measured(store: Store, work: Work, calls: list[str]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    await work(store, calls)
    return (time.perf_counter() - wall) / CHANGES * 1e6, (time.process_time() - cpu) / CHANGES * 1e6


def proxy(target: tuple[str, int], ready: Connection) -> None:
    """Pass everything on, ``DELAY`` later. In a process of its own."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(DELAY, writer.write, data)
        loop.call_later(DELAY, writer.close)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*target)
        await asyncio.gather(carry(reader, back), carry(there, writer))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


async def main(url: str, folder: Path) -> None:
    address = make_url(url)
    connection = await asyncpg.connect(f"{url}/postgres")
    await connection.execute("CREATE DATABASE changes")
    await connection.close()
    ours, theirs = Pipe()
    delaying = Process(target=proxy, args=((address.host, address.port), theirs), daemon=True)
    delaying.start()
    far = address.set(port=ours.recv()).render_as_string(hide_password=False)
    stores = {}
    for origin in (url, far):
        store = await Store.open(Settings(data_dir=folder, database=f"{origin}/changes"), build=build_acme)
        stores[f"a `SELECT 1` takes {await trip(f'{origin}/changes'):.2f} ms"] = store
    calls = await opened(next(iter(stores.values())))
    works = {"one after the other": alone, f"{AT_ONCE} calls at once": at_once}
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for round_ in range(ROUNDS + 1):
        for where, store in stores.items():
            for way, as_if in WAYS.items():
                for name, work in works.items():
                    with as_if(store):
                        result = await measured(store, work, calls)
                    if round_:  # the first warms up
                        found.setdefault((where, name, way), []).append(result)
    for store in stores.values():
        await store.close()
    delaying.kill()
    print("| PostgreSQL | changes | way | µs each, median | min | CPU of ours µs, median |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for (where, name, way), results in found.items():
        walls, cpus = zip(*results, strict=True)
        print(f"| {where} | {name} | {way} | {median(walls):.0f} | {min(walls):.0f} | {median(cpus):.0f} |")


async def trip(url: str) -> float:
    """Milliseconds to the server and back, as they are on this machine now."""
    connection = await asyncpg.connect(url)
    took = []
    for _ in range(200):
        began = time.perf_counter()
        await connection.execute("SELECT 1")
        took.append(time.perf_counter() - began)
    await connection.close()
    return median(took) * 1000


async def opened(store: Store) -> list[str]:
    """References of calls that are going on."""
    tenant = await make_tenant(store)
    calls = []
    for _ in range(AT_ONCE):
        call = await store.callbook.open(
            Call(
                id=uuid4().hex, provider="acme", direction=Direction.INBOUND, from_="+12125550123",
                to=tenant.line.number, status=CallStatus.ANSWERED, reference=uuid4().hex,
                credential_id=public_id("credential", tenant.credential.id),
            )
        )  # fmt: skip
        calls.append(call.reference)
    return calls


if __name__ == "__main__":
    with scratch_folder() as scratch, scratch_postgres(scratch) as server, TemporaryDirectory() as data:
        asyncio.run(main(server, Path(data)))
