"""A call that is handed on: who has it, who may end it, and what its record says."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from anycarrier import (
    Call,
    CallEvent,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    Forward,
    MediaSession,
    Policy,
    TransferProgress,
    call_commands,
)
from anycarrier.calls import TransferStatus
from anycarrier.errors import (
    ConfigurationError,
    DestinationNotAllowed,
    ProviderUnavailable,
    RequestRejected,
    UnknownCall,
    UnsupportedOperation,
)
from core.conftest import CALLER, OURS, connect, post, ring
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, MemoryTransport

DESK = "+13105550130"
TRANSFER_LOST = ProviderUnavailable("inline", "transfer", "no answer")


@pytest.fixture(params=["main", "other"])
def carrier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[InlineProvider]:
    """Both kinds: instructed in the reply, whose stream ends as the target is rung; commanded, whose stream stays."""
    provider = {"main": InlineProvider, "other": CommandProvider}[request.param]
    monkeypatch.setattr(provider, "reports_transfers", True)
    return provider


class Desk:
    """An answered call of ours and its media socket."""

    def __init__(self, exchange: Exchange, carrier: type[InlineProvider]) -> None:
        self.exchange = exchange
        self.carrier = carrier
        self.credential = "other" if carrier is CommandProvider else "main"
        self.heard: list[object] = []

    async def begin(self, handler: Any = None) -> None:
        self.exchange.switchboard.agents = handler or self.listen
        await self.exchange.assign(OURS, agent_id="a", credential_id=self.credential, configure=False)
        self.call = await self.exchange.dial(from_=OURS, to=CALLER)
        [request] = [entry[1] for entry in self.carrier.log if entry[0] == "dial"]
        ticket = request.stream.url.rpartition("/")[2]
        self.transport, self.serving = await connect(self.exchange, ticket, "out-1")
        await self.exchange.wait_until(self.call, lambda c: c.answered_at is not None, 2)

    async def listen(self, session: MediaSession) -> None:
        async for event in session:
            self.heard.append(event)

    async def tell(self, event: str, status: str, **more: str) -> Call:
        name = {"id": "out-1", "ref": self.call.reference, "event_id": f"{event}:{status}"}
        await post(self.exchange, self.credential, self.carrier.name, event=event, status=status, **name, **more)
        return await self.now()

    async def transfer(self) -> None:
        await self.exchange.transfer(self.call, DESK)
        if self.carrier.answers_in_reply:
            self.transport.say(event="stop")

    async def now(self) -> Call:
        call = await self.exchange.switchboard.calls.get(self.call.reference)
        assert call is not None
        return call

    @property
    def hang_ups(self) -> int:
        return sum(entry[0] == "hang_up" for entry in self.carrier.log)


@pytest.fixture
def desk(exchange: Exchange, carrier: type[InlineProvider]) -> Desk:
    return Desk(exchange, carrier)


async def test_a_handler_that_returns_after_a_transfer_does_not_hang_up(desk: Desk) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)

    await desk.begin(hand_over)
    if desk.carrier.answers_in_reply:
        desk.transport.say(event="stop")
    await asyncio.wait_for(desk.serving, 2)
    assert (await desk.now()).transfer is TransferStatus.REQUESTED
    assert (await desk.tell("transfer", "answered")).transfer is TransferStatus.ANSWERED
    assert desk.hang_ups == 0
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.TRANSFERRED


@pytest.mark.parametrize("reason", [r for r in EndReason if r is not EndReason.API_STOP])
async def test_nothing_but_a_stop_ends_a_call_that_was_transferred(
    exchange: Exchange, carrier: type[InlineProvider], reason: EndReason
) -> None:
    desk = Desk(exchange, carrier)
    await desk.begin()
    await desk.transfer()
    await exchange.hang_up(desk.call, reason)
    await desk.tell("transfer", "answered")
    await asyncio.wait_for(desk.serving, 2)
    await exchange.hang_up(desk.call, reason)
    assert desk.hang_ups == 0


async def test_a_stop_ends_a_transferred_call_for_both(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    await desk.tell("transfer", "answered")
    await desk.exchange.hang_up(desk.call)
    assert desk.hang_ups == 1
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.TRANSFERRED


async def test_a_stop_while_the_target_rings_is_the_reason(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    await desk.exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    await desk.exchange.hang_up(desk.call)
    assert desk.hang_ups == 1
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.API_STOP


@pytest.mark.parametrize("status", ["canceled", "failed"])
async def test_a_stop_stays_the_reason_when_it_ends_the_targets_leg_first(desk: Desk, status: str) -> None:
    await desk.begin()
    await desk.transfer()
    await desk.exchange.hang_up(desk.call)
    assert (await desk.tell("transfer", status)).intent is EndReason.API_STOP
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.API_STOP


async def test_a_caller_who_leaves_while_the_target_rings_is_not_transferred(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.USER_HANGUP
    assert (await desk.tell("transfer", "canceled")).reason is EndReason.USER_HANGUP
    await asyncio.wait_for(desk.serving, 2)


@pytest.mark.parametrize("status", ["busy", "no_answer", "failed", "canceled"])
async def test_a_transfer_that_fails_gives_the_call_back_to_an_agent_that_is_there(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    monkeypatch.setattr(CommandProvider, "reports_transfers", True)
    desk = Desk(exchange, CommandProvider)
    await desk.begin()
    await desk.transfer()
    given_back = await desk.tell("transfer", status)
    assert (given_back.transfer, given_back.intent) == (None, None)
    desk.transport.say(event="media", audio="hello?")
    async with asyncio.timeout(2):
        while len(desk.heard) < 2:
            await asyncio.sleep(0)
    assert isinstance(desk.heard[0], TransferProgress) and desk.heard[0].status == status
    await exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    assert desk.hang_ups == 1
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.AGENT_HANGUP


async def test_a_transfer_that_fails_after_the_agent_has_left_is_hung_up(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    await desk.exchange.hang_up(desk.call, EndReason.END_CALL_PHRASE)
    assert (await desk.tell("transfer", "busy")).transfer is None
    async with asyncio.timeout(2):
        while not desk.hang_ups:
            await asyncio.sleep(0)
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.END_CALL_PHRASE


async def test_a_caller_who_leaves_is_no_agents_hang_up_though_the_targets_end_is_told_first(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    await desk.exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    await desk.tell("transfer", "canceled")
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.USER_HANGUP


async def test_where_the_stream_is_gone_a_failed_transfer_ends_the_call_on_our_side(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "reports_transfers", True)
    desk = Desk(exchange, InlineProvider)
    await desk.begin()
    await exchange.transfer(desk.call, DESK)
    await desk.tell("transfer", "busy")
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.AGENT_HANGUP


async def test_the_session_is_over_once_the_target_has_answered(desk: Desk) -> None:
    await desk.begin()
    [session] = desk.exchange.switchboard.sessions.values()
    await desk.exchange.transfer(desk.call, DESK)
    await desk.tell("transfer", "answered")
    await asyncio.wait_for(desk.serving, 2)
    assert session.stop_reason == "transferred" and isinstance(desk.heard[-1], TransferProgress)
    assert desk.hang_ups == 0


async def test_a_transfer_the_carrier_refuses_leaves_the_call_with_the_agent(desk: Desk) -> None:
    await desk.begin()
    desk.carrier.transfer_error = ProviderUnavailable("x", "transfer", "down", sent=False)
    with pytest.raises(ProviderUnavailable):
        await desk.exchange.transfer(desk.call, DESK)
    assert (await desk.now()).transfer is None
    await desk.exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    assert desk.hang_ups == 1


async def test_a_second_transfer_that_is_refused_leaves_the_first_as_it_was(desk: Desk) -> None:
    await desk.begin()
    await desk.transfer()
    desk.carrier.transfer_error = ProviderUnavailable("x", "transfer", "down", sent=False)
    with pytest.raises(ProviderUnavailable):
        await desk.exchange.transfer(desk.call, "+13105550131")
    assert (await desk.now()).transfer is TransferStatus.REQUESTED
    await desk.exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    assert desk.hang_ups == 0, "the first target may still take it"


# --- a request that was not answered: the call may be the target's ---------------------------------------------------


@pytest.fixture
def unanswered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(call_commands, "UNCONFIRMED_TRANSFER", 0.3)
    monkeypatch.setattr(call_commands, "STREAM_TAKEN", 0.3)
    desk.carrier.transfer_error = ProviderUnavailable(desk.carrier.name, "transfer", "timed out")
    return desk


async def hands_over(session: MediaSession) -> None:
    await session.transfer(DESK)  # and fails with what it raises


@pytest.mark.parametrize("how", ["reported", "stream ends"])
async def test_a_call_that_was_transferred_without_an_answer_lives_on(
    unanswered: Desk, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(call_commands, "UNCONFIRMED_TRANSFER", 60.0)
    monkeypatch.setattr(call_commands, "STREAM_TAKEN", 60.0)
    await unanswered.begin(hands_over)
    async with asyncio.timeout(30):
        while not any(entry[0] == "transfer" for entry in unanswered.carrier.log):
            await asyncio.sleep(0)
    if how == "reported":
        await unanswered.tell("transfer", "answered")
    else:
        unanswered.transport.say(event="stop")
    await asyncio.wait_for(unanswered.serving, 30)
    assert (await unanswered.now()).transfer is (
        TransferStatus.ANSWERED if how == "reported" else TransferStatus.REQUESTED
    )
    assert unanswered.hang_ups == 0


async def test_a_call_that_was_not_transferred_ends_with_the_handler_that_failed(unanswered: Desk) -> None:
    await unanswered.begin(hands_over)
    await asyncio.wait_for(unanswered.serving, 30)
    assert unanswered.hang_ups == 1
    assert ((await unanswered.now()).transfer, (await unanswered.now()).intent) == (None, EndReason.AGENT_ERROR)


async def test_a_hang_up_meanwhile_is_made_up_for_once_nothing_was_heard_of_the_transfer(unanswered: Desk) -> None:
    await unanswered.begin()
    with pytest.raises(ProviderUnavailable, match="wait_for_transfer tells"):
        await unanswered.exchange.transfer(unanswered.call, DESK)
    await unanswered.exchange.hang_up(unanswered.call, EndReason.END_CALL_PHRASE)
    assert unanswered.hang_ups == 0 and (await unanswered.now()).transfer is TransferStatus.REQUESTED
    assert await unanswered.exchange.wait_for_transfer(unanswered.call, 30) is None
    async with asyncio.timeout(30):
        while not unanswered.hang_ups:
            await asyncio.sleep(0)


async def test_asked_for_again_and_taken_it_stays_the_targets(unanswered: Desk) -> None:
    await unanswered.begin()
    with pytest.raises(ProviderUnavailable):
        await unanswered.exchange.transfer(unanswered.call, DESK)
    unanswered.carrier.transfer_error = None
    await unanswered.exchange.transfer(unanswered.call, DESK)
    await asyncio.sleep(0.5)
    assert (await unanswered.now()).transfer is TransferStatus.REQUESTED
    assert "find out what became of a transfer" not in {task.get_name() for task in asyncio.all_tasks()}


@pytest.mark.parametrize("reports", [True, False])
async def test_without_its_stream_in_this_process_a_carriers_silence_tells_something_only_if_it_reports(
    unanswered: Desk, monkeypatch: pytest.MonkeyPatch, reports: bool
) -> None:
    monkeypatch.setattr(unanswered.carrier, "reports_transfers", reports)
    await unanswered.exchange.assign(OURS, agent_id="a", credential_id=unanswered.credential, configure=False)
    unanswered.call = await unanswered.exchange.dial(from_=OURS, to=CALLER)
    with pytest.raises(ProviderUnavailable):
        await unanswered.exchange.transfer(unanswered.call, DESK)
    async with asyncio.timeout(30):
        while "find out what became of a transfer" in {task.get_name() for task in asyncio.all_tasks()}:
            await asyncio.sleep(0.01)
    assert (await unanswered.now()).transfer is (None if reports else TransferStatus.REQUESTED)


async def test_a_target_that_answers_while_another_transfer_is_refused_keeps_the_call(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def transfer(self: object, *given: Any, **named: Any) -> None:
        await desk.tell("transfer", "answered")
        raise ProviderUnavailable(desk.carrier.name, "transfer", sent=False)

    await desk.begin()
    await desk.exchange.transfer(desk.call, DESK)
    monkeypatch.setattr(InlineProvider, "transfer", transfer)
    with pytest.raises(ProviderUnavailable):
        await desk.exchange.transfer(desk.call, "+13105550131")
    assert (await desk.now()).transfer is TransferStatus.ANSWERED


async def test_a_carrier_that_reports_no_transfers_is_believed_when_it_takes_one(exchange: Exchange) -> None:
    desk = Desk(exchange, InlineProvider)
    await desk.begin()
    await desk.transfer()
    assert (await desk.now()).transfer is TransferStatus.ANSWERED
    assert (await desk.tell("status", "ended", reason="user_hangup")).reason is EndReason.TRANSFERRED


async def test_where_a_call_may_be_handed_to_is_judged_from_our_number_not_the_callers(
    exchange: Exchange, carrier: type[InlineProvider]
) -> None:
    """By default a number rings its own country only: ours is American, the caller British."""
    exchange.switchboard.policy = Policy()
    asked: list[tuple[Call, str]] = []

    async def guard(call: Call, to: str) -> None:
        asked.append((call, to))

    exchange.switchboard.transfer_guard = guard
    credential = "other" if carrier is CommandProvider else "main"
    exchange.switchboard.agents = Desk(exchange, carrier).listen
    await exchange.assign(OURS, agent_id="a", credential_id=credential, configure=False)
    await ring(exchange, credential=credential, provider=carrier.name, **{"from": "+442079460018"})
    async with asyncio.timeout(2):
        while not any(entry[0] == "answer" for entry in carrier.log):
            await asyncio.sleep(0)
    with pytest.raises(DestinationNotAllowed):
        await exchange.transfer("in-1", "+442079460099")
    await exchange.transfer("in-1", DESK)
    assert [to for _, to in asked] == [DESK]


# --- forwarding ------------------------------------------------------------------------------------------------------


async def forwarded(exchange: Exchange, carrier: type[InlineProvider]) -> str:
    async def route(event: object, line: object) -> Forward:
        return Forward(DESK)

    exchange.switchboard.router = route
    credential = "other" if carrier is CommandProvider else "main"
    await exchange.assign(OURS, agent_id="a", credential_id=credential, configure=False)
    await ring(exchange, credential=credential, provider=carrier.name)
    async with asyncio.timeout(2):
        while not any(entry[0] == "forward" for entry in carrier.log):
            await asyncio.sleep(0)
    return credential


async def forward_told(exchange: Exchange, carrier: type[InlineProvider], event: str, status: str) -> Call:
    credential = "other" if carrier is CommandProvider else "main"
    name = {"id": "in-1", "event_id": f"{event}:{status}", "reason": "user_hangup"}
    await post(exchange, credential, carrier.name, event=event, status=status, **name)
    call = await exchange.switchboard.calls.get("in-1")
    assert call is not None
    return call


async def test_a_forwarded_call_is_transferred_once_its_target_has_answered(
    exchange: Exchange, carrier: type[InlineProvider]
) -> None:
    await forwarded(exchange, carrier)
    call = await exchange.switchboard.calls.get("in-1")
    assert call is not None
    [told] = [entry for entry in carrier.log if entry[0] == "forward"]
    assert told[2:] == (DESK, exchange.switchboard.status_url(call))
    await forward_told(exchange, carrier, "transfer", "answered")
    over = await forward_told(exchange, carrier, "status", "ended")
    assert (over.reason, over.answered_at is not None) == (EndReason.TRANSFERRED, True)


async def test_a_caller_who_leaves_while_a_forward_rings_gave_up(
    exchange: Exchange, carrier: type[InlineProvider]
) -> None:
    await forwarded(exchange, carrier)
    assert (await forward_told(exchange, carrier, "status", "ended")).reason is EndReason.CANCELED


async def test_a_forwarded_call_that_nobody_takes_is_declined(
    exchange: Exchange, carrier: type[InlineProvider]
) -> None:
    await forwarded(exchange, carrier)
    await forward_told(exchange, carrier, "transfer", "busy")
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in carrier.log:
            await asyncio.sleep(0)
    assert (await forward_told(exchange, carrier, "status", "ended")).reason is EndReason.REJECTED


# --- what others see -------------------------------------------------------------------------------------------------


async def test_observers_hear_of_a_transfer_with_the_call_as_it_stands_then(desk: Desk) -> None:
    seen: list[tuple[CallEvent, Call | None]] = []
    desk.exchange.switchboard.observers.append(lambda event, call: seen.append((event, call)))
    await desk.begin()
    await desk.transfer()
    await desk.tell("transfer", "answered")
    [(_, call)] = [one for one in seen if isinstance(one[0], TransferProgress)]
    assert call is not None and call.transfer is TransferStatus.ANSWERED


async def test_a_hang_up_during_a_request_that_is_refused_is_made_up_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, refuse = asyncio.Event(), asyncio.Event()

    async def transfer(self: object, *given: Any, **named: Any) -> None:
        asked.set()
        await refuse.wait()
        raise ProviderUnavailable(desk.carrier.name, "transfer", sent=False)

    await desk.begin()
    monkeypatch.setattr(InlineProvider, "transfer", transfer)
    asking = asyncio.ensure_future(desk.exchange.transfer(desk.call, DESK))
    await asyncio.wait_for(asked.wait(), 30)
    await desk.exchange.hang_up(desk.call, EndReason.AGENT_HANGUP)
    assert desk.hang_ups == 0, "it may be the target's call in a moment"
    refuse.set()
    with pytest.raises(ProviderUnavailable):
        await asking
    assert (await desk.now()).transfer is None
    async with asyncio.timeout(5):
        while not desk.hang_ups:
            await asyncio.sleep(0)


@pytest.mark.parametrize("refused", [True, False])
async def test_a_request_goes_on_when_who_made_it_is_cancelled(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: bool
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def transfer(self: object, *given: Any, **named: Any) -> None:
        asked.set()
        await answer.wait()
        if refused:
            raise ProviderUnavailable(desk.carrier.name, "transfer", sent=False)

    await desk.begin()
    monkeypatch.setattr(InlineProvider, "transfer", transfer)
    asking = asyncio.ensure_future(desk.exchange.transfer(desk.call, DESK))
    await asyncio.wait_for(asked.wait(), 30)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert (await desk.now()).transfer is TransferStatus.REQUESTED
    answer.set()
    assert await desk.exchange.wait_for_transfer(desk.call, 30) is None if refused else True
    assert ((await desk.now()).transfer is None) is refused
    async with asyncio.timeout(30):
        while "transfer a call" in {task.get_name() for task in asyncio.all_tasks()}:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert any("was not transferred" in record.getMessage() for record in caplog.records) is refused


# --- attended: the far ends of two calls of ours ---------------------------------------------------------------------


SECOND = "+14155550103"
REQUESTED, ANSWERED = TransferStatus.REQUESTED, TransferStatus.ANSWERED


class TwoCalls:
    """A caller, and a colleague who was rung and has answered."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.asked: list[tuple[str, str, dict[str, object]]] = []
        self.refusal: Exception | None = None

    async def begin(self, *, credential: str = "main") -> None:
        for number, name in ((OURS, "main"), (SECOND, credential)):
            await self.exchange.assign(number, agent_id="a", credential_id=name, configure=False)
        self.caller = await self._answered("caller", "main", to=OURS, from_=CALLER, direction=Direction.INBOUND)
        self.colleague = await self._answered(
            "colleague", credential, from_=SECOND, to=DESK, direction=Direction.OUTBOUND
        )

    async def _answered(self, leg: str, credential: str, **facts: Any) -> Call:
        call = Call(
            id=leg, provider="inline", status=CallStatus.ANSWERED, answered_at=datetime.now(UTC), agent_id="a",
            credential_id=credential, reference=leg.encode().hex().ljust(32, "0")[:32], **facts,
        )  # fmt: skip
        call = call.model_copy(update={"owner": self.exchange.switchboard.owner})
        return await self.exchange.switchboard.calls.open(call)

    async def transfer(self, provider: object, call_id: str, to: str, **options: object) -> None:
        self.asked.append((call_id, to, options))
        if self.refusal is not None:
            raise self.refusal

    async def tell(self, status: str) -> None:
        await post(
            self.exchange, "main", "inline", event="transfer", status=status, id="caller", event_id=status,
        )  # fmt: skip

    async def stands(self) -> list[TransferStatus | None]:
        calls = [await self.exchange.switchboard.calls.get(call.id) for call in (self.caller, self.colleague)]
        return [call.transfer for call in calls if call is not None]


