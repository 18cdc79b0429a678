"""Dialling: what the carrier is asked for, what is refused before it is asked, and what its answer means."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from anycarrier import (
    AudioFormat,
    Call,
    CallStatus,
    Direction,
    EndReason,
    Exchange,
    Policy,
)
from anycarrier.call_phases import QUEUED_AT_CARRIER
from anycarrier.dialling import CARRIER_GRACE
from anycarrier.errors import (
    AuthenticationFailed,
    CallUnconfirmed,
    ConfigurationError,
    DestinationNotAllowed,
    InsufficientFunds,
    InvalidNumber,
    InvalidSipAddress,
    LimitReached,
    NumberNotAssigned,
    NumberRejected,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnknownAgent,
    UnknownCall,
    UnsupportedOperation,
)
from anycarrier.tickets import TicketOffice
from core.conftest import CALLER, OURS, R1, R8, R9, connect, dialled, echo, logged, post, ring, until_sent
from fake_carriers import InlineProvider

ANOTHER = "+14155550102"


async def an_opened_call(exchange: Exchange, **facts: Any) -> Call:
    """An outbound call in the call book, ``R9``, that was never dialled."""
    return await exchange.switchboard.calls.open(
        Call(
            id="", provider="inline", direction=Direction.OUTBOUND, from_=OURS, to=CALLER, status=CallStatus.QUEUED,
            reference=R9, credential_id="main", agent_id="a", **facts,
        )
    )  # fmt: skip


async def under_way(exchange: Exchange) -> asyncio.Future[Call]:
    """A dial as ``R1`` that the carrier answers once ``InlineProvider.dial_gate`` is set."""
    InlineProvider.dial_gate = asyncio.Event()
    dialling = asyncio.ensure_future(dialled(exchange, reference=R1))
    while not await exchange.switchboard.calls.get(R1):
        await asyncio.sleep(0)
    return dialling


async def test_dialling_rings_once_and_its_media_reaches_the_agent(exchange: Exchange) -> None:
    call = await dialled(exchange, custom={"order": "7"})
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    assert request.status_url == f"https://voice.example.com/inline/main?ref={call.reference}"
    assert request.stream.custom == {"order": "7"}
    transport, serving = await connect(exchange, request.stream.url.rpartition("/")[2], "out-1")
    transport.say(event="media", audio="hi")
    await until_sent(transport)
    assert (await exchange.wait_for(call, CallStatus.ANSWERED)).answered_at is not None
    transport.say(event="stop")
    await serving
    await post(exchange, event="status", id="out-1", status="ended", reason="user_hangup", ref=call.reference)
    assert (await exchange.wait_for(call)).reason is EndReason.USER_HANGUP


async def test_a_start_that_names_no_call_is_the_tickets_call_and_one_that_names_another_is_refused(
    exchange: Exchange,
) -> None:
    call = await dialled(exchange)
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    transport, serving = await connect(exchange, request.stream.ticket, "")
    transport.say(event="media", audio="hi")
    await until_sent(transport)
    transport.say(event="stop")
    await serving
    answered = await exchange.switchboard.calls.get(call.reference)
    assert answered is not None and (answered.id, answered.status) == ("out-1", CallStatus.ANSWERED)
    again = await dialled(exchange)
    request = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"][-1]
    _, serving = await connect(exchange, request.stream.ticket, "out-9")
    await serving
    refused = await exchange.switchboard.calls.get(again.reference)
    assert refused is not None and refused.status is not CallStatus.ANSWERED


async def test_news_that_outruns_the_answer_to_the_dial_is_not_lost(exchange: Exchange) -> None:
    dialling = await under_way(exchange)
    await post(exchange, event="status", id="out-1", status="ended", reason="busy", ref=R1, event_id="e1")
    InlineProvider.dial_gate.set()
    call = await dialling
    assert (call.id, call.status, call.reason) == ("out-1", CallStatus.ENDED, EndReason.BUSY)


async def test_a_refused_dial_leaves_an_ended_call_with_its_reason(exchange: Exchange) -> None:
    InlineProvider.dial_error = NumberRejected("inline", "dial", "no such number", code="7")
    with pytest.raises(NumberRejected):
        await dialled(exchange, reference=R1)
    call = await exchange.switchboard.calls.get(R1)
    assert call and (call.status, call.reason) == (CallStatus.ENDED, EndReason.INVALID_NUMBER)


async def test_an_unknown_outcome_stays_open_until_the_carrier_is_heard_of(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable, match="do not dial again before checking"):
        await dialled(exchange, reference=R1)
    assert [c.reference for c in await exchange.calls_in_progress()] == [R1]
    await post(exchange, event="status", id="out-9", status="answered", ref=R1)
    call = await exchange.switchboard.calls.get(R1)
    assert call and (call.id, call.status) == ("out-9", CallStatus.ANSWERED)


async def test_a_dial_that_was_written_off_is_hung_up_when_the_carrier_names_it_after_all(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable):
        await dialled(exchange, reference=R1)
    await exchange.switchboard.end_locally((await exchange.calls_in_progress())[0], EndReason.PROVIDER_UNAVAILABLE)
    await post(exchange, event="status", id="out-9", status="ringing", ref=R1, event_id="1")
    async with asyncio.timeout(2):
        while not logged("hang_up"):
            await asyncio.sleep(0)
    assert logged("hang_up") == [("hang_up", "out-9")]
    await post(exchange, event="status", id="out-9", status="ended", ref=R1, event_id="2")
    call = await exchange.switchboard.calls.get(R1)
    assert call and call.reason is EndReason.PROVIDER_UNAVAILABLE and len(logged("hang_up")) == 1


async def test_a_call_the_carrier_has_not_named_cannot_be_acted_on_but_can_be_hung_up(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable):
        await dialled(exchange, reference=R1)
    for act, named in (
        (exchange.transfer(R1, CALLER), "transfer"),
        (exchange.send_digits(R1, "1"), "send_digits"),
        (exchange.fetch_call(R1), "fetch_call"),
        (exchange.start_recording(R1), "start_recording"),
        (exchange.stop_recording(R1), "stop_recording"),
    ):
        with pytest.raises(CallUnconfirmed, match="wait_until") as refused:
            await act
        assert (refused.value.provider, refused.value.operation) == ("inline", named)
    call = await exchange.switchboard.calls.get(R1)
    assert call and call.intent is None
    await exchange.hang_up(R1)
    await post(exchange, event="status", id="out-9", status="ringing", ref=R1)
    async with asyncio.timeout(2):
        while ("hang_up", "out-9") not in InlineProvider.log:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"from_": "4155550101"}, InvalidNumber),
        ({"to": "911"}, InvalidNumber),
        ({"from_": "+14155550177"}, NumberNotAssigned),
        ({"to": "+442071838750"}, DestinationNotAllowed),
        ({"agent_id": "nobody"}, UnknownAgent),
    ],
)
async def test_bad_dials_never_reach_the_carrier(exchange: Exchange, change: dict[str, str], error: type) -> None:
    exchange.switchboard.agents = {"a": echo}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(error):
        await exchange.dial(**{"from_": OURS, "to": CALLER, **change})
    assert not any(entry[0] == "dial" for entry in InlineProvider.log)
    assert await exchange.calls_in_progress() == []


async def test_calls_at_once_are_counted_for_each_credential_alone(exchange: Exchange) -> None:
    exchange.switchboard.policy.max_concurrent = 1
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.assign("+14155550102", agent_id="a", credential_id="other")
    await exchange.dial(from_=OURS, to=CALLER)
    await exchange.dial(from_="+14155550102", to=CALLER)
    assert len(await exchange.calls_in_progress()) == 2


async def test_the_pace_is_counted_for_each_credential_whoever_talks(exchange: Exchange) -> None:
    exchange.switchboard.policy = Policy(allow=["US"], calls_per_second=1, clock=lambda: 0.0)
    exchange.switchboard.agents = {"a": echo, "b": echo}
    for number, credential in ((OURS, "main"), (ANOTHER, "other")):
        await exchange.assign(number, agent_id="a", credential_id=credential)
        await exchange.dial(from_=number, to=CALLER)
    with pytest.raises(LimitReached, match="1 calls per second on credential 'main'"):
        await exchange.dial(from_=OURS, to=CALLER, agent_id="b")
    assert len(logged("dial")) == 1 and len(await exchange.calls_in_progress()) == 2


async def test_a_hang_up_while_the_dial_is_under_way_is_carried_out_after_it(exchange: Exchange) -> None:
    dialling = await under_way(exchange)
    await exchange.hang_up(R1)
    InlineProvider.dial_gate.set()
    await dialling
    assert InlineProvider.log[-1] == ("hang_up", "out-1")


async def test_a_call_that_is_over_before_its_dial_returns_is_not_hung_up_again(exchange: Exchange) -> None:
    dialling = await under_way(exchange)
    await exchange.hang_up(R1)
    await post(exchange, event="status", id="out-1", status="ended", reason="busy", ref=R1)
    InlineProvider.dial_gate.set()
    assert (await dialling).ended and not logged("hang_up")


async def test_a_dial_says_who_rings_whom_how_long_and_where_to_report(exchange: Exchange) -> None:
    exchange.switchboard.agents = {"a": echo, "b": echo}
    before = datetime.now(UTC)
    call = await dialled(
        exchange, agent_id="b", reference=R1, custom={"order": "7"}, time_limit=60.0, timeout=20, record=True
    )
    [(_, request)] = logged("dial")
    assert (request.from_, request.to, request.reference) == (OURS, CALLER, R1)
    assert (request.timeout, request.record, request.time_limit) == (20.0, True, 60.0 + CARRIER_GRACE)
    assert (request.stream.custom, request.stream.format) == ({"order": "7"}, exchange.switchboard.carrier_audio)
    assert (call.reference, call.agent_id, call.time_limit) == (R1, "b", 60.0)
    assert call.owner == exchange.switchboard.owner
    assert (call.provider, call.credential_id, call.direction) == ("inline", "main", "outbound")
    assert call.created_at is not None and before <= call.created_at <= datetime.now(UTC)
    ticket = await exchange.admit(request.stream.url.rpartition("/")[2])
    assert (ticket.agent_id, ticket.reference, ticket.call_id) == ("b", R1, "")


@pytest.mark.parametrize(("given", "expected"), [(None, 90.0), (60.0, 60.0)])
async def test_a_dial_without_a_time_limit_has_the_exchanges(
    exchange: Exchange, given: float | None, expected: float
) -> None:
    exchange.switchboard.time_limit = 90.0
    assert (await dialled(exchange, time_limit=given)).time_limit == expected
    [(_, request)] = logged("dial")
    assert request.time_limit == expected + CARRIER_GRACE


async def test_a_carrier_that_ends_no_calls_is_given_no_limit_and_the_exchange_keeps_it(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "limits_calls", False)
    assert (await dialled(exchange, time_limit=60.0)).time_limit == 60.0
    [(_, request)] = logged("dial")
    assert request.time_limit is None


async def test_no_limit_of_ours_is_none_of_the_carriers(exchange: Exchange) -> None:
    await dialled(exchange)
    [(_, request)] = logged("dial")
    assert (request.time_limit, request.timeout) == (None, 30.0)


async def test_an_opened_call_is_dialled_as_it_is_in_the_book(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = exchange.switchboard
    board.agents = echo
    opened = await an_opened_call(exchange, time_limit=60.0)

    async def refuse(*given: object) -> Any:
        raise AssertionError(given)

    monkeypatch.setattr(board.registry, "lookup", refuse)
    monkeypatch.setattr(board.calls, "open", refuse)
    call = await exchange.dial(call=opened, timeout=20.0)
    [(_, request)] = logged("dial")
    assert (request.from_, request.to, request.reference) == (OURS, CALLER, R9)
    assert (request.timeout, request.time_limit) == (20.0, 60.0 + CARRIER_GRACE)
    assert (call.reference, call.id, call.agent_id, call.status) == (R9, "out-1", "a", CallStatus.INITIATED)
    assert exchange.call_watch.watches(R9)
    for given in ({"from_": OURS}, {"to": CALLER}, {"agent_id": "a"}, {"reference": R9}):
        with pytest.raises(ConfigurationError):
            await exchange.dial(call=opened, **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        await exchange.dial(from_=OURS)


async def test_an_opened_call_has_its_limit_in_the_book_and_is_dialled_once(exchange: Exchange) -> None:
    board = exchange.switchboard
    opened = await an_opened_call(exchange)
    with pytest.raises(UnknownCall):
        await exchange.dial(call=opened.model_copy(update={"reference": R8}))
    for wrong in ({"direction": Direction.INBOUND}, {"status": CallStatus.ENDED}, {"id": "out-7"}):
        with pytest.raises(ConfigurationError, match="never dialled"):
            await exchange.dial(call=opened.model_copy(update=wrong))
    assert logged("dial") == [], "nobody was rung"
    call = await exchange.dial(call=opened, time_limit=40.0)
    kept = await board.calls.get(R9)
    assert kept is not None and (call.time_limit, kept.time_limit, kept.owner) == (40.0, 40.0, board.owner)
    with pytest.raises(ConfigurationError, match="never dialled"):
        await exchange.dial(call=opened)
    assert len(logged("dial")) == 1


@pytest.mark.parametrize("outcome", ["answers", "unknown", "refused"])
async def test_an_opened_call_rings_once_though_it_is_dialled_twice_at_once(exchange: Exchange, outcome: str) -> None:
    board = exchange.switchboard
    opened = await an_opened_call(exchange)
    with pytest.raises(DestinationNotAllowed):  # before the carrier is asked: it stays open
        await exchange.dial(call=opened.model_copy(update={"to": "+442079460000"}))
    InlineProvider.dial_gate = asyncio.Event()
    if outcome != "answers":
        failure = ProviderUnavailable if outcome == "unknown" else NumberRejected
        InlineProvider.dial_error = failure("inline", "dial")
    dialling = asyncio.ensure_future(exchange.dial(call=opened))
    while not logged("dial"):
        await asyncio.sleep(0)
    with pytest.raises(ConfigurationError, match="being dialled"):
        await exchange.dial(call=opened)
    InlineProvider.dial_gate.set()
    await asyncio.gather(dialling, return_exceptions=True)
    InlineProvider.dial_error = None
    again = "being dialled" if outcome == "unknown" else "never dialled"
    with pytest.raises(ConfigurationError, match=again):
        await exchange.dial(call=opened)
    assert len(logged("dial")) == 1
    if outcome == "unknown":
        await board.end_locally(opened, EndReason.NO_ANSWER)
        with pytest.raises(ConfigurationError, match="never dialled"):
            await exchange.dial(call=opened)


async def test_an_option_that_is_refused_is_not_shown(exchange: Exchange) -> None:
    for options in ({"digits": "9182-7364"}, {"headers": {"X-Token": "9182-7364\n"}}):
        with pytest.raises(ValueError) as caught:
            await dialled(exchange, **options)
        assert "7364" not in str(caught.value)


async def test_as_many_calls_at_once_as_the_policy_says_and_no_more(exchange: Exchange) -> None:
    exchange.switchboard.policy = Policy(allow=["US"], max_concurrent=2)
    calls = [await dialled(exchange, reference=f"{number:032x}") for number in range(2)]
    with pytest.raises(LimitReached):
        await dialled(exchange)
    assert len(logged("dial")) == 2
    await exchange.switchboard.end_locally(calls[0], EndReason.NO_ANSWER)
    await dialled(exchange)


@pytest.mark.parametrize(
    ("refusal", "reason"),
    [
        (NumberRejected, EndReason.INVALID_NUMBER),
        (PermissionDenied, EndReason.PROVIDER_PERMISSION_DENIED),
        (InsufficientFunds, EndReason.PROVIDER_PERMISSION_DENIED),
        (AuthenticationFailed, EndReason.PROVIDER_AUTH_FAILED),
        (RateLimited, EndReason.PROVIDER_RATE_LIMITED),
        (RequestRejected, EndReason.UNKNOWN),
        (ProviderError, EndReason.UNKNOWN),
        (UnsupportedOperation, EndReason.UNKNOWN),
    ],
)
async def test_a_refused_dial_ends_with_the_refusals_reason(
    exchange: Exchange, refusal: type[ProviderError], reason: EndReason
) -> None:
    InlineProvider.dial_error = refusal("inline", "dial", "no")
    with pytest.raises(refusal):
        await dialled(exchange, reference=R1)
    call = await exchange.switchboard.calls.get(R1)
    assert call and (call.status, call.reason, call.ended_at is not None) == (CallStatus.ENDED, reason, True)


async def test_a_dial_that_never_left_is_over(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "refused", sent=False)
    with pytest.raises(ProviderUnavailable):
        await dialled(exchange, reference=R1)
    call = await exchange.switchboard.calls.get(R1)
    assert call and call.reason is EndReason.PROVIDER_UNAVAILABLE


@pytest.mark.parametrize(("options", "ring_time"), [({}, 30.0), ({"timeout": 20}, 20.0)])
async def test_how_long_a_dial_rings_bounds_its_ticket_and_its_watch(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], ring_time: float
) -> None:
    watched: list[tuple[str, float | None]] = []
    note = exchange.call_watch.note

    def noting(call: Call, *, ring_time: float | None = None) -> None:
        watched.append((call.reference, ring_time))
        note(call, ring_time=ring_time)

    monkeypatch.setattr(exchange.call_watch, "note", noting)
    exchange.switchboard.tickets = TicketOffice("x" * 32, exchange.switchboard.once, clock=lambda: 1000.0)
    await dialled(exchange, reference=R1, **options)
    [(_, request)] = logged("dial")
    assert (await exchange.admit(request.stream.url.rpartition("/")[2])).expires == 1000 + QUEUED_AT_CARRIER + ring_time
    assert watched[0] == (R1, ring_time) and request.timeout == ring_time


async def test_a_carrier_is_asked_for_the_exchanges_audio(exchange: Exchange) -> None:
    exchange.switchboard.carrier_audio = AudioFormat("L16", 16000)
    await dialled(exchange)
    [(_, request)] = logged("dial")
    assert request.stream.format == AudioFormat("L16", 16000)


async def test_one_tenants_webhook_cannot_move_another_tenants_call(exchange: Exchange) -> None:
    call = await dialled(exchange)
    await post(exchange, "other", "command", event="status", id="out-1", status="ended", ref=call.reference)
    assert not (await exchange.switchboard.calls.get(call.reference)).ended  # type: ignore[union-attr]


@pytest.mark.parametrize("reference", ["r-1", "", "A" * 32, "a" * 31, "a" * 33, "g" * 32, "a" * 32 + "\n"])
async def test_a_reference_that_is_not_what_is_promised_is_refused_before_anything_is_done(
    exchange: Exchange, reference: str
) -> None:
    with pytest.raises(ConfigurationError, match="32 lower-case hexadecimal digits"):
        await dialled(exchange, reference=reference)
    other = {"reference": reference or "x", "id": "new", "status": CallStatus.QUEUED}
    stored = (await dialled(exchange)).model_copy(update=other)
    with pytest.raises(ConfigurationError, match="32 lower-case hexadecimal digits"):
        await exchange.dial(call=stored)
    with pytest.raises(ConfigurationError, match="32 lower-case hexadecimal digits"):
        await exchange.hang_up(stored)
    assert len(logged("dial")) == 1


async def test_references_that_are_made_here_are_what_is_promised(exchange: Exchange) -> None:
    assert re.fullmatch("[0-9a-f]{32}", (await dialled(exchange)).reference)
    await ring(exchange)
    rung = await exchange.switchboard.calls.get("in-1")
    assert rung is not None and re.fullmatch("[0-9a-f]{32}", rung.reference)


# --- sip: addresses --------------------------------------------------------------------------------------------------

DESK = "sip:desk@pbx.example.com"


async def dialled_to(exchange: Exchange, to: str, *, allow: list[str]) -> Call:
    exchange.switchboard.agents = echo
    exchange.switchboard.policy = Policy(allow=allow)
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    return await exchange.dial(from_=OURS, to=to)


async def test_a_sip_address_is_rung_where_carrier_and_policy_allow_it(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineProvider, "dials_sip", True)
    call = await dialled_to(exchange, DESK, allow=["US", "sip:pbx.example.com"])
    [(_, request)] = logged("dial")
    assert (call.to, call.remote_number, request.to) == (DESK, DESK, DESK)


async def test_a_carrier_that_rings_numbers_only_is_not_asked_to_ring_a_sip_address(exchange: Exchange) -> None:
    with pytest.raises(UnsupportedOperation, match="inline does not support dial: it rings numbers only"):
        await dialled_to(exchange, DESK, allow=["US", "sip:*"])
    assert not logged("dial") and not await exchange.calls_in_progress()


@pytest.mark.parametrize(
    ("to", "refusal"),
    [(DESK, DestinationNotAllowed), ("sip:desk@", InvalidSipAddress), ("desk@pbx.example.com", InvalidNumber)],
)
async def test_a_sip_address_that_policy_or_grammar_refuses_is_not_rung(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, to: str, refusal: type[Exception]
) -> None:
    monkeypatch.setattr(InlineProvider, "dials_sip", True)
    with pytest.raises(refusal):
        await dialled_to(exchange, to, allow=["US"])
    assert not logged("dial") and not await exchange.calls_in_progress()
