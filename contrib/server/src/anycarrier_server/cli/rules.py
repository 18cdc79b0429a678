"""``anycarrier rules``: whom an agent may call and be called by."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from anycarrier_server.cli.naming import agent_named, digits, handles, pick, spelled
from anycarrier_server.cli.table import Column, say, show_rows
from anycarrier_server.cli.typed import phone_number
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

COLUMNS = (
    "id", "action", Column("number", "match_target"), "direction", "status", Column("agent", "agent", flexible=True)
)  # fmt: skip
MOST = 200


def root(agent: dict[str, Any]) -> str:
    """Where an agent's rules are."""
    return f"/api/v1/identities/{agent['handle']}/phone-contact-rules"


async def ls(client: Client, asked: Namespace) -> None:
    rows = await rules_of(client, await agent_named(client, asked.agent) if asked.agent else None)
    if not asked.json:
        known = await handles(client)
        agents = [known.get(digits(row["agent_identity_id"])) for row in rows]
        ids = [spelled("rul", row["id"]) for row in rows]
        rows = [{**row, "id": id_, "agent": agent} for row, id_, agent in zip(rows, ids, agents, strict=True)]
    show_rows(asked, rows, COLUMNS, "No rules: everybody passes whom the agent's filter mode lets pass.")


async def add(client: Client, asked: Namespace) -> None:
    agent = await agent_named(client, asked.agent)
    body = {"action": asked.action, "match_type": "exact_number", "match_target": asked.number}
    if asked.direction != "both":
        body["direction"] = asked.direction
    made = await client.post(root(agent), body)
    id_ = spelled("rul", made["id"])
    say(asked, f"{id_}: {agent['handle']} {asked.action}s {made['match_target']} ({made['direction']})", made)


async def rm(client: Client, asked: Namespace) -> None:
    rule = pick(await rules_of(client, None), asked.rule, ("id", "match_target"), "rule")
    agents = await client.get("/api/v1/identities/")
    agent = pick(agents, rule["agent_identity_id"], ("id",), "agent")
    await client.delete(f"/api/v1/identities/{agent['agent_handle']}/phone-contact-rules/{rule['id']}")
    said = f"{spelled('rul', rule['id'])} deleted: {rule['action']} {rule['match_target']}"
    say(asked, said, {"deleted": rule["id"]})


async def rules_of(client: Client, agent: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The agent's rules, or everybody's, page after page."""
    path = root(agent) if agent else "/api/v1/phone/contact-rules"
    found: list[dict[str, Any]] = []
    while True:
        answer = await client.get(path, limit=MOST, offset=len(found))
        page = answer["items"] if isinstance(answer, dict) else answer
        found += page
        if len(page) < MOST:
            return found


WORD = Word(
    "rules",
    "contact rules: whom an agent may call and be called by",
    {
        "ls": Verb(ls, "list them", (option("--agent", help="only this agent's: id, handle or name"), WIDE)),
        "add": Verb(
            add,
            "allow or block a number",
            (
                option("agent", help="whose rule: id, handle or name"),
                option("action", choices=("allow", "block")),
                option("number", type=phone_number, help="+1..."),
                option("--direction", choices=("inbound", "outbound", "both"), default="both"),
            ),
        ),
        "rm": Verb(rm, "delete one", (option("rule", help="its id, or the number when it has one rule only"),)),
    },
)
main = WORD.main
