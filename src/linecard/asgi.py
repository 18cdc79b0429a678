"""The exchange on the web: one route for carriers' webhooks, one for their media sockets. Mount it in any ASGI app."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from linecard.errors import TicketRefused
from linecard.exchange import Exchange, Handler
from linecard.webhooks import WebhookRequest

MAX_BODY = 1024 * 1024
"""Bytes of a webhook; carriers send a few kilobytes."""


def create_app(
    exchange: Exchange,
    agents: Handler | Mapping[str, Handler] | None = None,
    *,
    on_startup: Callable[[], Awaitable[None]] | None = None,
) -> Starlette:
    """A Starlette app serving ``exchange``: ``/{provider}/{credential_id}`` and ``/media/{ticket}``.

    ``agents`` (one handler, or agent_id -> handler) replaces the exchange's own. Mounted under a path, the exchange's
    ``public_url`` must name that path. ``on_startup`` runs once the exchange has started.
    """
    if agents is not None:
        exchange.agents = agents

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await exchange.start()
        if on_startup is not None:
            await on_startup()
        try:
            yield
        finally:
            await exchange.stop()

    return Starlette(routes=routes(exchange), lifespan=lifespan)


def routes(exchange: Exchange) -> list[Route | WebSocketRoute]:
    """The two routes, for apps that bring their own Starlette and lifespan."""

    async def webhook(request: Request) -> Response:
        body = await _body(request)
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

    async def media(websocket: WebSocket) -> None:
        try:
            ticket = await exchange.admit(websocket.path_params["ticket"])
        except TicketRefused as refused:
            await _deny(websocket, refused.status)
            return
        await websocket.accept()
        await exchange.serve_media(ticket, WebSocketTransport(websocket))

    async def no_ticket(websocket: WebSocket) -> None:
        await _deny(websocket, 401)

    return [
        WebSocketRoute("/media/{ticket}", media),
        WebSocketRoute("/media", no_ticket),
        WebSocketRoute("/media/", no_ticket),
        Route("/{provider}/{credential_id}", webhook, methods=["GET", "POST"]),
    ]


class WebSocketTransport:
    """A Starlette WebSocket as a MediaTransport; frames go out as text, which carriers insist on."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, frame: bytes) -> None:
        try:
            await self._websocket.send({"type": "websocket.send", "text": frame.decode()})
        except WebSocketDisconnect as gone:
            raise ConnectionError("the carrier closed the media socket") from gone

    async def __aiter__(self) -> AsyncIterator[bytes | str]:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            yield text if text is not None else message.get("bytes") or b""

    async def close(self, code: int = 1000) -> None:
        if self._websocket.application_state is not WebSocketState.DISCONNECTED:
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await self._websocket.close(code)


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
    """The URL the carrier was given: our configured origin, the path below our mount, the query as it was sent."""
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    path = raw_path.split(b"?")[0].decode("latin-1")
    root = request.scope.get("root_path", "")
    if root and path.startswith(root):
        path = path[len(root) :]
    query = request.scope.get("query_string", b"").decode("latin-1")
    return exchange.public_url + path + (f"?{query}" if query else "")
