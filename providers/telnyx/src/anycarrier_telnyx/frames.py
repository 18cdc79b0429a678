"""Telnyx's media stream frames: JSON text both ways, base64 RTP payload without its header. Pure.

Each direction has its own format: audio from Telnyx is decoded by ``start.media_format``, audio to Telnyx is encoded as
requested when the stream was started. Frames from Telnyx may arrive out of order. Frames to Telnyx hold 20 ms to 30 s
of audio: a shorter tail is held until the next piece, a longer piece is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

import msgspec
import pybase64

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    MediaEvent,
    StreamError,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier.serializer import Frame, MediaSerializer
from anycarrier_telnyx.client_state import read_client_state, text_pairs

WINDOW = 5
"""Frames that may wait, 100 ms of the usual 20 ms frames."""

T = TypeVar("T")


class Reorder(Generic[T]):
    """Puts one stream's frames back in order by their ``chunk`` numbers, which count from 1. ``next`` is the next one.

    A frame in turn is passed on at once. An early one waits for those before it, until :data:`WINDOW` frames wait; then
    the missing ones are given up. A frame that arrives after it was given up is too late. The wait is counted in
    frames, not by a clock. A caller may take the frame that is ``next`` itself while none is ``waiting``, and count on.
    """

    __slots__ = ("_late", "_late_at", "next", "waiting", "window")

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.next = 1
        self.waiting: dict[int, T] = {}
        self._late = 0
        self._late_at = 0

    def push(self, chunk: int, item: T) -> list[T] | None:
        """What is in order now that ``item`` is here (maybe nothing yet); None when it comes too late to be used."""
        if chunk == self.next and not self.waiting:
            self.next = chunk + 1
            return [item]
        if self.next == 1 and not self.waiting and (chunk < 1 or chunk > self.window + 1):
            self.next = chunk + 1  # numbered otherwise than documented, or joined in the middle: begin here
            return [item]
        if chunk < self.next or chunk in self.waiting:
            # Late ones in a row, none in its turn between them.
            self._late = self._late + 1 if self._late_at == self.next else 1
            self._late_at = self.next
            if self._late <= self.window:
                return None
            self.next = chunk  # nothing but old numbers: the counter has begun anew
            self.waiting.clear()
        self.waiting[chunk] = item
        if len(self.waiting) > self.window:
            self.next = min(self.waiting)
        return self._in_turn()

    def drain(self) -> list[T]:
        """All that still waits, in order; nothing more will come before it."""
        rest = [self.waiting[chunk] for chunk in sorted(self.waiting)]
        if self.waiting:
            self.next = max(self.waiting) + 1
            self.waiting.clear()
        return rest

    def _in_turn(self) -> list[T]:
        ready = []
        while self.next in self.waiting:
            ready.append(self.waiting.pop(self.next))
            self.next += 1
        return ready


SHORTEST_MS = 20
LONGEST_S = 30

SILENCE = {"PCMU": b"\xff", "PCMA": b"\xd5", "L16": b"\x00"}

_HEAD = '{"event":"media","media":{"payload":"'
_TAIL = '"}}'
_CLEAR = '{"event":"clear"}'
_KEYS = frozenset("0123456789ABCD*#")


class _PlainMedia(msgspec.Struct, gc=False):
    payload: bytes  # msgspec undoes the base64
    chunk: int
    timestamp: int
    track: Literal["inbound"] = "inbound"


class _Plain(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    """What nearly every frame is. Everything that is not quite this is read again, slower."""

    media: _PlainMedia


class _RelayedMedia(msgspec.Struct, gc=False):
    payload: str
    chunk: int
    timestamp: int
    track: Literal["inbound"] = "inbound"


class _Relayed(msgspec.Struct, gc=False, tag_field="event", tag="media"):
    media: _RelayedMedia


class _Media(msgspec.Struct):
    payload: bytes
    track: str = "inbound"
    chunk: int | None = None
    timestamp: int | None = None


# Not strict: numbers come as text ("chunk":"2"), and would do no harm as numbers.
_read_plain = msgspec.json.Decoder(_Plain, strict=False).decode
_read_relayed = msgspec.json.Decoder(_Relayed, strict=False).decode
_read_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class TelnyxSerializer(MediaSerializer):
    """One media stream. ``audio_out`` is what we asked Telnyx to expect; a ``start`` that says otherwise wins."""

    __slots__ = ("_align", "_longest", "_longest_base64", "_open", "_order", "_ordered", "_shortest",
                 "_shortest_base64", "_tail", "audio_out")  # fmt: skip

    def __init__(self, audio_out: AudioFormat = PCMU_8K) -> None:
        self._expect(audio_out)
        self._open = False
        self._tail = b""
        self._order: Reorder[AudioReceived] = Reorder()
        self._ordered = True

    def _expect(self, audio_out: AudioFormat) -> None:
        self.audio_out = audio_out
        self._align = audio_out.sample_width * audio_out.channels
        self._shortest = audio_out.bytes_per_second * SHORTEST_MS // 1000 // self._align * self._align
        self._longest = audio_out.bytes_per_second * LONGEST_S
        self._shortest_base64 = (self._shortest + 2) // 3 * 4
        self._longest_base64 = (self._longest + 2) // 3 * 4

    # --- from Telnyx ------------------------------------------------------------------------------------------------

    def decode(self, frame: Frame) -> list[MediaEvent]:
        try:
            media = _read_plain(frame).media
        except _UNREADABLE:
            return self._decode_other(frame)
        order = self._order
        chunk = media.chunk
        if chunk == order.next and not order.waiting:
            # Fifty times a second and call: the frame whose turn it is, without another function call.
            order.next = chunk + 1
            return [AudioReceived(media.payload, "inbound", chunk, media.timestamp, frame)]
        return self._in_order(AudioReceived(media.payload, "inbound", chunk, media.timestamp, frame))

    def _in_order(self, audio: AudioReceived) -> list[MediaEvent]:
        if not self._ordered or audio.sequence is None:
            return [audio]
        ready = self._order.push(audio.sequence, audio)
        if ready is None:
            return [UnknownEvent(kind="media.late", raw=_mapping(audio.raw))]
        return [*ready]

    def _media(self, message: Mapping[str, Any], frame: Frame) -> list[MediaEvent]:
        try:
            media = msgspec.convert(_part(message, "media", frame), _Media, strict=False)
        except _UNREADABLE:
            raise MalformedMessage("telnyx media frame without readable audio", frame) from None
        if media.track == "inbound":
            return self._in_order(AudioReceived(media.payload, "inbound", media.chunk, media.timestamp, frame))
        # Our own voice, when somebody asked for both tracks. How chunks are counted then is not documented, so from
        # here on frames are taken as they come.
        waiting = self._order.drain()
        self._ordered = False
        return [*waiting]

    def _decode_other(self, frame: Frame) -> list[MediaEvent]:
        message = _mapping(frame)
        event = message.get("event")
        if event == "connected":
            return []  # a greeting; the stream begins with start
        if event == "start":
            return [self._start(message, frame)]
        if event == "dtmf":
            digit = _text(_part(message, "dtmf", frame), "digit", frame).upper()
            if digit not in _KEYS:
                raise MalformedMessage("telnyx dtmf frame: the digit is no key", frame)
            return [DigitPressed(digit, message)]
        if event == "mark":
            return [MarkReached(_text(_part(message, "mark", frame), "name", frame), message)]
        if event == "error":
            told = _part(message, "payload", frame)
            words = [str(told[name]) for name in ("title", "detail") if told.get(name)]
            return [StreamError(str(told.get("code", "")), ": ".join(words), message)]
        if event == "stop":
            self._open = False
            self._tail = b""
            waiting = self._order.drain()
            stop = message.get("stop")
            reason = stop.get("reason") if isinstance(stop, dict) else None
            return [*waiting, StreamStopped(reason if isinstance(reason, str) else "", message)]
        if event == "media":
            return self._media(message, frame)
        if not isinstance(event, str):
            raise MalformedMessage("telnyx frame without a readable event", frame)
        return [UnknownEvent(kind=event, raw=message)]

    def _start(self, message: Mapping[str, Any], frame: Frame) -> StreamStarted:
        start = _part(message, "start", frame)
        call_id = _text(start, "call_control_id", frame)
        told = start.get("media_format")
        sent = PCMU_8K if told is None else _format(told, frame)
        state = read_client_state(start.get("client_state"))
        self._expect(state.format if state.format != PCMU_8K else self.audio_out)
        self._order = Reorder()
        self._ordered = True
        self._tail = b""
        self._open = True
        stream_id = message.get("stream_id")
        return StreamStarted(
            call_id=call_id,
            stream_id=stream_id if isinstance(stream_id, str) else "",
            format=sent,
            custom={**_custom(start.get("custom_parameters")), **state.custom},
            raw=message,
        )

    def relay(self, frame: Frame) -> str | None:
        order = self._order
        if order.waiting or type(frame) is not str:
            return None
        try:
            media = _read_relayed(frame).media
        except _UNREADABLE:
            return None
        if media.chunk != order.next:
            return None
        order.next += 1
        return media.payload

    # --- to Telnyx --------------------------------------------------------------------------------------------------

    def encode_audio(self, payload: bytes) -> list[str]:
        self._check_open()
        if self._tail:
            payload = self._tail + payload
            self._tail = b""
        size = len(payload)
        if self._shortest <= size <= self._longest and not size % self._align:
            return [f"{_HEAD}{pybase64.b64encode_as_string(payload)}{_TAIL}"]
        frames = []
        start = 0
        while size - start >= self._shortest:
            # An odd byte of a two-byte sample waits for its other half, a piece under 20 ms for its successor.
            end = start + min(self._longest, (size - start) // self._align * self._align)
            frames.append(_media(payload[start:end]))
            start = end
        self._tail = payload[start:]
        return frames

    def flush(self) -> list[str]:
        """The tail kept back, made 20 ms long with silence. Half a sample is given up."""
        whole = self._tail[: len(self._tail) // self._align * self._align]
        self._tail = b""
        if not whole or not self._open:
            return []
        padding = (self._shortest - len(whole)) * SILENCE.get(self.audio_out.encoding, b"\x00")
        return [_media(whole + padding)]

    def encode_mark(self, name: str) -> list[str]:
        # A tail under 20 ms stays behind: padding it at every mark would tear holes into running speech.
        self._check_open()
        return [msgspec.json.encode({"event": "mark", "mark": {"name": name}}).decode()]

    def encode_clear(self) -> list[str]:
        self._check_open()
        self._tail = b""
        return [_CLEAR]

    def encode_relayed(self, base64_audio: str) -> str | None:
        if self._tail or not self._open or not self._shortest_base64 <= len(base64_audio) <= self._longest_base64:
            return None
        if self._align != 1 or not base64_audio.isascii() or '"' in base64_audio or "\\" in base64_audio:
            return None
        return f"{_HEAD}{base64_audio}{_TAIL}"

    def _check_open(self) -> None:
        if not self._open:
            raise StreamNotOpen("telnyx: audio, marks and clears go out between start and stop only")


def _media(payload: bytes) -> str:
    return f"{_HEAD}{pybase64.b64encode_as_string(payload)}{_TAIL}"


def _mapping(frame: Frame) -> dict[str, Any]:
    try:
        message = _read_any(frame)
    except _UNREADABLE:
        raise MalformedMessage("telnyx frame is not JSON", frame) from None
    if not isinstance(message, dict):
        raise MalformedMessage("telnyx frame is not a JSON object", frame)
    return message


def _part(message: Mapping[str, Any], name: str, frame: Frame) -> dict[str, Any]:
    part = message.get(name)
    if not isinstance(part, dict):
        raise MalformedMessage(f"telnyx {message.get('event')} frame without {name}", frame)
    return part


def _text(part: Mapping[str, Any], name: str, frame: Frame) -> str:
    text = part.get(name)
    if not isinstance(text, str) or not text:
        raise MalformedMessage(f"telnyx frame without {name}", frame)
    return text


def _format(told: object, frame: Frame) -> AudioFormat:
    try:
        return msgspec.convert(told, _MediaFormat, strict=False).format()
    except _UNREADABLE:
        raise MalformedMessage("telnyx start frame: media_format cannot be read", frame) from None


class _MediaFormat(msgspec.Struct):
    encoding: str = "PCMU"
    sample_rate: int = 8000
    channels: int = 1

    def format(self) -> AudioFormat:
        return AudioFormat(self.encoding, self.sample_rate, self.channels)


def _custom(told: object) -> dict[str, str]:
    """``custom_parameters``: documented as an object, though the request that sets them takes a list of pairs."""
    if isinstance(told, list):
        told = {pair.get("name"): pair.get("value") for pair in told if isinstance(pair, dict)}
    return text_pairs(told)
