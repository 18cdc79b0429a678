"""Compiled statements, and the transactions that run them on the driver itself: for what every call does.

An async session builds, looks up, compiles and unpacks a statement anew each time: 0.6 to 0.9 ms of CPU for the
simplest one, of which the driver needs a tenth. What a call needs is therefore a constant of its module, written with
SQLAlchemy and compiled once for each dialect: its text, the order of its parameters, and what becomes of each column.

A transaction's work is an ``async`` function of one argument, and awaits nothing else. On PostgreSQL it runs in the
event loop. On SQLite it runs from its first line to its last in a thread, where nothing it awaits ever waits: one
change of threads for each transaction, and none for each statement.
"""

from __future__ import annotations

import re
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Dialect, Executable, Table, bindparam
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import class_mapper

Write = Callable[[Any], Executable]
"""Writes a statement, given the dialect's own ``insert``: ``on_conflict`` is theirs."""

PARAMETER = re.compile(r"\$(\d+)")

Record = Sequence[Any]
Make = Callable[[Record], Any]


class Statement:
    """``into``: the models whose tables the columns are, one after the other; rows are then those models' instances
    (a tuple of them when there are several, None for one that an outer join did not find). Else rows are named tuples.

    ``columns`` names what an insert or update sets, by the tables' own column names.
    """

    def __init__(self, write: Executable | Write, *, into: Sequence[type] = (), columns: Sequence[str] = ()) -> None:
        self._write = write
        self._into = tuple(into)
        self._columns = list(columns) or None
        self._compiled: dict[str, Compiled] = {}

    def on(self, dialect: Dialect) -> Compiled:
        """The statement as this dialect has it."""
        found = self._compiled.get(dialect.name)
        if found is None:
            insert = sqlite_insert if dialect.name == "sqlite" else postgresql_insert
            written = self._write if isinstance(self._write, Executable) else self._write(insert)
            found = self._compiled[dialect.name] = Compiled(written, self._into, self._columns, dialect)
        return found


Act = tuple[Statement, Mapping[str, Any]]
"""A statement and its values."""


class Rows:
    """Inserts several rows at once, in their order: what counts rows up does so in it. ``table`` is a model's."""

    def __init__(self, model: type, columns: Sequence[str], *, unless_there: bool = False) -> None:
        self._table = table_of(model)
        self._columns = tuple(columns)
        self._unless_there = unless_there
        self._for: dict[int, Statement] = {}

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Act:
        """What inserts these."""
        values = {f"{name}_{at}": row[name] for at, row in enumerate(rows) for name in self._columns}
        return self._for.get(len(rows)) or self._write(len(rows)), values

    def _write(self, count: int) -> Statement:
        kinds = {name: self._table.c[name].type for name in self._columns}
        values = [{name: bindparam(f"{name}_{at}", type_=kinds[name]) for name in kinds} for at in range(count)]

        def write(insert: Any) -> Executable:
            made = insert(self._table).values(values)
            return made.on_conflict_do_nothing() if self._unless_there else made  # type: ignore[no-any-return]

        return self._for.setdefault(count, Statement(write))


