"""The exchange over fake carriers of each kind: routing, refusals, endings."""

import asyncio
from typing import Any

import pytest
from core.conftest import CALLER, OURS, connect, echo, post, ring, ticket_in, until_sent
from fake_carriers import CommandProvider, FakeCredential, InlineProvider, MemoryTransport, TrunkProvider

from linecard import (
    Call,
    CallStatus,
    EndReason,
    Exchange,
    Forward,
    MachineDetection,
    MediaSession,
    Policy,
    WebhookReply,
    WebhookRequest,
    incoming,
)
from linecard.agent import AgentCall, Agents
from linecard.errors import (
    AuthenticationFailed,
    CallUnconfirmed,
    ConfigurationError,
    DestinationNotAllowed,
    InvalidNumber,
    NotFound,
    NumberAlreadyAssigned,
    NumberNotAssigned,
    NumberRejected,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    SpeechNotReady,
    TicketRefused,
    UnknownAgent,
    UnknownCall,
    UnknownCredential,
    UnsupportedOperation,
)

# --- inbound ---------------------------------------------------------------------------------------------------------


async def test_a_call_is_answered_by_the_numbers_agent_and_ends_as_the_caller_ends_it(exchange: Exchange) -> None:
    talked: list[str] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session.agent_id)
        await echo(session)

    exchange.agents = talk
    await exchange.assign(OURS, agent_id="front-desk", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    transport.say(event="media", audio="hello")
    await until_sent(transport)
    assert transport.sent[0] == {"event": "media", "audio": "hello"}
    [call] = await exchange.calls_in_progress()
    assert (call.agent_id, call.status, call.from_) == ("front-desk", CallStatus.ANSWERED, CALLER)
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup", event_id="in-1:end")
    await asyncio.wait_for(serving, 2)
    over = await exchange.wait_for(call.reference)
    assert (over.reason, talked) == (EndReason.USER_HANGUP, ["front-desk"])
    assert not exchange.sessions


async def test_a_reassigned_number_reaches_the_new_agent(exchange: Exchange) -> None:
    exchange.agents = {"first": echo, "second": echo}
    for number, agent in enumerate(("first", "second")):
        await exchange.assign(OURS, agent_id=agent, credential_id="main")
        await ring(exchange, f"in-{number}")
        call = await exchange.calls.get(f"in-{number}")
        assert call and call.agent_id == agent


async def test_an_unassigned_number_is_declined(exchange: Exchange) -> None:
    exchange.agents = echo
    await ring(exchange)
    assert ("hang_up", "in-1") in InlineProvider.log
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    call = await exchange.calls.get("in-1")
    assert call and call.reason is EndReason.REJECTED


@pytest.mark.parametrize("called", [OURS[1:], f"sip:{OURS}@sip.example;transport=tls", f"sip:{OURS[1:]}@192.0.2.7"])
async def test_a_number_without_a_plus_or_as_a_sip_address_finds_its_line(exchange: Exchange, called: str) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert ticket_in(await ring(exchange, to=called))
    call = await exchange.calls.get("in-1")
    assert call and (call.agent_id, call.to) == ("a", OURS)


@pytest.mark.parametrize("called", ["4155550100", "sip:desk@sip.carrier.example", f"sip:{OURS}@a@b", "", "anonymous"])
async def test_a_called_number_is_never_guessed(exchange: Exchange, called: str) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, to=called)
    assert ("hang_up", "in-1") in InlineProvider.log


async def test_another_accounts_carrier_cannot_ring_our_number(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, credential="other", provider="command")
    async with asyncio.timeout(2):  # this carrier is answered beside its webhook
        while not CommandProvider.log:
            await asyncio.sleep(0)
    assert CommandProvider.log == [("hang_up", "in-1")]
    call = await exchange.calls.get("in-1")
    assert call and call.agent_id is None


async def test_a_number_whose_agent_is_unknown_is_declined_not_left_ringing(exchange: Exchange) -> None:
    exchange.agents = {"first": echo}
    await exchange.assign(OURS, agent_id="first", credential_id="main")
    exchange.agents = {"second": echo}
    await ring(exchange)
    assert InlineProvider.log[-1] == ("hang_up", "in-1")


