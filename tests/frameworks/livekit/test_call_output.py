"""The audio output alone, with a scripted far end: what it plays, and what it reports of it."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from array import array
from collections.abc import AsyncIterator

import pytest
from livekit import rtc
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent

from anycarrier.audio import PCM16_8K
from anycarrier.testing.session import Marks, ScriptedFarEnd, open_session
from anycarrier_livekit import CallAudioOutput

BYTES_PER_SECOND = 16000


def pattern(seconds: float, begins: int = 0) -> bytes:
    """Samples that count, so that no two seconds of it are alike."""
    return array("h", [(begins + n) % 32000 for n in range(round(seconds * 8000))]).tobytes()


def frame(audio: bytes, rate: int = 8000, channels: int = 1) -> rtc.AudioFrame:
    return rtc.AudioFrame(audio, rate, channels, len(audio) // 2 // channels)


class Reports:
    """What an output says of its playback."""

    def __init__(self, output: CallAudioOutput) -> None:
        self.started: list[PlaybackStartedEvent] = []
        self.finished: list[PlaybackFinishedEvent] = []
        output.on("playback_started", self.started.append)
        output.on("playback_finished", self.finished.append)


async def say(output: CallAudioOutput, audio: bytes, *, flush: bool = True) -> None:
    """Capture it at once, in frames of 20 ms."""
    for at in range(0, len(audio), 320):
        await output.capture_frame(frame(audio[at : at + 320]))
    if flush:
        output.flush()


async def test_a_segment_is_reported_when_it_was_heard() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        await say(output, pattern(3))
        await asyncio.sleep(2.9)
        assert len(reports.started) == 1 and not reports.finished
        event = await output.wait_for_playout()
        assert far_end.heard == pattern(3)
        assert (event.playback_position, event.interrupted) == (3.0, False)
        assert len(reports.finished) == 1


async def test_audio_that_comes_little_by_little_is_played_as_it_comes() -> None:
    """By one task; and the flush, which may come after all was heard, ends the segment."""
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        for count in range(1, 4):
            await say(output, pattern(0.1), flush=False)
            await asyncio.sleep(0.5)
            assert far_end.heard == pattern(0.1) * count
        assert len(reports.started) == 1 and not reports.finished
        output.flush()
        async with asyncio.timeout(0.1):
            event = await output.wait_for_playout()
        assert event.playback_position == pytest.approx(0.3)


async def test_segments_that_follow_each_other_are_played_by_one_task() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        for seconds in (0.5, 0.3, 0.2):
            await say(output, pattern(seconds))
        assert [task.get_name() for task in asyncio.all_tasks()].count("play to the caller") == 1
        await output.wait_for_playout()
        assert far_end.heard == pattern(0.5) + pattern(0.3) + pattern(0.2)
        assert [event.playback_position for event in reports.finished] == [0.5, 0.3, 0.2]


async def test_what_becomes_of_a_frame_after_its_capture_is_not_heard() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reused = rtc.AudioFrame(bytearray(pattern(0.1)), 8000, 1, 800)
        await output.capture_frame(reused)
        reused.data[0] = 99
        output.flush()
        await output.wait_for_playout()
        assert far_end.heard == pattern(0.1)


async def test_behind_other_audio_of_the_call_a_segment_counts_from_where_it_is_heard() -> None:
    async with open_session(format=PCM16_8K) as (session, _):
        output = CallAudioOutput(session)
        reports = Reports(output)
        await session.send_audio(pattern(1))
        now = time.time()
        await say(output, pattern(3))
        await asyncio.sleep(1.5)
        output.clear_buffer()
        event = await output.wait_for_playout()
        assert reports.started[0].created_at == pytest.approx(now + 1, abs=0.06)
        assert event.playback_position == pytest.approx(0.5, abs=0.06)


async def test_a_segment_is_not_heard_further_than_it_goes() -> None:
    """Though something else was heard behind it."""
    async with open_session(format=PCM16_8K) as (session, _):
        output = CallAudioOutput(session)
        await say(output, pattern(0.5), flush=False)
        await asyncio.sleep(0.6)
        await session.send_audio(pattern(1))
        await asyncio.sleep(0.5)
        output.clear_buffer()
        event = await output.wait_for_playout()
        assert (event.playback_position, event.interrupted) == (0.5, True)


async def test_a_segment_is_not_sent_further_ahead_than_the_lead() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session, lead=0.5)
        await say(output, pattern(5))
        for _ in range(20):
            await asyncio.sleep(0.2)
            assert 0.3 < far_end.waiting <= 0.52
        output.clear_buffer()


@pytest.mark.parametrize("pushes", [True, False])
async def test_clearing_stops_at_once_and_reports_what_was_heard(pushes: bool) -> None:
    async with open_session(format=PCM16_8K, pushes=pushes) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        await say(output, pattern(3))
        await asyncio.sleep(1.0)
        cleared = asyncio.get_running_loop().time()
        output.clear_buffer()
        assert not reports.finished, "the framework is in the middle of its clean-up"
        event = await output.wait_for_playout()
        await asyncio.sleep(1)
        assert far_end.cleared == [pytest.approx(cleared, abs=0.001)]
        assert event.interrupted
        assert event.playback_position == pytest.approx(far_end.heard_seconds, abs=0.06)
        assert far_end.heard == pattern(3)[: len(far_end.heard)] and 0.9 < far_end.heard_seconds < 1.1
        assert len(reports.finished) == 1


async def test_the_position_counts_from_the_segment_not_from_the_call() -> None:
    async with open_session(format=PCM16_8K) as (session, _):
        output = CallAudioOutput(session)
        await say(output, pattern(2))
        await output.wait_for_playout()
        await say(output, pattern(2))
        await asyncio.sleep(0.5)
        output.clear_buffer()
        event = await output.wait_for_playout()
        assert event.playback_position == pytest.approx(0.5, abs=0.06)


async def test_clearing_before_the_first_byte_is_reported_too() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        await say(output, pattern(1))
        output.clear_buffer()
        event = await output.wait_for_playout()
        assert (event.playback_position, event.interrupted) == (0.0, True)
        assert not reports.started and far_end.heard == b""


async def test_what_comes_after_a_clear_and_before_the_flush_is_not_played() -> None:
    """The rest of an utterance whose source was not quick enough to stop."""
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        await say(output, pattern(0.5), flush=False)
        await asyncio.sleep(0.2)
        output.clear_buffer()
        await say(output, pattern(0.5))
        await asyncio.sleep(1)
        assert far_end.heard_seconds < 0.3
        await say(output, pattern(0.1))
        await output.wait_for_playout()
        assert far_end.heard.endswith(pattern(0.1))
        assert len(reports.finished) == output.captured_playout_segments == 2


def seam(heard: bytes, said: bytes) -> float:
    """Seconds missing or doubled in the middle; both ends must be there, but for as much."""
    short = min(len(heard), len(said))
    start = next((n for n in range(short) if heard[n] != said[n]), short)
    end = next((n for n in range(1, short + 1) if heard[-n] != said[-n]), short + 1) - 1
    return max(abs(len(said) - len(heard)), short - start - end) / BYTES_PER_SECOND


async def test_a_pause_stops_the_ear_and_resuming_loses_nothing() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        assert output.can_pause, "the framework interrupts where it cannot"
        reports = Reports(output)
        await say(output, pattern(3))
        await asyncio.sleep(1.0)
        output.pause()
        await asyncio.sleep(0.001)
        heard = session.heard
        await asyncio.sleep(0.6)
        assert session.heard == heard and not reports.finished
        output.resume()
        event = await output.wait_for_playout()
        assert (event.playback_position, event.interrupted) == (3.0, False)
        assert len(reports.started) == 1
        assert seam(far_end.heard, pattern(3)) <= 0.005


async def test_a_segment_captured_while_paused_waits_without_having_started() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        reports = Reports(output)
        output.pause()
        await say(output, pattern(1))
        await asyncio.sleep(2)
        assert far_end.heard == b"" and not reports.started
        output.resume()
        await output.wait_for_playout()
        assert far_end.heard == pattern(1) and len(reports.started) == 1


async def test_clearing_while_paused_reports_what_was_heard_before() -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        await say(output, pattern(3))
        await asyncio.sleep(1.0)
        output.pause()
        await asyncio.sleep(1.0)
        output.clear_buffer()
        event = await output.wait_for_playout()
        output.resume()
        await asyncio.sleep(1)
        assert event.interrupted and event.playback_position == pytest.approx(1.0, abs=0.06)
        assert far_end.heard_seconds == pytest.approx(event.playback_position, abs=0.06), "the tail is not sent"


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("seconds", [3, 1.1], ids=["more to be sent", "all sent"])
async def test_a_hang_up_reports_what_was_heard(flushed: bool, seconds: float) -> None:
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        await say(output, pattern(seconds), flush=flushed)
        await asyncio.sleep(1.0)
        await far_end.hang_up()
        async with asyncio.timeout(0.1):
            event = await output.wait_for_playout()
        assert event.interrupted and event.playback_position == pytest.approx(1.0, abs=0.06)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_said_after_the_end_is_reported_and_not_heard() -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session)
        await far_end.hang_up()
        await session.wait_stopped()
        await say(output, pattern(1))
        async with asyncio.timeout(0.1):
            event = await output.wait_for_playout()
        output.pause()
        output.clear_buffer()
        output.resume()
        assert (event.playback_position, event.interrupted) == (0.0, True)
    await asyncio.sleep(0.1)
    gc.collect()  # a task that failed is told of with its end
    assert failed == []


@pytest.mark.parametrize("marks", ["echo", "lost", "none"])
async def test_all_is_heard_and_reported_whatever_becomes_of_marks(marks: Marks) -> None:
    async with open_session(format=PCM16_8K, marks=marks) as (session, far_end):
        output = CallAudioOutput(session)
        for _ in range(3):
            await say(output, pattern(4))
            async with asyncio.timeout(8):
                await output.wait_for_playout()
        assert far_end.heard == 3 * pattern(4)


async def test_frames_of_another_rate_or_more_channels_are_refused_and_not_counted() -> None:
    async with open_session(format=PCM16_8K) as (session, _):
        output = CallAudioOutput(session)
        for wrong in (frame(pattern(0.02), rate=24000), frame(pattern(0.02), channels=2)):
            with pytest.raises(ValueError, match="resample first"):
                await output.capture_frame(wrong)
        assert output.captured_playout_segments == 0


async def test_a_call_in_g711_is_converted() -> None:
    async with open_session() as (session, far_end):
        output = CallAudioOutput(session, rate=24000)
        await output.capture_frame(frame(pattern(3), rate=24000))
        output.flush()
        await output.wait_for_playout()
        assert 1.0 <= far_end.heard_seconds < 1.03, "nor is the end kept back"


async def test_nothing_of_what_was_cleared_is_heard_in_the_next_segment() -> None:
    """Not even what a resampler had kept of it."""
    async with open_session(format=PCM16_8K) as (session, far_end):
        output = CallAudioOutput(session, rate=24000)
        await output.capture_frame(frame(b"\xff\x7f" * 2400, rate=24000))
        await asyncio.sleep(0.05)
        output.clear_buffer()
        output.flush()
        before = len(far_end.heard)
        await output.capture_frame(frame(bytes(4800), rate=24000))
        output.flush()
        await output.wait_for_playout()
        heard = far_end.heard[before:]
        assert len(heard) >= 1600 and not any(heard[-1600:])


SEQUENCES = 2000


async def test_every_captured_segment_is_finished_exactly_once() -> None:
    """What is reported adds up to what was heard, and no task is left."""
    chance = random.Random(20261129)
    for number in range(SEQUENCES):
        async with open_session(format=PCM16_8K, pushes=number % 2 == 0) as (session, far_end):
            output = CallAudioOutput(session)
            reports = Reports(output)
            done = [step async for step in play_at_random(chance, output, far_end)]
            async with asyncio.timeout(60):
                await output.wait_for_playout()
            await asyncio.sleep(0.1)
            positions = [event.playback_position for event in reports.finished]
            assert len(positions) == output.captured_playout_segments, done
            assert sum(positions) == pytest.approx(far_end.heard_seconds, abs=0.06), done
            assert len(reports.started) <= len(positions), done
        assert asyncio.all_tasks() == {asyncio.current_task()}, done


async def play_at_random(
    chance: random.Random, output: CallAudioOutput, far_end: ScriptedFarEnd
) -> AsyncIterator[str]:
    """Step by step; ends so that all that was captured can be heard."""
    said = 0
    steps = {"say": 8, "flush": 4, "wait": 6, "clear": 3, "pause": 3, "resume": 3, "hang up": 0.5}
    for step in chance.choices(list(steps), list(steps.values()), k=chance.randrange(1, 16)):
        match step:
            case "say":
                seconds = chance.choice([0.01, 0.02, 0.05, 0.31, 1.0])
                await output.capture_frame(frame(pattern(seconds, said)))
                said += round(seconds * 8000)
            case "flush":
                output.flush()
            case "wait":
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.05, 0.2, 0.7]))
            case "clear":
                output.clear_buffer()
            case "pause":
                output.pause()
            case "resume":
                output.resume()
            case "hang up":
                await far_end.hang_up()
        yield step
    output.flush()
    output.resume()
