"""``anycarrier doctor``: check the setup, from your API key to the carriers' settings, and repair drift. ``anycarrier
route explain``: what would happen to an incoming call, and why. ``anycarrier usage``: how much was called.
"""

from __future__ import annotations

import uuid
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx

from anycarrier_server.cli.arguments import Verb, Word, option, phone_number
from anycarrier_server.cli.client import Client, read
from anycarrier_server.cli.connection import on_this_machine
from anycarrier_server.cli.output import agreed, painted, print_json, show_one, step, text, working

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


MARKS = {True: "ok", False: "NO", None: "?"}
SKEW = 30.0
AT_A_TIME = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; ``ok`` None: it cannot be told. ``subject`` is an id to act on, ``name`` for people."""

    check: str
    name: str
    ok: bool | None
    found: str
    subject: str = ""
    drift: tuple[str, ...] = ()


async def doctor(client: Client, asked: Namespace) -> int:
    found = await _server(client)
    if found[-1].ok is not False:
        found += await _carriers(client)
        async with working("trying the webhook addresses"):
            found += await _webhooks(client)
    drifted = [one for one in found if one.drift]
    mended = await _mend(client, asked, drifted) if asked.fix else []
    ill = [one for one in found if one.ok is False and one.subject not in mended]
    if asked.json:
        print_json({"ok": not ill, "items": [asdict(one) for one in found], "mended": mended})
        return 1 if ill else 0
    for one in found:
        mark = painted(MARKS[one.ok]) + " " * (3 - len(MARKS[one.ok]))
        print(f"{mark} {one.check:<8} {text(one.name)}: {text(one.found)}")
        if one.subject in mended:
            print("    mended")
    if drifted and not asked.fix:
        step("mend the numbers: anycarrier doctor --fix")
    return 1 if ill else 0


async def _server(client: Client) -> list[Finding]:
    """Is it there, is it ready, does it know the key, does its clock agree with this machine's."""
    try:
        response = await client.http.get("/readyz")
    except httpx.HTTPError as failure:
        found = f"no answer ({type(failure).__name__}): start it with `anycarrier serve`, or name it with --url"
        return [Finding("server", client.where, False, found)]
    ready = _ready(client, response)
    if client.direct or ready.ok is False:
        return [ready]
    return [ready, _clock(response), await _key(client)]


def _ready(client: Client, response: httpx.Response) -> Finding:
    try:
        told = response.json()
        problems, degraded = told["problems"], told.get("degraded")
    except (ValueError, KeyError, TypeError):
        return Finding("server", client.where, False, f"what answers there ({response.status_code}) is no anycarrier")
    if problems:
        return Finding("server", client.where, False, f"not ready: {text(problems)}")
    return Finding("server", client.where, True, f"ready, degraded: {text(degraded)}" if degraded else "ready")


async def _key(client: Client) -> Finding:
    key = await client.http.get("/api/whoami")
    if key.status_code != 200:
        return Finding("key", client.where, False, _why(key))
    told = key.json()
    admin = told.get("auth_subtype") == "api_key.admin_scoped"
    said = "an admin key" if admin else "an agent's key: carriers are checked with an admin key only"
    return Finding("key", told.get("label", ""), admin, said)


def _clock(response: httpx.Response) -> Finding:
    try:
        skew = (datetime.now(UTC) - parsedate_to_datetime(response.headers["date"])).total_seconds()
    except (KeyError, ValueError, TypeError):
        return Finding("clock", "server", None, "the server does not tell the time")
    if abs(skew) > SKEW:
        off = f"{abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'}"
        return Finding("clock", "server", False, f"the server is {off} this machine: set whichever is wrong (NTP)")
    return Finding("clock", "server", True, "the server and this machine agree")


def _why(response: httpx.Response) -> str:
    try:
        read(response)
    except Exception as refused:  # noqa: BLE001 its text is what is wanted
        return str(refused)
    return ""


async def _carriers(client: Client) -> list[Finding]:
    """What the server finds at the carriers: logins, clocks, numbers' settings."""
    items: list[dict[str, Any]] = []
    done = 0
    while True:
        async with working(f"asking the carriers, {done} numbers done"):
            page = await client.get("/ops/checkup", limit=AT_A_TIME, offset=done)
        items += page["items"]
        done += AT_A_TIME
        if done >= page["total"]:
            break
    fields = ("check", "name", "ok", "found", "subject")
    return [Finding(**{name: one[name] for name in fields}, drift=tuple(one["drift"])) for one in items]


