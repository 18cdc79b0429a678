"""What a carrier's events do to a call: each happens once, each is told, and each moves only the call it is about."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anycarrier import (
    Answer,
    Call,
    CallEvent,
    CallProgress,
    CallStatus,
    EndReason,
    Exchange,
    Forward,
    IncomingCall,
    LeaveRinging,
    MachineDetected,
    MediaSession,
    Reject,
    WebhookReply,
    hookimpl,
    incoming,
    plugins,
)
from anycarrier.errors import CallUnconfirmed, ProviderUnavailable, RequestRejected
from anycarrier.events import RecordingProgress, StreamProgress
from anycarrier.routing import Line
from core.conftest import CALLER, OURS, R1, connect, echo, post, ring, ticket_in
from fake_carriers import CommandProvider, InlineProvider


async def rung(exchange: Exchange, **fields: Any) -> Call:
    """A call to our number, offered to its agent."""
    exchange.switchboard.agents = exchange.switchboard.agents or echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, **fields)
    return await now(exchange)


async def now(exchange: Exchange, key: str = "in-1") -> Call:
    call = await exchange.switchboard.calls.get(key)
    assert call is not None
    return call


async def tell(exchange: Exchange, event: CallEvent) -> WebhookReply:
    """An event as the carrier's parser makes it."""
    provider = await exchange.switchboard.provider("main")
    return await exchange.listeners.desk(provider, "main").event(event)


def progress(call: Call, status: CallStatus, **more: Any) -> CallProgress:
    return CallProgress(call=call.model_copy(update={"status": status}), call_id=call.id, **more)


async def until_logged(entry: tuple[Any, ...], provider: type[InlineProvider] = InlineProvider) -> None:
    async with asyncio.timeout(2):
        while entry not in provider.log:
            await asyncio.sleep(0)


# --- the door --------------------------------------------------------------------------------------------------------


async def test_a_wrong_carrier_and_an_unknown_credential_cannot_be_told_apart(exchange: Exchange) -> None:
    unknown = await post(exchange, credential="nobody", event="x")
    wrong = await post(exchange, provider="command", event="x")
    assert unknown == wrong and (wrong.status, wrong.body) == (404, b"no such credential")


