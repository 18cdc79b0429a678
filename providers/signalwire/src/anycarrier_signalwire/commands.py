"""What SignalWire is asked to do with a call: cXML documents, and the form of a dialled call. Pure.

cXML is TwiML with a few attributes more, so most of it is made where TwiML is. A dialled call asks for its cXML at a
URL of ours when it is answered: whether it takes any along is in no document.
https://developer.signalwire.com/compatibility-api/rest/create-a-call
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anycarrier.calls import DialRequest, MachineDetection, StreamTarget
from anycarrier.errors import UnsupportedOperation
from anycarrier.events import InstructionsFor
from anycarrier.markup import element, fits_xml
from anycarrier.rest import given
from anycarrier_signalwire.wire import instructions_url
from anycarrier_twilio.commands import header_problem, response

WIDEBAND = {(name, rate, 1): f"L16@{rate}h" for name in ("L16", "PCM16") for rate in (16000, 24000)}
CODECS = {("PCMU", 8000, 1): None, **WIDEBAND}
"""Our formats -> ``<Stream codec>``; none where it is the default."""

Unsupported = Callable[[str, str], UnsupportedOperation]
CALL_EVENTS = ["initiated", "ringing", "answered", "completed"]
RECORDING_EVENTS = "in-progress completed absent"
MACHINE_DETECTION = {MachineDetection.DETECT: "Enable", MachineDetection.WAIT_FOR_BEEP: "DetectMessageEnd"}
KEYS_ON_ANSWER = frozenset("0123456789#*wW")


def connect_stream(stream: StreamTarget, *, status_url: str = "") -> str:
    """Answer, and connect the audio to ``stream`` both ways. Nothing follows, so the call ends with its stream."""
    codec = CODECS.get((stream.format.encoding, stream.format.rate, stream.format.channels))
    parameters = [element("Parameter", {"name": name, "value": value}) for name, value in stream.custom.items()]
    attributes = {"url": stream.url, "codec": codec, "statusCallback": status_url or None}
    return response(element("Connect", {}, element("Stream", attributes, *parameters)))


def check_stream(stream: StreamTarget, unsupported: Unsupported) -> None:
    """Raise for what SignalWire cannot do about ``stream``."""
    form = stream.format
    if (form.encoding, form.rate, form.channels) not in CODECS:
        able = "PCMU at 8000 Hz, linear PCM at 16000 or 24000 Hz"
        raise unsupported(f"streams of {form.encoding} at {form.rate} Hz", able)
    if "?" in stream.url:
        raise unsupported("a stream URL with a query", "SignalWire does not take one; put values in custom")
    if not all(fits_xml(name + value) for name, value in stream.custom.items()):
        raise unsupported("custom values with control characters", "they do not fit into XML")


def dial_fields(request: DialRequest, unsupported: Unsupported) -> dict[str, Any]:
    """``request`` as a form; raises for what SignalWire cannot do about it."""
    if request.time_limit is not None:
        raise unsupported("dial", "time_limit: SignalWire has no limit for a call, hang it up instead")
    if not KEYS_ON_ANSWER.issuperset(request.digits or ""):
        raise unsupported("dial", "digits A to D on answer; press them in the call")
    if problem := header_problem(request.to, request.headers):
        raise unsupported(*problem)
    check_stream(request.stream, unsupported)
    fields: dict[str, Any] = {
        "To": request.to,
        "From": request.from_,
        "CallerId": request.caller_id,
        "Url": instructions_url(request.status_url, InstructionsFor.ANSWERED),
        "Method": "POST",
        "StatusCallback": request.status_url,
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": CALL_EVENTS,
        "Timeout": math.ceil(request.timeout),
        "SendDigits": request.digits,
    }
    if request.machine_detection is not MachineDetection.OFF:
        fields["MachineDetection"] = MACHINE_DETECTION[request.machine_detection]
        fields |= {"AsyncAmd": "true", "AsyncAmdStatusCallback": request.status_url}
        fields["AsyncAmdStatusCallbackMethod"] = "POST"
    if request.record:
        fields |= {"Record": "true", **recording_fields(request.status_url)}
    return given(fields)


def recording_fields(status_url: str) -> dict[str, Any]:
    """Both sides, each on a channel of its own, uncut, and word of it to ``status_url`` where there is one."""
    fields = {"RecordingChannels": "dual", "Trim": "do-not-trim"}
    told = {"Method": "POST", "Event": RECORDING_EVENTS, "": status_url} if status_url else {}
    return fields | {f"RecordingStatusCallback{name}": value for name, value in told.items()}
