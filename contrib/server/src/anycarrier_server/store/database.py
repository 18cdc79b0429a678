"""The database, SQLite or PostgreSQL. Sessions (:meth:`Database.read`, :meth:`Database.write`) are for what is asked
now and then; compiled statements (``statements.py``), by every other method, are for what every call does.

On SQLite there can be one writer, so writers queue in the process (``fair_scheduling.py``) and take the file's write
lock at once (BEGIN IMMEDIATE): a transaction that starts never fails half-way for being late. On PostgreSQL writers
run side by side and lock rows.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import NullPool

from anycarrier.errors import ConfigurationError
from anycarrier_server.fair_scheduling import FairLock
from anycarrier_server.outage import outages_named
from anycarrier_server.store.postgresql import PostgresqlDriver
from anycarrier_server.store.sqlite import SqliteDriver
from anycarrier_server.store.statements import Driver, OptimisticDriver, Statement, Work

T = TypeVar("T")

BUSY_MS = 15_000
"""How long SQLite waits for another process's write lock."""


ANSWERS_WITHIN = 15.0
"""Seconds PostgreSQL has to answer a statement, and to give us a connection: one that accepts and says nothing (frozen,
behind a broken network) is as unavailable as one that refuses."""


class Database:
    """Connections to one database. ``url`` is what people write: ``sqlite:///file`` or ``postgresql://...``."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = make_url(url)
        self._patience = ANSWERS_WITHIN
        backend = self.url.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ConfigurationError(
                f"the database URL is for {backend!r}; use sqlite:///file or postgresql://host/name"
            )
        self.sqlite = backend == "sqlite"
        if self.sqlite and self.url.database in (None, "", ":memory:"):
            raise ConfigurationError("the database must be a file: several connections have to see it")
        self.engine = create_async_engine(
            self.url.set(drivername="sqlite+aiosqlite" if self.sqlite else "postgresql+asyncpg"),
            pool_size=(pool_size + 1) // 2,
            max_overflow=(pool_size + 1) // 2,
            pool_pre_ping=not self.sqlite,
            pool_timeout=self._patience,
            connect_args={} if self.sqlite else {"timeout": self._patience, "command_timeout": self._patience},
        )
        if self.sqlite:
            prepare_sqlite(self.engine.sync_engine)
        self._readers = async_sessionmaker(self.engine, expire_on_commit=False)
        writing = self.engine.execution_options(anycarrier_write=True)
        self._writers = async_sessionmaker(writing, expire_on_commit=False)
        self._write_lock = FairLock()
        self.on_announcement: Callable[[], None] = lambda: None
        """Called after a commit that put something into the outbox."""
        self._writing: asyncio.Task[Any] | None = None
        dialect = self.engine.dialect
        self.optimistic: OptimisticDriver | None = None
        """For changes that are seldom met by another one; None where the lock costs nothing."""
        self._driver: Driver
        if self.sqlite:
            self._driver = SqliteDriver(self._connect_to_sqlite, dialect, self._write_lock)
        else:
            address = dialect.create_connect_args(self.engine.url)[1]
            self._driver = self.optimistic = PostgresqlDriver(address, dialect, pool_size, self._patience)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return "sqlite" if self.sqlite else "postgresql"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A transaction for reading; rows stay usable after it."""
        with outages_named():
            async with self._readers() as session, session.begin():
                yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A transaction for writing: committed at the end of the block, undone when it raises.

        On SQLite it owns the write lock from the first line, so what it reads cannot change before it writes.
        On PostgreSQL lock what you read (``with_for_update``).
        """
        if not self.sqlite:
            with outages_named():
                async with self._writers() as session, session.begin():
                    yield session
            return
        self._refuse_nested()
        async with self._write_lock:
            self._writing = asyncio.current_task()
            try:
                with outages_named():
                    async with self._writers() as session, session.begin():
                        await session.connection()
                        yield session
            finally:
                self._writing = None

    @asynccontextmanager
    async def unhurried(self) -> AsyncIterator[AsyncSession]:
        """As :meth:`write`, without a limit to how long a statement takes: for migrations, which may also wait for
        another process's, and for re-wrapping."""
        if self.sqlite:
            async with self.write() as session:
                yield session
            return
        engine = create_async_engine(self.engine.url, poolclass=NullPool, connect_args={"timeout": self._patience})
        try:
            with outages_named():
                async with AsyncSession(engine, expire_on_commit=False) as session, session.begin():
                    yield session
        finally:
            await engine.dispose()

    async def look(self, work: Work[T]) -> T:
        """Run ``work``, which reads, on the driver itself."""
        return await self._driver.read(work)

    async def transact(self, work: Work[T]) -> T:
        """Run ``work`` as one transaction on the driver itself; what it returns, once it is committed.

        What :meth:`write` says of locks holds here too.
        """
        self._refuse_nested()
        return await self._driver.write(work)

    async def act(self, statement: Statement, **values: Any) -> Any:
        """One statement that changes something, a transaction by itself: the first row it returns, None for none."""
        self._refuse_nested()
        return await self._driver.alone(statement, values)

    async def rows(self, statement: Statement, **values: Any) -> list[Any]:
        """All rows of one statement that reads."""
        return await self._driver.read(lambda tx: tx.rows(statement, **values))

    async def few(self, statement: Statement, **values: Any) -> list[Any]:
        """The same, of a statement that finds some tens of small rows by a key or an index."""
        return await self._driver.few(statement, values)

    async def row(self, statement: Statement, **values: Any) -> Any:
        """The first row of one that finds it by a key or an index; None when there is none."""
        return await self._driver.first(statement, values)

    async def close(self) -> None:
        """Close every connection."""
        await self._driver.close()
        await self.engine.dispose()

    def _refuse_nested(self) -> None:
        if self._writing is not None and self._writing is asyncio.current_task():
            # It would wait for itself for ever. On PostgreSQL it would work by luck, until it meets its own locks.
            raise RuntimeError("a write transaction inside another one of the same task")

    def _connect_to_sqlite(self) -> sqlite3.Connection:
        # Used by one thread, closed by another once that one is over.
        connection = sqlite3.connect(
            str(self.url.database), isolation_level=None, check_same_thread=False, cached_statements=256
        )
        _prepare(connection)
        return connection


def prepare_sqlite(engine: Engine) -> None:
    """Make the driver leave transactions to us, and every connection use WAL, foreign keys and patience."""

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGINs come too late and are never IMMEDIATE
        _prepare(connection)

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("anycarrier_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _prepare(connection: Any) -> None:
    """WAL, foreign keys and patience, for one connection."""
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    _into_wal(cursor)
    # In WAL, NORMAL loses at most the last commits on power loss, never on a crash of ours; and cannot corrupt.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -16384")
    cursor.close()


def _into_wal(cursor: Any) -> None:
    """Switch the file to WAL. The one statement that does not wait its turn: processes that start together on a new
    file may each find it locked for a moment, whatever the busy timeout says."""
    for left in range(BUSY_MS // 20, -1, -1):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if not left:
                raise
            time.sleep(0.02)
