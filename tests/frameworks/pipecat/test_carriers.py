"""Whole calls of the same bots over the sandbox of every installed carrier; nothing here differs between carriers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from pipecat.frames.frames import (
    EndFrame,
    EndWorkerFrame,
    Frame,
    InputDTMFFrame,
    OutputDTMFFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from anycarrier import CallStatus, EndReason
from anycarrier.calls import TransferStatus
from anycarrier.testing.far_end import FarEnd
from anycarrier_pipecat import CallTransport, TransferCallFrame, pipecat_agent
from frameworks.carriers import CARRIERS
from frameworks.pipecat.bots import WORD, Voice, echo_worker, run, worker_of
from whole.conftest import House, open_house, until

DESK = "+13105550130"
COUNTING = "one two three four five six seven eight nine ten"
TWENTY = "123456789*0#98765432"
SAID = random.Random(3).randbytes(8000 * 2).replace(b"\x7f", b"\xff")

Begin = Callable[[House], Awaitable[FarEnd]]


@pytest.fixture(params=CARRIERS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with open_house(request.param) as opened:
        yield opened
        await until(lambda: not opened.exchange.switchboard.sessions)


async def ring(house: House) -> FarEnd:
    return await house.ring()


async def dial(house: House) -> FarEnd:
    return (await house.dial())[1]


either_way = pytest.mark.parametrize("begin", [ring, dial], ids=["inbound", "outbound"])
rates = pytest.mark.parametrize("rate", [8000, 16000])


class Keys(FrameProcessor):
    """What the bot does at a key: 1 interrupts it, 2 ends the call, 3 hands the caller on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame):
            match frame.button.value:
                case "1":
                    await self.broadcast_interruption()
                case "2":
                    await self.push_frame(TTSSpeakFrame("good bye"))
                    await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)
                case "3":
                    await self.push_frame(TTSSpeakFrame("please hold"))
                    await self.push_frame(TransferCallFrame(DESK))
        await self.push_frame(frame, direction)


class Talking:
    """A bot that counts to ten, with what it believes was heard."""

    def __init__(self, rate: int = 8000) -> None:
        self.rate = rate
        self.context = LLMContext()
        self.disconnected = 0

    async def __call__(self, transport: CallTransport) -> None:
        assistant = LLMContextAggregatorPair(self.context).assistant()
        worker = worker_of([transport.input(), Keys(), Voice(), transport.output(), assistant], rate=self.rate)

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: CallTransport, client: object) -> None:
            await worker.queue_frame(TTSSpeakFrame(COUNTING, append_to_context=True))

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: CallTransport, client: object) -> None:
            self.disconnected += 1
            await worker.cancel()

        await run(worker)

    @property
    def words(self) -> list[str]:
        return " ".join(str(message["content"]) for message in self.context.get_messages()).split()


@either_way
@rates
async def test_an_echo(house: House, begin: Begin, rate: int) -> None:
    house.answer_with(pipecat_agent(lambda transport: run(echo_worker(transport, rate=rate))))
    far_end = await begin(house)
    await far_end.wait_for("streaming")
    await far_end.say(SAID)
    if rate == 8000:
        await far_end.wait_heard(2.0, timeout=60)
        assert SAID in far_end.heard
    else:
        await far_end.wait_heard(1.8, timeout=60)  # the rest is in the resampler of the framework
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


@either_way
@rates
async def test_a_talking_bot_is_interrupted(house: House, begin: Begin, rate: int) -> None:
    bot = Talking(rate)
    house.answer_with(pipecat_agent(bot))
    far_end = await begin(house)
    await far_end.wait_heard(1.0, timeout=60)
    await far_end.press("1")
    await asyncio.sleep(1)
    heard = far_end.heard_seconds()
    assert 1.0 <= heard < 1.5
    assert bot.words == COUNTING.split()[: len(bot.words)]
    assert WORD * (len(bot.words) - 1) <= heard + WORD
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
    await until(lambda: bot.disconnected == 1)


@either_way
async def test_the_end_frame_comes_after_the_last_word(house: House, begin: Begin) -> None:
    house.answer_with(pipecat_agent(Talking()))
    far_end = await begin(house)
    await far_end.wait_heard(0.5, timeout=60)
    await far_end.press("2")
    over = await house.over(far_end, timeout=60)
    assert over.reason is EndReason.AGENT_HANGUP
    assert far_end.heard_seconds() >= 12 * WORD * 0.999


@either_way
async def test_a_transferred_caller_stays_when_the_pipeline_has_ended(house: House, begin: Begin) -> None:
    bot = Talking()
    house.answer_with(pipecat_agent(bot))
    far_end = await begin(house)
    await far_end.wait_heard(0.5, timeout=60)
    await far_end.press("3")
    await house.exchange.wait_until(far_end.call_id, lambda call: call.transfer is TransferStatus.ANSWERED, 60)
    await until(lambda: not house.exchange.switchboard.sessions)
    assert far_end.heard_seconds() >= 12 * WORD * 0.999, "what was said before it was heard"
    assert (far_end.state, far_end.transferred_to) == ("answered", DESK)
    assert not (await house.call_of(far_end)).ended
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.TRANSFERRED


async def test_the_pipeline_ends_before_the_target_has_answered(house: House) -> None:

    async def bot(transport: CallTransport) -> None:
        worker = worker_of([transport.input(), transport.output()])

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: CallTransport, client: object) -> None:
            await transport.transfer(DESK)
            await worker.queue_frame(EndFrame())

        await run(worker)

    house.answer_with(pipecat_agent(bot))
    far_end = await house.ring()
    await far_end.wait_for("answered")
    await house.known(far_end.call_id)
    await house.exchange.wait_until(far_end.call_id, lambda call: call.transfer is TransferStatus.ANSWERED, 60)
    await until(lambda: not house.exchange.switchboard.sessions)
    assert (far_end.state, far_end.transferred_to) == ("answered", DESK)


