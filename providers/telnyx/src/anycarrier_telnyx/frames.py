"""Telnyx's media stream frames: JSON text both ways, base64 RTP payload without its header. Pure.

Each direction has its own format: audio from Telnyx is decoded by ``start.media_format``, audio to Telnyx is encoded as
requested when the stream was started. Frames from Telnyx may arrive out of order. Frames to Telnyx hold 20 ms to 30 s
of audio: a shorter tail is held until the next piece, a longer piece is cut.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
import pybase64

from anycarrier import events
from anycarrier.audio import PCMU_8K, SILENCE, AudioFormat
from anycarrier.errors import StreamNotOpen
from anycarrier.events import AudioReceived, MediaEvent
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer, fits_json
from anycarrier_telnyx.commands import named, read_client_state

WINDOW = 5
"""Frames that may wait, 100 ms of the usual 20 ms frames."""

T = TypeVar("T")


class Reorder(Generic[T]):
    """Puts one stream's frames back in order by their ``chunk`` numbers, which count from 1. ``next`` is the next one.

    A frame in turn is passed on at once. An early one waits for those before it, until ``window`` frames wait; then
    the missing ones are given up. A frame that arrives after it was given up is too late. The wait is counted in
    frames, not by a clock. A caller may take the frame that is ``next`` itself while none is ``waiting``, and count on.
    """

    __slots__ = ("_late", "_late_at", "next", "waiting", "window")

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self.next = 1
        self.waiting: dict[int, T] = {}
        self._late = self._late_at = 0

    def push(self, chunk: int, item: T) -> list[T] | None:
        """What is in order now that ``item`` is here (maybe nothing yet); None when it comes too late to be used."""
        if self.next == 1 and not self.waiting and not 1 <= chunk <= self.window + 1:
            self.next = chunk  # numbered otherwise than documented, or joined in the middle: begin here
        elif chunk < self.next or chunk in self.waiting:
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
        ready = []
        while self.next in self.waiting:
            ready.append(self.waiting.pop(self.next))
            self.next += 1
        return ready

    def drain(self) -> list[T]:
        """All that still waits, in order; nothing more will come before it."""
        return [self.waiting.pop(chunk) for chunk in sorted(self.waiting)]


SHORTEST, LONGEST = 0.02, 30.0
"""Seconds of audio in a frame to Telnyx."""

_HEAD = '{"event":"media","media":{"payload":"'
_TAIL = '"}}'
_KEYS = {key: key.upper() for key in "0123456789ABCDabcd*#"}


class _PlainMedia(msgspec.Struct, Generic[T], gc=False):
    payload: T  # bytes: msgspec undoes the base64
    chunk: int
    timestamp: int
    track: Literal["inbound"] = "inbound"


class _Plain(msgspec.Struct, Generic[T], gc=False, tag_field="event", tag="media"):
    """What nearly every frame is. Everything that is not quite this is read again, slower."""

    media: _PlainMedia[T]


class _Media(msgspec.Struct):
    payload: bytes
    track: str = "inbound"
    chunk: int | None = None
    timestamp: int | None = None


class _MediaFormat(msgspec.Struct):
    encoding: str = "PCMU"
    sample_rate: int = 8000
    channels: int = 1


# Not strict: numbers come as text ("chunk":"2"), and would do no harm as numbers.
_read_plain = msgspec.json.Decoder(_Plain[bytes], strict=False).decode
_read_relayed = msgspec.json.Decoder(_Plain[str], strict=False).decode
_read_any = msgspec.json.Decoder().decode
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


class TelnyxSerializer(MediaSerializer):
    """One media stream. ``audio_out`` is what we asked Telnyx to expect; a ``start`` that says otherwise wins."""

    __slots__ = ("_align", "_longest", "_open", "_order", "_shortest", "_tail", "audio_out")

    def __init__(self, audio_out: AudioFormat = PCMU_8K) -> None:
        self._begin(audio_out)
        self._open = False

    def _begin(self, audio_out: AudioFormat) -> None:
        self.audio_out = audio_out
        self._align = audio_out.sample_width * audio_out.channels
        self._shortest = audio_out.size(SHORTEST)
        self._longest = audio_out.size(LONGEST)
        self._order: Reorder[AudioReceived] = Reorder()
        self._tail = b""
        self._open = True

    # --- from Telnyx ------------------------------------------------------------------------------------------------

    def decode(self, frame: Frame) -> list[MediaEvent]:
        try:
            media = _read_plain(frame).media
        except _UNREADABLE:
            return self._decode_other(frame)
        order = self._order
        chunk = media.chunk
        audio = AudioReceived(media.payload, "inbound", chunk, media.timestamp, frame)
        if chunk == order.next and not order.waiting:
            # Fifty times a second and call: the frame whose turn it is, without another function call.
            order.next = chunk + 1
            return [audio]
        return self._in_order(audio)

    def _in_order(self, audio: AudioReceived) -> list[MediaEvent]:
        if audio.sequence is None:
            return [audio]
        ready = self._order.push(audio.sequence, audio)
        return [events.UnknownEvent(kind="media.late", raw=_read_any(audio.raw))] if ready is None else [*ready]

    def _decode_other(self, frame: Frame) -> list[MediaEvent]:
        try:
            message = _read_any(frame)
            match message["event"]:
                case "media":
                    return self._media(msgspec.convert(message["media"], _Media, strict=False), frame)
                case "start":
                    return [self._start(message["start"], message)]
                case "dtmf":
                    return [events.DigitPressed(_KEYS[message["dtmf"]["digit"]], message)]
                case "mark":
                    return [events.MarkReached(_text(message["mark"]["name"]), message)]
                case "error":
                    told = message["payload"]
                    words = [str(told[name]) for name in ("title", "detail") if told.get(name)]
                    return [events.StreamError(str(told.get("code", "")), ": ".join(words), message)]
                case "stop":
                    return self._stop(message.get("stop"), message)
                case "connected":
                    return []  # a greeting; the stream begins with start
            return [events.UnknownEvent(kind=_text(message["event"]), raw=message)]
        except READ_FAILURES as failure:
            raise unreadable("telnyx media frame", frame, failure) from None

    def _media(self, media: _Media, frame: Frame) -> list[MediaEvent]:
        if media.track == "inbound":
            return self._in_order(AudioReceived(media.payload, "inbound", media.chunk, media.timestamp, frame))
        # Our own voice, when somebody asked for both tracks. How chunks are counted then is not documented, so from
        # here on frames are taken as they come.
        waiting = self._order.drain()
        self._order.window = 0
        return [*waiting]

    def _start(self, start: dict[str, Any], message: dict[str, Any]) -> events.StreamStarted:
        call_id = _text(start["call_control_id"])
        sent = msgspec.convert(start.get("media_format") or {}, _MediaFormat, strict=False)
        state = read_client_state(start.get("client_state"))
        self._begin(state.audio if state.audio != PCMU_8K else self.audio_out)
        stream_id = message.get("stream_id")
        return events.StreamStarted(
            call_id, stream_id if isinstance(stream_id, str) else "",
            format=AudioFormat(sent.encoding, sent.sample_rate, sent.channels),
            # Documented as an object, though the request that sets them takes a list of pairs.
            custom={**dict(named(start.get("custom_parameters"))), **state.custom},
            raw=message,
        )

    def _stop(self, stop: object, message: dict[str, Any]) -> list[MediaEvent]:
        self._open = False
        self._tail = b""
        reason = stop.get("reason") if isinstance(stop, dict) else None
        return [*self._order.drain(), events.StreamStopped(reason if isinstance(reason, str) else "", message)]

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
            frames.append(f"{_HEAD}{pybase64.b64encode_as_string(payload[start:end])}{_TAIL}")
            start = end
        self._tail = payload[start:]
        return frames

    def flush(self) -> list[str]:
        """The tail kept back, made 20 ms long with silence. Half a sample is given up."""
        whole = self._tail[: len(self._tail) // self._align * self._align]
        self._tail = b""
        if not whole or not self._open:
            return []
        return self.encode_audio(whole.ljust(self._shortest, bytes([SILENCE.get(self.audio_out.encoding, 0)])))

    def encode_mark(self, name: str) -> list[str]:
        # A tail under 20 ms stays behind: padding it at every mark would tear holes into running speech.
        self._check_open()
        return [msgspec.json.encode({"event": "mark", "mark": {"name": name}}).decode()]

    def encode_clear(self) -> list[str]:
        self._check_open()
        self._tail = b""
        return ['{"event":"clear"}']

    def encode_relayed(self, base64_audio: str) -> str | None:
        if self._tail or not self._open or not self._shortest <= len(base64_audio) * 3 // 4 <= self._longest:
            return None
        if self._align != 1 or not fits_json(base64_audio):
            return None
        return f"{_HEAD}{base64_audio}{_TAIL}"

    def _check_open(self) -> None:
        if not self._open:
            raise StreamNotOpen("telnyx: audio, marks and clears go out between start and stop only")


def _text(value: object) -> str:
    text: str = msgspec.convert(value, Annotated[str, msgspec.Meta(min_length=1)])
    return text
