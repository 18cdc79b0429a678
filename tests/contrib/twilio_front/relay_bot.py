"""A bot for ConversationRelay on plain ``websockets``: none of our code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


@dataclass
class Talk:
    """One session as the bot has it."""

    connection: ServerConnection
    path: str
    headers: dict[str, str]
    received: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, type: str, **fields: Any) -> None:
        await self.connection.send(json.dumps({"type": type, **fields}))

    async def say(self, text: str, **fields: Any) -> None:
        """One talk cycle, a word a token."""
        words = text.split(" ")
        for number, word in enumerate(words, 1):
            last = number == len(words)
            await self.send("text", token=word if last else f"{word} ", last=last, **fields)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.received if message["type"] == kind]

    async def wait_for(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th message of a kind."""
        async with asyncio.timeout(30):
            while len(self.of(kind)) < count:
                assert not self.closed.is_set(), f"closed after {self.received}"
                self.news.clear()
                await self.news.wait()
        return self.of(kind)[count - 1]


class RelayBot:
    """``talk`` is what the bot does in each session."""

    def __init__(self, talk: Callable[[Talk], Awaitable[None]]) -> None:
        self.talk = talk
        self.talks: list[Talk] = []
        self.url = ""
        self.close_code: int | None = None

    async def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        talk = Talk(connection, request.path, dict(request.headers.raw_items()))
        self.talks.append(talk)
        talking = asyncio.ensure_future(self.talk(talk))
        try:
            async for frame in connection:
                talk.received.append(json.loads(frame))
                talk.news.set()
        except ConnectionClosed:
            pass
        finally:
            self.close_code = connection.close_code
            talk.closed.set()
            talk.news.set()
            if not talking.done():
                talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)


@contextlib.asynccontextmanager
async def relay_bot(talk: Callable[[Talk], Awaitable[None]]) -> AsyncIterator[RelayBot]:
    """The bot on a loopback port."""
    bot = RelayBot(talk)
    async with serve(bot._serve, "127.0.0.1", 0, compression=None) as server:
        bot.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/relay"
        yield bot
