"""``anycarrier keys``: who may use the API. ``anycarrier credentials``: the carrier accounts the service may use.
``anycarrier engines``: the speech engines agents talk with.

A server makes API keys for agents; admin keys are made on the database. Carriers' and engines' keys go in and never
come out.
"""

from __future__ import annotations

import getpass
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import (
    WIDE,
    Verb,
    Word,
    agent_named,
    credential_named,
    digits,
    handles,
    option,
    pair,
    pick,
    spelled,
    text_pair,
)
from anycarrier_server.cli.output import Column, at_utc, print_json, say, show_one, show_rows, step, working

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


KEYS_PATH = "/api/v1/api-keys"
KEY_COLUMNS = (
    "id", Column("label", "label", flexible=True), Column("for", "for", flexible=True), "status",
    Column("last four", "last4"),
    Column("used (utc)", lambda key: at_utc(key["last_used_at"], "%Y-%m-%d %H:%M") or "never",
           short=lambda key: at_utc(key["last_used_at"], "%m-%d %H:%M") or "never", rank=1),
)  # fmt: skip


async def list_keys(client: Client, asked: Namespace) -> None:
    rows = [key for key in await client.get(KEYS_PATH) if asked.all or key["status"] == "active"]
    if not asked.json:
        known = await handles(client)
        whose = {key["id"]: key["scoped_identity_id"] for key in rows}
        rows = [{**key, "id": spelled("key", key["id"]),
                 "for": known.get(digits(whose[key["id"]]), "a deleted agent") if whose[key["id"]] else "admin"}
                for key in rows]  # fmt: skip
    show_rows(asked, rows, KEY_COLUMNS, "No keys.")


async def create_key(client: Client, asked: Namespace) -> None:
    if asked.agent is None:
        made = await _admin_key(client, asked)
    elif asked.workspace is not None:
        raise ConfigurationError("--workspace is for admin keys: an agent's key is of the agent's workspace")
    else:
        agent = await agent_named(client, asked.agent)
        body = {"label": asked.label, "description": asked.description, "scoped_identity_id": agent["id"]}
        made = await client.post(KEYS_PATH, {name: value for name, value in body.items() if value is not None})
    if asked.json:
        print_json(made)
        return
    admins = f"an admin key of workspace {asked.workspace}" if asked.workspace else "an admin key"
    whose = admins if asked.agent is None else f"a key for {agent['handle']}"
    print(f"{made['api_key']}\n{spelled('key', made['record']['id'])} is {whose}; the line above is shown this once.")


async def revoke_key(client: Client, asked: Namespace) -> None:
    key = pick(await client.get(KEYS_PATH), asked.id, ("id", "label", "last4"), "key")
    await client.delete(f"{KEYS_PATH}/{key['id']}")
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


KEYS = Word(
    "keys",
    "API keys: create, list, revoke",
    {
        "ls": Verb(list_keys, "list them", (option("--all", action="store_true", help="revoked ones too"), WIDE)),
        "create": Verb(
            create_key,
            "make one and show it, this once",
            (
                option("label", help="what it is for"),
                option("--agent", help="whose key: id, handle or name; left out, with --direct: an admin key"),
                option("--workspace", metavar="NAME", help="with --direct: of this workspace, made when there is none"),
                option("--description", help="for those who read the list"),
            ),
        ),
        "revoke": Verb(
            revoke_key, "end one", (option("id", metavar="key", help="its id, label or last four characters"),)
        ),
    },
)


CREDENTIALS_PATH = "/v1/credentials"
CREDENTIAL_COLUMNS = (
    "id", Column("name", "name", flexible=True), "provider", "status", Column("account", "account", rank=2),
    Column("key", "masked_key", rank=1), Column("default", "is_default"),
)  # fmt: skip


async def list_credentials(client: Client, asked: Namespace) -> None:
    rows = await client.every(CREDENTIALS_PATH)
    show_rows(
        asked, rows, CREDENTIAL_COLUMNS, "No credentials. Add one: anycarrier credentials add NAME --provider ..."
    )


async def add_credential(client: Client, asked: Namespace) -> None:
    secret = read_secret(asked.api_key, f"{asked.provider} API key: ")
    body = {"name": asked.name, "provider": asked.provider, "api_key": secret, "metadata": dict(asked.detail)}
    made = await client.post(CREDENTIALS_PATH, body)
    next_step = f"verify it: anycarrier credentials verify {made['id']}"
    if made["missing"]:
        lacks = " ".join(f"{name}=..." for name in made["missing"])
        next_step = f"it is incomplete: anycarrier credentials set {made['id']} {lacks}"
    say(asked, f"{made['id']} is kept; {next_step}", made)


