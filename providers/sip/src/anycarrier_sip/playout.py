"""What a session has written to its stream, 20 ms at a time: sound, and the keys and marks between it. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from anycarrier_sip import dtmf
from anycarrier_sip.rtp import SAMPLES


class Playout:
    """One stream's."""

    __slots__ = ("_keys", "_pending", "_played", "key_starts", "queue")

    def __init__(self) -> None:
        self.queue = bytearray()
        """Sound that waits."""
        self.key_starts = False
        """Whether the last key packet taken was the first of its key."""
        self._played = 0
        """Bytes of sound taken so far."""
        self._pending: deque[tuple[int, str, str]] = deque()
        """(position, "mark" or "digits", its name or keys): what comes when that much has been played."""
        self._keys: deque[tuple[bool, bytes | None]] = deque()

    def mark(self, name: str) -> None:
        """Tell it when all that was written before it has been taken."""
        self._pending.append((self._played + len(self.queue), "mark", name))

    def digits(self, digits: str) -> None:
        """Press keys after what was written; see :func:`dtmf.packets`. ``ValueError`` for what is no key."""
        dtmf.packets(digits)
        self._pending.append((self._played + len(self.queue), "digits", digits))

    def clear(self) -> None:
        """Drop sound and marks. Keys are pressed all the same, and at once."""
        self.queue.clear()
        self._pending = deque((self._played, kind, keys) for _, kind, keys in self._pending if kind == "digits")

    def take(self, reached: Callable[[str], None]) -> tuple[bytes | None, bytes | None]:
        """(sound, or a key's payload) for the next 20 ms, both None for silence; ``reached`` gets the marks."""
        # A frame's last sample is due as the next frame goes out.
        while self._pending and self._pending[0][0] <= self._played and not self._keys:
            _, kind, value = self._pending.popleft()
            if kind == "mark":
                reached(value)
            else:
                self._keys.extend(dtmf.packets(value))
        if self._keys:
            self.key_starts, key = self._keys.popleft()
            return None, key
        queue = self.queue
        if not queue:
            return None, None
        sound = bytes(queue[:SAMPLES])
        del queue[:SAMPLES]
        self._played += len(sound)
        return sound, None
