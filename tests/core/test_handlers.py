"""What is given as a handler and is none: refused when it is given, or said in the call, which it ends."""

from __future__ import annotations

import re
from typing import Any

import pytest

from anycarrier import EndReason, Exchange, MediaSession
from anycarrier.agent import AgentCall, Agents, RawAgent, raw_agent
from anycarrier.asgi import create_app
from anycarrier.errors import ConfigurationError
from core.conftest import OURS, connect, post, ring, ticket_in


@pytest.mark.parametrize("given", [5, "bots:front_desk", [], {"front-desk": "bots:front_desk"}, {"front-desk": None}])
def test_what_cannot_be_called_is_refused_when_it_is_given(exchange: Exchange, given: Any) -> None:
    before = exchange.switchboard.agents
    with pytest.raises(ConfigurationError, match=r"^agents.* is of type .*Give a function"):
        create_app(exchange, given)
    assert exchange.switchboard.agents is before


@pytest.mark.parametrize("given", [{"handler": 5}, {"raw": 5}, {"raw": "bots:desk"}, {"handler": "core.conftest:OURS"}])
def test_agents_take_only_what_can_be_called(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"the function of agent 'desk' is of type .*Give handler=f"):
        Agents().add("desk", **given)


def test_only_a_function_is_marked_as_raw_audio() -> None:
    with pytest.raises(ConfigurationError, match=r"function is of type int.*Give it one"):
        raw_agent(5)  # type: ignore[call-overload]


def makes_a_session(session: MediaSession) -> Any:
    return object()


def forgets_async(session: MediaSession) -> None:
    pass


def a_python_agent() -> Agents:
    def forgets(call: AgentCall) -> None:
        pass

    forgets.needs = ()  # type: ignore[attr-defined]
    agents = Agents()
    agents.add("a", handler=forgets)  # type: ignore[arg-type]
    return agents


def takes_nothing() -> None:
    pass


def refuses(session: MediaSession) -> None:
    raise ConfigurationError("MediaSession is no factory")


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (makes_a_session, "makes_a_session returned object, not an awaitable.*async def.*_agent.front_desk"),
        (forgets_async, "forgets_async returned None, not an awaitable"),
        (RawAgent(forgets_async), "forgets_async returned None, not an awaitable"),  # type: ignore[arg-type]
        (a_python_agent(), "forgets returned None, not an awaitable"),
        (takes_nothing, "takes 0 positional arguments"),
        (refuses, "MediaSession is no factory"),
    ],
)
async def test_what_is_no_handler_ends_its_call_and_the_log_says_why(
    exchange: Exchange, handler: Any, said: str
) -> None:
    told: list[str] = []
    exchange.switchboard.report = lambda what, failure: told.append(f"{what}: {failure}")
    exchange.switchboard.agents = handler
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    await serving  # without an exception for the server to print
    assert transport.closed is not None
    [line] = told
    assert line.startswith("agent a failed: ")
    assert re.search(said, line)
    await post(exchange, event="status", status="ended", reason="user_hangup", id="in-1", event_id="over")
    assert (await exchange.wait_for("in-1")).reason is EndReason.AGENT_ERROR
