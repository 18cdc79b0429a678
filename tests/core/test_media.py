"""A media socket between its ticket and the end of its call: who gets in, who talks, and who hangs up."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from anycarrier import (
    AudioFormat,
    AudioReceived,
    Call,
    CallEvent,
    CallProgress,
    CallStatus,
    DigitPressed,
    EndReason,
    Exchange,
    HoldChanged,
    MediaEvent,
    MediaSession,
    media,
)
from anycarrier.errors import ProviderUnavailable, StreamNotOpen, TicketRefused
from core.conftest import CALLER, OURS, R1, connect, echo, post, ring, ticket_in
from fake_carriers import InlineProvider, MemoryTransport


class Talks:
    """A handler that notes the calls it gets and stays until they are over."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, session: MediaSession) -> None:
        self.calls.append(session.call)
        async for _ in session:
            pass


@pytest.fixture
async def talks(exchange: Exchange) -> Talks:
    """The agent of our number."""
    exchange.switchboard.agents = {"a": Talks()}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    handler = exchange.switchboard.agents["a"]
    assert isinstance(handler, Talks)
    return handler


def observed(exchange: Exchange) -> list[tuple[CallEvent, Call | None]]:
    seen: list[tuple[CallEvent, Call | None]] = []
    exchange.switchboard.observers.append(lambda event, call: seen.append((event, call)))
    return seen


def hang_ups() -> list[str]:
    return [entry[1] for entry in InlineProvider.log if entry[0] == "hang_up"]


async def until_hung_up(call_id: str) -> None:
    async with asyncio.timeout(2):
        while call_id not in hang_ups():
            await asyncio.sleep(0)


async def unconfirmed(exchange: Exchange) -> str:
    """A dial of which nobody knows whether it reached the carrier; the ticket of its stream."""
    InlineProvider.dial_error = ProviderUnavailable("inline", "dial", "timeout")
    with pytest.raises(ProviderUnavailable):
        await exchange.dial(from_=OURS, to=CALLER, reference=R1)
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    return str(request.stream.url.rpartition("/")[2])


# --- who gets in -----------------------------------------------------------------------------------------------------


