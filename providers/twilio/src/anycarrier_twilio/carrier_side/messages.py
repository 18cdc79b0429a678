"""What Twilio sends to an application, for what plays Twilio: the sandbox, and a front for Twilio's own applications.

The form fields of its webhooks, and the frames of a media stream; what the application sends back is read. Pure.
https://www.twilio.com/docs/voice/twiml, https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec

from anycarrier.calls import Call, CallStatus, Direction, EndReason

API_VERSION = "2010-04-01"

FIRST_TIMESTAMP = 107
"""Milliseconds in the first media frame: streams seen began at 102 and 155, never at 0."""

FRAME = 160
"""Bytes of audio in a media frame to the application: 20 ms of mu-law."""


WORDS = {
    CallStatus.QUEUED: "queued",
    CallStatus.INITIATED: "initiated",
    CallStatus.RINGING: "ringing",
    CallStatus.ANSWERED: "in-progress",
}

ENDINGS = {
    EndReason.BUSY: "busy",
    EndReason.REJECTED: "busy",
    EndReason.NO_ANSWER: "no-answer",
    EndReason.CANCELED: "canceled",
}

def status_word(call: Call) -> str:
    """Twilio's word for how far ``call`` has come, whichever carrier has it: what its API and callbacks would say."""
    if not call.ended:
        return WORDS[call.status]
    if call.answered_at is not None:
        return "completed"
    if call.direction is Direction.INBOUND:
        # Twilio's word for a caller who gives up, and for one who is declined; "busy" is what <Reject> may ask for.
        return "busy" if call.reason is EndReason.BUSY else "no-answer"
    return ENDINGS.get(call.reason or EndReason.UNKNOWN, "failed")


def rfc2822(when: datetime | None) -> str | None:
    """Twilio's dates: ``Tue, 10 Aug 2010 08:02:17 +0000``."""
    return format_datetime(when.astimezone(UTC)) if when else None


def call_form(
    *, account_sid: str, call_sid: str, status: str, direction: str, from_: str, to: str, parent_sid: str = ""
) -> dict[str, str]:
    """What every voice webhook and status callback says of its call; what is known of places is added to it."""
    form = {
        "AccountSid": account_sid,
        "ApiVersion": API_VERSION,
        "CallSid": call_sid,
        "CallStatus": status,
        "Direction": direction,
        "From": from_,
        "To": to,
        "Caller": from_,
        "Called": to,
    }
    return {**form, "ParentCallSid": parent_sid} if parent_sid else form


def status_form(status: str, sequence: int, at: datetime, *, seconds: int | None = None) -> dict[str, str]:
    """What a status callback says besides :func:`call_form`; one of a call that is over says how long it was."""
    form = {
        "CallStatus": status,
        "CallbackSource": "call-progress-events",
        "Timestamp": rfc2822(at) or "",
        "SequenceNumber": str(sequence),
    }
    return form if seconds is None else {**form, "CallDuration": str(seconds), "Duration": str(-(-seconds // 60))}


def stream_form(
    *, account_sid: str, call_sid: str, stream_sid: str, name: str, event: str, at: datetime, error: str = ""
) -> dict[str, str]:
    """The status callback of a media stream: ``stream-started``, ``stream-stopped`` or ``stream-error``."""
    form = {
        "AccountSid": account_sid,
        "CallSid": call_sid,
        "StreamSid": stream_sid,
        "StreamName": name,
        "StreamEvent": event,
        "Timestamp": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    return {**form, "StreamError": error} if error else form


class StreamFrames:
    """The frames of one two-way media stream to the application, numbered in the order in which they are made."""

    def __init__(self, *, account_sid: str, call_sid: str, stream_sid: str) -> None:
        self._account_sid = account_sid
        self._call_sid = call_sid
        self._stream_sid = stream_sid
        self._sequence = 0
        self._chunk = 0

    @staticmethod
    def connected() -> str:
        """The first frame."""
        return _json({"event": "connected", "protocol": "Call", "version": "1.0.0"})

    def start(self, custom: Mapping[str, str]) -> str:
        """The second; ``custom`` are the ``<Parameter>`` values."""
        body = {
            "accountSid": self._account_sid,
            "streamSid": self._stream_sid,
            "callSid": self._call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": dict(custom),
        }
        return self._frame("start", body)

    def media(self, payload: str, milliseconds: int | None = None) -> str:
        """20 ms of the caller's audio in base64; ``milliseconds`` since the stream began, where it is not gapless."""
        played = 20 * self._chunk if milliseconds is None else milliseconds
        self._chunk += 1
        body = {
            "track": "inbound",
            "chunk": str(self._chunk),
            "timestamp": str(FIRST_TIMESTAMP + played),
            "payload": payload,
        }
        return self._frame("media", body)

    def dtmf(self, digit: str) -> str:
        """The caller pressed a key."""
        return self._frame("dtmf", {"track": "inbound_track", "digit": digit})

    def mark(self, name: str) -> str:
        """What was sent before the application's mark was played, or cleared."""
        return self._frame("mark", {"name": name})

    def stop(self) -> str:
        """The last frame."""
        return self._frame("stop", {"accountSid": self._account_sid, "callSid": self._call_sid})

    def _frame(self, event: str, body: Mapping[str, Any]) -> str:
        self._sequence += 1
        return _json(
            {"event": event, "sequenceNumber": str(self._sequence), event: body, "streamSid": self._stream_sid}
        )


class StreamRefused(Exception):
    """The application sent what Twilio does not take: the stream is closed, with ``code`` in Twilio's debugger."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Media(msgspec.Struct):
    payload: str


class _Mark(msgspec.Struct):
    name: str


class PlayMedia(msgspec.Struct, tag_field="event", tag="media", rename="camel"):
    """Audio of the application, in base64."""

    media: _Media
    stream_sid: str


class SetMark(msgspec.Struct, tag_field="event", tag="mark", rename="camel"):
    """To be echoed once what was sent before it was played."""

    mark: _Mark
    stream_sid: str


class Clear(msgspec.Struct, tag_field="event", tag="clear", rename="camel"):
    """What was not played yet is dropped."""

    stream_sid: str


_decode = msgspec.json.Decoder(PlayMedia | SetMark | Clear).decode


def read_message(message: str | bytes, stream_sid: str) -> PlayMedia | SetMark | Clear:
    """What the application wants; :class:`StreamRefused` for what is no message of this stream's."""
    if isinstance(message, bytes):
        raise StreamRefused(31950, "Stream - undecodable message: a binary frame")
    try:
        wanted: PlayMedia | SetMark | Clear = _decode(message)
    except msgspec.ValidationError as problem:
        raise StreamRefused(31951, f"Stream - invalid message: {problem}") from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise StreamRefused(31950, "Stream - undecodable message: not JSON") from None
    if wanted.stream_sid != stream_sid:
        raise StreamRefused(31951, "Stream - invalid message: no streamSid of this stream")
    return wanted


def _json(frame: Mapping[str, Any]) -> str:
    return msgspec.json.encode(frame).decode()
