"""``/phone/place-call`` and ``/phone/calls``: calls are placed, listed by identity or by number, looked at and hung up.

Placing a call answers 200 with the call and the rolling day's use. Voice AI and iMessage lines are not offered: a call
that asks for them is refused in the contract's words, Voice AI's settings are refused with 501, and a call's tool
invocations are an empty page.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, Literal

from pydantic import Field

from anycarrier_server.domain import control_call, manage_numbers, place_call, recordings_and_transcripts
from anycarrier_server.domain.access import agent_of
from anycarrier_server.domain.agent_overrides import call_handling
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.inkbox.call_views import (
    CallPlaced,
    CallShown,
    TranscriptShown,
    call_shown,
    fields_of,
    segment_shown,
)
from anycarrier_server.inkbox.error_details import ContractRefusal
from anycarrier_server.inkbox.fields import (
    PHONE,
    Given,
    Id,
    Number,
    RateLimit,
    Sent,
    Shown,
    Slice,
    Url,
    YesOrNo,
    first_instant,
    past_the_end,
    zone_named,
)
from anycarrier_server.refusals import Invalid, Unknown
from anycarrier_server.store import CallFilter
from anycarrier_server.store.models import Agent, CallRow, LineRow

KEY_HEADER = "idempotency-key"
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


async def create_call(asked: Asked[CallSent, None]) -> CallPlaced:
    """Ring somebody; the agent's socket is opened once they answer."""
    body, resources, caller = asked.body, asked.resources, asked.caller
    on_voicemail = _check_voicemail(body)
    if body.origination != "dedicated_number":
        raise ContractRefusal(
            409, "no_shared_connection", "no iMessage line is connected: call from a number of your own"
        )
    if body.from_number is None:
        raise Invalid.field("from_number", "is required to call from a number of your own", type="missing")
    if body.mode == "hosted_agent":
        raise ContractRefusal(
            503, "hosted_agent_unavailable", "Voice AI is not offered here: give a client_websocket_url"
        )
    agent, line = await _who(asked, body.from_number)
    websocket_url = body.client_websocket_url or call_handling(agent, line).websocket_url
    if agent is not None and websocket_url is None and agent.handler is None:
        raise Invalid.field("client_websocket_url", "neither the request nor the number has a WebSocket URL")
    settings: dict[str, Any] = {"on_voicemail": on_voicemail, "voicemail_detection": on_voicemail != "ignore"}
    if body.voicemail_message is not None:
        settings["voicemail_message"] = body.voicemail_message
    key = asked.request.headers.get(KEY_HEADER, "").strip() or None
    if key is not None and not READABLE.fullmatch(key):
        raise Invalid.field("Idempotency-Key", "at most 255 printable ASCII characters", where="header")
    wanted = place_call.CallWanted(
        from_number=body.from_number,
        to_number=body.to_number,
        agent_id=body.agent_identity_id,
        settings=settings,
        options={"face": "inkbox", "mode": body.mode},
        webhook_url=body.webhook_url,
        websocket_url=websocket_url,
    )
    once = place_call.Idempotency(key, hashlib.sha256(asked.raw).hexdigest()) if key is not None else None
    placed = await place_call.place(resources, caller, wanted, once)
    return CallPlaced(**fields_of(placed.call), rate_limit=RateLimit.model_validate(placed.limits.as_dict()))


def _check_voicemail(body: CallSent) -> OnVoicemail:
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
    store, caller = asked.store, asked.caller
    line = await store.lines.by_number(from_number, caller.workspace_id)
    if asked.body.agent_identity_id is not None:
        agent = await agent_of(store, caller, asked.body.agent_identity_id)
        return agent, line if line is not None and line.agent_id == agent.id else None
    if line is None or line.status != "active" or not caller.may_act_for(line.agent_id):
        return None, None
    return await store.agents.get(caller.workspace_id, line.agent_id), line


