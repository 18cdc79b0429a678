"""One exchange and one carrier's sandbox on real loopback sockets; every scenario runs on every carrier."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from anycarrier import Call, CallEvent, CallProgress, CallStatus, Capability, Exchange, MemoryNumberRegistry, Policy
from anycarrier import plugins as anycarrier_plugins
from anycarrier.asgi import create_app
from anycarrier.provider import Provider
from anycarrier.session import MediaSession
from anycarrier.switchboard import Handler
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox, sandbox_type
from virtual_time import Loops, steady_loops, virtual_loops
from virtual_time import one_clock as one_clock

CARRIERS = [
    "twilio",
    "telnyx",
    "bandwidth",
    "acme",
    "sip",
    "signalwire",
    "plivo",
    "asterisk",
    "vonage",
]

OURS = "+14155550101"
SPARE = "+14155550102"
CALLER = "+12125550110"
CALLEE = "+12125550120"


@dataclass
class House:
    """What a scenario acts with: the exchange, the carrier, our number, and what happened."""

    exchange: Exchange
    sandbox: Sandbox
    provider: type[Provider]
    base_url: str
    events: list[tuple[CallEvent, Call | None]] = field(default_factory=list)
    sessions: list[MediaSession] = field(default_factory=list)

    @property
    def listens(self) -> bool:
        """Whether the carrier's calls come over sockets of its own: no webhooks, no WebSocket of ours, no REST."""
        return Capability.LISTEN in self.provider.capabilities

    @property
    def direct(self) -> bool:
        """Whether nothing is between us and the far end that could be asked by REST: SIP."""
        return self.listens and "base_url" not in self.provider.credential_type.model_fields

    def skip_where_it_listens(self, lacks: str) -> None:
        if self.listens:
            pytest.skip(f"capability LISTEN: {self.provider.name} has no {lacks}")

    def answer_with(self, handler: Handler) -> None:
        """The agent, for all agent ids; sessions are kept for the scenario to look at."""

        async def talk(session: MediaSession) -> None:
            self.sessions.append(session)
            await handler(session)

        self.exchange.switchboard.agents = talk

    async def ring(self, *, to: str = OURS, said: bytes = b"") -> FarEnd:
        """Somebody calls us."""
        return await self.sandbox.ring(to, CALLER, said=said)

    async def dial(self, to: str = CALLEE, **options: object) -> tuple[Call, FarEnd]:
        """We call somebody."""
        call = await self.exchange.dial(from_=OURS, to=to, **options)  # type: ignore[arg-type]
        return call, await self.sandbox.far_end(call.id)

    async def call_of(self, far_end: FarEnd) -> Call:
        """Our record of a far end's call."""
        call = await self.exchange.switchboard.calls.get(far_end.call_id)
        assert call is not None, "the exchange never heard of this call"
        return call

    async def over(self, call: Call | FarEnd, timeout: float = 30) -> Call:
        """The call, once it has ended."""
        key = call.call_id if isinstance(call, FarEnd) else call.reference
        await self.known(key)
        return await self.exchange.wait_for(key, CallStatus.ENDED, timeout)

    async def known(self, key: str) -> None:
        async with asyncio.timeout(30):
            while await self.exchange.switchboard.calls.get(key) is None:
                await asyncio.sleep(0.005)

    async def live(self, count: int = 1) -> MediaSession:
        """The ``count``-th session, once it is talking."""
        async with asyncio.timeout(30):
            while len(self.sessions) < count:
                await asyncio.sleep(0.005)
        return self.sessions[count - 1]

    def progress(self, call: Call) -> list[CallStatus]:
        """The statuses the carrier reported for a call, in order of a call's life; ringing only where the carrier
        says it can report it."""
        seen = {
            event.call.status
            for event, known in self.events
            if isinstance(event, CallProgress) and known is not None and known.reference == call.reference
        }
        return sorted(seen - {CallStatus.RINGING, CallStatus.QUEUED}, key=lambda status: status.rank)


async def until(met: Callable[[], bool], timeout: float = 30) -> None:
    """Wait for something that only the clock and the other side bring about."""
    async with asyncio.timeout(timeout):
        while not met():
            await asyncio.sleep(0.005)


async def echo(session: MediaSession) -> None:
    """Says back what it hears."""
    from anycarrier import AudioReceived

    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


async def listen(session: MediaSession) -> None:
    """Says nothing, stays until the end."""
    async for _ in session:
        pass


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    """All ends of a call live in one process: when it stands still, it does for all of them. Engines work elsewhere."""
    return steady_loops() if "spoken" in item.path.name else virtual_loops()


@contextlib.asynccontextmanager
async def open_house(carrier: str, *, settle: float = 60.0) -> AsyncIterator[House]:
    provider = anycarrier_plugins.get_provider(carrier)
    async with serve_sandbox(sandbox_type(carrier)) as sandbox:
        sandbox.add_number(OURS)
        sandbox.add_number(SPARE)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret="a secret of the whole suite, long enough",
            policy=Policy(allow=["US"]),
            settle=settle,
        )
        sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
        house = House(exchange, sandbox, provider, url_of(sock))
        exchange.switchboard.observers.append(lambda event, call: house.events.append((event, call)))
        house.answer_with(echo)
        async with serve(create_app(exchange), sock):
            await exchange.assign(OURS, agent_id="front-desk", credential_id="main")
            yield house


@pytest.fixture(params=CARRIERS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with open_house(request.param) as opened:
        yield opened
