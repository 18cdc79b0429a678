"""Twilio Media Streams: the JSON frames of one two-way stream. Pure.

Audio is mu-law at 8 kHz both ways. Twilio writes the numbers inside as strings, plays outbound media in order out of
a buffer of its own, echoes a mark when it gets there, and echoes all pending marks at once on ``clear``.
https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from typing import Any, Literal, NoReturn

import msgspec
import pybase64

from anycarrier import events
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.serializer import Frame, MediaSerializer, fits_json

MAX_FRAME = 65_536
"""Bytes; the largest real frame, a ``start`` full of custom parameters, is a few thousand."""

ENCODINGS = {"audio/x-mulaw": "PCMU", "audio/x-alaw": "PCMA", "audio/x-l16": "L16"}


class MediaBody(msgspec.Struct, gc=False):
    payload: bytes
    track: str = "inbound"
    chunk: int | None = None
    timestamp: int | None = None


class Media(msgspec.Struct, tag_field="event", tag="media", gc=False):
    media: MediaBody


class MediaFormat(msgspec.Struct, rename="camel"):
    encoding: str = "audio/x-mulaw"
    sample_rate: int = 8000
    channels: int = 1


class StartBody(msgspec.Struct, rename="camel"):
    call_sid: str
    stream_sid: str = ""
    media_format: MediaFormat = msgspec.field(default_factory=MediaFormat)
    custom_parameters: dict[str, str] = {}


class Start(msgspec.Struct, tag_field="event", tag="start", rename="camel"):
    """The frame that begins a stream."""
    start: StartBody
    stream_sid: str = ""


class MarkBody(msgspec.Struct):
    name: str = ""


class Mark(msgspec.Struct, tag_field="event", tag="mark"):
    mark: MarkBody


class RelayedBody(msgspec.Struct, gc=False):
    payload: str
    track: Literal["inbound"] = "inbound"


class Relayed(msgspec.Struct, tag_field="event", tag="media", gc=False):
    media: RelayedBody


# strict=False reads Twilio's "155" as the number it is.
_decode = msgspec.json.Decoder(Media | Start | Mark, strict=False).decode
_decode_relayed = msgspec.json.Decoder(Relayed).decode
_decode_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
_TAIL = '"}}'


class TwilioSerializer(MediaSerializer):
    """One stream. What we send must name it, so nothing can be sent before ``start`` told its id."""

    __slots__ = ("_audio_head", "_clear", "_mark_head", "stream_sid")

    audio_out = PCMU_8K

    def __init__(self) -> None:
        self.stream_sid = ""
        self._close()

    def decode(self, frame: Frame) -> list[events.MediaEvent]:
        if len(frame) > MAX_FRAME:
            raise MalformedMessage(f"a media frame of {len(frame)} bytes, more than {MAX_FRAME}", frame)
        try:
            message = _decode(frame)
        except _UNREADABLE as problem:
            return self._other(frame, problem)
        if type(message) is Media:
            media = message.media
            return [events.AudioReceived(media.payload, media.track, media.chunk, media.timestamp, frame)]
        raw = _decode_any(frame)
        return [self._started(message, raw) if type(message) is Start else events.MarkReached(message.mark.name, raw)]

    def _started(self, message: Start, raw: Any) -> events.StreamStarted:
        body = message.start
        stream_sid = message.stream_sid or body.stream_sid
        if not stream_sid or not body.call_sid:
            raise MalformedMessage("a start frame without streamSid or callSid", repr(raw))
        self._open(stream_sid)
        sent = body.media_format
        encoding = ENCODINGS.get(sent.encoding.lower(), sent.encoding)
        format = AudioFormat(encoding, sent.sample_rate, sent.channels)
        return events.StreamStarted(body.call_sid, stream_sid, format, body.custom_parameters, raw)

    def _other(self, frame: Frame, problem: Exception) -> list[events.MediaEvent]:
        """What is no audio, mark or start; ``problem`` is why a frame that says it is one cannot be read."""
        try:
            raw = _decode_any(frame)
        except _UNREADABLE:
            raise MalformedMessage(f"a media frame that is not JSON: {problem}", frame) from None
        match raw:
            case {"event": "dtmf", "dtmf": {"digit": str(digit)}}:
                return [events.DigitPressed(digit, raw)]
            case {"event": "stop"}:
                self._close()
                return [events.StreamStopped("", raw)]
            case {"event": "connected"}:
                return []  # says that a start follows, and nothing about the call
            case {"event": "media" | "start" | "mark" | "dtmf" as kind}:
                raise MalformedMessage(f"a {kind} frame out of shape: {problem}", frame)
            case {"event": str(kind)}:
                return [events.UnknownEvent(kind=kind, raw=raw)]
        raise MalformedMessage("a media frame without an event", frame)

    def relay(self, frame: Frame) -> str | None:
        # With an escape in it the payload is not the text between its quotes: the long way round.
        if type(frame) is not str or len(frame) > MAX_FRAME or "\\" in frame:
            return None
        try:
            return _decode_relayed(frame).media.payload
        except _UNREADABLE:
            return None

    def encode_audio(self, payload: bytes) -> list[str]:
        head = self._audio_head or _refused()
        return [f"{head}{pybase64.b64encode_as_string(payload)}{_TAIL}"] if payload else []

    def encode_relayed(self, base64_audio: str) -> str | None:
        head = self._audio_head or _refused()
        return f"{head}{base64_audio}{_TAIL}" if fits_json(base64_audio) else None

    def encode_mark(self, name: str) -> list[str]:
        return [f"{self._mark_head or _refused()}{_json(name)}}}}}"]

    def encode_clear(self) -> list[str]:
        return [self._clear or _refused()]

    def _open(self, stream_sid: str) -> None:
        self.stream_sid = stream_sid
        sid = _json(stream_sid)
        self._audio_head = '{"event":"media","streamSid":' + sid + ',"media":{"payload":"'
        self._mark_head = '{"event":"mark","streamSid":' + sid + ',"mark":{"name":'
        self._clear = '{"event":"clear","streamSid":' + sid + "}"

    def _close(self) -> None:
        self._audio_head = self._mark_head = self._clear = ""


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _refused() -> NoReturn:
    raise StreamNotOpen("the media stream is not open: wait for StreamStarted, and send nothing after StreamStopped")
