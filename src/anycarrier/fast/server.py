"""uvicorn's WebSockets with the media path taken out: ``uvicorn.Config(app, ws=websockets(exchange))``.

On one port, ``/media/<ticket>`` below the exchange's public path is served by picows; every other WebSocket reaches
the app as ever. Who is let in is decided where the portable path decides it, before the upgrade is answered.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from picows import WSAutoPingStrategy, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # not in its __all__: the version is pinned
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from anycarrier.errors import TicketRefused
from anycarrier.exchange import Exchange
from anycarrier.fast.websocket import READ_BUFFER, FastWebSocket, picows_log
from anycarrier.provider import TicketPlace
from anycarrier.tickets import find_ticket

log = logging.getLogger("anycarrier")


def websockets(exchange: Exchange | Callable[[], Exchange]) -> type[asyncio.Protocol]:
    """The class to give uvicorn as ``ws``, serving this exchange's media. An exchange that is made only when the app
    starts is given as a function that returns it."""
    found: Callable[[], Exchange] = (lambda: exchange) if isinstance(exchange, Exchange) else exchange

    class ExchangeUpgrades(UpgradeProtocol):
        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
            super().__init__(config, server_state, app_state, found())

    return ExchangeUpgrades


class UpgradeProtocol(asyncio.Protocol):
    """One connection that asked for an upgrade, until it is known whose it is."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        exchange: Exchange,
    ) -> None:
        self._config, self._server_state, self._app_state = config, server_state, app_state
        self._connections: set[Any] = server_state.connections
        self._tasks = server_state.tasks
        self._exchange = exchange
        self._other: WebSocketsSansIOProtocol | None = None
        self._transport: asyncio.Transport | None = None
        self._admitting: asyncio.Task[None] | None = None
        self._subprotocol = ""
        """The first one that the client offers. It closes where the answer names none."""

    # --- what uvicorn calls: connection_made, then data_received with the whole request ------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's only behave like one

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.data_received(data)
        elif self._admitting is None:
            self._route(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        if self._other is not None:
            self._other.connection_lost(exc)

    def eof_received(self) -> None:
        if self._other is not None:
            self._other.eof_received()

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.pause_writing()

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.resume_writing()

    def shutdown(self) -> None:
        """The server is going down."""
        if self._admitting is not None:
            self._admitting.cancel()
        if self._transport is not None:
            self._transport.close()

    # --- whose it is -----------------------------------------------------------------------------------------------

    def _route(self, data: bytes) -> None:
        assert self._transport is not None
        path = data[: data.find(b"\r\n")].split(b" ")[1].decode("latin-1")
        below = re.escape(urlsplit(self._exchange.switchboard.public_url).path.rstrip("/"))
        media = re.fullmatch(below + "/media(?:/([^/?]*))?(?:[?](.*))?", self._config.root_path + path)
        if media is None:
            self._other = WebSocketsSansIOProtocol(self._config, self._server_state, self._app_state)
            self._other.connection_made(self._transport)
            self._other.data_received(data)
            return
        handshake = ServerProtocol()  # the portable path's judge of what is a proper request
        handshake.receive_data(data)
        request = next(iter(handshake.events_received()), None)
        if not isinstance(request, Request):
            self._transport.close()
            return
        answer = handshake.accept(request)
        if answer.status_code != 101:
            self._refuse(handshake, answer)
            return
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        self._subprotocol = headers.get("sec-websocket-protocol", "").partition(",")[0].strip()
        found = find_ticket(unquote(media.group(1) or ""), media.group(2) or "", headers)
        self._connections.add(self)
        self._transport.pause_reading()
        self._admitting = asyncio.get_running_loop().create_task(self._admit(found, data, handshake))
        self._tasks.add(self._admitting)
        self._admitting.add_done_callback(self._tasks.discard)

    def _refuse(self, handshake: ServerProtocol, answer: Response) -> None:
        assert self._transport is not None
        handshake.send_response(answer)
        self._transport.write(b"".join(handshake.data_to_send()))
        self._transport.close()

    async def _admit(self, found: tuple[str, TicketPlace], request: bytes, handshake: ServerProtocol) -> None:
        try:
            try:
                ticket = await self._exchange.admit(*found)
            except TicketRefused as refused:
                self._refuse(handshake, handshake.reject(refused.status, "ticket refused"))
                return
            finally:
                self._connections.discard(self)
            websocket = self._upgrade(request)
        except Exception:
            log.exception("a media socket could not be admitted")
            self._refuse(handshake, handshake.reject(500, "Internal Server Error"))
            return
        del request, handshake  # a call is long
        if websocket is None:
            return
        try:
            await self._exchange.serve_media(ticket, websocket)
        except Exception:
            log.exception("a media socket failed")
            websocket.close_now(1011)
        else:
            websocket.close_now()

    def _upgrade(self, request: bytes) -> FastWebSocket | None:
        """Hand the connection to picows; None when it is lost already."""
        transport, config = self._transport, self._config
        if transport is None or transport.is_closing():
            return None
        websocket = FastWebSocket(max_message=config.ws_max_size, gone=self._connections.discard)
        named = {"Sec-WebSocket-Protocol": self._subprotocol} if self._subprotocol else {}

        def greet(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(named), websocket)

        ping = config.ws_ping_interval or 0.0
        protocol = WSProtocol(
            None,
            None,
            False,
            greet,
            picows_log,
            True,
            None,
            bool(ping),
            ping,
            min(ping, config.ws_ping_timeout or ping),
            WSAutoPingStrategy.PING_PERIODICALLY,
            True,
            config.ws_max_size,
            None,
            max(READ_BUFFER, 2 * len(request)),
        )
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.get_buffer(len(request))[: len(request)] = request
        protocol.buffer_updated(len(request))
        if transport.is_closing():
            return None
        self._connections.add(websocket)
        transport.resume_reading()
        return websocket
