"""Transactions on an SQLite file: in threads, because the file is this machine's and its driver waits."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Dialect

from linecard.server.outage import outages_named
from linecard.server.store.statements import Act, Statement
from linecard.server.store.transactions import Work

T = TypeVar("T")

READERS = 4
"""Threads that read; more would only wait for Python's one lock."""


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

    async def together(self, *acts: Act) -> None:
        for statement, values in acts:
            await self.run(statement, **values)


class SqliteLane:
    """One thread that writes, a few that read, a connection for each. ``turn`` is held by whoever writes."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], dialect: Dialect, turn: asyncio.Lock) -> None:
        self._connect = connect
        self._dialect = dialect
        self._turn = turn
        self._mine = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._writer = ThreadPoolExecutor(1, "linecard-write")
        self._readers = ThreadPoolExecutor(READERS, "linecard-read")

    async def read(self, work: Work[T]) -> T:
        with outages_named():
            return await asyncio.get_running_loop().run_in_executor(self._readers, self._do, work)

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        # Read in the loop: some 15 microseconds that wait for no lock, where handing it to a thread takes a hundred.
        with outages_named():
            return await SqliteTransaction(self._connection(), self._dialect).row(statement, **values)

    async def write(self, work: Work[T]) -> T:
        return await self._in_turn(self._whole, work)

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self._in_turn(self._do, lambda tx: tx.row(statement, **values))

    async def _in_turn(self, do: Callable[[Work[T]], T], work: Work[T]) -> T:
        async with self._turn:
            writing = asyncio.get_running_loop().run_in_executor(self._writer, do, work)
            # Whoever gives up waiting does not take the lock away from a thread that still holds the file's.
            with outages_named():
                return await _undisturbed(writing)

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
