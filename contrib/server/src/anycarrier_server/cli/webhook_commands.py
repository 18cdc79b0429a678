"""``anycarrier webhooks``: who is told of calls, what they were sent, and sending it again."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import WIDE, Verb, Word, at_least_one, begins, call_named, only, option, pick
from anycarrier_server.cli.output import Column, say, show_one, show_rows, time_column, working

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

WEBHOOKS_PATH = "/v1/webhooks"
EVENTS = (
    "call.started", "call.ended", "call.failed", "call.analyzed", "call.recording.available", "transcript.partial",
    "transcript.final",
)  # fmt: skip
DEFAULT = ("call.started", "call.ended", "call.failed")
PAGE = 100
LOOKED_AT = 1000
"""Deliveries, from the newest on, among which a shortened id is looked for."""


def _answer(delivery: Mapping[str, Any]) -> str:
    answered = f"HTTP {delivery['status_code']}" if delivery["status_code"] else delivery["error"] or "no answer"
    return answered if delivery["success"] else f"failed: {answered}"


COLUMNS = (
    Column("name", "name", flexible=True), "status", Column("url", "url", flexible=True),
    Column("events", "events", rank=1, flexible=True), "id",
)  # fmt: skip
DELIVERIES = (
    time_column("created_at"), Column("event", "event"), Column("status", _answer, flexible=True),
    Column("url", "url", rank=2), Column("ms", "duration_ms", rank=3), Column("replay", "is_replay", rank=4),
    Column("call", "call_id", rank=1), "id",
)  # fmt: skip
OF_A_CALL = (
    time_column("created_at"), Column("event", "event"), Column("status", _answer, flexible=True),
    Column("url", "url", flexible=True), Column("ms", "duration_ms", rank=1), "id",
)  # fmt: skip


async def list_webhooks(client: Client, asked: Namespace) -> None:
    rows = await client.every(WEBHOOKS_PATH)
    show_rows(asked, rows, COLUMNS, "No webhooks. Make one: anycarrier webhooks add https://example.com/hook")


async def add_webhook(client: Client, asked: Namespace) -> None:
    events = list(dict.fromkeys(asked.events or DEFAULT))
    made = await client.post(
        WEBHOOKS_PATH, {"name": asked.name or asked.address[:255], "url": asked.address, "events": events}
    )
    listed = ", ".join(made["events"])
    said = f"{made['id']} hears of {listed}.\nIt is signed with {made['secret']} (shown this once); try it: "
    if asked.json:
        say(asked, "", made)
    else:
        print(f"{said}anycarrier webhooks test {made['id']}")


async def change_webhook(client: Client, asked: Namespace) -> None:
    changes = {"name": asked.name, "url": asked.address, "events": asked.events}
    body = {name: value for name, value in changes.items() if value is not None}
    if not body:
        raise ConfigurationError("nothing to change: give --to-url, --event or --name")
    changed = await client.patch(f"{WEBHOOKS_PATH}/{(await webhook_named(client, asked.webhook))['id']}", body)
    say(asked, f"{changed['id']}: {', '.join(body)} set", changed)


async def show_webhook(client: Client, asked: Namespace) -> None:
    show_one(asked, await webhook_named(client, asked.webhook))


async def pause_webhook(client: Client, asked: Namespace) -> None:
    await _switch(client, asked, "paused", "paused: it is sent nothing until you resume it")


async def resume_webhook(client: Client, asked: Namespace) -> None:
    await _switch(client, asked, "active", "active")


async def _switch(client: Client, asked: Namespace, status: str, said: str) -> None:
    found = await webhook_named(client, asked.webhook)
    changed = await client.patch(f"{WEBHOOKS_PATH}/{found['id']}", {"status": status})
    say(asked, f"{found['id']} is {said}", changed)


async def test_webhook(client: Client, asked: Namespace) -> int:
    found = await webhook_named(client, asked.webhook)
    async with working(f"posting to {found['url']}"):
        answer = await client.post(f"{WEBHOOKS_PATH}/{found['id']}/test")
    if answer["ok"]:
        say(asked, f"{found['url']} answered {answer['status_code']} in {answer['duration_ms']} ms", answer)
        return 0
    say(asked, f"{found['url']} did not take the test event: {answer['error']}", answer)
    return 1


async def list_deliveries(client: Client, asked: Namespace) -> None:
    if (asked.webhook is None) == (asked.call is None):
        raise ConfigurationError("name a webhook, or a call with --call: anycarrier webhooks ls, anycarrier calls ls")
    if asked.call is not None:
        path = f"/v1/calls/{(await call_named(client, asked.call))['id']}/deliveries"
    else:
        path = f"{WEBHOOKS_PATH}/{(await webhook_named(client, asked.webhook))['id']}/deliveries"
    rows: list[dict[str, Any]] = []
    more = True
    while more and len(rows) < asked.limit:
        page = await client.get(path, limit=min(PAGE, asked.limit - len(rows)), offset=len(rows))
        rows += page["items"]
        more = page["has_more"]
    show_rows(asked, rows, DELIVERIES if asked.call is None else OF_A_CALL, "Nothing was sent yet.")


async def replay_delivery(client: Client, asked: Namespace) -> int:
    found = await webhook_named(client, asked.webhook)
    path = f"{WEBHOOKS_PATH}/{found['id']}/deliveries"
    wanted = await _delivery_named(client, path, asked.delivery)
    async with working(f"posting to {found['url']}"):
        sent = await client.post(f"{path}/{wanted}/replay")
    say(asked, f"{sent['event']} sent again to {sent['url']}: {_answer(sent)}", sent)
    return 0 if sent["success"] else 1


async def delete_webhook(client: Client, asked: Namespace) -> None:
    found = await webhook_named(client, asked.webhook)
    await client.delete(f"{WEBHOOKS_PATH}/{found['id']}")
    say(asked, f"webhook {found['name']} ({found['id']}) deleted", {"deleted": found["id"]})


async def webhook_named(client: Client, text: str) -> dict[str, Any]:
    """The webhook with this id, name or URL."""
    return pick(await client.every(WEBHOOKS_PATH), text, ("id", "name", "url"), "webhook")


async def _delivery_named(client: Client, path: str, text: str) -> str:
    """The delivery's whole id; one that is given in full is not looked for."""
    if len(text.rpartition("_")[2].replace("-", "")) == 32:
        return text
    found: list[dict[str, Any]] = []
    for offset in range(0, LOOKED_AT, PAGE):
        page = await client.get(path, limit=PAGE, offset=offset)
        found += [one for one in page["items"] if begins(one["id"], text)]
        if not page["has_more"]:
            break
    return str(only(found, text, "delivery", f"anycarrier webhooks deliveries {path.split('/')[3]}")["id"])


