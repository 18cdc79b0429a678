"""A plugin that raises what it may not, at any of its methods: every call ends, and nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest

from anycarrier import (
    Answer,
    Call,
    CallStatus,
    EndReason,
    Exchange,
    Forward,
    IncomingCall,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
    Provider,
    Reject,
    WebhookRequest,
    hookimpl,
    plugins,
)
from anycarrier.call_phases import RING_TIME, RULES, Phase
from anycarrier.calls import TransferStatus
from anycarrier.errors import LimitReached, ProviderUnavailable
from core.conftest import CALLER, OURS, connect, post, ring
from fake_carriers import CommandProvider, FakeCredential

METHODS = ("dial", "answer", "reject", "forward", "hang_up", "transfer", "send_digits", "fetch_call",
           "start_recording", "stop_recording")  # fmt: skip
BUGS = [RuntimeError("a bug"), KeyError("status"), httpx.ReadTimeout("not wrapped"), TypeError()]


class Broken(CommandProvider):
    """Raises ``bug`` at the methods in ``broken``."""

    name = "broken"
    log: ClassVar[list[tuple[Any, ...]]] = []
    broken: ClassVar[frozenset[str]] = frozenset()
    bug: ClassVar[Exception] = RuntimeError("a bug")


def _breaking(name: str) -> Any:
    async def method(self: Broken, *given: Any, **named: Any) -> Any:
        if name in self.broken:
            self.log.append((name, "bug"))
            raise self.bug
        return await getattr(CommandProvider, name)(self, *given, **named)

    return method


for _name in METHODS:
    setattr(Broken, _name, _breaking(_name))


class BrokenPlugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [Broken]


@pytest.fixture
async def exchange(fake_plugins: None) -> AsyncIterator[Exchange]:
    plugins.register(BrokenPlugin(), "broken")
    Broken.log.clear()
    Broken.dial_error = Broken.dial_gate = Broken.transfer_error = None
    Broken.broken, Broken.bug = frozenset(), BUGS[0]
    made = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"main": FakeCredential(provider="broken")},
        public_url="https://voice.example.com",
        secret="x" * 32,
        policy=Policy(allow=["US"], max_concurrent=1),
        agents=stay,
        report=lambda what, failure: None,
    )
    await made.assign(OURS, agent_id="a", credential_id="main")
    yield made
    await made.stop()


async def stay(session: MediaSession) -> None:
    async for _ in session:
        pass


def now() -> float:
    return asyncio.get_running_loop().time()


async def nothing_is_left(exchange: Exchange, call: Call | str, within: float) -> Call:
    """The call is over in the book by then; nobody watches it, and its place among the calls at once is free."""
    over = await exchange.wait_for(call, CallStatus.ENDED, timeout=within)
    await asyncio.sleep(0)
    assert not exchange.call_watch.watches(over.reference)
    assert not exchange.switchboard.sessions
    assert not [call async for call in _in_progress(exchange)]
    Broken.broken = frozenset()
    again = await exchange.dial(from_=OURS, to=CALLER)
    assert again.id == "out-1"
    return over


async def _in_progress(exchange: Exchange) -> AsyncIterator[Call]:
    for call in await exchange.switchboard.calls.in_progress():
        yield call


async def dial_fails(exchange: Exchange) -> Call:
    """The call in the book, of a dial that the plugin fails in."""
    with pytest.raises(ProviderUnavailable) as failed:
        await exchange.dial(from_=OURS, to=CALLER)
    assert failed.value.outcome_unknown and failed.value.__cause__ is Broken.bug
    assert "do not dial again" in str(failed.value)
    [call] = await exchange.switchboard.calls.in_progress()
    return call


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: type(bug).__name__)
async def test_a_dial_of_which_nothing_is_known_is_over_after_its_ring_time(exchange: Exchange, bug: Exception) -> None:
    Broken.broken, Broken.bug = frozenset(METHODS), bug
    call = await dial_fails(exchange)
    with pytest.raises(LimitReached):
        await exchange.dial(from_=OURS, to=CALLER)  # a phone may be ringing
    over = await nothing_is_left(exchange, call, RULES[Phase.UNCONFIRMED].hang_up_after + RING_TIME + 1)  # type: ignore[operator]
    assert over.reason is EndReason.PROVIDER_UNAVAILABLE


async def test_a_dial_that_rings_all_the_same_is_a_call_as_any_other(exchange: Exchange) -> None:
    Broken.broken = frozenset({"dial"})
    call = await dial_fails(exchange)
    told = {"provider": "broken", "ref": call.reference, "event": "status", "id": "leg-7"}
    await post(exchange, **told, status="ringing", event_id="e1")
    assert (await exchange.switchboard.calls.get(call.reference)).id == "leg-7"  # type: ignore[union-attr]
    await post(exchange, **told, status="ended", reason="busy", event_id="e2")
    assert (await nothing_is_left(exchange, call, 1)).reason is EndReason.BUSY


async def test_a_dial_that_was_cancelled_is_over_after_its_ring_time(exchange: Exchange) -> None:
    Broken.dial_gate = asyncio.Event()
    dialling = asyncio.ensure_future(exchange.dial(from_=OURS, to=CALLER))
    while not (calls := list(await exchange.switchboard.calls.in_progress())):
        await asyncio.sleep(0)
    dialling.cancel()
    await asyncio.wait({dialling})
    Broken.dial_gate = None
    over = await nothing_is_left(exchange, calls[0], 60 + RING_TIME + 1)
    assert over.reason is EndReason.PROVIDER_UNAVAILABLE


async def test_a_call_that_was_to_end_while_it_was_dialled_is_dialled_all_the_same(exchange: Exchange) -> None:
    Broken.dial_gate = asyncio.Event()
    dialling = asyncio.ensure_future(exchange.dial(from_=OURS, to=CALLER))
    while not (calls := list(await exchange.switchboard.calls.in_progress())):
        await asyncio.sleep(0)
    await exchange.hang_up(calls[0])
    Broken.broken = frozenset({"hang_up", "fetch_call"})
    Broken.dial_gate.set()
    assert (await dialling).intent is EndReason.API_STOP
    Broken.dial_gate = None
    await nothing_is_left(exchange, calls[0], RULES[Phase.ENDING].bound() + 31)  # type: ignore[operator]
    assert Broken.log.count(("hang_up", "bug")) > 1


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: type(bug).__name__)
async def test_a_hang_up_is_tried_again_and_the_call_written_off(exchange: Exchange, bug: Exception) -> None:
    call = await exchange.dial(from_=OURS, to=CALLER)
    Broken.broken, Broken.bug = frozenset(METHODS), bug
    with pytest.raises(ProviderUnavailable) as failed:
        await exchange.hang_up(call)
    assert failed.value.__cause__ is bug
    over = await nothing_is_left(exchange, call, RULES[Phase.ENDING].bound() + 31)  # type: ignore[operator]
    assert over.reason is EndReason.CANCELED
    assert Broken.log.count(("hang_up", "bug")) > 1


async def test_a_transfer_may_have_been_made(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "reports_transfers", True)
    call = await exchange.dial(from_=OURS, to=CALLER)
    Broken.broken = frozenset(METHODS)
    with pytest.raises(ProviderUnavailable) as failed:
        await exchange.transfer(call, "+14155550123")
    assert failed.value.outcome_unknown
    known = await exchange.switchboard.calls.get(call.reference)
    assert known is not None and known.transfer is TransferStatus.REQUESTED
    assert await exchange.wait_for_transfer(call, 60) is None, "nothing was heard of it: the call is ours again"
    await nothing_is_left(exchange, call, RULES[Phase.DIALLING].bound(RING_TIME) + 60)  # type: ignore[operator]


async def test_every_other_command_raises_a_typed_error_too(exchange: Exchange) -> None:
    call = await exchange.dial(from_=OURS, to=CALLER)
    Broken.broken = frozenset(METHODS)
    for command in (
        exchange.send_digits(call, "1"),
        exchange.start_recording(call),
        exchange.stop_recording(call, "rec-1"),
        exchange.fetch_call(call),
    ):
        with pytest.raises(ProviderUnavailable):
            await command
    await nothing_is_left(exchange, call, RULES[Phase.DIALLING].bound(RING_TIME) + 60)  # type: ignore[operator]


@pytest.mark.parametrize(
    "route", [Answer("a"), Reject(EndReason.BUSY), Forward("+14155550123")], ids=lambda route: type(route).__name__
)
async def test_a_call_that_can_be_neither_answered_nor_declined_is_over(exchange: Exchange, route: Any) -> None:
    async def router(event: IncomingCall, line: Any) -> Any:
        return route

    exchange.switchboard.router = router
    Broken.broken = frozenset(METHODS)
    await ring(exchange, provider="broken")
    await nothing_is_left(exchange, "in-1", RULES[Phase.ENDING].bound() + 31)  # type: ignore[operator]


async def test_an_agent_whose_call_cannot_be_hung_up_leaves_nothing(exchange: Exchange) -> None:
    async def says_bye(session: MediaSession) -> None:
        Broken.broken = frozenset(METHODS)

    exchange.switchboard.agents = says_bye
    await ring(exchange, provider="broken")
    async with asyncio.timeout(30):
        while not (answers := [entry for entry in Broken.log if entry[0] == "answer"]):
            await asyncio.sleep(0)
    _, serving = await connect(exchange, answers[0][2].url.rpartition("/")[2], "in-1")
    with pytest.raises(ProviderUnavailable):
        await serving
    over = await nothing_is_left(exchange, "in-1", RULES[Phase.ENDING].bound() + 31)  # type: ignore[operator]
    assert over.reason is EndReason.AGENT_HANGUP


@pytest.mark.parametrize("method", ["verify", "parse_webhook"])
async def test_a_webhook_that_cannot_be_read_enters_no_call(
    exchange: Exchange, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(self: Provider, request: WebhookRequest) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Broken, method, bug)
    with pytest.raises(RuntimeError):
        await ring(exchange, provider="broken")
    assert not list(await exchange.switchboard.calls.in_progress())