@pytest.mark.parametrize("credential", ["main", "other"])
@pytest.mark.parametrize("failure", ["a bug", "a forbidden forward"])
async def test_a_router_that_fails_declines_the_call_on_every_kind_of_carrier(
    exchange: Exchange, credential: str, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    provider = {"main": InlineProvider, "other": CommandProvider}[credential]

    async def route(event: object, line: object) -> Forward:
        if failure == "a bug":
            raise ValueError("router bug")
        return Forward("+442071838750")

    exchange.agents, exchange.router = echo, route
    await exchange.assign(OURS, agent_id="a", credential_id=credential)
    await ring(exchange, credential=credential, provider=provider.name)
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in provider.log:
            await asyncio.sleep(0)
    await post(exchange, credential, provider.name, event="status", id="in-1", status="ended", reason="user_hangup")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR
    assert "declined" in caplog.text


async def test_a_carrier_of_commands_is_acknowledged_at_once_and_answered_after(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="other")
    reply = await ring(exchange, credential="other", provider="command")
    assert (reply.status, reply.body) == (204, b"")
    while not any(entry[0] == "answer" for entry in CommandProvider.log):
        await asyncio.sleep(0)


async def test_forged_webhooks_start_nothing(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert (await ring(exchange, signed="no")).status == 403
    assert await exchange.calls_in_progress() == []


async def test_a_replayed_announcement_gets_no_second_ticket(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert ticket_in(await ring(exchange))
    replay = await ring(exchange)
    assert (replay.status, b"media" in replay.body) == (409, False)
    respelled = await ring(exchange, event_id="another")
    assert (respelled.status, b"media" in respelled.body) == (409, False)
    assert sum(entry[0] == "answer" for entry in InlineProvider.log) == 1


async def test_an_event_that_met_an_absent_store_is_heard_when_it_comes_again(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "FORGET_EVERY", 0.01)
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    forget, away = exchange.once.forget, [True]

    async def from_store(key: str) -> None:
        if away:
            raise ConnectionRefusedError
        await forget(key)
        forgotten.set()

    async def gone(*_: object) -> Call:
        raise ConnectionRefusedError

    forgotten = asyncio.Event()
    monkeypatch.setattr(exchange.once, "forget", from_store)
    with monkeypatch.context() as outage:
        outage.setattr(exchange.calls, "open", gone)
        with pytest.raises(ConnectionRefusedError):  # whoever serves the webhook answers "not now"
            await ring(exchange)
    away.clear()
    async with asyncio.timeout(5):
        await forgotten.wait()
    assert ticket_in(await ring(exchange))


async def test_a_webhook_for_the_wrong_carrier_or_an_unknown_credential_is_404(exchange: Exchange) -> None:
    assert (await post(exchange, credential="nobody", event="x")).status == 404
    assert (await post(exchange, provider="command", event="x")).status == 404


async def test_an_unreadable_webhook_is_400(exchange: Exchange) -> None:
    request = WebhookRequest("POST", "https://voice.example.com/inline/main", {"x-signed": "yes"}, b"{half")
    assert (await exchange.handle_webhook("inline", "main", request)).status == 400


async def test_a_call_the_carrier_would_not_let_us_answer_is_written_off(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")

    async def down(*_: object) -> WebhookReply:
        raise ProviderUnavailable("inline", "answer", "down", status=503)

    provider = await exchange.provider("main")
    provider.answer = down  # type: ignore[method-assign]
    assert (await ring(exchange)).status == 500
    call = await exchange.calls.get("in-1")
    assert call and call.reason is EndReason.PROVIDER_UNAVAILABLE


# --- outbound --------------------------------------------------------------------------------------------------------


async def dialled(exchange: Exchange, **options: Any) -> Call:
    exchange.agents = exchange.agents or echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    return await exchange.dial(from_=OURS, to=CALLER, **options)


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


async def test_news_that_outruns_the_answer_to_the_dial_is_not_lost(exchange: Exchange) -> None:
    InlineProvider.dial_gate = asyncio.Event()
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    dialling = asyncio.ensure_future(exchange.dial(from_=OURS, to=CALLER, reference="r-1"))
    while not await exchange.calls.get("r-1"):
        await asyncio.sleep(0)
    await post(exchange, event="status", id="out-1", status="ended", reason="busy", ref="r-1", event_id="e1")
    InlineProvider.dial_gate.set()
    call = await dialling
    assert (call.id, call.status, call.reason) == ("out-1", CallStatus.ENDED, EndReason.BUSY)


async def test_a_refused_dial_leaves_an_ended_call_with_its_reason(exchange: Exchange) -> None:
    InlineProvider.dial_error = NumberRejected("inline", "dial", "no such number", code="7")
    with pytest.raises(NumberRejected):
        await dialled(exchange, reference="r-1")
    call = await exchange.calls.get("r-1")
    assert call and (call.status, call.reason) == (CallStatus.ENDED, EndReason.INVALID_NUMBER)


async def test_an_unknown_outcome_stays_open_until_the_carrier_is_heard_of(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable, match="do not dial again before checking"):
        await dialled(exchange, reference="r-1")
    assert [c.reference for c in await exchange.calls_in_progress()] == ["r-1"]
    await post(exchange, event="status", id="out-9", status="answered", ref="r-1")
    call = await exchange.calls.get("r-1")
    assert call and (call.id, call.status) == ("out-9", CallStatus.ANSWERED)


async def test_a_call_the_carrier_has_not_named_cannot_be_acted_on_but_can_be_hung_up(exchange: Exchange) -> None:
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable):
        await dialled(exchange, reference="r-1")
    for act in (
        exchange.transfer("r-1", CALLER),
        exchange.send_digits("r-1", "1"),
        exchange.fetch_call("r-1"),
        exchange.start_recording("r-1"),
    ):
        with pytest.raises(CallUnconfirmed, match="wait_until"):
            await act
    call = await exchange.calls.get("r-1")
    assert call and call.intent is None
    await exchange.hang_up("r-1")
    await post(exchange, event="status", id="out-9", status="ringing", ref="r-1")
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
    exchange.agents = {"a": echo}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(error):
        await exchange.dial(**{"from_": OURS, "to": CALLER, **change})
    assert not any(entry[0] == "dial" for entry in InlineProvider.log)
    assert await exchange.calls_in_progress() == []


async def test_calls_at_once_are_counted_for_each_credential_alone(exchange: Exchange) -> None:
    exchange.policy.max_concurrent = 1
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.assign("+14155550102", agent_id="a", credential_id="other")
    await exchange.dial(from_=OURS, to=CALLER)
    await exchange.dial(from_="+14155550102", to=CALLER)
    assert len(await exchange.calls_in_progress()) == 2


async def test_hanging_up_twice_or_after_the_end_is_success(exchange: Exchange) -> None:
    call = await dialled(exchange)
    await exchange.hang_up(call)
    await post(exchange, event="status", id="out-1", status="ended", ref=call.reference)
    await exchange.hang_up(call)
    assert sum(entry[0] == "hang_up" for entry in InlineProvider.log) == 1
    with pytest.raises(UnknownCall):
        await exchange.hang_up("never-heard-of")


async def test_a_hang_up_while_the_dial_is_under_way_is_carried_out_after_it(exchange: Exchange) -> None:
    InlineProvider.dial_gate = asyncio.Event()
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    dialling = asyncio.ensure_future(exchange.dial(from_=OURS, to=CALLER, reference="r-1"))
    while not await exchange.calls.get("r-1"):
        await asyncio.sleep(0)
    await exchange.hang_up("r-1")
    InlineProvider.dial_gate.set()
    await dialling
    assert InlineProvider.log[-1] == ("hang_up", "out-1")


async def test_one_tenants_webhook_cannot_move_another_tenants_call(exchange: Exchange) -> None:
    call = await dialled(exchange)
    await post(exchange, "other", "command", event="status", id="out-1", status="ended", ref=call.reference)
    assert not (await exchange.calls.get(call.reference)).ended  # type: ignore[union-attr]


async def test_a_transfer_is_judged_from_our_number_whoever_calls(exchange: Exchange) -> None:
    exchange.agents = echo
    exchange.policy = Policy()  # a number's own country
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, **{"from": "+442071838750"})
    with pytest.raises(DestinationNotAllowed):
        await exchange.transfer("in-1", "+442079460188")
    await exchange.transfer("in-1", "+12125550199")


async def test_transfer_checks_the_destination_and_is_the_reason_for_the_end(exchange: Exchange) -> None:
    call = await dialled(exchange)
    with pytest.raises(DestinationNotAllowed):
        await exchange.transfer(call, "+19005550100")
    await exchange.transfer(call, "+13105550100")
    await post(exchange, event="status", id="out-1", status="answered", ref=call.reference, event_id="1")
    await post(exchange, event="status", id="out-1", status="ended", ref=call.reference, event_id="2")
    assert (await exchange.wait_for(call)).reason is EndReason.TRANSFERRED


# --- media -----------------------------------------------------------------------------------------------------------


async def test_a_ticket_for_one_call_carries_no_other(exchange: Exchange) -> None:
    started: list[str] = []

    async def talk(session: MediaSession) -> None:
        started.append(session.call.id)

    exchange.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "somebody-elses-call")
    await asyncio.wait_for(serving, 2)
    assert (started, transport.closed) == ([], 1000)


async def test_a_ticket_of_a_dial_opens_no_other_calls_stream(exchange: Exchange) -> None:
    talked: list[str] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session.call.id)

    exchange.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.dial(from_=OURS, to=CALLER)
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    transport, serving = await connect(exchange, request.stream.url.rpartition("/")[2], "somebody-elses")
    await asyncio.wait_for(serving, 2)
    assert (talked, transport.closed) == ([], 1000)


