"""Printing what the server said: a table, one thing with its fields, or JSON for programs."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Column = str | tuple[str, str | Callable[[Mapping[str, Any]], Any]]
"""A field's name, or a heading and the field (dotted for nested ones) or function it comes from."""


def show_rows(asked: Namespace, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], empty: str = "") -> None:
    """A table, or with ``--json`` the rows as they came. ``empty`` is said when there are none."""
    if asked.json:
        print_json(rows)
    elif rows:
        print(table(rows, columns))
    elif empty:
        print(empty)


def show_one(asked: Namespace, thing: Mapping[str, Any], hide: Iterable[str] = ()) -> None:
    """One thing, a field a line; nested objects as JSON. Fields without a value are left out."""
    if asked.json:
        print_json(thing)
        return
    shown = {name: value for name, value in thing.items() if value not in (None, [], {}, "") and name not in set(hide)}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        print(f"{name:<{width}}  {text(value)}")


def say(asked: Namespace, sentence: str, answer: Any) -> None:
    """What was done, in a sentence, or with ``--json`` the answer itself."""
    if asked.json:
        print_json(answer)
    else:
        print(clean(sentence))


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Columns aligned, two spaces apart, headings in capitals."""
    headings = [(column if isinstance(column, str) else column[0]).upper() for column in columns]
    lines = [headings] + [[text(_value(row, column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def text(value: Any) -> str:
    """A value as a person reads it: ``-`` for nothing, JSON for what is nested."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        if all(isinstance(item, str) for item in value) and not isinstance(value, Mapping):
            return clean(", ".join(value)) or "-"
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    return clean(str(value))


def clean(value: str) -> str:
    """Without control characters: what others named must not steer the terminal, nor break a table."""
    return "".join(char if char.isprintable() else "\ufffd" if not char.isspace() else " " for char in value)


def _value(row: Mapping[str, Any], column: Column) -> Any:
    source = column if isinstance(column, str) else column[1]
    if callable(source):
        return source(row)
    found: Any = row
    for name in source.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
