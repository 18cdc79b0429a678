"""One agent session on one call with a scripted far end: how either ends, and what the other is told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession, APIError, CloseReason, RunContext, function_tool
from livekit.agents.beta.tools import send_dtmf_events
from livekit.agents.beta.workflows import GetDtmfTask
from livekit.agents.llm import Toolset
from livekit.agents.testing import fake_job_context
from livekit.agents.voice import io
from livekit.agents.voice.agent_session import SessionConnectOptions

from anycarrier import AudioFormat, MachineDetected, MediaSession
from anycarrier.agent import Agents, RawAgent
from anycarrier.calls import TransferStatus
from anycarrier.errors import ConfigurationError, PermissionDenied, StoreUnavailable
from anycarrier.testing.session import Marks, open_session
from anycarrier_livekit import (
    CallRoom,
    end_call,
    get_call,
    livekit_agent,
    press_keys,
    run_call,
    transfer,
    transfer_call,
)
from anycarrier_livekit.run_call import watches
from frameworks.livekit.agents import COUNTING, Greeter, deaf, job, said
from frameworks.livekit.fake_models import EvenVoice, ScriptedLLM


async def ticks(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("marks", ["echo", "lost", "none"])
async def test_a_goodbye_is_heard_before_run_call_returns(marks: Marks) -> None:
    agent, agent_session = Greeter("one two three"), deaf("good bye")
    async with open_session(marks=marks) as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await far_end.wait_heard(0.5)
        agent_session.generate_reply()
        await asyncio.sleep(0)
        agent_session.shutdown()
        await running
        await session.drain()
        assert far_end.heard_seconds == pytest.approx(5 * 0.3, abs=0.06)
    assert said(agent_session) == ["one two three", "good bye"]
    assert [event.interrupted for _, event in agent.played] == [False, False]


async def test_the_end_of_speech_is_told_when_the_ear_has_it() -> None:
    agent = Greeter("one two three four")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, deaf()))
        await far_end.wait_heard(4 * 0.3 - 0.01)
        ends = asyncio.get_running_loop().time() + 0.01
        await asyncio.sleep(1)
        [(told, _)] = agent.played
        assert -0.001 <= told - ends <= 0.04
        await far_end.hang_up()
        await running


async def test_the_callers_hang_up_ends_the_agent_session() -> None:
    agent, agent_session = Greeter(), deaf()
    clock = asyncio.get_running_loop().time
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await far_end.wait_heard(1.0)
        await far_end.hang_up()
        gone = clock()
        await running
        assert clock() - gone <= 3
        [(told, event)] = agent.played
        assert told - gone <= 0.1, "the framework is told"
        assert event.interrupted and event.playback_position == pytest.approx(1.0, abs=0.06)
        assert agent.output.captured_playout_segments == 1
        assert [event.reason for _, event in agent.closed] == [CloseReason.USER_INITIATED]
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_interruption_is_told_where_the_ear_was_and_the_history_is_cut_there() -> None:
    agent, agent_session = Greeter(), deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await far_end.wait_heard(1.0)
        at = asyncio.get_running_loop().time()
        await agent_session.interrupt()
        [(_, event)] = agent.played
        assert far_end.cleared[0] - at <= 0.02
        assert event.interrupted
        assert event.playback_position == pytest.approx(far_end.heard_seconds, abs=0.06)
        [text] = said(agent_session)
        words = text.split()
        assert words == COUNTING.split()[: len(words)]
        assert len(words) >= 3 and (len(words) - 1) * 0.3 <= far_end.heard_seconds + 0.3
        await far_end.hang_up()
        await running


class Subtitles(io.TextOutput):
    """What a text output of the app's own is given."""

    def __init__(self) -> None:
        super().__init__(label="subtitles", next_in_chain=None)
        self.text = ""

    async def capture_text(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


async def test_the_apps_own_transcription_goes_with_the_audio() -> None:
    agent_session, subtitles = deaf(), Subtitles()
    agent_session.output.transcription = subtitles
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(), agent_session))
        await far_end.wait_heard(1.0)
        await agent_session.interrupt()
        words = subtitles.text.split()
        assert words == COUNTING.split()[: len(words)] and 2 <= len(words) <= 5
        await far_end.hang_up()
        await running