class JoinedStatements:
    """Statements of which none needs what another does, joined into one for PostgreSQL: one round trip for all.

    All see the rows as they were before, references are checked after, and their order is not defined. The first
    ``guards`` of them must return a row, or nothing is done: the joined statement divides by the number of rows that
    each of them returned.

    asyncpg has no pipeline mode. One change of a call takes 6.3 ms joined and guarded by the row's version, 11.5 ms
    joined under a lock, and 14.5 ms statement by statement where a round trip takes 2.5 ms; 0.79, 0.75 and 0.82 ms
    where the server is on the same machine (docs/benchmarks.md, "changes").
    """

    def __init__(self, statements: Sequence[Statement], dialect: Dialect, *, guards: int = 0) -> None:
        parts, count = [], 0
        for number, statement in enumerate(statements, 1):
            found = statement.on(dialect)
            shifted = PARAMETER.sub(lambda given: f"${int(given[1]) + count}", found.sql)  # noqa: B023 used at once
            count += found.width
            parts.append(f"s{number} AS ({shifted})")
        guard = "".join(f" / (SELECT count(*) FROM s{number})" for number in range(1, guards + 1))  # noqa: S608 numbers
        version = ", pg_current_xact_id()::xid::text" if guards else ""
        self.sql = f"WITH {', '.join(parts)} SELECT 1{guard}{version}"
        self._each = [statement.on(dialect) for statement in statements]

    def arguments(self, values: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The parameters of all of them."""
        return [given for found, of in zip(self._each, values, strict=True) for given in found.arguments(of)]


class Compiled:
    """A statement's text for one dialect, and how values go in and come out."""

    def __init__(self, written: Any, into: tuple[type, ...], columns: list[str] | None, dialect: Dialect) -> None:
        made = written.compile(dialect=dialect, column_keys=columns)
        self.sql: str = made.string
        fixed = made.params
        # What the models fill in by themselves is a session's doing; here it is said.
        left_open = {column.key for column in (*made.insert_prefetch, *made.update_prefetch)}
        self._inputs = []
        for name in made.positiontup or ():
            bound = made.binds[name]
            process = bound.type.dialect_impl(dialect).bind_processor(dialect)
            self._inputs.append((name, bound.required or name in left_open, fixed[name], process))
        returned = getattr(written, "exported_columns", None)
        self._make = _maker(list(returned), into, dialect) if returned is not None and len(returned) else tuple

    @property
    def width(self) -> int:
        """How many parameters it has."""
        return len(self._inputs)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The parameters in the driver's order; ``KeyError`` names one that was not given."""
        return [
            (values[name] if required else values.get(name, fixed))
            if process is None
            else process(values[name] if required else values.get(name, fixed))
            for name, required, fixed, process in self._inputs
        ]

    def row(self, record: Record) -> Any:
        """What the statement's reader gets for a record of the driver's."""
        return self._make(record)


def _maker(columns: list[Any], into: tuple[type, ...], dialect: Dialect) -> Make:
    readers = [_reader(column.type, dialect) for column in columns]
    plain = not any(readers)
    if not into:
        names = [column.key for column in columns]
        kind: Any = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # known when the statement is
        made: Make = kind._make
    elif len(into) == 1:
        made = _model_maker(into[0])[1]
    else:
        made = _models_maker(into)
    return made if plain else lambda record: made(_read(record, readers))


def _models_maker(models: tuple[type, ...]) -> Make:
    makers = [_model_maker(model) for model in models]

    def make(record: Record) -> tuple[Any, ...]:
        values = iter(record)
        return tuple(make(tuple(islice(values, width))) for width, make in makers)

    return make


def _read(record: Record, readers: list[Callable[[Any], Any] | None]) -> list[Any]:
    return [value if read is None else read(value) for value, read in zip(record, readers, strict=True)]


def _reader(kind: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    if dialect.name == "postgresql":
        return None  # its driver gives what our columns are: uuids, aware UTC, decoded JSON
    found: Callable[[Any], Any] | None = kind.dialect_impl(dialect).result_processor(dialect, None)
    return found


@cache
def _model_maker(model: Any) -> tuple[int, Make]:
    """How many columns the model's table has, and what makes an instance of their values: detached, as sessions of
    ours give rows."""
    mapper: Any = class_mapper(model)
    table: Any = mapper.local_table
    names = [mapper.get_property_by_column(column).key for column in table.columns]
    key = names.index(mapper.get_property_by_column(next(iter(table.primary_key))).key)
    new = mapper.class_manager.new_instance

    def make(values: Record) -> Any:
        if values[key] is None:
            return None
        made = new()
        made.__dict__.update(zip(names, values, strict=True))
        return made

    return len(names), make


Model = TypeVar("Model")


def as_stored(model: type[Model], values: Mapping[str, Any]) -> Model:
    """The instance that reading the row back would give, which was just inserted with these ``values`` by the table's
    column names; what is not among them is empty."""
    names = [column.name for column in table_of(model).columns]
    made: Model = _model_maker(cast("Any", model))[1]([values.get(name) for name in names])
    return made


def table_of(model: type) -> Table:
    """The model's table, for statements that are no session's."""
    table = class_mapper(model).local_table
    assert isinstance(table, Table)
    return table


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

    async def run_joined(self, *acts: Act) -> None:
        """Statements of which none needs what another of them does, and nobody what they return."""
        ...


Work = Callable[[Transaction], Coroutine[Any, Any, T]]


class Driver(Protocol):
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


class OptimisticDriver(Protocol):
    """A driver with which looking and acting are cheaper apart than under a lock."""

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
