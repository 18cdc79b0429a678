"""The exchange on the web: one route for carriers' webhooks, one for their media sockets. Mount it in any ASGI app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from anycarrier.errors import ConfigurationError, TicketRefused
from anycarrier.exchange import Exchange
from anycarrier.serializer import Frame
from anycarrier.session import check_handler
from anycarrier.switchboard import PATH_CHARACTERS, Handler
from anycarrier.tickets import find_ticket
from anycarrier.webhooks import WebhookRequest

log = logging.getLogger("anycarrier")

MAX_BODY = 1024 * 1024
"""Bytes of a webhook; carriers send a few kilobytes."""


OnStartup = Callable[[], Awaitable[object]]
"""Run once the exchange has started: assign numbers, check credentials."""


def create_app(
    exchange: Exchange,
    agents: Handler | Mapping[str, Handler] | None = None,
    *,
    on_startup: OnStartup | None = None,
) -> Starlette:
    """A Starlette app serving ``exchange``: ``/{provider}/{credential_id}`` and ``/media/{ticket}``
    (or ``/media``, where the ticket is in the query or a header).

    ``agents`` (one handler, or agent_id -> handler) replaces the exchange's own. Mounted under a path, the exchange's
    ``public_url`` must name that path. The app's lifespan starts the exchange, runs ``on_startup`` and stops the
    exchange. Starlette and FastAPI do not run the lifespan of a mounted app: give :func:`lifespan` to the outer one.
    Where nobody did, the first request starts the exchange, and the log says so.
    """
    startup = _Startup(exchange, on_startup)
    if agents is not None:
        exchange.switchboard.agents = agents
    first = Middleware(_StartBeforeFirstRequest, startup=startup)
    return Starlette(routes=routes(exchange), lifespan=startup.lifespan, middleware=[first])


def lifespan(
    exchange: Exchange, *, on_startup: OnStartup | None = None
) -> Callable[[Any], contextlib.AbstractAsyncContextManager[None]]:
    """The lifespan for an app that :func:`create_app`'s is mounted in: ``FastAPI(lifespan=lifespan(exchange))``.

    Starts ``exchange``, then runs ``on_startup``; at the end stops the exchange. An app with a lifespan of its own
    enters it there: ``async with lifespan(exchange)(app): yield``.
    """
    return _Startup(exchange, on_startup).lifespan


class _Startup:
    """Starts an exchange once, whether a lifespan asks for it or the first request."""

    def __init__(self, exchange: Exchange, on_startup: OnStartup | None) -> None:
        if not isinstance(exchange, Exchange):
            raise ConfigurationError(f"{type(exchange).__name__} is no Exchange. Give the exchange first.")
        if on_startup is not None:
            check_handler(on_startup, "on_startup", "Give the function, not what it returns: async def setup().")
        self.done = False
        self.exchange = exchange
        self.on_startup = on_startup
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        async with self._lock:
            if self.done:
                return
            await self.exchange.start()
            if self.on_startup is not None:
                await self.on_startup()
            self.done = True

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        try:
            await self.run()
            yield
        finally:
            self.done = False
            await self.exchange.stop()


class _StartBeforeFirstRequest:
    """ASGI middleware for an app whose lifespan nobody runs. Later requests pass through untouched."""

    def __init__(self, app: ASGIApp, startup: _Startup) -> None:
        self._app = app
        self._startup = startup
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._startup.done and scope["type"] != "lifespan":
            needed = self._startup.on_startup is not None or not self._startup.exchange.started
            if needed and not self._warned:  # others may come while it starts
                self._warned = True
                log.warning(
                    "the app's lifespan was not run, as happens to a mounted app: starting at the first request. "
                    "Give anycarrier.asgi.lifespan(exchange, on_startup=...) to the outer app, see docs/mount.md"
                )
            await self._startup.run()
        await self._app(scope, receive, send)


def routes(exchange: Exchange) -> list[Route | WebSocketRoute]:
    """The two routes, for apps that bring their own Starlette and start and stop the exchange themselves.

    The webhooks' is the last: its path is any two words.
    """

    async def webhook(request: Request) -> Response:
        try:
            body = await _body(request)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        if body is None:
            return Response("too large", status_code=413)
        reply = await exchange.handle_webhook(
            request.path_params["provider"],
            request.path_params["credential_id"],
            WebhookRequest(
                method=request.method,
                url=_public_url(exchange, request),
                headers={name.lower(): value for name, value in request.headers.items()},
                body=body,
            ),
        )
        return Response(reply.body, status_code=reply.status, media_type=reply.content_type if reply.body else None)

    media = _MediaSocket(exchange)
    # With a slash at the end too: there are frameworks that append one to the path of a mounted app.
    return [
        *(WebSocketRoute(path, media) for path in ("/media/{ticket}", "/media/{ticket}/", "/media", "/media/")),
        *(Route("/{provider}/{credential_id}" + end, webhook, methods=["GET", "POST"]) for end in ("/", "")),
    ]


class _MediaSocket:
    """The endpoint of media sockets: an ASGI app, for Starlette to leave ``receive`` and ``send`` as they are."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        websocket = WebSocket(scope, receive, send)
        try:
            found = find_ticket(websocket.path_params.get("ticket", ""), websocket.url.query, websocket.headers)
            ticket = await self._exchange.admit(*found)
        except TicketRefused as refused:
            await _deny(websocket, refused.status)
            return
        offered = scope.get("subprotocols") or [None]
        await websocket.accept(offered[0])  # a client that names protocols closes where the answer names none
        await self._exchange.serve_media(ticket, WebSocketTransport(receive, send))


