"""Every open call comes to its end: whatever message, command or process is lost, and within the rules' bounds.

Through an exchange's own commands and callbacks. When exactly the watch does what is in ``test_call_watch_timing.py``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from anycarrier import (
    Answer,
    Call,
    CallEvent,
    CallStatus,
    DialRequest,
    EndReason,
    Exchange,
    IncomingCall,
    LeaveRinging,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
    Provider,
    Reject,
    StreamTarget,
    WebhookReply,
    WebhookRequest,
    hookimpl,
    incoming,
    plugins,
)
from anycarrier.call_phases import QUEUED_AT_CARRIER, RULES, Phase
from anycarrier.callbook import MemoryCallBook
from anycarrier.errors import (
    LimitReached,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    TicketRefused,
)
from anycarrier.tickets import TicketOffice
from core.conftest import R1
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, MemoryTransport, Plugin
from virtual_time import virtually

OURS, CALLER = "+14155550101", "+12125550102"
DOWN = ProviderUnavailable("asked", "anything", "down", status=503)
CLEAN_UP = 30.0
"""Seconds that the retries of a watch may be apart, and so how far it may be beyond a bound."""


class Asked(CommandProvider):
    """A carrier that can be asked how a call stands, and whose answers a test chooses."""

    name = "asked"
    log: ClassVar[list[tuple[Any, ...]]] = []
    stands: ClassVar[Any] = CallStatus.INITIATED
    """How the one leg stands; an exception is raised instead."""
    hangs_up: ClassVar[Any] = True
    answers: ClassVar[list[Any]] = []
    """What becomes of the next answers: an exception, or anything else for success."""

    async def dial(self, request: DialRequest) -> Call:
        call = await super().dial(request)
        return call.model_copy(update={"status": Asked.stands}) if Asked.stands is CallStatus.QUEUED else call

    async def fetch_call(self, call_id: str) -> Call:
        self.log.append(("fetch_call", call_id))
        if isinstance(Asked.stands, Exception):
            raise Asked.stands
        return Call(id=call_id, provider=self.name, direction="inbound", from_="", to="", status=Asked.stands)  # type: ignore[arg-type]

    async def hang_up(self, call_id: str) -> None:
        self.log.append(("hang_up", call_id))
        if isinstance(Asked.hangs_up, Exception):
            raise Asked.hangs_up
        if Asked.hangs_up:
            Asked.stands = CallStatus.ENDED

    async def answer(self, call: IncomingCall, stream: StreamTarget) -> WebhookReply:
        self.log.append(("answer", call.call_id, stream))
        if Asked.answers and isinstance(problem := Asked.answers.pop(0), Exception):
            raise problem
        return WebhookReply()


class AskedPlugin:
    @hookimpl
    def anycarrier_providers(self) -> list[type[Provider]]:
        return [Asked]


@pytest.fixture(autouse=True)
def carriers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "fakes")
    plugins.register(AskedPlugin(), "asked")
    for provider in (Asked, InlineProvider, CommandProvider):
        provider.log.clear()
        provider.dial_error = provider.dial_gate = None
    Asked.stands, Asked.hangs_up, Asked.answers = CallStatus.INITIATED, True, []
    yield
    plugins.reset()


async def stay(session: MediaSession) -> None:
    async for _ in session:
        pass


class House:
    """An exchange, one number on the asked carrier and one on a carrier that cannot be asked."""

    def __init__(self, **options: Any) -> None:
        self.exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": FakeCredential(provider="asked"), "mute": FakeCredential(provider="command")},
            public_url="https://voice.example.com",
            secret="x" * 32,
            policy=options.pop("policy", Policy(allow=["US"])),
            agents=stay,
            **options,
        )
        self.told: list[tuple[CallEvent, Call | None]] = []
        self.exchange.switchboard.observers.append(lambda event, call: self.told.append((event, call)))
        self.began = self.now

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def dial(self, **options: Any) -> Call:
        await self.exchange.assign(OURS, agent_id="a", credential_id="main", configure=False)
        self.began = self.now
        return await self.exchange.dial(from_=OURS, to=CALLER, reference=R1, **options)

    async def ring(self, credential: str = "main") -> Call:
        await self.exchange.assign(OURS, agent_id="a", credential_id=credential, configure=False)
        self.began = self.now
        await self.post(credential, event="ringing", id="in-1", to=OURS, **{"from": CALLER}, event_id="ring")
        call = await self.exchange.switchboard.calls.get("in-1")
        assert call is not None
        return call

    async def post(self, credential: str = "main", *, ref: str = "", **message: Any) -> None:
        provider = "asked" if credential == "main" else "command"
        url = f"https://voice.example.com/{provider}/{credential}?ref={ref}"
        body = json.dumps({"event": "status", **message}).encode()
        request = WebhookRequest("POST", url, {"x-signed": "yes"}, body)
        assert (await self.exchange.handle_webhook(provider, credential, request)).status < 300

    async def answered(self, call: Call, credential: str = "main") -> None:
        """The carrier says that somebody is on the line."""
        await self.post(credential, id=call.id, status="answered", ref=call.reference, event_id="answered")

    async def connect(self, call: Call) -> tuple[MemoryTransport, asyncio.Future[None]]:
        """The carrier opens the media socket of an incoming call."""
        ticket = [entry[2] for entry in Asked.log if entry[0] == "answer"][-1].url.rpartition("/")[2]
        transport = MemoryTransport()
        serving = asyncio.ensure_future(self.exchange.serve_media(await self.exchange.admit(ticket), transport))
        transport.say(event="start", call_id=call.id)
        await self.exchange.wait_for(call, CallStatus.ANSWERED)
        await asyncio.sleep(0)
        return transport, serving

    async def over(self, call: Call, within: float | None) -> Call:
        """The call, ended no later than ``within`` seconds after it began, and told of once."""
        assert within is not None
        try:
            ended = await self.exchange.wait_for(call.reference, timeout=within + CLEAN_UP)
        except TimeoutError:
            stands = await self.exchange.switchboard.calls.get(call.reference)
            raise AssertionError(f"after {within} s it is {stands}") from None
        assert await self.exchange.calls_in_progress() == [], "a place in the limits is free again"
        ends = [known for _, known in self.told if known is not None and known.ended]
        assert len(ends) == 1, f"told of {len(ends)} ends"
        return ended

    async def open_after(self, call: Call, seconds: float) -> Call:
        """The call, still open after so long."""
        await asyncio.sleep(seconds)
        known = await self.exchange.switchboard.calls.get(call.reference)
        assert known is not None and not known.ended, f"ended with {known and known.reason}"
        return known


def asked(what: str) -> int:
    return sum(entry[0] == what for entry in Asked.log)


async def bring_to(house: House, phase: Phase) -> Call:
    """A call in that phase, with no further word from anybody."""
    watch, exchange = house.exchange.call_watch, house.exchange
    match phase:
        case Phase.UNCONFIRMED:
            InlineProvider.dial_error = Asked.dial_error = DOWN
            with pytest.raises(ProviderUnavailable):
                await house.dial()
            call = await exchange.switchboard.calls.get(R1)
            assert call is not None
        case Phase.DIALLING | Phase.QUEUED:
            Asked.stands = CallStatus.QUEUED if phase is Phase.QUEUED else Asked.stands
            call = await house.dial()
        case Phase.ROUTING:
            async def undecided(event: object, line: object) -> Answer:
                await asyncio.Event().wait()
                raise AssertionError

            exchange.switchboard.router = undecided
            call = await house.ring()
        case Phase.LEFT_RINGING:
            async def leave(event: object, line: object) -> LeaveRinging:
                return LeaveRinging()

            exchange.switchboard.router = leave
            call = await house.ring()
        case _:
            call = await house.ring()
            await asyncio.sleep(0.01)
    house.began = house.now
    match phase:
        case Phase.NO_STREAM | Phase.ENDING:
            await house.answered(call)
        case Phase.TALKING | Phase.STREAM_ENDED | Phase.TRANSFERRED:
            transport, serving = await house.connect(call)
            if phase is Phase.TRANSFERRED:
                await exchange.transfer(call, CALLER)
            if phase is not Phase.TALKING:
                transport.lose()
                await serving
        case Phase.ABANDONED:
            died = {"owner": "a dead process"}
            await exchange.switchboard.update(call.reference, lambda c: c.model_copy(update=died))
            assert not watch.watches(call.reference)
            assert await watch.adopt(call.reference, "a dead process")
    if phase is Phase.ENDING:
        Asked.hangs_up, before = DOWN, Asked.hangs_up
        with pytest.raises(ProviderUnavailable):
            await exchange.hang_up(call)
        Asked.hangs_up = before
    await asyncio.sleep(0)
    assert watch._watched[call.reference].phase is phase
    return call


ENDED = [phase for phase in Phase if phase not in (Phase.TALKING, Phase.TRANSFERRED)]


@pytest.mark.parametrize("phase", ENDED, ids=lambda phase: phase.name)
@pytest.mark.parametrize("carrier", ["says it is up", "is down", "is down for a while", "has forgotten it"])
def test_a_call_of_which_nothing_more_is_heard_ends_within_its_bound(phase: Phase, carrier: str) -> None:
    async def scenario() -> None:
        house, rule = House(), RULES[phase]
        call = await bring_to(house, phase)
        if carrier == "has forgotten it":
            Asked.stands = Asked.hangs_up = NotFound("asked", "anything", "no such call", status=404)
        elif carrier.startswith("is down"):
            Asked.stands = Asked.hangs_up = DOWN
            if carrier == "is down for a while":
                wait = rule.ask_after + (30 if rule.rings else 0) + 100
                asyncio.get_running_loop().call_later(wait, back)
        ended = await house.over(call, rule.bound())
        assert ended.reason is not None
        if phase is not Phase.UNCONFIRMED and carrier in ("says it is up", "is down for a while"):
            assert asked("hang_up") >= 1 and Asked.stands is CallStatus.ENDED, "and it is over at the carrier"
        if carrier == "says it is up" and phase is not Phase.ENDING:
            assert ended.reason is rule.reason
        await house.exchange.stop()

    def back() -> None:
        Asked.stands = CallStatus.QUEUED if phase is Phase.QUEUED else CallStatus.INITIATED
        Asked.hangs_up = True

    virtually(scenario())


def test_a_plugin_that_breaks_its_contract_keeps_no_call_open() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.NO_STREAM)
        Asked.stands = Asked.hangs_up = KeyError("a bug of the plugin's")
        await house.over(call, RULES[Phase.NO_STREAM].bound())
        await house.exchange.stop()

    virtually(scenario())


def test_the_place_of_a_call_without_an_end_comes_back() -> None:
    async def scenario() -> None:
        house = House(policy=Policy(allow=["US"], max_concurrent=1))
        call = await house.dial()
        with pytest.raises(LimitReached):
            await house.exchange.dial(from_=OURS, to=CALLER)
        await house.over(call, RULES[Phase.DIALLING].bound())
        await house.exchange.dial(from_=OURS, to=CALLER)
        await house.exchange.stop()

    virtually(scenario())


# --- what is left alone ----------------------------------------------------------------------------------------------


def test_a_call_that_talks_is_never_ended_by_the_watch() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.TALKING)
        for stands in (CallStatus.INITIATED, DOWN, CallStatus.ANSWERED):
            Asked.stands = stands
            await house.open_after(call, 5 * 3600)
        assert asked("hang_up") == 0 and asked("fetch_call") > 1
        Asked.stands = CallStatus.ENDED  # a media socket that nobody closed: the carrier knows better
        await house.over(call, house.now - house.began + RULES[Phase.TALKING].ask_after)
        await house.exchange.stop()

    virtually(scenario())


def test_a_transferred_call_is_asked_about_and_not_hung_up() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.TRANSFERRED)
        await house.open_after(call, 3 * 3600)
        assert asked("hang_up") == 0
        Asked.stands = CallStatus.ENDED
        ended = await house.over(call, house.now - house.began + 300)
        assert (ended.reason, asked("hang_up")) == (EndReason.TRANSFERRED, 0)
        await house.exchange.stop()

    virtually(scenario())


def test_a_call_left_ringing_rings_on() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.LEFT_RINGING)
        await house.open_after(call, 500)
        assert asked("hang_up") == 0
        Asked.stands = CallStatus.ENDED
        assert (await house.over(call, 600)).reason is EndReason.UNKNOWN
        await house.exchange.stop()

    virtually(scenario())


def test_a_router_may_take_its_time() -> None:
    async def scenario() -> None:
        house = House()

        async def slow(event: object, line: object) -> Answer:
            await asyncio.sleep(300)
            return Answer("a")

        house.exchange.switchboard.router = slow
        call = await house.ring()
        await house.open_after(call, 301)
        assert (asked("hang_up"), asked("answer")) == (0, 1)
        await house.exchange.stop()

    virtually(scenario())


def test_a_dial_of_unknown_outcome_that_the_carrier_names_is_not_written_off() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.UNCONFIRMED)
        await house.open_after(call, 85)
        await house.post(id="out-1", status="ringing", ref=R1, event_id="late")
        Asked.stands = CallStatus.RINGING
        named = await house.open_after(call, 60)
        assert named.id == "out-1"
        await house.exchange.stop()

    virtually(scenario())


def test_a_dial_that_is_named_in_the_moment_it_is_given_up_stays() -> None:
    class Slow(MemoryCallBook):
        async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
            call = await self.get(key)
            if call is not None and not call.id and house.now > house.began + 80:
                await super().update(key, lambda c: c.model_copy(update={"id": "out-1"}))
            return await super().update(key, change)

    async def scenario() -> None:
        nonlocal house
        house = House(calls=Slow())
        call = await bring_to(house, Phase.UNCONFIRMED)
        assert (await house.open_after(call, 100)).id == "out-1"
        await house.exchange.stop()

    house: House
    virtually(scenario())


def test_a_call_of_another_process_is_that_one_s() -> None:
    async def scenario() -> None:
        book = MemoryCallBook()
        first, second = House(calls=book), House(calls=book)
        call = await first.ring()
        await asyncio.sleep(1)
        second.exchange.switchboard.tickets = first.exchange.switchboard.tickets
        transport, serving = await second.connect(call)
        await first.open_after(call, 3600)
        assert asked("hang_up") == 0, "its audio is in the second process: the first does not miss it"
        transport.lose()
        await serving
        await second.exchange.wait_for(call, timeout=30)
        await first.exchange.stop()
        await second.exchange.stop()

    virtually(scenario())


def test_a_dial_that_the_carrier_names_after_it_was_given_up_is_hung_up() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.UNCONFIRMED)
        await house.over(call, RULES[Phase.UNCONFIRMED].bound())
        await house.post(id="out-1", status="answered", ref=R1, event_id="far too late")
        await asyncio.sleep(1)
        assert Asked.log[-1] == ("hang_up", "out-1"), "nobody would talk there, and it is billed"
        await house.exchange.stop()

    virtually(scenario())


# --- dials that the carrier queues -----------------------------------------------------------------------------------


def test_a_queued_dial_outlasts_an_outage_of_the_carrier_s_api() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.QUEUED)
        Asked.stands = DOWN
        await house.open_after(call, 1800)
        Asked.stands = CallStatus.QUEUED
        await house.open_after(call, 3600)
        assert asked("hang_up") == 0
        await house.exchange.stop()

    virtually(scenario())


@pytest.mark.parametrize("hours", [0.1, 5, 23])
def test_a_dial_that_the_carrier_has_queued_is_answered_however_late(hours: float) -> None:
    async def scenario() -> None:
        house = House()
        board = house.exchange.switchboard
        board.tickets = TicketOffice("x" * 32, board.once, clock=lambda: 1e9 + house.now)
        Asked.stands = CallStatus.QUEUED
        call = await house.dial()
        await house.open_after(call, hours * 3600)
        Asked.stands = CallStatus.ANSWERED
        await house.answered(call)
        [request] = [entry[1] for entry in Asked.log if entry[0] == "dial"]
        text = request.stream.url.rpartition("/")[2]
        assert (await house.exchange.admit(text)).reference == call.reference
        with pytest.raises(TicketRefused, match="used before"):
            await house.exchange.admit(text)
        assert asked("hang_up") == 0
        await house.exchange.stop()

    virtually(scenario())


def test_a_dial_is_not_queued_for_ever_and_its_ticket_ends_with_it() -> None:
    async def scenario() -> None:
        house = House()
        house.exchange.switchboard.tickets = TicketOffice("x" * 32, house.exchange.switchboard.once, clock=lambda: 1e9)
        Asked.stands = CallStatus.QUEUED
        call = await house.dial()
        ended = await house.over(call, QUEUED_AT_CARRIER + 60)
        assert ended.reason is EndReason.NO_ANSWER
        [request] = [entry[1] for entry in Asked.log if entry[0] == "dial"]
        with pytest.raises(TicketRefused, match="over"):
            await house.exchange.admit(request.stream.url.rpartition("/")[2])
        await house.exchange.stop()

    virtually(scenario())


# --- the time limit --------------------------------------------------------------------------------------------------


def test_the_time_limit_holds_without_a_stream() -> None:
    async def scenario() -> None:
        house = House(time_limit=12)
        call = await bring_to(house, Phase.NO_STREAM)
        assert (await house.over(call, 12)).reason is EndReason.MAX_DURATION
        await house.exchange.stop()

    virtually(scenario())


def test_the_time_limit_holds_when_the_first_hang_up_fails() -> None:
    async def scenario() -> None:
        house = House(time_limit=1000)
        call = await bring_to(house, Phase.TALKING)
        Asked.hangs_up = Asked.stands = DOWN
        await house.open_after(call, 1060)
        Asked.hangs_up, Asked.stands = True, CallStatus.ANSWERED
        assert (await house.over(call, 1120)).reason is EndReason.MAX_DURATION
        await house.exchange.stop()

    virtually(scenario())


def test_the_time_limit_holds_for_a_call_that_a_transfer_gave_back_after_it() -> None:
    async def scenario() -> None:
        house = House(time_limit=40)
        call = await bring_to(house, Phase.TALKING)
        Asked.stands = CallStatus.ANSWERED
        await house.exchange.transfer(call, CALLER)
        await house.open_after(call, 70)  # the carrier has been asked about it once, and the limit has passed
        await house.exchange.switchboard.update(call.reference, lambda c: c.model_copy(update={"transfer": None}))
        assert (await house.over(call, 70)).reason is EndReason.MAX_DURATION
        await house.exchange.stop()

    virtually(scenario())


# --- answering -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal", [DOWN, RateLimited("asked", "answer", "slow down", status=429, retry_after=7)], ids=["503", "429"]
)
def test_an_answer_that_fails_once_is_tried_again(refusal: Exception) -> None:
    async def scenario() -> None:
        house = House()
        Asked.answers = [refusal]
        call = await house.ring()
        await asyncio.sleep(6)
        assert asked("answer") == (1 if isinstance(refusal, RateLimited) else 2), "as late as the carrier asks for"
        await asyncio.sleep(3)
        first, second = (entry[2].url for entry in Asked.log if entry[0] == "answer")
        assert first == second and asked("hang_up") == 0
        await house.connect(call)
        await house.exchange.stop()

    virtually(scenario())


@pytest.mark.parametrize(
    "refusals",
    [[DOWN] * 20, [RateLimited("asked", "answer", "", retry_after=90)], [RequestRejected("asked", "answer", "no")]],
    ids=["down", "in a minute and a half", "refused"],
)
def test_an_answer_that_does_not_work_declines_the_call(refusals: list[Exception]) -> None:
    async def scenario() -> None:
        house = House()
        Asked.answers = list(refusals)
        call = await house.ring()
        ended = await house.over(call, incoming.ANSWER_PATIENCE + RULES[Phase.ENDING].ask_after)
        assert ended.reason is EndReason.PROVIDER_UNAVAILABLE
        assert asked("hang_up") == 1, "the caller does not ring at nothing"
        await house.exchange.stop()

    virtually(scenario())


def test_a_call_that_cannot_even_be_declined_is_the_watch_s() -> None:
    async def scenario() -> None:
        house = House()
        Asked.answers, Asked.hangs_up = [DOWN] * 20, DOWN
        call = await house.ring()
        await asyncio.sleep(60)
        Asked.hangs_up = True
        assert (await house.over(call, 120)).reason is EndReason.PROVIDER_UNAVAILABLE
        assert Asked.stands is CallStatus.ENDED
        await house.exchange.stop()

    virtually(scenario())


def test_a_rejection_that_fails_is_made_good() -> None:
    async def scenario() -> None:
        house = House()

        async def decline(event: object, line: object) -> Reject:
            return Reject()

        house.exchange.switchboard.router, Asked.hangs_up = decline, DOWN
        call = await house.ring()
        await asyncio.sleep(30)
        Asked.hangs_up = True
        assert (await house.over(call, 60)).reason is EndReason.REJECTED
        await house.exchange.stop()

    virtually(scenario())


def test_a_call_whose_answer_was_heard_and_its_reply_lost_talks_on() -> None:
    async def scenario() -> None:
        house = House()

        async def unanswered(event: IncomingCall, stream: StreamTarget) -> WebhookReply:
            await house.answered(event.call)
            await asyncio.sleep(incoming.ANSWER_PATIENCE)
            raise DOWN

        (await house.exchange.switchboard.provider("main")).answer = unanswered  # type: ignore[method-assign]
        call = await house.ring()
        Asked.stands = CallStatus.ANSWERED
        await house.open_after(call, incoming.ANSWER_PATIENCE + 1)
        assert asked("hang_up") == 0
        await house.exchange.stop()

    virtually(scenario())


@pytest.mark.parametrize("second", ["not sent", "refused"])
def test_answering_a_call_that_is_answered_already_is_no_error(second: str) -> None:
    async def scenario() -> None:
        house = House()
        Asked.answers = [DOWN, RequestRejected("asked", "answer", "the call is answered", status=422)]
        call = await house.ring()
        if second == "not sent":
            await house.answered(call)  # the answer that seemed to fail was heard
        else:
            Asked.answers[0] = DOWN
            original = Asked.answer

            async def late(self: Asked, event: IncomingCall, stream: StreamTarget) -> WebhookReply:
                if asked("answer"):
                    await house.answered(call)
                return await original(self, event, stream)

            carrier = await house.exchange.switchboard.provider("main")
            carrier.answer = late.__get__(carrier)  # type: ignore[method-assign]
        await house.open_after(call, 20)
        assert (asked("answer"), asked("hang_up")) == (1 if second == "not sent" else 2, 0)
        await house.exchange.stop()

    virtually(scenario())


# --- when the process goes away --------------------------------------------------------------------------------------


def test_only_one_process_adopts_a_call() -> None:
    async def scenario() -> None:
        book = MemoryCallBook()
        dead, one, other = House(calls=book), House(calls=book), House(calls=book)
        call = await dead.ring()
        await asyncio.sleep(1)
        await dead.exchange.stop()
        owner = dead.exchange.switchboard.owner
        adopted = [await each.exchange.call_watch.adopt(call.reference, owner) for each in (one, other)]
        assert adopted == [True, False]
        await one.over(call, RULES[Phase.ABANDONED].bound())
        assert not await one.exchange.call_watch.adopt(call.reference, owner), "it is over"
        for each in (one, other):
            await each.exchange.stop()

    virtually(scenario())


def test_an_adopted_dial_may_still_be_answered_here() -> None:
    async def scenario() -> None:
        book = MemoryCallBook()
        dead, heir = House(calls=book), House(calls=book)
        heir.exchange.switchboard.tickets = dead.exchange.switchboard.tickets
        call = await dead.dial()
        await dead.exchange.stop()
        Asked.stands = CallStatus.RINGING
        assert await heir.exchange.call_watch.adopt(call.reference, dead.exchange.switchboard.owner)
        await heir.open_after(call, 25)
        assert (asked("fetch_call"), asked("hang_up")) == (1, 0)
        [request] = [entry[1] for entry in Asked.log if entry[0] == "dial"]
        transport = MemoryTransport()
        ticket = await heir.exchange.admit(request.stream.url.rpartition("/")[2])
        serving = asyncio.ensure_future(heir.exchange.serve_media(ticket, transport))
        transport.say(event="start", call_id=call.id)
        Asked.stands = CallStatus.ANSWERED
        await heir.open_after(call, 3600)
        assert asked("hang_up") == 0
        transport.lose()
        await serving
        await heir.exchange.stop()

    virtually(scenario())


def test_a_stopped_watch_leaves_calls_to_others() -> None:
    async def scenario() -> None:
        house = House()
        call = await bring_to(house, Phase.NO_STREAM)
        await house.exchange.stop()
        await house.exchange.switchboard.update(call.reference, lambda c: c.model_copy(update={"answered_by": "human"}))
        await house.open_after(call, 3600)

    virtually(scenario())


# --- settling --------------------------------------------------------------------------------------------------------


def test_settle_is_how_long_a_carrier_may_take_after_a_stream() -> None:
    house = virtually(_made(settle=0.5))
    assert house.exchange.call_watch.rules[Phase.STREAM_ENDED] == replace(
        RULES[Phase.STREAM_ENDED], ask_after=0.5, hang_up_after=0.5
    )


async def _made(**options: Any) -> House:
    return House(**options)
