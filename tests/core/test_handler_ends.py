"""However a handler ends, or does not, its call ends within a bounded time and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from anycarrier import AudioReceived, Call, EndReason, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.errors import StreamNotOpen
from core.conftest import OURS, connect, post, ring, ticket_in
from fake_carriers import FakeCredential, InlineProvider, MemoryTransport

GRACE = 2.0


@pytest.fixture
async def exchange(fake_plugins: None) -> AsyncIterator[Exchange]:
    made = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": FakeCredential()},
        public_url="https://voice.example.com",
        secret="x" * 32,
        policy=Policy(allow=["US"]),
        time_limit=60,
        handler_grace=GRACE,
        report=lambda what, failure: None,
    )
    await made.assign(OURS, agent_id="a", credential_id="main")
    yield made
    await made.stop()


def now() -> float:
    return asyncio.get_running_loop().time()


class OneCall:
    """A call of a handler, its media socket, and a carrier that reports each hang-up at once."""

    def __init__(self, exchange: Exchange, handler: Callable[[MediaSession], Awaitable[None]]) -> None:
        self.exchange = exchange
        self.tasks = asyncio.all_tasks()
        self.sessions: list[MediaSession] = []

        async def talk(session: MediaSession) -> None:
            self.sessions.append(session)
            await handler(session)

        exchange.switchboard.agents = talk

    async def begin(self) -> MemoryTransport:
        self.transport, self.serving = await connect(self.exchange, ticket_in(await ring(self.exchange)), "in-1")
        self.transport.echo_marks = False
        async with asyncio.timeout(30):
            while not self.sessions:
                await asyncio.sleep(0)
        self.began = now()
        return self.transport

    async def hung_up(self) -> float:
        """Seconds until the carrier was asked to end the leg; it then says that it has."""
        async with asyncio.timeout(1000):
            while not any(entry[0] == "hang_up" for entry in InlineProvider.log):
                await asyncio.sleep(0.01)
        took = now() - self.began
        await self.ended_at_the_carrier()
        return took

    async def ended_at_the_carrier(self) -> None:
        await post(self.exchange, event="status", status="ended", reason="user_hangup", id="in-1", event_id="over")
        self.transport.say(event="stop")

    async def nothing_is_left(self) -> Call:
        """Once the call is over; what was made of it."""
        await asyncio.wait_for(self.serving, 1000)
        assert not self.exchange.switchboard.sessions
        await asyncio.sleep(1)
        assert {task.get_name() for task in asyncio.all_tasks() - self.tasks} == set()
        call = await self.exchange.switchboard.calls.get("in-1")
        assert call is not None and call.ended
        return call


async def raises_at_once(session: MediaSession) -> None:
    raise RuntimeError("a bug at its start")


async def raises_in_the_middle(session: MediaSession) -> None:
    await session.send_audio(b"\x20" * 80_000)
    async for event in session:
        if isinstance(event, AudioReceived):
            raise RuntimeError("a bug in the middle")


async def ends_in_the_middle(session: MediaSession) -> None:
    await anext(session)
    await session.send_audio(b"\x20" * 8000)  # one second, and its mark does not come back


async def hangs_at_its_start(session: MediaSession) -> None:
    await asyncio.Event().wait()


async def never_reads(session: MediaSession) -> None:
    while True:
        await session.send_audio(b"\x20" * 160)
        await asyncio.sleep(0.02)


async def defies_its_cancellation(session: MediaSession) -> None:
    ending = asyncio.get_running_loop().time() + 20
    while asyncio.get_running_loop().time() < ending:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("handler", "at_least", "within", "reason"),
    [
        (raises_at_once, 0, 0.1, EndReason.AGENT_ERROR),
        (raises_in_the_middle, 0, 0.1, EndReason.AGENT_ERROR),
        (ends_in_the_middle, 2.9, 3.1, EndReason.AGENT_HANGUP),
        (hangs_at_its_start, 59, 61, EndReason.MAX_DURATION),
        (never_reads, 59, 61, EndReason.MAX_DURATION),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_the_leg_is_hung_up_within_a_bounded_time(
    exchange: Exchange, handler: Any, at_least: float, within: float, reason: EndReason
) -> None:
    call = OneCall(exchange, handler)
    transport = await call.begin()
    transport.say(event="media", audio="a" * 160)
    assert at_least <= await call.hung_up() <= within
    assert (await call.nothing_is_left()).reason is reason


@pytest.mark.parametrize(
    ("handler", "seconds"),
    [(hangs_at_its_start, GRACE), (never_reads, 0.1), (defies_its_cancellation, 2 * GRACE)],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_when_the_far_end_leaves_the_handler_is_gone_within_a_bounded_time(
    exchange: Exchange, handler: Any, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    call = OneCall(exchange, handler)
    await call.begin()
    await asyncio.sleep(1)
    left = now()
    await call.ended_at_the_carrier()
    await asyncio.wait_for(call.serving, 1000)
    assert now() - left <= seconds + 0.1
    assert not exchange.switchboard.sessions, "nothing of it is kept, whatever the handler does"
    if handler is defies_its_cancellation:
        assert "goes on although its call is over" in caplog.text
        await asyncio.sleep(30)
    assert (await call.nothing_is_left()).reason is EndReason.USER_HANGUP


async def test_audio_that_is_never_read_is_kept_within_bounds(exchange: Exchange) -> None:
    call = OneCall(exchange, hangs_at_its_start)
    transport = await call.begin()
    for _ in range(2000):
        transport.say(event="media", audio="a" * 160)
    async with asyncio.timeout(30):
        while call.sessions[0].dropped_frames < 1500:
            await asyncio.sleep(0)
    assert call.sessions[0].waiting == 500
    await call.ended_at_the_carrier()
    await call.nothing_is_left()


async def test_a_handler_that_is_told_of_the_end_may_finish_its_work(exchange: Exchange) -> None:
    finished: list[float] = []

    async def tidy(session: MediaSession) -> None:
        async for _ in session:
            pass
        with pytest.raises(StreamNotOpen):
            await session.send_audio(b"a")
        await asyncio.sleep(GRACE - 0.1)
        finished.append(now())

    call = OneCall(exchange, tidy)
    await call.begin()
    left = now()
    await call.ended_at_the_carrier()
    await call.nothing_is_left()
    assert [at - left for at in finished] == [pytest.approx(GRACE - 0.1, abs=0.05)]
