"""What people type, read: ``name=value`` words, phone numbers, times, how many."""

from __future__ import annotations

import json
import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from anycarrier.errors import InvalidNumber
from anycarrier.numbers import e164

AGO = re.compile(r"(\d{1,6})([smhd])")
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def pair(text: str) -> tuple[str, Any]:
    """``speed=1.2`` -> ("speed", 1.2): the value is JSON where it reads as JSON, else the text as it stands."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ArgumentTypeError(f"{name[:40]!r} is not of the form name=value")
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    return name.strip(), read


def text_pair(text: str) -> tuple[str, str]:
    """``account=007`` -> ("account", "007"): the value stays text."""
    name, _ = pair(text)
    return name, text.partition("=")[2]


def phone_number(text: str) -> str:
    """An E.164 number; spaces, dashes, dots and brackets between its digits are passed over."""
    try:
        return e164(text.translate({ord(char): None for char in " -.()"}))
    except InvalidNumber as wrong:
        raise ArgumentTypeError(str(wrong)) from None


def at_least_one(text: str) -> int:
    """How many of something: 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text[:20]!r} is not a number from 1")
    return int(text)


def timestamp(text: str) -> str:
    """``2026-01-31T12:00:00Z``, ``2026-01-31`` (00:00 UTC), or ``90m``, ``2h``, ``7d`` ago, as the API takes it."""
    if ago := AGO.fullmatch(text.strip()):
        found = datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            found = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ArgumentTypeError(
                f"{text[:40]!r} is not a time: write 2h, 2026-01-31 or 2026-01-31T12:00:00Z"
            ) from None
        if found.tzinfo is None:
            if len(text.strip()) > len("2026-01-31"):
                raise ArgumentTypeError(f"{text[:40]!r} names no zone: end it with Z, or an offset like +01:00")
            found = found.replace(tzinfo=UTC)
    return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
