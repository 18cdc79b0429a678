"""``/v1/calls``: made, looked at, listed."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field
from starlette.responses import FileResponse, Response

from anycarrier_server.domain import call_control, calls, recordings
from anycarrier_server.domain.overrides import call_settings
from anycarrier_server.domain.refusals import Invalid, NotOffered
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox import rate_limit
from anycarrier_server.oneinbox.call_shape import CallShown, listed, shown
from anycarrier_server.oneinbox.shapes import (
    Given,
    Id,
    Listing,
    Moment,
    Number,
    NumberAsked,
    Scalars,
    Sent,
    Shown,
    Slice,
    Url,
    YesOrNo,
)
from anycarrier_server.oneinbox.spellings import OverridesSent
from anycarrier_server.store import CallFilter

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


class Which(Given):
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


class WhichSlice(Which, Slice):
    """By position."""


class WhichCursor(Which):
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


async def create(asked: Asked[CallSent, None]) -> CallShown:
    """Ring somebody; the agent talks once it is answered. Sent again with the same Idempotency-Key: the first call."""
    body = asked.body
    key = asked.request.headers.get("idempotency-key", "").strip() or None
    if key is not None and (len(key) > LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise Invalid.field("Idempotency-Key", f"at most {LONGEST_KEY} printable ASCII characters", where="header")
    overrides = body.overrides.model_dump(mode="json", exclude_unset=True) if body.overrides is not None else {}
    placed = await calls.place(
        asked.service,
        asked.caller,
        from_number=body.from_number,
        to_number=body.to_number,
        agent_id=body.agent_id,
        variables=body.variables,
        metadata=body.metadata,
        overrides=overrides,
        settings=call_settings(overrides),
        webhook_url=body.webhook_url,
        scheduled_at=body.scheduled_at,
        idempotency_key=key,
        body_hash=_hash(body) if key is not None else None,
    )
    asked.headers.update(rate_limit.headers(placed.limits))
    return await shown(asked.service, placed.call)


def _hash(body: CallSent) -> str:
    """Of what was asked, not of how it was written: spaces and the order of keys do not count."""
    said = json.dumps(body.model_dump(mode="json", exclude_unset=True), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


async def get(asked: Asked[None, None]) -> CallShown:
    """The whole call; its messages, analysis and recording once it is over."""
    return await shown(asked.service, await call_control.get(asked.service, asked.caller, asked.path["call_id"]))


async def every(asked: Asked[None, WhichSlice]) -> Listing[CallShown]:
    """Calls, newest first."""
    which = await _which(asked)
    limit, offset = asked.query.limit, asked.query.offset
    page = await call_control.page(asked.service, asked.caller, which, limit=limit, offset=offset)
    total = await call_control.total(asked.service, asked.caller, which)
    return Listing(items=[listed(row) for row in page.items], total=total, limit=limit, offset=offset)


async def by_cursor(asked: Asked[None, WhichCursor]) -> CursorPage:
    """Calls, newest first, page after page."""
    limit = asked.query.limit
    page = await call_control.page(
        asked.service, asked.caller, await _which(asked), limit=limit, cursor=asked.query.cursor
    )
    items = [listed(row) for row in page.items]
    return CursorPage(items=items, next_cursor=page.next_cursor, has_more=page.has_more, limit=limit)


async def _which(asked: Asked[None, Any]) -> CallFilter:
    query: Which = asked.query
    return CallFilter(
        agent_id=await call_control.agent_filter(asked.service, asked.caller, query.agent_id),
        stages=(query.status,) if query.status is not None else (),
        direction=query.direction,
        from_number=query.from_number,
        to_number=query.to_number,
        created_from=query.created_after,
        created_before=query.created_before,
        id_prefix=(query.id_prefix or "").removeprefix("call_").lower(),
        recorded=query.has_recording,
    )


async def recording(asked: Asked[None, Format]) -> Response:
    """The recording itself."""
    call, found = await recordings.of_call(asked.service, asked.caller, asked.path["call_id"])
    format = asked.query.format
    path = await recordings.as_file(asked.service, found, format)
    return FileResponse(path, media_type=recordings.FORMATS[format], filename=f"{call.public_id}.{format}")


async def web_call(asked: Asked[None, None]) -> None:
    """Calls from a browser are not offered: this service does telephony."""
    raise NotOffered("not_supported", "calls from a browser are not offered here; ring a number with POST /v1/calls")


ROOT = "/v1/calls"
ONE = ROOT + "/{call_id}"
IDEMPOTENCY = {"Idempotency-Key": "The same key and body within 24 hours is the same call: nobody is called twice"}

ENDPOINTS = [
    Endpoint("POST", ROOT, create, "Ring somebody", CallSent, answer=CallShown, status=201, headers=IDEMPOTENCY,
             refusals=(400, 403, 404, 409, 413, 501, 502, 503, 504)),
    Endpoint("GET", ROOT, every, "List calls", query=WhichSlice, answer=Listing[CallShown], refusals=(403, 404)),
    Endpoint("GET", ROOT + "/cursor", by_cursor, "List calls by cursor", query=WhichCursor, answer=CursorPage,
             refusals=(403, 404)),
    Endpoint("POST", ROOT + "/web", web_call, "Call from a browser (not offered)", refusals=(501,)),
    Endpoint("POST", "/v1/web-calls/token", web_call, "Call from a browser (not offered)", refusals=(501,)),
    Endpoint("GET", ONE, get, "Look at a call", answer=CallShown, refusals=(403, 404)),
    Endpoint("GET", ONE + "/recording", recording, "Download the recording", query=Format, refusals=(403, 404, 501)),
]  # fmt: skip