CALLS = f"{PHONE}/calls"
CALL = CALLS + "/{call_id}"
CALLS_OF_NUMBER = f"{PHONE}/numbers/{{number_id}}/calls"

When = Annotated[
    str,
    Field(
        max_length=40,
        description="A date, or a date and time; without a zone it is meant in tz",
        json_schema_extra={"anyOf": [{"format": "date"}, {"format": "date-time"}]},
    ),
]


class CallsOfNumber(Slice):
    """A page of a number's calls. ``is_blocked`` absent: all that the key may see."""

    is_blocked: YesOrNo | None = None


class CallsAsked(CallsOfNumber):
    """A page of an identity's calls, by when they were made."""

    agent_identity_id: Id | None = Field(default=None, description="Required under an admin key")
    start_datetime: When | None = None
    end_datetime: When | None = None
    tz: str | None = Field(default=None, max_length=64, description="IANA zone of what has none; UTC when absent")


async def list_calls(asked: Asked[None, CallsAsked]) -> list[CallShown]:
    """An identity's calls, newest first."""
    query, caller = asked.query, asked.caller
    if query.agent_identity_id is None and caller.admin:
        raise Invalid.field("agent_identity_id", "is required under an admin key", where="query", type="missing")
    agent = await agent_of(asked.store, caller, query.agent_identity_id)
    zone = zone_named(query.tz)
    start, end = query.start_datetime, query.end_datetime
    which = CallFilter(
        agent_id=agent.id,
        is_blocked=query.is_blocked,
        created_from=first_instant(start, zone) if start is not None else None,
        created_before=past_the_end(end, zone) if end is not None else None,
    )
    return [call_shown(call) for call in await _page(asked, which)]


async def list_calls_of_number(asked: Asked[None, CallsOfNumber]) -> list[CallShown]:
    """A number's calls, newest first."""
    line = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    which = CallFilter(line_id=line.id, is_blocked=asked.query.is_blocked)
    return [call_shown(call) for call in await _page(asked, which)]


async def _page(asked: Asked[Any, Any], which: CallFilter) -> list[CallRow]:
    if which.is_blocked and not asked.caller.admin:
        return []  # an identity's key sees none of these
    page = await control_call.page(asked.store, asked.caller, which, limit=asked.query.limit, offset=asked.query.offset)
    return page.items


async def get_call(asked: Asked[None, None]) -> CallShown:
    """One call."""
    return call_shown(await control_call.get(asked.store, asked.caller, asked.path["call_id"]))


async def hang_up(asked: Asked[None, None]) -> CallShown:
    """End a live call. The answer may still show it live: the carrier confirms in its own time."""
    return call_shown(await control_call.hang_up(asked.resources, asked.caller, asked.path["call_id"]))


async def _need_call_on_number(asked: Asked[None, None]) -> None:
    """404 unless the call in the path is one of the number in the path."""
    line = await manage_numbers.get_number(asked.store, asked.caller, asked.path["number_id"])
    call = await control_call.get(asked.store, asked.caller, asked.path["call_id"])
    if call.line_id != line.id:
        raise Unknown("call on that number")


async def get_transcript(asked: Asked[None, None]) -> list[TranscriptShown]:
    """All of a call's, in order; of a call that is going on, those so far."""
    call = await control_call.get(asked.store, asked.caller, asked.path["call_id"])
    said = await recordings_and_transcripts.transcript_of_call(asked.store, asked.caller, call.id)
    return [segment_shown(segment, call.local_number) for segment in said]


async def get_call_of_number(asked: Asked[None, None]) -> CallShown:
    """One call, addressed by its number too."""
    await _need_call_on_number(asked)
    return await get_call(asked)


async def get_transcript_of_number(asked: Asked[None, None]) -> list[TranscriptShown]:
    """What was said on it, addressed by its number too."""
    await _need_call_on_number(asked)
    return await get_transcript(asked)


