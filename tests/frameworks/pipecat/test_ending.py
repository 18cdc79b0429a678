"""How a call ends: by the pipeline, by the caller, and by what goes wrong."""

from __future__ import annotations

import asyncio

import pytest
from loguru import logger
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    EndWorkerFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    StopFrame,
    TTSSpeakFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from anycarrier import Call, EndReason
from anycarrier.errors import ProviderUnavailable, StoreUnavailable
from anycarrier.testing.session import Marks, ScriptedFarEnd, open_session
from anycarrier_pipecat import CallTransport, default_params
from frameworks.pipecat.bots import (
    WORD,
    Echo,
    Passing,
    Voice,
    cancelling_when_gone,
    echo_worker,
    running,
    worker_of,
)


def when_hung_up(far_end: ScriptedFarEnd) -> list[float]:
    """The times at which the session asked for the call's end."""
    times: list[float] = []
    hang_up = far_end.control.hang_up

    async def noted(call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        times.append(asyncio.get_running_loop().time())
        await hang_up(call, reason)

    far_end.control.hang_up = noted  # type: ignore[method-assign]
    return times


@pytest.mark.parametrize("marks", ["echo", "none"])
@pytest.mark.parametrize("lead", [0.2, 600.0])
async def test_an_end_frame_lets_all_be_heard_then_hangs_up(lead: float, marks: Marks) -> None:
    async with open_session(marks=marks) as (session, far_end):
        hung_up = when_hung_up(far_end)
        transport = CallTransport(session, lead=lead)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker) as task:
            await worker.queue_frames([TTSSpeakFrame("one two three four five six seven eight nine ten"), EndFrame()])
            async with asyncio.timeout(60):
                await task
        [piece] = far_end.heard_at
        assert len(piece.audio) == 10 * WORD * 8000
        assert 0 <= hung_up[0] - (piece.at + 10 * WORD) < 0.3
        assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]


@pytest.mark.parametrize("seconds", [2, 12], ids=["pipecat's own default", "longer than its patience with a peer"])
async def test_silence_at_the_end_is_sent_only_when_asked_for_and_is_no_dead_peer(seconds: int) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, default_params(audio_out_end_silence_secs=seconds))
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker) as task:
            await worker.queue_frame(EndFrame())
            await task
        assert far_end.heard_seconds == seconds
        assert transport.output().is_usable


async def test_a_cancel_frame_hangs_up_at_once() -> None:
    async with open_session() as (session, far_end):
        hung_up = when_hung_up(far_end)
        transport = CallTransport(session, lead=5)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        told = cancelling_when_gone(transport, worker)
        async with running(worker) as task:
            await worker.queue_frame(TTSSpeakFrame("one two three four five six seven eight nine ten"))
            await far_end.wait_heard(1.0)
            before = asyncio.get_running_loop().time()
            await worker.queue_frame(CancelFrame())
            await task
        assert hung_up[0] - before < 0.1
        assert len(far_end.cleared) == 1
        assert far_end.heard_seconds < 1.1
        assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]
        assert told == [], "the bot has ended the call itself"


def hang_up_slowly(far_end: ScriptedFarEnd) -> list[EndReason]:
    """A carrier that takes half a second for it; what it was asked, as soon as it was."""
    asked: list[EndReason] = []
    hang_up = far_end.control.hang_up

    async def slowly(call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        asked.append(reason)
        await asyncio.sleep(0.5)
        await hang_up(call, reason)

    far_end.control.hang_up = slowly  # type: ignore[method-assign]
    return asked


async def test_a_canceled_pipeline_asks_for_the_hang_up_once_and_waits_for_it() -> None:
    async with open_session() as (session, far_end):
        asked = hang_up_slowly(far_end)
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker) as task:
            await asyncio.sleep(0.1)  # pipecat only cleans up what is canceled as it starts
            await worker.cancel()
            await task
            assert asked == [EndReason.AGENT_HANGUP]
            assert session.ended


async def test_a_hang_up_is_not_given_up_with_the_task_that_waits_for_it() -> None:
    async with open_session() as (session, far_end):
        asked = hang_up_slowly(far_end)
        transport = CallTransport(session)
        async with running(worker_of([transport.input(), transport.output()])):
            waiting = asyncio.create_task(transport.output().queue_frame(CancelFrame()))
            await asyncio.sleep(0.1)
            assert asked == [EndReason.AGENT_HANGUP], "also where the frame has not come by way of the input"
            waiting.cancel()
            await asyncio.sleep(1)
            assert session.ended


async def test_a_stop_frame_keeps_the_call() -> None:
    async with open_session() as (session, far_end):
        before = asyncio.all_tasks()
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker) as task:
            await worker.queue_frame(StopFrame())
            await task
        assert not session.ended
        assert far_end.control.hang_ups == []
        await transport.input().cleanup()
        await transport.output().cleanup()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before, "a cleanup is enough, without another frame"


@pytest.mark.parametrize("moment", ["silence", "speech", "the end"])
async def test_the_caller_hangs_up_and_the_bot_is_told_once(moment: str) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        told = cancelling_when_gone(transport, worker)
        async with running(worker) as task:
            if moment != "silence":
                await worker.queue_frame(TTSSpeakFrame("one two three four five six seven eight nine ten"))
                await far_end.wait_heard(0.5)
            if moment == "the end":
                await worker.queue_frame(EndFrame())
                await far_end.wait_heard(0.7)
            gone = asyncio.get_running_loop().time()
            await far_end.hang_up()
            async with asyncio.timeout(3):
                await task
        if moment == "the end":
            assert told == [], "the bot has ended the call itself"
        else:
            [(client, at)] = told
            assert client is session and at - gone < 0.1


