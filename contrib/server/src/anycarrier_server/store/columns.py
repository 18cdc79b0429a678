"""Column types that mean the same on SQLite and PostgreSQL, and the declarative base of every table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Dialect,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from anycarrier_server.store.ids import new_id


def utc_now() -> datetime:
    """The time as stored: aware UTC."""
    return datetime.now(UTC)


def word(value: str) -> ColumnElement[str]:
    """One of our own constant words, written into the statement instead of bound to it.

    Partial indexes are used only for conditions the planner can read: ``status <> ?`` could be anything.
    """
    if not value.isalpha():
        raise ValueError("only plain words may be written into a statement")
    return literal_column(f"'{value}'")


class seconds_of(FunctionElement[float]):
    """A time's seconds since 1970, to be added up in a statement."""

    inherit_cache = True
    type = Double()


@compiles(seconds_of, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **options)}) - 2440587.5) * 86400.0)"


@compiles(seconds_of, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"EXTRACT(EPOCH FROM {compiler.process(element.clauses, **options)})::float8"


class among(FunctionElement[bool]):
    """Whether the first value is in a JSON array, the second: a list of any length, bound as one parameter."""

    inherit_cache = True
    type = Boolean()


@compiles(among, "sqlite")
def _among_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    one, listed = (compiler.process(part, **options) for part in element.clauses)
    return f"({one} IN (SELECT value FROM json_each({listed})))"  # noqa: S608 two expressions of ours, compiled


@compiles(among, "postgresql")
def _among_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    one, listed = (compiler.process(part, **options) for part in element.clauses)
    return f"({one} IN (SELECT json_array_elements_text(CAST({listed} AS json))))"


class hex_of(FunctionElement[str]):
    """A UUID column as 32 hexadecimal digits."""

    inherit_cache = True
    type = String()


@compiles(hex_of, "sqlite")
def _hex_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


@compiles(hex_of, "postgresql")
def _hex_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"replace(CAST({compiler.process(element.clauses, **options)} AS text), '-', '')"


class Moment(TypeDecorator[datetime]):
    """Aware UTC in and out. SQLite has no zones, so there the text is UTC by convention."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the store are aware; this one has no zone")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON().with_variant(JSONB(), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")
"""A counting key: only INTEGER counts by itself on SQLite."""

RowId = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]
Counter = Annotated[int, mapped_column(Serial, primary_key=True, autoincrement=True)]
Created = Annotated[datetime, mapped_column(Moment, default=utc_now)]
Updated = Annotated[datetime, mapped_column(Moment, default=utc_now, onupdate=utc_now)]


class Table(DeclarativeBase):
    """Base of all tables. Rows are read detached and hold no lazy relations: what you have is what was read."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: Moment,
        dict[str, Any]: Json,
        list[Any]: Json,
        list[str]: Json,
        str: String,
        bytes: LargeBinary,
    }
