"""``anycarrier recordings``: list, save and play what was recorded."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from anycarrier.errors import AnycarrierError, ConfigurationError
from anycarrier_server.cli.calls import CALL, SELECTION, calls_asked, with_agents
from anycarrier_server.cli.naming import call_named
from anycarrier_server.cli.progress import working
from anycarrier_server.cli.table import Column, say, show_rows, time_column
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

FORMATS = ("mp3", "wav")
COLUMNS = (
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


async def ls(client: Client, asked: Namespace) -> None:
    rows = await calls_asked(client, asked, has_recording=True)
    empty = "No recordings. An agent's calls are recorded with enable_recording=true."
    show_rows(asked, rows if asked.json else await with_agents(client, rows), COLUMNS, empty)


async def save(client: Client, asked: Namespace) -> None:
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


async def play(client: Client, asked: Namespace) -> int:
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

WORD = Word(
    "recordings",
    "recordings: list, save and play them",
    {
        "ls": Verb(ls, "list recorded calls, newest first", (*SELECTION, WIDE)),
        "save": Verb(
            save,
            "download one: the caller on the left channel, the agent on the right",
            (CALL, OUT, option("--format", choices=FORMATS, help="default: as the file's name ends, else mp3")),
        ),
        "play": Verb(play, f"play one, with the first of {', '.join(PLAYERS)} there is", (CALL,)),
    },
)
main = WORD.main
