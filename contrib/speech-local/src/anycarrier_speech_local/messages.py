"""What the process that answers calls and its speech workers tell each other: msgpack, length first."""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec

PREFIX = struct.Struct("<I")


class Open(msgspec.Struct, tag=True, frozen=True):
    """A new stream of PCM16 or G.711 audio. ``hearing`` is empty for detection."""

    stream: int
    encoding: str
    rate: int
    hearing: HearingConfig | None = None


class HearingConfig(msgspec.Struct, frozen=True):
    """What a decoder is built from; equal ones share idle decoders."""

    phrases: tuple[str, ...] = ()
    grammar: str | None = None
    pronunciations: dict[str, str] = {}
    second_pass: bool = False

    @property
    def key(self) -> bytes:
        """The same for equal configurations."""
        return msgspec.msgpack.encode(self)


class Feed(msgspec.Struct, tag=True, frozen=True):
    """More audio."""

    stream: int
    audio: bytes


class Begin(msgspec.Struct, tag=True, frozen=True):
    """Forget what was fed; an utterance begins with the audio that follows."""

    stream: int


class Finish(msgspec.Struct, tag=True, frozen=True):
    """The utterance is over."""

    stream: int


class Close(msgspec.Struct, tag=True, frozen=True):
    """The stream is over."""

    stream: int


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The stream can be fed."""

    stream: int


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The stream cannot be opened; ``why`` says what to change."""

    stream: int
    why: str


class Words(msgspec.Struct, tag=True, frozen=True):
    """An interim guess, or the answer to a Finish."""

    stream: int
    text: str
    final: bool


class Reached(msgspec.Struct, tag=True, frozen=True):
    """Everything up to ``at`` seconds was looked at. Said now and then."""

    stream: int
    at: float


class VoiceTold(msgspec.Struct, tag=True, frozen=True):
    """Voice activity, ``at`` in seconds of the stream's audio."""

    stream: int
    voice: str
    at: float


ToWorker = Open | Feed | Begin | Finish | Close
FromWorker = Opened | Refused | Words | VoiceTold | Reached

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
    message: ToWorker = to_worker.decode(pipe.read(PREFIX.unpack(prefix)[0]))
    return message
