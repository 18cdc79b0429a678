"""The carrier with sockets of its own (docs/write-a-provider.md) takes calls by an exchange, and passes the kit."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
from anycarrier_acme.direct import DirectCredential, DirectListener, DirectProvider, DirectSettings

from anycarrier import (
    AudioReceived,
    CallStatus,
    Desk,
    EndReason,
    Exchange,
    MediaSession,
    MemoryNumberRegistry,
    hookimpl,
    plugins,
)
from anycarrier.errors import NotFound
from anycarrier.testing.conformance import ProviderConformance

CASSETTES = Path(__file__).resolve().parents[2] / "docs" / "examples" / "anycarrier-acme" / "tests" / "direct"
OURS, THEIRS = "+14155550100", "+14155550123"


class Plugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[DirectProvider]]:
        return [DirectProvider]


@pytest.fixture(autouse=True)
def direct() -> Iterator[None]:
    plugins.reset()
    plugins.register(Plugin(), "acme-direct")
    yield
    plugins.reset()


class TestDirect(ProviderConformance):
    provider = DirectProvider
    credential = DirectCredential(api_key="test")
    cassettes = CASSETTES

    def settings_at(self, port: int) -> DirectSettings:
        return DirectSettings(port=port)


# --- calls ----------------------------------------------------------------------------------------------------------


class Acme:
    """The far end, with one connection."""

    connected: ClassVar[list[Acme]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connected.append(self)

    @classmethod
    async def connects(cls, port: int) -> Acme:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def rings(cls, port: int, **changed: Any) -> Acme:
        acme = await cls.connects(port)
        acme.say(**{"type": "ring", "key": "test", "from": THEIRS, "to": OURS, **changed})
        return acme

    def say(self, **frame: Any) -> None:
        self.writer.write(json.dumps(frame).encode() + b"\n")

    async def hears(self) -> dict[str, Any] | None:
        """The next line; None when we have hung up."""
        line = await asyncio.wait_for(self.reader.readline(), 30)
        return json.loads(line) if line else None

    def hang_up(self) -> None:
        self.writer.close()


async def echo(session: MediaSession) -> None:
    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


@asynccontextmanager
async def listening(agent: Any = echo) -> AsyncIterator[tuple[Exchange, int]]:
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": DirectCredential(api_key="test"), "second": DirectCredential(api_key="another")},
        public_url="https://voice.example.com",
        secret="x" * 32,
        agents={"desk": agent},
    )
    await exchange.start()
    await exchange.assign(OURS, agent_id="desk", credential_id="main", configure=False)
    provider = await exchange.switchboard.provider("main")
    assert isinstance(provider, DirectProvider) and provider.listener is not None
    try:
        yield exchange, provider.listener.socket.server.sockets[0].getsockname()[1]
    finally:
        await exchange.stop()
        while Acme.connected:
            acme = Acme.connected.pop()
            acme.hang_up()
            with suppress(OSError):
                await acme.writer.wait_closed()


def test_a_call_is_answered_heard_and_over_when_the_far_end_hangs_up() -> None:
    async def scenario() -> None:
        async with listening() as (exchange, port):
            acme = await Acme.rings(port)
            assert await acme.hears() == {"type": "answer"}
            acme.say(type="audio", data=b64encode(b"\x55" * 160).decode())
            heard = await acme.hears()
            assert heard is not None and b64decode(heard["data"]) == b"\x55" * 160
            [call] = await exchange.calls_in_progress()
            assert (call.from_, call.to, call.status) == (THEIRS, OURS, CallStatus.ANSWERED)
            acme.hang_up()
            assert (await exchange.wait_for(call, timeout=30)).reason is EndReason.USER_HANGUP

    asyncio.run(scenario())


def test_a_call_is_hung_up_once_its_agent_was_heard() -> None:
    async def leave(session: MediaSession) -> None:
        await session.send_audio(b"\x55" * 160)

    async def scenario() -> None:
        async with listening(leave) as (exchange, port):
            acme = await Acme.rings(port)
            heard: list[str] = []
            while (frame := await acme.hears()) is not None:
                heard.append(frame["type"])
                if frame["type"] == "mark":
                    acme.say(**frame)
            assert heard[:2] == ["answer", "audio"]
            assert await exchange.calls_in_progress() == []

    asyncio.run(scenario())


def test_a_call_is_hung_up_from_outside() -> None:
    async def scenario() -> None:
        async with listening() as (exchange, port):
            acme = await Acme.rings(port)
            await acme.hears()
            [call] = await exchange.calls_in_progress()
            await exchange.hang_up(call)
            assert (await exchange.wait_for(call, timeout=30)).reason is EndReason.API_STOP
            assert await acme.hears() is None

    asyncio.run(scenario())


def test_a_number_without_a_line_is_declined_and_a_stranger_gets_no_answer() -> None:
    async def scenario() -> None:
        async with listening() as (exchange, port):
            assert await (await Acme.rings(port, to="+14155550199")).hears() is None
            assert await (await Acme.rings(port, key="another")).hears() is None  # the number is not on that credential
            for wrong in ({"key": "nobody"}, {"key": ["x"]}, {"from": 5}):
                assert await (await Acme.rings(port, **wrong)).hears() is None
            stranger = await Acme.connects(port)
            stranger.writer.write(b"GET / HTTP/1.1\r\n")
            assert await stranger.hears() is None
            assert await exchange.calls_in_progress() == []

    asyncio.run(scenario())


def test_an_exchange_that_stops_ends_its_calls_and_they_are_told() -> None:
    async def scenario() -> None:
        async with listening() as (exchange, port):
            acme = await Acme.rings(port)
            await acme.hears()
            [call] = await exchange.calls_in_progress()
        over = await exchange.switchboard.calls.get(call.reference)
        assert over is not None and over.ended

    asyncio.run(scenario())


# --- and the kit sees what is wrong ---------------------------------------------------------------------------------


class Succeeds(DirectProvider):
    async def hang_up(self, call_id: str) -> None:
        pass


class KnowsNoSuchCall(DirectProvider):
    async def hang_up(self, call_id: str) -> None:
        raise NotFound(self.name, "hang_up")


class NamesNothing(DirectProvider):
    def listen(self, desk: Desk) -> DirectListener:
        listener = super().listen(desk)
        start = listener.start

        async def nameless() -> None:
            try:
                await start()
            except OSError as refused:
                raise OSError(refused.errno, "no") from None

        listener.start = nameless  # type: ignore[method-assign]
        return listener


class TakesNone(DirectProvider):
    def listen(self, desk: Desk) -> DirectListener:
        listener = super().listen(desk)
        listener.settings = DirectSettings()  # and not what it is told
        return listener


class StopsOnce(DirectProvider):
    def listen(self, desk: Desk) -> DirectListener:
        listener = super().listen(desk)
        stop = listener.stop

        async def once() -> None:
            assert listener.socket.listeners.get(listener.key) is listener
            await stop()

        listener.stop = once  # type: ignore[method-assign]
        return listener


@pytest.mark.parametrize(
    ("defective", "check"),
    [
        (Succeeds, lambda kit: kit.test_a_call_that_is_not_here_is_elsewhere("hang_up")),
        (KnowsNoSuchCall, lambda kit: kit.test_a_call_that_is_not_here_is_elsewhere("hang_up")),
        (NamesNothing, TestDirect.test_an_address_that_is_taken_is_named_and_opens_once_it_is_free),
        (TakesNone, TestDirect.test_an_address_that_is_taken_is_named_and_opens_once_it_is_free),
        (StopsOnce, TestDirect.test_a_listener_opens_and_closes_and_opens_again),
    ],
)
def test_a_defect_is_seen(defective: type[DirectProvider], check: Callable[[TestDirect], None]) -> None:
    class Defective:
        @hookimpl
        def anycarrier_providers(self) -> list[type[DirectProvider]]:
            return [defective]

    class Kit(TestDirect):
        __test__ = False
        provider = defective

    plugins.reset()
    plugins.register(Defective(), "defective")
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(Kit())
