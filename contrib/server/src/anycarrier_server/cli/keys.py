"""``anycarrier keys``: who may use the API. A server makes keys for agents; admin keys are made on the database."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.naming import agent_named, digits, handles, pick, spelled
from anycarrier_server.cli.table import Column, at_utc, print_json, say, show_rows
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

ROOT = "/api/v1/api-keys"
COLUMNS = (
    "id", Column("label", "label", flexible=True), Column("for", "for", flexible=True), "status",
    Column("last four", "last4"),
    Column("used (utc)", lambda key: at_utc(key["last_used_at"], "%Y-%m-%d %H:%M") or "never",
           short=lambda key: at_utc(key["last_used_at"], "%m-%d %H:%M") or "never", rank=1),
)  # fmt: skip


async def ls(client: Client, asked: Namespace) -> None:
    rows = [key for key in await client.get(ROOT) if asked.all or key["status"] == "active"]
    if not asked.json:
        known = await handles(client)
        whose = {key["id"]: key["scoped_identity_id"] for key in rows}
        rows = [{**key, "id": spelled("key", key["id"]),
                 "for": known.get(digits(whose[key["id"]]), "a deleted agent") if whose[key["id"]] else "admin"}
                for key in rows]  # fmt: skip
    show_rows(asked, rows, COLUMNS, "No keys.")


async def create(client: Client, asked: Namespace) -> None:
    if asked.agent is None:
        made = await _admin_key(client, asked)
    elif asked.workspace is not None:
        raise ConfigurationError("--workspace is for admin keys: an agent's key is of the agent's workspace")
    else:
        agent = await agent_named(client, asked.agent)
        body = {"label": asked.label, "description": asked.description, "scoped_identity_id": agent["id"]}
        made = await client.post(ROOT, {name: value for name, value in body.items() if value is not None})
    if asked.json:
        print_json(made)
        return
    admins = f"an admin key of workspace {asked.workspace}" if asked.workspace else "an admin key"
    whose = admins if asked.agent is None else f"a key for {agent['handle']}"
    print(f"{made['api_key']}\n{spelled('key', made['record']['id'])} is {whose}; the line above is shown this once.")


async def revoke(client: Client, asked: Namespace) -> None:
    key = pick(await client.get(ROOT), asked.id, ("id", "label", "last4"), "key")
    await client.delete(f"{ROOT}/{key['id']}")
    said = f"key {key['label']} ({spelled('key', key['id'])}) revoked: it opens nothing from now on"
    say(asked, said, {"revoked": key["id"]})


async def _admin_key(client: Client, asked: Namespace) -> dict[str, Any]:
    """A key for the whole workspace: only for who stands before the database."""
    from anycarrier_server.cli.direct import DirectClient

    if not isinstance(client, DirectClient):
        raise ConfigurationError(
            "a server makes keys for agents: name one with --agent. "
            "An admin key is made where the database is: anycarrier keys create LABEL --direct"
        )
    return await client.admin_key(asked.label, asked.description, asked.workspace)


WORD = Word(
    "keys",
    "API keys: create, list, revoke",
    {
        "ls": Verb(ls, "list them", (option("--all", action="store_true", help="revoked ones too"), WIDE)),
        "create": Verb(
            create,
            "make one and show it, this once",
            (
                option("label", help="what it is for"),
                option("--agent", help="whose key: id, handle or name; left out, with --direct: an admin key"),
                option("--workspace", metavar="NAME", help="with --direct: of this workspace, made when there is none"),
                option("--description", help="for those who read the list"),
            ),
        ),
        "revoke": Verb(revoke, "end one", (option("id", metavar="key", help="its id, label or last four characters"),)),
    },
)
main = WORD.main
