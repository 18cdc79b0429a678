"""From a call's snapshots to what the store writes of them. Pure: no database here.

A *stage* is how far a call has come in the one word both faces list and filter by.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from anycarrier.calls import Call, CallStatus, EndReason, TransferStatus

STAGES = ("queued", "initiated", "in_progress", "completed", "failed")


def stage_of(call: Call) -> str:
    """``completed`` is over after somebody answered; ``failed`` is over before, or because our agent failed."""
    if call.status is CallStatus.ENDED:
        return "failed" if call.answered_at is None or call.reason is EndReason.AGENT_ERROR else "completed"
    if call.status is CallStatus.ANSWERED:
        return "in_progress"
    return "queued" if call.status is CallStatus.QUEUED else "initiated"


TRANSFER_EVENTS = {
    TransferStatus.REQUESTED: "call.transfer_requested",
    TransferStatus.ANSWERED: "call.transferred",
    None: "call.transfer_failed",
}

Happening = tuple[str, datetime, dict[str, Any]]
"""Kind, when, details."""


def call_events(before: Call, after: Call, now: datetime) -> list[Happening]:
    """What happened between two snapshots of a call, for its log."""
    found: list[Happening] = []
    if after.intent is not before.intent and after.intent is not None:
        found.append(("call.end_requested", now, {"reason": after.intent.value}))
    if after.transfer is not before.transfer:
        found.append((TRANSFER_EVENTS[after.transfer], now, {}))
    if after.answered_by != before.answered_by and after.answered_by is not None:
        found.append(("call.answered_by", now, {"answered_by": after.answered_by}))
    if after.status is not before.status:
        at = {CallStatus.ANSWERED: after.answered_at, CallStatus.ENDED: after.ended_at}.get(after.status) or now
        details: dict[str, Any] = {"carrier_status": after.carrier_status}
        if after.ended:
            details |= {"reason": after.reason and after.reason.value, "sip_code": after.sip_code}
        found.append((f"call.{after.status.value}", at, details))
    elif after.ended and (after.reason, after.answered_at) != (before.reason, before.answered_at):
        answered_at = after.answered_at and after.answered_at.isoformat()
        reason = after.reason and after.reason.value
        corrected = {"reason": reason, "answered_at": answered_at, "duration_seconds": after.duration}
        found.append(("call.corrected", now, corrected))
    return found


def announcements(before: Call, after: Call, now: datetime) -> list[Happening]:
    """What subscribers hear of it: ``call.started`` once, and one of ``call.ended`` / ``call.failed`` once.

    What was told of an end stands: when a later word of the carrier's corrects it, the call shows that, and its log.
    """
    found: list[Happening] = []
    if after.answered_at is not None and before.answered_at is None and not before.ended:
        found.append(("call.started", after.answered_at, {}))
    if after.ended and not before.ended:
        stage = stage_of(after)
        kind = "call.failed" if stage == "failed" else "call.ended"
        details = {
            "stage": stage,
            "reason": after.reason and after.reason.value,
            "duration_seconds": after.duration,
            "carrier_status": after.carrier_status,
            "sip_code": after.sip_code,
        }
        found.append((kind, after.ended_at or now, details))
    return found


def once_key(reference: str, kind: str) -> str:
    """The key under which an announcement can be made only once; ended and failed share theirs."""
    return f"{reference}:{'over' if kind in ('call.ended', 'call.failed') else kind}"
