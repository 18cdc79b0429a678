"""Twilio's webhooks into call events: a form in, one event out. Pure.

All kinds arrive at one URL and carry no type, so they are told apart by their fields (``_READERS``). Of those with a
``CallStatus``, ``CallbackSource`` marks the progress of a call; ``AnsweredBy`` without it is the machine detector's,
and what is left with ``CallStatus=ringing`` and ``Direction=inbound`` asks us what to do with a ringing call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

from anycarrier import events
from anycarrier.calls import Call, CallStatus
from anycarrier.errors import MalformedMessage
from anycarrier.events import CallEvent
from anycarrier.parsing import fingerprint, integer, moment, seconds, sip_code
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio.call_status import ANSWERED_BY, PROVIDER, REASONS, STATUSES, read_call

REFERENCE = "ref"  # query parameter of the status URL in which our own call id travels
SIP_HEADER = "SipHeader_"  # https://www.twilio.com/docs/voice/api/sip-twiml
ATTESTATION = re.compile(r"TN-Validation-Passed-([ABC])(?![A-Za-z])")

STREAM_STATUSES = {"stream-started": "started", "stream-stopped": "stopped", "stream-error": "failed"}
RECORDING_STATUSES = {s: s.replace("-", "_") for s in ("in-progress", "completed", "absent", "failed")}
TRANSFER_STATUSES = {s: s.replace("-", "_") for s in ("answered", *REASONS)}
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
        body, made_up = request.json(), f":unknown:{fingerprint(request.body)}"
        return events.UnknownEvent(reference=reference, event_id=made_up, kind=str(body.get("type", "")), raw=body)
    if asked:  # then our query and Twilio's fields are one
        form.pop(REFERENCE, None)
    if not form:
        raise MalformedMessage("an empty form", request.body)
    field = next((field for field in _READERS if field in form), "")
    webhook = _Webhook(form, reference, provider)
    return webhook.read(field) if field else webhook.unknown()


class _Webhook:
    """One form, and a reader for each kind of them."""

    def __init__(self, form: Mapping[str, str], reference: str, provider: str) -> None:
        self.form = form
        self.get = form.get
        self.reference = reference
        self.provider = provider

    def read(self, field: str) -> CallEvent:
        words, kind, reader = _READERS[field]
        word = self.form[field]
        return reader(self, word) if words is None or word in words else self.unknown(f"{kind}{word}")

    def recording(self, word: str) -> CallEvent:
        recording = self.get("RecordingSid", "")
        return events.RecordingProgress(
            **self.base(f"recording-{recording}", RECORDING_STATUSES[word]),
            status=RECORDING_STATUSES[word],
            recording_id=recording or None,
            url=self.get("RecordingUrl") or None,
            duration=seconds(self.get("RecordingDuration")),
            channels=integer(self.get("RecordingChannels")),
        )

    def stream(self, word: str) -> CallEvent:
        status, stream = STREAM_STATUSES[word], self.get("StreamSid", "")
        # A stream can fail more than once; its own time tells the failures apart.
        base = self.base(f"stream-{stream}", f"{status}-{self.get('Timestamp', '')}")
        detail = self.get("StreamError") or None
        return events.StreamProgress(**base, status=status, stream_id=stream or None, detail=detail)

    def dial_result(self, word: str) -> CallEvent:
        gone, target = self.get("CallStatus") in REASONS, self.get("DialCallSid", "")
        unconnected = self.get("DialBridged") == "false" if word == "completed" else word != "answered" and gone
        # The caller did not wait; a target that merely fails leaves the call in progress.
        status = "canceled" if unconnected else TRANSFER_STATUSES[word]
        base = self.base(f"dial-{target}", status)
        return events.TransferProgress(**base, status=status, target_call_id=target or None)

    def call(self, word: str) -> CallEvent:
        if not self.get("CallSid"):
            raise MalformedMessage("a call's webhook without CallSid", repr(sorted(self.form)))
        if "CallbackSource" not in self.form:
            if "AnsweredBy" in self.form and STATUSES[word] is CallStatus.ANSWERED:
                return self.read("AnsweredBy")
            if self.get("Digits") and "RecordingSid" not in self.form:  # a <Record> verb reports "hangup" as its digits
                return self.read("Digits")
            if word == "ringing" and self.get("Direction") == "inbound":
                return self.incoming()
        step = self.get("SequenceNumber") or word
        if self.get("ParentCallSid"):
            return self.far_leg(word, step)
        return events.CallProgress(**self.base("status", step), call=self.snapshot())

    def incoming(self) -> CallEvent:
        attested = ATTESTATION.match(self.get("StirVerstat", ""))
        headers = {name.removeprefix(SIP_HEADER): self.form[name] for name in self.form if name.startswith(SIP_HEADER)}
        return events.IncomingCall(
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
        return events.TransferProgress(**base, status=LEG_STATUSES[word], target_call_id=self.form["CallSid"])

    def machine(self, word: str) -> CallEvent:
        ended, beep = word.startswith("machine_end"), word == "machine_end_beep"
        base = self.base("amd", word)
        return events.MachineDetected(**base, answered_by=ANSWERED_BY[word], greeting_ended=ended, beep=beep)

    def digits(self, keys: str) -> CallEvent:
        # Nothing numbers key presses; equal forms of one call are one event, which is all a record needs.
        return events.DigitReported(**self.base("digits", fingerprint(self.form)), digit=keys)

    def unknown(self, kind: str = "") -> CallEvent:
        base = self.base("unknown", fingerprint(self.form))
        return events.UnknownEvent(**base, kind=kind or self.get("CallbackSource", ""))

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
            sip=sip_code(self.get("SipResponseCode") or self.get("SipResultCode")),
            id=self.form["CallSid"],
            provider=self.provider,
            from_=self.get("From", ""),
            to=self.get("To", ""),
            reference=self.reference,
            answered_by=ANSWERED_BY.get(self.get("AnsweredBy", "")),
            raw=self.form,
        )


# Field -> (words we know, before an unknown one, reader). The first that is there decides: a recording's or a stream's
# callback may carry a CallStatus as well, and what <Record transcribe> heard is no progress of the call.
_READERS: Mapping[str, tuple[Container[str] | None, str, Callable[[_Webhook, str], CallEvent]]] = {
    "RecordingStatus": (RECORDING_STATUSES, "recording-", _Webhook.recording),
    "TranscriptionStatus": ((), "transcription-", _Webhook.unknown),
    "StreamEvent": (STREAM_STATUSES, "", _Webhook.stream),
    "DialCallStatus": (TRANSFER_STATUSES, "dial-", _Webhook.dial_result),
    "CallStatus": (STATUSES, "call-", _Webhook.call),
    "AnsweredBy": (ANSWERED_BY, "answered-by-", _Webhook.machine),
    "Digits": (None, "", _Webhook.digits),
}