CALLS = 500


async def test_calls_that_are_hung_up_leave_nothing_behind() -> None:
    for number in range(CALLS):
        agent = Greeter()
        async with open_session(pushes=number % 2 == 0) as (session, far_end):
            running = asyncio.create_task(run_call(session, agent, deaf()))
            await far_end.wait_heard(0.02 * (number % 40))
            await far_end.hang_up()
            await running
            assert len(agent.played) == agent.output.captured_playout_segments
        await ticks()
        assert asyncio.all_tasks() == {asyncio.current_task()}, number


# --- agents that fail -------------------------------------------------------------------------------------------------


class Broken(Exception):
    pass


async def failing(handler: Any, *, marks: Marks = "echo") -> float:
    """Seconds until the handler has raised; the call is not over meanwhile."""
    clock = asyncio.get_running_loop().time
    async with open_session(marks=marks) as (session, _):
        began = clock()
        with pytest.raises((Broken, TimeoutError, APIError)):
            await handler(session)
        took = clock() - began
        assert not session.ended
        await ticks()
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return took


MAKE_BOTH = r"Make a new Agent and AgentSession per call: livekit_agent\(lambda call: \(Agent"


@pytest.mark.parametrize(("given", "named"), [(None, "None"), (Greeter(), "Greeter")])
def test_what_is_no_factory_is_refused_at_once(given: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named} cannot be called.* {MAKE_BOTH}"):
        livekit_agent(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (AgentSession, "AgentSession is what the factory makes"),
        (Agent, "Agent is what the factory makes"),
        (type("Desk", (Agent,), {}), "Desk cannot be called with one argument"),
        (lambda: (Greeter(), deaf()), "lambda> cannot be called with one argument"),
    ],
)
def test_a_factory_that_takes_no_call_is_refused_at_once(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{told}.* {MAKE_BOTH}"):
        livekit_agent(given)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on_digit": 5}, "^on_digit is of type int, which cannot be called. Give it a function"),
        ({"on_event": "log"}, "^on_event is of type str, which cannot be called. Give it a function"),
        ({"on_key": print}, "^There is no option 'on_key'.* give one of rate, start_timeout, on_digit, on_event"),
        ({"audio": "PCM16"}, "^audio is of type str, not an AudioFormat. Give"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        livekit_agent(lambda call: (Greeter(), deaf()), **options)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (lambda: None, "None"),
        (lambda: Greeter(), "Greeter"),
        (lambda: (deaf(), Greeter()), r"\(AgentSession, Greeter\)"),
    ],
)
async def test_a_factory_that_returns_something_else_fails_the_handler(made: Any, named: str) -> None:
    async def factory(call: MediaSession) -> Any:
        return made()

    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError, match=f"returned {named}, where Agent, AgentSession .* {MAKE_BOTH}"):
            await livekit_agent(factory)(session)


async def refused(agent_session: AgentSession[Any]) -> None:
    """It is, at once and without harm to the call it may be in."""
    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError, match=f"^this AgentSession is in a call, or was .* {MAKE_BOTH}"):
            async with asyncio.timeout(0.01):
                await livekit_agent(lambda call: (Greeter(), agent_session))(session)


@pytest.mark.parametrize("later", [0, 1])
async def test_an_agent_session_is_in_one_call_at_a_time(later: float) -> None:
    agent_session = deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(), agent_session))
        await asyncio.sleep(later)
        await refused(agent_session)
        await far_end.wait_heard(12 * 0.3 - 0.01)
        agent_session.shutdown()
        await running


