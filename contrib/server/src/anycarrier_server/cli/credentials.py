"""``anycarrier credentials``: the carrier accounts the service may use. Keys go in and never come out."""

from __future__ import annotations

import getpass
import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.naming import credential_named
from anycarrier_server.cli.progress import working
from anycarrier_server.cli.table import Column, say, show_one, show_rows
from anycarrier_server.cli.typed import text_pair
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

ROOT = "/v1/credentials"
COLUMNS = (
    "id", Column("name", "name", flexible=True), "provider", "status", Column("account", "account", rank=2),
    Column("key", "masked_key", rank=1), Column("default", "is_default"),
)  # fmt: skip


async def ls(client: Client, asked: Namespace) -> None:
    rows = await client.every(ROOT)
    show_rows(asked, rows, COLUMNS, "No credentials. Add one: anycarrier credentials add NAME --provider ...")


async def add(client: Client, asked: Namespace) -> None:
    secret = read_secret(asked.api_key, f"{asked.provider} API key: ")
    body = {"name": asked.name, "provider": asked.provider, "api_key": secret, "metadata": dict(asked.detail)}
    made = await client.post(ROOT, body)
    next_step = f"verify it: anycarrier credentials verify {made['id']}"
    if made["missing"]:
        lacks = " ".join(f"{name}=..." for name in made["missing"])
        next_step = f"it is incomplete: anycarrier credentials set {made['id']} {lacks}"
    say(asked, f"{made['id']} is kept; {next_step}", made)


async def change(client: Client, asked: Namespace) -> None:
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
    changed = await client.patch(f"{ROOT}/{found['id']}", body)
    lacks = f", and lacks {', '.join(changed['missing'])}" if changed["missing"] else ""
    say(asked, f"{changed['id']} is {changed['status']}{lacks}", changed)


async def show(client: Client, asked: Namespace) -> None:
    show_one(asked, await credential_named(client, asked.credential))


async def verify(client: Client, asked: Namespace) -> int:
    found = await credential_named(client, asked.credential)
    async with working(f"logging in at {found['provider']}"):
        answer = await client.post(f"{ROOT}/{found['id']}/verify")
    if answer["ok"]:
        say(asked, f"{found['name']}: {answer['provider']} knows the account {answer['account']}", answer)
        return 0
    say(asked, f"{found['name']}: {answer['error']}", answer)
    return 1


async def rm(client: Client, asked: Namespace) -> None:
    found = await credential_named(client, asked.credential)
    await client.delete(f"{ROOT}/{found['id']}")
    say(asked, f"credential {found['name']} ({found['id']}) deleted", {"deleted": found["id"]})


def read_secret(given: str | None, prompt: str) -> str:
    """The secret itself, ``-`` for a line of standard input, None to ask on the terminal."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        secret = getpass.getpass(prompt)
    else:
        secret = sys.stdin.readline().strip()
    if not secret:
        raise ConfigurationError("no API key was given: type it when asked, or pipe it in with --api-key -")
    return secret


CREDENTIAL = option("credential", help="its id or name")
DETAIL = option("detail", nargs="*", type=text_pair, metavar="name=value", help="what the carrier needs beside the key")
API_KEY = option("--api-key", metavar="KEY", help="- reads it from standard input; others see what you type here")

WORD = Word(
    "credentials",
    "the carrier accounts the service may use",
    {
        "ls": Verb(ls, "list them", (WIDE,)),
        "add": Verb(
            add,
            "keep a carrier account's key, sealed; asked for on the terminal unless given",
            (
                option("name", help="what to call it"),
                option("--provider", required=True, help="the carrier; `anycarrier providers` lists them"),
                DETAIL,
                API_KEY,
            ),
        ),
        "set": Verb(
            change,
            "add details, rename it, or give it a new key",
            (CREDENTIAL, DETAIL, option("--name", help="a new name"), API_KEY),
        ),
        "show": Verb(show, "look at one, without its secrets", (CREDENTIAL,)),
        "verify": Verb(verify, "log in at the carrier with it", (CREDENTIAL,)),
        "rm": Verb(rm, "delete it; not while numbers need it", (CREDENTIAL,)),
    },
)
main = WORD.main
