"""What a stream has told its worker and not been answered yet: enough to tell it again to another worker. Pure."""

from __future__ import annotations

from collections import deque

from anycarrier_speech_local.messages import Begin, Feed, Finish

Entry = Feed | Begin | Finish


class Journal:
    """Audio and cues since the last answered Finish, at most ``limit`` bytes of audio; the oldest audio goes first."""

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