@pytest.mark.parametrize("hang_up", [False, True])
async def test_an_agent_session_is_for_one_call(hang_up: bool) -> None:
    agent_session = deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(), agent_session))
        await far_end.wait_heard(0.5)
        await (far_end.hang_up() if hang_up else agent_session.aclose())
        await running
    await refused(agent_session)


async def test_an_agent_session_that_never_started_in_a_call_is_not_for_another() -> None:
    agent_session = deaf()
    assert await failing(lambda session: run_call(session, Greeter(tools=[Hangs()]), agent_session)) > 9
    await refused(agent_session)


async def test_an_agent_session_that_the_app_has_started_or_closed_is_not_for_a_call() -> None:
    started, closed, shut_down = deaf(), deaf(), deaf()
    await started.start(Agent(instructions=""))
    await refused(started)
    await closed.start(Agent(instructions=""))
    await started.aclose()
    await closed.aclose()
    await refused(closed)
    shut_down.shutdown()
    await refused(shut_down)


async def test_a_factory_that_raises_fails_the_handler() -> None:
    def factory(call: MediaSession) -> Any:
        raise Broken

    assert await failing(livekit_agent(factory)) < 1


async def test_a_factory_that_never_returns_fails_after_ten_seconds() -> None:
    async def factory(call: MediaSession) -> Any:
        await asyncio.Event().wait()

    assert await failing(livekit_agent(factory)) == pytest.approx(10, abs=0.1)


async def test_an_agent_that_raises_when_entered_fails_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    class Raises(Agent):
        async def on_enter(self) -> None:
            raise Broken

    assert await failing(lambda session: run_call(session, Raises(instructions=""), deaf())) < 5
    logged = [record.getMessage() for record in caplog.records]
    assert "Error in _traceable_on_enter" in logged, "the framework hears of it too"
    assert not [message for message in logged if "failed to emit" in message], "and of nothing else"


async def test_an_agent_that_takes_over_and_raises_when_entered_fails_the_handler() -> None:
    class Raises(Agent):
        async def on_enter(self) -> None:
            raise Broken

    class HandsOver(Agent):
        async def on_enter(self) -> None:
            await asyncio.sleep(0.1)  # before the agent session has started, it is ignored
            self.session.update_agent(Raises(instructions=""))

    assert await failing(lambda session: run_call(session, HandsOver(instructions=""), deaf())) < 5


class Waits(Agent):
    """Waits for something that does not come."""

    async def on_enter(self) -> None:
        await asyncio.Event().wait()


class Swallows(Agent):
    """Goes on though it is cancelled."""

    async def on_enter(self) -> None:
        ends = asyncio.get_running_loop().time() + 60
        while asyncio.get_running_loop().time() < ends:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1)


@pytest.mark.parametrize("agent", [Waits, Swallows])
@pytest.mark.parametrize("takes_over", [False, True])
async def test_a_caller_may_leave_an_agent_that_hangs_when_entered(agent: type[Agent], takes_over: bool) -> None:
    class HandsOver(Agent):
        async def on_enter(self) -> None:
            await asyncio.sleep(0.1)  # before the agent session has started, it is ignored
            self.session.update_agent(agent(instructions=""))

    first = HandsOver if takes_over else agent
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, first(instructions=""), deaf()))
        await asyncio.sleep(1)
        await far_end.hang_up()
        async with asyncio.timeout(5):
            await running
    await asyncio.sleep(61)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("agent", [Waits, Swallows])
async def test_an_agent_that_hangs_when_entered_may_end_the_call(agent: type[Agent]) -> None:
    agent_session = deaf(("end_call", {}), "goodbye and thanks")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent(instructions="", tools=[end_call]), agent_session))
        await asyncio.sleep(1)
        agent_session.generate_reply()
        async with asyncio.timeout(30):
            await running
        assert far_end.heard_seconds == pytest.approx(0.9, abs=0.05)


