"""Calls as this contract writes them: in answers, from the call's row, its transcript and its recording; and in the
flat bodies that webhook receivers are sent, one for each event.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import ConfigDict, Field

from anycarrier_server.domain import agent_overrides, control_call, recordings_and_transcripts
from anycarrier_server.domain.resources import Resources
from anycarrier_server.oneinbox.shapes import Moment, Shown
from anycarrier_server.store import public_id
from anycarrier_server.store.models import CallRow, OutboxEvent, Segment
from anycarrier_server.work.webhook_delivery import ONEINBOX_PAUSES, Style

ROLES = {"local": "agent", "remote": "user"}
SID = "twilio_call_sid"


class MessageShown(Shown):
    """One utterance; ``role`` is ``agent`` or ``user``."""

    role: str
    content: str


class AnalysisShown(Shown):
    """What came of the call."""

    model_config = ConfigDict(extra="allow")

    outcome: str | None
    summary: str | None


class ProviderErrorShown(Shown):
    """What the carrier said was wrong."""

    code: str | None
    message: str


class SpreadShown(Shown):
    """How long it took, over all times it was measured on the call."""

    avg_ms: float
    p50_ms: float
    min_ms: float
    max_ms: float
    samples: int


class LatencyShown(Shown):
    """What the caller waited for: the end of their turn to be noticed, the agent's words, their sound; all of it."""

    eou_delay: SpreadShown | None = None
    llm_ttft: SpreadShown | None = None
    tts_ttfb: SpreadShown | None = None
    perceived: SpreadShown | None = None


class CallShown(Shown):
    """A call. ``messages``, ``analysis`` and ``transcript`` are there once it is over, and null in lists.

    ``warnings`` (null in lists) say what was asked for and could not be done, though the call goes through.
    """

    id: str
    agent_id: str | None
    type: str
    status: str = Field(
        description="queued, initiated, in_progress, completed or failed: nobody answered, or the agent failed"
    )
    from_number: str
    to_number: str
    direction: str
    room_name: str | None = None
    scheduled_at: Moment | None
    variables: dict[str, Any]
    metadata: dict[str, Any]
    overrides: dict[str, Any]
    webhook_url: str | None
    started_at: Moment | None
    answered_at: Moment | None
    ended_at: Moment | None
    duration_seconds: float
    end_reason: str | None
    transcript: str | None = Field(description="Deprecated: read messages")
    messages: list[MessageShown] | None
    analysis: AnalysisShown | None
    outcome: str | None
    ai_summary: str | None
    recording_url: str | None = Field(description="Works for 4 hours; ask for the call again for a new one")
    recording_status: str | None = Field(
        description="in_progress, completed, cut (the disk took only the beginning) or failed (it took nothing); "
        "null where nothing is recorded, and in lists"
    )
    latency: LatencyShown | None
    cost_cents: float | None
    credits_used: float = Field(description="Minutes talked: duration_seconds / 60. No money: nobody is billed here")
    provider: str
    credential_id: str | None
    phone_number_id: str | None
    provider_call_id: str | None
    provider_status: str | None
    sip_status: int | None
    provider_error: ProviderErrorShown | None
    answered_by: str | None = Field(description="human, machine or unknown; null where nobody listened for it")
    twilio_call_sid: str | None
    warnings: list[str] | None
    created_at: Moment
    updated_at: Moment


async def call_shown(resources: Resources, row: CallRow) -> CallShown:
    """The whole call."""
    over = row.status == "ended"
    segments = await resources.store.transcripts.of_call(row.id) if over else []
    recorded = await resources.store.recordings.of_call(row.id)
    url = (
        recordings_and_transcripts.signed_url(resources, row.id)[0]
        if over and recordings_and_transcripts.playable(recorded) is not None
        else None
    )
    status = recorded[-1].status if recorded else None
    return _shown(
        row, messages_shown(segments), await agent_overrides.warnings_of_call(resources.store, row), url, status
    )


def call_listed(row: CallRow) -> CallShown:
    """The call as an item of a list: without its words and its recording, which take a look elsewhere."""
    return _shown(row, None, None)


def messages_shown(segments: Sequence[Segment]) -> list[MessageShown]:
    """What agent and user said, in order."""
    return [
        MessageShown(role=ROLES[segment.party], content=segment.text) for segment in segments if segment.party in ROLES
    ]


def analysis_shown(row: CallRow) -> AnalysisShown | None:
    """What the analysis found, the outcome somebody set winning; None until there is any."""
    found = dict(row.analysis or {})
    label = control_call.shown_outcome(row)
    if row.status != "ended" or not (found or label or row.summary):
        return None
    return AnalysisShown(**{**found, "outcome": label, "summary": row.summary or found.get("summary")})


