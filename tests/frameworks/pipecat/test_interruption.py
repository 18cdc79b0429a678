"""What is said stops when the caller speaks, and pipecat knows what was heard."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameProcessor

from anycarrier.position import Playback
from anycarrier.testing.session import open_session
from anycarrier_pipecat import CallTransport
from frameworks.pipecat.bots import WORD, Passing, Voice, running, worker_of

COUNTING = "one two three four five six seven eight nine ten"


def heard_words(context: LLMContext) -> list[str]:
    """What the assistant has said, by the context of the language model."""
    return " ".join(str(message["content"]) for message in context.get_messages()).split()


@pytest.mark.parametrize("pushes", [True, False])
@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("lead", [0.2, 600.0])
async def test_the_context_holds_what_was_heard(lead: float, rate: int, pushes: bool) -> None:
    for tenths in range(4, 26, 3):
        async with open_session(pushes=pushes) as (session, far_end):
            transport = CallTransport(session, lead=lead)
            context = LLMContext()
            assistant = LLMContextAggregatorPair(context).assistant()
            worker = worker_of(
                [transport.input(), Voice(sample_rate=rate), transport.output(), assistant], rate=rate
            )
            async with running(worker):
                await worker.queue_frame(TTSSpeakFrame(COUNTING, append_to_context=True))
                await far_end.wait_heard(tenths / 10)
                await worker.queue_frame(InterruptionFrame())
                await asyncio.sleep(1.0)
                heard = far_end.heard_seconds
                words = heard_words(context)
            assert tenths / 10 <= heard <= tenths / 10 + 0.05
            assert words == COUNTING.split()[: len(words)]
            assert WORD * (len(words) - 1) <= heard + WORD, f"{words} for {heard} s"
            assert WORD * (len(words) + 1) >= heard, f"only {words} for {heard} s"


@pytest.mark.parametrize("pushes", [True, False])
async def test_the_carrier_is_cleared_within_20_ms_of_the_interruption(pushes: bool) -> None:
    late = []
    async with open_session(pushes=pushes) as (session, far_end):
        transport = CallTransport(session)
        interruptions = Passing(InterruptionFrame)
        worker = worker_of([transport.input(), Voice(), interruptions, transport.output()])
        async with running(worker):
            for count in range(1, 201):
                await worker.queue_frame(TTSSpeakFrame(COUNTING))
                begins = far_end.heard_seconds
                await far_end.wait_heard(begins + 0.1 + 0.001 * count)
                await worker.queue_frame(InterruptionFrame())
                while len(far_end.cleared) < count:
                    await asyncio.sleep(0.001)
                late.append(far_end.cleared[-1] - interruptions.times(InterruptionFrame)[-1])
                arrived = len(far_end.received)
                await asyncio.sleep(0.3)
                assert len(far_end.received) == arrived, "what was queued must not be sent after the clear"
    assert len(late) == 200
    assert sorted(late)[197] < 0.02


async def test_the_carrier_is_cleared_before_whoever_interrupts_goes_on() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        async with running(worker := worker_of([transport.input(), transport.output()])):
            await worker.queue_frame(OutputAudioRawFrame(bytes(16000), 8000, 1))
            await far_end.wait_heard(0.2)
            await transport.output().queue_frame(InterruptionFrame())
            assert session.ahead == 0.0, "no queue and no task of the output's was in the way"


@pytest.mark.parametrize("lead", [0.2, 600.0])
async def test_the_bot_stops_speaking_when_the_ear_says_so(lead: float) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, lead=lead)
        turns = Passing(BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
        worker = worker_of([transport.input(), Voice(), transport.output(), turns])
        async with running(worker):
            await worker.queue_frame(TTSSpeakFrame("one two three"))
            await asyncio.sleep(3)
            [piece] = far_end.heard_at
            [started], [stopped] = turns.times(BotStartedSpeakingFrame), turns.times(BotStoppedSpeakingFrame)
            assert abs(started - piece.at) < 0.04
            early = piece.at + len(piece.audio) / 8000 - stopped
            assert 0.01 < early < 0.04, "a chunk early, so that speech that goes on has no gap"


async def test_the_bot_stops_speaking_when_the_caller_hangs_up() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, lead=600)
        turns = Passing(BotStoppedSpeakingFrame)
        worker = worker_of([transport.input(), Voice(), transport.output(), turns])

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: CallTransport, client: object) -> None:
            pass  # has yet to save something

        async with running(worker):
            await worker.queue_frame(TTSSpeakFrame(COUNTING))
            await far_end.wait_heard(1.0)
            await far_end.hang_up()
            gone = asyncio.get_running_loop().time()
            await asyncio.sleep(1)
            [stopped] = turns.times(BotStoppedSpeakingFrame)
            assert stopped - gone < 0.04


async def test_what_a_carriers_frames_keep_back_is_sent_before_the_bot_stops_speaking() -> None:
    async with open_session() as (session, _):
        flush, flushed = session.flush, []

        async def noted() -> None:
            flushed.append(asyncio.get_running_loop().time())
            await flush()

        session.flush = noted  # type: ignore[method-assign]
        transport = CallTransport(session)
        turns = Passing(BotStoppedSpeakingFrame)
        async with running(worker := worker_of([transport.input(), Voice(), transport.output(), turns])):
            await worker.queue_frame(TTSSpeakFrame("one two three"))
            await asyncio.sleep(3)
            [stopped] = turns.times(BotStoppedSpeakingFrame)
            assert flushed and flushed[0] < stopped - 0.05


@pytest.mark.parametrize("after", [0.5, 0.85], ids=["while it is written", "while the ear is waited for"])
@pytest.mark.parametrize("lead", [0.2, 600.0])
async def test_the_bot_stops_speaking_at_a_clear(lead: float, after: float) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, lead=lead)
        turns = Passing(BotStoppedSpeakingFrame)
        worker = worker_of([transport.input(), Voice(), transport.output(), turns])
        async with running(worker):
            await worker.queue_frame(TTSSpeakFrame("one two three"))
            await far_end.wait_heard(after)
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(1)
            [stopped] = turns.times(BotStoppedSpeakingFrame)
            assert abs(stopped - far_end.cleared[0]) < 0.04


async def test_speech_that_goes_on_has_no_gap() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker):
            for _ in range(4):
                await worker.queue_frame(TTSSpeakFrame("one two"))
            await far_end.wait_heard(4 * 2 * WORD)
            gaps = [b.at - a.at - len(a.audio) / 8000 for a, b in itertools.pairwise(far_end.heard_at)]
            assert sum(gaps) < 0.01


async def test_audio_that_may_not_be_interrupted_is_heard_whole() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker):
            notice = OutputAudioRawFrame(bytes(16000), 8000, 1)
            notice.interruptible = False
            await worker.queue_frame(notice)
            for pause in (0.2, 0.2, 0.2, 0.2, 0.19):
                await asyncio.sleep(pause)
                await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.3)
            assert far_end.heard == b"\xff" * 8000
            assert far_end.cleared == []
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.1)
            assert len(far_end.cleared) == 1, "once it has been heard, a clear is one again"


async def test_a_new_answer_after_an_interruption_is_heard_from_its_beginning() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker):
            await worker.queue_frame(TTSSpeakFrame(COUNTING))
            await far_end.wait_heard(1.0)
            await worker.queue_frame(InterruptionFrame())
            await worker.queue_frame(TTSSpeakFrame("again please"))
            await asyncio.sleep(2)
            heard = far_end.heard_seconds
            assert 1.6 <= heard < 1.65


async def test_nothing_that_was_queued_is_sent_after_the_clear() -> None:
    """pipecat empties its queue a few turns of the loop later; the task that speaks has its turns in between."""
    for pieces in range(1, 40, 4):
        async with open_session() as (session, far_end):
            arrived: list[int] = []
            clear_now = session.clear_now

            def noted() -> Playback:
                arrived.append(len(far_end.received))  # noqa: B023  this session's
                return clear_now()  # noqa: B023

            session.clear_now = noted  # type: ignore[method-assign]
            transport = CallTransport(session, lead=600)
            worker = worker_of([transport.input(), transport.output()])
            async with running(worker):
                await worker.queue_frame(OutputAudioRawFrame(bytes(160000), 8000, 1))
                while len(far_end.received) < pieces:
                    await asyncio.sleep(0)
                await transport.output().queue_frame(InterruptionFrame())
                await asyncio.sleep(1)
                assert [len(far_end.received)] == arrived


async def test_a_chunk_in_hand_while_an_interruption_is_handled_is_not_sent() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        output = transport.output()
        written: list[bool] = []
        in_hand = OutputAudioRawFrame(b"\x10" * 320, 8000, 1)
        worker = worker_of([transport.input(), output])

        @output.event_handler("on_before_push_frame")
        async def on_before_push_frame(output: FrameProcessor, frame: Frame) -> None:
            if isinstance(frame, InterruptionFrame):  # before pipecat has emptied its queue
                written.append(await output.write_audio_frame(in_hand))  # type: ignore[attr-defined]

        async with running(worker):
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.5)
            assert written == [False] and far_end.heard_seconds == 0
            assert not await output.write_audio_frame(in_hand), "made before it"
            assert await output.write_audio_frame(OutputAudioRawFrame(b"\x10" * 320, 8000, 1)), "made after it"


async def test_an_interruption_does_not_wait_for_a_notice_that_may_not_be_interrupted() -> None:
    """All of it lies at the carrier, so pipecat says that the bot has stopped speaking."""
    async with open_session() as (session, far_end):
        transport = CallTransport(session, lead=600)
        turns = Passing(BotStoppedSpeakingFrame, InterruptionFrame)
        worker = worker_of([transport.input(), transport.output(), turns])
        async with running(worker):
            notice = TTSAudioRawFrame(bytes(80000), 8000, 1)
            notice.interruptible = False
            await worker.queue_frame(notice)
            await far_end.wait_heard(0.5)
            before = asyncio.get_running_loop().time()
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.1)
            assert [at - before < 0.02 for at, _ in turns.seen] == [True, True]
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.1)
            assert len(turns.times(InterruptionFrame)) == 2


async def test_what_is_said_while_an_interruption_is_handled_is_heard() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        output = transport.output()
        worker = worker_of([transport.input(), output])

        @output.event_handler("on_after_process_frame")
        async def on_after_process_frame(output: FrameProcessor, frame: Frame) -> None:
            if isinstance(frame, InterruptionFrame):
                await output.queue_frame(OutputAudioRawFrame(b"\x10" * 320, 8000, 1))

        async with running(worker):
            await worker.queue_frame(InterruptionFrame())
            await far_end.wait_heard(0.02)


@pytest.mark.parametrize("pushes", [True, False])
@pytest.mark.parametrize("lead", [0.2, 600.0])
async def test_whenever_it_is_interrupted_nothing_old_is_heard_and_nothing_new_is_lost(
    lead: float, pushes: bool
) -> None:
    rnd = random.Random(4)
    for _ in range(25):
        async with open_session(pushes=pushes) as (session, far_end):
            transport = CallTransport(session, lead=lead)
            says, turns = Passing(), Passing(BotStartedSpeakingFrame, BotStoppedSpeakingFrame)
            worker = worker_of([transport.input(), says, transport.output(), turns])
            async with running(worker):
                for answer in range(1, 8):
                    sound, pieces = (4000 * answer).to_bytes(2, "little") * 8 * rnd.choice([20, 40, 100, 1000]), 8
                    for _ in range(pieces):
                        await says.push_frame(TTSAudioRawFrame(sound, 8000, 1))
                    whole = pieces * len(sound) / 16000
                    await asyncio.sleep(rnd.choice([0, rnd.random() * whole]))
                    if rnd.random() < 0.5:
                        await worker.queue_frame(InterruptionFrame())
                    else:
                        await says.broadcast_interruption()
                    await asyncio.sleep(rnd.choice([0, 0.001, 0.05]))
                await asyncio.sleep(0.5)
                before = len(far_end.heard)
                for _ in range(5):
                    await says.push_frame(TTSAudioRawFrame(b"\xe8\x03" * 800, 8000, 1))
                await asyncio.sleep(1)
                assert len(far_end.heard) - before == 4000
                order = [code for code, _ in itertools.groupby(far_end.heard)]
                assert len(order) == len(set(order)), "an answer that was heard again after the next one"
                kinds = [type(frame) for _, frame in turns.seen]
                assert all(a is not b for a, b in itertools.pairwise(kinds))
