"""A call that does not reach its agent: an event, a reason on the call, and one line in the log."""

import asyncio
import logging

import pytest

from anycarrier import (
    Answer,
    Call,
    CallEvent,
    EndReason,
    Exchange,
    Forward,
    IncomingCall,
    LeaveRinging,
    Line,
    MediaSession,
    Policy,
    Reject,
    RoutingFailed,
    RoutingFailure,
    WebhookReply,
)
from anycarrier.call_phases import Phase
from anycarrier.errors import AgentUnreachable, TicketRefused, UnsupportedOperation
from anycarrier.incoming import TICKET_TTL
from anycarrier.routing import Route
from anycarrier.tickets import TicketOffice
from core.conftest import CALLER, OURS, connect, echo, post, ring, ticket_in
from fake_carriers import CommandProvider, InlineProvider


@pytest.fixture
def failures(exchange: Exchange) -> list[tuple[RoutingFailed, Call]]:
    """What whoever watches calls is told of failed routing, with the call as it stood."""
    seen: list[tuple[RoutingFailed, Call]] = []

    def observe(event: CallEvent, call: Call | None) -> None:
        if isinstance(event, RoutingFailed):
            assert call is not None and event.reference == call.reference and event.occurred_at is not None
            seen.append((event, call))

    exchange.switchboard.observers.append(observe)
    return seen


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What somebody reads who runs this: warnings and errors."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def ended(exchange: Exchange, credential: str = "main", provider: str = "inline") -> Call:
    await post(exchange, credential, provider, event="status", id="in-1", status="ended", reason="user_hangup")
    return await exchange.wait_for("in-1")


async def test_a_number_that_is_not_ours_is_declined_and_told(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]], caplog: pytest.LogCaptureFixture
) -> None:
    exchange.switchboard.agents = echo
    await ring(exchange)
    [(event, call)] = failures
    assert (event.failure, event.agent_id, call.id) == (RoutingFailure.NUMBER_NOT_ASSIGNED, None, "in-1")
    [line] = lines(caplog)
    assert "no line of this credential" in line and OURS not in line and OURS not in event.detail
    assert (await ended(exchange)).reason is EndReason.REJECTED


async def test_a_number_of_another_account_is_as_good_as_none(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]]
) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, credential="other", provider="command")
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in CommandProvider.log:
            await asyncio.sleep(0)
    assert [event.failure for event, _ in failures] == [RoutingFailure.NUMBER_NOT_ASSIGNED]
    assert not any(entry[0] == "answer" for entry in CommandProvider.log)


async def test_a_router_that_takes_calls_to_any_number_has_not_failed(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]]
) -> None:
    async def route(event: object, line: object) -> Answer:
        return Answer("a")

    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    assert ticket_in(await ring(exchange))
    assert failures == []


async def test_declining_on_purpose_is_no_failure(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]]
) -> None:
    async def route(event: object, line: object) -> Reject:
        return Reject(EndReason.BUSY, "closed")

    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    assert failures == []


async def test_an_agent_that_does_not_exist_is_told_and_is_the_reason(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]], caplog: pytest.LogCaptureFixture
) -> None:
    async def route(event: object, line: object) -> Answer:
        return Answer("nobody")

    exchange.switchboard.agents, exchange.switchboard.router = {"a": echo}, route
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    [(event, _)] = failures
    assert (event.failure, event.agent_id) == (RoutingFailure.UNKNOWN_AGENT, "nobody")
    assert event.detail == "declined: there is no agent 'nobody'"
    assert len(lines(caplog)) == 1
    assert (await ended(exchange)).reason is EndReason.AGENT_ERROR


async def test_an_agent_that_went_away_while_it_rang_ends_the_call(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]]
) -> None:
    exchange.switchboard.agents = {"a": echo}
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    exchange.switchboard.agents = {"b": echo}
    with pytest.raises(TicketRefused):
        await exchange.admit(ticket)
    [(event, _)] = failures
    assert (event.failure, event.agent_id) == (RoutingFailure.UNKNOWN_AGENT, "a")
    assert event.detail == "hung up: there is no agent 'a'"
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in InlineProvider.log:
            await asyncio.sleep(0)


async def test_an_agent_that_cannot_be_reached_is_one_line_an_event_and_the_reason(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]], caplog: pytest.LogCaptureFixture
) -> None:
    async def down(session: MediaSession) -> None:
        raise AgentUnreachable("a", "agent.example.com", "connection refused")

    exchange.switchboard.agents = down
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await asyncio.wait_for(serving, 2)
    [(event, _)] = failures
    assert (event.failure, event.agent_id) == (RoutingFailure.AGENT_UNREACHABLE, "a")
    [line] = lines(caplog)
    assert "agent.example.com" in line and "Traceback" not in caplog.text
    await post(exchange, event="status", id="in-1", status="answered", event_id="in-1:answered")
    assert (await ended(exchange)).reason is EndReason.AGENT_ERROR


