"""Transactions on the driver itself, for what every call does: see ``statements.py`` for why.

A transaction's work is an ``async`` function of one argument, which awaits nothing but that. On PostgreSQL it runs in
the event loop. On SQLite it runs from its first line to its last in a thread, where nothing it awaits ever waits:
one change of threads for each transaction, and none for each statement.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from anycarrier_server.store.statements import Act, Statement

if TYPE_CHECKING:
    pass

T = TypeVar("T")


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

    async def few(self, statement: Statement, values: Mapping[str, Any]) -> list[Any]:
        """All rows of a statement that finds few of them, small ones, by a key or an index."""
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

    async def act_if(self, guards: int, *acts: Act) -> str | None:
        """All of it if each of the first ``guards`` changes a row, which says that nobody was quicker; else nothing,
        and None. What comes back is the version that rows written here have now."""
        ...


def values_fault(problem: Exception) -> bool:
    """True when the database works and what it was given is at fault: a broken reference, a value it cannot hold."""
    import asyncpg

    if isinstance(problem, sqlite3.IntegrityError | sqlite3.DataError | asyncpg.IntegrityConstraintViolationError):
        return True
    # A value its parameter cannot hold never reaches the database: the driver, or the column's type, refuses it.
    unfit = ValueError | TypeError | AttributeError | OverflowError
    return isinstance(problem, unfit | asyncpg.DataError | sqlite3.ProgrammingError)
