"""Row ids, column types that both databases have, and pages of rows.

There is one uuid per row. The faces show it as ``call_<32 hex>`` or as a plain uuid, and read both.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import (
    JSON,
    BigInteger,
    BindParameter,
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

from anycarrier_server.refusals import BadCursor

PREFIXES = {
    "workspace": "org",
    "key": "key",
    "agent": "agt",
    "credential": "crd",
    "line": "phn",
    "call": "call",
    "rule": "rul",
    "subscription": "wh",
    "event": "evt",
    "delivery": "dlv",
    "recording": "rec",
}


def new_id() -> UUID:
    """A fresh random id."""
    return uuid4()


def public_id(kind: str, id_: UUID) -> str:
    """``agt_5f0c...``: how an id of this kind is written in JSON, in logs and in ``Line.agent_id``."""
    return f"{PREFIXES[kind]}_{id_.hex}"


def parse_id(kind: str, text: str | UUID | None) -> UUID | None:
    """The uuid in ``agt_<hex>``, a plain uuid or 32 hex digits; None for anything else (so: unknown, 404)."""
    if isinstance(text, UUID) or text is None:
        return text
    bare = text.removeprefix(PREFIXES[kind] + "_")
    if len(bare) not in (32, 36):
        return None
    try:
        parsed = UUID(bare)
    except ValueError:
        return None
    # uuid.UUID also reads braces and urn: forms; ids have exactly two spellings.
    return parsed if bare.lower() in (parsed.hex, str(parsed)) else None


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


class listed_ids(FunctionElement[UUID]):
    """The ids in a JSON array of 32 hexadecimal digits each, for ``id_among``."""

    inherit_cache = True


@compiles(listed_ids, "sqlite")
def _listed_on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    listed = compiler.process(element.clauses, **options)
    return f"(SELECT value FROM json_each({listed}))"  # noqa: S608 an expression of ours, compiled


@compiles(listed_ids, "postgresql")
def _listed_on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    listed = compiler.process(element.clauses, **options)
    return f"(SELECT CAST(json_array_elements_text(CAST({listed} AS json)) AS uuid))"


def id_among(id_: ColumnElement[UUID], listed: BindParameter[Any]) -> ColumnElement[bool]:
    """Whether a row's id is in a JSON array of ids. Unlike :class:`among` it is a comparison, so that the index finds
    the rows."""
    return id_.op("IN", is_comparison=True)(listed_ids(listed))


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


T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows. ``next_cursor`` is None on the last page; ``has_more`` says the same."""

    items: list[T]
    next_cursor: str | None = None

    @property
    def has_more(self) -> bool:
        return self.next_cursor is not None


def write_cursor(created_at: datetime, id_: UUID) -> str:
    """A cursor that stands after this row."""
    micros = (created_at - EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + id_.bytes).decode()


def read_cursor(text: str) -> tuple[datetime, UUID]:
    """Where a cursor stands, or :class:`BadCursor`."""
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        if len(raw) != 24:
            raise BadCursor
        return EPOCH + timedelta(microseconds=int.from_bytes(raw[:8], "big", signed=True)), UUID(bytes=raw[8:])
    except (binascii.Error, UnicodeEncodeError, OverflowError):
        raise BadCursor from None