async def _webhooks(client: Client) -> list[Finding]:
    """Whether the addresses the carriers post to lead to this service: an unsigned post must be refused by it.

    Carriers that call sockets of the service post nothing.
    """
    posting = {one["name"] for one in await client.every("/v1/providers") if not one["capabilities"]["listen"]}
    lines = await client.every("/v1/phone-numbers")
    urls = sorted({line["webhook_url"] for line in lines if line["provider"] in posting})
    return [await _knock(url) for url in urls]


async def _knock(url: str) -> Finding:
    ours = f"doctor-{uuid.uuid4().hex}"
    try:
        async with httpx.AsyncClient(timeout=10.0, trust_env=not on_this_machine(url)) as http:
            answer = await http.post(url, headers={"X-Request-ID": ours})
    except httpx.HTTPError as failure:
        found = f"nobody answers from here ({type(failure).__name__}): is the public URL right, does the tunnel run?"
        return Finding("webhook", url, False, found)
    if answer.headers.get("x-request-id") != ours:
        return Finding("webhook", url, False, f"somebody else answers there ({answer.status_code}): set public_url")
    if answer.status_code == 404:
        return Finding("webhook", url, False, "an anycarrier answers there, but it does not know the credential")
    if answer.status_code < 400:
        return Finding("webhook", url, False, f"an unsigned post was taken ({answer.status_code}): it must be refused")
    return Finding("webhook", url, True, "reached, and the unsigned post was refused")


async def _mend(client: Client, asked: Namespace, drifted: list[Finding]) -> list[str]:
    """Configure the numbers again that have drifted, asking first; the ids of those that are right now."""
    mended = []
    for one in drifted:
        if not asked.yes and not agreed(f"set {one.name} at its carrier again ({', '.join(one.drift)})?"):
            continue
        line: Mapping[str, Any] = await client.post(f"/v1/phone-numbers/{one.subject}/sync")
        if line["status"] == "active":
            mended.append(one.subject)
        else:
            step(f"{one.name}: {text((line['provider_sync'] or {}).get('message'))}")
    return mended


DOCTOR = Word(
    "doctor",
    "check the setup: server, key, clocks, carrier logins, webhooks; repair numbers whose settings have drifted",
    {
        "": Verb(
            doctor,
            "check server, key, clocks, carrier logins, webhooks, numbers' settings at the carriers; 1 if one is wrong",
            (
                option("--fix", action="store_true", help="set numbers again whose settings are not ours"),
                option("--yes", action="store_true", help="with --fix: do not ask"),
            ),
        )
    },
)


async def explain_route(client: Client, asked: Namespace) -> int:
    told = await client.get("/ops/route", to=asked.to, **({"from": asked.caller} if asked.caller else {}))
    if asked.json:
        print_json(told)
    else:
        width = max(len(step["question"]) for step in told["steps"])
        for step in told["steps"]:
            mark = ">" if step["decides"] else " "
            print(f"{mark} {step['question']:<{width}}  {text(step['found'])}")
        print(f"\n{told['outcome']}: {text(told['why'])}")
    return 1 if told["outcome"] == "reject" else 0


ROUTE = Word(
    "route",
    "why calls go where they go",
    {
        "explain": Verb(
            explain_route,
            "follow an incoming call through number, agent, rules, limits and action, without a call; 1 if declined",
            (
                option("to", type=phone_number, help="the number rung: +1..."),
                option(
                    "--from",
                    dest="caller",
                    type=phone_number,
                    metavar="NUMBER",
                    help="who rings; default: somebody no rule names",
                ),
            ),
        )
    },
)


async def show_usage(client: Client, asked: Namespace) -> None:
    show_one(asked, await client.get("/v1/usage"))


USAGE = Word(
    "usage",
    "how much was called, and what is left of the limits. Days and months begin at 00:00 UTC; limits count over the "
    "last 24 hours",
    {"": Verb(show_usage, "calls and minutes of the workspace, and what is left of its limits")},
)