WEBHOOK = option("webhook", help="its id, name or URL")
EVENT = option(
    "--event", dest="events", action="append", choices=EVENTS,
    help=f"what to tell of; may be given again; default: {', '.join(DEFAULT)}",
)  # fmt: skip
NAME = option("--name", help="what to call it; default: its URL")

WEBHOOKS = Word(
    "webhooks",
    "webhooks: who is told of calls, and what was sent",
    {
        "ls": Verb(list_webhooks, "list them", (WIDE,)),
        "add": Verb(
            add_webhook,
            "tell a URL of calls, and show the secret that signs what it is sent, this once",
            (option("address", metavar="url", help="https://..."), EVENT, NAME),
        ),
        "show": Verb(show_webhook, "look at one", (WEBHOOK,)),
        "set": Verb(
            change_webhook,
            "change where it goes, or what it hears of",
            (WEBHOOK, option("--to-url", dest="address", metavar="URL", help="the new address"), EVENT, NAME),
        ),
        "test": Verb(test_webhook, "post a made-up event there now; 1 when it is not taken", (WEBHOOK,)),
        "deliveries": Verb(
            list_deliveries,
            "what was sent, newest first, and what was answered",
            (
                option("webhook", nargs="?", help="its id, name or URL"),
                option("--call", help="instead: all that was sent about one call, to its own webhook_url too"),
                option("--limit", type=at_least_one, default=20, help="default 20"),
                WIDE,
            ),
        ),
        "replay": Verb(
            replay_delivery,
            "send a delivery again: same body, same event id; 1 when it is not taken",
            (WEBHOOK, option("delivery", help="its id, as `webhooks deliveries` prints it")),
        ),
        "pause": Verb(pause_webhook, "send it nothing for a while", (WEBHOOK,)),
        "resume": Verb(resume_webhook, "send it events again", (WEBHOOK,)),
        "rm": Verb(delete_webhook, "delete it", (WEBHOOK,)),
    },
)
