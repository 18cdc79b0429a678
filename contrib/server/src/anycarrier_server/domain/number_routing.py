"""A number's own routing: ``{agent_id, fallback: {agent_id} | null, voicemail_message}``, merged when changed; and how
its calls are taken, which is its agent's setting unless something was set for this number alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from anycarrier_server.domain.access import Caller, agent_of
from anycarrier_server.store import Store, parse_id
from anycarrier_server.store.models import Agent, LineRow


async def merged(store: Store, caller: Caller, held: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """``held`` with what ``change`` says: keys not given stay, those of None are cleared.

    Agents are checked (``Unknown``) and written by their public ids.
    """
    routing = dict(held)
    if "agent_id" in change:
        given = change["agent_id"]
        routing["agent_id"] = None if given is None else (await agent_of(store, caller, given)).public_id
    if "fallback" in change:
        fallback = change["fallback"]
        routing["fallback"] = (
            None if fallback is None else {"agent_id": (await agent_of(store, caller, fallback["agent_id"])).public_id}
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


@dataclass(frozen=True, slots=True)
class CallHandling:
    """How incoming calls are taken. ``incoming_call_action`` None: nobody has said, and the agent takes them."""

    incoming_call_action: str | None = None
    websocket_url: str | None = None
    incoming_call_webhook_url: str | None = None
    forwarding_target_type: str | None = None
    forwarding_phone_number: str | None = None
    forwarding_sip_uri: str | None = None

    @property
    def forward_to(self) -> str | None:
        """Where a forwarded call goes, None while no target is set."""
        return self.forwarding_phone_number if self.forwarding_target_type == "phone" else self.forwarding_sip_uri


WITHOUT_SOCKET = "without_socket"
"""The call option that says: on this number the agent's handler talks, although the agent has a WebSocket."""

CALL_HANDLING = tuple(CallHandling.__dataclass_fields__)


def call_handling(agent: Agent | None, line: LineRow | None = None) -> CallHandling:
    """The agent's setting; with a ``line``, what was set for that number alone takes precedence, null included."""
    own = {name: getattr(agent, name) for name in CALL_HANDLING} if agent is not None else {}
    return CallHandling(**{**own, **(line.call_handling if line is not None else {})})


def own_socket(agent: Agent, line: LineRow) -> str | None:
    """The WebSocket URL that this number's calls use in place of the agent's; empty when they use none although the
    agent has one, None when nothing was set for this number."""
    if "websocket_url" not in line.call_handling:
        return None
    url: str | None = line.call_handling["websocket_url"]
    return url or ("" if agent.websocket_url else None)
