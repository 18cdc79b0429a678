"""Audio sent in another format than the carrier's: what the conversion keeps back is sent, or dropped, in time."""

from __future__ import annotations

import asyncio
import base64
import math
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier import AudioFormat, MediaSession, PacedVoice
from anycarrier.audio import L16_8K, PCM16_8K, PCM16_16K, PCMU_8K, Transcoder, swap16
from anycarrier.testing.session import ScriptedFarEnd, open_session
from virtual_time import ExactLoop, virtually

PCM16_24K = AudioFormat("PCM16", 24_000)

Scene = Callable[[MediaSession, ScriptedFarEnd], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["pulled", "pushed"])
def pushes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def play(scene: Scene, pushes: bool, **options: Any) -> None:
    async def run() -> None:
        async with open_session(pushes=pushes, **options) as (session, far_end):
            await scene(session, far_end)

    virtually(run(), ExactLoop)


def tone(seconds: float, rate: int) -> bytes:
    turn = 2 * math.pi * 400 / rate
    return array("h", [round(8000 * math.sin(turn * n)) for n in range(round(seconds * rate))]).tobytes()


def converted(audio: bytes, source: AudioFormat, target: AudioFormat) -> bytes:
    transcoder = Transcoder(source, target)
    return transcoder.convert(audio) + transcoder.flush()


def test_half_a_sample_of_what_was_cleared_does_not_turn_what_follows_into_noise(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        await session.send_audio(tone(0.1, 8000)[:-1])
        await session.clear()
        await session.send_audio(tone(0.5, 8000))
        await session.drain()
        assert swap16(far_end.heard) == tone(0.5, 8000)

    play(scene, pushes, format=PCM16_8K, carrier_format=L16_8K)


def test_nothing_of_what_was_cleared_is_heard_after_the_clear(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        await session.send_audio(tone(0.1, 24_000))
        session.clear_now()
        await session.send_audio(bytes(4800))
        await session.drain()
        assert far_end.heard == bytes(1600)

    play(scene, pushes, format=PCM16_24K, carrier_format=PCM16_8K)


@pytest.mark.parametrize("marks", ["echo", "none"])
@pytest.mark.parametrize("late", [0.0, 1.0], ids=["at once", "after it was heard"])
@pytest.mark.parametrize("how", ["drain", "flush", "done"])
def test_the_end_of_what_was_said_is_heard(pushes: bool, how: str, late: float, marks: str) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio = tone(0.6, 24_000)
        voice = PacedVoice(session, lead=1.0)
        await (voice.say(audio) if how == "done" else session.send_audio(audio))
        await asyncio.sleep(late)
        await {"drain": session.drain, "flush": session.flush, "done": voice.done}[how]()
        await asyncio.sleep(1)
        assert far_end.heard == converted(audio, PCM16_24K, PCM16_8K)

    play(scene, pushes, format=PCM16_24K, carrier_format=PCM16_8K, marks=marks)


def test_a_mark_in_running_speech_is_not_heard(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio = tone(0.2, 24_000)
        await session.send_audio(audio[:4800])
        await session.mark("half")
        await session.send_audio(audio[4800:])
        await session.drain()
        assert far_end.heard == converted(audio, PCM16_24K, PCM16_8K)

    play(scene, pushes, format=PCM16_24K, carrier_format=PCM16_8K)


def test_what_waits_to_be_sent_while_the_format_changes_is_in_the_one_it_was_given_in() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        first, waiting = tone(0.5, 8000), tone(0.5, 8000)
        sending = [asyncio.ensure_future(session.send_audio(audio)) for audio in (first, waiting)]
        await asyncio.sleep(0)
        session.set_format(PCM16_16K)
        await asyncio.gather(*sending)
        await session.send_audio(tone(0.5, 16_000))
        await session.drain()
        heard = array("h", far_end.heard)
        assert len(heard) == pytest.approx(12_000, abs=40) and session.sent == pytest.approx(1.5, abs=0.01)
        assert max(map(abs, heard)) < 8500, "as loud as it was said"

    play(scene, False, format=PCM16_8K)


def test_of_a_cancelled_say_no_half_sample_is_left() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice = PacedVoice(session)
        given_up = asyncio.ensure_future(voice.say(tone(1, 8000)[:-1]))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.sleep(1)
        before = len(far_end.heard)
        await voice.say(tone(0.1, 8000))
        await voice.done()
        assert far_end.heard[before:] == tone(0.1, 8000)

    for pushes in (False, True):
        play(scene, pushes, format=PCM16_8K)


def test_base64_and_plain_audio_are_heard_in_order_whatever_the_carrier_takes(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        audio = tone(0.3, 24_000)
        for at in range(0, len(audio), 1001):
            piece = audio[at : at + 1001]
            if at % 2:
                await session.send_audio(piece)
            else:
                await session.send_base64(base64.b64encode(piece).decode())
        await session.drain()
        assert far_end.heard == converted(audio, PCM16_24K, PCMU_8K)

    play(scene, pushes, format=PCM16_24K, carrier_format=PCMU_8K)


def test_who_waits_for_the_end_of_one_thing_does_not_tear_it_from_the_next(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        voice, audio = PacedVoice(session), tone(1, 24_000)
        first = asyncio.ensure_future(voice.say(audio[:24_000]))
        done = asyncio.ensure_future(voice.done())
        await asyncio.sleep(0)
        second = asyncio.ensure_future(voice.say(audio[24_000:]))
        await asyncio.gather(first, done, second)
        await voice.done()
        await asyncio.sleep(0.1)  # marks count what the conversion keeps back as sent: 2 ms
        assert far_end.heard == converted(audio, PCM16_24K, PCM16_8K)

    play(scene, pushes, format=PCM16_24K, carrier_format=PCM16_8K)


def test_base64_that_is_received_follows_the_format(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        sizes: list[int] = []
        session.receive_base64(lambda text: sizes.append(len(base64.b64decode(text))))
        for format in (PCMU_8K, PCM16_8K, PCMU_8K):
            session.set_format(format)
            far_end.send(bytes(160))
            await asyncio.sleep(0.1)
        assert sizes == [160, 320, 160]

    play(scene, pushes, format=PCMU_8K)


def test_audio_given_as_base64_makes_room_for_what_comes_after_it(pushes: bool) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        for _ in range(2):
            for _ in range(400):
                far_end.send(bytes(160))
            await asyncio.sleep(0.1)
            session.receive_base64(lambda text: None)
            session.receive_base64(None)
        assert session.dropped_frames == 0

    play(scene, pushes, format=PCMU_8K)


def test_relayed_audio_is_not_sent_too_far_ahead() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        output = session.stream.output
        text = base64.b64encode(bytes(4000)).decode()
        assert [output.send_now(bytes(4000), text, 0.8) for _ in range(4)] == [True, True, False, False]
        assert session.sent == 1.0

    play(scene, True, format=PCMU_8K)