async def test_twenty_keys_of_the_caller_arrive(house: House) -> None:
    pressed: list[str] = []

    class Note(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, InputDTMFFrame):
                pressed.append(frame.button.value)
            await self.push_frame(frame, direction)

    house.answer_with(
        pipecat_agent(lambda transport: run(worker_of([transport.input(), Note(), transport.output()])))
    )
    far_end = await house.ring()
    await far_end.wait_for("streaming")
    await far_end.press("A" + TWENTY + "D")
    await until(lambda: len(pressed) >= len(TWENTY))
    assert "".join(pressed) == TWENTY
    await far_end.hang_up()
    await house.over(far_end)


async def test_twenty_keys_of_the_bot_arrive(house: House) -> None:
    async def bot(transport: CallTransport) -> None:
        worker = worker_of([transport.input(), transport.output()])

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: CallTransport, client: object) -> None:
            await worker.queue_frames([OutputDTMFFrame.from_string(TWENTY), EndFrame()])

        await run(worker)

    house.answer_with(pipecat_agent(bot))
    far_end = await house.ring()
    over = await house.over(far_end, timeout=60)
    assert over.reason is EndReason.AGENT_HANGUP
    assert TWENTY in (far_end.digits, far_end.keys_heard())


# --- bots that go wrong: each call ends, with a reason, within a time -------------------------------------------------


class Broken(FrameProcessor):
    """Raises, or never returns, at setup, at the start, or with the first audio."""

    def __init__(self, moment: str, how: str) -> None:
        super().__init__()
        self.moment, self.how = moment, how

    async def setup(self, setup):  # type: ignore[no-untyped-def]
        await super().setup(setup)
        await self._break("setup")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self._break({"StartFrame": "start", "InputAudioRawFrame": "audio"}.get(type(frame).__name__, ""))
        await self.push_frame(frame, direction)

    async def _break(self, moment: str) -> None:
        if moment == self.moment:
            if self.how == "raise":
                raise RuntimeError("broken")
            await asyncio.Event().wait()


async def broken(moment: str, how: str, transport: CallTransport) -> None:
    limits = {"setup_timeout_secs": 2, "start_timeout_secs": 2, "cancel_timeout_secs": 2}  # 20 by default
    await run(worker_of([transport.input(), Broken(moment, how), Voice(), transport.output()], **limits))


async def raises(transport: CallTransport) -> None:
    raise RuntimeError("no key for the model")


async def returns(transport: CallTransport) -> None:
    pass


async def hangs(transport: CallTransport) -> None:
    await asyncio.Event().wait()


async def ends_in_the_middle(transport: CallTransport) -> None:
    worker = echo_worker(transport)
    asyncio.get_running_loop().call_later(1, lambda: asyncio.ensure_future(worker.queue_frame(EndFrame())))
    await run(worker)


@pytest.mark.parametrize(
    ("bot", "reason", "within"),
    [
        (raises, EndReason.AGENT_ERROR, 1),
        (returns, EndReason.AGENT_ERROR, 1),
        (hangs, EndReason.AGENT_ERROR, 3),
        (ends_in_the_middle, EndReason.AGENT_HANGUP, 3),
        (partial(broken, "setup", "hang"), EndReason.AGENT_ERROR, 3),
        (partial(broken, "start", "hang"), EndReason.AGENT_ERROR, 3),
        (partial(broken, "start", "raise"), EndReason.AGENT_ERROR, 3),
    ],
    ids=[
        "raises", "returns", "hangs", "ends in the middle", "hangs at setup", "hangs at start", "raises at start",
    ],
)  # fmt: skip
async def test_a_bot_that_goes_wrong_ends_its_call(
    house: House, bot: Callable[[CallTransport], Awaitable[None]], reason: EndReason, within: float
) -> None:
    failures: list[BaseException] = []
    house.exchange.switchboard.report = lambda what, failure: failures.append(failure)
    house.answer_with(pipecat_agent(bot, start_timeout=3))
    far_end = await house.ring()
    await far_end.wait_for("answered")
    began = asyncio.get_running_loop().time()
    over = await house.over(far_end, timeout=120)
    assert over.reason is reason
    assert asyncio.get_running_loop().time() - began < within + 1
    await until(lambda: not house.exchange.switchboard.sessions, timeout=60)


async def test_a_pipeline_that_never_reads_ends_when_the_caller_hangs_up(house: House) -> None:
    house.answer_with(pipecat_agent(partial(broken, "audio", "hang")))
    far_end = await house.ring()
    await far_end.say(SAID)
    await asyncio.sleep(1)
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
    await until(lambda: not house.exchange.switchboard.sessions, timeout=60)


async def test_the_handler_is_gone_soon_after_the_caller(house: House) -> None:
    bot = Talking()
    house.answer_with(pipecat_agent(bot))
    far_end = await house.ring()
    await far_end.wait_heard(0.5, timeout=60)
    session = await house.live()
    await far_end.hang_up()
    await session.wait_stopped()
    began = asyncio.get_running_loop().time()
    await until(lambda: not house.exchange.switchboard.sessions)
    assert asyncio.get_running_loop().time() - began < 3
    assert bot.disconnected == 1
    await house.exchange.wait_for(far_end.call_id, CallStatus.ENDED, 30)
