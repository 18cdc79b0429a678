"""``anycarrier agents``: where calls go, how they are taken, and what becomes of incoming ones. ``anycarrier rules``:
whom an agent may call and be called by.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.cli import near
from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import (
    WIDE,
    Verb,
    Word,
    agent_named,
    digits,
    handles,
    option,
    pair,
    phone_number,
    pick,
    spelled,
)
from anycarrier_server.cli.client import Client
from anycarrier_server.cli.output import Column, clean, say, show_one, show_rows, step

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


AGENTS_PATH = "/v1/agents"
IDENTITY_PATH = "/api/v1/identities/"

SPELLED = {"client_websocket_url": "websocket_url"}
"""Inkbox's names of what agents have here."""

FILTER_FIELDS = {
    "inbound_filter_mode": "phone_inbound_filter_mode",
    "outbound_filter_mode": "phone_outbound_filter_mode",
}
FIXED = ("id", "handle", "created_at", "updated_at", "ignored", "warnings", "effective_system_prompt", "llm_id")
OBJECTS = ("tts", "transcriber", "llm")
"""What other clients write; the server reads them too."""
AGENT_COLUMNS = (
    "handle", Column("name", "name", flexible=True),
    Column("answers at", lambda agent: agent["websocket_url"] or agent["handler"], flexible=True), "id",
)  # fmt: skip


async def list_agents(client: Client, asked: Namespace) -> None:
    show_rows(
        asked,
        await client.every(AGENTS_PATH),
        AGENT_COLUMNS,
        "No agents. Make one: anycarrier agents add NAME --websocket wss://...",
    )


async def add_agent(client: Client, asked: Namespace) -> None:
    own, filters = sorted_out(asked.settings)
    body = {"name": asked.name, **own}
    for field in ("websocket_url", "handler"):
        if getattr(asked, field) is not None:
            body[field] = getattr(asked, field)
    made = await client.post(AGENTS_PATH, body)
    await _set_filters(client, made, filters)
    known = settable(made)
    ignored = f"; not understood: {', '.join(name + near(name, known) for name in made['ignored'])}"
    ignored = ignored if made["ignored"] else ""
    done = "is made" if made["warnings"] else "is ready"
    say(asked, f"{made['id']} ({made['handle']}) {done}{ignored}", made)
    _warn(made)


