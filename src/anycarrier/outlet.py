"""Sound to the caller, fifty times a second and call: what that touches of a session, kept together and small.

Why: docs/benchmarks.md, under the media table.
"""

from __future__ import annotations

from collections.abc import Callable

from anycarrier.listener import PushTransport
from anycarrier.position import PlaybackPosition
from anycarrier.serializer import MediaSerializer

RELAYED_MARK_EVERY = 2.0
"""Seconds between marks of our own. The position of such sound is asked for only when it is cut, and the clock is
nearly enough for that."""


class Outlet:
    """A session's, where its transport pushes. ``otherwise`` sends what is not plain, ``mark`` sends a mark."""

    __slots__ = ("_bytes_per_second", "_clock", "_mark", "_otherwise", "_position", "_serializer", "_to", "plain")

    def __init__(
        self,
        transport: PushTransport,
        serializer: MediaSerializer,
        position: PlaybackPosition,
        *,
        bytes_per_second: int,
        clock: Callable[[], float],
        otherwise: Callable[[bytes, str, float], bool],
        mark: Callable[[], None],
    ) -> None:
        self._to = transport
        self._serializer = serializer
        self._position = position
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._otherwise = otherwise
        self._mark = mark
        self.plain = False
        """True while sound need only be wrapped and sent; the session sees to that."""

    def send(self, payload: bytes, base64_audio: str, most: float) -> bool:
        """Speak ``payload``, and the same in base64, without waiting. Mind the transport's ``paused``.

        False, and nothing sent, with more than ``most`` seconds still to be played. ``StreamNotOpen`` once the stream
        is over.
        """
        if self.plain:
            now = self._clock()
            position = self._position
            if position.ends_at - now > most:
                return False
            frame = self._serializer.encode_relayed(base64_audio)
            try:
                if frame is not None:
                    self._to.write(frame)
                    if position.queue(len(payload) / self._bytes_per_second, now) >= RELAYED_MARK_EVERY:
                        self._mark()
                    return True
            except ConnectionError:
                pass  # the session says what that means
        return self._otherwise(payload, base64_audio, most)
