"""Twilio's webhooks into call events: a form in, one event out. Pure.

All kinds arrive at one URL and carry no type, so they are told apart by their fields: ``RecordingStatus`` is a
recording's, ``StreamEvent`` a stream's, ``DialCallStatus`` the result of a ``<Dial>``; ``AnsweredBy`` without
``CallbackSource`` is the machine detector's; ``CallbackSource`` marks the progress of a call; and what is left
with ``CallStatus=ringing`` and ``Direction=inbound`` asks us what to do with a ringing call.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from anycarrier.calls import Call, CallStatus
from anycarrier.errors import MalformedMessage
from anycarrier.events import (
    CallEvent,
    CallProgress,
    DigitReported,
    IncomingCall,
    MachineDetected,
    RecordingProgress,
    StreamProgress,
    TransferProgress,
    UnknownEvent,
)
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio.call_status import ANSWERED_BY, PROVIDER, STATUSES, direction, end_reason, moment, seconds

REFERENCE = "ref"
"""Query parameter of the status URL in which our own call id travels."""

Form = Mapping[str, str]
STREAM_STATUSES = {"stream-started": "started", "stream-stopped": "stopped", "stream-error": "failed"}
RECORDING_STATUSES = {s: s.replace("-", "_") for s in ("in-progress", "completed", "absent", "failed")}
TRANSFER_STATUSES = {
    s: s.replace("-", "_") for s in ("answered", "completed", "busy", "no-answer", "failed", "canceled")
}
SIP_HEADER = "SipHeader_"  # https://www.twilio.com/docs/voice/api/sip-twiml
ATTESTATION = re.compile(r"TN-Validation-Passed-([ABC])(?![A-Za-z])")


def parse(request: WebhookRequest) -> CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    form, reference = _read(request)
    if form is None:
        return _json(request, reference)
    if not form:
        raise MalformedMessage("an empty form", request.body)
    for field, read in _READERS:
        if field in form:
            return read(form, reference)
    return _unknown(form, reference)


def _read(request: WebhookRequest) -> tuple[dict[str, str] | None, str]:
    """Twilio's own fields (None for a JSON body), and our reference out of the URL; a GET mixes the two."""
    try:
        query = request.query()
        is_json = request.method.upper() != "GET" and "json" in (request.header("content-type") or "").lower()
        form = None if is_json else request.form()
    except ValueError as problem:  # more fields than any webhook has, or a URL that is none
        raise MalformedMessage(f"the form cannot be read: {problem}", request.body) from None
    if form is not None and request.method.upper() == "GET":
        form.pop(REFERENCE, None)
    return form, query.get(REFERENCE, "")


def _json(request: WebhookRequest, reference: str) -> CallEvent:
    """No call webhook of Twilio's is JSON; whatever it is, it is passed on whole."""
    body = request.json()
    digest = hashlib.sha256(request.body).hexdigest()[:16]
    return UnknownEvent(reference=reference, event_id=f":unknown:{digest}", kind=str(body.get("type", "")), raw=body)


# --- one reader per kind -------------------------------------------------------------------------------------------


def _recording(form: Form, reference: str) -> CallEvent:
    status = RECORDING_STATUSES.get(form["RecordingStatus"])
    if status is None:
        return _unknown(form, reference, f"recording-{form['RecordingStatus']}")
    recording = form.get("RecordingSid", "")
    return RecordingProgress(
        **_base(form, reference, f"recording-{recording}", status),
        status=status,
        recording_id=recording or None,
        url=form.get("RecordingUrl") or None,
        duration=seconds(form.get("RecordingDuration")),
        channels=_integer(form.get("RecordingChannels")),
    )


def _stream(form: Form, reference: str) -> CallEvent:
    status = STREAM_STATUSES.get(form["StreamEvent"])
    if status is None:
        return _unknown(form, reference, form["StreamEvent"])
    stream = form.get("StreamSid", "")
    return StreamProgress(
        # A stream can fail more than once; its own time tells the failures apart.
        **_base(form, reference, f"stream-{stream}", f"{status}-{form.get('Timestamp', '')}"),
        status=status,
        stream_id=stream or None,
        detail=form.get("StreamError") or None,
    )


def _dial_result(form: Form, reference: str) -> CallEvent:
    status = TRANSFER_STATUSES.get(form["DialCallStatus"])
    if status is None:
        return _unknown(form, reference, f"dial-{form['DialCallStatus']}")
    gone = STATUSES.get(form.get("CallStatus", "")) is CallStatus.ENDED
    unconnected = form.get("DialBridged") == "false" if status == "completed" else status != "answered" and gone
    if unconnected:
        status = "canceled"  # the caller did not wait; a target that merely fails leaves the call in progress
    target = form.get("DialCallSid") or None
    return TransferProgress(
        **_base(form, reference, f"dial-{target or ''}", status), status=status, target_call_id=target
    )


