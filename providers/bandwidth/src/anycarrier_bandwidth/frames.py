"""Bandwidth's media stream: the JSON frames of one two-way stream, mu-law at 8 kHz. Pure.

What we send names no stream, is played in order out of a buffer of Bandwidth's own, and no mark comes back: positions
go by the clock.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pybase64

from anycarrier import errors, events
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer

MAX_FRAME = 65_536
"""Bytes; the largest real frame, a ``start`` with twelve full parameters, has less than half of it."""

_HEAD, _TAIL = '{"eventType":"playAudio","media":{"contentType":"audio/pcmu","payload":"', '"}}'
_KIND = "eventType"  # comes last: to choose among several structs by it, a frame would be read twice


class Media(msgspec.Struct, tag_field=_KIND, tag="media", rename="camel", gc=False):
    payload: bytes  # msgspec undoes the base64
    track: str = "inbound"
    sequence_number: int | None = None


class Relayed(msgspec.Struct, tag_field=_KIND, tag="media", gc=False):
    payload: str
    track: Literal["inbound"] = "inbound"


class Track(msgspec.Struct, rename="camel"):
    name: str = ""
    media_format: dict[str, Any] = {}


class Metadata(msgspec.Struct, rename="camel"):
    call_id: str
    stream_id: str = ""
    tracks: list[Track] = []


class Other(msgspec.Struct, rename="camel"):
    event_type: str
    metadata: Metadata | None = None
    stream_params: dict[str, str] | None = None


_decode_media = msgspec.json.Decoder(Media, strict=False).decode
_decode_relayed = msgspec.json.Decoder(Relayed).decode
_decode_other = msgspec.json.Decoder(Other).decode


class BandwidthSerializer(MediaSerializer):
    """One stream; nothing can be sent before its start and after its stop."""

    __slots__ = ("_open",)
    audio_out = PCMU_8K
    marks = False

    def __init__(self) -> None:
        self._open = False

    def decode(self, frame: Frame) -> list[events.MediaEvent]:
        if len(frame) > MAX_FRAME:
            raise errors.MalformedMessage(f"a media frame of {len(frame)} bytes, more than {MAX_FRAME}", frame)
        try:
            media = _decode_media(frame)
        except READ_FAILURES:
            return [self._other(frame)]
        if media.track == "outbound":  # our own voice, where somebody asked for both tracks
            return []
        return [events.AudioReceived(media.payload, media.track, media.sequence_number, None, frame)]

    def _other(self, frame: Frame) -> events.MediaEvent:
        try:
            told, raw = _decode_other(frame), msgspec.json.decode(frame)
            if told.event_type == "stop":
                self._open = False
                return events.StreamStopped("", raw)
            if told.event_type == "media" or (told.event_type == "start" and told.metadata is None):
                raise KeyError("payload" if told.event_type == "media" else "metadata")
            if told.event_type != "start" or told.metadata is None:
                return events.UnknownEvent(kind=told.event_type, raw=raw)
            sent = next((track.media_format for track in told.metadata.tracks if track.name == "inbound"), {})
            # Bandwidth's documents write audio/PCMU, the wire PCMU.
            encoding = str(sent.get("encoding", "PCMU")).removeprefix("audio/")
            heard, self._open = AudioFormat(encoding, int(sent.get("sampleRate", 8000))), True
            ids = told.metadata.call_id, told.metadata.stream_id
            return events.StreamStarted(*ids, heard, told.stream_params or {}, raw)
        except READ_FAILURES as failure:
            raise unreadable("bandwidth media frame", frame, failure) from None

    def relay(self, frame: Frame) -> str | None:
        # With an escape in it the payload is not the text between its quotes: the long way round.
        if type(frame) is not str or len(frame) > MAX_FRAME or "\\" in frame:
            return None
        try:
            return _decode_relayed(frame).payload
        except READ_FAILURES:
            return None

    def encode_audio(self, payload: bytes) -> list[str]:
        return self._if_open([f"{_HEAD}{pybase64.b64encode_as_string(payload)}{_TAIL}"] if payload else [])

    def encode_relayed(self, base64_audio: str) -> str | None:
        # Text that could close our JSON string, or is no base64 at all, is not wrapped unseen.
        unsafe = not base64_audio or not base64_audio.isascii() or '"' in base64_audio or "\\" in base64_audio
        return None if unsafe else self._if_open([f"{_HEAD}{base64_audio}{_TAIL}"])[0]

    def encode_clear(self) -> list[str]:
        return self._if_open(['{"eventType":"clear"}'])

    def _if_open(self, frames: list[str]) -> list[str]:
        if not self._open:
            raise errors.StreamNotOpen("the bandwidth stream has not started, or is over")
        return frames