async def show_agent(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    show_one(asked, {**agent, **await filters_of(client, agent)}, hide=("ignored",))


async def change_agent(client: Client, asked: Namespace) -> None:
    if not asked.settings:
        raise ConfigurationError("nothing to change: give name=value, like first_message='Hello'")
    agent = await agent_named(client, asked.agent)
    known = settable(agent)
    if unknown := [name for name, _ in asked.settings if name not in known]:
        named = ", ".join(clean(name) + near(name, known) for name in unknown)
        raise ConfigurationError(f"agents have no {named}; nothing is set. What can be set: {', '.join(known)}")
    own, filters = sorted_out(asked.settings)
    changed = await client.patch(f"{AGENTS_PATH}/{agent['id']}", own) if own else agent
    await _set_filters(client, agent, filters)
    say(asked, f"{agent['handle']}: {', '.join(name for name, _ in asked.settings)} set", changed)
    _warn(changed)


def _warn(agent: dict[str, Any]) -> None:
    for warning in agent["warnings"]:
        step(f"warning: {warning}")


def settable(agent: Mapping[str, Any]) -> list[str]:
    """What ``set`` takes: all that an agent of this server shows, and what is kept beside it."""
    return sorted({*(name for name in agent if name not in FIXED), *SPELLED, *FILTER_FIELDS, *OBJECTS})


async def delete_agent(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    await client.delete(f"{AGENTS_PATH}/{agent['id']}")
    say(asked, f"{agent['id']} ({agent['handle']}) is deleted, and its keys with it", {"deleted": agent["id"]})


async def filters_of(client: Client, agent: dict[str, Any]) -> dict[str, Any]:
    """Whom the agent's contact rules let through, in the words ``set`` takes."""
    identity = await client.get(IDENTITY_PATH + agent["handle"])
    return {ours: identity.get(theirs) for ours, theirs in FILTER_FIELDS.items()}


async def _set_filters(client: Client, agent: dict[str, Any], filters: dict[str, Any]) -> None:
    if filters:
        await client.patch(IDENTITY_PATH + agent["handle"], filters)


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

AGENTS = Word(
    "agents",
    "who answers: a WebSocket or a handler, and how it behaves",
    {
        "ls": Verb(list_agents, "list them", (WIDE,)),
        "add": Verb(
            add_agent,
            "make one",
            (
                option("name", help="what to call it"),
                option("--websocket", dest="websocket_url", metavar="URL", help="where its calls go: wss://..."),
                option("--handler", help="or a Python handler the server's settings name"),
                SETTINGS,
            ),
        ),
        "show": Verb(show_agent, "look at one, with all its settings", (AGENT,)),
        "set": Verb(change_agent, "change settings", (AGENT, SETTINGS)),
        "rm": Verb(delete_agent, "delete it and end its keys; not while numbers go to it", (AGENT,)),
    },
)


RULE_COLUMNS = (
    "id", "action", Column("number", "match_target"), "direction", "status", Column("agent", "agent", flexible=True)
)  # fmt: skip
MOST = 200


def rules_path(agent: dict[str, Any]) -> str:
    """Where an agent's rules are."""
    return f"/api/v1/identities/{agent['handle']}/phone-contact-rules"


async def list_rules(client: Client, asked: Namespace) -> None:
    rows = await rules_of(client, await agent_named(client, asked.agent) if asked.agent else None)
    if not asked.json:
        known = await handles(client)
        agents = [known.get(digits(row["agent_identity_id"])) for row in rows]
        ids = [spelled("rul", row["id"]) for row in rows]
        rows = [{**row, "id": id_, "agent": agent} for row, id_, agent in zip(rows, ids, agents, strict=True)]
    show_rows(asked, rows, RULE_COLUMNS, "No rules: everybody passes whom the agent's filter mode lets pass.")


async def add_rule(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    body = {"action": asked.action, "match_type": "exact_number", "match_target": asked.number}
    if asked.direction != "both":
        body["direction"] = asked.direction
    made = await client.post(rules_path(agent), body)
    id_ = spelled("rul", made["id"])
    say(asked, f"{id_}: {agent['handle']} {asked.action}s {made['match_target']} ({made['direction']})", made)


async def delete_rule(client: Client, asked: Namespace) -> None:
    rule = pick(await rules_of(client, None), asked.rule, ("id", "match_target"), "rule")
    agents = await client.get("/api/v1/identities/")
    agent = pick(agents, rule["agent_identity_id"], ("id",), "agent")
    await client.delete(f"/api/v1/identities/{agent['agent_handle']}/phone-contact-rules/{rule['id']}")
    said = f"{spelled('rul', rule['id'])} deleted: {rule['action']} {rule['match_target']}"
    say(asked, said, {"deleted": rule["id"]})


async def rules_of(client: Client, agent: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The agent's rules, or everybody's, page after page."""
    path = rules_path(agent) if agent else "/api/v1/phone/contact-rules"
    found: list[dict[str, Any]] = []
    while True:
        answer = await client.get(path, limit=MOST, offset=len(found))
        page = answer["items"] if isinstance(answer, dict) else answer
        found += page
        if len(page) < MOST:
            return found


RULES = Word(
    "rules",
    "contact rules: whom an agent may call and be called by",
    {
        "ls": Verb(list_rules, "list them", (option("--agent", help="only this agent's: id, handle or name"), WIDE)),
        "add": Verb(
            add_rule,
            "allow or block a number",
            (
                option("agent", help="whose rule: id, handle or name"),
                option("action", choices=("allow", "block")),
                option("number", type=phone_number, help="+1..."),
                option("--direction", choices=("inbound", "outbound", "both"), default="both"),
            ),
        ),
        "rm": Verb(
            delete_rule, "delete one", (option("rule", help="its id, or the number when it has one rule only"),)
        ),
    },
)
