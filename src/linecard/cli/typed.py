"""What people type, read: ``name=value`` words, phone numbers, how many."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from typing import Any

from linecard.errors import InvalidNumber
from linecard.numbers import e164


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
