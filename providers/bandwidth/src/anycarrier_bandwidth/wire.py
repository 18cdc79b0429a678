"""Bandwidth's webhooks and call resources into call events: JSON in, one event out. Pure.

Nothing numbers the events or gives them ids: call, kind and time together tell a redelivery. What we need again comes
back in the query of our own URLs: our reference, keys to press on answer, whether to record, if a greeting is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, reason_of_sip
from anycarrier.errors import MalformedMessage
from anycarrier.parsing import fingerprint, integer, moment, seconds, sip_code
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


Ours: TypeAlias = Mapping[str, str]
Base: TypeAlias = dict[str, Any]
Told: TypeAlias = Mapping[str, Any]
"""A webhook, or a call resource. Only call and kind must be there: nothing else is worth losing an event for."""


def text(told: Any, name: str) -> str:
    """A text of ``told``; "" for anything else."""
    value = told.get(name) if isinstance(told, Mapping) else None
    return value if isinstance(value, str) else ""


def fields_of(request: WebhookRequest) -> dict[str, Any]:
    """What a webhook says: JSON, or the query of a GET."""
    return dict(request.query()) if request.method == "GET" else request.json()


def parse(request: WebhookRequest) -> events.CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    told, ours = fields_of(request), request.query()
    kind, call_id, digit = text(told, "eventType"), text(told, "callId"), text(told, "digit")
    if not kind or not call_id or (kind == "dtmf" and not digit):
        raise MalformedMessage("a bandwidth webhook without eventType, callId or digit", request.body)
    base: Base = {
        # A transfer's target is a leg of its own; its news are of the call that was transferred.
        "call_id": text(told, "parentCallId") or call_id, "reference": ours.get("ref", ""), "raw": told,
        "event_id": f"{call_id}:{kind}{digit}:{text(told, 'eventTime') or fingerprint(told)}",
        "occurred_at": moment(told.get("eventTime")),
    }  # fmt: skip
    if kind in STATUSES:
        facts = {name: ours[name] for name in (DIGITS, RECORD) if ours.get(name)}
        facts[CALLBACKS] = request.url.partition("?")[0]
        base["call"] = call_of(told, STATUSES[kind], told, reference=base["reference"], facts=facts)
    return _EVENTS[kind](told, ours, base) if kind in _EVENTS else events.UnknownEvent(kind=kind, **base)


def call_of(told: Told, status: CallStatus, raw: Told, **known: Any) -> Call:
    """The call as ``told``, and what else is ``known`` of it."""
    cause, over = text(told, "cause") or text(told, "disconnectCause"), status is CallStatus.ENDED
    code = sip_code(told.get("sipResponseCode"))
    return Call(
        id=told["callId"], provider="bandwidth", from_=text(told, "from"), to=text(told, "to"), status=status, raw=raw,
        direction=Direction.INBOUND if told.get("direction") == "inbound" else Direction.OUTBOUND,
        reason=end_reason(cause, code, text(told, "errorMessage")) if over else None, sip_code=code,
        carrier_status=(cause if over else "") or text(told, "eventType") or text(told, "state") or None,
        answered_by=ANSWERED_BY.get(text(told.get("machineDetectionResult"), "value")),
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
    return call_of(told, STATES.get(text(told, "state") or "queued", known), raw)  # of a new state the times tell


def _incoming(told: Told, ours: Ours, base: Base) -> events.CallEvent:
    came = told.get("sipHeaders") if isinstance(told.get("sipHeaders"), Mapping) else {}
    headers = {name: value for name, value in (came or {}).items() if isinstance(value, str)}
    headers |= {"User-to-User": uui} if (uui := text(told, "uui")) else {}
    verified = text(told.get("stirShaken"), "attestationIndicator") or None
    sent_on_by = text(told.get("diversion"), "origTo") or None
    return events.IncomingCall(verified=verified, forwarded_from=sent_on_by, headers=headers_of(headers), **base)


def _machine(told: Told, ours: Ours, base: Base) -> events.CallEvent:
    heard = text(told.get("machineDetectionResult"), "value")
    who, beep = ANSWERED_BY.get(heard, "unknown"), heard == "tone-detected"
    over = beep or (who == "machine" and GREETED in ours)
    return events.MachineDetected(answered_by=who, greeting_ended=over, beep=beep, **base)


def _transfer(told: Told, ours: Ours, base: Base) -> events.CallEvent:
    over = TRANSFERS.get(text(told, "cause"), "failed")
    status = "answered" if told["eventType"] == "transferAnswer" else over
    target = told["callId"] if text(told, "parentCallId") else None
    return events.TransferProgress(status=status, target_call_id=target, **base)


def _recording(told: Told, ours: Ours, base: Base) -> events.CallEvent:
    status, own = RECORDINGS.get(text(told, "status"), "failed"), text(told, "recordingId")
    base |= {"duration": seconds(told.get("duration")), "channels": integer(told.get("channels"))}
    recording_id, url = f"{told['callId']}:{own}" if own else None, text(told, "mediaUrl") or None
    return events.RecordingProgress(status=status, recording_id=recording_id, url=url, **base)


def _stream(told: Told, ours: Ours, base: Base) -> events.CallEvent:
    cause = text(told, "cause")
    status = "failed" if cause in ("connection-error", "error") else STREAMS[told["eventType"]]
    detail = ": ".join(filter(None, (cause, text(told, "errorMessage")))) or None
    stream_id = text(told.get("mediaStream"), "id") or None
    return events.StreamProgress(status=status, stream_id=stream_id, detail=detail, **base)


_EVENTS: Mapping[str, Callable[[Told, Ours, Base], events.CallEvent]] = {
    "initiate": _incoming,
    "answer": lambda t, o, base: events.InstructionsRequested(purpose=events.InstructionsFor.ANSWERED, **base),
    "disconnect": lambda t, o, base: events.CallProgress(**base),
    "machineDetectionComplete": _machine,
    "dtmf": lambda told, o, base: events.DigitReported(digit=told["digit"], **base),
    "recordingAvailable": _recording,
    **dict.fromkeys(("transferAnswer", "transferComplete", "transferDisconnect"), _transfer),
    **dict.fromkeys(STREAMS, _stream),
}
