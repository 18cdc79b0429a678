"""Somebody's agent, on plain ``websockets``: not our client code, and not written with our protocol module."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response


@dataclass
class Conversation:
    """One call as the agent has it: all that was received, and a way to answer."""

    connection: ServerConnection
    path: str
    headers: dict[str, str]
    received: list[dict[str, Any]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def say(self, text: str, turn_id: str | None = None) -> None:
        """One turn of text, in two deltas and a done."""
        extra = {} if turn_id is None else {"turn_id": turn_id}
        half = len(text) // 2
        for delta in (text[:half], text[half:]):
            await self.send(event="text", delta=delta, **extra)
        await self.send(event="text", done=True, **extra)

    async def play(self, mulaw: bytes, size: int = 160) -> None:
        """Audio, as fast as it goes, and the end of it."""
        for at in range(0, len(mulaw), size):
            payload = base64.b64encode(mulaw[at : at + size]).decode()
            await self.send(event="media", media={"track": "outbound", "payload": payload})
        await self.send(event="audio_done")

    async def hang_up(self) -> None:
        """Hang up as agents do, and read until the other side has closed."""
        await self.send(event="stop")
        await self.closed.wait()

    def of(self, event: str) -> list[dict[str, Any]]:
        """What was received of one kind."""
        return [message for message in self.received if message["event"] == event]

    def audio(self) -> bytes:
        """The caller's sound received so far."""
        return b"".join(base64.b64decode(message["media"]["payload"]) for message in self.of("media"))

    async def until(self, met: Callable[[], Any], timeout: float = 30) -> None:
        """Wait until what was received satisfies ``met``."""
        async with asyncio.timeout(timeout):
            while not met():
                self._news.clear()
                await self._news.wait()

    async def read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self.connection:
                self.received.append(json.loads(message))
                self._news.set()
        self.closed.set()
        self._news.set()


class AgentServer:
    """Listens on loopback. ``talk`` is what the agent does on each call; ``mode`` its two headers, None for neither."""

    def __init__(self, talk: Callable[[Conversation], Awaitable[None]] | None = None) -> None:
        self.talk = talk
        self.tts: bool | None = None
        self.stt: bool | None = None
        self.refuse: int | None = None
        self.redirect: str | None = None
        self.delay = 0.0
        self.conversations: list[Conversation] = []
        self.requests: list[Request] = []
        self._arrived = asyncio.Event()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/agent?token=t-1"

    async def conversation(self, number: int = 1, timeout: float = 30) -> Conversation:
        """The ``number``-th call."""
        async with asyncio.timeout(timeout):
            while len(self.conversations) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.conversations[number - 1]

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        await asyncio.sleep(self.delay)
        if self.redirect is not None:
            response = connection.respond(302, "elsewhere\n")
            response.headers["Location"] = self.redirect
            return response
        return connection.respond(self.refuse, "no\n") if self.refuse is not None else None

    def _response(self, connection: ServerConnection, request: Request, response: Response) -> None:
        for name, value in (("X-Use-Inkbox-Text-To-Speech", self.tts), ("x-use-inkbox-speech-to-text", self.stt)):
            if value is not None:
                response.headers[name] = str(value).lower()

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        headers = dict(connection.request.headers.raw_items())
        conversation = Conversation(connection, connection.request.path, headers)
        self.conversations.append(conversation)
        self._arrived.set()
        reading = asyncio.ensure_future(conversation.read())
        try:
            if self.talk is not None:
                with contextlib.suppress(ConnectionClosed):
                    await self.talk(conversation)
            else:
                await conversation.closed.wait()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


@contextlib.asynccontextmanager
async def agent_server(
    talk: Callable[[Conversation], Awaitable[None]] | None = None, **how: Any
) -> AsyncIterator[AgentServer]:
    """An agent listening while the block runs; ``how`` are attributes of :class:`AgentServer`."""
    server = AgentServer(talk)
    for name, value in how.items():
        setattr(server, name, value)
    async with serve(
        server._serve,
        "127.0.0.1",
        0,
        process_request=server._request,
        process_response=server._response,
        close_timeout=0.5,
    ) as listening:
        server._server = listening
        yield server
