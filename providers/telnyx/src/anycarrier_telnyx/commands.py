"""What we ask Telnyx to do with a call: the parameters of each command, by the SDK's names. Pure.

Left at its default, ``stream_bidirectional_mode`` is mp3 and the caller hears nothing of what we send; left at its
default, ``stream_codec`` is whatever the far end negotiated. Both are therefore always given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from anycarrier.calls import DialRequest, Direction, MachineDetection, StreamTarget
from anycarrier.sip import destination
from anycarrier_telnyx.client_state import ClientState

RING_SECONDS = (5, 600)
LIMIT_SECONDS = (30, 14400)
RATES = (8000, 16000, 22050, 24000, 48000)

# greeting_end reports the end of every greeting, with or without a beep; detect_beep would say nothing without one.
DETECTION = {MachineDetection.DETECT: "detect", MachineDetection.WAIT_FOR_BEEP: "greeting_end"}


def dial(request: DialRequest, connection_id: str, command_id: str) -> dict[str, Any]:
    """Parameters of POST /calls. Ring time and time limit are brought into what Telnyx takes (5-600 s, 30-14400 s)."""
    state = ClientState(
        reference=request.reference,
        direction=Direction.OUTBOUND,
        custom=request.stream.custom,
        format=request.stream.format,
    )
    command: dict[str, Any] = {
        "connection_id": connection_id,
        "from_": request.caller_id or request.from_,
        "to": request.to,
        "timeout_secs": _within(request.timeout, RING_SECONDS),
        "webhook_url": request.status_url,
        "client_state": state.encode(),
        "command_id": command_id,
        **stream(request.stream),
    }
    if needs_rate(request.stream):
        command["stream_bidirectional_sampling_rate"] = request.stream.format.rate
    if request.time_limit is not None:
        command["time_limit_secs"] = _within(request.time_limit, LIMIT_SECONDS)
    if request.machine_detection in DETECTION:
        command["answering_machine_detection"] = DETECTION[request.machine_detection]
    if request.record:
        command |= {"record": "record-from-answer", "record_format": "wav", "record_channels": "dual"}
    if request.digits:
        command["send_digits_on_answer"] = _keys(request.digits)
    if request.headers:
        command["custom_headers"] = custom_headers(request.headers)
    return command


def custom_headers(headers: Mapping[str, str]) -> list[dict[str, str]]:
    """SIP headers for the INVITE, as Telnyx lists them."""
    return [{"name": name, "value": value} for name, value in headers.items()]


def answer(target: StreamTarget, reference: str, command_id: str) -> dict[str, Any]:
    """Parameters of the answer command, which starts the stream too unless that :func:`needs_rate`."""
    return _inbound(target, reference, command_id) | ({} if needs_rate(target) else stream(target))


def start_stream(target: StreamTarget, reference: str, command_id: str) -> dict[str, Any]:
    """Parameters of streaming_start, for a call that was answered without a stream."""
    rate = {"stream_bidirectional_sampling_rate": target.format.rate}
    return {**_inbound(target, reference, command_id), **stream(target), **rate}


def needs_rate(target: StreamTarget) -> bool:
    """Whether the sampling rate has to be said: of L16 alone. The answer command has no field for it."""
    return target.format.encoding == "L16"


def _inbound(target: StreamTarget, reference: str, command_id: str) -> dict[str, Any]:
    state = ClientState(
        reference=reference, direction=Direction.INBOUND, custom=target.custom, format=target.format
    )
    return {"client_state": state.encode(), "command_id": command_id}


def stream(target: StreamTarget) -> dict[str, Any]:
    """Where the media goes, in one codec both ways."""
    return {
        "stream_url": target.url,
        "stream_track": "inbound_track",
        "stream_codec": target.format.encoding,
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": target.format.encoding,
    }


def stream_problem(target: StreamTarget) -> str:
    """Why Telnyx cannot carry ``target``'s format; "" when it can."""
    format = target.format
    if format.channels != 1 or (format.encoding, format.rate) not in {
        ("PCMU", 8000), ("PCMA", 8000), *(("L16", rate) for rate in RATES)
    }:
        return f"media as {format.encoding} at {format.rate} Hz; use PCMU or PCMA at 8000 Hz, or L16"
    return ""


def transfer(to: str, command_id: str, *, transfer_of: str, reference: str = "", status_url: str = "") -> (
    dict[str, Any]
):
    """Parameters of the transfer command; the leg it dials carries whose transfer it is."""
    query = parse_qs(urlsplit(status_url).query)
    state = ClientState(
        reference=reference or query.get("ref", [""])[0], direction=Direction.OUTBOUND, transfer_of=transfer_of
    )
    command = {
        "to": destination(to),
        "target_leg_client_state": state.encode(),
        "command_id": command_id,
    }
    if status_url:
        command["webhook_url"] = status_url
    return command


def digits(keys: str, command_id: str) -> dict[str, Any]:
    """Parameters of send_dtmf."""
    return {"digits": _keys(keys), "command_id": command_id}


def _keys(keys: str) -> str:
    """A to D in upper case; w and W stay, they are pauses of half a second and a second."""
    return re.sub("[a-d]", lambda key: key.group().upper(), keys)


def _within(seconds: float, limits: tuple[int, int]) -> int:
    lowest, highest = limits
    return max(lowest, min(highest, math.ceil(seconds)))
