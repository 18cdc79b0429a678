"""Finding what a person means: an id, the beginning of one as tables print it, or the name by which they know it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from anycarrier.cli.parser import near
from anycarrier.errors import AnycarrierError
from anycarrier_server.cli.table import clean

if TYPE_CHECKING:
    from anycarrier_server.cli.client import Client

FEWEST = 6
"""Digits of an id that must be given."""

DIGITS = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
CANDIDATES = 5


class NotFound(AnycarrierError):
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


async def call_named(client: Client, text: str) -> dict[str, Any]:
    """The call with this id, or with the only id that begins like this, as tables and ``calls tail`` print it."""
    kind, _, rest = text.rpartition("_")
    hexadecimal = digits(text).lower()
    if len(hexadecimal) == 32 or kind not in ("", "call") or len(hexadecimal) < FEWEST or not DIGITS.fullmatch(rest):
        found: dict[str, Any] = await client.get(f"/v1/calls/{text}")
        return found
    page = await client.get("/v1/calls/cursor", id_prefix=hexadecimal, limit=CANDIDATES)
    return await client.get(f"/v1/calls/{only(page['items'], text, 'call')['id']}")  # type: ignore[no-any-return]


async def handles(client: Client) -> dict[str, str]:
    """Agents' handles by their ids' hex digits, which is what every spelling of an id ends in."""
    return {digits(agent["id"]): agent["handle"] for agent in await client.every("/v1/agents")}


def digits(text: str | None) -> str:
    """``agt_<hex>`` or a plain uuid as its 32 hex digits."""
    return (text or "").rpartition("_")[2].replace("-", "")


def spelled(kind: str, id_: str) -> str:
    """An id as every command prints it, whichever API it is from: ``rul_73cb3f...`` for the rule ``73cb3f...``."""
    return f"{kind}_{digits(id_)}"


def begins(id_: str, text: str) -> bool:
    """True when the id, in either spelling, begins with ``text``: ``agt_51c0aa02``, ``51c0aa02`` or more of it."""
    kind, _, rest = text.casefold().rpartition("_")
    own_kind = id_.rpartition("_")[0].casefold()
    given = rest.replace("-", "")
    fits = not kind or own_kind.endswith(kind) or not own_kind  # "key" is "ApiKey" elsewhere
    return fits and len(given) >= FEWEST and bool(DIGITS.fullmatch(rest)) and digits(id_).casefold().startswith(given)


def pick(rows: Sequence[dict[str, Any]], text: str, fields: Iterable[str], kind: str) -> dict[str, Any]:
    """The one row that has ``text``, in any case, in the first field any has it in, or whose id begins like it;
    :class:`NotFound` otherwise."""
    names = tuple(fields)
    for name in names:
        found = [row for row in rows if str(row.get(name) or "").casefold() == text.casefold()]
        if found:
            return only(found, text, kind)
    if len(start := text.casefold().rstrip("…")) < len(text):  # cut by a table
        cut = [row for row in rows if any(str(row.get(name) or "").casefold().startswith(start) for name in names)]
        return only(cut, text, kind)
    if beginning := [row for row in rows if begins(str(row["id"]), text)]:
        return only(beginning, text, kind)
    known = [clean(str(row.get(names[1]) or row["id"])) for row in rows]
    listed = ", ".join(known[:10]) or "none"
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    raise NotFound(f"no {kind} {clean(text)!r}{near(text, known)} (known: {listed}{more})")


def only(rows: Sequence[dict[str, Any]], text: str, kind: str, where: str = "") -> dict[str, Any]:
    """The only row; :class:`NotFound` lists them when there are several, which only ids then tell apart.

    ``where`` is the command that lists what there is.
    """
    if not rows:
        listing = where or f"anycarrier {kind}s ls"
        raise NotFound(f"no {kind} has an id that begins with {clean(text)!r}: `{listing}` lists them")
    if len(rows) > 1:
        ids = ", ".join(str(row["id"]) for row in rows)
        raise NotFound(f"{clean(text)!r} could be any of {len(rows)}: give the id, one of {ids}")
    return rows[0]
