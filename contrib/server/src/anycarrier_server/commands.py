"""The service's commands, which the entry-point group ``anycarrier.commands`` adds to ``anycarrier``.

Listing them imports nothing else of the service.
"""

from __future__ import annotations

from anycarrier.cli import Command

COMMANDS: dict[str, Command] = {
    "serve": Command("anycarrier_server.cli.serve:main", "the whole service: both APIs, media, recordings, sandboxes"),
    "credentials": Command("anycarrier_server.cli.credentials:main", "the carrier accounts the service may use"),
    "numbers": Command("anycarrier_server.cli.numbers:main", "phone numbers: find, buy, register, route, release"),
    "agents": Command("anycarrier_server.cli.agents:main", "who answers, and how they behave"),
    "engines": Command("anycarrier_server.cli.engines:main", "speech engines: list them, give them keys"),
    "calls": Command("anycarrier_server.cli.calls:main", "list, follow, make and end calls"),
    "recordings": Command("anycarrier_server.cli.recordings:main", "list, save and play recordings"),
    "webhooks": Command("anycarrier_server.cli.webhooks:main", "subscribers, what they were sent, sending it again"),
    "usage": Command("anycarrier_server.cli.usage:main", "how much was called, and what is left of the limits"),
    "sandbox": Command("anycarrier_server.cli.sandbox:main", "be the caller at a server that plays the carriers"),
    "keys": Command("anycarrier_server.cli.keys:main", "API keys: create, list, revoke"),
    "rules": Command("anycarrier_server.cli.rules:main", "whom an agent may call and be called by"),
    "route": Command("anycarrier_server.cli.route:main", "what would happen to an incoming call, and why"),
    "doctor": Command("anycarrier_server.cli.doctor:main", "check the setup, from API key to carriers; repair drift"),
    "db": Command("anycarrier_server.cli.db:main", "the database's schema"),
    "rotate-key": Command("anycarrier_server.cli.rotate_key:main", "a new master key for everything sealed"),
    "completion": Command("anycarrier_server.cli.completion:main", "completion for bash, zsh and fish"),
}
