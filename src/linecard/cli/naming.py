"""Finding what a person means: an id, or the name by which they know it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from linecard.cli.table import clean
from linecard.errors import LinecardError

if TYPE_CHECKING:
    from linecard.cli.client import Client


class NotFound(LinecardError):
    """Nothing, or more than one thing, goes by that name."""

    exit_code = 1


async def agent_named(client: Client, text: str) -> dict[str, Any]:
    """The agent with this id, handle (``@`` or not) or name."""
    return pick(await client.every("/v1/agents"), text.removeprefix("@"), ("id", "handle", "name"), "agent")


async def credential_named(client: Client, text: str) -> dict[str, Any]:
    """The credential with this id or name."""
    return pick(await client.every("/v1/credentials"), text, ("id", "name"), "credential")


async def line_named(client: Client, text: str) -> dict[str, Any]:
    """The number in service, by itself (+1...), by id or by friendly name."""
    bare = text.translate({ord(char): None for char in " -.()"}) if text.startswith("+") else text
    return pick(await client.every("/v1/phone-numbers"), bare, ("id", "phone_number", "friendly_name"), "number")


async def handles(client: Client) -> dict[str, str]:
    """Agents' handles by their ids' hex digits, which is what every spelling of an id ends in."""
    return {digits(agent["id"]): agent["handle"] for agent in await client.every("/v1/agents")}


def digits(text: str | None) -> str:
    """``agt_<hex>`` or a plain uuid as its 32 hex digits."""
    return (text or "").rpartition("_")[2].replace("-", "")


def pick(rows: Sequence[dict[str, Any]], text: str, fields: Iterable[str], kind: str) -> dict[str, Any]:
    """The one row that has ``text``, in any case, in the first field any has it in; :class:`NotFound` otherwise."""
    names = tuple(fields)
    for name in names:
        found = [row for row in rows if str(row.get(name) or "").casefold() == text.casefold()]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(str(row["id"]) for row in found)
            raise NotFound(f"{len(found)} {kind}s are called {clean(text)!r}: give the id, one of {ids}")
    known = ", ".join(clean(str(row.get(names[1]) or row["id"])) for row in rows[:10]) or "none"
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    raise NotFound(f"no {kind} {clean(text)!r} (known: {known}{more})")
