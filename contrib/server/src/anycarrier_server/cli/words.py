"""A word of the command line and its verbs, written down as data; from it come the parser, the run and completion.

A verb's ``run`` is ``async def verb(client, asked) -> int | None``: the exit code, None for 0. Verbs that need no
server (``connects=False``) are called with what was asked alone.
"""

from __future__ import annotations

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from anycarrier.cli.parser import Parser, near


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
    """``anycarrier NAME VERB``; a word that is its own verb has it under the empty name."""

    name: str
    purpose: str
    verbs: Mapping[str, Verb]

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

    def main(self, argv: list[str]) -> int:
        """Run the verb asked for."""
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


async def _run(asked: Namespace) -> int | None:
    verb: Verb = asked.verb
    if not verb.connects:
        return await verb.run(asked)
    from anycarrier_server.cli.client import connect

    async with connect(asked) as client:
        return await verb.run(client, asked)
