"""``anycarrier sandbox``: be the person at the other end of a call, where the server plays carriers (``--sandbox``)."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.arguments import Verb, Word, call_named, line_named, option, phone_number
from anycarrier_server.cli.output import say as tell
from anycarrier_server.cli.output import show_one
from anycarrier_server.cli.tail import follow_call

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

SANDBOX_PATH = "/sandbox/calls"
SOMEBODY = "+12125550142"


async def call_number(client: Client, asked: Namespace) -> int:
    body: dict[str, Any] = {"to": (await line_named(client, asked.to))["phone_number"], "from": asked.caller}
    if asked.say:
        body |= {"say": asked.say, "barge_in": asked.barge_in}
    made = await client.post(SANDBOX_PATH, body)
    if made["call_id"] is None:
        tell(asked, f"{made['to']} did not take the call: it is {made['state']} ({made['hangup_cause']})", made)
        return 1
    if asked.wait:
        ended = await follow_call(client, made["call_id"], as_json=asked.json)
        return 0 if ended["status"] == "completed" else 1
    tell(asked, f"{made['call_id']} {made['state']}; follow it: anycarrier calls tail {made['call_id'][:13]}", made)
    return 0


async def say_something(client: Client, asked: Namespace) -> None:
    await _act(client, asked, "say", {"text": asked.text, "barge_in": asked.barge_in})


async def press_keys(client: Client, asked: Namespace) -> None:
    await _act(client, asked, "digits", {"digits": asked.digits})


async def hang_up(client: Client, asked: Namespace) -> None:
    await _act(client, asked, "hangup")


async def show_far_end(client: Client, asked: Namespace) -> None:
    show_one(asked, await client.get(await _path(client, asked)))


async def _act(client: Client, asked: Namespace, what: str, body: Mapping[str, Any] | None = None) -> None:
    seen = await client.post(f"{await _path(client, asked)}/{what}", body)
    tell(asked, f"{seen['call_id']} {seen['state']}", seen)


async def _path(client: Client, asked: Namespace) -> str:
    if client.direct:
        raise ConfigurationError("the sandboxes live in a running server: anycarrier serve --sandbox, without --direct")
    return f"{SANDBOX_PATH}/{(await call_named(client, asked.call))['id']}"


CALL = option("call", help="its id, or how it begins")
BARGE_IN = option("--barge-in", action="store_true", help="at once, over the greeting or whatever is being said")

SANDBOX = Word(
    "sandbox",
    "be the person at the other end of a call, at a server with --sandbox; see what is said: anycarrier calls tail",
    {
        "call": Verb(
            call_number,
            "call a number of yours",
            (
                option("to", help="a number of yours: +1..., id or name"),
                option("--from", dest="caller", type=phone_number, metavar="NUMBER", default=SOMEBODY,
                       help=f"who calls; default {SOMEBODY}"),
                option("--say", metavar="TEXT", help="said once the agent has greeted"),
                BARGE_IN,
                option("--wait", action="store_true", help="follow the call to its end; exit 1 when it failed"),
            ),
        ),
        "say": Verb(
            say_something, "say something, once the agent has greeted", (CALL, option("text", help="words"), BARGE_IN)
        ),
        "press": Verb(press_keys, "press keys", (CALL, option("digits", help="0-9 A-D * #"))),
        "hangup": Verb(hang_up, "hang up; again is no error", (CALL,)),
        "show": Verb(show_far_end, "how things stand at the other end", (CALL,)),
    },
)  # fmt: skip