async def test_what_is_refused_is_named_in_the_log(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> None:
    await ring(exchange, signed="no")
    assert "inline webhook refused for credential main" in caplog.text


# --- once ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_id", ["in-1:answered", ""])
async def test_a_repeated_event_is_acknowledged_and_told_once_unless_it_has_no_id(
    exchange: Exchange, event_id: str
) -> None:
    await rung(exchange)
    seen: list[CallEvent] = []
    exchange.switchboard.observers.append(lambda event, call: seen.append(event))
    for _ in range(2):
        reply = await post(exchange, event="status", id="in-1", status="answered", event_id=event_id)
        assert reply.status == 204
    assert len(seen) == (1 if event_id else 2)


async def test_events_of_other_kinds_are_taken_once_too(exchange: Exchange) -> None:
    call = await rung(exchange)
    seen: list[CallEvent] = []
    exchange.switchboard.observers.append(lambda event, call: seen.append(event))
    for number in ("1", "1", "2"):
        event = MachineDetected(call_id=call.id, event_id=number, answered_by="machine")
        assert (await tell(exchange, event)).status == 204
    assert [event.event_id for event in seen] == ["1", "2"]


async def test_events_without_an_id_do_not_pass_for_one_another(exchange: Exchange) -> None:
    call = await rung(exchange)
    await tell(exchange, MachineDetected(call_id=call.id, answered_by="machine"))
    await post(exchange, event="status", id="in-1", status="answered")
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    over = await now(exchange)
    assert (over.answered_by, over.reason) == ("machine", EndReason.USER_HANGUP)


async def test_two_credentials_may_use_the_same_event_ids(exchange: Exchange) -> None:
    await rung(exchange)
    await ring(exchange, "in-2", credential="other", provider="command", event_id="in-1:ring")
    assert (await now(exchange, "in-2")).credential_id == "other"


@pytest.mark.parametrize("event_id", ["in-1:answered", ""])
async def test_what_was_not_handled_is_heard_when_it_comes_again(
    exchange: Exchange, event_id: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    call = await rung(exchange)
    event = MachineDetected(call_id=call.id, event_id=event_id, answered_by="human")

    async def fails(*_: object) -> Call:
        raise CallUnconfirmed("inline", "update")

    with monkeypatch.context() as trouble:
        trouble.setattr(exchange.switchboard.calls, "update", fails)
        assert (await tell(exchange, event)).status == 500
    [record] = [record for record in caplog.records if "not handled" in record.getMessage()]
    assert record.levelno == logging.ERROR and "MachineDetected" in record.getMessage()
    assert (await tell(exchange, event)).status == 204
    assert (await now(exchange)).answered_by == "human"


async def test_forgetting_goes_on_while_the_store_is_away(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(incoming, "FORGET_EVERY", 0.001)
    call, tries = await rung(exchange), []
    forget, forgotten = exchange.switchboard.once.forget, asyncio.Event()

    async def from_store(key: str) -> None:
        tries.append(key)
        if len(tries) < 4:
            raise ConnectionRefusedError
        await forget(key)
        forgotten.set()

    async def gone(*_: object) -> Call:
        raise ConnectionRefusedError

    monkeypatch.setattr(exchange.switchboard.once, "forget", from_store)
    event = MachineDetected(call_id=call.id, event_id="1", answered_by="human")
    with monkeypatch.context() as outage:
        outage.setattr(exchange.switchboard.calls, "update", gone)
        with pytest.raises(ConnectionRefusedError):
            await tell(exchange, event)
    await asyncio.wait_for(forgotten.wait(), 2)
    assert tries == ["event:main:1"] * 4
    await tell(exchange, event)
    assert (await now(exchange)).answered_by == "human"


# --- routes ----------------------------------------------------------------------------------------------------------


def by_route(exchange: Exchange, route: Any) -> None:
    async def router(event: object, line: object) -> Any:
        return route

    exchange.switchboard.router = router


@pytest.mark.parametrize(("reason", "wire"), [(r, r if r is EndReason.BUSY else EndReason.REJECTED) for r in EndReason])
async def test_the_carrier_is_told_busy_or_rejected_and_the_call_keeps_the_reason(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, reason: EndReason, wire: EndReason
) -> None:
    told: list[tuple[str, EndReason]] = []

    async def reject(self: object, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        told.append((call.call_id, reason))
        return WebhookReply(body=b"no")

    monkeypatch.setattr(InlineProvider, "reject", reject)
    by_route(exchange, Reject(reason))
    call = await rung(exchange)
    assert told == [("in-1", wire)] and (call.intent, call.transfer) == (reason, None)


@pytest.mark.parametrize(
    ("route", "wire"),
    [
        (Reject(), EndReason.INVALID_NUMBER),
        (Reject(EndReason.BUSY), EndReason.BUSY),
        (Reject(EndReason.AGENT_ERROR), EndReason.REJECTED),
    ],
)
async def test_the_carrier_is_told_that_no_line_has_the_number(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, route: Reject, wire: EndReason
) -> None:
    told: list[EndReason] = []

    async def reject(self: object, call: IncomingCall, reason: EndReason = EndReason.REJECTED) -> WebhookReply:
        told.append(reason)
        return WebhookReply(body=b"no")

    monkeypatch.setattr(InlineProvider, "reject", reject)
    by_route(exchange, route)
    await ring(exchange)
    assert told == [wire]
    [call] = await exchange.calls_in_progress()
    assert call.intent is route.reason


async def test_forwarding_hands_the_carrier_the_target_and_where_to_report(exchange: Exchange) -> None:
    by_route(exchange, Forward("+13105550130"))
    call = await rung(exchange)
    [entry] = [entry for entry in InlineProvider.log if entry[0] == "forward"]
    assert entry == ("forward", "in-1", "+13105550130", exchange.switchboard.status_url(call))


async def test_a_declined_call_still_names_the_agent_of_its_number(exchange: Exchange) -> None:
    by_route(exchange, Reject(EndReason.BUSY))
    assert (await rung(exchange)).agent_id == "a"


@pytest.mark.parametrize(("given", "expected"), [(12.0, 12.0), (None, 3600.0)])
async def test_an_answer_names_the_agent_its_values_and_its_time_limit(
    exchange: Exchange, given: float | None, expected: float
) -> None:
    exchange.switchboard.agents, exchange.switchboard.time_limit = {"a": echo, "b": echo}, 3600.0
    by_route(exchange, Answer("b", {"order": "7"}, given))
    call = await rung(exchange)
    [stream] = [entry[2] for entry in InlineProvider.log if entry[0] == "answer"]
    assert stream.custom == {"order": "7"}
    assert (call.agent_id, call.time_limit) == ("b", expected)


async def test_a_call_left_ringing_gets_the_carriers_own_reply_for_it(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(self: object, call: IncomingCall) -> WebhookReply:
        return WebhookReply(body=f"ring on, {call.call_id}".encode())

    monkeypatch.setattr(InlineProvider, "leave_ringing", leave)
    by_route(exchange, LeaveRinging())
    exchange.switchboard.agents = echo
    assert (await ring(exchange)).body == b"ring on, in-1"


async def test_a_router_is_given_the_call_as_it_is_kept_and_the_line(exchange: Exchange) -> None:
    asked: list[tuple[IncomingCall, Line | None]] = []

    async def router(event: IncomingCall, line: Line | None) -> Answer:
        asked.append((event, line))
        return Answer("a")

    exchange.switchboard.router = router
    call = await rung(exchange, to=OURS[1:])
    [(event, line)] = asked
    assert line is not None and line.number == OURS and event.call.to == OURS
    assert event.reference == event.call.reference == call.reference
    assert event.call.credential_id == "main"
    assert event.call.owner == call.owner == exchange.switchboard.owner


async def test_a_first_refusal_to_answer_is_final_though_the_call_has_come_further(exchange: Exchange) -> None:
    """Only a refusal that may be due to an earlier attempt of ours is forgiven."""
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    provider = await exchange.switchboard.provider("main")

    async def refuse(call: IncomingCall, stream: object) -> WebhookReply:
        answered = {"status": CallStatus.ANSWERED}
        await exchange.switchboard.update(call.reference, lambda c: c.model_copy(update=answered))
        raise RequestRejected("inline", "answer", "no", status=422)

    provider.answer = refuse  # type: ignore[method-assign]
    assert (await ring(exchange)).status == 500
    assert (await now(exchange)).reason is EndReason.PROVIDER_UNAVAILABLE


async def test_a_call_that_could_not_be_answered_is_declined_with_its_reason(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="other")
    provider = await exchange.switchboard.provider("other")

    async def refuse(call: IncomingCall, stream: object) -> WebhookReply:
        raise RequestRejected("command", "answer", "no", status=422)

    provider.answer = refuse  # type: ignore[method-assign]
    await ring(exchange, credential="other", provider="command")
    await until_logged(("hang_up", "in-1"), CommandProvider)
    assert (await now(exchange)).intent is EndReason.PROVIDER_UNAVAILABLE


# --- what events change ----------------------------------------------------------------------------------------------


async def test_an_answering_machine_is_noted_on_the_call_and_reaches_its_handler(exchange: Exchange) -> None:
    heard: list[object] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            heard.append(event)

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    early = MachineDetected(call_id="in-1", answered_by="human")
    assert (await tell(exchange, early)).status == 204, "nobody talks yet: that is no error"
    transport, serving = await connect(exchange, ticket, "in-1")
    await exchange.wait_for("in-1", CallStatus.ANSWERED)
    event = MachineDetected(call_id="in-1", answered_by="machine")
    await tell(exchange, event)
    await tell(exchange, StreamProgress(call_id="in-1", status="started"))
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    assert heard == [event]
    assert (await now(exchange)).answered_by == "machine"


@pytest.mark.parametrize(("status", "ends"), [("failed", True), ("started", False), ("stopped", False)])
async def test_a_call_whose_stream_the_carrier_could_not_open_is_ended(
    exchange: Exchange, status: str, ends: bool
) -> None:
    await rung(exchange)
    await tell(exchange, StreamProgress(call_id="in-1", status=status))
    await asyncio.gather(*exchange.switchboard._tasks)
    call = await now(exchange)
    assert (call.intent, ("hang_up", "in-1") in InlineProvider.log) == (EndReason.MEDIA_ERROR if ends else None, ends)


async def test_a_stream_that_fails_after_the_end_changes_nothing(exchange: Exchange) -> None:
    await rung(exchange)
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    await tell(exchange, StreamProgress(call_id="in-1", status="failed"))
    await asyncio.gather(*exchange.switchboard._tasks)
    assert ("hang_up", "in-1") not in InlineProvider.log


@pytest.mark.parametrize("event_id", ["out-9:ringing", ""])
@pytest.mark.parametrize("status", ["ringing", "ended"])
async def test_a_call_to_be_hung_up_is_hung_up_as_soon_as_the_carrier_names_it(
    exchange: Exchange, status: str, event_id: str
) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(ProviderUnavailable):
        await exchange.dial(from_=OURS, to=CALLER, reference=R1)
    await exchange.hang_up(R1)
    await post(exchange, event="status", id="out-9", status=status, ref=R1, event_id=event_id)
    for _ in range(10):
        await asyncio.sleep(0)
    assert (("hang_up", "out-9") in InlineProvider.log) is (status == "ringing"), "one that is over needs no hang-up"


async def test_a_reference_names_one_leg(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    call = await exchange.dial(from_=OURS, to=CALLER)
    await post(exchange, event="status", id="the-other-leg", status="ended", ref=call.reference)
    assert not (await now(exchange, call.reference)).ended


async def test_news_that_names_no_leg_is_of_the_call_that_its_reference_names(exchange: Exchange) -> None:
    call = await rung(exchange)
    seen: list[Call | None] = []
    exchange.switchboard.observers.append(lambda event, call: seen.append(call))
    await tell(exchange, RecordingProgress(reference=call.reference, status="completed"))
    await tell(exchange, RecordingProgress(reference=call.reference, call_id="another leg", status="completed"))
    assert [known.id if known else None for known in seen] == ["in-1", None]


async def test_news_of_a_call_we_do_not_keep_is_told_without_a_call(exchange: Exchange) -> None:
    seen: list[tuple[CallEvent, Call | None]] = []
    exchange.switchboard.observers.append(lambda event, call: seen.append((event, call)))
    assert (await post(exchange, event="status", id="unheard-of", status="ended")).status == 204
    [(event, call)] = seen
    assert (event.call_id, call) == ("unheard-of", None)


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "at_least", "at_most"),
    [
        (timedelta(seconds=-60, microseconds=250_000), 0.0, 0.0),
        (timedelta(seconds=-60), 0.999, 0.999),
        (timedelta(seconds=60), 0.0, 0.0),
    ],
    ids=["finer than a second: as it is", "a whole second: its end", "a clock ahead of ours: as it is"],
)
async def test_the_carriers_time_is_the_times_of_the_call(
    exchange: Exchange, told: timedelta, at_least: float, at_most: float
) -> None:
    call = await rung(exchange)
    when = datetime.now(UTC).replace(microsecond=0) + told
    await tell(exchange, progress(call, CallStatus.ANSWERED, occurred_at=when))
    answered_at = (await now(exchange)).answered_at
    assert answered_at is not None
    assert at_least <= round((answered_at - when).total_seconds(), 6) <= at_most


async def test_the_present_second_is_not_read_as_the_future(exchange: Exchange) -> None:
    call = await rung(exchange)
    await tell(exchange, progress(call, CallStatus.ANSWERED, occurred_at=datetime.now(UTC).replace(microsecond=0)))
    answered_at = (await now(exchange)).answered_at
    assert answered_at is not None and answered_at <= datetime.now(UTC)


async def test_without_a_time_of_the_carrier_it_is_now(exchange: Exchange) -> None:
    call, before = await rung(exchange), datetime.now(UTC)
    await tell(exchange, progress(call, CallStatus.ANSWERED))
    answered_at = (await now(exchange)).answered_at
    assert answered_at is not None and answered_at.utcoffset() == timedelta(0)
    assert before <= answered_at <= datetime.now(UTC)


# --- who is told -----------------------------------------------------------------------------------------------------


class Observes:
    """A plugin."""

    def __init__(self) -> None:
        self.seen: list[tuple[CallEvent, Line | None]] = []

    @hookimpl
    def anycarrier_call_event(self, event: CallEvent, line: Line | None) -> None:
        self.seen.append((event, line))


@pytest.fixture
def plugin(exchange: Exchange) -> Observes:
    observes = Observes()
    plugins.register(observes, "observes")
    return observes


async def test_plugins_hear_of_an_event_with_the_line_of_its_number(exchange: Exchange, plugin: Observes) -> None:
    await rung(exchange)
    await post(exchange, event="status", id="in-1", status="answered", event_id="in-1:answered")
    await tell(exchange, MachineDetected(call_id="in-1", answered_by="human"))
    line = await exchange.switchboard.registry.lookup(OURS)
    assert [(type(event), of) for event, of in plugin.seen] == [
        (IncomingCall, line), (CallProgress, line), (MachineDetected, line),
    ]  # fmt: skip


async def test_plugins_hear_nothing_of_another_credentials_line(exchange: Exchange, plugin: Observes) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, credential="other", provider="command")
    await post(exchange, "other", "command", event="status", id="in-1", status="ended", event_id="in-1:end")
    assert plugin.seen and all(line is None for _, line in plugin.seen)


@pytest.mark.parametrize("failure", [ValueError, KeyError, ConnectionError, CallUnconfirmed("inline", "x")])
async def test_an_observer_that_fails_keeps_nothing_from_the_others(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, failure: Any
) -> None:
    seen: list[CallEvent] = []

    def fails(event: CallEvent, call: Call | None) -> None:
        raise failure

    exchange.switchboard.observers += [fails, lambda event, call: seen.append(event)]
    call = await rung(exchange)
    assert [type(event) for event in seen] == [IncomingCall] and call.intent is None
    assert "an observer failed on IncomingCall" in caplog.text