class Hangs(Toolset):
    def __init__(self) -> None:
        super().__init__(id="hangs", tools=[])

    async def setup(self) -> Any:
        await asyncio.Event().wait()


async def test_an_agent_session_that_never_starts_fails_after_ten_seconds() -> None:
    agent = Greeter(tools=[Hangs()])
    took = await failing(lambda session: run_call(session, agent, deaf()))
    assert took == pytest.approx(10, abs=0.1)


async def test_an_agent_session_that_cannot_start_fails_the_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    agent_session = deaf()

    async def start(agent: Agent) -> None:
        raise Broken

    monkeypatch.setattr(agent_session, "start", start)
    assert await failing(lambda session: run_call(session, Greeter(), agent_session)) < 1


async def test_an_agent_that_takes_over_and_never_starts_fails_the_handler() -> None:
    class HandsOver(Agent):
        async def on_enter(self) -> None:
            await asyncio.sleep(0.1)
            self.session.update_agent(Greeter(tools=[Hangs()]))

    async with open_session() as (session, _):
        with pytest.raises(TimeoutError, match="did not start"):
            async with asyncio.timeout(20):
                await run_call(session, HandsOver(instructions=""), deaf())


async def test_a_caller_who_hangs_up_while_it_starts_is_not_waited_for() -> None:
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(tools=[Hangs()]), deaf()))
        await asyncio.sleep(1)
        await far_end.hang_up()
        async with asyncio.timeout(3.1):
            await running
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class StartsSlowly(Toolset):
    def __init__(self) -> None:
        super().__init__(id="slow", tools=[])

    async def setup(self) -> Any:
        await asyncio.sleep(1)
        return self


async def test_a_caller_who_hangs_up_while_it_starts_leaves_one_that_is_started_and_closed() -> None:
    closed: list[object] = []
    agent_session = deaf()
    agent_session.on("close", closed.append)
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(tools=[StartsSlowly()]), agent_session))
        await asyncio.sleep(0.5)
        await far_end.hang_up()
        await running
    assert closed
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Talks(Agent):
    async def on_enter(self) -> None:
        for _ in range(8):
            await self.session.generate_reply()


UNREACHABLE = APIError("not reached", retryable=False)


@pytest.mark.parametrize(
    ("model", "failure"), [("tts", UNREACHABLE), ("llm", UNREACHABLE), ("llm", Broken())], ids=["tts", "llm", "llm any"]
)
@pytest.mark.parametrize("tolerated", [3, 0])
async def test_a_model_that_always_fails_ends_the_call_with_its_error(
    model: str, failure: Exception, tolerated: int
) -> None:
    models: dict[str, Any] = {"tts": EvenVoice(), "llm": ScriptedLLM()}
    models[model].failure = failure
    options = {} if tolerated else {"conn_options": SessionConnectOptions(max_unrecoverable_errors=0)}
    agent_session = deaf(**models, **options)
    asked: list[Any] = []
    agent_session.on("speech_created", asked.append)
    assert await failing(lambda session: run_call(session, Talks(instructions=""), agent_session)) < 60
    assert len(asked) in (tolerated + 1, tolerated + 2)


async def test_an_agent_that_wants_to_say_more_after_the_hang_up_has_not_failed() -> None:
    class Talks(Agent):
        async def on_enter(self) -> None:
            while True:
                await self.session.say(COUNTING)

    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Talks(instructions=""), deaf()))
        await far_end.wait_heard(1.0)
        await far_end.hang_up()
        await running


async def test_an_agent_that_closes_in_the_middle_of_a_word_returns_at_once() -> None:
    agent, agent_session = Greeter(), deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await far_end.wait_heard(1.0)
        await agent_session.aclose()
        async with asyncio.timeout(0.1):
            await running
        assert not session.ended and session.ahead == 0
        assert len(agent.played) == 1


