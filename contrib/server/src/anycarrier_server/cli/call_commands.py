"""``anycarrier calls``: list, follow, make and end calls. ``anycarrier recordings``: list, save and play recordings."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier_server.cli.arguments import (
    WIDE,
    Verb,
    Word,
    agent_named,
    at_least_one,
    call_named,
    digits,
    handles,
    line_named,
    option,
    pair,
    phone_number,
    timestamp,
)
from anycarrier_server.cli.output import (
    BOLD,
    RED,
    Column,
    clean,
    clock_column,
    painted,
    print_json,
    say,
    show_one,
    show_rows,
    time_column,
    working,
)
from anycarrier_server.cli.tail import Words, follow_all, follow_call
from anycarrier_server.cli.webhook_commands import OF_A_CALL

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client


CALLS_PATH = "/v1/calls"
LOOKS = 40  # a quarter of a second apart: a busy carrier takes a while to say that a call is over
LONG = ("messages", "transcript", "analysis", "latency", "overrides", "metadata", "variables", "recording_url")


def _ended_how(call: Mapping[str, Any]) -> str:
    """Status and reason in one, for where there is little room."""
    failed = "failed: " if call["status"] == "failed" else ""
    return f"{failed}{call['end_reason'] or call['status']}"


CALL_COLUMNS = (
    time_column("created_at"),
    Column("direction", "direction", short=lambda call: call["direction"].removesuffix("bound"), rank=2),
    Column("from", "from_number"), Column("to", "to_number"), Column("agent", "agent", flexible=True),
    Column("status", "status", short=_ended_how, flexible=True), Column("reason", "end_reason", rank=4),
    Column("seconds", "duration_seconds", short=lambda call: round(call["duration_seconds"]), rank=3), "id",
)  # fmt: skip


async def list_calls(client: Client, asked: Namespace) -> None:
    rows = await calls_asked(client, asked, status=asked.status)
    show_rows(asked, rows if asked.json else await with_agents(client, rows), CALL_COLUMNS, "No calls.")


async def calls_asked(client: Client, asked: Namespace, **which: Any) -> list[dict[str, Any]]:
    """The calls that ``SELECTION`` names, newest first."""
    agent = (await agent_named(client, asked.agent))["id"] if asked.agent else None
    rows: list[dict[str, Any]] = []
    cursor = None
    while len(rows) < asked.limit:
        page = await client.get(
            f"{CALLS_PATH}/cursor", limit=min(100, asked.limit - len(rows)), cursor=cursor, agent_id=agent,
            direction=asked.direction, from_number=asked.from_number, to_number=asked.to_number,
            created_after=asked.since, created_before=asked.until, **which,
        )  # fmt: skip
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    return rows


async def with_agents(client: Client, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The calls with their agents' handles."""
    known = await handles(client) if rows else {}
    return [{**row, "agent": known.get(digits(row["agent_id"]), row["agent_id"])} for row in rows]


async def show_call(client: Client, asked: Namespace) -> None:
    call = await call_named(client, asked.call)
    path = f"{CALLS_PATH}/{call['id']}"
    events = (await client.get(f"{path}/events"))["items"]
    deliveries = (await client.get(f"{path}/deliveries", limit=100))["items"]
    said = call["messages"] or [event["details"] for event in await Words(client).new([call["id"]])]
    if asked.json:
        print_json({**call, "messages": said, "events": events, "deliveries": deliveries})
        return
    show_one(asked, call, hide=LONG)
    if call["recording_url"]:
        print(f"recording  anycarrier recordings save {call['id']}")
    for name in ("variables", "metadata"):
        for key, value in (call[name] or {}).items():
            print(f"{name}.{clean(str(key))}: {clean(str(value))}")
    if said:
        print()
    for message in said:
        print(f"{painted(message['role'] + ':', BOLD)} {clean(message['content'])}")
    print()
    show_rows(asked, events, (clock_column("at"), "event", Column("details", "details", flexible=True)))
    if failed := [one for one in deliveries if not one["success"]]:
        print(f"\n{painted('failed', RED)} webhook deliveries:")
        show_rows(asked, failed, OF_A_CALL)


async def tail_calls(client: Client, asked: Namespace) -> None:
    if asked.call:
        await follow_call(client, (await call_named(client, asked.call))["id"], as_json=asked.json)
    else:
        await follow_all(client, as_json=asked.json)


