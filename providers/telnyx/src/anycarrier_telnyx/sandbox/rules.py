"""The small language of ``fields``: what a value may be, and which of the carrier's errors it earns if not.

A rule is a text (``"int 5..600"``, ``"enum wav|mp3"``, ``"url"``), a list of one rule, or a mapping of names to
rules in which ``name!`` is required. A text ending in ``?`` allows null.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from anycarrier_telnyx.sandbox.errors import problem

Rule = str | list[Any] | Mapping[str, Any]

E164 = re.compile(r"\+[1-9]\d{6,14}")
DIGITS = re.compile(r"[0-9A-D*#wW]+")
SCHEMES = {"url": ("http", "https"), "ws": ("ws", "wss")}
RANGE_CODES = {"timeout_secs": "90028", "time_limit_secs": "90029"}


def problems(rule: Rule, value: Any, pointer: str = "") -> Iterator[dict[str, Any]]:
    """Every entry of the error list that ``value`` earns; none when it keeps to ``rule``."""
    if isinstance(rule, str):
        yield from _text_problems(rule, value, pointer)
    elif isinstance(rule, list):
        if not isinstance(value, list):
            yield problem("10015", "The value must be a list.", pointer=pointer)
        else:
            for at, item in enumerate(value):
                yield from problems(rule[0], item, f"{pointer}/{at}")
    elif not isinstance(value, Mapping):
        yield problem("10015", "The value must be an object.", pointer=pointer)
    else:
        yield from _object_problems(rule, value, pointer)


def _object_problems(rule: Mapping[str, Any], value: Mapping[str, Any], pointer: str) -> Iterator[dict[str, Any]]:
    known = {name.rstrip("!"): inner for name, inner in rule.items()}
    missing = [n[:-1] for n in rule if n.endswith("!") and value.get(n[:-1]) in (None, "", [])]
    for name in missing:
        yield problem("10004", f"The '{name}' parameter is required.", pointer=f"{pointer}/{name}")
    for name, inner in value.items():
        if name not in known:
            yield problem("10015", f"The '{name}' parameter is not known here.", pointer=f"{pointer}/{name}")
        elif name not in missing:
            yield from problems(known[name], inner, f"{pointer}/{name}")


def _text_problems(rule: str, value: Any, pointer: str) -> Iterator[dict[str, Any]]:
    if rule.endswith("?"):
        if value is None:
            return
        rule = rule[:-1]
    kind, _, limits = rule.partition(" ")
    name = pointer.rsplit("/", 1)[-1]
    if kind == "unsupported":
        yield problem("10038", f"The sandbox does not play '{name}'.", pointer=pointer)
    elif kind == "any":
        return
    elif kind == "int":
        if isinstance(value, bool) or not isinstance(value, int):
            yield problem("10015", f"'{name}' must be an integer.", pointer=pointer)
        elif limits and not _within(value, limits):
            yield problem(RANGE_CODES.get(name, "10033"), f"'{name}' must be within {limits}.", pointer=pointer)
    elif kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            yield problem("10015", f"'{name}' must be a number.", pointer=pointer)
    elif kind == "bool":
        if not isinstance(value, bool):
            yield problem("10015", f"'{name}' must be a boolean.", pointer=pointer)
    elif kind == "obj":
        if not isinstance(value, Mapping):
            yield problem("10015", f"'{name}' must be an object.", pointer=pointer)
    elif kind == "enum":
        if str(value) not in limits.split("|") or isinstance(value, bool):
            yield problem("10032", f"'{name}' must be one of {limits.replace('|', ', ')}.", pointer=pointer)
    elif not isinstance(value, str):
        yield problem("10015", f"'{name}' must be a string.", pointer=pointer)
    else:
        yield from _string_problems(kind, limits, value, name, pointer)


def _string_problems(kind: str, limits: str, value: str, name: str, pointer: str) -> Iterator[dict[str, Any]]:
    if kind == "str":
        if limits and not _within(len(value), limits):
            yield problem("10033", f"'{name}' must be {limits} characters long.", pointer=pointer)
    elif kind in SCHEMES:
        parts = urlsplit(value)
        if parts.scheme not in SCHEMES[kind] or not parts.netloc or len(value) > 2000:
            yield problem("10015", f"'{name}' must be a {kind} URL.", pointer=pointer)
    elif kind == "e164":
        if not E164.fullmatch(value):
            yield problem("10016", f"'{name}' must be in +E.164 format.", pointer=pointer)
    elif kind == "dialled":
        if not E164.fullmatch(value.partition(",")[0]) and not value.startswith("sip:"):
            yield problem("10016", f"'{name}' must be in +E.164 format or a SIP URI.", pointer=pointer)
    elif kind == "state":
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error:
            yield problem("90017", f"'{name}' must be Base64.", pointer=pointer)
    elif kind == "digits":
        if not DIGITS.fullmatch(value):
            yield problem("90014", "Allowed are 0-9, A-D, *, #, w and W.", pointer=pointer)
    else:  # a misspelt rule is the sandbox's own bug and must not pass as "anything goes"
        raise LookupError(kind)


def _within(value: int, limits: str) -> bool:
    low, high = limits.split("..")
    return (not low or value >= int(low)) and (not high or value <= int(high))