async def test_an_agent_that_takes_no_audio_hears_of_the_end() -> None:
    agent, agent_session = Greeter(""), deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await asyncio.sleep(0.1)
        agent_session.input.audio = None
        speaking = asyncio.create_task(far_end.say(b"\xff" * 8000 * 20))
        await asyncio.sleep(19)
        assert session.waiting <= 500
        await far_end.hang_up()
        await running
        await speaking


async def test_being_cancelled_closes_the_agent_session() -> None:
    agent = Greeter()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, deaf()))
        await far_end.wait_heard(0.5)
        running.cancel()
        await asyncio.wait({running}, timeout=1)
        assert running.cancelled()
        await asyncio.sleep(2)
        assert agent.closed
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


# --- the call, as agents and tools have it ----------------------------------------------------------------------------


def made_for(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
    return Greeter("hello"), deaf()


handler = livekit_agent(made_for)


@pytest.mark.parametrize("given", [handler, f"{made_for.__module__}:handler"], ids=["itself", "its path"])
def test_it_is_a_raw_audio_agent_wherever_a_handler_is_given(given: Any) -> None:
    added = Agents().add("desk", handler=given)
    assert isinstance(added.raw, RawAgent) and added.handler is None
    assert added.raw.__name__ == "made_for"


@pytest.mark.parametrize(
    ("audio", "rate", "encoding", "expected"),
    [(None, None, "PCMU", 8000), (None, 16000, "PCMU", 16000), (AudioFormat("PCM16", 24000), None, "PCM16", 24000)],
)
async def test_the_agent_hears_and_speaks_at_the_rate_of_its_calls_or_the_one_given(
    audio: AudioFormat | None, rate: int | None, encoding: str, expected: int
) -> None:
    rates: list[tuple[str, int | None, int]] = []

    class Listens(Greeter):
        async def on_enter(self) -> None:
            await super().on_enter()
            assert self.session.input.audio is not None
            frame = await anext(self.session.input.audio)
            rates.append((get_call().format.encoding, self.output.sample_rate, frame.sample_rate))

    agent = livekit_agent(lambda call: (Listens("one two"), deaf()), audio=audio, rate=rate)
    assert agent.audio == audio
    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(agent(session))
        await far_end.say(bytes(8000))
        await far_end.wait_heard(0.6)
        await far_end.hang_up()
        await running
    assert rates == [(encoding, expected, expected)]


async def test_agents_tools_and_callbacks_know_their_call() -> None:
    known: list[MediaSession] = []

    @function_tool
    async def look(context: RunContext[Any]) -> str:
        """Look."""
        known.append(get_call())
        return "seen"

    class Knows(Agent):
        async def on_enter(self) -> None:
            known.append(get_call())
            self.session.generate_reply()

    def factory(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
        return Knows(instructions="", tools=[look]), deaf(("look", {}), "all good")

    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(livekit_agent(factory)(session))
        await far_end.wait_heard(0.3)
        await far_end.hang_up()
        await running
        assert known == [session, session]
    with pytest.raises(RuntimeError, match="run_call"):
        get_call()


async def test_events_that_are_not_audio_go_to_the_callbacks_and_a_callback_that_raises_does_no_harm() -> None:
    digits: list[str] = []
    events: list[object] = []

    def on_event(event: object) -> None:
        events.append(event)
        raise Broken

    async with open_session() as (session, far_end):
        call = run_call(session, Greeter(""), deaf(), on_digit=lambda _, digit: digits.append(digit), on_event=on_event)
        running = asyncio.create_task(call)
        await far_end.press("12")
        session.stream.deliver(MachineDetected(call_id=session.call.id, answered_by="human"))
        await far_end.press("*")
        await asyncio.sleep(0.1)
        assert digits == ["1", "2", "*"] and [type(event) for event in events] == [MachineDetected]
        await far_end.hang_up()
        await running


async def test_a_callback_may_be_a_coroutine_function_which_ends_with_the_call() -> None:
    digits: list[str] = []

    async def on_digit(agent_session: AgentSession[Any], digit: str) -> None:
        await asyncio.sleep(0.1)
        digits.append(digit)
        await asyncio.Event().wait()

    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(""), deaf(), on_digit=on_digit))
        await far_end.press("1")
        await asyncio.sleep(0.2)
        await far_end.hang_up()
        await running
    assert digits == ["1"]
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_callbacks_that_are_done_are_not_kept() -> None:
    agent_session = deaf()
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(""), agent_session, on_digit=lambda *_: None))
        await asyncio.sleep(0.1)
        before = len(watches[agent_session].pending)
        await far_end.press("1" * 50)
        await asyncio.sleep(0.1)
        assert len(watches[agent_session].pending) == before
        await far_end.hang_up()
        await running


