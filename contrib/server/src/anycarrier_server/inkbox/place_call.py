"""``POST /phone/place-call``: what the contract asks of the request, then the domain's call.

Answers 200 with the call and the rolling day's use. Voice AI and iMessage lines are not ours: they are refused with
the words the contract has for it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

from pydantic import Field

from anycarrier_server.domain import calls
from anycarrier_server.domain.callers import agent_of
from anycarrier_server.domain.inbound_routing import call_handling
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.call_shape import CallPlaced, fields_of
from anycarrier_server.inkbox.errors import Said
from anycarrier_server.inkbox.shapes import PHONE, Id, Number, RateLimit, Sent, Url
from anycarrier_server.store.models import Agent, LineRow

KEY = "idempotency-key"
READABLE = re.compile(r"[ -~]{1,255}")

OnVoicemail = Literal["hang_up", "ignore", "leave_message"]
ALIAS: dict[str, OnVoicemail] = {"enabled": "hang_up", "disabled": "ignore"}


class CallSent(Sent):
    """Whom to ring, and from which number."""

    to_number: Number
    origination: Literal["dedicated_number", "shared_imessage_number", "dedicated_imessage_number"] = "dedicated_number"
    mode: Literal["client_websocket", "hosted_agent"] = "client_websocket"
    from_number: Number | None = None
    agent_identity_id: Id | None = None
    client_websocket_url: Url | None = None
    on_voicemail: OnVoicemail | None = None
    voicemail_detection: Literal["enabled", "disabled"] | None = None
    voicemail_message: str | None = Field(default=None, max_length=1000)
    reason: str | None = Field(default=None, min_length=1, max_length=20_000)
    hosted_agent_authority_mode: Literal["contact_scoped", "yolo"] | None = None
    webhook_url: Url | None = Field(default=None, description="Is told of this call's end, beside the subscriptions")


async def place(asked: Asked[CallSent, None]) -> CallPlaced:
    """Ring somebody; the agent's socket is opened once they answer."""
    body, service, caller = asked.body, asked.service, asked.caller
    on_voicemail = _check(body)
    if body.origination != "dedicated_number":
        raise Said(409, "no_shared_connection", "no iMessage line is connected: call from a number of your own")
    if body.from_number is None:
        raise Invalid.field("from_number", "is required to call from a number of your own", type="missing")
    if body.mode == "hosted_agent":
        raise Said(503, "hosted_agent_unavailable", "Voice AI is not offered here: give a client_websocket_url")
    agent, line = await _who(asked, body.from_number)
    websocket_url = body.client_websocket_url or call_handling(agent, line).websocket_url
    if agent is not None and websocket_url is None and agent.handler is None:
        raise Invalid.field("client_websocket_url", "neither the request nor the number has a WebSocket URL")
    settings: dict[str, Any] = {"on_voicemail": on_voicemail, "voicemail_detection": on_voicemail != "ignore"}
    if body.voicemail_message is not None:
        settings["voicemail_message"] = body.voicemail_message
    key = asked.request.headers.get(KEY, "").strip() or None
    if key is not None and not READABLE.fullmatch(key):
        raise Invalid.field("Idempotency-Key", "at most 255 printable ASCII characters", where="header")
    placed = await calls.place(
        service,
        caller,
        from_number=body.from_number,
        to_number=body.to_number,
        agent_id=body.agent_identity_id,
        settings=settings,
        options={"face": "inkbox", "mode": body.mode},
        webhook_url=body.webhook_url,
        websocket_url=websocket_url,
        idempotency_key=key,
        body_hash=hashlib.sha256(asked.raw).hexdigest(),
    )
    return CallPlaced(**fields_of(placed.call), rate_limit=RateLimit.model_validate(placed.limits.as_dict()))


def _check(body: CallSent) -> OnVoicemail:
    """What the contract says of fields together; what to do with a machine, the old spelling read too."""
    hosted = body.mode == "hosted_agent"
    if hosted and body.reason is None:
        raise Invalid.field("reason", "is required with mode hosted_agent", type="missing")
    if not hosted and body.reason is not None:
        raise Invalid.field("reason", "goes with mode hosted_agent only")
    if hosted and body.client_websocket_url is not None:
        raise Invalid.field("client_websocket_url", "does not go with mode hosted_agent")
    if not hosted and body.hosted_agent_authority_mode == "yolo":
        raise Invalid.field("hosted_agent_authority_mode", "yolo goes with mode hosted_agent only")
    old = ALIAS[body.voicemail_detection] if body.voicemail_detection is not None else None
    if old is not None and body.on_voicemail is not None and old != body.on_voicemail:
        raise Invalid.field("voicemail_detection", "contradicts on_voicemail: give on_voicemail only")
    wanted: OnVoicemail = body.on_voicemail or old or ("leave_message" if hosted else "hang_up")
    if body.voicemail_message is not None and wanted != "leave_message":
        raise Invalid.field("voicemail_message", "goes with on_voicemail leave_message only")
    return wanted


async def _who(asked: Asked[CallSent, None], from_number: str) -> tuple[Agent | None, LineRow | None]:
    """Who will talk: the identity named, else the number's, and then the number too. No identity when the domain is
    going to refuse anyway."""
    store, caller = asked.service.store, asked.caller
    line = await store.lines.by_number(from_number, caller.workspace_id)
    if asked.body.agent_identity_id is not None:
        agent = await agent_of(store, caller, asked.body.agent_identity_id)
        return agent, line if line is not None and line.agent_id == agent.id else None
    if line is None or line.status != "active" or not caller.may_act_for(line.agent_id):
        return None, None
    return await store.agents.get(caller.workspace_id, line.agent_id), line


ENDPOINTS = [
    Endpoint("POST", f"{PHONE}/place-call", place, "Ring somebody", CallSent, answer=CallPlaced,
             refusals=(400, 403, 404, 409, 413, 501, 502, 503),
             headers={"Idempotency-Key": "The same key with the same body is the same call, for 24 hours"}),
]  # fmt: skip
