"""What commands print: a table, one thing with its fields, or JSON for programs; and on standard error what is being
waited for (nothing when it is quick), and questions.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
import time
import unicodedata
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

Value = str | Callable[[Mapping[str, Any]], Any]
"""A field's name (dotted for nested ones), or what makes the cell of a row."""


@dataclass(frozen=True, slots=True)
class Column:
    """``short`` takes the place of ``value`` on a terminal. ``rank`` 0 is never left out; the highest goes first.

    A ``flexible`` column may be cut when the table is still too wide.
    """

    heading: str
    value: Value
    short: Value | None = None
    rank: int = 0
    flexible: bool = False


Columns = Sequence[Column | str]
"""A plain name is both the heading and the field."""

GAP = 2
NARROWEST = 8
SHORT_ID = 8
ID = re.compile(r"([A-Za-z]+_)([0-9a-f]{32})")
RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"
COLOURS = {
    "failed": RED, "webhook.failed": RED, "NO": RED, "incomplete": YELLOW, "inactive": YELLOW, "paused": YELLOW,
    "revoked": YELLOW, "in_progress": GREEN, "initiated": GREEN,
}  # fmt: skip
"""By the first word of a cell."""


def show_rows(asked: Namespace, rows: Sequence[Mapping[str, Any]], columns: Columns, empty: str = "") -> None:
    """A table, or with ``--json`` the rows as they came. ``empty`` is said when there are none."""
    if asked.json:
        print_json(rows)
    elif rows:
        width = None if getattr(asked, "wide", False) else terminal_width()
        lines, left_out = table(rows, columns, width)
        print(lines)
        if left_out:
            print(f"({', '.join(left_out)} left out: --wide shows all)", file=sys.stderr)
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
        print(f"{name:<{width}}  {painted(text(value)) if name == 'status' else text(value)}")