def _call(form: Form, reference: str) -> CallEvent:
    if not form.get("CallSid"):
        raise MalformedMessage("a call's webhook without CallSid", repr(sorted(form)))
    if form["CallStatus"] not in STATUSES:
        return _unknown(form, reference, f"call-{form['CallStatus']}")
    if "CallbackSource" in form:
        return _progress(form, reference)
    if "AnsweredBy" in form and STATUSES[form["CallStatus"]] is CallStatus.ANSWERED:
        return _machine(form, reference)
    if form.get("Digits") and "RecordingSid" not in form:  # a <Record> verb reports "hangup" as its digits
        return _digits(form, reference)
    if form["CallStatus"] == "ringing" and form.get("Direction") == "inbound":
        return _incoming(form, reference)
    return _progress(form, reference)


def _incoming(form: Form, reference: str) -> CallEvent:
    attested = ATTESTATION.match(form.get("StirVerstat", ""))
    return IncomingCall(
        **_base(form, reference, "incoming", "ringing"),
        call=_snapshot(form, reference),
        verified=attested.group(1) if attested else None,
        forwarded_from=form.get("ForwardedFrom") or None,
        headers=headers_of({name.removeprefix(SIP_HEADER): form[name] for name in form if name.startswith(SIP_HEADER)}),
    )


def _progress(form: Form, reference: str) -> CallEvent:
    step = form.get("SequenceNumber") or form["CallStatus"]
    if form.get("ParentCallSid"):
        return _far_leg(form, reference, step)
    return CallProgress(**_base(form, reference, "status", step), call=_snapshot(form, reference))


def _far_leg(form: Form, reference: str, step: str) -> CallEvent:
    """The leg a ``<Dial>`` rang: to us it is the parent call being handed on, and its ringing is nobody's state."""
    answered = STATUSES[form["CallStatus"]] is CallStatus.ANSWERED
    status = "answered" if answered else TRANSFER_STATUSES.get(form["CallStatus"])
    if status is None:
        return _unknown(form, reference, f"leg-{form['CallStatus']}")
    return TransferProgress(
        **{**_base(form, reference, f"leg-{form.get('CallSid', '')}", step), "call_id": form["ParentCallSid"]},
        status=status,
        target_call_id=form.get("CallSid") or None,
    )


def _machine(form: Form, reference: str) -> CallEvent:
    word = form["AnsweredBy"]
    if word not in ANSWERED_BY:
        return _unknown(form, reference, f"answered-by-{word}")
    return MachineDetected(
        **_base(form, reference, "amd", word),
        answered_by=ANSWERED_BY[word],
        greeting_ended=word.startswith("machine_end"),
        beep=word == "machine_end_beep",
    )


def _digits(form: Form, reference: str) -> CallEvent:
    # Nothing numbers key presses; equal forms of one call are one event, which is all a record needs.
    return DigitReported(**_base(form, reference, "digits", _digest(form)), digit=form["Digits"])


def _unknown(form: Form, reference: str, kind: str = "") -> CallEvent:
    return UnknownEvent(
        **_base(form, reference, "unknown", _digest(form)), kind=kind or form.get("CallbackSource", "")
    )


def _transcription(form: Form, reference: str) -> CallEvent:
    """What ``<Record transcribe>`` heard. It carries a CallStatus, and is no progress of the call."""
    return _unknown(form, reference, f"transcription-{form['TranscriptionStatus']}")


# The first field found decides; a recording's or a stream's callback may carry a CallStatus as well.
_READERS: tuple[tuple[str, Callable[[Form, str], CallEvent]], ...] = (
    ("RecordingStatus", _recording),
    ("TranscriptionStatus", _transcription),
    ("StreamEvent", _stream),
    ("DialCallStatus", _dial_result),
    ("CallStatus", _call),
    ("AnsweredBy", _machine),
    ("Digits", _digits),
)


# --- the parts ------------------------------------------------------------------------------------------------------


def _base(form: Form, reference: str, kind: str, step: str) -> dict[str, Any]:
    call_id = form.get("CallSid", "")
    return {
        "call_id": call_id,
        "reference": reference,
        "event_id": f"{call_id}:{kind}:{step}",
        "occurred_at": moment(form.get("Timestamp")),
        "sequence": _integer(form.get("SequenceNumber")),
        "raw": form,
    }


def _snapshot(form: Form, reference: str) -> Call:
    word = form["CallStatus"]
    status = STATUSES[word]
    sip_code = _integer(form.get("SipResponseCode"))
    at = moment(form.get("Timestamp"))
    talked = seconds(form.get("CallDuration"))
    answered_at = at if status is CallStatus.ANSWERED else None
    if word == "completed" and at:  # Twilio's word for "answered and over", also when it lasted 0 whole seconds
        answered_at = at - timedelta(seconds=talked or 0)
    return Call(
        id=form.get("CallSid", ""),
        provider=PROVIDER,
        direction=direction(form.get("Direction", "inbound")),
        from_=form.get("From", ""),
        to=form.get("To", ""),
        status=status,
        reference=reference,
        reason=end_reason(word, sip_code),
        carrier_status=word,
        sip_code=sip_code,
        answered_by=ANSWERED_BY.get(form.get("AnsweredBy", "")),
        answered_at=answered_at,
        ended_at=at if status is CallStatus.ENDED else None,
        raw=form,
    )


def _digest(form: Form) -> str:
    return hashlib.sha256(repr(sorted(form.items())).encode("utf-8", "replace")).hexdigest()[:16]


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 9 else None