class OtherRoom(rtc.EventEmitter[str]):
    name = "not of a call"


async def test_a_room_has_the_calls_keys_and_another_room_than_ours_has_none() -> None:
    keys: list[rtc.SipDTMF] = []
    digits: list[str] = []
    for ours in (True, False):
        async with open_session() as (session, far_end):
            room: Any = CallRoom(session) if ours else OtherRoom()
            room.on("sip_dtmf_received", keys.append)
            with fake_job_context(room=room) as context:
                call = run_call(session, Greeter(""), deaf(), on_digit=lambda _, digit: digits.append(digit))
                running = asyncio.create_task(call)
            context._tempdir.cleanup()
            assert not ours or room.name == session.call.reference
            await far_end.press("05*#AD")
            await asyncio.sleep(0.1)
            await far_end.hang_up()
            await running
    assert [(key.code, key.digit) for key in keys] == [(0, "0"), (5, "5"), (10, "*"), (11, "#"), (12, "A"), (15, "D")]
    assert "".join(digits) == 2 * "05*#AD"


async def test_a_key_is_a_sign_of_life() -> None:
    agent, agent_session = Greeter(""), deaf(user_away_timeout=5)
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, agent, agent_session))
        await asyncio.sleep(6)
        assert agent_session.user_state == "away"
        await far_end.press("1")
        await asyncio.sleep(0.1)
        assert agent_session.user_state == "listening"
        await far_end.hang_up()
        await running


async def test_the_frameworks_own_task_collects_keys() -> None:
    collected: list[str] = []

    class Asks(Agent):
        async def on_enter(self) -> None:
            collected.append((await GetDtmfTask(num_digits=4)).user_input)

    async with open_session() as (session, far_end):
        with job(session):
            running = asyncio.create_task(run_call(session, Asks(instructions=""), deaf("your code please")))
        await asyncio.sleep(3)
        await far_end.press("1984#")
        await asyncio.sleep(1)
        await far_end.hang_up()
        await running
    assert collected == ["1 9 8 4"]


async def test_an_agent_that_a_task_gives_the_caller_back_to_goes_on() -> None:
    """It is not entered again, so there is nothing to wait for."""

    class Asks(Agent):
        async def on_enter(self) -> None:
            await GetDtmfTask(num_digits=1)
            await asyncio.sleep(20)
            self.session.say("one two three")
            self.session.shutdown()

    async with open_session() as (session, far_end):
        with job(session):
            running = asyncio.create_task(run_call(session, Asks(instructions=""), deaf("your code please")))
        await asyncio.sleep(3)
        await far_end.press("1#")
        await running
        assert far_end.heard_seconds == pytest.approx(6 * 0.3, abs=0.05)


async def test_the_frameworks_own_tool_presses_keys() -> None:
    class Presses(Agent):
        async def on_enter(self) -> None:
            self.session.generate_reply()

    agent = Presses(instructions="", tools=[send_dtmf_events])
    async with open_session() as (session, far_end):
        with job(session):
            script = deaf(("send_dtmf_events", {"events": ["4", "2", "#", "A"]}), "done")
            running = asyncio.create_task(run_call(session, agent, script))
        await far_end.wait_heard(0.3)
        assert far_end.control.digits == "42#A"
        await far_end.hang_up()
        await running