def say(asked: Namespace, sentence: str, answer: Any) -> None:
    """What was done, in a sentence, or with ``--json`` the answer itself."""
    if asked.json:
        print_json(answer)
    else:
        print(clean(sentence))


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def terminal_width() -> int | None:
    """How many columns the terminal has; None when the output goes to no terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def painted(cell: str, colour: str | None = None) -> str:
    """The cell in ``colour``, else in the colour of its first word. Plain text without a terminal, or with NO_COLOR
    set (https://no-color.org)."""
    colour = colour or COLOURS.get(cell.partition(" ")[0].rstrip(":"))
    if colour is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return cell
    return f"\033[{colour}m{cell}\033[0m"


def table(rows: Sequence[Mapping[str, Any]], columns: Columns, width: int | None = None) -> tuple[str, list[str]]:
    """Columns aligned, two spaces apart, headings in capitals; and the headings of those there was no room for.

    ``width`` None: there is room for everything.
    """
    chosen = [Column(one, one) if isinstance(one, str) else one for one in columns]
    if width is not None:
        chosen = [replace(one, value=one.short) if one.short is not None else one for one in chosen]
    cells = {one.heading: _cells(rows, one, short=width is not None) for one in chosen}
    left_out: list[str] = []
    if width is not None:
        for one in sorted((one for one in chosen if one.rank), key=lambda one: -one.rank):
            if _width(chosen, cells) > width:
                chosen.remove(one)
                left_out.append(one.heading.upper())
        _cut(chosen, cells, width)
    widths = [max(map(columns_of, cells[one.heading])) for one in chosen]
    lines = []
    for at in range(len(rows) + 1):
        line = [cells[one.heading][at] for one in chosen]
        padded = [
            (painted(cell) if at and one.heading == "status" else cell) + " " * (wide - columns_of(cell))
            for one, cell, wide in zip(chosen, line, widths, strict=True)
        ]
        lines.append((" " * GAP).join(padded).rstrip())
    return "\n".join(lines), left_out


def _cells(rows: Sequence[Mapping[str, Any]], column: Column, *, short: bool) -> list[str]:
    """The heading and the column's cells."""
    found = [text(_value(row, column.value)) for row in rows]
    if short:
        found = shortened(found)
    return [column.heading.upper(), *found]


def _width(columns: Sequence[Column], cells: Mapping[str, Sequence[str]]) -> int:
    return sum(max(map(columns_of, cells[one.heading])) + GAP for one in columns) - GAP


def _cut(columns: Sequence[Column], cells: dict[str, list[str]], width: int) -> None:
    """Cut flexible columns, the widest first, as far as it must be and no narrower than their heading allows."""
    while (over := _width(columns, cells) - width) > 0:
        flexible = [one.heading for one in columns if one.flexible]
        room = {name: max(map(columns_of, cells[name])) for name in flexible}
        room = {name: wide for name, wide in room.items() if wide > max(NARROWEST, len(name))}
        if not room:
            return
        widest = max(room, key=lambda name: room[name])
        limit = max(NARROWEST, len(widest), room[widest] - over)
        cells[widest] = [_cut_cell(cell, limit) for cell in cells[widest]]


def _cut_cell(cell: str, limit: int) -> str:
    if columns_of(cell) <= limit:
        return cell
    while columns_of(cell) > limit - 1:
        cell = cell[:-1]
    return cell + "…"


def columns_of(cell: str) -> int:
    """How many columns of a terminal the text takes: Chinese, Japanese and Korean characters take two, marks none."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in cell
    )


def shortened(ids: Sequence[str]) -> list[str]:
    """Ids with as many digits as tell them apart, eight at least; what is no id stays as it is."""
    length = SHORT_ID
    whole = {one for one in ids if ID.fullmatch(one)}
    while length < 32 and len({_first(one, length) for one in whole}) < len(whole):
        length += 1
    return [_first(one, length) for one in ids]


def _first(one: str, length: int) -> str:
    found = ID.fullmatch(one)
    return found[1] + found[2][:length] if found else one


def time_column(name: str, heading: str = "at (utc)", rank: int = 0) -> Column:
    """A column of times: UTC, as in the server's log, with the zone in the heading. On a terminal to the minute."""

    def of(row: Mapping[str, Any], form: str) -> str:
        return at_utc(row.get(name), form)

    return Column(
        heading, lambda row: of(row, "%Y-%m-%d %H:%M:%S"), short=lambda row: of(row, "%m-%d %H:%M"), rank=rank
    )


def clock_column(name: str) -> Column:
    """A column of times of one day, to the millisecond, in UTC."""
    return Column(f"{name} (utc)", lambda row: at_utc(row[name], "%H:%M:%S.%f")[:-3])


def at_utc(value: str | None, form: str) -> str:
    """A time of the server's as ``strftime`` writes it, in UTC; empty for none."""
    return datetime.fromisoformat(value).astimezone(UTC).strftime(form) if value else ""


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


def _value(row: Mapping[str, Any], source: Value) -> Any:
    if callable(source):
        return source(row)
    found: Any = row
    for name in source.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


PATIENCE = 0.5
"""Seconds before anything is said."""


@asynccontextmanager
async def working(what: str, patience: float = PATIENCE) -> AsyncIterator[None]:
    """``working("asking the carrier")``: on a terminal with the seconds counted, elsewhere one line."""
    task = asyncio.get_running_loop().create_task(_tell(what, patience))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _tell(what: str, patience: float) -> None:
    began = time.monotonic()
    await asyncio.sleep(patience)
    if not sys.stderr.isatty():
        step(f"{what} ...")
        return
    try:
        while True:
            print(f"\r{what} ... {time.monotonic() - began:.0f} s", end="", file=sys.stderr, flush=True)
            await asyncio.sleep(1.0)
    finally:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def agreed(question: str) -> bool:
    """Ask on the terminal; no without one."""
    if not sys.stdin.isatty():
        step(f"{question} not done: say --yes, or answer on a terminal")
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def step(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)
