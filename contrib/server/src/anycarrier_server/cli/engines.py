"""``anycarrier engines``: the speech engines agents talk with. Keys go in and never come out."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from anycarrier.errors import ConfigurationError
from anycarrier_server.cli.credentials import read_secret
from anycarrier_server.cli.progress import step, working
from anycarrier_server.cli.table import Column, say, show_rows
from anycarrier_server.cli.typed import pair
from anycarrier_server.cli.words import WIDE, Verb, Word, option

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

ROOT = "/ops/engines"
COLUMNS = (
    "name",
    Column("can", lambda one: ", ".join(one["abilities"])),
    Column("default to", lambda one: ", ".join(one["default_for"]), rank=1),
    Column("remote", lambda one: "yes" if one["remote"] else "no", rank=2),
    Column("own settings", lambda one: " ".join(f"{name}={value}" for name, value in one["settings"].items()), rank=1),
    Column("state", lambda one: one["why_not"] or "ready", flexible=True),
)


async def ls(client: Client, asked: Namespace) -> None:
    none = "No speech engines are installed. For trials: pip install anycarrier-speech-local (contrib/speech-local)"
    show_rows(asked, await client.get(ROOT), COLUMNS, none)


async def change(client: Client, asked: Namespace) -> int:
    settings: dict[str, Any] = dict(asked.settings)
    if not settings:
        raise ConfigurationError("nothing to set: give a setting's name, like api_key, which is then asked for")
    for name, value in settings.items():
        if value == "-":
            settings[name] = read_secret(None, f"{asked.engine} {name}: ")
    changed = await client.patch(f"{ROOT}/{asked.engine}", {"settings": settings})
    held = ", ".join(f"{name} {value}" for name, value in changed["settings"].items())
    say(asked, f"{asked.engine} is set up for this workspace: {held}", changed)
    step(f"next: anycarrier engines verify {asked.engine}" if changed["ready"] else f"not ready: {changed['why_not']}")
    return 0 if changed["ready"] else 1


async def verify(client: Client, asked: Namespace) -> int:
    async with working(f"logging in at {asked.engine}"):
        answer = await client.post(f"{ROOT}/{asked.engine}/verify")
    say(asked, f"{asked.engine}: {answer['error'] or 'it works'}", answer)
    return 0 if answer["ok"] else 1


async def rm(client: Client, asked: Namespace) -> None:
    await client.delete(f"{ROOT}/{asked.engine}")
    say(asked, f"{asked.engine}: this workspace's settings are deleted", {"deleted": asked.engine})


def named(text: str) -> tuple[str, Any]:
    """``api_key`` alone is asked for on the terminal or read from standard input, as ``api_key=-`` is."""
    return pair(text) if "=" in text else (text.strip(), "-")


ENGINE = option("engine", help="its name; `anycarrier engines ls` lists them")
SETTINGS = option(
    "settings",
    nargs="*",
    type=named,
    metavar="name[=value]",
    help="api_key alone asks for it, or reads it from standard input; what follows = others see. null takes one away",
)

WORD = Word(
    "engines",
    "the speech engines agents talk with, and this workspace's own settings of them",
    {
        "ls": Verb(ls, "list them, and whether they are ready", (WIDE,)),
        "set": Verb(change, "set one up for this workspace: sealed, used by its agents alone", (ENGINE, SETTINGS)),
        "verify": Verb(verify, "log in at it with the settings that calls use; 1 if that fails", (ENGINE,)),
        "rm": Verb(rm, "forget this workspace's settings of one", (ENGINE,)),
    },
)
main = WORD.main