# --- our own tools ----------------------------------------------------------------------------------------------------


NOT_ALLOWED = PermissionDenied("scripted", "transfer", "not so", status=403)


class Acts(Agent):
    async def on_enter(self) -> None:
        self.session.generate_reply()


def answers(agent_session: AgentSession[Any]) -> list[str]:
    """What the tools answered to the model."""
    return [item.output for item in agent_session.history.items if item.type == "function_call_output"]


async def test_end_call_lets_the_goodbye_be_heard() -> None:
    agent_session = deaf(("end_call", {}), "goodbye and thanks")
    async with open_session() as (session, far_end):
        await run_call(session, Acts(instructions="", tools=[end_call]), agent_session)
        assert far_end.heard_seconds == pytest.approx(0.9, abs=0.05)
        assert not session.ended, "the exchange hangs up"
    assert said(agent_session) == ["goodbye and thanks"]


async def test_end_call_ends_an_agent_session_without_a_call_too() -> None:
    """In the framework's console, say."""
    agent_session = deaf(("end_call", {}), "goodbye and thanks")
    closed = asyncio.Event()
    agent_session.on("close", lambda _: closed.set())
    await agent_session.start(Acts(instructions="", tools=[end_call]))
    async with asyncio.timeout(10):
        await closed.wait()
    assert said(agent_session) == ["goodbye and thanks"]


@pytest.mark.parametrize("refusal", [ValueError("no key"), StoreUnavailable("the call book", "away"), NOT_ALLOWED])
async def test_the_model_is_told_why_keys_were_not_pressed(
    refusal: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(digits: str) -> None:
        raise refusal

    agent_session = deaf(("press_keys", {"keys": "12"}), "sorry about that")
    async with open_session() as (session, far_end):
        monkeypatch.setattr(session, "send_digits", refuse)
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[press_keys]), agent_session))
        await far_end.wait_heard(0.9)
        assert f"not pressed: {refusal}" in answers(agent_session)[0]
        await far_end.hang_up()
        await running


async def test_press_keys_presses_them_in_one_go() -> None:
    agent_session = deaf(("press_keys", {"keys": "12345678901234567890A#"}), "done")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[press_keys]), agent_session))
        await far_end.wait_heard(0.3)
        assert far_end.control.digits == "12345678901234567890A#"
        await far_end.hang_up()
        await running


async def test_the_goodbye_of_end_call_cannot_be_interrupted() -> None:
    agent_session = deaf(("end_call", {}), "goodbye and thanks")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[end_call]), agent_session))
        await far_end.wait_heard(0.3)
        with pytest.raises(RuntimeError):
            agent_session.interrupt()
        await running
        assert far_end.heard_seconds == pytest.approx(0.9, abs=0.05)


@function_tool
async def hand_over(context: RunContext[Any]) -> None:
    """Hand the caller over."""
    await transfer(context, "+14155550199")


@pytest.mark.parametrize(
    ("tool", "arguments"), [(hand_over, {}), (transfer_call, {"to": "+14155550199"}), (press_keys, {"keys": "42"})]
)
async def test_a_tool_waits_until_what_was_said_before_it_was_heard(tool: Any, arguments: dict[str, str]) -> None:
    agent_session = deaf((tool.info.name, arguments, "one two three four"), "there you are")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[tool]), agent_session))
        await far_end.wait_heard(4 * 0.3 - 0.05)
        assert not far_end.control.transfers and not far_end.control.digits
        await asyncio.sleep(0.3)
        assert far_end.control.transfers or far_end.control.digits
        await far_end.hang_up()
        await running


