"""A call as this face shows it: six statuses and five reasons for its end, mapped from the many of the call book. Its
transcript, where ``local`` is the agent and ``remote`` the other person. And the bodies of webhooks.

Receivers get ``call.ended`` once a call is over, and a question about each new one. The question is flat and has no
event type, which is how receivers tell it from an event. Blocked calls are reported to nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid5

from anycarrier.calls import TransferStatus
from anycarrier_server.domain.resources import IncomingAsk, Resources
from anycarrier_server.inkbox.fields import PHONE, Moment, RateLimit, Shown, Uuid, stamp
from anycarrier_server.store.models import CallRow, OutboxEvent, Segment
from anycarrier_server.work.webhook_delivery import INKBOX_PAUSES, Style

LOCAL = frozenset({"agent_hangup", "api_stop", "end_call_phrase", "silence_timeout", "transferred"})
ANSWERED_ENDS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(LOCAL, ("completed", "local")),
    "user_hangup": ("completed", "remote"),
    "max_duration": ("completed", "max_duration"),
    "voicemail": ("completed", "voicemail"),
    "agent_error": ("failed", None),
    "media_error": ("failed", None),
}
UNANSWERED_ENDS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(LOCAL, ("canceled", "local")),
    "busy": ("failed", "rejected"),
    "rejected": ("failed", "rejected"),
    "marked_as_spam": ("failed", "rejected"),
    "no_answer": ("canceled", None),
    "user_hangup": ("canceled", "remote"),
}


class CallShown(Shown):
    """A call. The two lists are never null."""

    id: Uuid
    local_phone_number: str
    remote_phone_number: str
    direction: str
    status: str
    client_websocket_url: str | None
    use_inkbox_tts: bool | None
    use_inkbox_stt: bool | None
    hangup_reason: str | None
    started_at: Moment | None
    ended_at: Moment | None
    is_blocked: bool
    origin: str = "dedicated_number"
    mode: str = "client_websocket"
    reason: str | None = None
    hosted_agent_authority_mode: str = "contact_scoped"
    voicemail_detection: str
    on_voicemail: str
    post_call_action_items: list[dict[str, Any]] = []
    forwardings: list[dict[str, Any]] = []
    connections: list[dict[str, Any]] = []
    agent_identity_id: Uuid | None
    created_at: Moment
    updated_at: Moment


class CallPlaced(CallShown):
    """A call just made, and how much may still be called."""

    rate_limit: RateLimit


def how_it_stands(call: CallRow) -> tuple[str, str | None]:
    """Status and hangup reason."""
    if call.is_blocked:
        return "failed", "rejected"
    if call.status != "ended":
        return ("initiated" if call.status == "queued" else call.status), None
    reason = call.reason or ""
    if call.answered_at is not None:
        return ANSWERED_ENDS.get(reason, ("completed", None))
    if call.intent == "api_stop" and reason in ("canceled", "rejected"):
        return "canceled", "local"  # hung up by request, which an incoming call calls a rejection elsewhere
    if reason == "canceled":
        # Who gave up before the answer: a caller of ours is the remote party, a call of ours we took back.
        return "canceled", "remote" if call.direction == "inbound" else "local"
    return UNANSWERED_ENDS.get(reason, ("failed", None))


def voicemail_of(call: CallRow) -> str:
    """What the call does when a machine answers."""
    settings = call.options.get("settings") or {}
    return str(settings.get("on_voicemail") or "hang_up")


def fields_of(call: CallRow) -> dict[str, Any]:
    """What every body that shows a call has in common."""
    status, hangup_reason = how_it_stands(call)
    on_voicemail = voicemail_of(call)
    return {
        "id": call.id,
        "local_phone_number": call.local_number,
        "remote_phone_number": call.remote_number,
        "direction": call.direction,
        "status": status,
        "client_websocket_url": call.websocket_url,
        "use_inkbox_tts": call.use_tts,
        "use_inkbox_stt": call.use_stt,
        "hangup_reason": hangup_reason,
        "started_at": call.answered_at,
        "ended_at": call.ended_at if not call.is_blocked else None,  # it never began
        "is_blocked": call.is_blocked,
        "voicemail_detection": "disabled" if on_voicemail == "ignore" else "enabled",
        "on_voicemail": on_voicemail,
        "forwardings": forwardings(call),
        "agent_identity_id": call.agent_id,
        "created_at": call.created_at,
        "updated_at": call.updated_at,
    }


def forwardings(call: CallRow) -> list[dict[str, Any]]:
    """The attempt to send an incoming call on, when that is what its identity does."""
    kept = call.options.get("forwarding")
    if not isinstance(kept, dict):
        return []
    over = call.status == "ended"
    reached = call.transfer == TransferStatus.ANSWERED
    return [
        {
            "id": str(call.id),
            "trigger": "incoming_action",
            "status": "forwarded" if reached else "failed" if over else "dialing",
            "target_type": kept["target_type"],
            "target": kept["target"],
            "requested_at": call.created_at.isoformat(),
            "dialing_at": call.created_at.isoformat(),
            "forwarded_at": call.answered_at.isoformat() if call.answered_at is not None else None,
            "ended_at": call.ended_at.isoformat() if call.ended_at is not None else None,
            "failure_code": None if reached or not over else (call.reason or "failed"),
        }
    ]


def call_shown(call: CallRow) -> CallShown:
    """The row as this face shows it."""
    return CallShown(**fields_of(call))


class TranscriptShown(Shown):
    """One utterance; ``ts_ms`` counts from the start of the call."""

    id: Uuid
    call_id: Uuid
    seq: int
    ts_ms: int
    party: str
    text: str
    phone_number: str | None
    created_at: Moment


def segment_shown(segment: Segment, number: str | None) -> TranscriptShown:
    """The segment; its uuid is made of the call's and its place, so it stays the same."""
    return TranscriptShown(
        id=uuid5(segment.call_id, str(segment.seq)),
        call_id=segment.call_id,
        seq=segment.seq,
        ts_ms=segment.ts_ms,
        party=segment.party,
        text=segment.text,
        phone_number=number,
        created_at=segment.created_at,
    )


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


def style(resources: Resources) -> Style:
    """How this face sends webhooks: three attempts, on any answer but 2xx."""

    async def write(event: OutboxEvent, call: CallRow | None) -> str | None:
        if call is None or call.is_blocked:
            return None
        words = await resources.store.transcripts.of_call(call.id)
        body = call_ended(event, call, words, resources.exchange.switchboard.public_url)
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
            "transcript": transcript_excerpt(said, call.local_number, url),
            "transcript_url": url,
            "outcome": None,
            "post_call_action_items": [],
        },
    }


def transcript_excerpt(said: Sequence[Segment], number: str, url: str) -> dict[str, Any] | None:
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


async def incoming_call_question(ask: IncomingAsk) -> dict[str, Any]:
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