@pytest.fixture
async def calls(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> TwoCalls:
    made = TwoCalls(exchange)

    async def transfer(self: object, call_id: str, to: str, **options: object) -> None:
        await made.transfer(self, call_id, to, **options)

    monkeypatch.setattr(InlineProvider, "transfer", transfer)
    monkeypatch.setattr(InlineProvider, "attended_transfers", True)
    await made.begin()
    return made


async def test_the_far_end_of_another_call_takes_over(calls: TwoCalls) -> None:
    await calls.exchange.transfer(calls.caller, replaces=calls.colleague)
    [(leg, to, options)] = calls.asked
    assert (leg, to, options["replaces"], options["caller_id"]) == ("caller", DESK, "colleague", OURS)
    assert await calls.stands() == [ANSWERED, ANSWERED]


async def test_a_blind_transfer_names_no_other_call_to_the_carrier(calls: TwoCalls) -> None:
    await calls.exchange.transfer(calls.caller, DESK)
    assert "replaces" not in calls.asked[0][2] and await calls.stands() == [ANSWERED, None]


async def test_a_session_can_hand_its_caller_to_another_call(calls: TwoCalls) -> None:
    transport = MemoryTransport()
    session = MediaSession(
        calls.caller, "a", InlineProvider(FakeCredential()).serializer(), transport, calls.exchange._commands
    )
    await session.transfer(replaces=calls.colleague.reference)
    assert calls.asked[0][2]["replaces"] == "colleague"


@pytest.mark.parametrize(("told", "becomes"), [("answered", ANSWERED), ("busy", None)])
async def test_the_other_call_goes_the_way_of_the_transferred_one(
    calls: TwoCalls, monkeypatch: pytest.MonkeyPatch, told: str, becomes: TransferStatus | None
) -> None:
    monkeypatch.setattr(InlineProvider, "reports_transfers", True)
    await calls.exchange.transfer(calls.caller, replaces=calls.colleague)
    assert await calls.stands() == [REQUESTED, REQUESTED]
    await calls.exchange.hang_up(calls.colleague, EndReason.AGENT_HANGUP)  # its agent has nothing left to do
    assert not [entry for entry in InlineProvider.log if entry[0] == "hang_up"]
    await calls.tell(told)
    await asyncio.sleep(0.1)
    assert await calls.stands() == [becomes, becomes]
    hung_up = [entry[1] for entry in InlineProvider.log if entry[0] == "hang_up"]
    assert ("colleague" in hung_up) is (becomes is None), "given back to an agent that has left"


async def test_a_transfer_that_nothing_is_heard_of_gives_the_other_call_back(
    calls: TwoCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "reports_transfers", True)
    await calls.exchange.transfer(calls.caller, replaces=calls.colleague)
    await asyncio.sleep(call_commands.UNCONFIRMED_TRANSFER + 1)
    assert (await calls.stands())[1] is None


@pytest.mark.parametrize(
    ("refusal", "at_once"), [(RequestRejected("inline", "transfer", "no"), True), (TRANSFER_LOST, False)]
)
async def test_a_refused_attended_transfer_gives_both_calls_back(
    calls: TwoCalls, monkeypatch: pytest.MonkeyPatch, refusal: Exception, at_once: bool
) -> None:
    monkeypatch.setattr(InlineProvider, "reports_transfers", True)
    calls.refusal = refusal
    with pytest.raises(type(refusal)):
        await calls.exchange.transfer(calls.caller, replaces=calls.colleague)
    assert await calls.stands() == ([None, None] if at_once else [REQUESTED, REQUESTED])
    await asyncio.sleep(call_commands.UNCONFIRMED_TRANSFER + 1)
    assert await calls.stands() == [None, None]


async def test_what_cannot_be_an_attended_transfer_is_refused_before_the_carrier_is_asked(
    calls: TwoCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = calls.exchange.transfer
    for wrong in (
        {"to": DESK, "replaces": calls.colleague}, {}, {"replaces": calls.caller},
    ):  # fmt: skip
        with pytest.raises(ConfigurationError):
            await transfer(calls.caller, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownCall):
        await transfer(calls.caller, replaces="nobody")
    handed_on = {"transfer": ANSWERED}
    board = calls.exchange.switchboard
    await board.update("colleague", lambda c: c.model_copy(update=handed_on))
    with pytest.raises(ConfigurationError, match="handed on already"):
        await transfer(calls.caller, replaces=calls.colleague)
    ringing = {"transfer": None, "status": CallStatus.RINGING}
    await board.update("colleague", lambda c: c.model_copy(update=ringing))
    with pytest.raises(ConfigurationError, match="not answered"):
        await transfer(calls.caller, replaces=calls.colleague)
    abroad = {"status": CallStatus.ANSWERED, "to": "+4930123456"}
    await board.update("colleague", lambda c: c.model_copy(update=abroad))
    with pytest.raises(DestinationNotAllowed):
        await transfer(calls.caller, replaces=calls.colleague)
    monkeypatch.setattr(InlineProvider, "attended_transfers", False)
    with pytest.raises(UnsupportedOperation, match="give the target as to"):
        await transfer(calls.caller, replaces=calls.colleague)
    assert not calls.asked and await calls.stands() == [None, None]


async def test_another_accounts_call_cannot_take_over(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "attended_transfers", True)
    calls = TwoCalls(exchange)
    await calls.begin(credential="other")
    with pytest.raises(ConfigurationError, match="of the same credential"):
        await exchange.transfer(calls.caller, replaces=calls.colleague)