async def test_an_exchange_without_agents_takes_no_media_socket_and_says_why_in_the_log(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    with pytest.raises(TicketRefused, match="has no agents"):
        await exchange.admit(ticket)
    assert "gets no media socket: this exchange has no agents: give it some" in caplog.text


@pytest.mark.parametrize("missing", ["handler", "call"])
async def test_a_socket_whose_handler_or_call_has_gone_since_its_ticket_is_closed(
    exchange: Exchange, talks: Talks, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    if missing == "handler":
        exchange.switchboard.agents = None
    else:

        async def gone(key: str) -> None:
            return None

        monkeypatch.setattr(exchange.switchboard.calls, "get", gone)
    transport = MemoryTransport()
    await exchange.serve_media(ticket, transport)
    assert transport.closed == 1008 and not exchange.switchboard.sessions and talks.calls == []


async def test_a_call_has_one_media_socket_in_a_process(exchange: Exchange, talks: Talks) -> None:
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    first, second = MemoryTransport(), MemoryTransport()
    serving = asyncio.ensure_future(exchange.serve_media(ticket, first))
    first.say(event="start", call_id="in-1")
    await exchange.wait_for("in-1", CallStatus.ANSWERED)
    await exchange.serve_media(ticket, second)
    assert (second.closed, first.closed, len(exchange.switchboard.sessions)) == (1008, None, 1)
    first.lose()
    await asyncio.wait_for(serving, 2)
    assert not exchange.switchboard.sessions


async def test_a_socket_that_never_starts_is_closed_and_says_what_it_got(
    exchange: Exchange, talks: Talks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(media, "START_TIMEOUT", 0.01)
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    transport = MemoryTransport()
    transport.say_raw(b"{half")
    await asyncio.wait_for(exchange.serve_media(ticket, transport), 2)
    assert (transport.closed, talks.calls) == (1000, [])
    assert "no start frame: none within 0.01 s (1 frames could not be read)" in caplog.text
    call = await exchange.switchboard.calls.get("in-1")
    assert call and call.status is CallStatus.RINGING


async def test_a_socket_that_is_lost_before_its_start_frame_says_why(
    exchange: Exchange, talks: Talks, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryTransport):
        async def __aiter__(self) -> AsyncIterator[bytes | str]:
            yield json.dumps({"event": "unknown"})
            raise OSError("no route to host")

    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    await asyncio.wait_for(exchange.serve_media(ticket, Broken()), 10)
    assert talks.calls == [] and "no start frame: connection lost" in caplog.text
    assert "reading the media socket on inline failed: no route to host" in caplog.text


async def test_an_end_between_the_ticket_and_the_start_frame_starts_nobody(exchange: Exchange, talks: Talks) -> None:
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup", event_id="in-1:end")
    transport = MemoryTransport()
    serving = asyncio.ensure_future(exchange.serve_media(ticket, transport))
    transport.say(event="start", call_id="in-1")
    await asyncio.wait_for(serving, 2)
    call = await exchange.switchboard.calls.get("in-1")
    assert talks.calls == [] and call and call.ended and call.answered_at is None and hang_ups() == []


async def test_an_agent_that_went_away_while_it_rang_is_the_reason(exchange: Exchange, talks: Talks) -> None:
    ticket = ticket_in(await ring(exchange))
    exchange.switchboard.agents = {"b": echo}
    with pytest.raises(TicketRefused, match="'a'"):
        await exchange.admit(ticket)
    await until_hung_up("in-1")
    await post(exchange, event="status", id="in-1", status="ended", reason="user_hangup")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR


# --- the start frame -------------------------------------------------------------------------------------------------


async def test_the_start_frame_is_the_answer_and_is_told_once(exchange: Exchange, talks: Talks) -> None:
    seen, before = observed(exchange), datetime.now(UTC)
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    answered = await exchange.wait_for("in-1", CallStatus.ANSWERED)
    assert answered.answered_at is not None and before <= answered.answered_at <= datetime.now(UTC)
    await post(exchange, event="status", id="in-1", status="answered", event_id="in-1:answered")
    told = [(event, call) for event, call in seen if isinstance(event, CallProgress)]
    event, call = told[0]
    assert isinstance(event, CallProgress) and event.call.status is CallStatus.ANSWERED
    assert (event.call_id, event.reference, call) == ("in-1", answered.reference, event.call)
    assert [one.raw for one, _ in told[1:]] != [] and len(told) == 2, "the second is the carrier's own word"
    await exchange.stop()
    await asyncio.wait_for(serving, 2)


class Listens(Talks):
    """And keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[MediaEvent | CallEvent] = []

    async def __call__(self, session: MediaSession) -> None:
        self.calls.append(session.call)
        async for event in session:
            self.heard.append(event)


async def early_media(
    exchange: Exchange, **started: object
) -> tuple[Listens, MemoryTransport, asyncio.Future[None]]:
    """A call that we have dialled, whose audio comes before its answer."""
    exchange.switchboard.agents = {"a": (agent := Listens())}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await exchange.dial(from_=OURS, to=CALLER)
    [request] = [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]
    transport = MemoryTransport()
    ticket = await exchange.admit(request.stream.url.rpartition("/")[2])
    serving = asyncio.ensure_future(exchange.serve_media(ticket, transport))
    transport.say(event="start", call_id="out-1", early=True, **started)
    return agent, transport, serving


async def test_early_media_is_no_answer_and_no_agent_hears_it(exchange: Exchange) -> None:
    seen = observed(exchange)
    agent, transport, serving = await early_media(exchange)
    for _ in range(600):  # more than the queue would keep
        transport.say(event="media", audio="tuut")
        await asyncio.sleep(0.02)
    [call] = await exchange.calls_in_progress()
    assert call.status is CallStatus.INITIATED and call.answered_at is None
    assert not agent.calls and not [event for event, _ in seen if isinstance(event, CallProgress)]
    await post(exchange, event="status", id="out-1", status="answered", event_id="answered")
    await asyncio.sleep(0.01)
    transport.say(event="media", audio="hello")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 5)
    assert [call.status for call in agent.calls] == [CallStatus.ANSWERED]
    assert [event.payload for event in agent.heard if isinstance(event, AudioReceived)] == [b"hello"]
    answers = [event for event, _ in seen if isinstance(event, CallProgress)]
    assert len(answers) == 1, "the carrier's own word is the only one"


async def test_what_comes_over_a_silent_early_stream_is_the_far_ends_and_kept(exchange: Exchange) -> None:
    """A carrier whose stream is there before the caller is connected to it: the word of the answer may be slower."""
    agent, transport, serving = await early_media(exchange, silent=True)
    await asyncio.sleep(0.1)
    assert not agent.calls, "no agent begins before the answer"
    transport.say(event="media", audio="hello")
    await asyncio.sleep(1.1)
    await post(exchange, event="status", id="out-1", status="answered", event_id="answered")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 5)
    assert [event.payload for event in agent.heard if isinstance(event, AudioReceived)] == [b"hello"]


async def test_keys_that_are_pressed_in_early_media_reach_the_agent(exchange: Exchange) -> None:
    agent, transport, serving = await early_media(exchange)
    transport.say(event="dtmf", digit="5")
    await asyncio.sleep(0.1)
    await post(exchange, event="status", id="out-1", status="answered", event_id="answered")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 5)
    assert [event.digit for event in agent.heard if isinstance(event, DigitPressed)] == ["5"]


@pytest.mark.parametrize("what", ["the call ends", "the stream ends", "nothing happens"])
async def test_early_media_without_an_answer_starts_nobody(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(media, "LONGEST_RING", 60.0)
    agent, transport, serving = await early_media(exchange)
    await asyncio.sleep(2)
    if what == "the call ends":
        await post(exchange, event="status", id="out-1", status="ended", reason="busy", event_id="over")
    elif what == "the stream ends":
        transport.lose()
    await asyncio.wait_for(serving, 3 if what != "nothing happens" else 61)
    assert not agent.calls and transport.closed is not None
    call = await exchange.switchboard.calls.get("out-1")
    assert call is not None and call.answered_at is None


async def test_hold_reaches_the_handler(exchange: Exchange) -> None:
    exchange.switchboard.agents = {"a": (agent := Listens())}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    for held in (True, False):
        transport.say(event="hold", held=held)
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    assert agent.heard == [HoldChanged(True), HoldChanged(False)]


async def test_a_handler_has_the_exchanges_format_whatever_the_carrier_is_asked_for(exchange: Exchange) -> None:
    formats: list[AudioFormat] = []

    async def talk(session: MediaSession) -> None:
        formats.append(session.format)

    board = exchange.switchboard
    board.agents, board.audio, board.carrier_audio = talk, AudioFormat("L16", 16000), AudioFormat("PCMA", 8000)
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert formats == [AudioFormat("L16", 16000)]
    [stream] = [entry[2] for entry in InlineProvider.log if entry[0] == "answer"]
    assert stream.format == AudioFormat("PCMA", 8000)


async def test_a_transport_that_reads_on_after_its_close_holds_nothing_up(exchange: Exchange, talks: Talks) -> None:
    class ReadsOn(MemoryTransport):
        async def close(self, code: int = 1000) -> None:
            self.closed = code

    transport = ReadsOn()
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    serving = asyncio.ensure_future(exchange.serve_media(ticket, transport))
    transport.say(event="start", call_id="in-1")
    await exchange.wait_for("in-1", CallStatus.ANSWERED)
    await exchange.stop()
    await asyncio.wait_for(serving, 2)
    assert transport.closed is not None and not exchange.switchboard.sessions


async def test_a_stream_after_the_carrier_told_of_the_answer_tells_nothing_more(
    exchange: Exchange, talks: Talks
) -> None:
    ticket = ticket_in(await ring(exchange))
    await post(exchange, event="status", id="in-1", status="answered", event_id="in-1:answered")
    seen = observed(exchange)
    transport, serving = await connect(exchange, ticket, "in-1")
    async with asyncio.timeout(2):
        while not talks.calls:
            await asyncio.sleep(0)
    assert seen == []
    transport.lose()
    await asyncio.wait_for(serving, 2)


async def test_a_call_belongs_to_the_process_that_has_its_audio(exchange: Exchange, talks: Talks) -> None:
    ticket = ticket_in(await ring(exchange))
    await exchange.switchboard.update("in-1", lambda c: c.model_copy(update={"owner": "another process"}))
    transport, serving = await connect(exchange, ticket, "in-1")
    assert (await exchange.wait_for("in-1", CallStatus.ANSWERED)).owner == exchange.switchboard.owner
    transport.lose()
    await asyncio.wait_for(serving, 2)


async def test_the_stream_of_a_dial_of_unknown_outcome_names_the_call(
    exchange: Exchange, talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "NAMING_TIMEOUT", 0.01)
    transport, serving = await connect(exchange, await unconfirmed(exchange), "out-9")
    call = await exchange.wait_for(R1, CallStatus.ANSWERED)
    assert call.id == "out-9"
    async with asyncio.timeout(2):
        while not talks.calls:
            await asyncio.sleep(0)
    assert talks.calls[0].id == "out-9"
    transport.lose()
    await asyncio.wait_for(serving, 2)


async def test_a_stream_that_is_ahead_of_the_answer_to_its_dial_waits_for_the_calls_name(
    exchange: Exchange, talks: Talks
) -> None:
    InlineProvider.dial_gate = asyncio.Event()
    dialling = asyncio.ensure_future(exchange.dial(from_=OURS, to=CALLER, reference=R1))
    async with asyncio.timeout(2):
        while not (requests := [entry[1] for entry in InlineProvider.log if entry[0] == "dial"]):
            await asyncio.sleep(0)
    ticket = requests[0].stream.url.rpartition("/")[2]
    transport, serving = await connect(exchange, ticket, "somebody-elses")
    for _ in range(20):
        await asyncio.sleep(0)
    assert (transport.closed, talks.calls) == (None, [])
    InlineProvider.dial_gate.set()
    assert (await dialling).id == "out-1"
    await asyncio.wait_for(serving, 2)
    assert (transport.closed, talks.calls) == (1000, [])


async def test_a_call_hung_up_before_it_had_a_name_is_hung_up_by_its_stream(
    exchange: Exchange, talks: Talks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "NAMING_TIMEOUT", 0.01)
    ticket = await unconfirmed(exchange)
    await exchange.hang_up(R1)
    assert hang_ups() == []
    _, serving = await connect(exchange, ticket, "out-9")
    await asyncio.wait_for(serving, 2)
    assert (hang_ups(), talks.calls) == (["out-9"], [])


# --- the handler -----------------------------------------------------------------------------------------------------


async def test_a_handler_that_stays_after_the_stream_is_given_a_moment_and_then_cancelled(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    became: list[str] = []

    async def busy(session: MediaSession) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            became.append("cancelled")
            raise

    exchange.switchboard.agents = busy
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 30)
    assert became == ["cancelled"] and "agent a still busy" in caplog.text
    assert "failed" not in caplog.text and not exchange.switchboard.sessions


async def test_a_handler_that_finishes_soon_after_the_stream_is_not_disturbed(exchange: Exchange) -> None:
    became: list[str] = []

    async def tidy(session: MediaSession) -> None:
        async for _ in session:
            pass
        await asyncio.sleep(0.01)
        became.append("tidied up")

    exchange.switchboard.agents = tidy
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    assert became == ["tidied up"]


@pytest.mark.parametrize(
    ("failure", "reported"),
    [(ValueError("bug in the agent"), True), (StreamNotOpen("the caller was quicker"), False)],
)
async def test_what_a_handler_raises_after_the_stream_is_a_bug_unless_it_only_wanted_to_speak(
    exchange: Exchange, failure: Exception, reported: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(session: MediaSession) -> None:
        async for _ in session:
            pass
        raise failure

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    assert ("agent a failed" in caplog.text) is reported
    assert hang_ups() == [], "the stream's end is the watch's to judge"


async def test_speaking_too_early_is_a_bug_though_the_stream_is_open(
    exchange: Exchange, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(session: MediaSession) -> None:
        raise StreamNotOpen("raised while the stream is open")

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert "agent a failed" in caplog.text and hang_ups() == ["in-1"]
    call = await exchange.switchboard.calls.get("in-1")
    assert call and call.intent is EndReason.AGENT_ERROR


@pytest.mark.parametrize("fails", [False, True])
async def test_only_a_handler_that_returns_is_heard_out(exchange: Exchange, fails: bool) -> None:
    """Ten seconds are on their way; a mark that comes back would say that they were played."""

    async def talk(session: MediaSession) -> None:
        await session.send_audio(b"\x10" * 80_000)
        if fails:
            raise ValueError("bug in the agent")

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = await exchange.admit(ticket_in(await ring(exchange)))
    transport = MemoryTransport(echo_marks=False)
    serving = asyncio.ensure_future(exchange.serve_media(ticket, transport))
    transport.say(event="start", call_id="in-1")
    if fails:
        await asyncio.wait_for(serving, 2)
        assert hang_ups() == ["in-1"]
        return
    async with asyncio.timeout(2):
        while not any(message["event"] == "mark" for message in transport.sent):
            await asyncio.sleep(0)
    assert hang_ups() == []
    transport.say(**[message for message in transport.sent if message["event"] == "mark"][-1])
    await asyncio.wait_for(serving, 2)
    assert hang_ups() == ["in-1"]


async def test_a_handler_of_a_call_that_is_over_in_the_book_hangs_up_nothing(exchange: Exchange) -> None:
    """Told by another process: here no news has come, and the stream is still open."""

    async def talk(session: MediaSession) -> None:
        over: dict[str, Any] = {"status": CallStatus.ENDED, "reason": EndReason.USER_HANGUP}
        await exchange.switchboard.calls.update(session.call.reference, lambda c: c.model_copy(update=over))

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    assert hang_ups() == []