class Invocations(Shown):
    """A page of none."""

    items: list[dict[str, Any]] = []
    limit: int
    offset: int
    has_more: bool = False


class HostedSent(Sent):
    """Settings of Voice AI."""

    agent_identity_id: Id | None = None
    voice: str | None = Field(default=None, max_length=255)
    instructions: str | None = Field(default=None, max_length=20_000)


class AuthoritySent(Sent):
    """How much Voice AI may do."""

    agent_identity_id: Id
    authority_mode: Literal["contact_scoped", "yolo"]


class HostedAsked(Given):
    """Which identity's."""

    agent_identity_id: Id | None = None


async def list_invocations(asked: Asked[None, Slice]) -> Invocations:
    """None, for a call that is there."""
    await control_call.get(asked.store, asked.caller, asked.path["call_id"])
    return Invocations(limit=asked.query.limit, offset=asked.query.offset)


async def refuse_hosted_agent(asked: Asked[Any, Any]) -> dict[str, Any]:
    """Voice AI is not offered."""
    raise ContractRefusal(
        501, "hosted_agent_unavailable", "Voice AI is not offered here: let your own agent answer by WebSocket"
    )


HOSTED_AGENT_CONFIG = f"{PHONE}/hosted-agent-config"


ENDPOINTS = [
    Endpoint("POST", f"{PHONE}/place-call", create_call, "Ring somebody", CallSent, answer=CallPlaced,
             refusals=(400, 403, 404, 409, 413, 501, 502, 503),
             headers={"Idempotency-Key": "The same key with the same body is the same call, for 24 hours"}),
    Endpoint("GET", CALLS, list_calls, "List an identity's calls", query=CallsAsked, answer=list[CallShown],
             refusals=(403, 404)),
    Endpoint("GET", CALL, get_call, "Look at a call", answer=CallShown, refusals=(403, 404)),
    Endpoint("POST", f"{CALL}/hangup", hang_up, "Hang up", answer=CallShown, refusals=(403, 404, 409, 501, 502)),
    Endpoint("GET", f"{CALL}/transcripts", get_transcript, "What was said", answer=list[TranscriptShown],
             refusals=(403, 404)),
    Endpoint("GET", f"{CALL}/tool-invocations", list_invocations, "What Voice AI did: nothing here",
             query=Slice, answer=Invocations, refusals=(403, 404)),
    Endpoint("GET", CALLS_OF_NUMBER, list_calls_of_number, "List a number's calls", query=CallsOfNumber,
             answer=list[CallShown],
             refusals=(403, 404), hidden=True),
    Endpoint("GET", f"{CALLS_OF_NUMBER}/{{call_id}}", get_call_of_number, "Look at a number's call", answer=CallShown,
             refusals=(403, 404), hidden=True),
    Endpoint("GET", f"{CALLS_OF_NUMBER}/{{call_id}}/transcripts", get_transcript_of_number, "What was said on it",
             answer=list[TranscriptShown], refusals=(403, 404), hidden=True),
    Endpoint("GET", f"{PHONE}/hosted-agent-voices", refuse_hosted_agent, "Voices of Voice AI: not offered",
             answer=dict[str, Any], refusals=(501,)),
    Endpoint("GET", HOSTED_AGENT_CONFIG, refuse_hosted_agent, "Settings of Voice AI: not offered", query=HostedAsked,
             answer=dict[str, Any],
             refusals=(501,)),
    Endpoint("PUT", HOSTED_AGENT_CONFIG, refuse_hosted_agent, "Settings of Voice AI: not offered", HostedSent,
             answer=dict[str, Any],
             refusals=(413, 501)),
    Endpoint("PUT", f"{HOSTED_AGENT_CONFIG}/authority-mode", refuse_hosted_agent, "Authority of Voice AI: not offered",
             AuthoritySent,
             answer=dict[str, Any], refusals=(413, 501)),
]  # fmt: skip