async def test_a_transfer_while_nothing_is_said_waits_for_other_audio_of_the_call() -> None:
    agent_session = deaf()
    moving: list[asyncio.Future[Any]] = []

    def on_digit(agent_session: Any, digit: str) -> None:
        moving.append(asyncio.ensure_future(transfer(agent_session, "+14155550199")))

    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Greeter(""), agent_session, on_digit=on_digit))
        await session.send_audio(bytes(8000))
        await far_end.press("0")
        await far_end.wait_heard(0.95)
        assert not far_end.control.transfers
        await asyncio.sleep(0.2)
        assert far_end.control.transfers == ["+14155550199"]
        far_end.answer_transfer()
        await running
        assert await moving[0] is TransferStatus.ANSWERED


async def test_a_transfer_waits_until_what_is_being_said_was_heard() -> None:
    agent_session = deaf()
    async with open_session() as (session, far_end):
        heard: list[float] = []

        def on_digit(agent_session: Any, digit: str) -> None:
            moving.append(asyncio.ensure_future(transfer(agent_session, "+14155550199")))

        moving: list[asyncio.Future[Any]] = []
        agent = Greeter("one two three four")
        running = asyncio.create_task(run_call(session, agent, agent_session, on_digit=on_digit))
        await far_end.wait_heard(0.3)
        await far_end.press("0")
        async with asyncio.timeout(10):
            while not far_end.control.transfers:
                heard = [far_end.heard_seconds]
                await asyncio.sleep(0.01)
        assert heard[0] == pytest.approx(4 * 0.3, abs=0.05)
        far_end.answer_transfer()
        await running
        await asyncio.wait(moving)


@pytest.mark.parametrize("answered", [True, False])
async def test_transfer_call_hands_the_caller_over_or_gets_them_back(answered: bool) -> None:
    agent_session = deaf(("transfer_call", {"to": "+14155550199"}), "nobody is there")
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[transfer_call]), agent_session))
        async with asyncio.timeout(10):
            while not far_end.control.transfers:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        if answered:
            far_end.answer_transfer()
            await running
            assert session.call.transfer is TransferStatus.ANSWERED and not far_end.control.hang_ups
        else:
            far_end.fail_transfer()
            await far_end.wait_heard(0.9)
            assert "not" in answers(agent_session)[0] or "nobody" in answers(agent_session)[0]
            await far_end.hang_up()
            await running
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_who_hangs_up_while_the_target_rings_does_not_hold_the_handler() -> None:
    agent_session = deaf(("transfer_call", {"to": "+14155550199"}))
    async with open_session() as (session, far_end):
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[transfer_call]), agent_session))
        await asyncio.sleep(1)
        assert far_end.control.transfers
        await far_end.hang_up()
        async with asyncio.timeout(3):
            await running
    await ticks()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("refusal", "told"),
    [(ValueError("no number"), "no number"), (TimeoutError(), "still rings"), (NOT_ALLOWED, "not possible")],
)
async def test_the_model_is_told_why_a_transfer_was_not_possible(refusal: Exception, told: str) -> None:
    agent_session = deaf(("transfer_call", {"to": "+14155550199"}), "sorry about that")
    async with open_session() as (session, far_end):

        async def refused(call: Any, to: str) -> None:
            raise refusal

        far_end.control.transfer = refused  # type: ignore[method-assign]
        running = asyncio.create_task(run_call(session, Acts(instructions="", tools=[transfer_call]), agent_session))
        await far_end.wait_heard(0.9)
        assert told in answers(agent_session)[0]
        await far_end.hang_up()
        await running
    assert not watches, "nothing is kept of the agent session"


async def test_the_start_timeout_of_an_agent_and_its_factory_is_that_of_its_session() -> None:
    async def never(call: MediaSession) -> Any:
        await asyncio.Event().wait()

    for factory in (lambda call: (Greeter(tools=[Hangs()]), deaf()), never):
        assert await failing(livekit_agent(factory, start_timeout=3)) == pytest.approx(3, abs=0.1)
