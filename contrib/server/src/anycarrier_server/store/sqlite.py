"""Transactions on an SQLite file: in threads, because the file is this machine's and its driver waits."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Dialect

from anycarrier_server.fair_scheduling import WORKSPACE, FairLock, FairQueue
from anycarrier_server.outage import outages_named
from anycarrier_server.store.statements import Act, Statement, Work

T = TypeVar("T")

READERS = 4
"""Threads that read; more would only wait for Python's one lock."""

AT_ONCE = 8
"""Transactions between two looks whether somebody else wants to write."""


class SqliteTransaction:
    """On one connection, in its thread."""

    def __init__(self, connection: sqlite3.Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        found = statement.on(self._dialect)
        return [found.row(record) for record in self._connection.execute(found.sql, found.arguments(values)).fetchall()]

    async def row(self, statement: Statement, **values: Any) -> Any:
        # All of them: a cursor with rows left would keep its transaction open.
        return next(iter(await self.rows(statement, **values)), None)

    async def value(self, statement: Statement, **values: Any) -> Any:
        row = await self.row(statement, **values)
        return row[0] if row is not None else None

    async def run(self, statement: Statement, **values: Any) -> None:
        found = statement.on(self._dialect)
        self._connection.execute(found.sql, found.arguments(values))

    async def each(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        found = statement.on(self._dialect)
        self._connection.executemany(found.sql, [found.arguments(values) for values in rows])

    async def run_joined(self, *acts: Act) -> None:
        for statement, values in acts:
            await self.run(statement, **values)


@dataclass(slots=True, eq=False)
class _Waiting:
    """A transaction in the queue, and the future of the task that waits for it."""

    do: Callable[[Work[Any]], Any]
    work: Work[Any]
    done: asyncio.Future[Any]

    def settle(self, result: Any, problem: BaseException | None) -> None:
        """In the loop."""
        if self.done.done():
            return
        if problem is None:
            self.done.set_result(result)
        else:
            self.done.set_exception(problem)


class SqliteDriver:
    """One thread that writes, a few that read, a connection for each. ``write_lock`` is held while it writes."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], dialect: Dialect, write_lock: FairLock) -> None:
        self._connect = connect
        self._dialect = dialect
        self._write_lock = write_lock
        self._waiting: FairQueue[_Waiting] = FairQueue()
        self._writing: asyncio.Task[None] | None = None
        self._mine = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._writer = ThreadPoolExecutor(1, "anycarrier-write")
        self._readers = ThreadPoolExecutor(READERS, "anycarrier-read")

    async def read(self, work: Work[T]) -> T:
        with outages_named():
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._do, work)

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return next(iter(await self.few(statement, values)), None)

    async def few(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        # Read in the loop: some 15 microseconds that wait for no lock, where handing it to a thread takes a hundred,
        # and a busy loop gives Python's lock to the thread again for each row.
        with outages_named():
            return await SqliteTransaction(self._connection(), self._dialect).rows(statement, **values)

    async def write(self, work: Work[T]) -> T:
        return await self._in_turn(self._whole, work)

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self._in_turn(self._do, lambda tx: tx.row(statement, **values))

    async def _in_turn(self, do: Callable[[Work[T]], T], work: Work[T]) -> T:
        loop = asyncio.get_running_loop()
        mine = _Waiting(do, work, loop.create_future())
        self._waiting.put(mine)
        if self._writing is None or self._writing.done():
            self._writing = loop.create_task(self._write_what_waits(loop))
        with outages_named():
            try:
                return await asyncio.shield(mine.done)
            except asyncio.CancelledError:
                # Whoever gives up waiting waits for a thread that is at it: it would change something afterwards.
                if not self._waiting.drop(mine):
                    await asyncio.wait({mine.done})
                    mine.done.exception()  # looked at, or asyncio complains that nobody did
                raise

    async def _write_what_waits(self, loop: asyncio.AbstractEventLoop) -> None:
        WORKSPACE.set(None)
        try:
            while self._waiting:
                async with self._write_lock:
                    await _undisturbed(loop.run_in_executor(self._writer, self._write_some, loop))
        except BaseException as problem:  # noqa: BLE001 the writer is gone: raised where its result is awaited
            while (left := self._waiting.get()) is not None:
                left.settle(None, problem)

    def _write_some(self, loop: asyncio.AbstractEventLoop) -> None:
        # Several for one change of threads, and of who has the turn: a busy loop takes longer over those than we do.
        for _ in range(AT_ONCE):
            if (one := self._waiting.get()) is None:
                return
            try:
                done, problem = one.do(one.work), None
            except BaseException as failed:  # noqa: BLE001 raised where the result is awaited
                done, problem = None, failed
            loop.call_soon_threadsafe(one.settle, done, problem)

    async def close(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._opened:
            connection.close()
        self._opened.clear()

    def _whole(self, work: Work[T]) -> T:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = self._do(work)
            connection.execute("COMMIT")
        except BaseException:
            # With its disk full SQLite has undone it already; a second time is an error, and would hide the first.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return done

    def _do(self, work: Work[T]) -> T:
        """The work's result. It never waits, so its first step is its last."""
        running = work(SqliteTransaction(self._connection(), self._dialect))
        try:
            running.send(None)
        except StopIteration as over:
            done: T = over.value
            return done
        running.close()
        raise RuntimeError("a transaction's work waited for something that is not the database")

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        if found is None:
            found = self._mine.connection = self._connect()
            self._opened.append(found)
        return found


async def _undisturbed(work: Awaitable[T]) -> T:
    """Wait for ``work`` to its end; a cancellation meanwhile comes after it."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
