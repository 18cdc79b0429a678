"""Instructions to Twilio: TwiML documents, and the parameters of a dialled call. Pure.

The TwiML travels with the dial request, so no answer webhook is needed. Machine detection is asynchronous, so the
callee never waits in silence. https://www.twilio.com/docs/voice/twiml
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from anycarrier.audio import PCMU_8K
from anycarrier.calls import DialRequest, MachineDetection, StreamTarget
from anycarrier.errors import UnsupportedOperation
from anycarrier.markup import Markup, document, element, fits_xml
from anycarrier.rest import given
from anycarrier.sip import is_sip
from anycarrier.webhooks import WebhookReply

LONGEST_HEADERS = 1024  # characters of all headers in a SIP address
LONGEST_PARAMETER = 500
"""Characters of a ``<Parameter>``'s name and value together. https://www.twilio.com/docs/voice/twiml/stream#parameter"""

Unsupported = Callable[[str, str], UnsupportedOperation]
CALL_EVENTS = ["initiated", "ringing", "answered", "completed"]
RECORDING_EVENTS = ["in-progress", "completed", "absent"]
MACHINE_DETECTION = {MachineDetection.DETECT: "Enable", MachineDetection.WAIT_FOR_BEEP: "DetectMessageEnd"}

WITHHELD = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})
"""What Twilio puts for a caller without a number: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN, UNAVAILABLE on a keypad."""


def response(*verbs: Markup) -> str:
    """A TwiML document. Without verbs an answered call ends, unless it is doing something already."""
    return document(element("Response", {}, *verbs))


def reply(markup: str) -> WebhookReply:
    """``markup`` as the answer to a webhook."""
    return WebhookReply(body=markup.encode(), content_type="text/xml")


NOTHING = response()


def connect_stream(stream: StreamTarget, *, status_url: str = "") -> str:
    """Answer, and connect the audio to ``stream`` both ways. Nothing follows, so the call ends with its stream."""
    parameters = [element("Parameter", {"name": name, "value": value}) for name, value in stream.custom.items()]
    noun = element("Stream", {"url": stream.url, "statusCallback": status_url or None}, *parameters)
    return response(element("Connect", {}, noun))


def reject(reason: str) -> str:
    """Decline without answering (and without being billed); ``reason`` is ``busy`` or ``rejected``."""
    return response(element("Reject", {"reason": reason}))


def ring_on() -> str:
    """Neither answer nor decline: a first ``<Pause>`` delays the pick-up, for longer than any caller waits."""
    return response(element("Pause", {"length": 120}), element("Reject", {"reason": "busy"}))


def dial(
    to: str, *, caller_id: str | None = None, status_url: str = "", headers: Mapping[str, str] | None = None
) -> str:
    """Ring ``to``, a number or ``sip:`` address, and connect the two; ``status_url`` learns the outcome.

    ``headers`` travel in the address of a SIP call. https://www.twilio.com/docs/voice/twiml/sip
    """
    noun = "Sip" if is_sip(to) else "Number"
    if headers:
        to += ("&" if "?" in to else "?") + urlencode(headers, quote_via=quote)
    told = {"statusCallback": status_url, "statusCallbackEvent": "answered"} if status_url else {}
    verb = {"callerId": caller_id, "action": status_url or None}
    return response(element("Dial", verb, element(noun, told, to)))


def header_problem(to: str, headers: Mapping[str, str] | None) -> tuple[str, str] | None:
    """What Twilio cannot do about ``headers`` of a call to ``to``, and why; None when it can send them."""
    if headers and not is_sip(to):
        return "headers", "a call to a telephone number carries none"
    if headers and len(urlencode(headers, quote_via=quote)) > LONGEST_HEADERS:
        return f"headers over {LONGEST_HEADERS} characters", "they travel in the SIP address; send fewer"
    return None


def check_stream(stream: StreamTarget, unsupported: Unsupported) -> None:
    """Raise for what Twilio cannot do about ``stream``."""
    if stream.format != PCMU_8K:
        raise unsupported(f"streams of {stream.format.encoding} at {stream.format.rate} Hz", "always PCMU at 8000 Hz")
    if "?" in stream.url:
        raise unsupported("a stream URL with a query", "Twilio drops it; put values in custom")
    for name, value in stream.custom.items():
        if len(name) + len(value) > LONGEST_PARAMETER:
            raise unsupported(f"custom values over {LONGEST_PARAMETER} characters", f"{name[:40]!r} has more")
        if not fits_xml(name + value):
            raise unsupported("custom values with control characters", "they do not fit into XML")


def dial_fields(request: DialRequest, unsupported: Unsupported) -> dict[str, Any]:
    """``request`` as keyword arguments of the SDK's ``calls.create``; what Twilio would drop unsaid is refused."""
    detects = request.machine_detection is not MachineDetection.OFF
    if request.digits and detects:
        why = "Twilio ignores the detection; press the keys in the call"
        raise unsupported("digits together with machine detection", why)
    if problem := header_problem(request.to, request.headers):
        raise unsupported(*problem)
    check_stream(request.stream, unsupported)
    fields: dict[str, Any] = {
        "to": request.to,
        # Twilio's From *is* the caller id: the number that is shown and must be owned or verified.
        "from_": request.caller_id or request.from_,
        "twiml": connect_stream(request.stream, status_url=request.status_url),
        **_told("status_callback", request.status_url, CALL_EVENTS),
        "timeout": math.ceil(request.timeout),
        "time_limit": None if request.time_limit is None else math.ceil(request.time_limit),
        "send_digits": request.digits,
    }
    if detects:
        fields |= {"machine_detection": MACHINE_DETECTION[request.machine_detection], "async_amd": "true"}
        fields |= _told("async_amd_status_callback", request.status_url)
    if request.record:
        fields |= {"record": True, **recording_fields(request.status_url)}
    return given(fields)


def recording_fields(status_url: str) -> dict[str, Any]:
    """Both sides, each on a channel of its own, and word of it to ``status_url`` where there is one."""
    told = _told("recording_status_callback", status_url, RECORDING_EVENTS) if status_url else {}
    return {"recording_channels": "dual", **told}


def _told(callback: str, url: str, events: list[str] | None = None) -> dict[str, Any]:
    return given({callback: url, f"{callback}_method": "POST", f"{callback}_event": events})
