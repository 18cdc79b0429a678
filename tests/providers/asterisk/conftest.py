"""A listener without sockets, whose desk keeps what it is told; and an exchange with a sandbox of Asterisk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from anycarrier import Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import create_app
from anycarrier.events import CallEvent
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.webhooks import WebhookReply
from anycarrier_asterisk import AsteriskCredential, AsteriskProvider
from anycarrier_asterisk.listener import AsteriskListener
from anycarrier_asterisk.sandbox import AsteriskSandbox

OURS, THEIRS = "+14155550101", "+12125550110"


def credential(**changes: Any) -> AsteriskCredential:
    return AsteriskCredential(
        **{
            "base_url": "http://pbx.test:8088", "username": "us", "password": "kept-secret",
            "endpoint": "PJSIP/{number}@trunk", "app": "desk-app", **changes,
        }
    )  # fmt: skip


class Desk:
    """Keeps what it is told, and does what is to be done beside."""

    credential_id = "main"

    def __init__(self) -> None:
        self.told: list[CallEvent] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.reply = WebhookReply(status=204)

    async def event(self, event: CallEvent) -> WebhookReply:
        self.told.append(event)
        return self.reply

    def tell(self, event: CallEvent) -> None:
        self.told.append(event)

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task


@dataclass
class Bare:
    """A provider and its listener, connected to nothing; ``asked`` are the requests, all of which are answered."""

    answers: dict[str, httpx.Response] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Desk()
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.provider = AsteriskProvider(credential(), http)
        self.listener: AsteriskListener = self.provider.listen(self.desk)  # type: ignore[arg-type]
        self.listener.connected = True

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        for path, answer in self.answers.items():
            if request.url.path.endswith(path):
                return answer
        return httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json={})


@dataclass
class House:
    """An exchange, its agent that repeats what it hears, and the server it is connected to."""

    exchange: Exchange
    server: AsteriskSandbox
    sessions: list[MediaSession] = field(default_factory=list)

    @property
    def app(self) -> str:
        return str(self.exchange.switchboard.credentials.by_id["main"].app)  # type: ignore[attr-defined]

    async def provider(self) -> AsteriskProvider:
        found = await self.exchange.switchboard.provider("main")
        assert isinstance(found, AsteriskProvider)
        return found


async def until(met: Any, timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not met():
            await asyncio.sleep(0.005)


class Tools:
    """What the tests of this folder share, by way of a fixture: test modules do not import one another."""

    OURS, THEIRS = OURS, THEIRS
    Bare, Desk, House = Bare, Desk, House
    credential = staticmethod(credential)
    until = staticmethod(until)


@pytest.fixture
def tools() -> type[Tools]:
    return Tools


@pytest.fixture
async def bare() -> AsyncIterator[Bare]:
    made = Bare()
    yield made
    for task in made.desk.tasks:
        task.cancel()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with contextlib.AsyncExitStack() as held:
        server = await held.enter_async_context(serve_sandbox(AsteriskSandbox))
        server.add_number(OURS)
        port = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(), credentials={"main": server.credential()}, public_url=url_of(port),
            secret="x" * 40, policy=Policy(allow=["US"]), settle=1.0,
        )  # fmt: skip
        server.point_webhooks(exchange.switchboard.webhook_url("asterisk", "main"))
        made = House(exchange, server)

        async def echo(session: MediaSession) -> None:
            from anycarrier import AudioReceived

            made.sessions.append(session)
            async for event in session:
                if isinstance(event, AudioReceived):
                    await session.send_audio(event.payload)

        exchange.switchboard.agents = echo
        await held.enter_async_context(serve(create_app(exchange), port))
        await exchange.assign(OURS, agent_id="desk", credential_id="main")
        yield made
