"""``/v1/calls``: make, list, look at and control calls; and ``/v1/calls/messages``, what is said on them meanwhile."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal
from uuid import UUID

from pydantic import Field, model_validator
from starlette.responses import FileResponse, Response

from anycarrier_server.domain import control_call, place_call, recordings_and_transcripts
from anycarrier_server.domain.agent_overrides import call_settings
from anycarrier_server.http.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox import errors
from anycarrier_server.oneinbox.call_bodies import ROLES, CallShown, call_listed, call_shown
from anycarrier_server.oneinbox.shapes import (
    Given,
    Id,
    Listing,
    Moment,
    Number,
    NumberAsked,
    OverridesSent,
    Scalars,
    Sent,
    Shown,
    Slice,
    Url,
    YesOrNo,
)
from anycarrier_server.refusals import Invalid, NotOffered
from anycarrier_server.store import CallFilter, parse_id, public_id

MOST_CALLS = 100
PLACE = re.compile(r"([0-9A-Za-z_-]{32,41})(?::(\d{1,9}))?", re.ASCII)


class Since(Given):
    """Which calls, and from where on."""

    calls: str = Field(
        max_length=6000,
        description=f"Up to {MOST_CALLS} call ids, separated by commas. ``id:7`` leaves out what you have seen: "
        "utterances up to number 7. The answer's ``next`` is this, ready for the next request",
        examples=["call_5f0c1d2e3f405162738495a6b7c8d9e0:7"],
    )
    limit: int = Field(default=200, ge=1, le=500)


class SpokenShown(Shown):
    """One utterance. ``number`` counts from 0 in its call."""

    call_id: str
    number: int
    role: str = Field(description="agent or user")
    content: str
    at: Moment
    offset_seconds: float = Field(description="Seconds from the start of the call")


class SpokenPage(Shown):
    """Utterances by time. Ask again with ``next`` as ``calls``: at once when ``has_more``, else in half a second."""

    items: list[SpokenShown]
    next: str
    has_more: bool


async def messages_since(asked: Asked[None, Since]) -> SpokenPage:
    """What was said on these calls since you last asked. Works during the call; half a second apart is often enough."""
    after, limit = _places(asked.query.calls), asked.query.limit
    found = await recordings_and_transcripts.said_since(asked.store, asked.caller, after, limit=limit + 1)
    items = [
        SpokenShown(
            call_id=public_id("call", one.call_id),
            number=one.seq,
            role=ROLES[one.party],
            content=one.text,
            at=one.created_at,
            offset_seconds=round(one.ts_ms / 1000, 3),
        )
        for one in found[:limit]
    ]
    for one in found[:limit]:
        after[one.call_id] = max(after[one.call_id], one.seq)
    places = (public_id("call", call_id) + (f":{seq}" if seq >= 0 else "") for call_id, seq in after.items())
    items.sort(key=lambda one: (one.at, one.number))
    return SpokenPage(items=items, next=",".join(places), has_more=len(found) > limit)


def _places(calls: str) -> dict[UUID, int]:
    """Each call with the last utterance seen, -1 for none."""
    found: dict[UUID, int] = {}
    for one in calls.split(","):
        place = PLACE.fullmatch(one.strip())
        call_id = parse_id("call", place[1]) if place is not None else None
        if place is None or call_id is None:
            wrong = "give call ids, each with :number or without, separated by commas"
            raise Invalid.field("calls", wrong, where="query")
        found[call_id] = int(place[2]) if place[2] else -1
    if len(found) > MOST_CALLS:
        raise Invalid.field("calls", f"{len(found)} calls are too many: {MOST_CALLS} at most", where="query")
    return found


LONGEST_KEY = 255
Stage = Literal["queued", "initiated", "in_progress", "completed", "failed"]


class CallSent(Sent):
    """A call to make. ``from_number`` is one of your registered numbers."""

    agent_id: Id
    to_number: Number
    from_number: Number
    variables: Scalars | None = Field(default=None, description="Fill {{name}} in the first message and system prompt")
    webhook_url: Url | None = Field(default=None, description="Hears this call's events, beside registered webhooks")
    scheduled_at: Moment | None = Field(default=None, description="When to dial; not in the past, and within 366 days")
    metadata: dict[str, Any] | None = Field(default=None, description="Yours: given back on the call and its events")
    overrides: OverridesSent | None = Field(default=None, description="Agent settings for this call only")


class CallsAsked(Given):
    """Which calls to list; times are when the call was made."""

    agent_id: str | None = None
    status: Stage | None = None
    direction: Literal["inbound", "outbound"] | None = None
    from_number: NumberAsked | None = None
    to_number: NumberAsked | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None
    id_prefix: str | None = Field(
        default=None,
        pattern=r"^(call_)?[0-9a-fA-F]{6,32}$",
        description="How the id begins, six digits at least: finds a call by a shortened id",
    )
    has_recording: YesOrNo | None = Field(default=None, description="Whether its recording can be downloaded")


class CallsAskedBySlice(CallsAsked, Slice):
    """By position."""


class CallsAskedByCursor(CallsAsked):
    """By cursor: as quick on the last page as on the first, and no call is shown twice."""

    limit: int = Field(default=20, ge=1, le=100)
    cursor: str | None = Field(default=None, description="next_cursor of the page before")


class CursorPage(Shown):
    """Calls, newest first; ``next_cursor`` is null on the last page."""

    items: list[CallShown]
    next_cursor: str | None
    has_more: bool
    limit: int


class Format(Given):
    """Which file."""

    format: Literal["mp3", "wav"] = "mp3"


async def create_call(asked: Asked[CallSent, None]) -> CallShown:
    """Ring somebody; the agent talks once it is answered. Sent again with the same Idempotency-Key: the first call."""
    body = asked.body
    key = asked.request.headers.get("idempotency-key", "").strip() or None
    if key is not None and (len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise Invalid.field("Idempotency-Key", f"at most {LONGEST_KEY} printable ASCII characters", where="header")
    overrides = body.overrides.model_dump(mode="json", exclude_unset=True) if body.overrides is not None else {}
    wanted = place_call.CallWanted(
        from_number=body.from_number,
        to_number=body.to_number,
        agent_id=body.agent_id,
        variables=body.variables or {},
        metadata=body.metadata or {},
        overrides=overrides,
        settings=call_settings(overrides),
        webhook_url=body.webhook_url,
        scheduled_at=body.scheduled_at,
    )
    once = place_call.Idempotency(key, _body_hash(body)) if key is not None else None
    placed = await place_call.place(asked.resources, asked.caller, wanted, once)
    asked.headers.update(errors.rate_limit_headers(placed.limits))
    return await call_shown(asked.resources, placed.call)


def _body_hash(body: CallSent) -> str:
    """Of what was asked, not of how it was written: spaces and the order of keys do not count."""
    said = json.dumps(body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


async def get_call(asked: Asked[None, None]) -> CallShown:
    """The whole call; its messages, analysis and recording once it is over."""
    return await call_shown(asked.resources, await control_call.get(asked.store, asked.caller, asked.path["call_id"]))


async def list_calls(asked: Asked[None, CallsAskedBySlice]) -> Listing[CallShown]:
    """Calls, newest first."""
    which = await _filter(asked)
    limit, offset = asked.query.limit, asked.query.offset
    page = await control_call.page(asked.store, asked.caller, which, limit=limit, offset=offset)
    total = await control_call.total(asked.store, asked.caller, which)
    return Listing(items=[call_listed(row) for row in page.items], total=total, limit=limit, offset=offset)


async def list_calls_by_cursor(asked: Asked[None, CallsAskedByCursor]) -> CursorPage:
    """Calls, newest first, page after page."""
    limit = asked.query.limit
    page = await control_call.page(
        asked.store, asked.caller, await _filter(asked), limit=limit, cursor=asked.query.cursor
    )
    items = [call_listed(row) for row in page.items]
    return CursorPage(items=items, next_cursor=page.next_cursor, has_more=page.has_more, limit=limit)


async def _filter(asked: Asked[None, Any]) -> CallFilter:
    query: CallsAsked = asked.query
    return CallFilter(
        agent_id=await control_call.agent_filter(asked.store, asked.caller, query.agent_id),
        stages=(query.status,) if query.status is not None else (),
        direction=query.direction,
        from_number=query.from_number,
        to_number=query.to_number,
        created_from=query.created_after,
        created_before=query.created_before,
        id_prefix=(query.id_prefix or "").removeprefix("call_").lower(),
        recorded=query.has_recording,
    )


async def download_recording(asked: Asked[None, Format]) -> Response:
    """The recording itself."""
    call, found = await recordings_and_transcripts.recording_of_call(asked.store, asked.caller, asked.path["call_id"])
    format = asked.query.format
    path = await recordings_and_transcripts.as_file(asked.resources, found, format)
    return FileResponse(
        path, media_type=recordings_and_transcripts.FORMATS[format], filename=f"{call.public_id}.{format}"
    )


async def refuse_web_call(asked: Asked[None, None]) -> None:
    """Calls from a browser are not offered: this service does telephony."""
    raise NotOffered("not_supported", "calls from a browser are not offered here; ring a number with POST /v1/calls")


Target = Field(
    max_length=512,
    pattern=r"^(\+[1-9][0-9]{6,14}|sips?:[!-~]+)$",  # what a SIP address is, its parser says
    examples=["+14155550100", "sip:desk@pbx.example.com"],
)


class TransferSent(Sent):
    """Who takes the far end over. ``transfer_to`` and ``to`` are other spellings of ``to_number``."""

    to_number: str = Target
    transfer_mode: Literal["cold", "warm"] = "cold"

    @model_validator(mode="before")
    @classmethod
    def _spelling(cls, given: Any) -> Any:
        if isinstance(given, dict) and "to_number" not in given:
            for other in ("transfer_to", "to"):
                if other in given:
                    return {**given, "to_number": given[other]}
        return given


class DigitsSent(Sent):
    """Keys to press: 0-9 A-D * #, and ``w`` for half a second's pause."""

    digits: str = Field(pattern=r"^[0-9A-Da-d#*wW]{1,64}$")


