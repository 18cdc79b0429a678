"""A platform for driving a carrier's sandbox: webhooks over HTTP, media over plain ``websockets``; none of our code.

What it is sent is kept, and every webhook is checked the way the test says (the vendor's own validator, say).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.exceptions import ConnectionClosed

from anycarrier.testing.live_server import serve


@dataclass
class Webhook:
    """One request a carrier sent us."""

    method: str
    path: str
    url: str
    params: dict[str, str]
    headers: dict[str, str]
    body: bytes
    genuine: bool


@dataclass
class Socket:
    """One media stream a carrier opened to us, with the frames it sent."""

    path: str
    headers: dict[str, str]
    connection: ServerConnection
    frames: list[dict[str, Any]] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, frame: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(frame))

    async def play(self, audio: bytes) -> None:
        payload = base64.b64encode(audio).decode()
        await self.send({"event": "media", "streamSid": self.sid, "media": {"payload": payload}})

    async def mark(self, name: str) -> None:
        await self.send({"event": "mark", "streamSid": self.sid, "mark": {"name": name}})

    async def clear(self) -> None:
        await self.send({"event": "clear", "streamSid": self.sid})

    @property
    def sid(self) -> str:
        return str(self.of("start")[0]["streamSid"])

    def of(self, event: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame["event"] == event]

    async def wait_for(self, event: str, count: int = 1, timeout: float = 30) -> list[dict[str, Any]]:
        async with asyncio.timeout(timeout):
            while len(self.of(event)) < count and not self.closed.is_set():
                self.news.clear()
                await self.news.wait()
        assert len(self.of(event)) >= count, f"the stream closed after {len(self.frames)} frames"
        return self.of(event)[:count]

    def audio(self) -> bytes:
        """All sound of the far end so far."""
        return b"".join(base64.b64decode(frame["media"]["payload"]) for frame in self.of("media"))


class Platform:
    """``replies`` maps a path to what is answered there: text (as XML), or a function of the webhook."""

    def __init__(self, genuine: Callable[[Webhook], bool]) -> None:
        self.url = ""
        self.socket_url = ""
        self.webhooks: list[Webhook] = []
        self.sockets: list[Socket] = []
        self.replies: dict[str, str | Response | Callable[[Webhook], Any]] = {}
        self.echo = False
        self.read = True
        self._genuine = genuine
        self._news = asyncio.Event()
        self.app = Starlette(routes=[Route("/{path:path}", self._webhook, methods=["GET", "POST"])])

    async def _webhook(self, request: Request) -> Response:
        body = await request.body()
        text = request.url.query if request.method == "GET" else body.decode()
        webhook = Webhook(
            request.method,
            request.url.path,
            str(request.url),
            dict(parse_qsl(text, keep_blank_values=True)),
            dict(request.headers),
            body,
            False,
        )
        webhook.genuine = self._genuine(webhook)
        self.webhooks.append(webhook)
        self._tell()
        reply = self.replies.get(webhook.path)
        if callable(reply) and not isinstance(reply, Response):
            reply = await reply(webhook)
        if isinstance(reply, Response):
            return reply
        return Response(reply, media_type="text/xml") if reply else Response(status_code=204)

    async def _socket(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        socket = Socket(request.path, dict(request.headers.raw_items()), connection)
        self.sockets.append(socket)
        self._tell()
        try:
            while self.read:
                frame = json.loads(await connection.recv())
                socket.frames.append(frame)
                socket.news.set()
                if self.echo and frame["event"] == "media":
                    await socket.play(base64.b64decode(frame["media"]["payload"]))
            await connection.wait_closed()
        except ConnectionClosed:
            pass
        finally:
            socket.closed.set()
            socket.news.set()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def told(self, path: str, **params: str) -> list[Webhook]:
        """The webhooks that came to ``path`` with these parameters."""
        return [w for w in self.webhooks if w.path == path and all(w.params.get(k) == v for k, v in params.items())]

    async def wait_told(self, path: str, count: int = 1, timeout: float = 30, **params: str) -> list[Webhook]:
        async with asyncio.timeout(timeout):
            while len(self.told(path, **params)) < count:
                await self._news.wait()
        return self.told(path, **params)

    async def socket(self, index: int = 0, timeout: float = 30) -> Socket:
        """The stream's socket, once its ``start`` has come."""
        async with asyncio.timeout(timeout):
            while len(self.sockets) <= index:
                await self._news.wait()
        await self.sockets[index].wait_for("start")
        return self.sockets[index]


@contextlib.asynccontextmanager
async def platform(genuine: Callable[[Webhook], bool]) -> AsyncIterator[Platform]:
    """A running platform on two loopback ports."""
    here = Platform(genuine)
    sockets: Server
    async with serve(here.app) as here.url, serve_sockets(here._socket, "127.0.0.1", 0, compression=None) as sockets:
        here.socket_url = f"ws://127.0.0.1:{next(iter(sockets.sockets)).getsockname()[1]}"
        yield here
