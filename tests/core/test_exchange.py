"""The exchange over fake carriers of each kind: routing, refusals, endings."""

import asyncio
from typing import Any

import httpx
import pytest

from anycarrier import (
    Call,
    CallStatus,
    EndReason,
    Exchange,
    Forward,
    MachineDetection,
    MediaSession,
    WebhookReply,
    WebhookRequest,
    incoming,
)
from anycarrier.agent import AgentCall, Agents
from anycarrier.errors import (
    ConfigurationError,
    ProviderUnavailable,
    SpeechNotReady,
    TicketRefused,
)
from core.conftest import CALLER, OURS, connect, echo, post, ring, ticket_in, until_sent
from fake_carriers import CommandProvider, InlineProvider, MemoryTransport, TrunkProvider

# --- inbound ---------------------------------------------------------------------------------------------------------


async def test_a_call_is_answered_by_the_numbers_agent_and_ends_as_the_caller_ends_it(exchange: Exchange) -> None:
    talked: list[str] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session.agent_id)
        await echo(session)

    exchange.switchboard.agents = talk
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
    assert not exchange.switchboard.sessions


async def test_a_reassigned_number_reaches_the_new_agent(exchange: Exchange) -> None:
    exchange.switchboard.agents = {"first": echo, "second": echo}
    for number, agent in enumerate(("first", "second")):
        await exchange.assign(OURS, agent_id=agent, credential_id="main")
        await ring(exchange, f"in-{number}")
        call = await exchange.switchboard.calls.get(f"in-{number}")
        assert call and call.agent_id == agent


async def test_an_unassigned_number_is_declined(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await ring(exchange)
    assert ("hang_up", "in-1") in InlineProvider.log
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    call = await exchange.switchboard.calls.get("in-1")
    assert call and call.reason is EndReason.REJECTED


@pytest.mark.parametrize("called", [OURS[1:], f"sip:{OURS}@sip.example;transport=tls", f"sip:{OURS[1:]}@192.0.2.7"])
async def test_a_number_without_a_plus_or_as_a_sip_address_finds_its_line(exchange: Exchange, called: str) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert ticket_in(await ring(exchange, to=called))
    call = await exchange.switchboard.calls.get("in-1")
    assert call and (call.agent_id, call.to) == ("a", OURS)


@pytest.mark.parametrize("called", ["4155550100", "sip:desk@sip.carrier.example", f"sip:{OURS}@a@b", "", "anonymous"])
async def test_a_called_number_is_never_guessed(exchange: Exchange, called: str) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, to=called)
    assert ("hang_up", "in-1") in InlineProvider.log


async def test_another_accounts_carrier_cannot_ring_our_number(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, credential="other", provider="command")
    async with asyncio.timeout(2):  # this carrier is answered beside its webhook
        while not CommandProvider.log:
            await asyncio.sleep(0)
    assert CommandProvider.log == [("hang_up", "in-1")]
    call = await exchange.switchboard.calls.get("in-1")
    assert call and call.agent_id is None


async def test_a_number_whose_agent_is_unknown_is_declined_not_left_ringing(exchange: Exchange) -> None:
    exchange.switchboard.agents = {"first": echo}
    await exchange.assign(OURS, agent_id="first", credential_id="main")
    exchange.switchboard.agents = {"second": echo}
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

    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    await exchange.assign(OURS, agent_id="a", credential_id=credential)
    await ring(exchange, credential=credential, provider=provider.name)
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in provider.log:
            await asyncio.sleep(0)
    await post(exchange, credential, provider.name, event="status", id="in-1", status="ended", reason="user_hangup")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR
    assert "declined" in caplog.text


async def test_a_carrier_of_commands_is_acknowledged_at_once_and_answered_after(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="other")
    reply = await ring(exchange, credential="other", provider="command")
    assert (reply.status, reply.body) == (204, b"")
    while not any(entry[0] == "answer" for entry in CommandProvider.log):
        await asyncio.sleep(0)