class OutcomeSent(Sent):
    """What came of the call, ``like_this``; null takes it back."""

    outcome: str | None = Field(max_length=100)


EVENT_NAMES = {"no_recognition": "deaf"}
"""Events that this API names otherwise than the library does: a name that clients have read stays."""


class EventShown(Shown):
    """Something that happened."""

    id: str
    event: str
    at: Moment
    details: dict[str, Any]


class EventsShown(Shown):
    """What happened on a call, in order."""

    items: list[EventShown]
    total: int


async def stop_call(asked: Asked[None, None]) -> CallShown:
    """End the call. One that is over already is answered as it is."""
    return await call_shown(
        asked.resources, await control_call.stop(asked.resources, asked.caller, asked.path["call_id"])
    )


async def transfer_call(asked: Asked[TransferSent, None]) -> CallShown:
    """Hand the far end to a number or SIP address; our agent leaves the call."""
    if asked.body.transfer_mode == "warm":
        await control_call.get(asked.store, asked.caller, asked.path["call_id"])
        raise NotOffered("not_supported_by_provider", "only cold transfers are done: leave transfer_mode out")
    call = await control_call.transfer(asked.resources, asked.caller, asked.path["call_id"], asked.body.to_number)
    return await call_shown(asked.resources, call)


async def send_digits(asked: Asked[DigitsSent, None]) -> CallShown:
    """Press keys for the far end."""
    call = await control_call.send_digits(asked.resources, asked.caller, asked.path["call_id"], asked.body.digits)
    return await call_shown(asked.resources, call)


