"""Audio kept by an engine: what a worker has not answered yet, and the last moment of a stream. No I/O, no clock."""

from __future__ import annotations

from collections import deque

from anycarrier.audio import AudioFormat
from anycarrier.speech.workers.messages import Begin, Feed, Finish, Pause, Resume

Entry = Feed | Begin | Pause | Finish


class Journal:
    """What a stream has sent and no worker has answered: enough to send it to another worker.

    Audio and hints since the last answered Finish, at most ``limit`` bytes of audio; the oldest audio is dropped first.
    A Resume takes back the Pause before it, so no hint is kept twice.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._entries: deque[Entry] = deque()

    def add(self, entry: Entry | Resume) -> None:
        """Note a message that was sent."""
        if isinstance(entry, Resume | Pause):
            self._take_back_pause()
            if isinstance(entry, Resume):
                return
        if isinstance(entry, Begin) and not any(isinstance(e, Finish) for e in self._entries):
            self.clear()  # what was fed before an utterance is not part of it
        self._entries.append(entry)
        if isinstance(entry, Feed):
            self.size += len(entry.audio)
            while self.size > self.limit:
                self._drop_oldest_audio()

    def answered(self) -> None:
        """The oldest Finish was answered: forget it and everything before it."""
        if not any(isinstance(e, Finish) for e in self._entries):
            return
        while not isinstance(entry := self._entries.popleft(), Finish):
            self.size -= len(entry.audio) if isinstance(entry, Feed) else 0

    @property
    def owed(self) -> int:
        """How many answers are still to come."""
        return sum(isinstance(entry, Finish) for entry in self._entries)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size = 0

    def entries(self) -> list[Entry]:
        """Everything kept, oldest first."""
        return list(self._entries)

    def _take_back_pause(self) -> None:
        for place in range(len(self._entries) - 1, -1, -1):
            if isinstance(self._entries[place], Finish):
                return
            if isinstance(self._entries[place], Pause):
                del self._entries[place]
                return

    def _drop_oldest_audio(self) -> None:
        for place, entry in enumerate(self._entries):
            if isinstance(entry, Feed):
                self.size -= len(entry.audio)
                del self._entries[place]
                return


class RecentAudio:
    """At most the last ``seconds`` of a stream, cut at whole samples."""

    def __init__(self, format: AudioFormat, seconds: float) -> None:
        self._sample = format.sample_width * format.channels
        self._size = format.size
        self._limit = format.size(seconds)
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

    def read(self, seconds: float | None = None) -> bytes:
        """What is kept, or the last ``seconds`` of it."""
        if seconds is None:
            return bytes(self._audio)
        return bytes(self._audio[max(0, len(self._audio) - self._size(seconds)) :])

    def keep(self, seconds: float) -> None:
        """Forget all but the last ``seconds``."""
        self._audio = bytearray(self.read(seconds))
