"""``anycarrier agents``: where calls go, how they are taken, and what becomes of incoming ones."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from anycarrier.cli.parser import near
from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.client import Client
from anycarrier_server.cli.naming import agent_named
from anycarrier_server.cli.progress import step
from anycarrier_server.cli.table import Column, clean, say, show_one, show_rows
from anycarrier_server.cli.typed import pair
from anycarrier_server.cli.words import WIDE, Verb, Word, option

ROOT = "/v1/agents"
IDENTITY = "/api/v1/identities/"

SPELLED = {"client_websocket_url": "websocket_url"}
"""Inkbox's names of what agents have here."""

FILTER_FIELDS = {
    "inbound_filter_mode": "phone_inbound_filter_mode",
    "outbound_filter_mode": "phone_outbound_filter_mode",
}
FIXED = ("id", "handle", "created_at", "updated_at", "ignored", "warnings", "effective_system_prompt", "llm_id")
OBJECTS = ("tts", "transcriber", "llm")
"""What other clients write; the server reads them too."""
COLUMNS = (
    "handle", Column("name", "name", flexible=True),
    Column("answers at", lambda agent: agent["websocket_url"] or agent["handler"], flexible=True), "id",
)  # fmt: skip


async def ls(client: Client, asked: Namespace) -> None:
    show_rows(
        asked, await client.every(ROOT), COLUMNS, "No agents. Make one: anycarrier agents add NAME --websocket wss://..."
    )


async def add(client: Client, asked: Namespace) -> None:
    own, filters = sorted_out(asked.settings)
    body = {"name": asked.name, **own}
    for field in ("websocket_url", "handler"):
        if getattr(asked, field) is not None:
            body[field] = getattr(asked, field)
    made = await client.post(ROOT, body)
    await _set_filters(client, made, filters)
    known = settable(made)
    ignored = f"; not understood: {', '.join(name + near(name, known) for name in made['ignored'])}"
    ignored = ignored if made["ignored"] else ""
    done = "is made" if made["warnings"] else "is ready"
    say(asked, f"{made['id']} ({made['handle']}) {done}{ignored}", made)
    _warn(made)


async def show(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    show_one(asked, {**agent, **await filters_of(client, agent)}, hide=("ignored",))


async def change(client: Client, asked: Namespace) -> None:
    if not asked.settings:
        raise ConfigurationError("nothing to change: give name=value, like first_message='Hello'")
    agent = await agent_named(client, asked.agent)
    known = settable(agent)
    if unknown := [name for name, _ in asked.settings if name not in known]:
        named = ", ".join(clean(name) + near(name, known) for name in unknown)
        raise ConfigurationError(f"agents have no {named}; nothing is set. What can be set: {', '.join(known)}")
    own, filters = sorted_out(asked.settings)
    changed = await client.patch(f"{ROOT}/{agent['id']}", own) if own else agent
    await _set_filters(client, agent, filters)
    say(asked, f"{agent['handle']}: {', '.join(name for name, _ in asked.settings)} set", changed)
    _warn(changed)


def _warn(agent: dict[str, Any]) -> None:
    for warning in agent["warnings"]:
        step(f"warning: {warning}")


def settable(agent: Mapping[str, Any]) -> list[str]:
    """What ``set`` takes: all that an agent of this server shows, and what is kept beside it."""
    return sorted({*(name for name in agent if name not in FIXED), *SPELLED, *FILTER_FIELDS, *OBJECTS})


async def rm(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    await client.delete(f"{ROOT}/{agent['id']}")
    say(asked, f"{agent['id']} ({agent['handle']}) is deleted, and its keys with it", {"deleted": agent["id"]})


async def filters_of(client: Client, agent: dict[str, Any]) -> dict[str, Any]:
    """Whom the agent's contact rules let through, in the words ``set`` takes."""
    identity = await client.get(IDENTITY + agent["handle"])
    return {ours: identity.get(theirs) for ours, theirs in FILTER_FIELDS.items()}


async def _set_filters(client: Client, agent: dict[str, Any], filters: dict[str, Any]) -> None:
    if filters:
        await client.patch(IDENTITY + agent["handle"], filters)


def sorted_out(settings: list[tuple[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings by where they belong: the agent itself, and its filter modes."""
    own, filters = {}, {}
    for name, value in settings:
        if name in FILTER_FIELDS:
            filters[FILTER_FIELDS[name]] = value
        else:
            own[SPELLED.get(name, name)] = value
    return own, filters


AGENT = option("agent", help="its id, handle or name")
SETTINGS_HELP = "any setting; the value is JSON where it reads as JSON (speed=1.2), null is the default"
SETTINGS = option("settings", nargs="*", type=pair, metavar="name=value", help=SETTINGS_HELP)

WORD = Word(
    "agents",
    "who answers: a WebSocket or a handler, and how it behaves",
    {
        "ls": Verb(ls, "list them", (WIDE,)),
        "add": Verb(
            add,
            "make one",
            (
                option("name", help="what to call it"),
                option("--websocket", dest="websocket_url", metavar="URL", help="where its calls go: wss://..."),
                option("--handler", help="or a Python handler the server's settings name"),
                SETTINGS,
            ),
        ),
        "show": Verb(show, "look at one, with all its settings", (AGENT,)),
        "set": Verb(change, "change settings", (AGENT, SETTINGS)),
        "rm": Verb(rm, "delete it and end its keys; not while numbers go to it", (AGENT,)),
    },
)
main = WORD.main
