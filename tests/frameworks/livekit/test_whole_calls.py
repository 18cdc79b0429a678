"""Whole calls over each installed carrier's sandbox: what the caller hears, what the agent is told, how they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession
from livekit.agents.beta.workflows import GetDtmfTask

from anycarrier import Call, CallStatus, Capability, EndReason, MediaSession
from anycarrier.audio import dtmf_tones
from anycarrier.calls import TransferStatus
from anycarrier.testing.far_end import FarEnd
from anycarrier_livekit import (
    CallAudioInput,
    CallAudioOutput,
    end_call,
    get_call,
    livekit_agent,
    press_keys,
    run_call,
    transfer_call,
)
from frameworks.carriers import CARRIERS
from frameworks.livekit.agents import COUNTING, Greeter, clip, deaf, hearing, job, said
from whole.conftest import House, open_house, until

DESK = "+13105550130"

both_ways = pytest.mark.parametrize("inbound", [True, False], ids=["inbound", "outbound"])
both_rates = pytest.mark.parametrize("rate", [8000, 24000])


@pytest.fixture(params=CARRIERS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with open_house(request.param) as opened:
        yield opened


async def connect(house: House, inbound: bool) -> FarEnd:
    return await house.ring() if inbound else (await house.dial())[1]


def answer_with(house: House, agent: Agent, agent_session: AgentSession[Any], rate: int = 8000) -> None:
    house.answer_with(livekit_agent(lambda call: (agent, agent_session), rate=rate))


class Broken(Exception):
    pass


class Acts(Agent):
    """Does what its model says first."""

    async def on_enter(self) -> None:
        self.session.generate_reply()


@both_ways
@both_rates
async def test_an_echo_says_back_what_it_hears(house: House, inbound: bool, rate: int) -> None:
    async def echo(session: MediaSession) -> None:
        output = CallAudioOutput(session, rate)
        async for frame in CallAudioInput(session, rate):
            await output.capture_frame(frame)

    house.answer_with(echo)
    far_end = await connect(house, inbound)
    spoken = dtmf_tones("15*#")
    await far_end.say(spoken)
    await until(lambda: far_end.keys_heard().startswith("15*#"))
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


@both_ways
@both_rates
async def test_a_greeting_is_heard_and_the_goodbye_before_the_call_ends(
    house: House, inbound: bool, rate: int
) -> None:
    agent, agent_session = Greeter(tools=[end_call]), deaf(("end_call", {}), "goodbye then")

    def answer(event: Any) -> None:
        if event.item.type == "message" and len(agent_session.history.messages()) == 1:
            agent_session.generate_reply(user_input="bye")

    agent_session.on("conversation_item_added", answer)
    answer_with(house, agent, agent_session, rate)
    far_end = await connect(house, inbound)
    call = await house.over(far_end)
    assert call.reason is EndReason.AGENT_HANGUP
    assert far_end.heard_seconds() == pytest.approx(14 * 0.3, abs=0.1)  # the last frame of each segment is filled up
    assert said(agent_session) == [COUNTING, "goodbye then"]
    assert [event.playback_position for _, event in agent.played] == [pytest.approx(n * 0.3, abs=0.03) for n in (12, 2)]


async def test_real_speech_interrupts_and_the_history_has_what_was_heard(house: House) -> None:
    spoken = clip("osr_1.wav")
    agent, agent_session = Greeter(), hearing("yes of course")
    ears: list[float] = []
    answer_with(house, agent, agent_session)
    far_end = await house.ring()
    await until(lambda: hasattr(agent, "output"))
    agent.output.on("playback_finished", lambda _: ears.append(far_end.heard_seconds()))
    await far_end.wait_heard(0.8)
    await far_end.say(spoken)
    await until(lambda: "yes of course" in said(agent_session))
    await far_end.hang_up()
    await house.over(far_end)
    interrupted = agent.played[0][1]
    assert interrupted.interrupted and interrupted.playback_position == pytest.approx(ears[0], abs=0.06)
    words = said(agent_session)[0].split()
    assert words == COUNTING.split()[: len(words)] and len(words) > 0
    assert (len(words) - 1) * 0.3 <= interrupted.playback_position + 0.3


async def test_a_cough_pauses_and_all_is_heard(house: House) -> None:
    """Speech in which no words are found is a false interruption: what the pause took back is said."""
    spoken = clip("osr_1.wav")
    agent, agent_session = Greeter(), hearing(text="")
    false_ones: list[Any] = []
    agent_session.on("agent_false_interruption", false_ones.append)
    answer_with(house, agent, agent_session)
    far_end = await house.ring()
    await far_end.wait_heard(0.8)
    await far_end.say(spoken)
    await until(lambda: bool(agent.played))
    assert [event.resumed for event in false_ones] == [True]
    assert far_end.heard_seconds() == pytest.approx(12 * 0.3, abs=0.06)
    assert not agent.played[0][1].interrupted
    await far_end.hang_up()
    await house.over(far_end)


async def test_a_caller_who_hangs_up_in_the_middle_of_a_sentence_ends_the_agent(house: House) -> None:
    agent, agent_session = Greeter(), hearing()
    clock = asyncio.get_running_loop().time
    answer_with(house, agent, agent_session)
    far_end = await house.ring()
    session = await house.live()
    await far_end.wait_heard(0.85)
    await far_end.hang_up()
    await session.wait_stopped()
    gone = clock()
    await until(lambda: not house.exchange.switchboard.sessions)
    assert clock() - gone <= 3
    [(told, event)] = agent.played
    assert told - gone <= 0.1
    assert event.interrupted and event.playback_position == pytest.approx(0.85, abs=0.1)
    assert agent.output.captured_playout_segments == 1
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


def answered(call: Call) -> bool:
    return call.transfer is TransferStatus.ANSWERED


async def test_a_transferred_call_outlives_the_agent_session(house: House) -> None:
    agent_session = deaf("please hold", ("transfer_call", {"to": DESK}))

    class Hands(Agent):
        async def on_enter(self) -> None:
            await self.session.generate_reply()
            self.session.generate_reply()

    answer_with(house, Hands(instructions="", tools=[transfer_call]), agent_session)
    far_end = await house.ring()
    await house.known(far_end.call_id)
    await house.exchange.wait_until(far_end.call_id, answered, 30)
    await until(lambda: not house.exchange.switchboard.sessions)
    await asyncio.sleep(10)
    assert far_end.state != "ended" and far_end.transferred_to == DESK
    assert far_end.heard_seconds() == pytest.approx(0.6, abs=0.06), "what was said before was heard"
    await far_end.hang_up()
    await house.over(far_end)


class Leaves(Agent):
    """Hands the caller on, and leaves in its own way before the target has answered."""

    def __init__(self, leave: Callable[[AgentSession[Any]], object]) -> None:
        super().__init__(instructions="")
        self.leave = leave

    async def on_enter(self) -> None:
        await get_call().transfer(DESK)
        self.leave(self.session)


def fail(agent_session: AgentSession[Any]) -> None:
    raise Broken


def close_while_speaking(agent_session: AgentSession[Any]) -> None:
    agent_session.say(COUNTING)
    CLOSING.add(asyncio.ensure_future(agent_session.aclose()))


CLOSING: set[asyncio.Future[None]] = set()


def stay(agent_session: AgentSession[Any]) -> None:
    """The end of the stream ends it."""


WAYS = [AgentSession.shutdown, close_while_speaking, fail, stay]
CALLS, AT_ONCE = 200, 20


async def test_two_hundred_of_two_hundred_transferred_calls_live_on(house: House) -> None:
    leaving = iter(WAYS * CALLS)
    house.exchange.switchboard.report = lambda what, failure: None
    house.answer_with(livekit_agent(lambda call: (Leaves(next(leaving)), deaf())))

    async def one_call(inbound: bool) -> EndReason | None:
        far_end = await connect(house, inbound)
        await house.known(far_end.call_id)
        call = await house.exchange.wait_until(far_end.call_id, answered, 30)
        await until(lambda: call.reference not in house.exchange.switchboard.sessions)
        await asyncio.sleep(0.1)
        assert far_end.state != "ended" and far_end.transferred_to == DESK
        assert (await house.call_of(far_end)).status is CallStatus.ANSWERED
        await far_end.hang_up()
        return (await house.over(far_end)).reason

    reasons: list[EndReason | None] = []
    while len(reasons) < CALLS:
        reasons += await asyncio.gather(*(one_call(inbound) for inbound in (True, False) * (AT_ONCE // 2)))
    assert reasons == [EndReason.TRANSFERRED] * CALLS


async def test_keys_go_both_ways(house: House) -> None:
    """Through the framework's own task, and by a tool of ours that presses A too."""
    collected: list[str] = []

    class Asks(Agent):
        async def on_enter(self) -> None:
            collected.append((await GetDtmfTask(num_digits=4)).user_input)
            self.session.generate_reply()

    async def talk(session: MediaSession) -> None:
        agent = Asks(instructions="", tools=[press_keys, end_call])
        script = deaf("your code please", ("press_keys", {"keys": "42#A"}), "there", ("end_call", {}), "bye")
        with job(session):
            await run_call(session, agent, script)

    house.answer_with(talk)
    far_end = await house.ring()
    await far_end.wait_heard(0.9)
    await asyncio.sleep(1)
    await far_end.press("1984#")
    await until(lambda: "42#A" in far_end.digits + far_end.keys_heard())
    await far_end.hang_up()
    await house.over(far_end)
    assert collected == ["1 9 8 4"]
    if Capability.SEND_DIGITS in house.provider.capabilities:
        assert far_end.digits == "42#A"


