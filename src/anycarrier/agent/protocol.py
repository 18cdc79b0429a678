"""The messages between anycarrier and an agent's WebSocket (the Inkbox media-stream protocol). Pure.

The agent is the server, we are the client. Two headers of the agent's handshake reply choose the mode: who turns text
into speech, and who turns speech into text. We write only documented fields, and read tolerantly: unknown events,
binary frames and broken JSON are dropped, older spellings are understood.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pybase64

TTS_HEADER = "x-use-inkbox-text-to-speech"
STT_HEADER = "x-use-inkbox-speech-to-text"

MAX_MESSAGE = 1024 * 1024
"""Bytes in one message from an agent; models send bursts of several seconds of audio."""


class Mode(msgspec.Struct, frozen=True):
    """Who does speech. ``tts``: we speak the agent's text; ``stt``: we transcribe the caller."""

    tts: bool = True
    stt: bool = True

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Mode:
        """The mode that the agent's handshake reply chose; each header defaults to true."""
        lower = {name.lower(): value for name, value in headers.items()}
        return cls(tts=_flag(lower.get(TTS_HEADER)), stt=_flag(lower.get(STT_HEADER)))


def _flag(value: str | None) -> bool:
    return value is None or value.strip().lower() not in ("false", "0", "no", "off")


# --- the handshake --------------------------------------------------------------------------------------------------


