"""Bandwidth's media stream: the JSON frames of one two-way stream. Pure.

It sends mu-law at 8 kHz, ``eventType`` last in the object. What we send names no stream, is played in order out of a
buffer of Bandwidth's own, and no mark comes back: positions go by the clock.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import pybase64

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import AudioReceived, MediaEvent, StreamStarted, StreamStopped, UnknownEvent
from anycarrier.serializer import Frame, MediaSerializer

MAX_FRAME = 65_536
"""Bytes; the largest real frame, a ``start`` with twelve full parameters, has less than half of it."""

_HEAD, _TAIL = '{"eventType":"playAudio","media":{"contentType":"audio/pcmu","payload":"', '"}}'


class MediaFormat(msgspec.Struct, rename="camel"):
    encoding: str = "PCMU"
    sample_rate: int = 8000


class Track(msgspec.Struct, rename="camel"):
    name: str = "inbound"
    media_format: MediaFormat = msgspec.field(default_factory=MediaFormat)


class Metadata(msgspec.Struct, rename="camel"):
    call_id: str
    stream_id: str = ""
    tracks: list[Track] = []


class Media(msgspec.Struct, tag_field="eventType", tag="media", rename="camel", gc=False):
    payload: bytes  # msgspec undoes the base64
    track: str = "inbound"
    sequence_number: int | None = None


class Start(msgspec.Struct, tag_field="eventType", tag="start", rename="camel"):
    metadata: Metadata
    stream_params: dict[str, str] | None = None


class Stop(msgspec.Struct, tag_field="eventType", tag="stop"):
    pass


class Relayed(msgspec.Struct, tag_field="eventType", tag="media", gc=False):
    payload: str
    track: Literal["inbound"] = "inbound"


# The kind comes last: to choose among several by it, a frame would be read twice.
_decode_media = msgspec.json.Decoder(Media, strict=False).decode
_decode = msgspec.json.Decoder(Start | Stop).decode
_decode_relayed = msgspec.json.Decoder(Relayed).decode
_decode_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class BandwidthSerializer(MediaSerializer):
    """One stream; nothing can be sent before its start and after its stop."""

    __slots__ = ("_open",)
    audio_out = PCMU_8K
    marks = False

    def __init__(self) -> None:
        self._open = False

    def decode(self, frame: Frame) -> list[MediaEvent]:
        if len(frame) > MAX_FRAME:
            raise MalformedMessage(f"a media frame of {len(frame)} bytes, more than {MAX_FRAME}", frame)
        try:
            media = _decode_media(frame)
        except _UNREADABLE:
            return self._decode_other(frame)
        if media.track == "outbound":  # our own voice, where somebody asked for both tracks
            return []
        return [AudioReceived(media.payload, media.track, media.sequence_number, None, frame)]

    def _decode_other(self, frame: Frame) -> list[MediaEvent]:
        try:
            message = _decode(frame)
        except _UNREADABLE as problem:
            return [_unknown(frame, problem)]
        raw = _decode_any(frame)
        self._open = isinstance(message, Start)
        if not isinstance(message, Start):
            return [StreamStopped("", raw)]
        told = message.metadata
        sent = next((track.media_format for track in told.tracks if track.name == "inbound"), MediaFormat())
        # Bandwidth's documents write audio/PCMU, the wire PCMU.
        heard = AudioFormat(sent.encoding.removeprefix("audio/"), sent.sample_rate)
        return [StreamStarted(told.call_id, told.stream_id, heard, message.stream_params or {}, raw)]

    def relay(self, frame: Frame) -> str | None:
        # With an escape in it the payload is not the text between its quotes: the long way round.
        if type(frame) is not str or len(frame) > MAX_FRAME or "\\" in frame:
            return None
        try:
            return _decode_relayed(frame).payload
        except _UNREADABLE:
            return None

    def encode_audio(self, payload: bytes) -> list[str]:
        if not self._open:
            raise _not_open()
        return [f"{_HEAD}{pybase64.b64encode_as_string(payload)}{_TAIL}"] if payload else []

    def encode_relayed(self, base64_audio: str) -> str | None:
        if not self._open:
            raise _not_open()
        # Text that could close our JSON string, or is no base64 at all, is not wrapped unseen.
        unsafe = not base64_audio or not base64_audio.isascii() or '"' in base64_audio or "\\" in base64_audio
        return None if unsafe else f"{_HEAD}{base64_audio}{_TAIL}"

    def encode_clear(self) -> list[str]:
        if not self._open:
            raise _not_open()
        return ['{"eventType":"clear"}']


def _unknown(frame: Frame, problem: BaseException) -> UnknownEvent:
    try:
        raw = _decode_any(frame)
    except _UNREADABLE:
        raise MalformedMessage(f"a media frame that is not JSON: {problem}", frame) from None
    kind = raw.get("eventType") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind in ("media", "start", "stop"):
        raise MalformedMessage(f"a media frame out of shape: {problem}", frame)
    return UnknownEvent(kind=kind, raw=raw)


def _not_open() -> StreamNotOpen:
    return StreamNotOpen("the media stream is not open: wait for StreamStarted, and send nothing after StreamStopped")
