"""The audio input alone, with a scripted far end: what the framework gets of the call, and what goes elsewhere."""

from __future__ import annotations

import asyncio

from anycarrier import DigitPressed
from anycarrier.audio import L16_8K, pcmu_to_pcm16
from anycarrier.testing.session import open_session
from anycarrier_livekit import CallAudioInput


async def test_the_callers_audio_comes_as_16_bit_samples_until_the_stream_ends() -> None:
    spoken = bytes(range(256)) * 5
    async with open_session() as (session, far_end):
        await far_end.say(spoken)
        await far_end.hang_up()
        frames = [frame async for frame in CallAudioInput(session)]
    assert b"".join(bytes(frame.data) for frame in frames) == pcmu_to_pcm16(spoken)
    assert {(frame.sample_rate, frame.num_channels, frame.samples_per_channel) for frame in frames} == {(8000, 1, 160)}


async def test_half_a_sample_is_no_frame() -> None:
    """A carrier may cut a sample in two."""
    async with open_session(format=L16_8K) as (session, far_end):
        for byte in b"\x01\x02\x03\x04":
            far_end.send(bytes([byte]))
        await far_end.hang_up()
        frames = [bytes(frame.data) async for frame in CallAudioInput(session)]
    assert frames == [b"\x02\x01", b"\x04\x03"]


async def test_a_callback_that_raises_is_the_loops_affair_and_the_audio_goes_on() -> None:
    events: list[object] = []
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context["exception"]))

    def on_event(event: object) -> None:
        events.append(event)
        raise ValueError

    async with open_session() as (session, far_end):
        await far_end.press("1")
        await far_end.say(bytes(160))
        await far_end.hang_up()
        frames = [frame async for frame in CallAudioInput(session, on_event=on_event)]
    assert [type(event) for event in events] == [DigitPressed]
    assert len(frames) == 1 and len(raised) == 1


async def test_events_for_nobody_are_passed_over() -> None:
    async with open_session() as (session, far_end):
        await far_end.press("1")
        await far_end.say(bytes(160))
        await far_end.hang_up()
        assert len([frame async for frame in CallAudioInput(session)]) == 1
