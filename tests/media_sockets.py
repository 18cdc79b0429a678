"""A carrier's side of media sockets, on the portable path or the fast one. Plain ``websockets``: nothing of ours judges
itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect

from linecard import Call, CallStatus, Direction, Exchange, MediaSession

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

        self.exchange.agents = talk

    async def ticket(self) -> str:
        """The media URL of a fresh call."""
        self.calls += 1
        call = await self.exchange.calls.open(
            Call(
                id=f"in-{self.calls}",
                provider="inline",
                direction=Direction.INBOUND,
                from_=CALLER,
                to=OURS,
                status=CallStatus.RINGING,
                reference=f"ref-{self.calls}",
                credential_id="main",
                agent_id="a",
            )
        )
        url = self.exchange.stream_target(call, {}, ttl=60).url
        return self.base + "/media/" + url.rpartition("/")[2]

    async def join(self, **options: Any) -> ClientConnection:
        """A carrier's socket on a fresh call, its stream started."""
        socket = await connect(await self.ticket(), **options)
        await socket.send(json.dumps({"event": "start", "call_id": f"in-{self.calls}"}))
        return socket

    async def live(self, count: int = 1) -> MediaSession:
        async with asyncio.timeout(5):
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
