"""Calls on the sockets of one process, and another that is asked to act on them: two exchanges, one call book."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from anycarrier import (
    Call,
    CallProgress,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    IncomingCall,
    MemoryNumberRegistry,
    MemoryOnce,
    Policy,
    hookimpl,
    plugins,
)
from anycarrier.callbook import MemoryCallBook
from anycarrier.calls import TransferStatus
from anycarrier.errors import CallElsewhere, ProviderUnavailable, StoreUnavailable
from anycarrier.held_calls import EVERY
from anycarrier.listener import Desk, Listener
from core.conftest import CALLER, OURS, echo
from fake_carriers import FakeCredential, MemoryTransport, TrunkListener, TrunkProvider

LEG = "leg-1"


class Holding(TrunkProvider):
    """A trunk that knows the calls of its own process only."""

    name = "holding"
    hung_up: ClassVar[list[str]] = []
    """Calls that it was asked to hang up, in any process, and had."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.live: dict[str, Call] = {}
        self.failure: Exception | None = None
        self.desk: Desk

    def listen(self, desk: Desk) -> Listener:
        self.desk = desk
        return TrunkListener(desk, self)

    def mine(self, operation: str, call_id: str) -> Call:
        if call_id not in self.live:
            raise CallElsewhere(self.name, operation, call_id)
        return self.live[call_id]

    async def hang_up(self, call_id: str) -> None:
        call = self.mine("hang_up", call_id)
        self.hung_up.append(call_id)
        if self.failure is not None:
            raise self.failure
        del self.live[call_id]
        over = call.model_copy(update={"status": CallStatus.ENDED, "reason": EndReason.USER_HANGUP})
        self.telling = asyncio.ensure_future(self.tell(CallProgress(call=over, call_id=call_id)))

    async def tell(self, event: CallProgress) -> None:
        with suppress(StoreUnavailable):
            await self.desk.event(event)

    async def fetch_call(self, call_id: str) -> Call:
        return self.mine("fetch_call", call_id)

    async def send_digits(self, call_id: str, digits: str) -> None:
        self.mine("send_digits", call_id)

    async def transfer(self, call_id: str, to: str, **options: Any) -> None:  # type: ignore[override]
        self.mine("transfer", call_id)


class Plugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Any]]:
        return [Holding, TrunkProvider]


class Book(MemoryCallBook):
    """Counts how often it is swept; fails while ``away``."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps = 0
        self.away = False

    async def ending(self, references: Collection[str]) -> list[Call]:
        self.sweeps += 1
        if self.away:
            raise StoreUnavailable("no book")
        return await super().ending(references)


class PlainBook:
    """A call book of a platform that knows the four methods only."""

    def __init__(self) -> None:
        self.book = MemoryCallBook()

    async def open(self, call: Call) -> Call:
        return await self.book.open(call)

    async def get(self, key: str) -> Call | None:
        return await self.book.get(key)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        return await self.book.update(key, change)

    async def in_progress(self) -> list[Call]:
        return await self.book.in_progress()


class Processes:
    """Two, of which ``holder`` has a call."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.registry, self.once = MemoryNumberRegistry(), MemoryOnce()
        self.holder, self.other = self.process("holder"), self.process("other")

    def process(self, name: str) -> Exchange:
        return Exchange(
            registry=self.registry,
            credentials={"main": FakeCredential(provider="holding")},
            public_url="https://voice.example.com",
            secret="x" * 32,
            policy=Policy(allow=["US"]),
            calls=self.book,
            once=self.once,
            owner=name,
            agents=echo,
        )

    async def answered(self) -> Call:
        """A call that the holder has answered, with its audio."""
        for each in (self.holder, self.other):
            await each.start()
        await self.holder.assign(OURS, agent_id="a", credential_id="main", configure=False)
        self.trunk = await self.holder.switchboard.provider("main")
        assert isinstance(self.trunk, Holding)
        call = Call(
            id=LEG, provider="holding", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING
        )
        self.trunk.live[LEG] = call
        reply = await self.trunk.desk.event(IncomingCall(call=call, call_id=LEG, event_id="ring"))
        self.transport = MemoryTransport()
        self.transport.say(event="start", call_id=LEG)
        ticket = reply.body.decode().rpartition("/")[2]
        self.serving = asyncio.ensure_future(self.trunk.desk.media(ticket, self.transport))
        return await self.holder.wait_for(LEG, CallStatus.ANSWERED, 5)

    async def now(self) -> Call:
        call = await self.book.get(LEG)
        assert call is not None
        return call


@pytest.fixture(params=[Book, PlainBook])
async def processes(fake_plugins: None, request: pytest.FixtureRequest) -> AsyncIterator[Processes]:
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    Holding.hung_up.clear()
    made = Processes(request.param())
    yield made
    await made.holder.stop()
    await made.other.stop()


async def test_a_call_that_another_process_has_is_hung_up_by_that_one(processes: Processes) -> None:
    call = await processes.answered()
    await processes.other.hang_up(call.reference)
    assert (await processes.now()).intent is EndReason.API_STOP and not Holding.hung_up
    over = await processes.holder.wait_for(call, timeout=EVERY * 1.5)
    assert over.reason is EndReason.API_STOP and Holding.hung_up == [LEG]
    await asyncio.wait_for(processes.serving, 2)
    await asyncio.sleep(EVERY * 3)
    assert Holding.hung_up == [LEG]


