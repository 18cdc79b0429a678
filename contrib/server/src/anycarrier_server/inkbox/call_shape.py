"""A call as this face shows it: six statuses and five reasons for its end, from the many the call book knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier.calls import TransferStatus
from anycarrier_server.inkbox.shapes import Moment, RateLimit, Shown, Uuid
from anycarrier_server.store.models import CallRow

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
