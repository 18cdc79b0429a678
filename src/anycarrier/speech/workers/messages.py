"""Messages between an engine and its worker processes: msgpack, each preceded by its length. No I/O but reading."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import msgspec

PREFIX = struct.Struct("<I")
LONGEST = 64 * 1024 * 1024
"""Bytes of one message. A longer one is not ours: something else wrote to the pipe."""


class Open(msgspec.Struct, tag=True, frozen=True):
    """Open a stream of audio. ``configuration`` is the engine's own: any value that msgspec can encode. It arrives as
    dicts, lists and scalars; use ``msgspec.convert`` to get a struct back."""

    stream: int
    encoding: str
    rate: int
    configuration: Any = None


class Feed(msgspec.Struct, tag=True, frozen=True):
    """More audio."""

    stream: int
    audio: bytes


class Begin(msgspec.Struct, tag=True, frozen=True):
    """An utterance begins with the audio that follows; drop what was fed before."""

    stream: int


class Pause(msgspec.Struct, tag=True, frozen=True):
    """The caller has been silent for a moment: the utterance may be over. The last ``following`` seconds of audio do
    not belong to it if it is."""

    stream: int
    following: float = 0.0


class Resume(msgspec.Struct, tag=True, frozen=True):
    """The caller continues: the utterance is not over."""

    stream: int


class Finish(msgspec.Struct, tag=True, frozen=True):
    """The utterance is over; answer with one final :class:`Recognized`. ``discard``: answer with empty text. The last
    ``following`` seconds of audio do not belong to it, and are sent again with the next one if they belong to that."""

    stream: int
    discard: bool = False
    following: float = 0.0


class Close(msgspec.Struct, tag=True, frozen=True):
    """The stream is over."""

    stream: int


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The worker can open streams: libraries and models are loaded. About no stream."""

    stream: int = 0


class Unusable(msgspec.Struct, tag=True, frozen=True):
    """The worker cannot start, and another one could not either; ``why`` says what to change. About no stream."""

    why: str
    stream: int = 0


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The stream can be fed."""

    stream: int


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The stream cannot be opened; ``why`` says what to change."""

    stream: int
    why: str


class Recognized(msgspec.Struct, tag=True, frozen=True):
    """Words: an interim result, or the answer to a :class:`Finish`."""

    stream: int
    text: str
    final: bool


class Examined(msgspec.Struct, tag=True, frozen=True):
    """A voice detector has examined the stream up to ``at`` seconds. Sent now and then."""

    stream: int
    at: float


class VoiceReport(msgspec.Struct, tag=True, frozen=True):
    """Voice activity; ``voice`` is a value of :class:`anycarrier.speech.Voice`, ``at`` is in seconds."""

    stream: int
    voice: str
    at: float


ToWorker = Open | Feed | Begin | Pause | Resume | Finish | Close
"""What an engine sends to a worker."""

FromWorker = Ready | Unusable | Opened | Refused | Recognized | VoiceReport | Examined
"""What a worker sends to its engine."""

encoder = msgspec.msgpack.Encoder()
to_worker = msgspec.msgpack.Decoder(ToWorker)
from_worker = msgspec.msgpack.Decoder(FromWorker)


def packed(message: ToWorker | FromWorker) -> bytes:
    """The bytes on the pipe."""
    body = encoder.encode(message)
    return PREFIX.pack(len(body)) + body


def read_message(pipe: BinaryIO) -> ToWorker | None:
    """The next message on a worker's pipe; None at its end."""
    prefix = pipe.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    size = PREFIX.unpack(prefix)[0]
    body = pipe.read(size)
    if len(body) < size:
        return None
    message: ToWorker = to_worker.decode(body)
    return message
