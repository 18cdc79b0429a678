"""Transactions on PostgreSQL: on asyncpg's own pool, in the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Dialect

from anycarrier_server.outage import outages_named
from anycarrier_server.store.statements import Act, JoinedStatements, Statement, Work

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")


@cache  # which go together is written in the code, so there are few
def _joined(statements: tuple[Statement, ...], dialect: Dialect, *, guards: int = 0) -> JoinedStatements:
    return JoinedStatements(statements, dialect, guards=guards)


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

    async def run_joined(self, *acts: Act) -> None:
        joined = _joined(tuple(statement for statement, _ in acts), self._dialect)
        await self._connection.fetch(joined.sql, *joined.arguments([values for _, values in acts]))


class PostgresqlDriver:
    """A pool of connections, made when it is first needed. ``address`` is what asyncpg connects with; ``patience`` the
    seconds it waits for a connection, and for each answer."""

    def __init__(self, address: Mapping[str, Any], dialect: Dialect, size: int, patience: float) -> None:
        self._address = dict(address)
        self._dialect = dialect
        self._size = size
        self._patience = patience
        self._pool: asyncpg.Pool[Any] | None = None
        self._making = asyncio.Lock()

    async def read(self, work: Work[T]) -> T:
        async with self._connection() as connection:
            return await work(PostgresqlTransaction(connection, self._dialect))

    async def write(self, work: Work[T]) -> T:
        async with self._connection() as connection:
            await connection.execute("BEGIN")
            try:
                done = await work(PostgresqlTransaction(connection, self._dialect))
                await connection.execute("COMMIT")
            except TimeoutError:
                raise  # it answers nothing: the connection is cut off, and what was begun on it is undone
            except BaseException:
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")
                raise
        return done

    async def first(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self.read(lambda tx: tx.row(statement, **values))

    async def few(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        return await self.read(lambda tx: tx.rows(statement, **values))

    async def alone(self, statement: Statement, values: Mapping[str, Any]) -> Any:
        return await self.first(statement, values)

    async def act_if(self, guards: int, *acts: Act) -> str | None:
        import asyncpg

        joined = _joined(tuple(statement for statement, _ in acts), self._dialect, guards=guards)
        async with self._connection() as connection:
            try:
                done = await connection.fetchrow(joined.sql, *joined.arguments([values for _, values in acts]))
            except asyncpg.DivisionByZeroError:
                return None
        version: str = done[1]
        return version

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy[Any]]:
        """One of the pool; ``DatabaseUnavailable`` when none is free in time, or what was asked is not answered."""
        with outages_named():
            pool = self._pool or await self._open()
            # A time limit costs a task, so there is none where nobody has to wait.
            async with pool.acquire(timeout=None if pool.get_idle_size() else self._patience) as connection:
                try:
                    yield connection
                except TimeoutError:
                    connection.terminate()  # else the next statement on it waits for the same answer
                    raise

    async def _open(self) -> asyncpg.Pool[Any]:
        import asyncpg

        async with self._making:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **self._address,
                    min_size=0,  # a floor would be restored by asyncpg itself, with a traceback for each try
                    max_size=self._size,
                    init=_as_json,
                    reset=_nothing,
                    timeout=self._patience,
                    command_timeout=self._patience,
                )
            return self._pool


async def _as_json(connection: asyncpg.Connection[Any]) -> None:
    """JSON columns come as what they say, not as text; they go as text, which SQLAlchemy's types have made of them."""
    await connection.set_type_codec("jsonb", encoder=str, decoder=json.loads, schema="pg_catalog")


async def _nothing(connection: asyncpg.Connection[Any]) -> None:
    """Nothing is left on a connection that the next one would notice; asking the server to see to it costs a trip."""
