"""Pages of rows, newest first, by offset or by an opaque cursor."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from anycarrier_server.refusals import BadCursor

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