async def test_what_the_router_says_of_an_unreachable_agent_is_told(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]], caplog: pytest.LogCaptureFixture
) -> None:
    async def route(event: object, line: object) -> Reject:
        return Reject(EndReason.AGENT_ERROR, "agent 'a' is down", RoutingFailure.AGENT_UNREACHABLE, "a")

    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, **{"from": CALLER})
    [(event, _)] = failures
    assert (event.failure, event.agent_id) == (RoutingFailure.AGENT_UNREACHABLE, "a")
    assert lines(caplog) == [f"call {event.reference} on inline: declined: agent 'a' is down"]
    assert (await ended(exchange)).reason is EndReason.AGENT_ERROR


async def test_the_routers_time_limit_is_the_calls(exchange: Exchange) -> None:
    async def route(event: object, line: object) -> Answer:
        return Answer("a", time_limit=0.05)

    exchange.switchboard.agents, exchange.switchboard.router, exchange.switchboard.time_limit = echo, route, 3600
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    _, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    async with asyncio.timeout(2):
        while ("hang_up", "in-1") not in InlineProvider.log:
            await asyncio.sleep(0.005)
    assert (await ended(exchange)).reason is EndReason.MAX_DURATION
    await asyncio.wait_for(serving, 2)


@pytest.mark.parametrize(
    ("route", "then"),
    [
        (Answer("a"), Phase.OFFERED),
        (Reject(EndReason.BUSY), Phase.ENDING),
        (Forward("+13105550130"), Phase.TRANSFERRED),
        (LeaveRinging(), Phase.LEFT_RINGING),
    ],
)
async def test_the_watch_knows_that_the_router_decides_and_what_it_decided(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch, route: Route, then: Phase
) -> None:
    """A call may ring on while it is decided about, and as long as somebody wants it to."""
    phases: list[Phase | None] = []

    async def router(event: IncomingCall, line: Line | None) -> Route:
        phases.append(exchange.call_watch._watched[event.reference].phase)
        return route

    monkeypatch.setattr(InlineProvider, "leave_ringing", lambda self, call: WebhookReply())
    exchange.switchboard.agents, exchange.switchboard.router = echo, router
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    [watched] = exchange.call_watch._watched.values()
    assert [*phases, watched.phase] == [Phase.ROUTING, then]


async def test_a_forward_that_fails_on_our_side_is_no_transfer(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot(self: object, call: IncomingCall, to: str, *, status_url: str = "") -> WebhookReply:
        raise UnsupportedOperation("inline", "forward")

    async def route(event: IncomingCall, line: Line | None) -> Forward:
        return Forward("+13105550130")

    monkeypatch.setattr(InlineProvider, "forward", cannot)
    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    call = await exchange.switchboard.calls.get("in-1")
    assert call is not None and (call.transfer, call.intent) == (None, EndReason.AGENT_ERROR)
    assert (await ended(exchange)).reason is EndReason.AGENT_ERROR


async def test_a_router_that_says_why_is_believed_though_the_number_has_no_line(
    exchange: Exchange, failures: list[tuple[RoutingFailed, Call]]
) -> None:
    async def route(event: IncomingCall, line: Line | None) -> Reject:
        return Reject(failure=RoutingFailure.UNKNOWN_AGENT, why="nobody is in", agent_id="desk")

    exchange.switchboard.agents, exchange.switchboard.router = echo, route
    await ring(exchange)
    [(event, _)] = failures
    assert (event.failure, event.agent_id) == (RoutingFailure.UNKNOWN_AGENT, "desk")
    assert event.detail == "declined: nobody is in"


async def test_the_carrier_has_so_long_to_open_the_stream_of_an_answered_call(exchange: Exchange) -> None:
    exchange.switchboard.tickets = TicketOffice("x" * 32, exchange.switchboard.once, clock=lambda: 1000.0)
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    assert (await exchange.admit(ticket_in(await ring(exchange)))).expires == 1000 + TICKET_TTL


@pytest.mark.parametrize(("to", "forwarded"), [("+442079460099", False), ("+13105550130", True)])
async def test_where_a_call_is_forwarded_to_is_judged_from_our_number_not_the_callers(
    exchange: Exchange, to: str, forwarded: bool
) -> None:
    async def route(event: IncomingCall, line: Line | None) -> Forward:
        return Forward(to)

    board = exchange.switchboard
    board.policy, board.agents, board.router = Policy(), echo, route  # a number's own country
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange, **{"from": "+442079460018"})
    assert [entry[0] for entry in InlineProvider.log] == ["configure", "forward" if forwarded else "hang_up"]


@pytest.mark.parametrize(("credential", "status"), [("main", 409), ("other", 204)])
async def test_a_call_announced_again_is_refused_only_where_the_reply_would_answer_it(
    exchange: Exchange, credential: str, status: int
) -> None:
    provider = {"main": InlineProvider, "other": CommandProvider}[credential]
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id=credential)
    await ring(exchange, credential=credential, provider=provider.name)
    again = await ring(exchange, credential=credential, provider=provider.name)
    assert again.status == status
    async with asyncio.timeout(2):
        while not [entry for entry in provider.log if entry[0] == "answer"]:
            await asyncio.sleep(0)
    assert [entry[0] for entry in provider.log] == ["configure", "answer"]
