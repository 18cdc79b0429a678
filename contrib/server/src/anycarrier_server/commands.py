"""The service's commands, which the entry-point group ``anycarrier.commands`` adds to ``anycarrier``.

Listing them imports nothing else of the service.
"""

from __future__ import annotations

from anycarrier.cli import Command

CLI = "anycarrier_server.cli"

COMMANDS: dict[str, Command] = {
    "serve": Command(f"{CLI}.serve:main", "the whole service: both APIs, media, recordings, sandboxes"),
    "credentials": Command(f"{CLI}.key_commands:CREDENTIALS", "the carrier accounts the service may use"),
    "numbers": Command(f"{CLI}.number_commands:NUMBERS", "phone numbers: find, buy, register, route, release"),
    "agents": Command(f"{CLI}.agent_commands:AGENTS", "who answers, and how they behave"),
    "engines": Command(f"{CLI}.key_commands:ENGINES", "speech engines: list them, give them keys"),
    "calls": Command(f"{CLI}.call_commands:CALLS", "list, follow, make and end calls"),
    "recordings": Command(f"{CLI}.call_commands:RECORDINGS", "list, save and play recordings"),
    "webhooks": Command(f"{CLI}.webhook_commands:WEBHOOKS", "subscribers, what they were sent, sending it again"),
    "usage": Command(f"{CLI}.diagnostic_commands:USAGE", "how much was called, and what is left of the limits"),
    "sandbox": Command(f"{CLI}.sandbox_commands:SANDBOX", "be the caller at a server that plays the carriers"),
    "keys": Command(f"{CLI}.key_commands:KEYS", "API keys: create, list, revoke"),
    "rules": Command(f"{CLI}.agent_commands:RULES", "whom an agent may call and be called by"),
    "route": Command(f"{CLI}.diagnostic_commands:ROUTE", "what would happen to an incoming call, and why"),
    "doctor": Command(f"{CLI}.diagnostic_commands:DOCTOR", "check the setup, from API key to carriers; repair drift"),
    "db": Command(f"{CLI}.database_commands:DB", "the database's schema"),
    "rotate-key": Command(f"{CLI}.database_commands:ROTATE_KEY", "a new master key for everything sealed"),
    "completion": Command(f"{CLI}.completion:main", "completion for bash, zsh and fish"),
}
