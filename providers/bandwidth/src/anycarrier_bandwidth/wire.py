"""Bandwidth's webhooks and call resources into call events: JSON in, one event out. Pure.

Nothing numbers the events or gives them ids: call, kind and time together tell a redelivery. What we need again comes
back in the query of our own URLs: our reference, keys to press on answer, whether to record, if a greeting is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, reason_of_sip
from anycarrier.errors import MalformedMessage
from anycarrier.parsing import fingerprint, integer, moment, seconds, sip_code, text_of
from anycarrier.rest import given
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest

CALLBACKS = "callbacks"  # fact of a call: our URL, to which the callbacks of later BXML go
DIGITS, RECORD, GREETED = "digits", "record", "greeted"  # in the query of our URLs; two become facts of the call
ASKS = frozenset({"initiate", "answer", "redirect", "gather", "transferAnswer", "transferComplete"})  # for BXML
STATUSES = {"initiate": CallStatus.RINGING, "answer": CallStatus.ANSWERED, "disconnect": CallStatus.ENDED}
STATES = {"queued": CallStatus.QUEUED, "answered": CallStatus.ANSWERED, "disconnected": CallStatus.ENDED}
REASONS = {  # of a hangup it is not told who hung up, and the exchange knows when it was us
    "hangup": EndReason.USER_HANGUP, "busy": EndReason.BUSY, "timeout": EndReason.NO_ANSWER,
    "cancel": EndReason.CANCELED, "rejected": EndReason.REJECTED, "account-limit": EndReason.PROVIDER_RATE_LIMITED,
    "node-capacity-exceeded": EndReason.PROVIDER_UNAVAILABLE,
    **dict.fromkeys(("callback-error", "invalid-bxml", "application-error"), EndReason.AGENT_ERROR),
}  # fmt: skip
TRANSFERS = {"hangup": "completed", "busy": "busy", "timeout": "no_answer", "cancel": "canceled"}
RECORDINGS = {"processing": "in_progress", "partial": "completed", "complete": "completed", "deleted": "absent"}
ANSWERED_BY = {"human": "human", "answering-machine": "machine", "tone-detected": "machine"}
STREAMS = {"mediaStreamStarted": "started", "mediaStreamRejected": "failed", "mediaStreamStopped": "stopped"}
FIELDS = ("eventType", "callId", "parentCallId", "digit", "cause")


def parse(request: WebhookRequest) -> events.CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    told, ours = request.fields(), request.query()
    kind, call_id, parent, digit, cause = (text_of(told, name) for name in FIELDS)
    if not kind or not call_id or (kind == "dtmf" and not digit):
        # Nothing else is worth losing an event for.
        raise MalformedMessage("a bandwidth webhook without eventType, callId or digit", request.body)
    base: dict[str, Any] = {
        # A transfer's target is a leg of its own; its news are of the call that was transferred.
        "call_id": parent or call_id, "reference": ours.get("ref", ""), "raw": told,
        "event_id": f"{call_id}:{kind}{digit}:{text_of(told, 'eventTime') or fingerprint(told)}",
        "occurred_at": moment(told.get("eventTime")),
    }  # fmt: skip
    if kind in STATUSES:
        facts = {name: ours[name] for name in (DIGITS, RECORD) if ours.get(name)}
        facts[CALLBACKS] = request.url.partition("?")[0]
        base["call"] = call_of(told, STATUSES[kind], told, reference=base["reference"], facts=facts)
    match kind:
        case "initiate":
            base["verified"] = text_of(told.get("stirShaken"), "attestationIndicator") or None
            base["forwarded_from"] = text_of(told.get("diversion"), "origTo") or None
            came = told["sipHeaders"] if isinstance(told.get("sipHeaders"), Mapping) else {}
            base["headers"] = headers_of({**came, **given({"User-to-User": text_of(told, "uui")})})
            return events.IncomingCall(**base)
        case "answer":
            return events.InstructionsRequested(purpose=events.InstructionsFor.ANSWERED, **base)
        case "disconnect":
            return events.CallProgress(**base)
        case "machineDetectionComplete":
            heard = text_of(told.get("machineDetectionResult"), "value")
            who, beep = ANSWERED_BY.get(heard, "unknown"), heard == "tone-detected"
            over = beep or (who == "machine" and GREETED in ours)
            return events.MachineDetected(answered_by=who, greeting_ended=over, beep=beep, **base)
        case "dtmf":
            return events.DigitReported(digit=digit, **base)
        case "recordingAvailable":
            status, own = RECORDINGS.get(text_of(told, "status"), "failed"), text_of(told, "recordingId")
            base |= {"duration": seconds(told.get("duration")), "channels": integer(told.get("channels"))}
            base |= {"recording_id": f"{call_id}:{own}" if own else None, "url": text_of(told, "mediaUrl") or None}
            return events.RecordingProgress(status=status, **base)
        case "transferAnswer" | "transferComplete" | "transferDisconnect":
            status = "answered" if kind == "transferAnswer" else TRANSFERS.get(cause, "failed")
            return events.TransferProgress(status=status, target_call_id=call_id if parent else None, **base)
        case _ if kind in STREAMS:
            status = "failed" if cause in ("connection-error", "error") else STREAMS[kind]
            detail = ": ".join(filter(None, (cause, text_of(told, "errorMessage")))) or None
            stream_id = text_of(told.get("mediaStream"), "id") or None
            return events.StreamProgress(status=status, stream_id=stream_id, detail=detail, **base)
    return events.UnknownEvent(kind=kind, **base)


def call_of(told: Mapping[str, Any], status: CallStatus, raw: Mapping[str, Any], **known: Any) -> Call:
    """The call as ``told``, and what else is ``known`` of it."""
    cause, over = text_of(told, "cause") or text_of(told, "disconnectCause"), status is CallStatus.ENDED
    code = sip_code(told.get("sipResponseCode"))
    return Call(
        id=told["callId"], provider="bandwidth", from_=text_of(told, "from"), to=text_of(told, "to"), status=status,
        direction=Direction.INBOUND if told.get("direction") == "inbound" else Direction.OUTBOUND, raw=raw,
        reason=end_reason(cause, code, text_of(told, "errorMessage")) if over else None, sip_code=code,
        carrier_status=(cause if over else "") or text_of(told, "eventType") or text_of(told, "state") or None,
        answered_by=ANSWERED_BY.get(text_of(told.get("machineDetectionResult"), "value")),
        created_at=moment(told.get("startTime")), answered_at=moment(told.get("answerTime")),
        ended_at=moment(told.get("endTime")) if over else None, **known,
    )  # fmt: skip


def end_reason(cause: str, sip_code: int | None, text: str) -> EndReason:
    """Why a call ended. A SIP code, told where an outbound call was refused, says more than the word."""
    if cause == "account-limit" and "concurrent" in text.lower():
        return EndReason.CONCURRENCY_LIMIT
    if cause in ("busy", "rejected") or cause not in REASONS:
        return reason_of_sip(sip_code) or REASONS.get(cause, EndReason.UNREACHABLE)
    return REASONS[cause]


def call_from_rest(body: Any) -> Call:
    """The call in a REST answer, which was seen as an object and as a list of one."""
    [told] = body if isinstance(body, list) else [body]
    raw = {name: value for name, value in told.items() if not name.lower().endswith(("username", "password"))}
    begun = CallStatus.RINGING if told.get("direction") == "inbound" else CallStatus.INITIATED
    known = CallStatus.ENDED if told.get("endTime") else CallStatus.ANSWERED if told.get("answerTime") else begun
    return call_of(told, STATES.get(text_of(told, "state") or "queued", known), raw)  # of a new state the times tell
