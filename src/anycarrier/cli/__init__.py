"""``anycarrier ...``: finds the command's own module and hands over.

A command is a function ``main(argv) -> int`` with a parser of its own, imported only when it is named. Other
distributions add commands by the entry-point group ``anycarrier.commands``: each entry is a ``dict[str, Command]``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import NamedTuple

from anycarrier.cli.parser import near
from anycarrier.errors import AnycarrierError


class Command(NamedTuple):
    """A word on the command line: ``module:function``, and what it is for."""

    target: str
    purpose: str


COMMANDS: dict[str, Command] = {
    "demo": Command("anycarrier.demo:main", "real calls through every installed carrier's sandbox, and what was heard"),
    "providers": Command("anycarrier.cli.plugin_commands:providers", "the installed carriers, and what each can do"),
    "matrix": Command("anycarrier.cli.plugin_commands:matrix", "the capability table as Markdown"),
    "new-provider": Command("anycarrier.cli.plugin_commands:new_provider", "begin a carrier plugin of your own"),
    "new-engine": Command("anycarrier.cli.plugin_commands:new_engine", "begin a speech engine plugin of your own"),
}

SERVICE = (
    "serve credentials numbers agents engines calls recordings webhooks usage sandbox keys rules route doctor db"
    " rotate-key completion"
).split()
"""Commands of anycarrier-server, so that whoever types one without it is told what to install."""


def commands() -> dict[str, Command]:
    """Every command installed here, this distribution's last."""
    found: dict[str, Command] = {}
    for entry in entry_points(group="anycarrier.commands"):
        found.update(entry.load())
    demo, *rest = COMMANDS.items()
    return dict([demo, *found.items(), *rest])


def help_text() -> str:
    """The help text: every word and its purpose."""
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
    """Run one command; 0 when it did its work, 1 when the answer is no, 2 when it was asked wrongly."""
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
            print(f"anycarrier {word}: a command of the service: pip install anycarrier-server", file=sys.stderr)
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
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
