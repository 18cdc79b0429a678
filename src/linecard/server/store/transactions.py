"""Transactions on the driver itself, for what every call does: see ``statements.py`` for why.

A transaction's work is an ``async`` function of one argument, which awaits nothing but that. On PostgreSQL it runs in
the event loop. On SQLite it runs from its first line to its last in a thread, where nothing it awaits ever waits:
one change of threads for each transaction, and none for each statement.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy import Dialect

from linecard.server.store.statements import Act, Statement, Together

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

READERS = 4
"""Threads that read an SQLite file; more would only wait for Python's one lock."""


class Transaction(Protocol):
    """What the work is given. Parameters go by the names the statement binds."""

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        """All rows."""
        ...

    async def row(self, statement: Statement, **values: Any) -> Any:
        """The first row, None when there is none."""
        ...

    async def value(self, statement: Statement, **values: Any) -> Any:
        """The first column of the first row, None when there is none."""
        ...

    async def run(self, statement: Statement, **values: Any) -> None:
        """For what it does."""
        ...

    async def each(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        """Once for each of ``rows``."""
        ...

    async def together(self, *acts: Act) -> None:
        """Statements of which none needs what another of them does, and nobody what they return."""
        ...


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


class Lane(Protocol):
    """One database's way to run work."""

    async def read(self, work: Work[T]) -> T:
        """Statements that change nothing; each sees what was committed before it."""
        ...

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        """The first row of a statement that finds one by its key, None when there is none."""
        ...

    async def write(self, work: Work[T]) -> T:
        """All of it or nothing."""
        ...

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        """One statement that changes something, a transaction by itself: the first row it returns, else None."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


class Optimist(Protocol):
    """A lane where looking and acting are cheaper apart than under a lock."""

    async def act_if_unchanged(self, *acts: Act) -> bool:
        """All of it if the first changes a row, which says that nobody was quicker; else nothing, and False."""
        ...


def values_fault(problem: Exception) -> bool:
    """True when the database works and what it was given is at fault: a broken reference, a value it cannot hold."""
    import asyncpg

    if isinstance(problem, sqlite3.IntegrityError | sqlite3.DataError | asyncpg.IntegrityConstraintViolationError):
        return True
    # A value its parameter cannot hold never reaches the database: the driver, or the column's type, refuses it.
    return isinstance(problem, asyncpg.DataError | sqlite3.ProgrammingError | ValueError | TypeError | OverflowError)


# --- SQLite -----------------------------------------------------------------------------------------------------------


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
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._do, work)

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        # Read in the loop: some 15 microseconds that wait for no lock, where handing it to a thread takes a hundred.
        return await SqliteTransaction(self._connection(), self._dialect).row(statement, **values)

    async def write(self, work: Work[T]) -> T:
        return await self._in_turn(self._whole, work)

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self._in_turn(self._do, lambda tx: tx.row(statement, **values))

    async def _in_turn(self, do: Callable[[Work[T]], T], work: Work[T]) -> T:
        async with self._turn:
            writing = asyncio.get_running_loop().run_in_executor(self._writer, do, work)
            # Whoever gives up waiting does not take the lock away from a thread that still holds the file's.
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


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@cache  # which go together is written in the code, so there are few
def _together(statements: tuple[Statement, ...], dialect: Dialect, *, guarded: bool = False) -> Together:
    return Together(statements, dialect, guarded=guarded)


class PostgresqlTransaction:
    """On one connection of the pool."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy[Any], dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        found = statement.on(self._dialect)
        return [found.row(record) for record in await self._connection.fetch(found.sql, *found.arguments(values))]

    async def row(self, statement: Statement, **values: Any) -> Any:
        found = statement.on(self._dialect)
        record = await self._connection.fetchrow(found.sql, *found.arguments(values))
        return found.row(record) if record is not None else None

    async def value(self, statement: Statement, **values: Any) -> Any:
        row = await self.row(statement, **values)
        return row[0] if row is not None else None

    async def run(self, statement: Statement, **values: Any) -> None:
        found = statement.on(self._dialect)
        await self._connection.fetch(found.sql, *found.arguments(values))

    async def each(self, statement: Statement, rows: Sequence[Mapping[str, Any]]) -> None:
        if len(rows) == 1:
            await self.run(statement, **rows[0])
        elif rows:
            found = statement.on(self._dialect)
            await self._connection.executemany(found.sql, [found.arguments(values) for values in rows])

    async def together(self, *acts: Act) -> None:
        joined = _together(tuple(statement for statement, _ in acts), self._dialect)
        await self._connection.fetch(joined.sql, *joined.arguments([values for _, values in acts]))


class PostgresqlLane:
    """A pool of connections, made when it is first needed. ``address`` is what asyncpg connects with."""

    def __init__(self, address: Mapping[str, Any], dialect: Dialect, size: int) -> None:
        self._address = dict(address)
        self._dialect = dialect
        self._size = size
        self._pool: asyncpg.Pool[Any] | None = None
        self._making = asyncio.Lock()

    async def read(self, work: Work[T]) -> T:
        pool = self._pool or await self._open()
        async with pool.acquire() as connection:
            return await work(PostgresqlTransaction(connection, self._dialect))

    async def write(self, work: Work[T]) -> T:
        pool = self._pool or await self._open()
        async with pool.acquire() as connection:
            await connection.execute("BEGIN")
            try:
                done = await work(PostgresqlTransaction(connection, self._dialect))
                await connection.execute("COMMIT")
            except BaseException:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
        return done

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self.read(lambda tx: tx.row(statement, **values))

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self.first(statement, values)

    async def act_if_unchanged(self, *acts: Act) -> bool:
        import asyncpg

        joined = _together(tuple(statement for statement, _ in acts), self._dialect, guarded=True)
        pool = self._pool or await self._open()
        async with pool.acquire() as connection:
            try:
                await connection.fetch(joined.sql, *joined.arguments([values for _, values in acts]))
            except asyncpg.DivisionByZeroError:
                return False
        return True

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _open(self) -> asyncpg.Pool[Any]:
        import asyncpg

        async with self._making:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **self._address, min_size=1, max_size=self._size, init=_as_json, reset=_nothing, command_timeout=60
                )
            return self._pool


async def _as_json(connection: asyncpg.Connection[Any]) -> None:
    """JSON columns come as what they say, not as text; they go as text, which SQLAlchemy's types have made of them."""
    await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")


async def _nothing(connection: asyncpg.Connection[Any]) -> None:
    """Nothing is left on a connection that the next one would notice; asking the server to see to it costs a trip."""
