"""``anycarrier providers``, ``matrix``, ``new-provider`` and ``new-engine``: commands about plugins."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from anycarrier.cli.parser import Parser
from anycarrier.plugins import broken_plugins, capability_matrix, get_provider, provider_names


def describe(name: str) -> dict[str, Any]:
    """What a person or a program may want to know of one carrier."""
    provider = get_provider(name)
    return {
        "name": name,
        "title": provider.title,
        "capabilities": sorted(provider.capabilities),
        "credential": sorted(provider.credential_type.model_fields),
        "sandbox": bool(provider.sandbox),
        "module": provider.__module__.partition(".")[0],
    }


def providers(argv: list[str]) -> int:
    """The carriers installed here, what each can do, and the plugins that could not be loaded."""
    parser = Parser(prog="anycarrier providers", description=providers.__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(argv)
    found = [describe(name) for name in provider_names()]
    broken = {name: str(error) for name, error in broken_plugins().items()}
    if options.json:
        print(json.dumps({"providers": found, "broken": broken}))
        return 1 if broken else 0
    if not found:
        print("No carrier is installed. Plugins are distributions of their own: docs/quickstart.md says from where")
    for one in found:
        sandbox = "with a sandbox" if one["sandbox"] else "no sandbox"
        print(f"{one['name']:<12} {one['title']}, from {one['module']}, {sandbox}")
        print(f"{'':<12} credential: {', '.join(one['credential'])}")
        print(f"{'':<12} can also: {', '.join(one['capabilities']) or 'nothing beyond the contract'}")
    for name, reason in broken.items():
        print(f"{name:<12} NOT LOADED: {reason}")
    return 1 if broken else 0


def matrix(argv: list[str]) -> int:
    """The capability table as Markdown; written to a page, or checked against one."""
    parser = Parser(prog="anycarrier matrix", description=matrix.__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--write", type=Path, metavar="PAGE", help="write the page")
    where.add_argument("--check", type=Path, metavar="PAGE", help="fail if the page is not what the plugins say")
    options = parser.parse_args(argv)
    page = capability_matrix(get_provider(name) for name in provider_names())
    if options.write:
        options.write.write_text(page)
    elif options.check:
        if not options.check.is_file() or options.check.read_text() != page:
            print(f"{options.check} is stale: anycarrier matrix --write {options.check}", file=sys.stderr)
            return 1
    else:
        print(page, end="")
    return 0


def new_provider(argv: list[str]) -> int:
    """Begin a carrier plugin of your own."""
    return _new(argv, new_provider.__doc__, "provider", "anycarrier-", "a carrier plugin", "write-a-provider.md")


def new_engine(argv: list[str]) -> int:
    """Begin a speech engine plugin of your own."""
    return _new(argv, new_engine.__doc__, "engine", "anycarrier-speech-", "a speech engine plugin", "speech.md")


def _new(argv: list[str], purpose: str | None, kind: str, prefix: str, result: str, page: str) -> int:
    parser = Parser(prog=f"anycarrier new-{kind}", description=purpose)
    parser.add_argument("name", help=f"what the {kind} is called: lower case, a-z 0-9 _ -")
    parser.add_argument("folder", nargs="?", type=Path, help=f"where to put it (default: ./{prefix}NAME)")
    options = parser.parse_args(argv)
    folder = options.folder or Path(f"{prefix}{options.name}")
    # The kit needs pytest, which people who only make calls do not have: it is imported by its name, when asked for.
    getattr(import_module("anycarrier.testing.scaffold"), f"new_{kind}")(options.name, folder)
    print(f"{folder} is {result} with its parts to fill in.")
    print(f"Next: pip install -e '{folder}[test]'; then pytest {folder} says what is missing. See docs/{page}.")
    return 0
