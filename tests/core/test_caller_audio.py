"""The caller's audio in pieces of a length of one's own, against a far end that speaks in real time."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import PCMA_8K, AudioFormat, AudioReceived, CallerAudio, DigitPressed, MediaSession
from anycarrier.audio import PCMU_8K
from anycarrier.errors import ConfigurationError
from anycarrier.testing.session import ScriptedFarEnd, open_session
from virtual_time import play

VOICE = bytes(n % 251 for n in range(8000))


async def take(session: MediaSession, batch: float, pause: float = 0.0) -> list[bytes]:
    """All pieces, each handled for ``pause`` seconds."""
    pieces = []
    with CallerAudio(session, batch) as caller:
        async for piece in caller:
            pieces.append(piece)
            await asyncio.sleep(pause)
    return pieces


@pytest.mark.parametrize(("batch", "size"), [(0.001, 160), (0.02, 160), (0.04, 320), (0.05, 480), (0.1, 800)])
def test_a_piece_is_the_first_that_is_long_enough_and_the_last_is_what_was_left(batch: float, size: int) -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        taking = asyncio.ensure_future(take(session, batch))
        await far_end.say(VOICE[:7840])
        await far_end.hang_up()
        pieces = await taking
        assert b"".join(pieces) == VOICE[:7840]
        assert {len(piece) for piece in pieces[:-1]} == {size} and 0 < len(pieces[-1]) <= size

    play(scene)


def test_it_begins_with_what_waits() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        await far_end.say(VOICE[:4000])
        taking = asyncio.ensure_future(take(session, 0.04))
        await asyncio.sleep(0)
        await far_end.say(VOICE[4000:])
        await far_end.hang_up()
        assert b"".join(await taking) == VOICE

    play(scene)


def test_what_nobody_takes_waits_and_the_oldest_of_it_is_dropped_after_ten_seconds() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        with CallerAudio(session, 0.04) as caller:
            await far_end.say(VOICE)
            assert await anext(caller) == VOICE, "in one piece"
            for second in range(12):
                await far_end.say(bytes([second]) * 8000)
            piece = await anext(caller)
            assert len(piece) == 80000 and piece[:1] == bytes([2]) and piece[-1:] == bytes([11])

    play(scene)


def test_frames_that_come_at_once_are_one_piece() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        with CallerAudio(session, 0.02) as caller:
            taking = asyncio.ensure_future(anext(caller))
            await asyncio.sleep(0)
            for _ in range(3):
                session.stream.deliver(AudioReceived(VOICE[:160]))
            assert await taking == VOICE[:160] * 3

    play(scene)


def test_everything_else_comes_by_iteration_and_audio_again_afterwards() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        before = asyncio.all_tasks()
        with CallerAudio(session, 0.04) as caller:
            await far_end.say(VOICE[:320])
            await far_end.press("5")
            assert await anext(caller) == VOICE[:320]
            event = await anext(session)
            assert isinstance(event, DigitPressed) and event.digit == "5"
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before
        await far_end.say(VOICE[:160])
        event = await anext(session)
        assert isinstance(event, AudioReceived) and event.payload == VOICE[:160]

    play(scene)


def test_pieces_are_in_the_format_of_the_session() -> None:
    async def scene(session: MediaSession, far_end: ScriptedFarEnd) -> None:
        taking = asyncio.ensure_future(take(session, 0.04))
        await far_end.say(VOICE[:3200])
        await far_end.hang_up()
        pieces = await taking
        assert {len(piece) for piece in pieces} == {320 * session.format.rate // 8000 * session.format.sample_width}

    play(scene, format=PCMA_8K, carrier_format=PCMU_8K)
    play(scene, format=AudioFormat("PCM16", 8000), carrier_format=PCMU_8K)


@pytest.mark.parametrize("batch", [0, -0.04, 10.1, float("nan"), float("inf")])
async def test_a_batch_of_nothing_or_of_more_than_is_kept_is_refused(batch: float) -> None:
    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError, match="above 0"):
            CallerAudio(session, batch)
