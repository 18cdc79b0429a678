"""What receivers of this face are sent: ``call.ended`` once a call is over, and the question what to do with a new one.

The question is flat, without an event type; that is how receivers tell it from an event. Blocked calls are told to
nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from anycarrier_server.domain.incoming_webhook import IncomingAsk
from anycarrier_server.inkbox.call_shape import fields_of
from anycarrier_server.inkbox.shapes import PHONE, stamp
from anycarrier_server.outbox import INKBOX_PAUSES, Style
from anycarrier_server.store.models import CallRow, OutboxEvent, Segment

if TYPE_CHECKING:
    from anycarrier_server.service import Service

ENDED = "call.ended"
FIRST, LAST = 40, 40
"""Of a longer conversation, so many turns of its beginning and end are sent; the rest is at ``transcript_url``."""
LONGEST = 2000
"""Characters of one turn."""

IN_A_CALL = (
    "id", "origin", "local_phone_number", "remote_phone_number", "direction", "status", "hangup_reason", "started_at",
    "ended_at", "created_at", "updated_at", "duration_seconds", "mode", "reason", "hosted_agent_authority_mode",
    "voicemail_detection", "on_voicemail", "forwardings", "connections",
)  # fmt: skip
IN_A_QUESTION = (
    "id", "local_phone_number", "remote_phone_number", "direction", "status", "client_websocket_url", "use_inkbox_tts",
    "use_inkbox_stt", "hangup_reason", "started_at", "ended_at", "created_at", "updated_at",
)  # fmt: skip


def style(service: Service) -> Style:
    """How this face tells things: three attempts, whatever the receiver says but 2xx."""

    async def write(event: OutboxEvent, call: CallRow | None) -> str | None:
        if call is None or call.is_blocked:
            return None
        body = call_ended(event, call, await service.store.transcripts.of_call(call.id), service.exchange.public_url)
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False)

    types = {"call.ended": ENDED, "call.failed": ENDED}
    return Style(types, write, pauses=INKBOX_PAUSES, stubborn=True)


def call_ended(event: OutboxEvent, call: CallRow, said: Sequence[Segment], origin: str) -> dict[str, Any]:
    """The body of ``call.ended``. ``event_id`` stays the same on every retry and replay."""
    fields = {
        **_plain(fields_of(call)),
        "origin": "dedicated_number",
        "mode": "client_websocket",
        "reason": None,
        "hosted_agent_authority_mode": "contact_scoped",
        "connections": [],
        "duration_seconds": round(call.duration_seconds) if call.answered_at is not None else None,
    }
    url = f"{origin}{PHONE}/calls/{call.id}/transcripts"
    return {
        "id": event.public_id,
        "event_type": ENDED,
        "timestamp": stamp(event.at),
        "data": {
            "call": {name: fields[name] for name in IN_A_CALL},
            "contacts": [],
            "agent_identities": [],
            "transcript": transcript(said, call.local_number, url),
            "transcript_url": url,
            "outcome": None,
            "post_call_action_items": [],
        },
    }


def transcript(said: Sequence[Segment], number: str, url: str) -> dict[str, Any] | None:
    """The conversation, its middle left out when it is long; None when nothing was said."""
    if not said:
        return None
    turns = [_turn(segment, number) for segment in said]
    left_out = said[FIRST:-LAST]
    if left_out:
        marker = {
            "marker": "abridged",
            "omitted_turns": len(left_out),
            "omitted_ms": max(0, said[len(said) - LAST].ts_ms - left_out[0].ts_ms),
        }
        turns = [*turns[:FIRST], marker, *turns[-LAST:]]
    return {"entries": turns, "abridged": bool(left_out), "url": url}


def _turn(segment: Segment, number: str) -> dict[str, Any]:
    turn: dict[str, Any] = {"party": segment.party, "text": segment.text[:LONGEST], "ts_ms": segment.ts_ms}
    turn["phone_number"] = number
    if len(segment.text) > LONGEST:
        turn["truncated"] = True
    return turn


async def incoming(ask: IncomingAsk) -> dict[str, Any]:
    """The body of the incoming-call webhook."""
    fields = {**_plain(fields_of(ask.call)), "status": "initiated"}
    return {
        **{name: fields[name] for name in IN_A_QUESTION},
        "phone_number_id": str(ask.line.id),
        "rate_limit": ask.limits.as_dict(),
        "contacts": [],
        "agent_identities": [],
    }


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Ids and times as JSON has them."""
    write: dict[str, Callable[[Any], Any]] = {
        "id": str, "started_at": stamp, "ended_at": stamp, "created_at": stamp, "updated_at": stamp,
    }  # fmt: skip
    return {
        name: write[name](value) if name in write and value is not None else value for name, value in fields.items()
    }
