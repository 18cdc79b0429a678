"""An outbound call in Twilio's terms. Pure.

The instructions travel with the request, so no answer webhook is needed; detection of machines is asynchronous, so
the callee never waits in silence.
"""

from __future__ import annotations

import math
from typing import Any

from anycarrier.audio import PCMU_8K
from anycarrier.calls import DialRequest, MachineDetection, StreamTarget
from anycarrier_twilio import twiml

LONGEST_PARAMETER = 500
"""Characters of a ``<Parameter>``'s name and value together. https://www.twilio.com/docs/voice/twiml/stream#parameter"""

CALL_EVENTS = ["initiated", "ringing", "answered", "completed"]
RECORDING_EVENTS = ["in-progress", "completed", "absent"]
MACHINE_DETECTION = {MachineDetection.DETECT: "Enable", MachineDetection.WAIT_FOR_BEEP: "DetectMessageEnd"}

WITHHELD = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})
"""What Twilio puts for a caller without a number: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and UNAVAILABLE on a keypad.

Twilio support: "Why am I getting calls from these strange numbers?"
"""


def stream_problem(stream: StreamTarget) -> tuple[str, str] | None:
    """What Twilio cannot do about ``stream``, and why; None when it can do all of it."""
    if stream.format != PCMU_8K:
        return f"streams of {stream.format.encoding} at {stream.format.rate} Hz", "always PCMU at 8000 Hz"
    if "?" in stream.url:
        return "a stream URL with a query", "Twilio drops it; put values in custom"
    if long := [name for name, value in stream.custom.items() if len(name) + len(value) > LONGEST_PARAMETER]:
        return f"custom values over {LONGEST_PARAMETER} characters", f"name and value of {long[0][:40]!r} have more"
    if not all(twiml.fits_xml(name + value) for name, value in stream.custom.items()):
        return "custom values with control characters", "they do not fit into XML"
    return None


def dial_problem(request: DialRequest) -> tuple[str, str] | None:
    """Likewise for a call: what Twilio would drop without a word is refused."""
    if request.digits and request.machine_detection is not MachineDetection.OFF:
        return "digits together with machine detection", "Twilio ignores the detection; press the keys in the call"
    return stream_problem(request.stream)


def dial_fields(request: DialRequest) -> dict[str, Any]:
    """``request`` as keyword arguments of the SDK's ``calls.create``."""
    fields: dict[str, Any] = {
        "to": request.to,
        # Twilio's From *is* the caller id: the number that is shown and must be owned or verified.
        "from_": request.caller_id or request.from_,
        "twiml": twiml.connect_stream(request.stream, status_url=request.status_url),
        "status_callback": request.status_url,
        "status_callback_method": "POST",
        "status_callback_event": CALL_EVENTS,
        "timeout": math.ceil(request.timeout),
    }
    if request.time_limit is not None:
        fields["time_limit"] = math.ceil(request.time_limit)
    if request.digits:
        fields["send_digits"] = request.digits
    if request.machine_detection is not MachineDetection.OFF:
        fields["machine_detection"] = MACHINE_DETECTION[request.machine_detection]
        fields["async_amd"] = "true"
        fields["async_amd_status_callback"] = request.status_url
        fields["async_amd_status_callback_method"] = "POST"
    if request.record:
        fields["record"] = True
        fields |= recording_fields(request.status_url)
    return fields


def recording_fields(status_url: str) -> dict[str, Any]:
    """Both sides, each on a channel of its own, and word of it to ``status_url`` where there is one."""
    fields: dict[str, Any] = {"recording_channels": "dual"}
    if status_url:
        fields["recording_status_callback"] = status_url
        fields["recording_status_callback_method"] = "POST"
        fields["recording_status_callback_event"] = RECORDING_EVENTS
    return fields