async def set_call_outcome(asked: Asked[OutcomeSent, None]) -> CallShown:
    """Name what came of it; it is stored as it reads: ``appointment_booked`` becomes "Appointment Booked"."""
    call = await control_call.set_outcome(asked.store, asked.caller, asked.path["call_id"], asked.body.outcome)
    return await call_shown(asked.resources, call)


async def list_call_events(asked: Asked[None, None]) -> EventsShown:
    """The call's log."""
    rows = await control_call.events(asked.store, asked.caller, asked.path["call_id"])
    items = [
        EventShown(id=str(row.id), event=EVENT_NAMES.get(row.kind, row.kind), at=row.at, details=row.payload)
        for row in rows
    ]
    return EventsShown(items=items, total=len(items))


CALLS = "/v1/calls"
CALL = CALLS + "/{call_id}"
IDEMPOTENCY = {"Idempotency-Key": "The same key and body within 24 hours is the same call: nobody is called twice"}

ENDPOINTS = [
    Endpoint("GET", "/v1/calls/messages", messages_since, "What is said on calls, as it is said", query=Since,
             answer=SpokenPage, refusals=(403, 404)),
    Endpoint("POST", CALLS, create_call, "Ring somebody", CallSent, answer=CallShown, status=201, headers=IDEMPOTENCY,
             refusals=(400, 403, 404, 409, 413, 501, 502, 503, 504)),
    Endpoint("GET", CALLS, list_calls, "List calls", query=CallsAskedBySlice, answer=Listing[CallShown], refusals=(403,
             404)),
    Endpoint("GET", CALLS + "/cursor", list_calls_by_cursor, "List calls by cursor", query=CallsAskedByCursor,
             answer=CursorPage,
             refusals=(403, 404)),
    Endpoint("POST", CALLS + "/web", refuse_web_call, "Call from a browser (not offered)", refusals=(501,)),
    Endpoint("POST", "/v1/web-calls/token", refuse_web_call, "Call from a browser (not offered)", refusals=(501,)),
    Endpoint("GET", CALL, get_call, "Look at a call", answer=CallShown, refusals=(403, 404)),
    Endpoint("GET", CALL + "/recording", download_recording, "Download the recording", query=Format, refusals=(403,
             404, 501)),
    Endpoint("PATCH", CALL, set_call_outcome, "Name the outcome", OutcomeSent, answer=CallShown, refusals=(403, 404,
             413)),
    Endpoint("POST", CALL + "/stop", stop_call, "End a call", answer=CallShown, refusals=(403, 404, 502, 504)),
    Endpoint("POST", CALL + "/transfer", transfer_call, "Hand the call to somebody else", TransferSent,
             answer=CallShown,
             refusals=(403, 404, 409, 413, 501, 502, 504)),
    Endpoint("POST", CALL + "/dtmf", send_digits, "Press keys", DigitsSent, answer=CallShown,
             refusals=(403, 404, 409, 413, 501, 502, 504)),
    Endpoint("GET", CALL + "/events", list_call_events, "What happened on a call", answer=EventsShown, refusals=(403,
             404)),
]  # fmt: skip
"""In the order in which addresses are tried: ``/v1/calls/messages`` is no call."""
