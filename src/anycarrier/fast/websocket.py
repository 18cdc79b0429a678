"""One WebSocket on picows, on either side of a call: a MediaTransport that calls back instead of being awaited.

Text messages are ``str``, binary ones ``bytes``. Memory is bounded in both directions. Frames nobody has taken yet are
kept up to a limit, then the socket is not read. A peer that does not read fills one write buffer; then ``send`` waits,
and ``paused`` tells a writer that does not wait. Pings, answered or not, end a peer that is gone; a stalled one is
not waited for when we close.

With hundreds of calls up, whatever a frame touches was last touched twenty milliseconds ago and has left the cache
since, which made our Python three times as expensive at 600 calls as at 64 (docs/benchmarks.md). So a frame's path is a
few small objects, and the slots it needs lie together: those of the base class, :class:`HotPath`, come first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from anycarrier.serializer import Frame

MAX_MESSAGE = 1024 * 1024
"""Bytes of one message, in however many frames; more is answered with close code 1009."""

KEEP = 64
"""Messages kept for a reader that is busy or not there yet; beyond that the socket is left unread."""

CLOSE_TIMEOUT = 10.0
"""Seconds for the peer to answer our close frame."""

READ_BUFFER = 4096
"""Bytes to begin with, per socket; it doubles when more comes at once, and stays so. A fifth of a second of audio: with
half of it, the first full garbage collection while people talk doubled them all.
"""

TEXT, BINARY, CONTINUATION, CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.CLOSE

log = logging.getLogger("anycarrier")
# picows makes a child of a plain Logger for each connection, and uvicorn's would log each; failures are enough.
picows_log = logging.LoggerAdapter(logging.getLogger("anycarrier.picows"), {})
picows_log.logger.setLevel(logging.ERROR)


class HotPath(WSListener, ABC):
    """What each frame touches of a connection, and nothing else; :class:`FastWebSocket` is the rest.

    Messages in go to ``_take``, and to ``_rest`` where that returns False; out by :meth:`write` and :meth:`post`.
    """

    __slots__ = ("_in_parts", "_rest", "_socket", "_take", "_takes_binary", "closed", "late", "paused")

    _take: Callable[[Frame], object]
    _rest: Callable[[Frame], object]

    def __init__(self, takes_binary: bool) -> None:
        self._in_parts = False
        """Some frames of a message have come, but not the last."""
        self._socket: WSTransport | None = None
        self._takes_binary = takes_binary
        self.closed = False
        """True from our close, the peer's, or the loss of the connection on; nothing can be written any more."""
        self.late: Callable[[], None] | None = None
        """Called for each message that :meth:`post` drops."""
        self.paused = False
        """True while the peer does not take what was written."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.fin and not self._in_parts:
            kind = frame.msg_type
            if kind is TEXT:
                try:
                    message: Frame = frame.get_payload_as_utf8_text()
                except UnicodeDecodeError:
                    self._fail(WSCloseCode.INVALID_TEXT)
                    return
                if self._take(message) is False:
                    self._rest(message)
                return
            if kind is BINARY:
                if self._takes_binary:
                    message = frame.get_payload_as_bytes()
                    if self._take(message) is False:
                        self._rest(message)
                return
        self._unusual(frame)

    def write(self, frame: Frame) -> None:
        """Send one message without waiting, ``str`` as text and ``bytes`` as binary. Mind ``paused``.

        ``ConnectionError`` when the peer is gone.
        """
        if self.closed or self._socket is None:
            raise ConnectionError("the media connection is gone")
        if type(frame) is str:
            self._socket.send(TEXT, frame.encode())
        else:
            self._socket.send(BINARY, frame)

    def write_text(self, message: bytes) -> None:
        """The same with a text message that is UTF-8 already."""
        if self.closed or self._socket is None:
            raise ConnectionError("the connection is gone")
        self._socket.send(TEXT, message)

    def post(self, message: bytes) -> None:
        """:meth:`write_text` for what is worth nothing when late: dropped while the peer is behind, or gone."""
        if self.paused:
            if self.late is not None:
                self.late()
        elif not self.closed and self._socket is not None:
            self._socket.send(TEXT, message)

    @abstractmethod
    def _unusual(self, frame: WSFrame) -> None:
        """Take a frame that is no whole message: a part of one, or a control frame."""

    @abstractmethod
    def _fail(self, code: WSCloseCode) -> None:
        """Close because of what the peer sent."""


class FastWebSocket(HotPath):
    """Messages in order, by one of two ways that do not mix: iterate it, or have it :meth:`push_to` you.

    ``gone`` is called once the connection is over. Without ``takes_binary``, binary messages are dropped.
    """

    __slots__ = (
        "_close_timer", "_gone", "_holds", "_kept", "_look", "_loop", "_max_message", "_over", "_parts",
        "_parts_are_text", "_parts_size", "_reader", "_writers", "paused_at", "resumed",
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_message: int = MAX_MESSAGE,
        gone: Callable[[FastWebSocket], None] | None = None,
        takes_binary: bool = True,
    ) -> None:
        super().__init__(takes_binary)
        self.paused_at = 0.0
        """Since when, by ``time.monotonic``."""
        self.resumed: Callable[[], None] | None = None
        """Called when the peer takes what is written again; for those who write without waiting."""
        self._max_message = max_message
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._take = self._rest = self._keep
        self._look: Callable[[Frame], object] | None = None
        self._kept: deque[Frame] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._writers: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._parts_size = 0
        self._parts_are_text = False
        self._holds: set[str] = set()
        self._close_timer: asyncio.TimerHandle | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the server answered our upgrade with, names in lower case; empty on connections that came to us."""
        response = self._socket.response if self._socket is not None and self._socket.is_client_side else None
        return {name.lower(): value for name, value in response.headers.items()} if response is not None else {}

    @property
    def behind(self) -> int:
        """Bytes written that the peer has not taken."""
        return self._socket.underlying_transport.get_write_buffer_size() if self._socket is not None else 0

    def limit_writing(self, size: int) -> None:
        """Count as paused with more than ``size`` bytes waiting."""
        if self._socket is not None:
            self._socket.underlying_transport.set_write_buffer_limits(high=size)

    async def wait_over(self, timeout: float) -> bool:
        """Wait until the connection is over; False when it is not within ``timeout`` seconds."""
        await asyncio.wait({self._over}, timeout=timeout)
        return self._over.done()

    def abort(self) -> None:
        """Drop the connection, now."""
        if self._socket is not None:
            self._shut()
            self._socket.disconnect(graceful=False)

    # --- what a MediaTransport does --------------------------------------------------------------------------------

    async def send(self, frame: Frame) -> None:
        """Send one message; waits while the peer does not take it. ``ConnectionError`` when it is gone."""
        while self.paused and not self.closed:
            if self._writers is None:
                self._writers = self._loop.create_future()
            await asyncio.shield(self._writers)
        self.write(frame)

    async def push_to(self, receive: Callable[[Frame], object]) -> None:
        """Call ``receive`` with every message, those kept so far first, until the connection is over."""
        while self._kept:
            receive(self._kept.popleft())
        self._rest = receive
        if not self.closed:
            self._take = self._look or receive
        self.hold("kept", False)
        await asyncio.shield(self._over)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while True:
            while self._kept:
                message = self._kept.popleft()
                if len(self._kept) < KEEP // 2:
                    self.hold("kept", False)
                yield message
            if self._over.done():
                return
            self._reader = self._loop.create_future()
            if self._look is not None and not self.closed:
                self._take = self._look
            try:
                await self._reader
            finally:
                self._reader = None

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each message as it comes; one for which it returns False is delivered as usual.

        It is not called while the iterating reader still handles an earlier message, so order is kept.
        """
        self._look = look
        if self.closed:
            return
        if self._rest != self._keep:  # pushed: the receiver there is done with a message at once
            self._take = look or self._rest
        else:
            self._take = look if look is not None and self._reader is not None and not self._kept else self._keep

    def hold(self, why: str, held: bool) -> None:
        """Leave the socket unread while anybody holds it."""
        before = bool(self._holds)
        (self._holds.add if held else self._holds.discard)(why)
        if self._socket is None or before == bool(self._holds) or self._over.done():
            return
        transport = self._socket.underlying_transport
        if self._holds:
            transport.pause_reading()
        else:
            transport.resume_reading()

    async def close(self, code: int = 1000) -> None:
        """Close; closing twice is harmless. A peer that takes nothing is not waited for."""
        self.close_now(code)

    def close_now(self, code: int = 1000) -> None:
        """The same, without waiting for anything."""
        if self.closed or self._socket is None:
            return
        stalled = self.paused
        self._shut()
        if stalled:
            self._socket.disconnect(graceful=False)
            return
        self._socket.send_close(code)  # type: ignore[arg-type]  # any number will do
        for why in list(self._holds):
            self.hold(why, False)  # the answer must be read
        self._close_timer = self._loop.call_later(CLOSE_TIMEOUT, self._socket.disconnect, False)

    def shutdown(self) -> None:
        """The server is going down (uvicorn asks its connections this way)."""
        self.close_now(1012)
        if self._socket is not None:
            self._socket.disconnect()
        self._end()

    # --- what picows calls -----------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._socket = transport

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._shut()
        self._end()
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
        if self._gone is not None:
            self._gone(self)

    def pause_writing(self) -> None:
        self.paused = True
        self.paused_at = time.monotonic()

    def resume_writing(self) -> None:
        self.paused = False
        self._release_writers()
        if self.resumed is not None:
            self.resumed()

    # --- inside ----------------------------------------------------------------------------------------------------

    def _unusual(self, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is CLOSE:
            self._closed_by_peer(frame)
        elif kind is TEXT or kind is BINARY or kind is CONTINUATION:
            if (kind is CONTINUATION) is not self._in_parts:
                self._fail(WSCloseCode.PROTOCOL_ERROR)
                return
            if not self._in_parts:
                self._parts_are_text, self._parts_size = kind is TEXT, 0
            self._in_parts = not frame.fin
            self._parts.append(frame.get_payload_as_bytes())
            self._parts_size += len(self._parts[-1]) + 64  # an empty piece is kept as well
            if self._parts_size > self._max_message + 64:
                self._fail(WSCloseCode.MESSAGE_TOO_BIG)
            elif frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._assembled(whole)

    def _assembled(self, whole: bytes) -> None:
        message: Frame = whole
        if self._parts_are_text:
            try:
                message = whole.decode()
            except UnicodeDecodeError:
                self._fail(WSCloseCode.INVALID_TEXT)
                return
        elif not self._takes_binary:
            return
        if self._take(message) is False:
            self._rest(message)

    def _closed_by_peer(self, frame: WSFrame) -> None:
        assert self._socket is not None
        if not self._socket.is_close_frame_sent:
            self._shut()
            # A close frame without a code is answered in kind; picows would write the number 0.
            code = frame.get_close_code()
            self._socket.send_close(WSCloseCode.OK if code is WSCloseCode.NO_INFO else code)
        self._socket.disconnect()
        self._close_timer = self._close_timer or self._loop.call_later(
            CLOSE_TIMEOUT, self._socket.disconnect, False
        )
        self._end()

    def _fail(self, code: WSCloseCode) -> None:
        self._parts, self._in_parts = [], False
        self.close_now(code.value)
        self._end()

    def _keep(self, message: Frame) -> None:
        self._kept.append(message)
        if self._look is not None:
            self._take = self._keep  # until the iterating reader has handled this one
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        if len(self._kept) >= KEEP:
            self.hold("kept", True)

    def _shut(self) -> None:
        """Nothing more is written, nothing more is taken."""
        self.closed = True
        self._take = _nobody
        self._release_writers()

    def _end(self) -> None:
        """End the reader's iteration."""
        if not self._over.done():
            self._over.set_result(None)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _release_writers(self) -> None:
        if self._writers is not None and not self._writers.done():
            self._writers.set_result(None)
        self._writers = None


def _nobody(message: Frame) -> None:
    """Where messages go that come after the close."""
