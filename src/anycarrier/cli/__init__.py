"""``anycarrier ...``: finds the command's module and runs it.

A command is a function ``main(argv) -> int`` with a parser of its own, imported only when it is named. Other
distributions add commands by the entry-point group ``anycarrier.commands``: each entry is a ``dict[str, Command]``.
"""

from __future__ import annotations

import difflib
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Any, NamedTuple, NoReturn

from anycarrier.errors import AnycarrierError
from anycarrier.redaction import redact


class Command(NamedTuple):
    """A command: the function that runs it (``module:function``), and what it is for."""

    target: str
    purpose: str


COMMANDS: dict[str, Command] = {
    "demo": Command("anycarrier.demo:main", "real calls through every installed carrier's sandbox, and what was heard"),
    "providers": Command("anycarrier.cli.plugin_commands:providers", "the installed carriers, and what each can do"),
    "engines": Command("anycarrier.cli.plugin_commands:engines", "the installed speech engines, and which are used"),
    "matrix": Command("anycarrier.cli.plugin_commands:matrix", "the capability table as Markdown"),
    "new-provider": Command("anycarrier.cli.plugin_commands:new_provider", "begin a carrier plugin of your own"),
    "new-engine": Command("anycarrier.cli.plugin_commands:new_engine", "begin a speech engine plugin of your own"),
}

SERVICE = (
    "serve credentials numbers agents calls recordings webhooks usage sandbox keys rules route doctor db rotate-key"
    " completion"
).split()
"""Commands of anycarrier-server; without it, each says what to install."""


def commands() -> dict[str, Command]:
    """Every command installed here, this distribution's last. One that another distribution has too is that one's."""
    found: dict[str, Command] = {}
    for entry in entry_points(group="anycarrier.commands"):
        try:
            found.update(entry.load())
        except Exception as failure:  # noqa: BLE001 - one broken distribution must not take every command away
            why = f"{type(failure).__name__}: {redact(str(failure))}"
            print(f"anycarrier: the commands of {entry.value} cannot be loaded: {why}", file=sys.stderr)
    demo, *rest = ((word, command) for word, command in COMMANDS.items() if word not in found)
    return dict([demo, *found.items(), *rest])


def help_text() -> str:
    """The help text: every command and its purpose."""
    known = commands()
    width = max(map(len, known))
    words = "\n".join(f"  {word:<{width}}  {command.purpose}" for word, command in known.items())
    more = "anycarrier COMMAND --help tells more; anycarrier --version prints the version."
    return f"usage: anycarrier COMMAND [...]\n\n{words}\n\n{more}"


def _command_first(words: Sequence[str]) -> list[str]:
    """``anycarrier --url URL calls ls`` as ``anycarrier calls ls --url URL``: common options may stand first."""
    rest = list(words)
    first: list[str] = []
    while rest and rest[0].partition("=")[0] in ("--url", "--key", "--direct", "--json"):
        first += [option := rest.pop(0)]
        if option in ("--url", "--key") and rest:
            first += [rest.pop(0)]
    if not rest:
        return first
    end = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:end], *first, *rest[end:]]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 for success, 1 for a negative result, 2 for wrong usage."""
    word, *rest = [*_command_first(sys.argv[1:] if argv is None else argv), ""]
    if word in ("", "-h", "--help", "help"):
        print(help_text())
        return 0 if word else 2
    if word in ("-V", "--version", "version"):
        print(f"anycarrier {version('anycarrier')}")
        return 0
    known = commands()
    if word not in known:
        if word in SERVICE:
            print(of_the_service(word), file=sys.stderr)
        else:
            print(f"unknown command {word!r}{near(word, known)}\n\n{help_text()}", file=sys.stderr)
        return 2
    module, _, function = known[word].target.partition(":")
    run: Callable[[list[str]], int] = getattr(import_module(module), function)
    try:
        code = run(rest[:-1])
        sys.stdout.flush()
        return code
    except AnycarrierError as error:
        print(f"anycarrier {word}: {error}", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has closed the pipe, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def of_the_service(words: str) -> str:
    """The message for a command that only anycarrier-server has."""
    return (
        f"{words!r} is a command of the service, which is not installed: install anycarrier-server "
        "(in a checkout: pip install ./contrib/server)"
    )


def about(docstring: str | None) -> str:
    """The purpose from a module's docstring, without the command's name, for ``--help``."""
    return (docstring or "").partition(": ")[2].replace("``", "")


class Parser(ArgumentParser):
    """Reports an error in one line, suggests the closest option, and accepts options between positional arguments.

    Plain argparse prints its whole usage before an error, and rejects ``a --b c d=1``.
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
    """The options of a parser and of its subparsers."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action.choices, Mapping):  # verbs
            for below in action.choices.values():
                yield from _options(below)


def near(text: str, known: Iterable[str]) -> str:
    """`` (did you mean 'calls'?)``, or "" if nothing in ``known`` is close."""
    found = difflib.get_close_matches(text, list(known), n=1, cutoff=0.7)
    return f" (did you mean {found[0]!r}?)" if found else ""
