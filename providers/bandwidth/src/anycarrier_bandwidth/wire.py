"""Bandwidth's webhooks and call resources into call events: JSON in, one event out. Pure.

Nothing numbers the events or gives them ids: call, kind and time together tell a redelivery. What we need again comes
back in the query of our own URLs: our reference, keys to press on answer, whether to record, if a greeting is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, reason_of_sip
from anycarrier.errors import MalformedMessage
from anycarrier.parsing import fingerprint, moment, reading, seconds
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest

CALLBACKS = "callbacks"
"""Fact of a call: our URL, to which the callbacks of later BXML go."""

DIGITS, RECORD, GREETED = "digits", "record", "greeted"
"""In the query of our URLs; the first two become facts of the call."""

ASKS = frozenset({"initiate", "answer", "redirect", "gather", "transferAnswer", "transferComplete"})
"""Events whose reply must be BXML."""

STATUSES = {"initiate": CallStatus.RINGING, "answer": CallStatus.ANSWERED, "disconnect": CallStatus.ENDED}
STATES = {"queued": CallStatus.QUEUED, "answered": CallStatus.ANSWERED, "disconnected": CallStatus.ENDED}
REASONS = {
    "hangup": EndReason.USER_HANGUP,  # who hung up is not told, and the exchange knows when it was us
    "busy": EndReason.BUSY, "timeout": EndReason.NO_ANSWER, "cancel": EndReason.CANCELED,
    "rejected": EndReason.REJECTED, "account-limit": EndReason.PROVIDER_RATE_LIMITED,
    "node-capacity-exceeded": EndReason.PROVIDER_UNAVAILABLE,
    **dict.fromkeys(("callback-error", "invalid-bxml", "application-error"), EndReason.AGENT_ERROR),
}  # fmt: skip
TRANSFERS = {"hangup": "completed", "busy": "busy", "timeout": "no_answer", "cancel": "canceled"}
RECORDINGS = {"processing": "in_progress", "partial": "completed", "complete": "completed", "deleted": "absent"}
ANSWERED_BY = {"human": "human", "answering-machine": "machine", "tone-detected": "machine"}
STREAMS = {"mediaStreamStarted": "started", "mediaStreamRejected": "failed", "mediaStreamStopped": "stopped"}


class Message(msgspec.Struct, rename="camel", kw_only=True):
    """What we read of a webhook or of a call resource; both have more."""

    call_id: str
    event_type: str = ""
    event_time: str | None = None
    parent_call_id: str | None = None
    from_: str = msgspec.field(name="from", default="")
    to: str = ""
    direction: str = ""
    state: str | None = None
    start_time: str | None = None
    answer_time: str | None = None
    end_time: str | None = None
    cause: str | None = None
    disconnect_cause: str | None = None
    error_message: str | None = None
    sip_response_code: int | None = None
    digit: str = ""
    recording_id: str | None = None
    media_url: str | None = None
    duration: str | None = None
    channels: int | None = None
    status: str | None = None
    machine_detection_result: dict[str, str] | None = None
    media_stream: dict[str, Any] | None = None
    stir_shaken: dict[str, str] | None = None
    diversion: dict[str, str] | None = None
    sip_headers: dict[str, str] | None = None
    uui: str = ""


def fields_of(request: WebhookRequest) -> dict[str, Any]:
    """What a webhook says: JSON, or the query of a GET."""
    return dict(request.query()) if request.method == "GET" else request.json()


def parse(request: WebhookRequest) -> events.CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    raw, ours = fields_of(request), request.query()
    with reading("bandwidth webhook", request.body):
        told = msgspec.convert(raw, Message, strict=False)
        kind = told.event_type
        if not kind or not told.call_id or (kind == "dtmf" and not told.digit):
            raise MalformedMessage("a bandwidth webhook without eventType, callId or digit", request.body)
        base: dict[str, Any] = {
            # A transfer's target is a leg of its own; its news are of the call that was transferred.
            "call_id": told.parent_call_id or told.call_id, "reference": ours.get("ref", ""), "raw": raw,
            "event_id": f"{told.call_id}:{kind}{told.digit}:{told.event_time or fingerprint(raw)}",
            "occurred_at": moment(told.event_time),
        }  # fmt: skip
        if kind in STATUSES:
            facts = {name: ours[name] for name in (DIGITS, RECORD) if ours.get(name)}
            facts[CALLBACKS] = request.url.partition("?")[0]
            base["call"] = call_of(told, STATUSES[kind], raw, reference=base["reference"], facts=facts)
        return _EVENTS.get(kind, _unknown)(told, ours, base)


def call_of(told: Message, status: CallStatus, raw: Mapping[str, Any], **known: Any) -> Call:
    """The call as ``told``, and what else is ``known`` of it."""
    cause, over = told.cause or told.disconnect_cause or "", status is CallStatus.ENDED
    return Call(
        id=told.call_id, provider="bandwidth", from_=told.from_, to=told.to, status=status, raw=raw, **known,
        direction=Direction.INBOUND if told.direction == "inbound" else Direction.OUTBOUND,
        reason=end_reason(cause, told.sip_response_code, told.error_message or "") if over else None,
        carrier_status=(cause if over else None) or told.event_type or told.state, sip_code=told.sip_response_code,
        answered_by=ANSWERED_BY.get((told.machine_detection_result or {}).get("value", "")),
        created_at=moment(told.start_time), answered_at=moment(told.answer_time),
        ended_at=moment(told.end_time) if over else None,
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
    [body] = body if isinstance(body, list) else [body]
    told = msgspec.convert(body, Message)
    raw = {name: value for name, value in body.items() if not name.lower().endswith(("username", "password"))}
    begun = CallStatus.RINGING if told.direction == "inbound" else CallStatus.INITIATED
    known = CallStatus.ENDED if told.end_time else CallStatus.ANSWERED if told.answer_time else begun
    return call_of(told, STATES.get(told.state or "queued", known), raw)  # of a state unheard-of the times tell


# --- one event each -------------------------------------------------------------------------------------------------

Ours: TypeAlias = Mapping[str, str]
Base: TypeAlias = dict[str, Any]


def _incoming(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    headers = {**(told.sip_headers or {}), **({"User-to-User": told.uui} if told.uui else {})}
    verified = (told.stir_shaken or {}).get("attestationIndicator") or None
    sent_on_by = (told.diversion or {}).get("origTo") or None
    return events.IncomingCall(verified=verified, forwarded_from=sent_on_by, headers=headers_of(headers), **base)


def _answered(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    return events.InstructionsRequested(purpose=events.InstructionsFor.ANSWERED, **base)


def _machine(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    heard = (told.machine_detection_result or {}).get("value", "")
    who, beep = ANSWERED_BY.get(heard, "unknown"), heard == "tone-detected"
    over = beep or (who == "machine" and GREETED in ours)
    return events.MachineDetected(answered_by=who, greeting_ended=over, beep=beep, **base)


def _transfer(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    status = "answered" if told.event_type == "transferAnswer" else TRANSFERS.get(told.cause or "", "failed")
    return events.TransferProgress(status=status, target_call_id=told.call_id if told.parent_call_id else None, **base)


def _recording(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    status, own = RECORDINGS.get(told.status or "", "failed"), told.recording_id
    return events.RecordingProgress(
        status=status, recording_id=f"{told.call_id}:{own}" if own else None, url=told.media_url,
        duration=seconds(told.duration), channels=told.channels, **base,
    )  # fmt: skip


def _stream(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    status = "failed" if told.cause in ("connection-error", "error") else STREAMS[told.event_type]
    detail = ": ".join(filter(None, (told.cause, told.error_message))) or None
    stream_id = str((told.media_stream or {}).get("id") or "") or None
    return events.StreamProgress(status=status, stream_id=stream_id, detail=detail, **base)


def _unknown(told: Message, ours: Ours, base: Base) -> events.CallEvent:
    return events.UnknownEvent(kind=told.event_type, **base)


_EVENTS: Mapping[str, Callable[[Message, Ours, Base], events.CallEvent]] = {
    "initiate": _incoming,
    "answer": _answered,
    "disconnect": lambda told, ours, base: events.CallProgress(**base),
    "machineDetectionComplete": _machine,
    "dtmf": lambda told, ours, base: events.DigitReported(digit=told.digit, **base),
    "recordingAvailable": _recording,
    **dict.fromkeys(("transferAnswer", "transferComplete", "transferDisconnect"), _transfer),
    **dict.fromkeys(STREAMS, _stream),
}
