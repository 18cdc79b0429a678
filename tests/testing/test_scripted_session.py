"""``open_session``: what a session says is heard at the far end when it should be, and the far end's script happens."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import (
    AudioFormat,
    AudioReceived,
    DigitPressed,
    Direction,
    EndReason,
    MarkReached,
    MediaEvent,
    MediaSession,
    TransferProgress,
)
from anycarrier.calls import TransferStatus
from anycarrier.errors import StreamNotOpen
from anycarrier.listener import PushTransport
from anycarrier.testing.session import Piece, open_session

L16 = AudioFormat("L16", 16000)
SPEECH = bytes(range(200)) * 80  # 2 s of mu-law

both = pytest.mark.parametrize("pushes", [True, False], ids=["pushes", "awaited"])


def now() -> float:
    return asyncio.get_running_loop().time()


async def taken(session: MediaSession) -> list[object]:
    return [event async for event in session]


@both
async def test_what_is_said_is_heard_in_real_time_and_a_clear_cuts_it(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        assert isinstance(session.stream.transport, PushTransport) is pushes
        began = now()
        await session.send_audio(SPEECH)
        assert far_end.heard_seconds < 0.01 and far_end.received == [Piece(pytest.approx(began, abs=0.01), SPEECH)]
        await asyncio.sleep(0.5)
        assert far_end.heard_seconds == pytest.approx(0.5, abs=0.01)
        assert session.heard == pytest.approx(far_end.heard_seconds, abs=0.01)
        cut = await session.clear()
        assert far_end.cleared == [pytest.approx(began + 0.5, abs=0.01)] and far_end.waiting == 0
        await asyncio.sleep(1)
        assert far_end.heard == SPEECH[: len(far_end.heard)] and cut.heard == pytest.approx(0.5, abs=0.01)
        await session.send_audio(SPEECH[:800])
        await session.drain()
        assert [len(piece.audio) / 8000 for piece in far_end.heard_at] == pytest.approx([0.5, 0.1], abs=0.01)
        assert [piece.at - began for piece in far_end.heard_at] == pytest.approx([0, 1.5], abs=0.01)
        assert far_end.heard.endswith(SPEECH[:800])


@both
async def test_the_far_end_speaks_at_its_pace_and_presses_keys(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        events = asyncio.ensure_future(taken(session))
        began = now()
        await far_end.say(SPEECH[:1700])
        assert now() - began == pytest.approx(0.22, abs=0.01)
        await far_end.press("1#")
        await far_end.hang_up()
        seen = await events
        assert b"".join(event.payload for event in seen if isinstance(event, AudioReceived)) == SPEECH[:1700]
        assert [len(event.payload) for event in seen if isinstance(event, AudioReceived)][-2:] == [160, 100]
        assert seen[-2:] == [DigitPressed("1"), DigitPressed("#")]
        assert session.ended and not session.call.ended, "the end is told after the stream's"
        await asyncio.sleep(0.1)
        assert (session.call.ended, session.call.reason) == (True, EndReason.USER_HANGUP)
        await far_end.say(SPEECH)  # nobody hears it, and it takes no time
        assert now() - began < 1


@both
@pytest.mark.parametrize("marks", ["echo", "lost", "none"])
async def test_marks_come_back_get_lost_or_do_not_exist(marks: str, pushes: bool) -> None:
    async with open_session(pushes=pushes, marks=marks) as (session, far_end):  # type: ignore[arg-type]
        began = now()
        await session.send_audio(SPEECH[:8000])
        await session.mark("said")
        await asyncio.sleep(0.8)
        assert session.waiting == 0, "not said to its end yet"
        await asyncio.sleep(0.3)
        assert session.waiting == (0 if marks == "lost" else 1)
        if marks != "lost":
            reached = await anext(session)
            assert isinstance(reached, MarkReached) and reached.name == "said"
        assert session.heard_is_measured is (marks == "echo")
        assert far_end.heard == SPEECH[:8000] and now() - began < 2


async def test_formats_of_session_and_carrier_may_differ_and_samples_stay_whole() -> None:
    async with open_session(format=L16) as (session, far_end):
        await session.send_audio(bytes(range(256)) * 125)  # 1 s
        await asyncio.sleep(0.50001)
        await session.clear()
        assert len(far_end.heard) % 2 == 0 and far_end.heard_seconds == pytest.approx(0.5, abs=0.01)
    async with open_session(format=L16, carrier_format=AudioFormat("PCMU", 8000)) as (session, far_end):
        far_end.send(b"\xff" * 160)
        received: MediaEvent | object = await anext(session)
        assert isinstance(received, AudioReceived) and 500 <= len(received.payload) <= 640
        await session.send_audio(bytes(640 * 50))
        await session.drain()
        assert far_end.heard_seconds == pytest.approx(1, abs=0.01)


@both
async def test_what_is_asked_of_the_call_is_done_and_noted(pushes: bool) -> None:
    async with open_session(pushes=pushes, direction=Direction.OUTBOUND) as (session, far_end):
        assert session.line_number == "+14155550100" and session.call.remote_number == "+12125550123"
        await session.send_digits("1w2")
        await session.send_audio(SPEECH)
        await asyncio.sleep(0.1)
        await session.hang_up()
        await session.wait_stopped()
        await asyncio.sleep(0.1)
        assert session.call.reason is EndReason.AGENT_HANGUP
        assert (far_end.control.digits, far_end.control.hang_ups) == ("1w2", [EndReason.AGENT_HANGUP])
        assert far_end.heard_seconds == pytest.approx(0.1, abs=0.01), "what was not played is gone with the stream"
        with pytest.raises(StreamNotOpen):
            await session.send_audio(SPEECH)


@both
async def test_a_transfer_is_taken_or_not_as_the_script_says(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        await session.transfer("+12125550199")
        await session.hang_up()
        assert not session.ended, "the call is the target's"
        far_end.fail_transfer()
        failed = await anext(session)
        assert isinstance(failed, TransferProgress) and failed.status == "failed" and session.call.transfer is None
        await session.transfer("+12125550198")
        far_end.answer_transfer()
        assert [event.status async for event in session if isinstance(event, TransferProgress)] == ["answered"]
        assert far_end.control.transfers == ["+12125550199", "+12125550198"] and session.call.handed_on
        await session.hang_up(EndReason.API_STOP)
        await asyncio.sleep(0.1)
        assert session.call.reason is EndReason.API_STOP


@both
async def test_a_broken_connection_ends_the_stream_and_not_the_call(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        await session.send_audio(SPEECH)
        far_end.lose_connection()
        await session.wait_stopped()
        assert session.stop_reason == "connection lost" and not session.call.ended
        with pytest.raises(StreamNotOpen):
            await session.send_audio(SPEECH)


@both
async def test_nothing_is_left_when_the_block_is_left(pushes: bool) -> None:
    before = asyncio.all_tasks()
    async with open_session(pushes=pushes) as (session, _):
        await session.send_audio(SPEECH)
    assert session.ended and asyncio.all_tasks() == before


@both
async def test_plain_audio_is_relayed_as_it_came(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        relayed: list[str] = []
        session.stream.relay_to(relayed.append)
        far_end.send(b"a" * 160)
        far_end.send(b"b" * 160)
        await far_end.press("5")
        assert await anext(session) == DigitPressed("5")
        assert len(relayed) == 2


async def test_an_unknown_kind_of_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="echo, lost or none"):
        async with open_session(marks="some"):  # type: ignore[arg-type]
            pass


@both
async def test_the_outcome_of_a_transfer_is_waited_for(pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        assert await session.wait_for_transfer() is None, "none was asked for"
        for outcome, finish in ((None, far_end.fail_transfer), (TransferStatus.ANSWERED, far_end.answer_transfer)):
            await session.transfer("+12125550199")
            assert session.transferred
            with pytest.raises(TimeoutError):
                await session.wait_for_transfer(1)
            waiting = asyncio.ensure_future(session.wait_for_transfer())
            await asyncio.sleep(0)
            finish()
            assert await waiting is outcome and session.transferred is (outcome is not None)
