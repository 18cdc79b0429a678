"""How an identity takes incoming calls, as three doors set it: its own address, its numbers, and its creation.

There is one store behind them (the agent). A forwarding target type given as null clears both targets; setting one
kind, by its type or by the target itself, clears the other, so that there is one target at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from linecard.errors import LinecardError
from linecard.server.auth import Caller
from linecard.server.domain import agents
from linecard.server.domain.agents import ACTION_FIELDS
from linecard.server.domain.refusals import Invalid
from linecard.server.inkbox.shapes import Action, Number, Sent, Target, Url
from linecard.server.store.models import Agent

if TYPE_CHECKING:
    from linecard.server.service import Service

Sip = Field(default=None, max_length=512, pattern=r"^sips?:[!-~]+$", examples=["sip:desk@pbx.example.com"])


class Handling(Sent):
    """The settings a client may send; absent keys keep their value, null clears."""

    incoming_call_action: Action | None = None
    client_websocket_url: Url | None = None
    incoming_call_webhook_url: Url | None = None
    forwarding_target_type: Target | None = None
    forwarding_phone_number: Number | None = None
    forwarding_sip_uri: str | None = Sip


def changes(body: Handling) -> dict[str, Any]:
    """What ``body`` changes, in the agent's own field names."""
    sent = body.given(*Handling.model_fields)
    if body.forwarding_phone_number is not None and body.forwarding_sip_uri is not None:
        raise Invalid.field("forwarding_sip_uri", "give one target: a phone number or a SIP URI")
    if "client_websocket_url" in sent:
        sent["websocket_url"] = sent.pop("client_websocket_url")
    if sent.get("incoming_call_action", "") is None:
        sent["incoming_call_action"] = "auto_reject"
    kind = sent.get("forwarding_target_type", "")
    if kind == "":  # the target says what it is
        kind = "phone" if body.forwarding_phone_number else "sip" if body.forwarding_sip_uri else ""
        sent |= {"forwarding_target_type": kind} if kind else {}
    match kind:
        case None:
            sent |= {"forwarding_phone_number": None, "forwarding_sip_uri": None}
        case "phone":
            sent["forwarding_sip_uri"] = None
        case "sip":
            sent["forwarding_phone_number"] = None
    return sent


async def apply(service: Service, caller: Caller, agent: Agent, body: Handling) -> Agent:
    """Change the agent; ``Invalid`` when an action lacks what it needs."""
    return await agents.change(service, caller, agent, **changes(body))


async def with_number(service: Service, caller: Caller, agent: Agent, body: Handling | None = None) -> Agent:
    """The identity as it should be once it has a number: without a word from anybody it declines calls.

    An agent that was given a socket or a handler elsewhere has had that word.
    """
    fields = changes(body) if body is not None else {}
    silent = agent.incoming_call_action is None and not agent.websocket_url and not agent.handler
    if silent and "incoming_call_action" not in fields:
        fields["incoming_call_action"] = "auto_reject"
    return await agents.change(service, caller, agent, **fields) if fields else agent


async def put_back(service: Service, caller: Caller, before: Agent, now: Agent) -> None:
    """Undo :func:`with_number`, because the number did not come."""
    kept = {name: getattr(before, name) for name in (*ACTION_FIELDS, "inbound_filter_mode", "outbound_filter_mode")}
    if all(getattr(now, name) == value for name, value in kept.items()):
        return
    try:
        await service.store.agents.change(now.id, **kept)
    except LinecardError:  # the number's own refusal is the one to tell
        return