async def test_forged_webhooks_start_nothing(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert (await ring(exchange, signed="no")).status == 403
    assert await exchange.calls_in_progress() == []


async def test_a_replayed_announcement_gets_no_second_ticket(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
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
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    forget, away = exchange.switchboard.once.forget, [True]

    async def from_store(key: str) -> None:
        if away:
            raise ConnectionRefusedError
        await forget(key)
        forgotten.set()

    async def gone(*_: object) -> Call:
        raise ConnectionRefusedError

    forgotten = asyncio.Event()
    monkeypatch.setattr(exchange.switchboard.once, "forget", from_store)
    with monkeypatch.context() as outage:
        outage.setattr(exchange.switchboard.calls, "open", gone)
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


async def test_a_call_the_carrier_would_not_let_us_answer_is_written_off(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "REPLY_PATIENCE", 0.05)
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")

    async def down(*_: object) -> WebhookReply:
        raise ProviderUnavailable("inline", "answer", "down", status=503)

    provider = await exchange.switchboard.provider("main")
    provider.answer = down  # type: ignore[method-assign]
    assert (await ring(exchange)).status == 500
    call = await exchange.switchboard.calls.get("in-1")
    assert call and call.reason is EndReason.PROVIDER_UNAVAILABLE


# --- media -----------------------------------------------------------------------------------------------------------


async def test_a_ticket_for_one_call_carries_no_other(exchange: Exchange) -> None:
    started: list[str] = []

    async def talk(session: MediaSession) -> None:
        started.append(session.call.id)

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "somebody-elses-call")
    await asyncio.wait_for(serving, 2)
    assert (started, transport.closed) == ([], 1000)


async def test_a_ticket_of_a_dial_opens_no_other_calls_stream(exchange: Exchange) -> None:
    talked: list[str] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session.call.id)

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.dial(from_=OURS, to=CALLER)
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    transport, serving = await connect(exchange, request.stream.url.rpartition("/")[2], "somebody-elses")
    await asyncio.wait_for(serving, 2)
    assert (talked, transport.closed) == ([], 1000)


async def test_a_ticket_of_an_ended_call_is_refused(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    await post(exchange, event="status", id="in-1", status="ended", event_id="in-1:end")
    with pytest.raises(TicketRefused, match="over"):
        await exchange.admit(ticket)


async def test_a_handler_that_returns_is_heard_out_and_hung_up(exchange: Exchange) -> None:
    async def goodbye(session: MediaSession) -> None:
        await session.send_audio(b"\xff" * 800)

    exchange.switchboard.agents = goodbye
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

    exchange.switchboard.agents = broken
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    await post(exchange, event="status", id="in-1", status="ended")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR
    assert "agent a failed: bug in the agent" in caplog.text


async def test_a_codec_nobody_can_read_ends_the_call_and_is_named(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    talked: list[MediaSession] = []

    async def talk(session: MediaSession) -> None:
        talked.append(session)

    exchange.switchboard.agents = talk
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
    exchange.switchboard.agents = echo
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
    exchange.switchboard.agents, exchange.switchboard.time_limit = echo, 0.05
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

    exchange.switchboard.agents = press
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert len(transport.sent[0]["audio"]) > 1600


# --- a carrier with sockets of its own -------------------------------------------------------------------------------


async def test_a_carrier_without_webhooks_or_websockets_takes_a_call(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
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

    exchange.switchboard.agents = agents = Agents()
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


async def test_a_carrier_that_is_slow_to_answer_holds_up_no_other_request(exchange: Exchange) -> None:
    together = asyncio.Barrier(40)  # answers nobody until all have asked

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await together.wait()
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    http = (await exchange.switchboard.provider("main")).http
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(10):
            replies = await asyncio.gather(*(http.get(url) for _ in range(40)))
    assert {reply.status_code for reply in replies} == {204}
    assert http.timeout == httpx.Timeout(InlineProvider.timeout)
