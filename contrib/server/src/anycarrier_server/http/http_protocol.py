"""uvicorn's HTTP with bounds on what comes before a key is looked at: ``uvicorn.Config(app, http=BoundedHttp)``.

httptools takes headers and trailers without end and copies a long value again with each piece of it, and uvicorn waits
without end for a request to be sent. Bodies are bounded where they are read (``reading.py``). Bounded here: the request
line, headers, trailers and chunk extensions, in number and bytes, and the time in which a request must be there.
WebSocket handshakes arrive as requests too, so the bounds hold for them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger("anycarrier")

HEAD_BYTES = 65_536
"""Request line, headers and trailers of one request together, and what may come without being part of a body."""

HEAD_LINES = 128
"""Headers and trailers of one request together."""

HEAD_WITHIN = 20.0
"""Seconds from the opening of a connection, or the first byte of a further request, until its headers are all there."""

BODY_WITHIN = 60.0
"""Seconds from then until the body and its trailers are."""

REFUSALS = {
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\n",
}


class TooMuch(Exception):
    """Headers or trailers are over a bound. It stops the parser, and nobody else sees it."""


class BoundedHttp(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bytes = self._lines = 0
        self._held = 0  # bytes since the parser last came a step further than another header
        self._moved = False
        self._in_head = True
        self._too_much = False
        self._deadline: asyncio.TimerHandle | None = None

    # --- what asyncio calls ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._give(HEAD_WITHIN)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waited_enough()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        if self._deadline is None and self._waiting_for_a_head:
            self._give(HEAD_WITHIN)  # an empty line before a request stops uvicorn's own clock, and begins nothing
        # A value that does not end is told of only when it does.
        self._held = 0 if self._moved else self._held + len(data)
        if self._held > HEAD_BYTES:
            self._refuse(431)

    # --- what the parser calls -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._bytes = self._lines = 0
        self._in_head, self._moved = True, True
        if self._deadline is None:
            self._give(HEAD_WITHIN)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url), lines=0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        # A trailer is read and dropped: added to the headers it could take the place of one that was checked already.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._moved = False, True
        self._waited_enough()
        if not (self.parser.should_upgrade() and self._should_upgrade()):
            self._give(BODY_WITHIN)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = True
        self._waited_enough()
        super().on_message_complete()

    # --- the bounds ------------------------------------------------------------------------------------------------

    @property
    def _waiting_for_a_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _count(self, size: int, *, lines: int = 1) -> None:
        self._bytes += size
        self._lines += lines
        if self._bytes > HEAD_BYTES or self._lines > HEAD_LINES:
            self._too_much = True
            raise TooMuch  # the parser stops, and uvicorn asks for a 400

    def send_400_response(self, msg: str) -> None:
        if self._too_much:
            self._refuse(431)
        else:
            super().send_400_response(msg)

    def _refuse(self, status: int) -> None:
        # In the middle of an answer another status would be taken for a part of it.
        if self._waiting_for_a_head or not self.cycle.response_started:
            self.transport.write(REFUSALS[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _give(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self._too_late)

    def _waited_enough(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport.is_closing() or self.parser is None:
            return
        if self._in_head and not self._waiting_for_a_head:
            self._give(HEAD_WITHIN)  # the next request began before this one was answered: it may wait for that
        elif self._in_head and not self._bytes:
            self.transport.close()  # nothing was asked, so nothing is answered
        else:
            self._refuse(408)