async def dial_call(client: Client, asked: Namespace) -> int:
    if client.direct:
        raise ConfigurationError("a call needs a running server: anycarrier serve, then dial without --direct")
    line = await line_named(client, asked.from_number)
    agent = (await agent_named(client, asked.agent))["id"] if asked.agent else line["agent_id"]
    if agent is None:
        raise ConfigurationError(f"{line['phone_number']} has no agent: name one with --agent")
    body: dict[str, Any] = {"agent_id": agent, "from_number": line["phone_number"], "to_number": asked.to_number}
    if asked.variables:
        body["variables"] = dict(asked.variables)
    if asked.first_message:
        body["overrides"] = {"first_message": asked.first_message}
    if asked.at:
        body["scheduled_at"] = asked.at
    async with working("asking the carrier to dial"):
        call = await client.post(CALLS_PATH, body)
    if not asked.wait:
        say(asked, f"{call['id']} {call['status']}; follow it: anycarrier calls tail {call['id']}", call)
        return 0
    ended = await follow_call(client, call["id"], as_json=asked.json)
    return 0 if ended["status"] == "completed" else 1


async def stop_calls(client: Client, asked: Namespace) -> int:
    if not asked.call and not asked.all:
        raise ConfigurationError("say which calls to stop, or --all of those that are live")
    calls = [await call_named(client, one) for one in asked.call]
    if asked.all:
        for status in ("in_progress", "initiated"):
            calls += await client.every(CALLS_PATH, status=status)
    async with working(f"ending {len(calls)} call(s)"):
        ended = await asyncio.gather(*(_stopped(client, call["id"]) for call in calls))
    if asked.json:
        print_json(ended)
    else:
        print("\n".join(f"{call['id']}  {_state(call)}" for call in ended) or "No live calls.")
    return 0 if all(call["ended_at"] for call in ended) else 1


async def _stopped(client: Client, call_id: str) -> dict[str, Any]:
    """The call once the carrier has said that it is over, or as it is when that takes too long."""
    call: dict[str, Any] = await client.post(f"{CALLS_PATH}/{call_id}/stop")
    looks = LOOKS
    while not call["ended_at"] and looks:
        await asyncio.sleep(0.25)
        looks -= 1
        call = await client.get(f"{CALLS_PATH}/{call_id}")
    return call


def _state(call: Mapping[str, Any]) -> str:
    return f"{call['status']} ({call['end_reason']})" if call["ended_at"] else f"{call['status']}, about to end"


CALL = option("call", help="its id, or how it begins: call_5c0ba9e9")
SELECTION = (
    option("--limit", type=at_least_one, default=20, help="default 20"),
    option("--since", type=timestamp, metavar="TIME", help="made at or after: 2h (ago), 2026-01-31 or a full time"),
    option("--until", type=timestamp, metavar="TIME", help="made before"),
    option("--direction", choices=("inbound", "outbound")),
    option("--agent", help="id, handle or name"),
    option("--from", dest="from_number", type=phone_number, metavar="NUMBER"),
    option("--to", dest="to_number", type=phone_number, metavar="NUMBER"),
)

CALLS = Word(
    "calls",
    "list, follow, make and end calls",
    {
        "ls": Verb(
            list_calls,
            "list calls, newest first",
            (
                *SELECTION,
                option("--status", choices=("queued", "initiated", "in_progress", "completed", "failed")),
                WIDE,
            ),
        ),
        "show": Verb(show_call, "one call: what is known, what is said, what happened", (CALL, WIDE)),
        "tail": Verb(
            tail_calls,
            "follow a call to its end, or all calls until interrupted: what happens and what is said",
            (option("call", nargs="?", help="its id, or how it begins; default: all calls"),),
        ),
        "dial": Verb(
            dial_call,
            "call somebody; the number's agent talks",
            (
                option("from_number", metavar="from", help="a number of yours: +1..., id or name"),
                option("to_number", metavar="to", type=phone_number, help="+1..."),
                option("--agent", help="another agent than the number's: id, handle or name"),
                option("--variable", dest="variables", action="append", type=pair, metavar="name=value",
                       help="for {{name}} in the agent's words; may be given again"),
                option("--first-message", metavar="TEXT", help="what the agent says first, on this call"),
                option("--at", metavar="TIME", help="when to dial, like 2026-01-31T12:00:00Z; default: now"),
                option("--wait", action="store_true", help="follow it to its end; exit 1 when it failed"),
            ),
        ),
        "stop": Verb(
            stop_calls,
            "end calls; one that is over already is no error",
            (
                option("call", nargs="*", help="ids, or how they begin"),
                option("--all", action="store_true", help="every live call"),
            ),
        ),
    },
)  # fmt: skip


