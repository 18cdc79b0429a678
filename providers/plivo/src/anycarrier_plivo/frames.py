"""Media frames of Plivo's audio streams: JSON text, audio in base64. https://www.plivo.com/docs/voice/xml/audio-streaming"""

from __future__ import annotations

import json
import re
from binascii import b2a_base64
from typing import Any
from urllib.parse import unquote

import msgspec

from anycarrier import errors, events
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.parsing import READ_FAILURES, unreadable
from anycarrier.serializer import MediaSerializer

CONTENT_TYPES = {PCMU_8K: "audio/x-mulaw"} | {
    AudioFormat(name, rate): "audio/x-l16" for name in ("PCM16", "L16") for rate in (8000, 16000, 24000)
}
ENCODINGS = {"audio/x-mulaw": "PCMU", "audio/x-l16": "PCM16"}  # little-endian: not what others call L16
LARGEST = 12_000  # bytes of audio in one frame: Plivo takes 16 KB of base64


class Part(msgspec.Struct, rename="camel"):  # what is inside a frame: each kind fills some of these
    payload: bytes | None = None
    track: str = "inbound"
    digit: str = ""
    call_id: str = ""
    stream_id: str = ""
    media_format: dict[str, Any] = {}


class Frame(msgspec.Struct):
    event: str
    sequenceNumber: int | None = None
    media: Part | None = None
    start: Part | None = None
    dtmf: Part | None = None
    name: str = ""
    reason: str = ""
    extra_headers: Any = None


_decode = msgspec.json.Decoder(Frame).decode


class PlivoSerializer(MediaSerializer):
    """One stream's frames. Plivo documents no frame for its end; the one that its own examples expect is understood."""

    stop_frame = False
    head = stream_id = ""

    def decode(self, frame: bytes | str) -> list[events.MediaEvent]:
        try:
            got = _decode(frame)
            if (media := got.media) is not None and media.payload is not None and got.event == "media":
                return [events.AudioReceived(media.payload, media.track, got.sequenceNumber, None, frame)]
            match got:
                case Frame("start", start=Part() as start):
                    return [self._started(start, got.extra_headers, frame)]
                case Frame("dtmf", dtmf=Part(digit=str(digit))) if digit:
                    return [events.DigitPressed(digit, frame)]
                case Frame("playedStream" | "played"):
                    return [events.MarkReached(got.name, frame)]
                case Frame("playFailed" | "error"):
                    return [events.StreamError(got.event, got.reason, frame)]
                case Frame("stop"):
                    self.head = ""
                    return [events.StreamStopped(got.reason, frame)]
                case Frame("media" | "start" | "dtmf"):
                    raise KeyError(got.event)
            return [events.UnknownEvent(kind=got.event, raw=msgspec.json.decode(frame))]
        except READ_FAILURES as failure:
            raise unreadable("plivo media frame", frame, failure) from None

    def _started(self, start: Part, extra: Any, frame: bytes | str) -> events.StreamStarted:
        kind, rate = start.media_format["encoding"].partition(";")[0].lower(), int(start.media_format["sampleRate"])
        self.audio_out, self.stream_id = AudioFormat(ENCODINGS.get(kind, kind), rate), start.stream_id
        self.head = f'{{"event":"playAudio","media":{{"contentType":{json.dumps(kind)},"sampleRate":{rate},"payload":"'
        custom = read_extra_headers(extra)
        return events.StreamStarted(start.call_id, start.stream_id, self.audio_out, custom, raw=frame)

    def encode_audio(self, payload: bytes) -> list[str]:
        head = self.head or self._closed()
        if 0 < len(payload) <= LARGEST:
            return [f'{head}{b2a_base64(payload, newline=False).decode()}"}}}}']
        pieces = [payload[at : at + LARGEST] for at in range(0, len(payload), LARGEST)]
        return [frame for piece in pieces for frame in self.encode_audio(piece)]

    def encode_mark(self, name: str) -> list[str]:
        return self._send(event="checkpoint", streamId=self.stream_id, name=name)

    def encode_clear(self) -> list[str]:
        return self._send(event="clearAudio", streamId=self.stream_id)

    def encode_digits(self, digits: str) -> list[str] | None:
        sent = self._send(event="sendDTMF", dtmf=digits)
        return sent if re.fullmatch(r"[0-9A-D*#]+", digits) else None  # no pauses here: those go by REST

    def _send(self, **frame: str) -> list[str]:
        return [json.dumps(frame, separators=(",", ":"))] if self.head else self._closed()

    def _closed(self) -> Any:
        raise errors.StreamNotOpen("the plivo stream has not started, or is over")


def read_extra_headers(sent: Any) -> dict[str, str]:
    """Values that we gave as ``k=v,k=v``. They come back with ``;``, or as a JSON object, or as that in text."""
    if isinstance(sent, str) and sent.lstrip().startswith("{"):
        sent = json.loads(sent)
    if not isinstance(sent, dict):
        sent = dict(pair.strip().split("=", 1) for pair in re.split("[;,]", sent or "") if "=" in pair)
    return {unquote(str(key)): unquote(str(value)) for key, value in sent.items()}
