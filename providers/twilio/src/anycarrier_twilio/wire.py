"""Twilio's webhooks into call events: a form in, one event out. Pure.

All kinds arrive at one URL and carry no type, so they are told apart by their fields: ``RecordingStatus`` is a
recording's, ``StreamEvent`` a stream's, ``DialCallStatus`` the result of a ``<Dial>``; ``AnsweredBy`` without
``CallbackSource`` is the machine detector's; ``CallbackSource`` marks the progress of a call; and what is left
with ``CallStatus=ringing`` and ``Direction=inbound`` asks us what to do with a ringing call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
from anycarrier.parsing import fingerprint, integer, moment, seconds, sip_code
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio.call_status import ANSWERED_BY, PROVIDER, STATUSES, read_call

REFERENCE = "ref"
"""Query parameter of the status URL in which our own call id travels."""

SIP_HEADER = "SipHeader_"  # https://www.twilio.com/docs/voice/api/sip-twiml
ATTESTATION = re.compile(r"TN-Validation-Passed-([ABC])(?![A-Za-z])")

STREAM_STATUSES = {"stream-started": "started", "stream-stopped": "stopped", "stream-error": "failed"}
RECORDING_STATUSES = {s: s.replace("-", "_") for s in ("in-progress", "completed", "absent", "failed")}
TRANSFER_STATUSES = {
    s: s.replace("-", "_") for s in ("answered", "completed", "busy", "no-answer", "failed", "canceled")
}
LEG_STATUSES = {**TRANSFER_STATUSES, "in-progress": "answered"}


def parse(request: WebhookRequest, provider: str = PROVIDER) -> CallEvent:
    """The event in a verified webhook; what has no name here is an ``UnknownEvent``."""
    asked = request.method.upper() == "GET"
    try:
        reference = request.query().get(REFERENCE, "")
        is_json = not asked and "json" in (request.header("content-type") or "").lower()
        form = {} if is_json else request.form()
    except ValueError as problem:  # more fields than any webhook has, or a URL that is none
        raise MalformedMessage(f"the form cannot be read: {problem}", request.body) from None
    if is_json:  # no call webhook of Twilio's is; whatever it is, it is passed on whole
        body = request.json()
        made_up = f":unknown:{fingerprint(request.body)}"
        return UnknownEvent(reference=reference, event_id=made_up, kind=str(body.get("type", "")), raw=body)
    if asked:  # then our query and Twilio's fields are one
        form.pop(REFERENCE, None)
    if not form:
        raise MalformedMessage("an empty form", request.body)
    return _Webhook(form, reference, provider).event()


class _Webhook:
    """One form, and a reader for each kind of them."""

    def __init__(self, form: Mapping[str, str], reference: str, provider: str) -> None:
        self.form = form
        self.get = form.get
        self.reference = reference
        self.provider = provider

    def event(self) -> CallEvent:
        """By the first field that is there: a recording's or a stream's callback may carry a CallStatus as well."""
        readers = {
            "RecordingStatus": self.recording,
            # What <Record transcribe> heard. It carries a CallStatus, and is no progress of the call.
            "TranscriptionStatus": lambda: self.unknown(f"transcription-{self.form['TranscriptionStatus']}"),
            "StreamEvent": self.stream,
            "DialCallStatus": self.dial_result,
            "CallStatus": self.call,
            "AnsweredBy": self.machine,
            "Digits": self.digits,
        }
        return next((read() for field, read in readers.items() if field in self.form), None) or self.unknown()

    def recording(self) -> CallEvent:
        word, recording = self.form["RecordingStatus"], self.get("RecordingSid", "")
        if word not in RECORDING_STATUSES:
            return self.unknown(f"recording-{word}")
        return RecordingProgress(
            **self.base(f"recording-{recording}", RECORDING_STATUSES[word]),
            status=RECORDING_STATUSES[word],
            recording_id=recording or None,
            url=self.get("RecordingUrl") or None,
            duration=seconds(self.get("RecordingDuration")),
            channels=integer(self.get("RecordingChannels")),
        )

    def stream(self) -> CallEvent:
        word, stream = self.form["StreamEvent"], self.get("StreamSid", "")
        if word not in STREAM_STATUSES:
            return self.unknown(word)
        status = STREAM_STATUSES[word]
        # A stream can fail more than once; its own time tells the failures apart.
        base = self.base(f"stream-{stream}", f"{status}-{self.get('Timestamp', '')}")
        return StreamProgress(**base, status=status, stream_id=stream or None, detail=self.get("StreamError") or None)

    def dial_result(self) -> CallEvent:
        word, target = self.form["DialCallStatus"], self.get("DialCallSid", "")
        if word not in TRANSFER_STATUSES:
            return self.unknown(f"dial-{word}")
        gone = STATUSES.get(self.get("CallStatus", "")) is CallStatus.ENDED
        unconnected = self.get("DialBridged") == "false" if word == "completed" else word != "answered" and gone
        # The caller did not wait; a target that merely fails leaves the call in progress.
        status = "canceled" if unconnected else TRANSFER_STATUSES[word]
        return TransferProgress(**self.base(f"dial-{target}", status), status=status, target_call_id=target or None)

    def call(self) -> CallEvent:
        word = self.form["CallStatus"]
        if not self.get("CallSid"):
            raise MalformedMessage("a call's webhook without CallSid", repr(sorted(self.form)))
        if word not in STATUSES:
            return self.unknown(f"call-{word}")
        if "CallbackSource" not in self.form:
            if "AnsweredBy" in self.form and STATUSES[word] is CallStatus.ANSWERED:
                return self.machine()
            if self.get("Digits") and "RecordingSid" not in self.form:  # a <Record> verb reports "hangup" as its digits
                return self.digits()
            if word == "ringing" and self.get("Direction") == "inbound":
                return self.incoming()
        step = self.get("SequenceNumber") or word
        if self.get("ParentCallSid"):
            return self.far_leg(word, step)
        return CallProgress(**self.base("status", step), call=self.snapshot())

    def incoming(self) -> CallEvent:
        attested = ATTESTATION.match(self.get("StirVerstat", ""))
        headers = {name.removeprefix(SIP_HEADER): self.form[name] for name in self.form if name.startswith(SIP_HEADER)}
        return IncomingCall(
            **self.base("incoming", "ringing"),
            call=self.snapshot(),
            verified=attested.group(1) if attested else None,
            forwarded_from=self.get("ForwardedFrom") or None,
            headers=headers_of(headers),
        )

    def far_leg(self, word: str, step: str) -> CallEvent:
        """The leg a ``<Dial>`` rang: to us it is the parent call being handed on, and its ringing is nobody's state."""
        if word not in LEG_STATUSES:
            return self.unknown(f"leg-{word}")
        base = {**self.base(f"leg-{self.form['CallSid']}", step), "call_id": self.form["ParentCallSid"]}
        return TransferProgress(**base, status=LEG_STATUSES[word], target_call_id=self.form["CallSid"])

    def machine(self) -> CallEvent:
        word = self.form["AnsweredBy"]
        if word not in ANSWERED_BY:
            return self.unknown(f"answered-by-{word}")
        return MachineDetected(
            **self.base("amd", word),
            answered_by=ANSWERED_BY[word],
            greeting_ended=word.startswith("machine_end"),
            beep=word == "machine_end_beep",
        )

    def digits(self) -> CallEvent:
        # Nothing numbers key presses; equal forms of one call are one event, which is all a record needs.
        return DigitReported(**self.base("digits", fingerprint(self.form)), digit=self.form["Digits"])

    def unknown(self, kind: str = "") -> CallEvent:
        return UnknownEvent(**self.base("unknown", fingerprint(self.form)), kind=kind or self.get("CallbackSource", ""))

    def base(self, kind: str, step: str) -> dict[str, Any]:
        call_id = self.get("CallSid", "")
        return {
            "call_id": call_id,
            "reference": self.reference,
            "event_id": f"{call_id}:{kind}:{step}",
            "occurred_at": moment(self.get("Timestamp")),
            "sequence": integer(self.get("SequenceNumber")),
            "raw": self.form,
        }

    def snapshot(self) -> Call:
        return read_call(
            self.form["CallStatus"],
            direction=self.get("Direction", "inbound"),
            at=moment(self.get("Timestamp")),
            talked=self.get("CallDuration"),
            sip_code=sip_code(self.get("SipResponseCode") or self.get("SipResultCode")),
            id=self.form["CallSid"],
            provider=self.provider,
            from_=self.get("From", ""),
            to=self.get("To", ""),
            reference=self.reference,
            answered_by=ANSWERED_BY.get(self.get("AnsweredBy", "")),
            raw=self.form,
        )
