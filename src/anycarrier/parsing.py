"""Reading what a carrier sent: if parsing code fails, a typed error names the field, never a value.

A plugin's parser works on JSON that others write. A missing key or a wrong type in it raises ``KeyError``,
``TypeError`` or a validation error, whose text may quote the message: phone numbers and whatever else was in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import PurePath
from types import TracebackType

import msgspec
from pydantic import ValidationError

from anycarrier.errors import AnycarrierError, MalformedMessage
from anycarrier.redaction import redact

READ_FAILURES = (LookupError, TypeError, ValueError, AttributeError, RecursionError, msgspec.MsgspecError)
"""What parsing code raises for a message of another shape than expected."""

_FIELD = re.compile(r"[A-Za-z_][\w.:-]{0,40}")
_VALUE = re.compile(r"\d{4}")
_SHOWN = 3
"""Fields named at most."""


class reading:
    """``with reading("acme webhook", request.body): ...`` raises ``MalformedMessage`` when the block cannot read it.

    The message names the field and the line of the block that failed: ``acme webhook cannot be read: 'status' is
    missing (KeyError, anycarrier_acme/__init__.py line 163)``. Typed errors of anycarrier pass through.
    """

    def __init__(self, what: str, raw: bytes | str = b"") -> None:
        self.what = what
        self.raw = raw

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(failure, READ_FAILURES) and not isinstance(failure, MalformedMessage):
            # Not chained: a validation error quotes what it read.
            raise unreadable(self.what, self.raw, failure) from None


def unreadable(what: str, raw: bytes | str, failure: BaseException) -> MalformedMessage:
    """What :class:`reading` raises, for a media serializer: there a ``with`` block would cost half as much again.

    ``except READ_FAILURES as failure: raise unreadable("acme media frame", frame, failure) from None``.
    """
    if isinstance(failure, MalformedMessage):
        return failure
    return MalformedMessage(f"{what} cannot be read: {explain(failure, failure.__traceback__)}", raw)


def explain(failure: BaseException, traceback: TracebackType | None) -> str:
    """Why parsing code failed, and where: field names and types, never a value."""
    problem, where = _problem(failure), _where(traceback)
    told = f"{type(failure).__name__}{f', {where}' if where else ''}"
    return f"{problem} ({told})" if problem else f"a value of another form than expected ({told})"


def _problem(failure: BaseException) -> str:
    if isinstance(failure, AnycarrierError):
        return str(failure)
    if isinstance(failure, KeyError):
        key = failure.args[0] if failure.args else None
        return f"{key!r} is missing" if _is_field(key) else "a key is missing"
    if isinstance(failure, ValidationError):
        fields = [_field_problem(error) for error in failure.errors(include_url=False, include_input=False)]
        more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
        return "; ".join(fields[:_SHOWN]) + more
    if isinstance(failure, msgspec.MsgspecError):
        return "" if "Invalid enum value" in str(failure) else _plain(failure)
    # The text of a ValueError quotes the value: invalid literal for int() with base 10: '...'
    return "" if isinstance(failure, ValueError | RecursionError) else _plain(failure)


def _field_problem(error: object) -> str:
    assert isinstance(error, dict)
    path = ".".join(str(part) if _is_field(str(part)) or isinstance(part, int) else "..." for part in error["loc"])
    # A validator's own words may quote the value; pydantic's do not.
    words = "is refused" if error["type"] in ("value_error", "assertion_error") else str(error["msg"]).lower()
    return f"{path or 'the whole'}: {words}"


def _plain(failure: BaseException) -> str:
    return redact(str(failure))[:160]


def _is_field(key: object) -> bool:
    return isinstance(key, str) and _FIELD.fullmatch(key) is not None and _VALUE.search(key) is None


def _where(traceback: TracebackType | None) -> str:
    """The last line of the author's own code: the package in which the block stands."""
    place, package = "", None
    while traceback is not None:
        frame = traceback.tb_frame
        here = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        package = package or here
        if here == package:
            file = PurePath(frame.f_code.co_filename)
            place = f"{file.parent.name}/{file.name} line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return place


# --- the values in a message: None for what is no plausible one ----------------------------------------------------

EARLIEST = 2000
"""The year; an earlier time in a call is a mistake, and arithmetic on it may fail."""

_DURATION = re.compile(r"PT(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9}(?:\.\d{1,9})?)S)?")


def text_of(told: object, name: str) -> str:
    """The text under ``name`` in an object; "" where there is none, or something else, or no object."""
    value = told.get(name) if isinstance(told, Mapping) else None
    return value if isinstance(value, str) else ""


def moment(text: object) -> datetime | None:
    """A time in ISO 8601 or RFC 2822, in UTC; one that names no zone is in UTC already."""
    if not isinstance(text, str) or not text:
        return None
    try:
        read = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        read = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return read if read.year >= EARLIEST else None


def seconds(text: object) -> float | None:
    """A duration: a number of seconds, or ISO 8601's ``PT1M13.5S``."""
    if isinstance(text, str) and text.startswith("PT") and len(text) > 2 and (found := _DURATION.fullmatch(text)):
        hours, minutes, rest = (float(part or 0) for part in found.groups())
        return hours * 3600 + minutes * 60 + rest
    try:
        value = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return value if 0 <= value < 1e9 else None


def integer(text: object) -> int | None:
    """A whole number of at most nine digits, as text or as a number."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text if 0 <= text < 10**9 else None
    return int(text) if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 9 else None


def sip_code(text: object) -> int | None:
    """A SIP status code, 100 to 699."""
    code = integer(text)
    return code if code is not None and 100 <= code < 700 else None


def decimal(text: object) -> Decimal | None:
    """An amount of money; its sign is kept."""
    try:
        amount = Decimal(str(text))
    except ArithmeticError:
        return None
    return amount if amount.is_finite() else None


def fingerprint(message: Mapping[str, object] | bytes) -> str:
    """The same 16 characters for the same form or body: an ``event_id`` where the carrier gives none."""
    told = message if isinstance(message, bytes) else repr(sorted(message.items())).encode("utf-8", "replace")
    return sha256(told).hexdigest()[:16]
