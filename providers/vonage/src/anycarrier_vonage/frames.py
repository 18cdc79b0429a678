"""Media frames: audio is binary messages of exactly 20 ms, everything else is JSON in text messages. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from anycarrier.audio import AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import AudioReceived, DigitPressed, MarkReached, MediaEvent, StreamStarted, UnknownEvent
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import MediaSerializer

FORMATS = {rate // 50 * 2: AudioFormat("PCM16", rate) for rate in (8000, 16000, 24000)}  # by bytes in a message
CONTENT = re.compile(r"audio/(\w+)(?:; ?rate=(\d{4,6}))?")
KEYS = re.compile("[0-9A-D*#]+")
CUSTOM = "custom-"  # before our own names among the socket's headers, which Vonage mixes with its own


class TextFrame(msgspec.Struct):
    event: str
    content_type: str = msgspec.field(default="audio/l16;rate=8000", name="content-type")
    call: str = ""
    digit: str = ""
    dtmf: str = ""
    payload: Any = None


class VonageSerializer(MediaSerializer):
    """One stream. Vonage ends the call over a message of any other size than 20 ms, so a tail waits for more audio."""

    stop_frame = False
    audio_out = FORMATS[320]
    size = 0  # of a message; 0 until the stream has started
    tail = b""

    def decode(self, frame: bytes | str) -> list[MediaEvent]:
        if isinstance(frame, bytes):
            if len(frame) % 2:
                raise MalformedMessage("vonage media frame cannot be read: half a sample", frame)
            audio: list[MediaEvent] = [AudioReceived(frame, raw=frame)]
            return audio if self.size else [self.started(FORMATS.get(len(frame), FORMATS[320]), frame), *audio]
        try:
            got = msgspec.json.decode(frame, type=TextFrame)
            match got.event:
                case "websocket:connected" if not self.size:
                    said = msgspec.json.decode(frame).items()
                    custom = {name.removeprefix(CUSTOM): str(value) for name, value in said if name.startswith(CUSTOM)}
                    kind, rate = CONTENT.findall(got.content_type.lower())[0]
                    format = AudioFormat("PCM16" if kind == "l16" else kind.upper(), int(rate or 8000))
                    return [self.started(format, frame, call_id=got.call, custom=custom)]
                case "websocket:dtmf" if len(key := got.digit or got.dtmf) == 1 and KEYS.fullmatch(key):
                    return [DigitPressed(key, frame)]
                case "websocket:notify" if isinstance(got.payload, dict) and isinstance(got.payload.get("mark"), str):
                    return [MarkReached(got.payload["mark"], frame)]
            return [UnknownEvent(kind=got.event, raw=msgspec.json.decode(frame))]
        except READ_FAILURES as failure:
            raise unreadable("vonage media frame", frame, failure) from None

    def started(self, format: AudioFormat, frame: bytes | str, *, call_id: str = "", **more: Any) -> StreamStarted:
        self.audio_out, self.size = format, format.rate // 50 * 2
        return StreamStarted(call_id, format=format, raw=frame, **more)

    def encode_audio(self, payload: bytes) -> list[bytes | str]:
        size = self.size or self.opened()
        if self.tail:
            payload, self.tail = self.tail + payload, b""
        if len(payload) == size:
            return [payload]
        whole = len(payload) - len(payload) % size
        self.tail = payload[whole:]
        return [payload[at : at + size] for at in range(0, whole, size)]

    def encode_mark(self, name: str) -> list[bytes | str]:
        """The tail stays behind: filled up at every mark, it would tear holes into speech that goes on."""
        self.opened()
        return [msgspec.json.encode({"action": "notify", "payload": {"mark": name}}).decode()]

    def encode_clear(self) -> list[bytes | str]:
        self.opened()
        self.tail = b""
        return ['{"action":"clear"}']

    def opened(self) -> int:
        if not self.size:
            raise StreamNotOpen("the vonage stream has not started")
        return self.size

    def flush(self) -> list[bytes | str]:
        tail, self.tail = self.tail, b""
        return [tail.ljust(self.size, b"\0")] if tail else []