def call_context(
    *,
    call_id: str,
    phone_number: str,
    remote_phone_number: str,
    direction: str,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """Value of ``X-Call-Context``: compact ASCII JSON, so that the signed bytes equal the header's bytes."""
    fields = {
        "call_id": call_id,
        "phone_number": phone_number,
        "remote_phone_number": remote_phone_number,
        "direction": direction,
        "contacts": [],
        **(extra or {}),
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=True)


def signature(key: str, request_id: str, timestamp: int, body: bytes) -> str:
    """``X-Inkbox-Signature``: HMAC-SHA256 over ``id.timestamp.body``. The HMAC key is the *text* after ``whsec_``."""
    message = f"{request_id}.{timestamp}.".encode() + body
    return "sha256=" + hmac.new(key.removeprefix("whsec_").encode(), message, hashlib.sha256).hexdigest()


def handshake_headers(context: str, key: str | None, request_id: str, timestamp: int) -> dict[str, str]:
    """Headers of our handshake request: the context, signed if the agent has a key."""
    headers = {"X-Call-Context": context}
    if key:
        headers["X-Inkbox-Request-ID"] = request_id
        headers["X-Inkbox-Timestamp"] = str(timestamp)
        headers["X-Inkbox-Signature"] = signature(key, request_id, timestamp, context.encode())
    return headers


# --- from us to the agent -------------------------------------------------------------------------------------------

_encode = msgspec.json.Encoder().encode


def start(stream_id: str, *, call_id: str, carrier_call_id: str) -> bytes:
    """The first frame. The carrier's call id is in both places where agents look for it."""
    leg = {"call_control_id": carrier_call_id, "call_id": call_id}
    media_format = {"encoding": "PCMU", "sample_rate": 8000, "channels": 1}
    return _encode({"event": "start", "stream_id": stream_id, **leg, "start": {**leg, "media_format": media_format}})


def media_template(stream_id: str) -> bytes:
    """A media frame of caller audio, for ``%``: milliseconds since the stream's start, base64 PCMU. Fifty a second."""
    head = b'{"event":"media","stream_id":' + _encode(stream_id).replace(b"%", b"%%")
    return head + b',"media":{"track":"inbound","timestamp":"%d","payload":"%b"}}'


def transcript(stream_id: str, text: str, *, is_final: bool, turn_id: str) -> bytes:
    """What the caller said: interims, then exactly one final for each utterance."""
    return _encode(
        {
            "event": "transcript",
            "text": text,
            "is_final": is_final,
            "turn_id": turn_id,
            "party": "remote",
            "stream_id": stream_id,
        }
    )


def barge_in(stream_id: str, *, text: str | None, tts_interrupted: bool, turn_id: str) -> bytes:
    """The caller interrupted the agent; sent before the transcript that caused it."""
    return _encode(
        {
            "event": "barge_in",
            "trigger": "caller_speech",
            "text": text,
            "tts_interrupted": tts_interrupted,
            "turn_id": turn_id,
            "stream_id": stream_id,
        }
    )


def dtmf(stream_id: str, digit: str) -> bytes:
    """A key the caller pressed. Our extension; agents ignore unknown events."""
    return _encode({"event": "dtmf", "stream_id": stream_id, "dtmf": {"digit": digit}})


def mark(stream_id: str, name: str) -> bytes:
    """Playback reached a mark the agent sent."""
    return _encode({"event": "mark", "stream_id": stream_id, "mark": {"name": name}})


def error(stream_id: str, code: str, message: str) -> bytes:
    """A request of the agent was not carried out."""
    return _encode({"event": "error", "stream_id": stream_id, "error": {"code": code, "message": message}})


def stop(stream_id: str, *, reason: str, hangup_reason: str | None = None) -> bytes:
    """Last frame; then we close."""
    fields: dict[str, Any] = {"event": "stop", "stream_id": stream_id, "reason": reason}
    if hangup_reason is not None:
        fields["hangup_reason"] = hangup_reason
    return _encode(fields)


# --- from the agent to us -------------------------------------------------------------------------------------------


class Text(msgspec.Struct, frozen=True):
    """Words to speak: a delta of a turn, the last one with ``done``."""

    delta: str = ""
    turn_id: str | None = None
    done: bool = False


class Media(msgspec.Struct, frozen=True):
    """Audio to play, PCMU; ``encoded`` is the base64 as received, to pass on unchanged."""

    payload: bytes
    encoded: str


class AudioDone(msgspec.Struct, frozen=True):
    """One spoken response is complete."""


class Clear(msgspec.Struct, frozen=True):
    """Drop what has not been played yet."""


class AgentTranscript(msgspec.Struct, frozen=True):
    """The agent's own record of what a party (``remote`` caller, ``local`` agent) said."""

    text: str
    party: str = "remote"
    is_final: bool = True


class Mark(msgspec.Struct, frozen=True):
    """Report when playback gets here."""

    name: str


class SendDigits(msgspec.Struct, frozen=True):
    """Send DTMF digits to the caller."""

    digits: str


class Transfer(msgspec.Struct, frozen=True):
    """Transfer the caller to another number. Our extension."""

    to: str


class Stop(msgspec.Struct, frozen=True):
    """Hang up now without playing what is queued; agents wait for their own goodbye."""

    reason: str | None = None


AgentMessage = Text | Media | AudioDone | Clear | AgentTranscript | Mark | SendDigits | Transfer | Stop


class _Frame(msgspec.Struct):
    """Every field of any message, so that one decoder reads them all. Untyped, because agents write null for missing
    fields, and a wrong field must not lose the message: a lost ``stop`` would leave the call running and billed."""

    event: Any = None
    delta: Any = None
    text: Any = None
    done: Any = None
    turn_id: Any = None
    media: Any = None
    party: Any = None
    is_final: Any = None
    mark: Any = None
    dtmf: Any = None
    transfer: Any = None
    to: Any = None
    reason: Any = None


_decode = msgspec.json.Decoder(_Frame).decode


def read(frame: bytes | str) -> AgentMessage | None:
    """The message in one text frame; None if it is to be dropped."""
    if len(frame) > MAX_MESSAGE:
        return None
    try:
        fields = _decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    match fields.event:
        case "media":
            return _media(fields.media)
        case "text" | "textStream":
            return _text(fields)
        case "audio_done":
            return AudioDone()
        case "clear":
            return Clear()
        case "transcript" if text := _word(fields.text):
            return AgentTranscript(text, "local" if fields.party == "local" else "remote", _yes(fields.is_final, True))
        case "stop":
            return Stop(_word(fields.reason) or None)
        case "mark":
            name = _inner(fields.mark, "name")
            return Mark(name) if name else None
        case "dtmf":
            digits = _inner(fields.dtmf, "digits") or _inner(fields.dtmf, "digit")
            return SendDigits(digits) if digits else None
        case "transfer":
            to = _word(fields.to) or _inner(fields.transfer, "to")
            return Transfer(to) if to else None
    return None


def _text(fields: _Frame) -> Text | None:
    words, done = _word(fields.delta) or _word(fields.text), _yes(fields.done, False)
    if not words and not done and fields.delta != "":
        return None
    return Text(words, None if fields.turn_id is None else str(fields.turn_id), done)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _yes(value: Any, otherwise: bool) -> bool:
    """A flag, also if written as a string; ``otherwise`` for null and anything else."""
    return {"true": True, "false": False}.get(str(value).lower(), otherwise)


def _inner(value: Any, key: str) -> str:
    return _word(value.get(key) if isinstance(value, dict) else value)


def _media(value: Any) -> Media | None:
    encoded = _inner(value, "payload")
    try:
        payload = pybase64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return Media(payload, encoded) if payload else None
