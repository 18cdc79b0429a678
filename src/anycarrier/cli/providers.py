"""``anycarrier providers``: the carriers installed here, what each can do, and the plugins that could not be loaded."""

from __future__ import annotations

import json
from typing import Any

from anycarrier.cli.words import Parser, about
from anycarrier.plugins import broken_plugins, get_provider, provider_names


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


def main(argv: list[str]) -> int:
    """Print them; 1 when a plugin is broken."""
    parser = Parser(prog="anycarrier providers", description=about(__doc__))
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(argv)
    providers = [describe(name) for name in provider_names()]
    broken = {name: str(error) for name, error in broken_plugins().items()}
    if options.json:
        print(json.dumps({"providers": providers, "broken": broken}))
        return 1 if broken else 0
    if not providers:
        print("No carrier is installed. Plugins are distributions of their own: docs/quickstart.md says from where")
    for one in providers:
        sandbox = "with a sandbox" if one["sandbox"] else "no sandbox"
        print(f"{one['name']:<12} {one['title']}, from {one['module']}, {sandbox}")
        print(f"{'':<12} credential: {', '.join(one['credential'])}")
        print(f"{'':<12} can also: {', '.join(one['capabilities']) or 'nothing beyond the contract'}")
    for name, reason in broken.items():
        print(f"{name:<12} NOT LOADED: {reason}")
    return 1 if broken else 0