def _shown(
    row: CallRow,
    said: list[MessageShown] | None,
    warnings: list[str] | None,
    recording_url: str | None = None,
    recording_status: str | None = None,
) -> CallShown:
    talked = row.duration_seconds
    return CallShown(
        id=row.public_id,
        agent_id=public_id("agent", row.agent_id) if row.agent_id is not None else None,
        type=row.direction,
        status=row.stage,
        from_number=row.from_number,
        to_number=row.to_number,
        direction=row.direction,
        scheduled_at=row.scheduled_at,
        variables=row.variables,
        metadata=row.details,
        overrides=row.overrides,
        webhook_url=row.webhook_url,
        started_at=row.answered_at,
        answered_at=row.answered_at,
        ended_at=row.ended_at,
        duration_seconds=round(talked, 3),
        end_reason=row.reason,
        transcript=None if said is None else "\n".join(f"{one.role}: {one.content}" for one in said),
        messages=said,
        analysis=None if said is None else analysis_shown(row),
        outcome=control_call.shown_outcome(row),
        ai_summary=row.summary,
        recording_url=recording_url,
        recording_status=recording_status,
        latency=LatencyShown.model_validate(row.latency) if row.latency else None,
        cost_cents=row.cost_cents,
        credits_used=round(talked / 60, 4),
        provider=row.provider,
        credential_id=public_id("credential", row.credential_id) if row.credential_id is not None else None,
        phone_number_id=public_id("line", row.line_id) if row.line_id is not None else None,
        provider_call_id=row.carrier_id,
        provider_status=row.carrier_status,
        sip_status=row.sip_code,
        provider_error=provider_error(row.error),
        answered_by="machine" if row.answered_by == "fax" else row.answered_by,
        # The field names its carrier; nobody else's id belongs in it.
        twilio_call_sid=row.carrier_id if SID.startswith(f"{row.provider}_") else None,
        warnings=warnings,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def provider_error(noted: Mapping[str, Any] | None) -> ProviderErrorShown | None:
    """The carrier's refusal as noted on the call."""
    if not noted:
        return None
    code = noted.get("code")
    return ProviderErrorShown(code=str(code) if code is not None else None, message=str(noted.get("message") or ""))


def stamp(moment: datetime | None) -> str | None:
    """A time as webhooks carry it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z") if moment is not None else None


def style(resources: Resources) -> Style:
    """How this face tells things: retried for up to ten minutes, but not when the receiver says no."""

    async def write(event: OutboxEvent, call: CallRow | None) -> str | None:
        if call is None:
            return None
        details = await DETAILS[event.kind](resources, event, call)
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


async def _started(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    return {"status": "in_progress"}


async def _ended(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    found = await recordings_and_transcripts.finished_recording(resources.store, call)
    return {
        "status": event.payload.get("stage", call.stage),
        "end_reason": event.payload.get("reason", call.reason),
        "duration_seconds": round(event.payload.get("duration_seconds", call.duration_seconds), 3),
        "outcome": control_call.shown_outcome(call),
        "summary": call.summary,
        "recording_url": recordings_and_transcripts.signed_url(resources, call.id)[0] if found is not None else None,
    }


async def _failed(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    error = provider_error(call.error)
    return {
        "status": event.payload.get("stage", call.stage),
        "end_reason": event.payload.get("reason", call.reason),
        "outcome": control_call.shown_outcome(call),
        "provider": call.provider,
        "provider_status": event.payload.get("carrier_status", call.carrier_status),
        "sip_status": event.payload.get("sip_code", call.sip_code),
        "error": error.model_dump() if error is not None else None,
    }


async def _analyzed(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    found = analysis_shown(call)
    return {
        "status": call.stage,
        "outcome": control_call.shown_outcome(call),
        "summary": call.summary,
        "analysis": found.model_dump(mode="json") if found is not None else None,
    }


async def _recorded(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    url, expires = recordings_and_transcripts.signed_url(resources, call.id, at=event.at.timestamp())
    found = await recordings_and_transcripts.finished_recording(resources.store, call)
    return {
        "recording_url": url,
        "recording_status": found.status if found is not None else None,
        "expires_at": stamp(datetime.fromtimestamp(expires, UTC)),
    }


async def _transcript(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
    said = messages_shown(await resources.store.transcripts.of_call(call.id))
    return {"status": call.stage, "messages": [one.model_dump() for one in said]}


async def _partial(resources: Resources, event: OutboxEvent, call: CallRow) -> dict[str, Any]:
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
