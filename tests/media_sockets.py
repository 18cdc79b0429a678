"""A carrier's side of media sockets, on the portable path or the fast one. Plain ``websockets``: nothing of ours judges
itself."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from anycarrier import AudioReceived, Call, CallStatus, Direction, Exchange, MediaEvent, MediaSession
from anycarrier.errors import MalformedMessage
from fake_carriers import FakeFrames

OURS, CALLER = "+14155550101", "+12125550102"


@dataclass
class Media:
    """What a test acts with."""

    exchange: Exchange
    base: str
    fast: bool
    sessions: list[MediaSession] = field(default_factory=list)
    calls: int = 0

    def answer_with(self, handler: Callable[[MediaSession], Awaitable[None]]) -> None:
        async def talk(session: MediaSession) -> None:
            self.sessions.append(session)
            await handler(session)

        self.exchange.switchboard.agents = talk

    async def ticket(self) -> str:
        """The media URL of a fresh call."""
        self.calls += 1
        call = await self.exchange.switchboard.calls.open(
            Call(
                id=f"in-{self.calls}",
                provider="inline",
                direction=Direction.INBOUND,
                from_=CALLER,
                to=OURS,
                status=CallStatus.RINGING,
                reference=f"{self.calls:032x}",
                credential_id="main",
                agent_id="a",
            )
        )
        url = self.exchange.switchboard.stream_target(call, {}, ttl=60).url
        return self.base + "/media/" + url.rpartition("/")[2]

    async def join(self, **options: Any) -> ClientConnection:
        """A carrier's socket on a fresh call, its stream started."""
        socket = await connect(await self.ticket(), **options)
        await socket.send(json.dumps({"event": "start", "call_id": f"in-{self.calls}"}))
        return socket

    async def live(self, count: int = 1) -> MediaSession:
        async with asyncio.timeout(30):
            while len(self.sessions) < count:
                await asyncio.sleep(0.005)
        return self.sessions[count - 1]


async def listen(session: MediaSession) -> None:
    async for _ in session:
        pass


async def ordinary(websocket: WebSocket) -> None:
    """A WebSocket of the host application's own, which answers in capitals."""
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())


class RelayFrames(FakeFrames):
    """Frames whose sound is base64, so that it can pass untouched."""

    def decode(self, frame: bytes | str) -> list[MediaEvent]:
        events = super().decode(frame)
        try:
            return [AudioReceived(base64.b64decode(e.payload)) if isinstance(e, AudioReceived) else e for e in events]
        except ValueError:
            raise MalformedMessage("no base64", frame) from None

    def relay(self, frame: bytes | str) -> str | None:
        message = json.loads(frame)
        return message["audio"] if message["event"] == "media" and "plain" in message else None

    def encode_audio(self, payload: bytes) -> list[str]:
        return self._frame(event="media", audio=base64.b64encode(payload).decode())

    def encode_relayed(self, base64_audio: str) -> str | None:
        return self._frame(event="media", audio=base64_audio, relayed=True)[0]


class RawAgent:
    """An agent on plain ``websockets`` that does speech itself; ``said`` is all it was told, oldest first."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.socket: ServerConnection | None = None
        self.ready = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.closed = asyncio.Event()

    async def serve(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.ready.set()
        try:
            while True:
                await self.reading.wait()
                self.said.append(json.loads(await socket.recv()))
        except ConnectionClosed:
            self.closed.set()

    async def say(self, *messages: dict[str, Any]) -> None:
        await asyncio.wait_for(self.ready.wait(), 30)
        assert self.socket is not None
        for message in messages:
            await self.socket.send(json.dumps(message))

    async def told(self, met: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """All it was told, once ``met`` holds of it."""
        async with asyncio.timeout(30):
            while not met(self.said):
                await asyncio.sleep(0.005)
        return self.said


RAW = {"x-use-inkbox-text-to-speech": "false", "x-use-inkbox-speech-to-text": "false"}


@contextlib.asynccontextmanager
async def raw_agent() -> AsyncIterator[tuple[RawAgent, str]]:
    """A raw agent and its URL."""
    agent = RawAgent()

    def choose(connection: ServerConnection, request: Request, response: Response) -> None:
        response.headers.update(RAW)

    listening = socket.create_server(("127.0.0.1", 0))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # an agent that does not read is soon felt
    async with serve_websocket(agent.serve, sock=listening, process_response=choose, compression=None):
        port = listening.getsockname()[1]
        yield agent, f"ws://127.0.0.1:{port}/agent"


def sound(number: int) -> str:
    """20 ms of it, unlike any other's."""
    return base64.b64encode(number.to_bytes(4, "big") * 40).decode()
