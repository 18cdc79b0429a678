"""A number's own routing: ``{agent_id, fallback: {agent_id} | null, voicemail_message}``, merged when changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from linecard.server.auth import Caller
from linecard.server.domain.callers import agent_of
from linecard.server.store import parse_id
from linecard.server.store.models import LineRow

if TYPE_CHECKING:
    from linecard.server.service import Service


async def merged(
    service: Service, caller: Caller, held: Mapping[str, Any], change: Mapping[str, Any]
) -> dict[str, Any]:
    """``held`` with what ``change`` says: keys not given stay, those of None are cleared.

    Agents are checked (``Unknown``) and written by their public ids.
    """
    routing = dict(held)
    if "agent_id" in change:
        given = change["agent_id"]
        routing["agent_id"] = None if given is None else (await agent_of(service.store, caller, given)).public_id
    if "fallback" in change:
        fallback = change["fallback"]
        routing["fallback"] = (
            None
            if fallback is None
            else {"agent_id": (await agent_of(service.store, caller, fallback["agent_id"])).public_id}
        )
    if "voicemail_message" in change:
        routing["voicemail_message"] = change["voicemail_message"]
    return routing


def first_agent(line: LineRow) -> UUID | None:
    """Who takes the number's calls: the routing's agent, else the number's own."""
    return parse_id("agent", line.routing.get("agent_id")) or line.agent_id


def fallback_agent(line: LineRow) -> UUID | None:
    """Who takes them when the first cannot."""
    return parse_id("agent", (line.routing.get("fallback") or {}).get("agent_id"))
