"""Media frames as texts: cutting the far end's voice into them, and reading those the platform sends."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder

SHUFFLE_EVERY = 4


class FrameProblem(Exception):
    """What is wrong with a frame we were sent: the ``error`` frame's code, title and detail."""

    def __init__(self, code: int, title: str, detail: str) -> None:
        self.code = code
        self.title = title
        self.detail = detail
        super().__init__(detail)


class InboundFrames:
    """One track's way into frames. ``millis`` is how much sound a frame holds: the carrier promises no length."""

    def __init__(self, track: str, format: AudioFormat, millis: int, *, shuffle: bool = False) -> None:
        self.track = track
        self.shuffle = shuffle
        self._format = format
        self._size = PCMU_8K.bytes_per_second * millis // 1000
        self._waiting = bytearray()
        self._coder = Transcoder(PCMU_8K, format)
        self._chunk = 0
        self._millis = 0.0
        self._held: str | None = None

    def cut(self, mulaw: bytes) -> Iterator[dict[str, Any]]:
        """The ``media`` objects that ``mulaw`` completes."""
        self._waiting += mulaw
        while len(self._waiting) >= self._size:
            piece = bytes(self._waiting[: self._size])
            del self._waiting[: self._size]
            coded = self._coder.convert(piece)
            if coded:
                self._chunk += 1
                yield {
                    "track": self.track,
                    "chunk": str(self._chunk),
                    "timestamp": str(round(self._millis)),
                    "payload": base64.b64encode(coded).decode(),
                }
                self._millis += 1000 * self._format.seconds(len(coded))

    def in_order(self, text: str) -> list[str]:
        """The texts to send now: with ``shuffle``, every few frames one is overtaken by the next."""
        if self._held is not None:
            held, self._held = self._held, None
            return [text, held]
        if self.shuffle and self._chunk % SHUFFLE_EVERY == 0:
            self._held = text
            return []
        return [text]


def read_frame(message: str | bytes) -> tuple[str, str]:
    """(``media``, payload), (``mark``, name) or (``clear``, ""); anything else is a :class:`FrameProblem`."""
    problem = FrameProblem(100003, "malformed_frame", "Received frame was not formed correctly")
    if isinstance(message, bytes):
        raise problem
    try:
        frame = json.loads(message)
    except (ValueError, RecursionError):
        raise problem from None
    event = frame.get("event") if isinstance(frame, dict) else None
    if event == "clear":
        return "clear", ""
    wanted = {"media": "payload", "mark": "name"}.get(event) if isinstance(event, str) else None
    inner = frame.get(event) if wanted else None
    value = inner.get(wanted) if isinstance(inner, dict) else None
    if not isinstance(event, str) or not isinstance(value, str):
        raise problem
    return event, value
