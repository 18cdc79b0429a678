"""The parser of every command: one line for a mistake, with the near word."""

from __future__ import annotations

import difflib
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn


def about(docstring: str | None) -> str:
    """What a command's module says it is for, without the command itself: for ``--help``."""
    return (docstring or "").partition(": ")[2].replace("``", "")


class Parser(ArgumentParser):
    """Says what is wrong in one line, with the near option, and takes options anywhere between positions.

    Plain argparse prints its whole usage before a mistake, and gives up at ``a --b c d=1``.
    """

    _inside = False

    def error(self, message: str) -> NoReturn:
        """Exit with 2."""
        wrong, _, typed = message.partition("unrecognized arguments: ")
        if not wrong and typed:
            first = typed.split()[0].partition("=")[0]
            message = f"unknown option {first}" if first.startswith("-") else f"nothing is expected at {first!r}"
            message += near(first, _options(self))
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` tells more\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._inside or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def _options(parser: ArgumentParser) -> Iterator[str]:
    """The options of a parser and of those below it."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action.choices, Mapping):  # verbs
            for below in action.choices.values():
                yield from _options(below)


def near(text: str, known: Iterable[str]) -> str:
    """`` (did you mean 'calls'?)``, or nothing when none of ``known`` is close."""
    found = difflib.get_close_matches(text, list(known), n=1, cutoff=0.7)
    return f" (did you mean {found[0]!r}?)" if found else ""
