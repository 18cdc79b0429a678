"""A command and its verbs, written as data, from which come the parser, the run and the completion scripts; and reading
what people type: ``name=value``, phone numbers, times, how many, and things by id, shortened id or name.

A verb's ``run`` is ``async def verb(client, asked) -> int | None``: the exit code, None for 0. Verbs that need no
server (``connects=False``) are called with the arguments alone.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from anycarrier.cli import Parser, near
from anycarrier.errors import AnycarrierError, InvalidNumber
from anycarrier.numbers import e164
from anycarrier_server.cli.output import clean

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


class Option(NamedTuple):
    """An argument as ``add_argument`` takes it."""

    flags: tuple[str, ...]
    details: Mapping[str, Any]


def option(*flags: str, **details: Any) -> Option:
    """``option("--limit", type=int, help="...")``, or ``option("number", help="...")`` for a position."""
    return Option(flags, details)


@dataclass(frozen=True, slots=True)
class Verb:
    """What can be done under a word."""

    run: Callable[..., Coroutine[Any, Any, int | None]]
    purpose: str
    options: Sequence[Option] = ()
    connects: bool = True


@dataclass(frozen=True, slots=True)
class Word:
    """``anycarrier NAME VERB``; a word that is its own verb has it under the empty name. ``default`` is the verb that
    is meant where none is given."""

    name: str
    purpose: str
    verbs: Mapping[str, Verb]
    default: str | None = None

    def parser(self) -> ArgumentParser:
        """Its parser; ``verb`` in the result is the :class:`Verb` chosen."""
        made = Parser(prog=f"anycarrier {self.name}", description=self.purpose, allow_abbrev=False)
        if "" in self.verbs:
            _fill(made, self.verbs[""])
            return made
        below = made.add_subparsers(metavar="VERB", required=True)
        for name, verb in self.verbs.items():
            _fill(below.add_parser(name, help=verb.purpose, description=verb.purpose, allow_abbrev=False), verb)
        return made

    def __call__(self, argv: list[str]) -> int:
        """Run the verb asked for; the exit code."""
        if self.default is not None and (not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help"))):
            argv = [self.default, *argv]
        if argv and "" not in self.verbs and argv[0] not in self.verbs and not argv[0].startswith("-"):
            asked_for = f"anycarrier {self.name} {argv[0]}"
            there = ", ".join(self.verbs)
            print(f"unknown command {asked_for!r}{near(argv[0], self.verbs)}: it is one of {there}", file=sys.stderr)
            return 2
        asked = self.parser().parse_args(argv)
        return asyncio.run(_run(asked)) or 0


CONNECTION = (
    option("--url", help="the server; default: ANYCARRIER_URL, else the one on this machine"),
    option("--key", help="an API key; default: ANYCARRIER_KEY, else the local server's. Others see what you type here"),
    option("--direct", action="store_true", help="work on the database of this machine's settings, without a server"),
)
JSON = option("--json", action="store_true", help="JSON instead of a table")
WIDE = option("--wide", action="store_true", help="the whole table, with whole ids, however narrow the terminal")


def _fill(parser: ArgumentParser, verb: Verb) -> None:
    for one in (*verb.options, JSON, *(CONNECTION if verb.connects else ())):
        parser.add_argument(*one.flags, **one.details)
    parser.set_defaults(verb=verb)


@asynccontextmanager
async def _connect(asked: Namespace) -> AsyncIterator[Client]:
    """The client for what the command line, the environment and this machine say."""
    from anycarrier_server.cli.client import remote_client
    from anycarrier_server.cli.connection import find_address, own_settings

    if asked.direct:
        settings = own_settings()
        from anycarrier_server.cli.direct import direct_client

        async with direct_client(settings) as client:
            yield client
        return
    async with remote_client(find_address(asked.url, asked.key)) as client:
        yield client


async def _run(asked: Namespace) -> int | None:
    verb: Verb = asked.verb
    if not verb.connects:
        return await verb.run(asked)
    async with _connect(asked) as client:
        return await verb.run(client, asked)


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


FEWEST = 6
"""Digits of an id that must be given."""

DIGITS = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
CANDIDATES = 5


class NotFound(AnycarrierError):
    """Nothing, or more than one thing, goes by that name."""

    exit_code = 1


async def agent_named(client: Client, text: str) -> dict[str, Any]:
    """The agent with this id, handle (``@`` or not) or name."""
    return pick(await client.every("/v1/agents"), text.removeprefix("@"), ("id", "handle", "name"), "agent")


async def credential_named(client: Client, text: str) -> dict[str, Any]:
    """The credential with this id or name."""
    return pick(await client.every("/v1/credentials"), text, ("id", "name"), "credential")


async def line_named(client: Client, text: str) -> dict[str, Any]:
    """The number in service, by itself (+1...), by id or by friendly name."""
    bare = text.translate({ord(char): None for char in " -.()"}) if text.startswith("+") else text
    return pick(await client.every("/v1/phone-numbers"), bare, ("id", "phone_number", "friendly_name"), "number")


async def call_named(client: Client, text: str) -> dict[str, Any]:
    """The call with this id, or with the only id that begins like this, as tables and ``calls tail`` print it."""
    kind, _, rest = text.rpartition("_")
    hexadecimal = digits(text).lower()
    if len(hexadecimal) == 32 or kind not in ("", "call") or len(hexadecimal) < FEWEST or not DIGITS.fullmatch(rest):
        found: dict[str, Any] = await client.get(f"/v1/calls/{text}")
        return found
    page = await client.get("/v1/calls/cursor", id_prefix=hexadecimal, limit=CANDIDATES)
    return await client.get(f"/v1/calls/{only(page['items'], text, 'call')['id']}")  # type: ignore[no-any-return]


async def handles(client: Client) -> dict[str, str]:
    """Agents' handles by their ids' hex digits, which is what every spelling of an id ends in."""
    return {digits(agent["id"]): agent["handle"] for agent in await client.every("/v1/agents")}


def digits(text: str | None) -> str:
    """``agt_<hex>`` or a plain uuid as its 32 hex digits."""
    return (text or "").rpartition("_")[2].replace("-", "")


def spelled(kind: str, id_: str) -> str:
    """An id as every command prints it, whichever API it is from: ``rul_73cb3f...`` for the rule ``73cb3f...``."""
    return f"{kind}_{digits(id_)}"


def begins(id_: str, text: str) -> bool:
    """True when the id, in either spelling, begins with ``text``: ``agt_51c0aa02``, ``51c0aa02`` or more of it."""
    kind, _, rest = text.casefold().rpartition("_")
    own_kind = id_.rpartition("_")[0].casefold()
    given = rest.replace("-", "")
    fits = not kind or own_kind.endswith(kind) or not own_kind  # "key" is "ApiKey" elsewhere
    return fits and len(given) >= FEWEST and bool(DIGITS.fullmatch(rest)) and digits(id_).casefold().startswith(given)


def pick(rows: Sequence[dict[str, Any]], text: str, fields: Iterable[str], kind: str) -> dict[str, Any]:
    """The one row that has ``text``, in any case, in the first field any has it in, or whose id begins like it;
    :class:`NotFound` otherwise."""
    names = tuple(fields)
    for name in names:
        found = [row for row in rows if str(row.get(name) or "").casefold() == text.casefold()]
        if found:
            return only(found, text, kind)
    if len(start := text.casefold().rstrip("…")) < len(text):  # cut by a table
        cut = [row for row in rows if any(str(row.get(name) or "").casefold().startswith(start) for name in names)]
        return only(cut, text, kind)
    if beginning := [row for row in rows if begins(str(row["id"]), text)]:
        return only(beginning, text, kind)
    known = [clean(str(row.get(names[1]) or row["id"])) for row in rows]
    listed = ", ".join(known[:10]) or "none"
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    raise NotFound(f"no {kind} {clean(text)!r}{near(text, known)} (known: {listed}{more})")


def only(rows: Sequence[dict[str, Any]], text: str, kind: str, where: str = "") -> dict[str, Any]:
    """The only row; :class:`NotFound` lists them when there are several, which only ids then tell apart.

    ``where`` is the command that lists what there is.
    """
    if not rows:
        listing = where or f"anycarrier {kind}s ls"
        raise NotFound(f"no {kind} has an id that begins with {clean(text)!r}: `{listing}` lists them")
    if len(rows) > 1:
        ids = ", ".join(str(row["id"]) for row in rows)
        raise NotFound(f"{clean(text)!r} could be any of {len(rows)}: give the id, one of {ids}")
    return rows[0]
