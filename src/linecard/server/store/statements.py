"""Statements that every call runs: written with SQLAlchemy, compiled once, given to the driver as they are.

An async session builds, looks up, compiles and unpacks a statement anew each time: 0.6 to 0.9 ms of CPU for the
simplest one, of which the driver needs a tenth. What a call needs is therefore a constant of its module; its text,
the order of its parameters and what becomes of each column are worked out once for each dialect.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Dialect, Executable, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.orm import class_mapper

Write = Callable[[Any], Executable]
"""Writes a statement, given the dialect's own ``insert``: ``on_conflict`` is theirs."""

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


def _model_maker(model: type) -> tuple[int, Make]:
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


def table_of(model: type) -> Table:
    """The model's table, for statements that are no session's."""
    table = class_mapper(model).local_table
    assert isinstance(table, Table)
    return table
