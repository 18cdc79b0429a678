"""What Vonage is asked to do with a call: instructions (NCCO) and bodies of requests. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from anycarrier.audio import PCMU_8K
from anycarrier.calls import DialRequest, MachineDetection, StreamTarget
from anycarrier.errors import UnsupportedOperation
from anycarrier.rest import given
from anycarrier.sip import destination, is_sip
from anycarrier.webhooks import WebhookReply
from anycarrier_vonage.frames import CUSTOM, FORMATS
from anycarrier_vonage.wire import TARGET

RINGS_AT_MOST, LASTS_AT_MOST, MOST_HEADERS = 120, 86_400, 512
BEEP = {"behavior": "continue", "mode": "default", "beep_timeout": 45}  # in this mode the call goes on meanwhile


def reply(*ncco: dict[str, Any]) -> WebhookReply:
    return WebhookReply(body=msgspec.json.encode(ncco), content_type="application/json")


def connect_stream(operation: str, stream: StreamTarget, line: str, call_id: str = "") -> dict[str, Any]:
    """Nothing may follow this action: it might be done at once. Mu-law stands for a telephone's 8 kHz."""
    linear = replace(stream.format, encoding="PCM16") if stream.format.encoding == "L16" else stream.format
    if stream.format != PCMU_8K and linear not in FORMATS.values():
        raise UnsupportedOperation("vonage", operation, "vonage streams 16-bit samples at 8, 16 or 24 kHz")
    headers = given({"call": call_id}) | {CUSTOM + name: value for name, value in stream.custom.items()}
    if len(msgspec.json.encode(headers)) > MOST_HEADERS:
        raise UnsupportedOperation("vonage", operation, f"custom values may have {MOST_HEADERS} bytes")
    endpoint = {"type": "websocket", "uri": stream.url, "content-type": f"audio/l16;rate={stream.format.rate}"}
    return {"action": "connect", "from": digits(line), "endpoint": [{**endpoint, "headers": headers}]}


def connect_party(to: str, line: str, status_url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Bridge the call to a number or a SIP address. A caller id that is not ours would be shown as unknown."""
    endpoint: dict[str, Any] = {"type": "phone", "number": digits(destination(to))}
    if is_sip(to):
        own = {name: value for name, value in (headers or {}).items() if name.lower() == "user-to-user"}
        others = {name[2:]: value for name, value in (headers or {}).items() if name not in own}
        endpoint = {"type": "sip", "uri": to, **given({"headers": others, "standardHeaders": own})}
    events = [f"{status_url}{'&' if '?' in status_url else '?'}{TARGET}"] if status_url else []
    return {"action": "connect", "endpoint": [endpoint], **given({"from": digits(line), "eventUrl": events})}


def dial(request: DialRequest) -> dict[str, Any]:
    ncco = [connect_stream("dial", request.stream, request.from_)]
    if request.record:
        events = {"eventUrl": [request.status_url], "eventMethod": "POST"}
        ncco.insert(0, {"action": "record", "format": "wav", "split": "conversation", "channels": 2, **events})
    pressed = given({"dtmfAnswer": keys("dial", request.digits or "")})
    advanced = BEEP if request.machine_detection is MachineDetection.WAIT_FOR_BEEP else None
    plain = "continue" if request.machine_detection is MachineDetection.DETECT else None
    limit = request.time_limit and max(1, min(LASTS_AT_MOST, round(request.time_limit)))
    return {
        "to": [{"type": "phone", "number": digits(request.to), **pressed}],
        "from": {"type": "phone", "number": digits(request.caller_id or request.from_)},
        "ncco": ncco, "event_url": [request.status_url], "event_method": "POST",
        "ringing_timer": max(1, min(RINGS_AT_MOST, round(request.timeout))),
        **given({"length_timer": limit, "machine_detection": plain, "advanced_machine_detection": advanced}),
    }  # fmt: skip


def keys(operation: str, text: str) -> str:
    """``p`` pauses half a second; there are no keys A to D."""
    pressed = text.replace("W", "pp").replace("w", "p")
    if other := set(pressed) - set("0123456789*#p"):
        raise UnsupportedOperation("vonage", operation, f"vonage sends 0-9, * and #, not {', '.join(sorted(other))}")
    return pressed


def digits(number: str) -> str:
    return number.removeprefix("+")
