"""What SignalWire is asked to do with a call: cXML documents, and the form of a dialled call. Pure.

cXML is TwiML with a few attributes more, so most of it is made where TwiML is. A dialled call asks for its cXML at a
URL of ours when it is answered: whether it takes any along is in no document.
https://developer.signalwire.com/compatibility-api/rest/create-a-call
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode
from xml.sax.saxutils import quoteattr

from anycarrier.calls import DialRequest, MachineDetection, StreamTarget
from anycarrier.events import InstructionsFor
from anycarrier.markup import fits_xml
from anycarrier_signalwire.wire import instructions_url
from anycarrier_twilio.commands import header_problem

WIDEBAND = {(name, rate): f"L16@{rate}h" for name in ("L16", "PCM16") for rate in (16000, 24000)}
CODECS = {("PCMU", 8000): "", **WIDEBAND}
"""Our formats -> ``<Stream codec>``; none where it is the default."""

CALL_EVENTS = ["initiated", "ringing", "answered", "completed"]
RECORDING_EVENTS = "in-progress completed absent"
MACHINE_DETECTION = {MachineDetection.DETECT: "Enable", MachineDetection.WAIT_FOR_BEEP: "DetectMessageEnd"}
KEYS_ON_ANSWER = frozenset("0123456789#*wW")


def connect_stream(stream: StreamTarget, *, status_url: str = "") -> str:
    """Answer, and connect the audio to ``stream`` both ways. Nothing follows, so the call ends with its stream."""
    codec = CODECS.get((stream.format.encoding, stream.format.rate), "")
    attributes = {"url": stream.url, "codec": codec, "statusCallback": status_url}
    parameters = "".join(
        f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>" for name, value in stream.custom.items()
    )
    head = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value)
    inner = f"<Connect><Stream{head}>{parameters}</Stream></Connect>"
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{inner}</Response>'


def stream_problem(stream: StreamTarget) -> tuple[str, str] | None:
    """What SignalWire cannot do about ``stream``, and why; None when it can do all of it."""
    form = stream.format
    if (form.encoding, form.rate) not in CODECS or form.channels != 1:
        return f"streams of {form.encoding} at {form.rate} Hz", "PCMU at 8000 Hz, linear PCM at 16000 or 24000 Hz"
    if "?" in stream.url:
        return "a stream URL with a query", "SignalWire does not take one; put values in custom"
    if not all(fits_xml(name + value) for name, value in stream.custom.items()):
        return "custom values with control characters", "they do not fit into XML"
    return None


def dial_problem(request: DialRequest) -> tuple[str, str] | None:
    """Likewise for a call."""
    if request.time_limit is not None:
        return "dial", "time_limit: SignalWire has no limit for a call, hang it up instead"
    if not KEYS_ON_ANSWER.issuperset(request.digits or ""):
        return "dial", "digits A to D on answer; press them in the call"
    return header_problem(request.to, request.headers) or stream_problem(request.stream)


def dial_fields(request: DialRequest) -> dict[str, Any]:
    """``request`` as a form."""
    fields: dict[str, Any] = {
        "To": request.to,
        "From": request.from_,
        "Url": instructions_url(request.status_url, InstructionsFor.ANSWERED),
        "Method": "POST",
        "StatusCallback": request.status_url,
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": CALL_EVENTS,
        "Timeout": math.ceil(request.timeout),
    }
    if request.caller_id:
        fields["CallerId"] = request.caller_id
    if request.digits:
        fields["SendDigits"] = request.digits
    if request.machine_detection is not MachineDetection.OFF:
        fields["MachineDetection"] = MACHINE_DETECTION[request.machine_detection]
        fields["AsyncAmd"] = "true"
        fields["AsyncAmdStatusCallback"] = request.status_url
        fields["AsyncAmdStatusCallbackMethod"] = "POST"
    if request.record:
        fields["Record"] = "true"
        fields |= recording_fields(request.status_url)
    return fields


def recording_fields(status_url: str) -> dict[str, Any]:
    """Both sides, each on a channel of its own, uncut, and word of it to ``status_url`` where there is one."""
    fields = {"RecordingChannels": "dual", "Trim": "do-not-trim"}
    if status_url:
        fields["RecordingStatusCallback"] = status_url
        fields["RecordingStatusCallbackMethod"] = "POST"
        fields["RecordingStatusCallbackEvent"] = RECORDING_EVENTS
    return fields


def with_headers(to: str, headers: Mapping[str, str] | None) -> str:
    """A SIP address with the headers of its call."""
    return to + ("&" if "?" in to else "?") + urlencode(headers, quote_via=quote) if headers else to
