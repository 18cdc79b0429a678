"""``anycarrier ...``: finds the command's own module and hands over.

A command is a function ``main(argv) -> int`` with a parser of its own, imported only when it is named. The words
are here, the work is not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NamedTuple

from anycarrier.errors import AnycarrierError


class Command(NamedTuple):
    """A word on the command line: ``module:function``, and what it is for."""

    target: str
    purpose: str


COMMANDS: dict[str, Command] = {
    "demo": Command("anycarrier.demo:main", "real calls through every installed carrier's sandbox, and what was heard"),
    "serve": Command("anycarrier.cli.serve:main", "the whole service: both APIs, media, recordings, sandboxes"),
    "credentials": Command("anycarrier.cli.credentials:main", "the carrier accounts the service may use"),
    "numbers": Command("anycarrier.cli.numbers:main", "phone numbers: find, buy, register, route, release"),
    "agents": Command("anycarrier.cli.agents:main", "who answers, and how they behave"),
    "engines": Command("anycarrier.cli.engines:main", "speech engines: list them, give them keys"),
    "calls": Command("anycarrier.cli.calls:main", "list, follow, make and end calls"),
    "recordings": Command("anycarrier.cli.recordings:main", "list, save and play recordings"),
    "webhooks": Command("anycarrier.cli.webhooks:main", "who is told of calls, what they were sent, sending it again"),
    "usage": Command("anycarrier.cli.usage:main", "how much was called, and what is left of the limits"),
    "sandbox": Command("anycarrier.cli.sandbox:main", "be the caller at a server that plays the carriers"),
    "keys": Command("anycarrier.cli.keys:main", "API keys: create, list, revoke"),
    "rules": Command("anycarrier.cli.rules:main", "whom an agent may call and be called by"),
    "route": Command("anycarrier.cli.route:main", "what would happen to an incoming call, and why"),
    "doctor": Command("anycarrier.cli.doctor:main", "check the setup, from API key to carriers, and repair drift"),
    "db": Command("anycarrier.cli.db:main", "the database's schema"),
    "rotate-key": Command("anycarrier.cli.rotate_key:main", "a new master key for everything sealed"),
    "completion": Command("anycarrier.cli.completion:main", "completion for bash, zsh and fish"),
    "providers": Command("anycarrier.cli.providers:main", "the carriers installed here, and what each can do"),
    "matrix": Command("anycarrier.cli.matrix:main", "the capability table as Markdown"),
    "new-provider": Command("anycarrier.cli.new_provider:main", "begin a carrier plugin of your own"),
}


def help_text() -> str:
    """The help text: every word and its purpose."""
    width = max(map(len, COMMANDS))
    words = "\n".join(f"  {word:<{width}}  {command.purpose}" for word, command in COMMANDS.items())
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
    if word not in COMMANDS:
        from anycarrier.cli.naming import near

        print(f"unknown command {word!r}{near(word, COMMANDS)}\n\n{help_text()}", file=sys.stderr)
        return 2
    module, _, function = COMMANDS[word].target.partition(":")
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
