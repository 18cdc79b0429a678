"""``/v1/calls/messages``: what is said on calls, while they go on."""

from __future__ import annotations

import re
from uuid import UUID

from pydantic import Field

from anycarrier_server.domain import transcripts
from anycarrier_server.domain.refusals import Invalid
from anycarrier_server.endpoints import Asked, Endpoint
from anycarrier_server.oneinbox.call_shape import ROLES
from anycarrier_server.oneinbox.shapes import Given, Moment, Shown
from anycarrier_server.store import parse_id, public_id

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


async def since(asked: Asked[None, Since]) -> SpokenPage:
    """What was said on these calls since you last asked. Works during the call; half a second apart is often enough."""
    after, limit = _places(asked.query.calls), asked.query.limit
    found = await transcripts.since(asked.service, asked.caller, after, limit=limit + 1)
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


ENDPOINTS = [
    Endpoint("GET", "/v1/calls/messages", since, "What is said on calls, as it is said", query=Since,
             answer=SpokenPage, refusals=(403, 404)),
]  # fmt: skip