class WebSocketTransport:
    """An accepted WebSocket of an ASGI server as a MediaTransport.

    Not Starlette's: that looks at the state of the connection for every frame, both ways.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._closed = False

    async def send(self, frame: Frame) -> None:
        if self._closed:
            raise ConnectionError("the media socket is closed")
        try:
            await self._send({"type": "websocket.send", "text" if isinstance(frame, str) else "bytes": frame})
        except (OSError, RuntimeError) as gone:  # servers differ in how they say it
            raise ConnectionError("the carrier closed the media socket") from gone

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            yield text if text is not None else message.get("bytes") or b""

    async def close(self, code: int = 1000) -> None:
        if not self._closed:
            self._closed = True
            with contextlib.suppress(RuntimeError, OSError):
                try:
                    await self._send({"type": "websocket.close", "code": code, "reason": ""})
                except Exception:
                    if code == 1000:
                        raise
                    # Autobahn, under daphne, takes 1000 and 3000 to 4999 from an app, no other code of the protocol's.
                    await self._send({"type": "websocket.close", "code": 1000, "reason": ""})


async def _deny(websocket: WebSocket, status: int) -> None:
    """Refuse the upgrade with an HTTP status; servers without that extension answer 403."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(Response("ticket refused", status_code=status))
    else:
        await websocket.close(1008)


async def _body(request: Request) -> bytes | None:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _public_url(exchange: Exchange, request: Request) -> str:
    """The URL the carrier was given: our configured origin and mount, the rest as it was sent.

    Frameworks differ in what they make of ``path`` and ``root_path`` for a mounted app. A webhook's path below the
    mount is the last two segments, whatever they do.
    """
    raw_path: bytes = request.scope.get("raw_path") or quote(
        request.scope["path"].rstrip("/"), safe=f"/{PATH_CHARACTERS}"
    ).encode()
    path = raw_path.split(b"?")[0].decode("latin-1")
    below = "/".join(path.split("/")[-3 if path.endswith("/") else -2 :])
    query = request.scope.get("query_string", b"").decode("latin-1")
    return f"{exchange.switchboard.public_url}/{below}" + (f"?{query}" if query else "")
