"""Bandwidth's media stream: the JSON frames of one two-way stream, mu-law at 8 kHz. It has no marks. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pybase64

from anycarrier import errors, events
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer

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
            raw = msgspec.json.decode(frame)
            kind = raw["eventType"]
            if kind == "start":
                told = raw["metadata"]
                tracks: dict[str, Any] = {each["name"]: each["mediaFormat"] for each in told.get("tracks", [])}
                sent = tracks.get("inbound", {})
                # Bandwidth's documents write audio/PCMU, the wire PCMU.
                encoding = str(sent.get("encoding", "PCMU")).removeprefix("audio/")
                heard, custom = AudioFormat(encoding, int(sent.get("sampleRate", 8000))), raw.get("streamParams") or {}
                values = {str(name): str(value) for name, value in custom.items()}
                started = events.StreamStarted(str(told["callId"]), str(told.get("streamId", "")), heard, values, raw)
                self._open = True
                return started
            if kind == "media" or not isinstance(kind, str):
                raise KeyError("payload")
            self._open = self._open and kind != "stop"
            return events.StreamStopped("", raw) if kind == "stop" else events.UnknownEvent(kind=kind, raw=raw)
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
