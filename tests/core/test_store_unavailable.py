"""A call book or once store that cannot be reached: what calls do meanwhile, and what is written once it is back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from anycarrier import (
    Answer,
    Call,
    CallStatus,
    EndReason,
    Exchange,
    IncomingCall,
    Line,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
)
from anycarrier.callbook import MemoryCallBook, MemoryOnce
from anycarrier.errors import StoreUnavailable, TicketRefused, UnknownCall
from anycarrier.routing import Route
from anycarrier.switchboard import log_failure
from core.conftest import CALLER, OURS, R1, connect, dialled, echo, logged, post, ring, ticket_in
from fake_carriers import FakeCredential, InlineProvider, MemoryTransport


class Book(MemoryCallBook):
    """A call book whose writes, or all of it, can be away."""

    writes_fail = reads_fail = False

    async def get(self, key: str) -> Call | None:
        if self.reads_fail:
            raise StoreUnavailable("gone")
        return await super().get(key)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        if self.writes_fail:
            raise StoreUnavailable("gone")
        return await super().update(key, change)


class Once(MemoryOnce):
    """A once store that can be away."""

    fails = False

    async def first(self, key: str, ttl: float) -> bool:
        if self.fails:
            raise StoreUnavailable("gone")
        return await super().first(key, ttl)


class At:
    """An exchange, its stores, what it reported and whose turn it took."""

    def __init__(self) -> None:
        self.book, self.once = Book(), Once()
        self.reports: list[tuple[str, str]] = []
        self.turns: list[str] = []
        self.exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": FakeCredential()},
            public_url="https://voice.example.com",
            secret="x" * 32,
            agents=echo,
            policy=Policy(allow=["US"]),
            calls=self.book,
            once=self.once,
            report=lambda what, failure: self.reports.append((what, type(failure).__name__)),
            turns=self._turn,
            settle=0.2,
        )

    @contextlib.asynccontextmanager
    async def _turn(self, credential_id: str) -> AsyncIterator[None]:
        self.turns.append(f"{credential_id} begins")
        yield
        self.turns.append(f"{credential_id} ends")


@pytest.fixture
async def at(fake_plugins: None) -> AsyncIterator[At]:
    made = At()
    yield made
    made.book.writes_fail = made.book.reads_fail = made.once.fails = False
    await made.exchange.stop()


async def test_a_media_socket_is_refused_with_503_while_nobody_can_say_whether_its_ticket_was_used(at: At) -> None:
    await at.exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(at.exchange))
    at.once.fails = True
    with pytest.raises(TicketRefused) as refused:
        await at.exchange.admit(ticket)
    assert refused.value.status == 503 and at.reports == [("a media socket", "StoreUnavailable")]
    at.once.fails = False
    assert (await at.exchange.admit(ticket)).agent_id == "a"


async def test_a_media_socket_whose_call_cannot_be_read_is_closed_so_that_the_carrier_ends_the_call(at: At) -> None:
    await at.exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = await at.exchange.admit(ticket_in(await ring(at.exchange)))
    at.book.reads_fail = True
    transport = MemoryTransport()
    await at.exchange.serve_media(ticket, transport)
    assert transport.closed == 1013 and at.reports == [("a media socket", "StoreUnavailable")]


async def test_a_call_that_was_transferred_is_hung_up_by_a_stop_only(at: At) -> None:
    call = await dialled(at.exchange)
    at.exchange.switchboard.policy = Policy(allow=["US"])
    await at.exchange.transfer(call, "+13105550130")
    at.book.writes_fail = True
    await at.exchange.hang_up(call, EndReason.AGENT_HANGUP)
    assert logged("hang_up") == []
    await at.exchange.hang_up(call)
    assert logged("hang_up") == [("hang_up", call.id)]


async def test_a_hang_up_reaches_the_carrier_and_its_reason_is_written_later(at: At) -> None:
    call = await dialled(at.exchange)
    at.book.writes_fail = True
    await at.exchange.hang_up(call, EndReason.SILENCE_TIMEOUT)
    await at.exchange.hang_up(call, EndReason.MAX_DURATION)
    assert logged("hang_up") == [("hang_up", call.id)] * 2
    assert at.reports == [("why a call is hung up (silence_timeout)", "StoreUnavailable")] * 2, "the first stands"
    at.book.writes_fail = False
    heard = {"answered_by": "human"}
    known = await at.exchange.switchboard.update(call.reference, lambda c: c.model_copy(update=heard))
    assert (known.intent, known.answered_by) == (EndReason.SILENCE_TIMEOUT, "human")


@pytest.mark.parametrize("over", [False, True])
async def test_a_call_that_was_dialled_while_the_book_was_away_can_be_ended(
    at: At, monkeypatch: pytest.MonkeyPatch, over: bool
) -> None:
    monkeypatch.setattr("anycarrier.dialling.WRITE_AGAIN", 0.05)
    InlineProvider.dial_gate = asyncio.Event()
    dialling = asyncio.ensure_future(dialled(at.exchange, reference=R1))
    while not logged("dial"):
        await asyncio.sleep(0)
    at.book.writes_fail = True
    InlineProvider.dial_gate.set()
    with pytest.raises(StoreUnavailable):
        await dialling
    at.book.writes_fail = False
    if over:
        opened = await at.book.get(R1)
        assert opened is not None
        await at.exchange.switchboard.end_locally(opened, EndReason.PROVIDER_UNAVAILABLE)
        async with asyncio.timeout(5):
            while not logged("hang_up"):
                await asyncio.sleep(0.01)
    else:
        named = await at.exchange.wait_until(R1, lambda call: bool(call.id), 5)
        assert (named.id, named.status) == ("out-1", CallStatus.INITIATED)
    assert [entry[1] for entry in logged("hang_up")] == (["out-1"] if over else [])


async def test_a_session_knows_why_it_is_hung_up_before_the_book_does(at: At) -> None:
    await at.exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(at.exchange, ticket_in(await ring(at.exchange)), "in-1")
    call = await at.exchange.wait_for("in-1", CallStatus.ANSWERED)
    at.book.writes_fail = True
    await at.exchange.hang_up(call, EndReason.END_CALL_PHRASE)
    assert at.exchange.switchboard.sessions[call.reference].call.intent is EndReason.END_CALL_PHRASE
    at.book.writes_fail = False
    transport.say(event="stop")
    await serving


@pytest.mark.parametrize("raises", [False, True])
async def test_a_handler_that_is_done_ends_its_call_while_the_book_is_away(at: At, raises: bool) -> None:
    async def agent(session: MediaSession) -> None:
        at.book.writes_fail = at.book.reads_fail = True
        if raises:
            raise RuntimeError("a bug")

    at.exchange.switchboard.agents = agent
    await at.exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(at.exchange, ticket_in(await ring(at.exchange)), "in-1")
    await serving
    assert logged("hang_up") == [("hang_up", "in-1")]


async def test_a_caller_does_not_ring_on_because_the_book_went_away_while_the_call_was_routed(at: At) -> None:
    async def router(event: IncomingCall, line: Line | None) -> Route:
        at.book.writes_fail = True
        return Answer("a")

    at.exchange.switchboard.router = router
    await at.exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(at.exchange)
    assert logged("hang_up") == [("hang_up", "in-1")] and not logged("answer")
    at.book.writes_fail = False
    await post(at.exchange, event="status", id="in-1", status="ended", event_id="in-1:ended")
    call = await at.exchange.wait_for("in-1")
    assert call.reason is EndReason.AGENT_ERROR, "why it was declined is written with the next change"


async def test_a_call_nobody_here_can_name_is_not_hung_up_in_silence(at: At) -> None:
    call = await dialled(at.exchange)
    at.book.reads_fail = True
    with pytest.raises(StoreUnavailable):
        await at.exchange.hang_up(call.reference)
    at.book.reads_fail = False
    with pytest.raises(UnknownCall):
        await at.exchange.hang_up("nobody")
    assert logged("hang_up") == []


async def test_each_verified_event_has_its_credentials_turn(at: At) -> None:
    await ring(at.exchange)
    assert at.turns == ["main begins", "main ends"]
    await post(at.exchange, signed="no", event="ringing", id="in-2", **{"from": CALLER, "to": OURS})
    assert at.turns == ["main begins", "main ends"], "a forged one has none"


def test_by_default_an_outage_is_one_line_and_any_other_failure_has_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log_failure("agent a failed", StoreUnavailable("gone"))
    log_failure("agent a failed", ValueError("of its own"))
    log_failure("agent a failed", ValueError())
    told: list[Any] = [(r.getMessage(), bool(r.exc_info)) for r in caplog.records if r.levelno == logging.ERROR]
    assert told == [
        ("agent a failed: the store is unavailable (gone)", False),
        ("agent a failed: of its own", True),
        ("agent a failed: ValueError", True),
    ]
