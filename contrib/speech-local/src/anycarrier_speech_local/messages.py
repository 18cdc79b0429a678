"""Messages between an engine and its workers (msgpack, length first), and the audio kept to send again. Pure."""

from __future__ import annotations

import struct
from collections import deque
from typing import BinaryIO

import msgspec

from anycarrier.audio import AudioFormat

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


Entry = Feed | Begin | Finish


class Journal:
    """What a stream has sent and no worker has answered: enough to send it to another worker.

    Audio and cues since the last answered Finish, at most ``limit`` bytes of audio; the oldest audio goes first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: deque[Entry] = deque()

    def add(self, entry: Entry) -> None:
        """One more thing said."""
        if isinstance(entry, Begin) and not any(isinstance(e, Finish) for e in self._entries):
            self._entries.clear()  # what was fed before an utterance is not part of it
            self.size = 0
        self._entries.append(entry)
        if isinstance(entry, Feed):
            self.size += len(entry.audio)
            while self.size > self.limit:
                self._drop_oldest_audio()

    def answered(self) -> None:
        """The oldest Finish was answered: it and all before it is done with."""
        if not any(isinstance(e, Finish) for e in self._entries):
            return
        while not isinstance(entry := self._entries.popleft(), Finish):
            self.size -= len(entry.audio) if isinstance(entry, Feed) else 0

    @property
    def owed(self) -> int:
        """How many answers are still to come."""
        return sum(isinstance(entry, Finish) for entry in self._entries)

    def entries(self) -> list[Entry]:
        """All of it, oldest first."""
        return list(self._entries)

    def _drop_oldest_audio(self) -> None:
        for place, entry in enumerate(self._entries):
            if isinstance(entry, Feed):
                self.size -= len(entry.audio)
                del self._entries[place]
                return


class Recent:
    """At most ``seconds`` of what was added last, cut at whole samples."""

    def __init__(self, format: AudioFormat, seconds: float) -> None:
        self._sample = format.sample_width * format.channels
        self._limit = round(seconds * format.rate) * self._sample
        self._audio = bytearray()

    def __len__(self) -> int:
        return len(self._audio)

    def add(self, audio: bytes) -> None:
        """The next audio."""
        self._audio += audio
        excess = len(self._audio) - self._limit
        if excess > 0:
            # Rounded up to whole samples: what is kept begins where a sample does.
            del self._audio[: excess + -excess % self._sample]

    def read(self) -> bytes:
        """What is kept."""
        return bytes(self._audio)

    def take(self) -> bytes:
        """What is kept, which is then kept no more."""
        audio = bytes(self._audio)
        self._audio.clear()
        return audio