async def change_credential(client: Client, asked: Namespace) -> None:
    found = await credential_named(client, asked.credential)
    body: dict[str, object] = {}
    if asked.detail:
        body["metadata"] = dict(asked.detail)
    if asked.name:
        body["name"] = asked.name
    if asked.api_key is not None:
        body["api_key"] = read_secret(asked.api_key, "new API key: ")
    if not body:
        raise ConfigurationError("nothing to change: give name=value details, --name or --api-key")
    changed = await client.patch(f"{CREDENTIALS_PATH}/{found['id']}", body)
    lacks = f", and lacks {', '.join(changed['missing'])}" if changed["missing"] else ""
    say(asked, f"{changed['id']} is {changed['status']}{lacks}", changed)


async def show_credential(client: Client, asked: Namespace) -> None:
    show_one(asked, await credential_named(client, asked.credential))


async def verify_credential(client: Client, asked: Namespace) -> int:
    found = await credential_named(client, asked.credential)
    async with working(f"logging in at {found['provider']}"):
        answer = await client.post(f"{CREDENTIALS_PATH}/{found['id']}/verify")
    if answer["ok"]:
        say(asked, f"{found['name']}: {answer['provider']} knows the account {answer['account']}", answer)
        return 0
    say(asked, f"{found['name']}: {answer['error']}", answer)
    return 1


async def delete_credential(client: Client, asked: Namespace) -> None:
    found = await credential_named(client, asked.credential)
    await client.delete(f"{CREDENTIALS_PATH}/{found['id']}")
    say(asked, f"credential {found['name']} ({found['id']}) deleted", {"deleted": found["id"]})


