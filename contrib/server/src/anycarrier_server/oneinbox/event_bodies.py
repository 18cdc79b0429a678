"""What subscribers are sent: flat bodies, one per event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier_server.domain import outcomes, recordings
from anycarrier_server.oneinbox.call_shape import ROLES, analysis, messages, provider_error, stamp
from anycarrier_server.outbox import ONEINBOX_PAUSES, Style
from anycarrier_server.store import public_id
from anycarrier_server.store.models import CallRow, OutboxEvent

if TYPE_CHECKING:
    from anycarrier_server.service import Service


def style(service: Service) -> Style:
    """How this face tells things: retried for up to ten minutes, but not when the receiver says no."""

    async def write(event: OutboxEvent, call: CallRow | None) -> str | None:
        if call is None:
            return None
        details = await DETAILS[event.kind](service, event, call)
        return json.dumps({**_about(event, call), **details}, separators=(",", ":"), ensure_ascii=False)

    types = {kind: kind for kind in DETAILS}
    return Style(types, write, pauses=ONEINBOX_PAUSES, fleeting=("transcript.partial",))


def _about(event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    return {
        "id": event.public_id,
        "event": event.kind,
        "call_id": call.public_id,
        "agent_id": public_id("agent", call.agent_id) if call.agent_id is not None else None,
        "from_number": call.from_number,
        "to_number": call.to_number,
        "direction": call.direction,
        "created_at": stamp(event.at),
        "metadata": call.details,
        "variables": call.variables,
    }


async def _started(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    return {"status": "in_progress"}


async def _ended(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    found = await recordings.finished(service, call)
    return {
        "status": event.payload.get("stage", call.stage),
        "end_reason": event.payload.get("reason", call.reason),
        "duration_seconds": round(event.payload.get("duration_seconds", call.duration_seconds), 3),
        "outcome": outcomes.shown(call),
        "summary": call.summary,
        "recording_url": recordings.signed_url(service, call.id)[0] if found is not None else None,
    }


async def _failed(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    error = provider_error(call.error)
    return {
        "status": event.payload.get("stage", call.stage),
        "end_reason": event.payload.get("reason", call.reason),
        "outcome": outcomes.shown(call),
        "provider": call.provider,
        "provider_status": event.payload.get("carrier_status", call.carrier_status),
        "sip_status": event.payload.get("sip_code", call.sip_code),
        "error": error.model_dump() if error is not None else None,
    }


async def _analyzed(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    found = analysis(call)
    return {
        "status": call.stage,
        "outcome": outcomes.shown(call),
        "summary": call.summary,
        "analysis": found.model_dump(mode="json") if found is not None else None,
    }


async def _recorded(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    url, expires = recordings.signed_url(service, call.id, at=event.at.timestamp())
    found = await recordings.finished(service, call)
    return {
        "recording_url": url,
        "recording_status": found.status if found is not None else None,
        "expires_at": stamp(datetime.fromtimestamp(expires, UTC)),
    }


async def _transcript(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    said = messages(await service.store.transcripts.of_call(call.id))
    return {"status": call.stage, "messages": [one.model_dump() for one in said]}


async def _partial(service: Service, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    party = str(event.payload.get("party"))
    return {"role": ROLES.get(party, party), "content": event.payload.get("text"), "final": True}


DETAILS = {
    "call.started": _started,
    "call.ended": _ended,
    "call.failed": _failed,
    "call.analyzed": _analyzed,
    "call.recording.available": _recorded,
    "transcript.final": _transcript,
    "transcript.partial": _partial,
}
"""What each event says beside who called whom."""