async def test_a_call_of_ones_own_is_hung_up_at_once(processes: Processes) -> None:
    call = await processes.answered()
    await processes.holder.hang_up(call)
    assert (await processes.holder.wait_for(call, timeout=EVERY / 2)).reason is EndReason.API_STOP
    assert Holding.hung_up == [LEG]


async def test_the_book_is_read_once_a_second_while_there_are_calls_and_not_otherwise(fake_plugins: None) -> None:
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    Holding.hung_up.clear()
    processes = Processes(book := Book())
    await processes.holder.start()
    await asyncio.sleep(EVERY * 5)
    assert book.sweeps == 0
    call = await processes.answered()
    await processes.other.fetch_call(call)  # which knows of the call from then on, and does not have it
    await asyncio.sleep(EVERY * 10)
    assert 9 <= book.sweeps <= 10
    await processes.holder.hang_up(call)
    await asyncio.sleep(EVERY * 2)
    before = book.sweeps
    await asyncio.sleep(EVERY * 5)
    assert book.sweeps == before
    await processes.other.stop()


async def test_a_process_that_has_stopped_reads_no_book(fake_plugins: None) -> None:
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    processes = Processes(book := Book())
    await processes.answered()
    await processes.holder.stop()
    before = book.sweeps
    await asyncio.sleep(EVERY * 5)
    assert book.sweeps == before
    await processes.other.stop()


async def test_a_book_that_is_away_is_told_once_and_read_again(
    fake_plugins: None, caplog: pytest.LogCaptureFixture
) -> None:
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    Holding.hung_up.clear()
    processes = Processes(book := Book())
    call = await processes.answered()
    book.away = True
    await processes.other.hang_up(call)
    await asyncio.sleep(EVERY * 5)
    assert caplog.text.count("looking for calls that another process hangs up failed") == 1 and not Holding.hung_up
    book.away = False
    assert (await processes.holder.wait_for(call, timeout=EVERY * 1.5)).ended
    await processes.holder.stop()
    await processes.other.stop()


async def test_a_hang_up_for_another_process_that_fails_is_tried_again_by_the_watch(processes: Processes) -> None:
    call = await processes.answered()
    processes.trunk.failure = ProviderUnavailable("holding", "hang_up", "busy")
    await processes.other.hang_up(call)
    await asyncio.sleep(EVERY * 2)
    assert len(Holding.hung_up) == 1
    processes.trunk.failure = None
    assert (await processes.holder.wait_for(call, timeout=60)).reason is EndReason.API_STOP


@pytest.mark.parametrize("left", ["holder", "other"])
async def test_a_call_that_was_handed_on_is_hung_up_for_a_stop_only(processes: Processes, left: str) -> None:
    """Also where its agent has left it already, in whatever process."""
    call = await processes.answered()
    handed_on = {"transfer": TransferStatus.REQUESTED}
    await processes.holder.switchboard.update(call.reference, lambda c: c.model_copy(update=handed_on))
    await getattr(processes, left).hang_up(call.reference, EndReason.AGENT_HANGUP)
    await asyncio.sleep(EVERY * 3)
    assert not Holding.hung_up
    await processes.other.hang_up(call.reference)
    assert (await processes.holder.wait_for(call, timeout=EVERY * 1.5)).reason is EndReason.API_STOP
    assert Holding.hung_up == [LEG]


async def test_a_call_that_the_book_has_ended_by_mistake_is_ended_here(fake_plugins: None) -> None:
    """The process was taken for dead, and its calls were adopted: nobody had them, so they were over."""
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    Holding.hung_up.clear()
    processes = Processes(Book())
    call = await processes.answered()
    assert await processes.other.call_watch.adopt(call.reference, "holder")
    over = await processes.other.wait_for(call.reference, timeout=15)
    assert over.reason is EndReason.MEDIA_ERROR
    await asyncio.sleep(EVERY * 1.5)
    assert Holding.hung_up == [LEG] and processes.serving.done()
    await processes.holder.stop()
    await processes.other.stop()


async def test_what_only_the_holder_can_do_says_so(processes: Processes) -> None:
    call = await processes.answered()
    for asking in (processes.other.transfer(call.reference, CALLER), processes.other.send_digits(call.reference, "1")):
        with pytest.raises(CallElsewhere, match=r"on the sockets of another process.*Ask the process that"):
            await asking
    assert (await processes.now()).transfer is None
    await processes.holder.transfer(call.reference, CALLER)
    assert (await processes.now()).transfer is TransferStatus.ANSWERED


async def test_how_a_call_of_another_process_stands_is_in_the_book(processes: Processes) -> None:
    call = await processes.answered()
    assert (await processes.other.fetch_call(call.reference)).status is CallStatus.ANSWERED


async def test_a_call_that_cannot_be_written_down_nor_reached_is_no_success(processes: Processes) -> None:
    call = await processes.answered()

    async def away(key: str, change: Callable[[Call], Call]) -> Call:
        raise StoreUnavailable("no book")

    processes.book.update, update = away, processes.book.update
    with pytest.raises(StoreUnavailable):
        await processes.other.hang_up(call.reference)
    await processes.holder.hang_up(call.reference)
    assert Holding.hung_up == [LEG]
    processes.book.update = update
