"""What we ask Telnyx to do with a call: the parameters of each command, by the SDK's names. Pure.

Left at its default, ``stream_bidirectional_mode`` is mp3 and the caller hears nothing of what we send; left at its
default, ``stream_codec`` is whatever the far end negotiated. Both are therefore always given.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from anycarrier.audio import PCMA_8K, PCMU_8K, AudioFormat
from anycarrier.calls import DialRequest, Direction, MachineDetection, StreamTarget
from anycarrier.parsing import READ_FAILURES
from anycarrier.rest import given
from anycarrier.sip import destination

FORMATS = (PCMU_8K, PCMA_8K, *(AudioFormat("L16", rate) for rate in (8000, 16000, 22050, 24000, 48000)))
RATE = "stream_bidirectional_sampling_rate"
KEYS = str.maketrans("abcd", "ABCD")
"""w and W stay: they are pauses of half a second and a second."""

# greeting_end reports the end of every greeting, with or without a beep; detect_beep would say nothing without one.
DETECTION = {MachineDetection.DETECT: "detect", MachineDetection.WAIT_FOR_BEEP: "greeting_end"}


class ClientState(msgspec.Struct, frozen=True, omit_defaults=True, rename={"reference": "ref", "direction": "dir"}):
    """What travels with a call: Telnyx gives it back in every later webhook and in the stream's start.

    Dial and answer take no custom parameters for the stream, so ours travel in here too. ``transfer_of`` is set on the
    leg a transfer dials: the call it was transferred from.
    """

    reference: str = ""
    direction: Direction | None = None
    custom: Mapping[str, str] = {}
    format: Annotated[str, msgspec.Meta(pattern=r"^[^/]+/[0-9]{1,6}$")] = ""
    transfer_of: str = ""

    @property
    def audio(self) -> AudioFormat:
        """``format``, read; none is PCMU."""
        encoding, _, rate = self.format.partition("/")
        return AudioFormat(encoding, int(rate)) if encoding else PCMU_8K

    def encode(self) -> str:
        """As base64 JSON, the only form Telnyx takes (90017 otherwise)."""
        return base64.b64encode(msgspec.json.encode(self)).decode()


def read_client_state(text: object) -> ClientState:
    """The state in ``text``; an empty one for none, and for what somebody else put there."""
    try:
        return msgspec.json.decode(base64.b64decode(text, validate=True), type=ClientState)  # type: ignore[arg-type]
    except READ_FAILURES:
        return ClientState()


def client_state(target: StreamTarget, reference: str, direction: Direction) -> str:
    """The state of a call of ours."""
    codec = "" if target.format == PCMU_8K else f"{target.format.encoding}/{target.format.rate}"
    return ClientState(reference, direction, target.custom, codec).encode()


def dial(request: DialRequest, connection_id: str, command_id: str) -> dict[str, Any]:
    """Parameters of POST /calls. Ring time and time limit are brought into what Telnyx takes (5-600 s, 30-14400 s)."""
    command: dict[str, Any] = {
        "connection_id": connection_id,
        "from_": request.caller_id or request.from_,
        "to": request.to,
        "timeout_secs": max(5, min(600, math.ceil(request.timeout))),
        "webhook_url": request.status_url,
        "client_state": client_state(request.stream, request.reference, Direction.OUTBOUND),
        "command_id": command_id,
        "time_limit_secs": max(30, min(14400, math.ceil(request.time_limit))) if request.time_limit else None,
        "answering_machine_detection": DETECTION.get(request.machine_detection),
        "send_digits_on_answer": (request.digits or "").translate(KEYS),
        "custom_headers": custom_headers(request.headers),
        **stream(request.stream),
    }
    if request.record:
        command |= {"record": "record-from-answer", "record_format": "wav", "record_channels": "dual"}
    return given(command)


def stream(target: StreamTarget) -> dict[str, Any]:
    """Where the media goes, in one codec both ways; its rate is said of L16 alone."""
    encoding = target.format.encoding
    return {
        "stream_url": target.url,
        "stream_track": "inbound_track",
        "stream_codec": encoding,
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": encoding,
        **({RATE: target.format.rate} if encoding == "L16" else {}),
    }


def transfer(call_id: str, to: str, reference: str, caller_id: str | None) -> dict[str, Any]:
    """Parameters of the transfer command; the leg it dials carries whose transfer it is."""
    state = ClientState(reference, Direction.OUTBOUND, transfer_of=call_id).encode()
    return given({"to": destination(to), "target_leg_client_state": state, "from_": caller_id})


def custom_headers(headers: Mapping[str, str]) -> list[dict[str, str]]:
    """SIP headers for the INVITE, as Telnyx lists them."""
    return [{"name": name, "value": value} for name, value in headers.items()]


def rows(told: object) -> list[dict[str, Any]]:
    """The objects in a list; what is of another shape is left out."""
    return [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []


def named(told: object) -> list[tuple[str, str]]:
    """The texts by name in ``[{"name": ..., "value": ...}]`` or in an object; what is of another shape is left out."""
    pairs = told.items() if isinstance(told, dict) else [(row.get("name"), row.get("value")) for row in rows(told)]
    return [(name, text) for name, text in pairs if isinstance(name, str) and isinstance(text, str)]
