"""``anycarrier webhooks``: who is told of calls, what they were sent, and sending it again."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.naming import begins, call_named, only, pick
from anycarrier_server.cli.progress import working
from anycarrier_server.cli.table import Column, say, show_one, show_rows, time_column
from anycarrier_server.cli.typed import at_least_one
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

ROOT = "/v1/webhooks"
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


async def ls(client: Client, asked: Namespace) -> None:
    rows = await client.every(ROOT)
    show_rows(asked, rows, COLUMNS, "No webhooks. Make one: anycarrier webhooks add https://example.com/hook")


async def add(client: Client, asked: Namespace) -> None:
    events = list(dict.fromkeys(asked.events or DEFAULT))
    made = await client.post(ROOT, {"name": asked.name or asked.address[:255], "url": asked.address, "events": events})
    listed = ", ".join(made["events"])
    said = f"{made['id']} hears of {listed}.\nIt is signed with {made['secret']} (shown this once); try it: "
    if asked.json:
        say(asked, "", made)
    else:
        print(f"{said}anycarrier webhooks test {made['id']}")


async def change(client: Client, asked: Namespace) -> None:
    changes = {"name": asked.name, "url": asked.address, "events": asked.events}
    body = {name: value for name, value in changes.items() if value is not None}
    if not body:
        raise ConfigurationError("nothing to change: give --to-url, --event or --name")
    changed = await client.patch(f"{ROOT}/{(await webhook_named(client, asked.webhook))['id']}", body)
    say(asked, f"{changed['id']}: {', '.join(body)} set", changed)


async def show(client: Client, asked: Namespace) -> None:
    show_one(asked, await webhook_named(client, asked.webhook))


async def pause(client: Client, asked: Namespace) -> None:
    await _switch(client, asked, "paused", "paused: it is sent nothing until you resume it")


async def resume(client: Client, asked: Namespace) -> None:
    await _switch(client, asked, "active", "active")


async def _switch(client: Client, asked: Namespace, status: str, said: str) -> None:
    found = await webhook_named(client, asked.webhook)
    changed = await client.patch(f"{ROOT}/{found['id']}", {"status": status})
    say(asked, f"{found['id']} is {said}", changed)


async def test(client: Client, asked: Namespace) -> int:
    found = await webhook_named(client, asked.webhook)
    async with working(f"posting to {found['url']}"):
        answer = await client.post(f"{ROOT}/{found['id']}/test")
    if answer["ok"]:
        say(asked, f"{found['url']} answered {answer['status_code']} in {answer['duration_ms']} ms", answer)
        return 0
    say(asked, f"{found['url']} did not take the test event: {answer['error']}", answer)
    return 1


async def deliveries(client: Client, asked: Namespace) -> None:
    if (asked.webhook is None) == (asked.call is None):
        raise ConfigurationError("name a webhook, or a call with --call: anycarrier webhooks ls, anycarrier calls ls")
    if asked.call is not None:
        path = f"/v1/calls/{(await call_named(client, asked.call))['id']}/deliveries"
    else:
        path = f"{ROOT}/{(await webhook_named(client, asked.webhook))['id']}/deliveries"
    rows: list[dict[str, Any]] = []
    more = True
    while more and len(rows) < asked.limit:
        page = await client.get(path, limit=min(PAGE, asked.limit - len(rows)), offset=len(rows))
        rows += page["items"]
        more = page["has_more"]
    show_rows(asked, rows, DELIVERIES if asked.call is None else OF_A_CALL, "Nothing was sent yet.")


async def replay(client: Client, asked: Namespace) -> int:
    found = await webhook_named(client, asked.webhook)
    path = f"{ROOT}/{found['id']}/deliveries"
    wanted = await _delivery_named(client, path, asked.delivery)
    async with working(f"posting to {found['url']}"):
        sent = await client.post(f"{path}/{wanted}/replay")
    say(asked, f"{sent['event']} sent again to {sent['url']}: {_answer(sent)}", sent)
    return 0 if sent["success"] else 1


async def rm(client: Client, asked: Namespace) -> None:
    found = await webhook_named(client, asked.webhook)
    await client.delete(f"{ROOT}/{found['id']}")
    say(asked, f"webhook {found['name']} ({found['id']}) deleted", {"deleted": found["id"]})


async def webhook_named(client: Client, text: str) -> dict[str, Any]:
    """The webhook with this id, name or URL."""
    return pick(await client.every(ROOT), text, ("id", "name", "url"), "webhook")


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

WORD = Word(
    "webhooks",
    "webhooks: who is told of calls, and what was sent",
    {
        "ls": Verb(ls, "list them", (WIDE,)),
        "add": Verb(
            add,
            "tell a URL of calls, and show the secret that signs what it is sent, this once",
            (option("address", metavar="url", help="https://..."), EVENT, NAME),
        ),
        "show": Verb(show, "look at one", (WEBHOOK,)),
        "set": Verb(
            change,
            "change where it goes, or what it hears of",
            (WEBHOOK, option("--to-url", dest="address", metavar="URL", help="the new address"), EVENT, NAME),
        ),
        "test": Verb(test, "post a made-up event there now; 1 when it is not taken", (WEBHOOK,)),
        "deliveries": Verb(
            deliveries,
            "what was sent, newest first, and what was answered",
            (
                option("webhook", nargs="?", help="its id, name or URL"),
                option("--call", help="instead: all that was sent about one call, to its own webhook_url too"),
                option("--limit", type=at_least_one, default=20, help="default 20"),
                WIDE,
            ),
        ),
        "replay": Verb(
            replay,
            "send a delivery again: same body, same event id; 1 when it is not taken",
            (WEBHOOK, option("delivery", help="its id, as `webhooks deliveries` prints it")),
        ),
        "pause": Verb(pause, "send it nothing for a while", (WEBHOOK,)),
        "resume": Verb(resume, "send it events again", (WEBHOOK,)),
        "rm": Verb(rm, "delete it", (WEBHOOK,)),
    },
)
main = WORD.main