FORMATS = ("mp3", "wav")
RECORDING_COLUMNS = (
    time_column("created_at"), Column("from", "from_number"), Column("to", "to_number"),
    Column("agent", "agent", flexible=True), Column("seconds", lambda call: round(call["duration_seconds"])),
    Column("call", "id"),
)  # fmt: skip
PLAYERS = {
    "aplay": ("-q",),
    "paplay": (),
    "pw-play": (),
    "afplay": (),
    "ffplay": ("-nodisp", "-autoexit", "-loglevel", "error"),
    "play": ("-q",),
}
"""Programs that play a WAV file, in the order in which they are tried, and what they are told besides."""


class NoPlayer(AnycarrierError):
    """Nothing on this machine plays sound."""

    exit_code = 1


async def list_recordings(client: Client, asked: Namespace) -> None:
    rows = await calls_asked(client, asked, has_recording=True)
    empty = "No recordings. An agent's calls are recorded with enable_recording=true."
    show_rows(asked, rows if asked.json else await with_agents(client, rows), RECORDING_COLUMNS, empty)


async def save_recordings(client: Client, asked: Namespace) -> None:
    call = await call_named(client, asked.call)
    out = asked.out
    suffix = Path(out or "").suffix.lower().removeprefix(".")
    format = asked.format or (suffix if suffix in FORMATS else "mp3")
    if out == "-":
        if asked.json:
            raise ConfigurationError("-o - writes the recording to standard output, so there is no room for --json")
        await _download(client, call["id"], format, sys.stdout.buffer)
        return
    file = Path(out or f"{call['id']}.{format}")
    if out is None:
        _refuse_to_replace(file)
    size = await _save_as(client, call["id"], format, file)
    say(asked, f"{file}: {size} bytes", {"call_id": call["id"], "file": str(file), "bytes": size, "format": format})


async def play_recording(client: Client, asked: Namespace) -> int:
    call = await call_named(client, asked.call)
    player = next((found for name in PLAYERS if (found := shutil.which(name))), None)
    if player is None:
        raise NoPlayer(
            f"nothing here plays sound (looked for {', '.join(PLAYERS)}): install one of them, "
            f"or take the file elsewhere: anycarrier recordings save {call['id']} -o call.mp3"
        )
    with tempfile.TemporaryDirectory(prefix="anycarrier-") as folder:
        file = Path(folder) / "call.wav"
        size = await _save_as(client, call["id"], "wav", file)
        options = PLAYERS[Path(player).name]
        process = await asyncio.create_subprocess_exec(player, *options, str(file), stdin=asyncio.subprocess.DEVNULL)
        code = await process.wait()
    if code:
        raise NoPlayer(f"{player} ended with status {code}: save the recording and play it with something else")
    say(asked, f"played {call['id']}", {"call_id": call["id"], "player": player, "bytes": size})
    return 0


def _refuse_to_replace(file: Path) -> None:
    if file.exists():
        raise ConfigurationError(f"{file} is there already: name another file, or the same, with -o")


async def _save_as(client: Client, call_id: str, format: str, file: Path) -> int:
    """Write the file once it is whole; what is there is replaced. How many bytes."""
    beside = file.with_name(file.name + ".part")
    try:
        with beside.open("wb") as out:
            size = await _download(client, call_id, format, out)
        beside.replace(file)
    except OSError as problem:
        raise ConfigurationError(f"{file} cannot be written: {problem.strerror or problem}") from problem
    finally:
        beside.unlink(missing_ok=True)
    return size


async def _download(client: Client, call_id: str, format: str, out: BinaryIO) -> int:
    async with working("fetching the recording"):
        return await client.download(f"/v1/calls/{call_id}/recording", out, format=format)


OUT = option("--out", "-o", metavar="FILE", help="default: CALL.mp3; - is standard output; replaces what is there")

RECORDINGS = Word(
    "recordings",
    "recordings: list, save and play them",
    {
        "ls": Verb(list_recordings, "list recorded calls, newest first", (*SELECTION, WIDE)),
        "save": Verb(
            save_recordings,
            "download one: the caller on the left channel, the agent on the right",
            (CALL, OUT, option("--format", choices=FORMATS, help="default: as the file's name ends, else mp3")),
        ),
        "play": Verb(play_recording, f"play one, with the first of {', '.join(PLAYERS)} there is", (CALL,)),
    },
)