async def test_the_caller_hangs_up_during_the_last_words_of_a_pipeline_without_processors() -> None:
    """The output has the ``EndFrame`` from the input then, which waits for it."""
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        told = cancelling_when_gone(transport, worker)
        async with running(worker) as task:
            await worker.queue_frames([OutputAudioRawFrame(bytes(32000), 8000, 1), EndFrame()])
            await far_end.wait_heard(0.5)
            await far_end.hang_up()
            async with asyncio.timeout(3):
                await task
    assert told == []


async def test_a_bot_that_does_not_handle_the_hang_up_ends_too() -> None:
    async with open_session() as (session, far_end), running(echo_worker(CallTransport(session))) as task:
        await far_end.say(bytes(800))
        await far_end.hang_up()
        async with asyncio.timeout(3):
            await task


async def test_the_pipelines_end_waits_for_a_handler_that_has_yet_to_save_something() -> None:
    saved = []
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: CallTransport, client: object) -> None:
            await worker.cancel()
            await asyncio.sleep(0.5)
            saved.append(client)

        async with running(worker) as task:
            await far_end.hang_up()
            await task
            assert saved == [session]


async def test_the_bot_hangs_up_by_itself_and_is_told() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = echo_worker(transport)
        told = cancelling_when_gone(transport, worker)
        async with running(worker) as task:
            await session.hang_up(EndReason.AGENT_HANGUP)
            async with asyncio.timeout(3):
                await task
    assert [client for client, _ in told] == [session]


async def test_500_calls_leave_no_task() -> None:
    before = len(asyncio.all_tasks())
    for number in range(500):
        async with open_session(pushes=bool(number % 2)) as (session, far_end):
            transport = CallTransport(session)
            worker = worker_of([transport.input(), Echo(), Voice(), transport.output()])
            cancelling_when_gone(transport, worker)
            async with running(worker) as task:
                await worker.queue_frame(TTSSpeakFrame("one two three"))
                await far_end.wait_heard(0.05 * (number % 15))
                await (far_end.hang_up() if number % 3 else worker.queue_frame(EndWorkerFrame()))
                async with asyncio.timeout(3):
                    await task
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize(
    "failure",
    [ProviderUnavailable("scripted", "hang_up", "no answer"), StoreUnavailable("away")],
    ids=["carrier", "store"],
)
async def test_a_hang_up_that_fails_does_not_hold_up_the_pipeline(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_session() as (session, far_end):

        async def away(call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
            raise failure

        far_end.control.hang_up = away  # type: ignore[method-assign]
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker) as task:
            await worker.queue_frame(EndFrame())
            async with asyncio.timeout(3):
                await task
    assert "was not hung up" in caplog.text


async def test_audio_and_interruptions_after_the_end_are_dropped_quietly() -> None:
    lines: list[str] = []
    logger.add(lines.append, level="ERROR")
    async with open_session() as (session, far_end):
        transport = CallTransport(session)

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(transport: CallTransport, client: object) -> None:
            pass  # has yet to save something

        errors, after = Passing(ErrorFrame), Passing(OutputAudioRawFrame, BotStoppedSpeakingFrame)
        worker = worker_of([errors, transport.input(), Voice(), transport.output(), after])
        async with running(worker):
            await far_end.hang_up()
            await worker.queue_frame(TTSSpeakFrame("one two three"))
            await asyncio.sleep(1)
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.1)
            assert errors.seen == []
            assert after.times(OutputAudioRawFrame) == []
            assert len(after.times(BotStoppedSpeakingFrame)) == 1
    assert lines == []


async def test_a_pipeline_that_is_started_again_goes_on_with_the_call() -> None:
    connected = []
    async with open_session() as (session, far_end):
        transport = CallTransport(session)

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: CallTransport, client: object) -> None:
            connected.append(client)

        processors = [transport.input(), Echo(), transport.output()]
        first = worker_of(processors)
        async with running(first) as task:
            await first.queue_frame(StopFrame())
            await task
        await far_end.say(b"\x30\xb0" * 800)  # nobody listens
        async with running(worker_of(processors)):
            await far_end.say(b"\x20\xa0" * 800)
            await far_end.wait_heard(0.2)
            assert far_end.heard == b"\x20\xa0" * 800
    assert connected == [session]


class Keeps(FrameProcessor):
    """Does not pass the end on, as one that swallows its cancellation."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, CancelFrame):
            await self.push_frame(frame, direction)


async def test_a_processor_that_does_not_let_itself_be_cancelled_does_not_keep_the_call() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Keeps(), transport.output()], cancel_timeout_secs=5)
        async with running(worker):
            await asyncio.sleep(0.1)
            cancelling = asyncio.create_task(worker.cancel())
            await asyncio.sleep(0.1)
            assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]
            await cancelling


async def test_nothing_is_said_after_a_cancel_to_a_caller_who_is_being_transferred() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker) as task:
            await transport.transfer("+14155550199")
            await worker.queue_frame(CancelFrame())
            await asyncio.sleep(0.1)
            assert not session.ended
            assert not await transport.output().write_audio_frame(OutputAudioRawFrame(b"\x10" * 320, 8000, 1))
            await worker.cancel()
            await task
        assert far_end.heard_seconds == 0
