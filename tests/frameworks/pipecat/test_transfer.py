"""The caller is handed on, and the pipeline's end does not end their call."""

from __future__ import annotations

import asyncio

import pytest
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSSpeakFrame,
)

from anycarrier import Call, EndReason, TransferProgress
from anycarrier.errors import PermissionDenied, StoreUnavailable
from anycarrier.testing.session import open_session
from anycarrier_pipecat import CallTransport, TransferCallFrame
from frameworks.pipecat.bots import WORD, Passing, Voice, cancelling_when_gone, running, worker_of

TARGET = "+14155550199"


@pytest.mark.parametrize("ending", [EndFrame, CancelFrame])
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "still ringing"])
@pytest.mark.parametrize("how", ["frame", "method"])
async def test_the_call_lives_on_after_the_pipeline(how: str, answered: bool, ending: type[Frame]) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        told: list[TransferProgress] = []

        @transport.event_handler("on_transfer")
        async def on_transfer(transport: CallTransport, event: TransferProgress) -> None:
            told.append(event)

        worker = worker_of([transport.input(), Voice(), transport.output()])
        cancelling_when_gone(transport, worker)
        async with running(worker) as task:
            await worker.queue_frame(TTSSpeakFrame("please hold"))
            if how == "frame":
                await worker.queue_frame(TransferCallFrame(TARGET))
            else:
                await far_end.wait_heard(2 * WORD)
                await transport.transfer(TARGET)
            await asyncio.sleep(1)
            assert far_end.control.transfers == [TARGET]
            assert far_end.heard_seconds == 2 * WORD
            if answered:
                far_end.answer_transfer()
            else:
                await worker.queue_frame(ending())
            async with asyncio.timeout(3):
                await task
            assert [event.status for event in told] == (["answered"] if answered else [])
        assert not far_end.call.ended
        assert EndReason.API_STOP not in far_end.control.hang_ups


async def test_a_transfer_waits_for_the_speech_before_it_and_survives_an_interruption() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), Voice(), transport.output()])
        async with running(worker):
            await worker.queue_frames([TTSSpeakFrame("I will put you through to"), TransferCallFrame(TARGET)])
            await far_end.wait_heard(1.0)
            assert far_end.control.transfers == []
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(0.5)
            assert far_end.control.transfers == [TARGET]
            assert far_end.heard_seconds < 1.1


async def test_a_transfer_by_the_method_waits_for_what_was_sent() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, lead=600)
        async with running(worker := worker_of([transport.input(), transport.output()])):
            await worker.queue_frame(OutputAudioRawFrame(bytes(16000), 8000, 1))
            await far_end.wait_heard(0.2)
            await transport.transfer(TARGET)
            assert far_end.control.transfers == [TARGET]
            assert far_end.heard_seconds == 1.0


@pytest.mark.parametrize(
    "refusal",
    [PermissionDenied("scripted", "transfer", "not allowed", status=403), StoreUnavailable("away: not allowed"),
     ValueError("a number that is not allowed")],
    ids=lambda refusal: type(refusal).__name__,
)  # fmt: skip
async def test_a_transfer_that_is_refused_is_an_error_frame_and_the_bot_talks_on(refusal: Exception) -> None:
    async with open_session() as (session, far_end):

        async def refused(call: Call | str, to: str) -> None:
            raise refusal

        far_end.control.transfer = refused  # type: ignore[method-assign]
        transport = CallTransport(session)
        errors = Passing(ErrorFrame)
        worker = worker_of([errors, transport.input(), transport.output()])
        async with running(worker) as task:
            await worker.queue_frame(TransferCallFrame(TARGET))
            await worker.queue_frame(OutputAudioRawFrame(bytes(1600), 8000, 1))
            await far_end.wait_heard(0.1)
            assert "not allowed" in str(errors.seen[0][1])
            assert transport.output().is_usable
            with pytest.raises(type(refusal)):
                await transport.transfer(TARGET)
            await worker.queue_frame(EndFrame())
            await task
        assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]


async def test_a_transfer_that_fails_makes_the_call_the_bots_again() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        told: list[str] = []

        @transport.event_handler("on_transfer")
        async def on_transfer(transport: CallTransport, event: TransferProgress) -> None:
            told.append(event.status)

        worker = worker_of([transport.input(), transport.output()])
        async with running(worker) as task:
            await transport.transfer(TARGET)
            far_end.fail_transfer()
            await worker.queue_frame(OutputAudioRawFrame(bytes(1600), 8000, 1))
            await far_end.wait_heard(0.1)
            assert told == ["failed"]
            await worker.queue_frame(EndFrame())
            await task
        assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]
