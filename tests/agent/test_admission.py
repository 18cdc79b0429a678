"""Who takes a call: sockets that are opened first, guarded, signed, refused; rooms where the accepted wait."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent_server import AgentServer, Conversation, agent_server
from anycarrier import Answer, AudioFormat, AudioReceived, EndReason, IncomingCall, MediaSession, Reject, RoutingFailure
from anycarrier.agent import admission, agent_socket, agents
from anycarrier.agent.agent import Agent, CallSetup, load
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.settings import AgentSettings
from anycarrier.errors import AgentUnreachable, ConfigurationError, StreamNotOpen, UnknownAgent
from anycarrier.routing import Line as NumberLine
from anycarrier.routing import Route
from anycarrier.wav import read_wav
from fake_speech import Desk, Line

LINE = NumberLine(number="+14155550101", agent_id="desk", credential_id="main", provider="trunk")


@pytest.fixture(params=["portable", "fast"], autouse=True)
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "fast":
        pytest.importorskip("picows")
    connect = agent_socket.connect_portable if request.param == "portable" else agent_socket.connect_fast
    monkeypatch.setattr(admission, "best_connect", lambda: connect)


async def routed(desk: Desk) -> tuple[Route, Line]:
    """What the router says to somebody ringing."""
    line = Line()
    await line.session.stream.wait_started(2)
    return await desk.agents.router(IncomingCall(call=line.session.call), LINE), line


async def test_the_socket_that_accepted_is_the_one_that_gets_the_call() -> None:
    async with agent_server() as server:
        desk = Desk()
        desk.agents.add("desk", websocket_url=server.url, settings={"max_duration_seconds": 77})
        route, line = await routed(desk)
        assert route == Answer("desk", time_limit=77)
        c = await server.conversation()
        assert c.received == [], "nothing is said to it before there is sound"
        talking = asyncio.ensure_future(desk.agents["desk"](line.session))
        await c.until(lambda: c.of("start"))
        line.end()
        await talking
        await line.aclose()
        assert len(server.requests) == 1 and c.of("stop")


@pytest.mark.parametrize("how", [{"refuse": 401}, {"refuse": 503}, {"redirect": "ws://127.0.0.1:9/"}, {"delay": 1.0}])
async def test_an_agent_that_does_not_accept_leaves_the_caller_unanswered(
    how: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "OPEN_TIMEOUT", 0.3)
    async with agent_server(**how) as server:
        desk = Desk()
        desk.agents.add("desk", websocket_url=server.url)
        route, line = await routed(desk)
        await line.aclose()
        server.delay = 0.0
    assert len(server.requests) == 1, "and a redirect is not followed"
    if how == {"refuse": 401}:  # it is there, and does not want the call
        assert route == Reject() and route.failure is None
    else:
        assert route == Reject(EndReason.AGENT_ERROR)
        assert (route.failure, route.agent_id) == (RoutingFailure.AGENT_UNREACHABLE, "desk")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "ws:///nowhere", "ws://127.0.0.1:1/", "file:///etc/passwd"])
async def test_an_address_that_is_none_is_an_error_that_keeps_the_path_to_itself(url: str) -> None:
    desk = Desk()
    with pytest.raises(AgentUnreachable) as caught:
        await agent_socket.open_socket(
            f"{url}?token=secret", agent_id="desk", context="{}", connect=desk.agents.admission.connect
        )
    assert "secret" not in str(caught.value)


async def test_a_guard_sees_every_address_first() -> None:
    seen: list[str] = []

    async def guard(url: str) -> None:
        seen.append(url)
        raise AgentUnreachable("desk", "127.0.0.1", "its address is inside our own network")

    async with agent_server() as server:
        desk = Desk(guard=guard)
        desk.agents.add("desk", websocket_url=server.url)
        route, line = await routed(desk)
        await line.aclose()
        assert route == Reject(EndReason.AGENT_ERROR) and seen == [server.url] and server.requests == []


async def test_fallbacks_are_tried_in_order_and_each_once() -> None:
    async with agent_server(refuse=500) as first, agent_server() as second:
        desk = Desk()
        desk.agents.add("desk", websocket_url=first.url, settings={"fallback_agent_id": "b"})
        desk.agents.add("b", websocket_url=first.url, settings={"fallback_agent_id": "desk"})
        route, line = await routed(desk)
        assert route == Reject(EndReason.AGENT_ERROR) and len(first.requests) == 2
        desk.agents.add("b", websocket_url=second.url)
        route, _ = await routed(desk)
        assert route == Answer("b", time_limit=600)
        await desk.agents.aclose()
        assert (await second.conversation()).closed.is_set() or await closed(second)
        await line.aclose()


# --- speech that is not there -----------------------------------------------------------------------------------------

ABSENT = {"synthesizer": "nowhere"}


async def silent(call: AgentCall) -> None:
    """Never gets that far."""


async def test_an_agent_without_its_speech_engine_declines_and_says_which() -> None:
    desk = Desk()
    desk.agents.add("desk", handler=silent, settings=ABSENT)
    route, line = await routed(desk)
    await line.aclose()
    assert isinstance(route, Reject) and "'nowhere' is installed" in route.why


async def test_its_fallback_takes_the_call() -> None:
    desk = Desk()
    desk.agents.add("desk", handler=silent, settings={"recognizer": "nowhere", "fallback_agent_id": "b"})
    desk.agents.add("b", handler=silent)
    route, line = await routed(desk)
    await line.aclose()
    assert route == Answer("b", time_limit=600)


async def test_the_voicemail_message_is_spoken_where_something_speaks() -> None:
    desk = Desk()
    settings = {"recognizer": "nowhere", "voicemail_message": "Please call again."}
    desk.agents.add("desk", handler=silent, settings=settings)
    route, line = await routed(desk)
    assert route == Answer("desk")
    with contextlib.suppress(StreamNotOpen):
        await desk.agents["desk"](line.session)
    await line.aclose()
    assert desk.engine.spoken == ["Please call again."]
    desk.agents.add("desk", handler=silent, settings={**settings, **ABSENT})
    route, line = await routed(desk)
    await line.aclose()
    assert isinstance(route, Reject)


async def test_an_engine_that_stands_in_is_enough() -> None:
    desk = Desk()
    desk.agents.add("desk", handler=silent, settings={**ABSENT, "fallback_synthesizer": desk.engine.name})
    route, line = await routed(desk)
    await line.aclose()
    assert route == Answer("desk", time_limit=600)


async def test_a_handler_that_needs_no_speech_says_so() -> None:
    async def presses(call: AgentCall) -> None:
        """Never gets that far."""

    presses.needs = ()  # type: ignore[attr-defined]
    desk = Desk()
    desk.agents.add("desk", handler=presses, settings=ABSENT)
    route, line = await routed(desk)
    assert route == Answer("desk", time_limit=600)
    desk.agents.add("desk", handler=presses, settings={**ABSENT, "first_message": "Hello."})
    assert isinstance((await desk.agents.take(line.session.call, "desk")), Reject)
    await line.aclose()


@pytest.mark.parametrize(("how", "takes"), [({}, False), ({"tts": False}, True)])
async def test_a_socket_is_taken_at_its_word_about_who_does_speech(how: dict[str, bool], takes: bool) -> None:
    async with agent_server(**how) as server:
        desk = Desk()
        desk.agents.add("desk", websocket_url=server.url, settings=ABSENT)
        route, line = await routed(desk)
        assert isinstance(route, Answer) is takes
        await desk.agents.aclose()
        assert await closed(server)
        await line.aclose()


async def closed(server: AgentServer) -> bool:
    await asyncio.wait_for((await server.conversation()).closed.wait(), 3)
    return True


async def test_a_call_that_never_comes_gives_its_socket_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "AUDIO_PATIENCE", 0.2)
    async with agent_server() as server:
        desk = Desk()
        desk.agents.add("desk", websocket_url=server.url)
        _, line = await routed(desk)
        assert await closed(server)
        assert desk.agents.admission.pending.take(line.session.call.reference) is None
        await line.aclose()


async def test_a_number_that_is_nobodys_is_declined_and_an_agent_that_is_nobody_is_an_error() -> None:
    desk = Desk()
    line = Line()
    assert await desk.agents.router(IncomingCall(call=line.session.call), None) == Reject()
    with pytest.raises(UnknownAgent):
        await desk.agents.router(IncomingCall(call=line.session.call), LINE)
    await line.aclose()


async def test_agents_may_be_looked_up_and_a_call_may_bring_its_own_address_and_settings() -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: c.received)
        await c.hang_up()

    async with agent_server(talk) as server:
        asked: list[str] = []

        async def lookup(agent_id: str) -> Agent | None:
            asked.append(agent_id)
            return Agent("desk", AgentSettings(first_message="Hello {{who}}")) if agent_id == "desk" else None

        async def set_up(call: object, agent: Agent) -> CallSetup:
            asked.append(f"set up {agent.id}")
            return CallSetup(variables={"who": "you"}, overrides={"speed": 2}, websocket_url=server.url)

        desk = Desk(lookup=lookup, set_up=set_up)

        async def stay(line: Line) -> None:
            await line.until(lambda: line.session.ended, timeout=5)

        _, finished = await desk.call(None, stay)
        assert asked == ["desk", "set up desk"], "each once for a call"
        assert finished.settings.speed == 2 and finished.variables["who"] == "you"
        with pytest.raises(UnknownAgent):
            await desk.agents.find("nobody")
        await desk.call(None, stay)
        assert asked[2:] == ["nobody", "desk", "set up desk"], "the next call asks again"


async def test_what_is_kept_of_calls_whose_end_nobody_sees_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(agent_id: str) -> Agent | None:
        return Agent(agent_id)

    monkeypatch.setattr(agents, "MAX_CALLS_KEPT", 3)
    kept = agents.Agents(lookup=lookup)
    for number in range(5):
        await kept.find_for(f"call {number}", "desk")
    assert list(kept._known) == ["call 2", "call 3", "call 4"]


@pytest.mark.parametrize("path", ["nocolon", "anycarrier.demo.appointment:nothing", "no.such.module:x", ":x", "x:"])
def test_a_dotted_path_that_leads_nowhere_says_so(path: str) -> None:
    with pytest.raises(ConfigurationError):
        load(path)


async def test_an_agent_is_exactly_one_of_handler_websocket_and_raw() -> None:
    desk = Desk()
    with pytest.raises(ConfigurationError, match="exactly one"):
        desk.agents.add("desk")
    with pytest.raises(ConfigurationError, match="exactly one"):
        desk.agents.add("desk", handler="anycarrier.demo.appointment:book_appointment", websocket_url="ws://x")
    with pytest.raises(ConfigurationError, match="overrides"):
        CallSetup(overrides={"sped": 2}).settings(Agent("desk"))


async def test_a_raw_agent_has_the_session_and_its_recording_all_the_same(tmp_path: Path) -> None:
    async def echo(session: MediaSession) -> None:
        with contextlib.suppress(StreamNotOpen):  # the caller hangs up while we speak
            async for event in session:
                if isinstance(event, AudioReceived):
                    await session.send_audio(event.payload)

    desk = Desk(recordings=tmp_path)
    settings = {"first_message": "One two.", "enable_recording": True}
    desk.agents.add("desk", raw=echo, settings=settings)

    async def caller(line: Line) -> None:
        await line.say(0.5)
        await line.breathe(0.3)
        line.end()

    line, finished = await desk.call(None, caller)
    assert line.heard().startswith(b"\x01" * 480 + b"\x02" * 480 + b"\x20" * 160)
    assert finished.recording is not None
    format, audio = read_wav(finished.recording)
    assert format.channels == 2 and 0.5 < format.seconds(len(audio)) < 1.5 and any(audio)


@pytest.mark.parametrize("audio", [AudioFormat("PCM16", 24000), AudioFormat("PCM16", 8000)])
async def test_a_raw_agent_has_audio_in_a_format_of_its_own_and_its_recording_at_8_khz(
    audio: AudioFormat, tmp_path: Path
) -> None:
    received = bytearray()

    async def echo(session: MediaSession) -> None:
        assert session.format == audio
        with contextlib.suppress(StreamNotOpen):
            async for event in session:
                if isinstance(event, AudioReceived):
                    received.extend(event.payload)
                    await session.send_audio(event.payload)

    async def caller(line: Line) -> None:
        await line.say(0.5)
        await line.breathe(0.3)
        line.end()

    desk = Desk(recordings=tmp_path)
    settings = {"first_message": "One two.", "enable_recording": True}
    desk.agents.add("desk", raw=echo, audio=audio, settings=settings)
    assert (await desk.agents.find("desk")).audio == audio
    line, finished = await desk.call(None, caller)
    assert audio.seconds(len(received)) == pytest.approx(0.8, abs=0.03)
    assert len(line.heard()) / 8000 > 0.7, "the first message too, and all of it in the carrier's format"
    assert finished.recording is not None
    format, recorded = read_wav(finished.recording)
    assert format.rate == 8000 and 0.5 < format.seconds(len(recorded)) < 1.5 and any(recorded)


async def test_an_audio_format_is_for_raw_audio_agents_only() -> None:
    with pytest.raises(ConfigurationError, match="raw audio agents only"):
        Desk().agents.add("desk", websocket_url="ws://127.0.0.1:1", audio=AudioFormat())


async def test_a_raw_agents_time_is_limited_too() -> None:
    async def endless(session: MediaSession) -> None:
        await asyncio.sleep(60)

    desk = Desk()
    desk.agents.add("desk", raw=endless, settings={"max_duration_seconds": 0.2})

    async def stay(line: Line) -> None:
        await line.until(lambda: line.session.ended, timeout=5)

    line, finished = await desk.call(None, stay)
    assert line.hang_ups == [EndReason.MAX_DURATION] and finished.reason is EndReason.MAX_DURATION
