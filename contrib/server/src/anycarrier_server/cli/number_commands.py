"""``anycarrier numbers``: find and buy phone numbers at the carrier, register them, give them to agents."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import (
    WIDE,
    Verb,
    Word,
    agent_named,
    at_least_one,
    credential_named,
    digits,
    handles,
    line_named,
    option,
    phone_number,
)
from anycarrier_server.cli.output import Column, agreed, print_json, say, show_one, show_rows, step, text, working

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

NUMBERS_PATH = "/v1/phone-numbers"
COLUMNS = (
    "phone_number", "status", "provider", Column("agent", "agent", flexible=True),
    Column("name", "friendly_name", flexible=True), "id",
)  # fmt: skip
OFFERED = (
    "phone_number", "type", "region", Column("locality", "locality", flexible=True), Column("monthly", "monthly_cost"),
    "currency", Column("provider", "provider", rank=1),
)  # fmt: skip


async def list_numbers(client: Client, asked: Namespace) -> None:
    rows = await client.every(NUMBERS_PATH)
    if not asked.json:
        known = await handles(client)
        rows = [{**row, "agent": known.get(digits(row["agent_id"]))} for row in rows]
    show_rows(asked, rows, COLUMNS, "No numbers. Register one you hold: anycarrier numbers register +1... --agent ...")


async def show_number(client: Client, asked: Namespace) -> None:
    show_one(asked, await line_named(client, asked.number))


async def search_numbers(client: Client, asked: Namespace) -> int:
    async with working("asking the carrier for numbers"):
        offers = await client.get(f"{NUMBERS_PATH}/search", **_wanted(asked), **await _credential(client, asked))
    show_rows(asked, offers["items"], OFFERED, "The carrier offers nothing that fits: widen the filters.")
    return 0 if offers["items"] else 1


async def buy_number(client: Client, asked: Namespace) -> int:
    wanted = {"phone_number": asked.number} if asked.number else _wanted(asked)
    if not wanted.keys() - {"limit", "type"}:
        raise ConfigurationError("say which number, or what it should be like: --country, --area-code, --contains")
    body = {**wanted, **await _credential(client, asked), **await _agent(client, asked), **_name(asked)}
    async with working("buying at the carrier"):
        bought = await client.post(f"{NUMBERS_PATH}/purchase", body)
    return _put_in_service(asked, bought, "is bought")


async def register_number(client: Client, asked: Namespace) -> int:
    given = await _credential(client, asked)
    body = {"phone_number": asked.number, **given, **await _agent(client, asked), **_name(asked)}
    if not asked.provider:
        accounts = await client.every("/v1/credentials")
        meant = [one for one in accounts if one["id"] == given["credential_id"]] if given else accounts
        body["provider"] = _only_provider(meant)
    else:
        body["provider"] = asked.provider
    async with working("configuring the number at the carrier"):
        line = await client.post(NUMBERS_PATH, body)
    return _put_in_service(asked, line, "is registered")


async def assign_number(client: Client, asked: Namespace) -> None:
    line = await line_named(client, asked.number)
    agent = await agent_named(client, asked.agent) if asked.agent != "none" else None
    changed = await client.patch(f"{NUMBERS_PATH}/{line['id']}", {"agent_id": agent["id"] if agent else None})
    whom = f"goes to {agent['name']}" if agent else "goes to nobody: its calls are declined"
    say(asked, f"{line['phone_number']} {whom}", changed)


async def sync_number(client: Client, asked: Namespace) -> int:
    lines = (
        [await line_named(client, one) for one in asked.number] if asked.number else await client.every(NUMBERS_PATH)
    )
    done = []
    for count, line in enumerate(lines, 1):
        step(f"{count}/{len(lines)} {line['phone_number']}")
        done.append(await client.post(f"{NUMBERS_PATH}/{line['id']}/sync"))
    if asked.json:
        print_json(done)
    else:
        for line in done:
            print(f"{line['phone_number']}  {line['status']}: {text((line['provider_sync'] or {}).get('message'))}")
    return 0 if all(line["status"] == "active" for line in done) else 1


async def unregister_number(client: Client, asked: Namespace) -> None:
    line = await line_named(client, asked.number)
    async with working("taking the number out of service"):
        await client.delete(f"{NUMBERS_PATH}/{line['id']}")
    said = f"{line['phone_number']} is out of service; it stays yours at the carrier"
    say(asked, said, {"unregistered": line["id"]})


async def release_number(client: Client, asked: Namespace) -> int:
    line = await line_named(client, asked.number)
    if not asked.yes and not agreed(f"give {line['phone_number']} back to the carrier for good?"):
        return 1
    async with working("releasing the number at the carrier"):
        await client.delete(f"{NUMBERS_PATH}/{line['id']}", release=True)
    say(asked, f"{line['phone_number']} is released: it is no longer yours at the carrier", {"released": line["id"]})
    return 0


def _put_in_service(asked: Namespace, line: Mapping[str, Any], done: str) -> int:
    reason = (line["provider_sync"] or {}).get("message", "")
    state = "in service" if line["status"] == "active" else f"not in service: {reason}"
    say(asked, f"{line['phone_number']} {done} and {state}", line)
    return 0 if line["status"] == "active" else 1


def _only_provider(credentials: list[dict[str, Any]]) -> str:
    """The carrier meant by a number registered without one: the default account's, else the only one there is."""
    default = [one["provider"] for one in credentials if one["is_default"]]
    providers = sorted({one["provider"] for one in credentials})
    if not default and len(providers) != 1:
        have = f"have accounts at {', '.join(providers)}" if providers else "have none: anycarrier credentials add"
        raise ConfigurationError(f"say which carrier with --provider or --credential; you {have}")
    return str((default or providers)[0])


