"""Keys both ways."""

from __future__ import annotations

import asyncio
import logging

import pytest
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    ErrorFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputDTMFFrame,
    OutputDTMFUrgentFrame,
)

from anycarrier import Call
from anycarrier.audio import dtmf_tones
from anycarrier.errors import UnsupportedOperation
from anycarrier.testing.session import open_session
from anycarrier_pipecat import CallTransport
from frameworks.pipecat.bots import Passing, running, worker_of

TWENTY = "123456789*0#98765432"


async def test_every_key_of_the_caller_is_a_frame_in_order() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        keys = Passing(InputDTMFFrame)
        async with running(worker_of([transport.input(), keys, transport.output()])):
            await far_end.press(TWENTY)
            await asyncio.sleep(0.1)
            pressed = [frame.button for _, frame in keys.seen if isinstance(frame, InputDTMFFrame)]
            assert pressed == [KeypadEntry(key) for key in TWENTY]


async def test_the_keys_that_pipecat_lacks_are_dropped_with_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        keys = Passing(InputDTMFFrame)
        async with running(worker_of([transport.input(), keys, transport.output()])):
            await far_end.press("1A2B3C4D5")
            await asyncio.sleep(0.1)
            pressed = [frame.button for _, frame in keys.seen if isinstance(frame, InputDTMFFrame)]
            assert "".join(pressed) == "12345"
    told = [record for record in caplog.records if record.name == "anycarrier_pipecat"]
    assert [record.levelno for record in told] == [logging.WARNING] * 4
    assert all(f"key {key} dropped" in record.getMessage() for key, record in zip("ABCD", told, strict=True))


@pytest.mark.parametrize("kind", [OutputDTMFFrame, OutputDTMFUrgentFrame])
async def test_the_bots_keys_are_pressed_in_one_call(kind: type[OutputDTMFFrame]) -> None:
    asked: list[str] = []
    async with open_session() as (session, far_end):
        send_digits = far_end.control.send_digits

        async def noted(call: Call | str, digits: str) -> None:
            asked.append(digits)
            await send_digits(call, digits)

        far_end.control.send_digits = noted  # type: ignore[method-assign]
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker):
            await worker.queue_frame(kind.from_string(TWENTY))
            await worker.queue_frame(kind(button=KeypadEntry.POUND))
            await asyncio.sleep(0.1)
    assert asked == [TWENTY, "#"]


async def test_queued_keys_wait_for_the_speech_before_them_and_urgent_ones_do_not() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker):
            await worker.queue_frame(OutputAudioRawFrame(bytes(16000), 8000, 1))
            await worker.queue_frame(OutputDTMFFrame.from_string("42"))
            await worker.queue_frame(OutputDTMFUrgentFrame.from_string("7"))
            await far_end.wait_heard(0.1)
            assert far_end.control.digits == "7"
            await far_end.wait_heard(0.9)
            assert far_end.control.digits == "7"
            await far_end.wait_heard(1.0)
            await asyncio.sleep(0.02)
            assert far_end.control.digits == "742"


async def test_keys_sent_as_tones_are_not_cut_by_who_answers_them() -> None:
    async with open_session() as (session, far_end):

        async def as_tones(call: Call | str, digits: str) -> None:
            await session.send_audio(dtmf_tones(digits))

        far_end.control.send_digits = as_tones  # type: ignore[method-assign]
        transport = CallTransport(session)
        worker = worker_of([transport.input(), transport.output()])
        async with running(worker):
            await worker.queue_frame(OutputDTMFFrame.from_string(TWENTY))
            await far_end.wait_heard(0.5)
            await worker.queue_frame(InterruptionFrame())
            await asyncio.sleep(5)
            assert far_end.heard == dtmf_tones(TWENTY)


async def test_keys_that_are_refused_are_an_error_frame_and_the_bot_talks_on() -> None:
    async with open_session() as (session, far_end):

        async def refused(call: Call | str, digits: str) -> None:
            raise UnsupportedOperation("scripted", "send_digits")

        far_end.control.send_digits = refused  # type: ignore[method-assign]
        transport = CallTransport(session)
        errors = Passing(ErrorFrame)
        worker = worker_of([errors, transport.input(), transport.output()])
        async with running(worker):
            await worker.queue_frame(OutputDTMFFrame.from_string("1"))
            await worker.queue_frame(OutputAudioRawFrame(bytes(1600), 8000, 1))
            await far_end.wait_heard(0.1)
            assert "send_digits" in str(errors.seen[0][1])
