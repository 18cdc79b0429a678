"""What each carrier's media socket sends: its start, and a frame of 20 ms, numbered as the carrier numbers them.

One entry a carrier, for ``bench serializers``. A frame that is a dict is sent as JSON text; bytes are a binary frame.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from anycarrier_vonage.sandbox.accounts import pem_of, private_key

ID = "00000000-0000-4000-8000-000000000000"
MZ = "MZ" + "0123456789abcdef" * 2
AC, CA = "AC" + "0" * 32, "CA" + "0" * 32


@dataclass(frozen=True)
class Frames:
    """One carrier's."""

    credential: Mapping[str, str]
    start: Mapping[str, Any]
    media: Callable[[int, bytes], Mapping[str, Any] | bytes]
    """The frame of that number, from 1, with that audio."""
    size: int = 160
    """Bytes of audio in 20 ms: 160 of PCMU at 8 kHz, 320 of L16."""
    example: bool = field(default=False, kw_only=True)
    """Written to be read, not to be fast: shown, not held to the bound."""


def b64(audio: bytes) -> str:
    return base64.b64encode(audio).decode()


FRAMES = {
    "acme": Frames({"api_key": "key"}, {"type": "start", "call": "call-1"},
        lambda n, audio: {"type": "audio", "data": b64(audio), "ms": 20 * n}, example=True),
    "bandwidth": Frames({"account_id": "5500100", "client_id": "x", "client_secret": "x", "application_id": ID,
         "callback_password": "0" * 16},
        {"metadata": {"accountId": "5500100", "callId": f"c-{ID}", "streamId": f"s-{ID}", "streamName": "anycarrier",
         "tracks": [{"name": "inbound", "mediaFormat": {"encoding": "PCMU", "sampleRate": 8000}}]},
         "streamParams": {}, "eventType": "start"},
        lambda n, audio: {"track": "inbound", "payload": b64(audio), "sequenceNumber": str(n), "eventType": "media"}),
    "plivo": Frames({"auth_id": "MA" + "0" * 18, "auth_token": "0" * 40},
        {"event": "start", "sequenceNumber": 1, "start": {"callId": ID, "streamId": ID, "accountId": "MA" + "0" * 18,
         "tracks": ["inbound"], "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000}}, "extra_headers": ""},
        lambda n, audio: {"event": "media", "sequenceNumber": n + 1, "streamId": ID, "media": {"track": "inbound",
         "timestamp": str(20 * n), "chunk": n, "payload": b64(audio)}, "extra_headers": ""}),
    "asterisk": Frames({"base_url": "http://pbx:8088", "username": "us", "password": "x", "endpoint": "SIP/{number}"},
        {"event": "MEDIA_START", "connection_id": "us", "channel": "WebSocket/us/0x1", "format": "ulaw", "ptime": 20,
         "channel_id": "anycarrier.us.media.1", "optimal_frame_size": 160, "channel_variables": {}},
        lambda n, audio: audio),
    "signalwire": Frames({"space": "example", "project_id": ID, "api_token": "x", "signing_key": "x"},
        {"event": "start", "sequenceNumber": "1", "start": {"streamSid": ID, "accountSid": ID, "callSid": ID,
         "tracks": ["inbound"], "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}}},
        lambda n, audio: {"event": "media", "sequenceNumber": str(n + 1), "media": {"track": "inbound",
         "chunk": str(n), "timestamp": str(20 * n), "payload": b64(audio)}}),
    "sip": Frames({"preset": "pbx", "host": "127.0.0.1", "username": "201", "password": "x"},
        {"type": "start", "call": "sip_1"}, lambda n, audio: audio),
    "telnyx": Frames({"api_key": "KEY0"},
        {"event": "start", "sequence_number": "1", "start": {"user_id": ID, "call_control_id": "v2:" + "A" * 54,
         "call_session_id": ID, "from": "+12125550155", "to": "+12125550147", "tags": [], "client_state": "",
         "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}}, "stream_id": ID},
        lambda n, audio: {"event": "media", "sequence_number": str(n + 1), "media": {"track": "inbound",
         "chunk": str(n), "timestamp": str(20 * n), "payload": b64(audio)}, "stream_id": ID}),
    "twilio": Frames({"account_sid": AC, "auth_token": "0" * 32},
        {"event": "start", "sequenceNumber": "1", "start": {"accountSid": AC, "streamSid": MZ, "callSid": CA,
         "tracks": ["inbound"], "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
         "customParameters": {}}, "streamSid": MZ},
        lambda n, audio: {"event": "media", "sequenceNumber": str(n + 1), "media": {"track": "inbound",
         "chunk": str(n), "timestamp": str(20 * n), "payload": b64(audio)}, "streamSid": MZ}),
    "vonage": Frames({"api_key": "a1b2c3d4", "api_secret": "0" * 16, "application_id": ID, "signature_secret": "0" * 32,
         "private_key": pem_of(private_key())},
        {"event": "websocket:connected", "content-type": "audio/l16;rate=8000", "call": "0" * 32},
        lambda n, audio: audio, size=320),
}  # fmt: skip
