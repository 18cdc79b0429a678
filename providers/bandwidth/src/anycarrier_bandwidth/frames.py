"""Bandwidth's media stream: the JSON frames of one two-way stream, mu-law at 8 kHz. It has no marks. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec
import pybase64

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import AudioReceived, MediaEvent, StreamStarted, StreamStopped, UnknownEvent
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer, fits_json

MAX_FRAME = 65_536  # bytes; the largest real frame, a start with twelve full parameters, has less than half of it
_HEAD, _TAIL = '{"eventType":"playAudio","media":{"contentType":"audio/pcmu","payload":"', '"}}'
_KIND = "eventType"  # comes last: to choose among several structs by it, a frame would be read twice


class Media(msgspec.Struct, tag_field=_KIND, tag="media", rename="camel", gc=False):
    payload: bytes  # msgspec undoes the base64
    track: str = "inbound"
    sequence_number: int | None = None


class Relayed(msgspec.Struct, tag_field=_KIND, tag="media", gc=False):
    payload: str
    track: Literal["inbound"] = "inbound"


_decode_media = msgspec.json.Decoder(Media, strict=False).decode
_decode_relayed = msgspec.json.Decoder(Relayed).decode


class BandwidthSerializer(MediaSerializer):
    """One stream; nothing can be sent before its start and after its stop."""

    audio_out = PCMU_8K
    marks = False
    _open = False

    def decode(self, frame: Frame) -> list[MediaEvent]:
        if len(frame) > MAX_FRAME:
            raise MalformedMessage(f"a media frame of {len(frame)} bytes, more than {MAX_FRAME}", frame)
        try:
            media = _decode_media(frame)
        except READ_FAILURES:
            return [self._other(frame)]
        ours = media.track == "outbound"  # where somebody asked for both tracks
        return [] if ours else [AudioReceived(media.payload, media.track, media.sequence_number, None, frame)]

    def _other(self, frame: Frame) -> MediaEvent:
        try:
            raw = msgspec.json.decode(frame)
            match raw["eventType"]:
                case "start":
                    told, custom = raw["metadata"], raw.get("streamParams") or {}
                    sent = {each["name"]: each["mediaFormat"] for each in told.get("tracks", [])}.get("inbound", {})
                    encoding = str(sent.get("encoding", "PCMU")).removeprefix("audio/")  # as documents write it
                    heard = AudioFormat(encoding, int(sent.get("sampleRate", 8000)))
                    values = {str(name): str(value) for name, value in custom.items()}
                    started = StreamStarted(str(told["callId"]), str(told.get("streamId", "")), heard, values, raw)
                    self._open = True
                    return started
                case "stop":
                    self._open = False
                    return StreamStopped("", raw)
                case str(kind) if kind != "media":
                    return UnknownEvent(kind=kind, raw=raw)
            raise KeyError("payload")
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
        return self._if_open([f"{_HEAD}{base64_audio}{_TAIL}"])[0] if fits_json(base64_audio) else None

    def encode_clear(self) -> list[str]:
        return self._if_open(['{"eventType":"clear"}'])

    def _if_open(self, frames: list[str]) -> list[str]:
        if not self._open:
            raise StreamNotOpen("the bandwidth stream has not started, or is over")
        return frames