async def test_a_ticket_of_an_ended_call_is_refused(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    await post(exchange, event="status", id="in-1", status="ended", event_id="in-1:end")
    with pytest.raises(TicketRefused, match="over"):
        await exchange.admit(ticket)


async def test_a_handler_that_returns_is_heard_out_and_hung_up(exchange: Exchange) -> None:
    async def goodbye(session: MediaSession) -> None:
        await session.send_audio(b"\xff" * 800)

    exchange.agents = goodbye
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert InlineProvider.log[-1] == ("hang_up", "in-1")
    assert [m["event"] for m in transport.sent] == ["media", "mark"]
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_HANGUP


async def test_a_handler_that_fails_ends_the_call_and_says_so(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(session: MediaSession) -> None:
        raise ValueError("bug in the agent")

    exchange.agents = broken
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    await post(exchange, event="status", id="in-1", status="ended")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR
    assert "agent a failed" in caplog.text


async def test_a_codec_nobody_can_read_ends_the_call_and_is_named(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    talked: list[MediaSession] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session)

    exchange.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport = MemoryTransport()
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    serving = asyncio.ensure_future(exchange.serve_media(ticket, transport))
    transport.say(event="start", call_id="in-1", format=("G722", 16000, 2))
    await asyncio.wait_for(serving, 2)
    assert not talked and InlineProvider.log[-1] == ("hang_up", "in-1")
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    assert (await exchange.wait_for("in-1")).reason is EndReason.MEDIA_ERROR
    assert "inline sends audio as G722 at 16000 Hz with 2 channels" in caplog.text


async def test_a_socket_that_drops_ends_the_call_rather_than_bill_on(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    transport.say(event="media", audio="x")
    await until_sent(transport)
    transport.lose()
    await asyncio.wait_for(serving, 2)
    over = await exchange.wait_for("in-1", timeout=3)
    assert over.reason is EndReason.MEDIA_ERROR
    assert ("hang_up", "in-1") in InlineProvider.log


async def test_our_time_limit_ends_an_inbound_call(exchange: Exchange) -> None:
    exchange.agents, exchange.time_limit = echo, 0.05
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in InlineProvider.log:
            await asyncio.sleep(0.005)
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    await serving
    assert (await exchange.wait_for("in-1")).reason is EndReason.MAX_DURATION


async def test_keys_go_by_command_where_there_is_one_and_as_tones_elsewhere(exchange: Exchange) -> None:
    async def press(session: MediaSession) -> None:
        await session.send_digits("5#")

    exchange.agents = press
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert len(transport.sent[0]["audio"]) > 1600


# --- numbers and credentials -----------------------------------------------------------------------------------------


async def test_assigning_configures_the_carrier_and_registers_only_when_that_worked(exchange: Exchange) -> None:
    line = await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert line.sync and line.sync.webhook_url == "https://voice.example.com/inline/main"
    with pytest.raises(NotFound, match="does not hold"):
        await exchange.assign("+14155550100", agent_id="a", credential_id="main")
    assert [line.number for line in await exchange.registry.lines()] == [OURS]


async def test_a_number_of_another_credential_is_not_taken_over(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(NumberAlreadyAssigned, match="'main'"):
        await exchange.assign(OURS, agent_id="a", credential_id="other")
    await exchange.unassign(OURS)
    await exchange.assign(OURS, agent_id="a", credential_id="other")


async def test_unassigning_has_the_carrier_send_the_calls_here_no_more(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.unassign(OURS)
    assert InlineProvider.log[-1] == ("unconfigure", OURS, "https://voice.example.com/inline/main")
    assert await exchange.registry.lines() == []


async def test_unassigning_without_configuring_is_between_us_and_the_registry(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.unassign(OURS, configure=False)
    assert [entry[0] for entry in InlineProvider.log] == ["configure"]
    assert await exchange.registry.lines() == []


@pytest.mark.parametrize("failure", [ProviderUnavailable, RateLimited])
async def test_a_carrier_that_cannot_be_reached_leaves_the_line_in_service(
    exchange: Exchange, failure: type[ProviderError]
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    InlineProvider.unconfigure_error = failure("inline", "unconfigure_number", "not now")
    with pytest.raises(failure):
        await exchange.unassign(OURS)
    assert [line.number for line in await exchange.registry.lines()] == [OURS]
    InlineProvider.unconfigure_error = None
    await exchange.unassign(OURS)
    assert await exchange.registry.lines() == []


@pytest.mark.parametrize("failure", [AuthenticationFailed, PermissionDenied, NotFound])
async def test_a_carrier_that_has_us_no_longer_does_not_hold_a_line_in_service(
    exchange: Exchange, failure: type[ProviderError], caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    InlineProvider.unconfigure_error = failure("inline", "unconfigure_number", "who are you?")
    await exchange.unassign(OURS)
    assert await exchange.registry.lines() == []
    assert "may still send the calls" in caplog.text and "who are you?" in caplog.text and OURS not in caplog.text


async def test_a_line_whose_credential_is_gone_is_unassigned_all_the_same(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    del exchange.credentials.by_id["main"]  # type: ignore[union-attr]
    await exchange.unassign(OURS)
    assert await exchange.registry.lines() == [] and "no credential 'main'" in caplog.text


async def test_unknown_credentials_and_numbers_say_what_to_do(exchange: Exchange) -> None:
    with pytest.raises(UnknownCredential, match="Exchange"):
        await exchange.assign(OURS, agent_id="a", credential_id="nope")
    with pytest.raises(NumberNotAssigned):
        await exchange.unassign(OURS)
    with pytest.raises(UnsupportedOperation, match="no inventory"):
        await exchange.search_numbers(credential_id="trunk")
    assert [n.number for n in await exchange.search_numbers(credential_id="main", area_code="415")]


async def test_a_changed_credential_makes_a_new_provider(exchange: Exchange) -> None:
    before = await exchange.provider("main")
    assert await exchange.provider("main") is before
    exchange.credentials.by_id["main"] = FakeCredential(api_key="rotated")  # type: ignore[union-attr,arg-type]
    assert await exchange.provider("main") is not before


# --- a carrier with sockets of its own -------------------------------------------------------------------------------


async def test_a_carrier_without_webhooks_or_websockets_takes_a_call(exchange: Exchange) -> None:
    exchange.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="trunk", configure=False)
    await exchange.start()
    [(_, listener)] = [entry for entry in TrunkProvider.log if entry[0] == "listener"]
    assert listener.running
    _, transport, serving = await listener.ring(CALLER, OURS)
    transport.say(event="start", call_id="leg-1")
    transport.say(event="media", audio="over rtp")
    await until_sent(transport)
    assert transport.sent[0]["audio"] == "over rtp"
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    await exchange.stop()
    assert not listener.running


@pytest.mark.parametrize("more", [{}, {"time_limit": 60.0, "machine_detection": MachineDetection.DETECT}])
async def test_nobody_is_rung_for_an_agent_without_its_speech_engine(exchange: Exchange, more: dict[str, Any]) -> None:
    async def talk(call: AgentCall) -> None:
        """Never gets that far."""

    exchange.agents = agents = Agents()
    agents.add("desk", handler=talk, settings={"synthesizer": "nowhere", "recognizer": "nowhere"})
    await exchange.assign(OURS, agent_id="desk", credential_id="main")
    with pytest.raises(SpeechNotReady, match="'nowhere' is installed"):
        await exchange.dial(from_=OURS, to=CALLER, **more)
    assert not [entry for entry in InlineProvider.log if entry[0] == "dial"]
    assert list(await exchange.calls_in_progress()) == []


async def test_variables_are_refused_where_no_agents_could_read_them(exchange: Exchange) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    with pytest.raises(ConfigurationError, match="variables are for agents"):
        await exchange.dial(from_=OURS, to=CALLER, variables={"name": "Sama"})
    assert await exchange.calls_in_progress() == []
