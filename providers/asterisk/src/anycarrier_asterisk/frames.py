"""chan_websocket: bare audio in binary frames, commands and events in text frames. Pure.

Events are JSON as we ask for it, and plain text where a server is set so; our commands follow suit. Asterisk drops,
without a word: a text of more than 128 bytes, a command it does not know, the end of a binary frame that is no whole
number of its own frames, what is more than 20 seconds ahead, and marks that a flush overtakes.
https://docs.asterisk.org/Configuration/Channel-Drivers/WebSocket/
"""

import re
from typing import Any

import msgspec

from anycarrier import events
from anycarrier.audio import L16_8K, L16_16K, PCM16_8K, PCM16_16K, PCMA_8K, PCMU_8K, SILENCE, AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import Frame, MediaSerializer

FORMATS = {"ulaw": PCMU_8K, "alaw": PCMA_8K, "slin": PCM16_8K, "slin16": PCM16_16K}
"""By Asterisk's names; linear samples are in the order of its machine, little-endian nearly everywhere."""
NAMES = {format: name for name, format in FORMATS.items()} | {L16_8K: "slin", L16_16K: "slin16"}
LONGEST_TEXT, LARGEST = 128, 65_000
"""Bytes of a text frame, more is not read, and of a binary frame, more ends the stream."""
CUSTOM = "ANYCARRIER_CUSTOM"
"""The variable of the media channel that brings the stream's custom values back, as JSON."""


_TEXTS = [(name, str, "") for name in ("channel_id", "format", "digit", "correlation_id", "error_text")]
_OTHERS = [("optimal_frame_size", int, 0), ("channel_variables", dict, {})]
Told: Any = msgspec.defstruct("Told", [("event", str), *_TEXTS, *_OTHERS])  # the kinds differ in which fields they fill
_decode = msgspec.json.Decoder(Told).decode
_decode_custom = msgspec.json.Decoder(dict[str, str]).decode


class AsteriskSerializer(MediaSerializer):
    """One stream. It starts early: audio reaches the caller once the media channel is in the bridge of the call's."""

    __slots__ = ("_aliases", "_json", "_marks", "_size", "_tail", "audio_out")
    stop_frame = False
    buffer_seconds = 15.0

    def __init__(self) -> None:
        self.audio_out, self._json, self._tail = PCMU_8K, True, b""
        self._size = 0  # bytes of Asterisk's own frames, 20 ms; none before the start
        self._aliases, self._marks = 0, dict[str, str]()  # names too long for a text frame, by what is sent for them

    def decode(self, frame: Frame) -> list[events.MediaEvent]:
        if type(frame) is bytes:  # there may be some before the start
            return [events.AudioReceived(frame, "inbound", None, None, frame)] if self._size else []
        try:
            told = _decode(frame) if frame[:1] == "{" else _plain(str(frame))
            match told.event:
                case "MEDIA_START":
                    return [self._started(told, frame)]
                case "DTMF_END" if told.digit:
                    return [events.DigitPressed(told.digit, frame)]
                case "MEDIA_MARK_PROCESSED":
                    return [events.MarkReached(self._marks.pop(told.correlation_id, told.correlation_id), frame)]
                case "ERROR":
                    return [events.StreamError("", told.error_text, frame)]
            return [events.UnknownEvent(kind=told.event, raw=msgspec.to_builtins(told) | {"frame": frame})]
        except READ_FAILURES as failure:
            raise unreadable("asterisk media frame", frame, failure) from None

    def _started(self, told: Told, frame: Frame) -> events.StreamStarted:
        if not 0 < told.optimal_frame_size <= LARGEST:
            raise MalformedMessage(f"a MEDIA_START with frames of {told.optimal_frame_size} bytes", frame)
        sent = FORMATS.get(told.format) or AudioFormat(told.format, 8000)
        held = _decode_custom(told.channel_variables.get(CUSTOM) or "{}")
        self.audio_out, self._size, self._json = sent, told.optimal_frame_size, frame[:1] == "{"
        channel = told.channel_id or "?"
        call_id = re.sub(r"^anycarrier\.[^.]*\.media\.", "", channel)  # another channel's is no call's
        return events.StreamStarted(call_id, channel, sent, held, frame, early=True, silent=True)

    def encode_audio(self, payload: bytes) -> list[Frame]:
        size = self._size
        if len(payload) == size and size and not self._tail:
            return [payload]
        self._check_open()
        payload = self._tail + payload
        whole, most = len(payload) // size * size, min(50 * size, LARGEST // size * size)
        self._tail = payload[whole:]
        return [payload[at : min(at + most, whole)] for at in range(0, whole, most)]

    def flush(self) -> list[Frame]:
        tail, self._tail = self._tail, b""  # filled up with silence: Asterisk would drop it as it is
        return [tail.ljust(self._size, bytes((SILENCE.get(self.audio_out.encoding, 0),)))] if tail else []

    def encode_mark(self, name: str) -> list[Frame]:
        self._check_open()
        frame = self._mark(name)
        if len(frame.encode()) > LONGEST_TEXT or name.startswith("~") or (not self._json and name != name.strip()):
            self._aliases += 1
            self._marks[f"~{self._aliases}"] = name
            frame = self._mark(f"~{self._aliases}")
        return [frame]

    def _mark(self, name: str) -> str:
        quoted = msgspec.json.encode(name).decode()
        return f'{{"command":"MARK_MEDIA","correlation_id":{quoted}}}' if self._json else f"MARK_MEDIA {name}"

    def encode_clear(self) -> list[Frame]:  # marks that wait never come back
        self._check_open()
        self._tail, self._marks = b"", {}
        return ['{"command":"FLUSH_MEDIA"}' if self._json else "FLUSH_MEDIA"]

    def _check_open(self) -> None:
        if not self._size:
            raise StreamNotOpen("the media stream is not open: wait for StreamStarted")


def _plain(text: str) -> Told:
    """``MEDIA_START connection_id:one channel_id:two ...``; a mark's name is all that follows."""
    kind, _, rest = text.partition(" ")
    if not re.fullmatch(r"[A-Z][A-Z_]{2,40}", kind):
        raise MalformedMessage("neither JSON nor an event", text)
    if kind == "MEDIA_MARK_PROCESSED":
        return Told(kind, correlation_id=rest)
    fields = dict(re.findall(r"(\w+):(.*?)(?= \w+:|$)", rest))
    return msgspec.convert({**fields, "event": kind, "channel_variables": {}}, Told, strict=False)
