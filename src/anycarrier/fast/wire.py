"""What each frame touches of a connection on picows, and nothing else; a :class:`Leg` is the rest.

With hundreds of calls up, whatever a frame touches was last touched twenty milliseconds ago and has left the cache
since, which made our Python three times as dear at 600 calls as at 64 (docs/benchmarks.md). So a frame's way is few
objects, they are small, and the slots that are needed lie together: those of a base class come first.
"""

from __future__ import annotations

from collections.abc import Callable

from picows import WSListener, WSMsgType, WSTransport

TEXT = WSMsgType.TEXT


class Wire(WSListener):
    """Messages in go to ``_take``, and to ``_rest`` where that answers False; out by :meth:`write` and :meth:`post`."""

    __slots__ = ("_in_parts", "_rest", "_socket", "_take", "closed", "late", "paused")

    _take: Callable[[bytes], object]
    _rest: Callable[[bytes], object]

    def __init__(self) -> None:
        self._in_parts = False
        """Of a message some frames have come, and not the last."""
        self._socket: WSTransport | None = None
        self.closed = False
        """True from our close, the peer's, or the loss of the connection on; nothing can be written any more."""
        self.late: Callable[[], None] | None = None
        """Called for each message that :meth:`post` drops."""
        self.paused = False
        """True while the peer does not take what was written."""

    def write(self, message: bytes) -> None:
        """Send one text message without waiting; ``ConnectionError`` when nobody is there. Look at ``paused``."""
        if self.closed or self._socket is None:
            raise ConnectionError("the media connection is gone")
        self._socket.send(TEXT, message)

    def post(self, message: bytes) -> None:
        """The same with what is worth nothing when it is late: dropped while the peer is behind, or gone."""
        if self.paused:
            if self.late is not None:
                self.late()
        elif not self.closed and self._socket is not None:
            self._socket.send(TEXT, message)