def read_secret(given: str | None, prompt: str, what: str = "API key", how: str = " with --api-key -") -> str:
    """The secret itself, ``-`` for a line of standard input, None to ask on the terminal. ``what`` it is, and ``how`` a
    program gives it, are for the error."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        secret = getpass.getpass(prompt)
    else:
        secret = sys.stdin.readline().strip()
    if not secret:
        raise ConfigurationError(f"no {what} was given: type it when asked, or pipe it in{how}")
    return secret


CREDENTIAL = option("credential", help="its id or name")
DETAIL = option("detail", nargs="*", type=text_pair, metavar="name=value", help="what the carrier needs beside the key")
API_KEY = option("--api-key", metavar="KEY", help="- reads it from standard input; others see what you type here")

CREDENTIALS = Word(
    "credentials",
    "the carrier accounts the service may use",
    {
        "ls": Verb(list_credentials, "list them", (WIDE,)),
        "add": Verb(
            add_credential,
            "keep a carrier account's key, sealed; asked for on the terminal unless given",
            (
                option("name", help="what to call it"),
                option("--provider", required=True, help="the carrier; `anycarrier providers` lists them"),
                DETAIL,
                API_KEY,
            ),
        ),
        "set": Verb(
            change_credential,
            "add details, rename it, or give it a new key",
            (CREDENTIAL, DETAIL, option("--name", help="a new name"), API_KEY),
        ),
        "show": Verb(show_credential, "look at one, without its secrets", (CREDENTIAL,)),
        "verify": Verb(verify_credential, "log in at the carrier with it", (CREDENTIAL,)),
        "rm": Verb(delete_credential, "delete it; not while numbers need it", (CREDENTIAL,)),
    },
)


ENGINES_PATH = "/ops/engines"
ENGINE_COLUMNS = (
    "name",
    Column("can", lambda one: ", ".join(one["abilities"])),
    Column("default to", lambda one: ", ".join(one["default_for"]), rank=1),
    Column("rank", lambda one: "" if one["remote"] else str(one["rank"]), rank=2),
    Column("remote", lambda one: "yes" if one["remote"] else "no", rank=2),
    Column("own settings", lambda one: " ".join(f"{name}={value}" for name, value in one["settings"].items()), rank=1),
    Column("state", lambda one: one["why_not"] or "ready", flexible=True),
)


CHOICE_COLUMNS = (
    Column("to", "ability"),
    Column("engine", lambda one: one["engine"] or "none"),
    Column("why", "reason", flexible=True),
    Column("fallbacks", lambda one: ", ".join(one["fallbacks"]), rank=1),
    Column("state", lambda one: one["problem"] or one["warning"] or "ready", flexible=True),
)


async def list_engines(client: Client, asked: Namespace) -> None:
    if asked.agent is not None:
        agent = await agent_named(client, asked.agent)
        show_rows(asked, await client.get(f"/ops/agents/{agent['id']}/engines"), CHOICE_COLUMNS, "")
        return
    none = "No speech engine is installed. docs/speech.md lists the engines and how to install them"
    show_rows(asked, await client.get(ENGINES_PATH), ENGINE_COLUMNS, none)


async def set_up_engine(client: Client, asked: Namespace) -> int:
    settings: dict[str, Any] = dict(asked.settings)
    if not settings:
        raise ConfigurationError("nothing to set: give a setting's name, like api_key, which is then asked for")
    if bare := [name for name, value in settings.items() if value == "-"]:
        await _check_names(client, asked.engine, bare)
    for name in bare:
        settings[name] = read_secret(None, f"{asked.engine} {name}: ", name, "")
    changed = await client.patch(f"{ENGINES_PATH}/{asked.engine}", {"settings": settings})
    held = ", ".join(f"{name} {value}" for name, value in changed["settings"].items())
    say(asked, f"{asked.engine} is set up for this workspace: {held}", changed)
    step(f"next: anycarrier engines verify {asked.engine}" if changed["ready"] else f"not ready: {changed['why_not']}")
    return 0 if changed["ready"] else 1


async def _check_names(client: Client, engine: str, bare: list[str]) -> None:
    """Refuse what is not there, or not for a workspace to set, before its value is asked for."""
    found = {one["name"]: one for one in await client.get(ENGINES_PATH)}
    if engine not in found or not found[engine]["abilities"]:
        raise ConfigurationError(f"no speech engine {engine!r} is installed. Run: anycarrier engines ls")
    settable: list[str] = found[engine]["settable"]
    for before, name in zip(["", *bare], bare, strict=False):
        if name not in settable:
            others = f"Whoever runs the service sets others, as ANYCARRIER_ENGINES__{engine.upper()}__NAME"
            step = f"To give {before} a value, write {before}={name}" if before else others
            known = ", ".join(settable) or "none"
            raise ConfigurationError(f"{engine} has no setting {name!r} to set here (settable: {known}). {step}")


async def verify_engine(client: Client, asked: Namespace) -> int:
    async with working(f"logging in at {asked.engine}"):
        answer = await client.post(f"{ENGINES_PATH}/{asked.engine}/verify")
    say(asked, f"{asked.engine}: {answer['error'] or 'it works'}", answer)
    return 0 if answer["ok"] else 1


async def delete_engine_settings(client: Client, asked: Namespace) -> None:
    await client.delete(f"{ENGINES_PATH}/{asked.engine}")
    say(asked, f"{asked.engine}: this workspace's settings are deleted", {"deleted": asked.engine})


def engine_setting(text: str) -> tuple[str, Any]:
    """``api_key`` alone is asked for on the terminal or read from standard input, as ``api_key=-`` is."""
    return pair(text) if "=" in text else (text.strip(), "-")


ENGINE = option("engine", help="its name; `anycarrier engines ls` lists them")
ENGINE_SETTINGS = option(
    "settings",
    nargs="*",
    type=engine_setting,
    metavar="name[=value]",
    help="api_key alone asks for it, or reads it from standard input; what follows = others see. null takes one away",
)

ENGINES = Word(
    "engines",
    "the speech engines agents talk with, and this workspace's own settings of them",
    {
        "ls": Verb(
            list_engines,
            "list them, and whether they are ready; meant where no verb is given",
            (
                option("--agent", help="instead: which ones this agent's calls use, and why; its id, handle or name"),
                WIDE,
            ),
        ),
        "set": Verb(
            set_up_engine, "set one up for this workspace: sealed, used by its agents alone", (ENGINE, ENGINE_SETTINGS)
        ),
        "verify": Verb(verify_engine, "log in at it with the settings that calls use; 1 if that fails", (ENGINE,)),
        "rm": Verb(delete_engine_settings, "forget this workspace's settings of one", (ENGINE,)),
    },
    default="ls",
)
