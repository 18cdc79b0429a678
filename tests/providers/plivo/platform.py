"""A customer of Plivo's that is not anycarrier: answers webhooks as it was told, and checks them by Plivo's own SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from plivo.utils.signature_v3 import validate_v3_signature
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from anycarrier.testing.live_server import listening, serve, url_of


class Customer:
    """``told`` are the webhooks by path, ``frames`` what came on the media socket, ``say`` what to send there."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.url = ""
        self.xml: dict[str, list[str | int]] = {}
        self.told: list[tuple[str, dict[str, str]]] = []
        self.frames: list[dict[str, Any]] = []
        self.say: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.app = Starlette(
            routes=[
                WebSocketRoute("/media", self._media),
                Route("/{path:path}", self._webhook, methods=["GET", "POST"]),
            ]
        )

    @property
    def stream(self) -> str:
        url = f"{self.url.replace('http', 'ws')}/media"
        kind = "audio/x-mulaw;rate=8000"
        return f'<Stream bidirectional="true" keepCallAlive="true" contentType="{kind}">{url}</Stream>'

    def answer(self, path: str, *replies: str | int) -> str:
        """What ``path`` replies, one after the other: the inside of a Response, or a status. Returns its URL."""
        self.xml[path] = list(replies)
        return f"{self.url}/{path}"

    def kinds(self, path: str = "") -> list[str]:
        return [form.get("Event", "") for where, form in self.told if not path or where == path]

    async def wait(self, kind: str, timeout: float = 20) -> dict[str, str]:
        """The form of the first webhook with that ``Event``."""
        async with asyncio.timeout(timeout):
            while True:
                for _, form in self.told:
                    if form.get("Event") == kind:
                        return form
                await asyncio.sleep(0.005)

    async def frame(self, event: str, timeout: float = 20) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            while True:
                for frame in self.frames:
                    if frame["event"] == event:
                        return frame
                await asyncio.sleep(0.005)

    async def _webhook(self, request: Request) -> Response:
        path, body = request.path_params["path"], (await request.body()).decode()
        url = self.url + request.url.path + (f"?{request.url.query}" if request.url.query else "")
        form = dict(parse_qsl(body or request.url.query, keep_blank_values=True))
        signature, nonce = (request.headers[f"x-plivo-signature-{part}"] for part in ("v3", "v3-nonce"))
        posted = form if request.method == "POST" else {}
        assert validate_v3_signature(request.method, url, nonce, self.token, signature, dict(posted))
        self.told.append((path, form))
        replies = self.xml.get(path, [""])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, int):
            return Response(status_code=reply)
        return Response(f"<Response>{reply}</Response>", media_type="application/xml")

    async def _media(self, socket: WebSocket) -> None:
        await socket.accept()
        speaking = asyncio.ensure_future(self._speak(socket))
        try:
            while True:
                self.frames.append(json.loads(await socket.receive_text()))
        except WebSocketDisconnect:
            pass
        finally:
            speaking.cancel()

    async def _speak(self, socket: WebSocket) -> None:
        while (frame := await self.say.get()) is not None:
            await socket.send_text(json.dumps(frame))
        await socket.close()


@asynccontextmanager
async def customer(token: str) -> AsyncIterator[Customer]:
    made, sock = Customer(token), listening()
    made.url = url_of(sock)
    async with serve(made.app, sock):
        yield made