async def test_a_factory_that_raises_ends_the_call(house: House) -> None:
    def factory(call: MediaSession) -> Any:
        raise Broken

    house.answer_with(livekit_agent(factory))
    assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR


async def test_a_factory_that_returns_something_else_ends_the_call_and_the_log_says_what(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.answer_with(livekit_agent(lambda call: deaf()))  # type: ignore[arg-type, return-value]
    assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
    assert "returned AgentSession, where Agent, AgentSession is wanted" in caplog.text


async def test_an_agent_that_raises_when_entered_ends_the_call(house: House) -> None:
    class Raises(Agent):
        async def on_enter(self) -> None:
            raise Broken

    answer_with(house, Raises(instructions=""), deaf())
    assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR


async def test_a_factory_that_never_returns_ends_the_call(house: House) -> None:
    async def factory(call: MediaSession) -> Any:
        await asyncio.Event().wait()

    house.answer_with(livekit_agent(factory))
    assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR


async def test_an_agent_that_ends_in_the_middle_of_a_word_hangs_up(house: House) -> None:
    agent, agent_session = Greeter(), deaf()
    answer_with(house, agent, agent_session)
    far_end = await house.ring()
    await far_end.wait_heard(0.5)
    await agent_session.aclose()
    assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
    assert far_end.heard_seconds() < 0.8