def _wanted(asked: Namespace) -> dict[str, Any]:
    fields = ("country", "area_code", "contains", "locality", "region", "type", "limit")
    return {name: value for name in fields if (value := getattr(asked, name, None)) is not None}


async def _credential(client: Client, asked: Namespace) -> dict[str, Any]:
    return {"credential_id": (await credential_named(client, asked.credential))["id"]} if asked.credential else {}


async def _agent(client: Client, asked: Namespace) -> dict[str, Any]:
    return {"agent_id": (await agent_named(client, asked.agent))["id"]} if asked.agent else {}


def _name(asked: Namespace) -> dict[str, Any]:
    return {"friendly_name": asked.name} if asked.name else {}


NUMBER = option("number", help="+1..., its id or its name")
CREDENTIAL = option("--credential", help="the carrier account, by id or name; default: the default or only one")
AGENT = option("--agent", help="who takes its calls: an agent's id, handle or name")
NAME = option("--name", help="what to call it")
WANTED = (
    option("--country", help="ISO 3166 alpha-2; default US"),
    option("--area-code", help="its first digits after the country's, e.g. 415"),
    option("--contains", help="digits or letters in it"),
    option("--locality", help="city"),
    option("--region", help="state or province, e.g. CA"),
    option("--type", choices=("local", "toll_free", "mobile", "national")),
)

NUMBERS = Word(
    "numbers",
    "phone numbers: find, buy, register, route, release",
    {
        "ls": Verb(list_numbers, "list the numbers in service", (WIDE,)),
        "show": Verb(show_number, "look at one", (NUMBER,)),
        "search": Verb(
            search_numbers,
            "what the carrier offers",
            (*WANTED, option("--limit", type=at_least_one, help="default 10"), CREDENTIAL, WIDE),
        ),
        "buy": Verb(
            buy_number,
            "buy a number, or the first that fits; costs money at the carrier",
            (
                option("number", nargs="?", type=phone_number, help="+1..., as found by search"),
                *WANTED,
                CREDENTIAL,
                AGENT,
                NAME,
            ),
        ),
        "register": Verb(
            register_number,
            "take a number you hold at the carrier into service",
            (
                option("number", type=phone_number, help="+1..."),
                option("--agent", required=True, help="who takes its calls: an agent's id, handle or name"),
                option("--provider", help="the carrier; default: the credential's"),
                CREDENTIAL,
                NAME,
            ),
        ),
        "assign": Verb(
            assign_number, "give it to an agent", (NUMBER, option("agent", help="id, handle, name, or none"))
        ),
        "sync": Verb(
            sync_number,
            "tell the carrier again where calls go",
            (option("number", nargs="*", help="+1..., ids or names; default: all"),),
        ),
        "unregister": Verb(unregister_number, "take it out of service; it stays yours at the carrier", (NUMBER,)),
        "release": Verb(
            release_number,
            "give it back to the carrier, for good",
            (NUMBER, option("--yes", action="store_true", help="do not ask")),
        ),
    },
)
