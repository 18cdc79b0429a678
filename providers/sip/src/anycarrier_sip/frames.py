"""The frames between an RTP stream and its session. Pure. No wire carries them: they never leave the process.

``bytes`` is audio as RTP carries it, PCMU or PCMA, both ways; ``str`` is JSON, and everything else. ``start``
(``{"type": "start", "call": "sip_5e2c", "codec": "PCMU"}``), ``digit``, ``mark``, ``hold`` and ``stop`` come in;
``mark``, ``clear`` and ``digits`` go out.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pybase64

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    DigitPressed,
    HoldChanged,
    MarkReached,
    MediaEvent,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer

MAX_FRAME = 65_536
"""Bytes of a frame that comes in; audio is 480 at most, and a start as long as its custom values."""


class Control(msgspec.Struct, omit_defaults=True):
    """Any frame that is not audio; the types differ in which of these fields they fill."""

    type: str
    call: str = ""
    codec: str = "PCMU"
    rate: int = 8000
    digits: str = ""
    """Keys to send, or the key that was pressed."""
    sends_digits: bool = False
    """On a start: keys can be sent as RFC 4733."""
    custom: dict[str, str] = {}
    name: str = ""
    held: bool = False
    reason: str = ""


_decode = msgspec.json.Decoder(Control).decode
_encode = msgspec.json.Encoder().encode


def control(type: str, **fields: Any) -> str:
    """The frame of that type."""
    return _encode(Control(type, **fields)).decode()


def read(frame: str) -> Control:
    """What a frame that is not audio says; ``msgspec.MsgspecError`` for what none of ours is."""
    return _decode(frame)


CLEAR = control("clear")


class SipSerializer(MediaSerializer):
    """One stream's."""

    __slots__ = ("_open", "_sends_digits", "audio_out")

    def __init__(self) -> None:
        self._open = False
        self._sends_digits = False
        self.audio_out = PCMU_8K

    def decode(self, frame: Frame) -> list[MediaEvent]:
        if type(frame) is bytes:
            return [AudioReceived(frame)]
        if len(frame) > MAX_FRAME:
            raise MalformedMessage(f"a media frame of {len(frame)} bytes, more than {MAX_FRAME}", frame)
        try:
            raw = msgspec.json.decode(frame)
            got = _decode(frame)
        except READ_FAILURES as failure:
            raise unreadable("sip media frame", frame, failure) from None
        match got.type:
            case "start":
                self._open, self._sends_digits = True, got.sends_digits
                self.audio_out = AudioFormat(got.codec, got.rate)
                return [StreamStarted(got.call, got.call, self.audio_out, got.custom, raw)]
            case "digit":
                return [DigitPressed(got.digits, raw)]
            case "mark":
                return [MarkReached(got.name, raw)]
            case "hold":
                return [HoldChanged(got.held)]
            case "stop":
                self._open = False
                return [StreamStopped(got.reason, raw)]
        return [UnknownEvent(kind=got.type, raw=raw)]

    def relay(self, frame: Frame) -> str | None:
        return pybase64.b64encode_as_string(frame) if type(frame) is bytes else None

    def encode_audio(self, payload: bytes) -> list[Frame]:
        if not self._open:
            raise _not_open()
        return [payload] if payload else []

    def encode_mark(self, name: str) -> list[Frame]:
        if not self._open:
            raise _not_open()
        return [control("mark", name=name)]

    def encode_clear(self) -> list[Frame]:
        if not self._open:
            raise _not_open()
        return [CLEAR]

    def encode_digits(self, digits: str) -> list[Frame] | None:
        if not self._open:
            raise _not_open()
        return [control("digits", digits=digits)] if self._sends_digits else None


def _not_open() -> StreamNotOpen:
    return StreamNotOpen("the media stream is not open: wait for StreamStarted, and send nothing after StreamStopped")
