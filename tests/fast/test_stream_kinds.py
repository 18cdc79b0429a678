"""Streams unlike most: binary audio beside JSON text, no stop frame, no marks, marks lost. On both media paths."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from anycarrier import (
    AudioFormat,
    AudioReceived,
    DigitPressed,
    MarkReached,
    MediaEvent,
    MediaSession,
    Playback,
    UnknownEvent,
    position,
)
from anycarrier.errors import MalformedMessage, StreamNotOpen
from fake_carriers import FakeFrames, InlineProvider
from media_sockets import Media, listen

PCM_16K = AudioFormat("PCM16", 16000)


class BinaryFrames(FakeFrames):
    """Raw little-endian PCM at 16 kHz, 20 ms a frame; everything else is text."""

    audio_out = PCM_16K

    def decode(self, frame: bytes | str) -> list[MediaEvent]:
        if isinstance(frame, bytes):
            if not self.open:
                raise MalformedMessage("audio before the start", frame)
            return [AudioReceived(frame)]
        return super().decode(frame)

    def encode_audio(self, payload: bytes) -> list[bytes]:  # type: ignore[override]
        if not self.open:
            raise StreamNotOpen("no stream")
        return [payload[at : at + 640] for at in range(0, len(payload), 640)]


@pytest.fixture(autouse=True)
def binary(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InlineProvider, "serializer", lambda self: BinaryFrames())
    monkeypatch.setattr(media.exchange.switchboard, "audio", PCM_16K)


def tone(number: int) -> bytes:
    """20 ms that nothing else is: every frame is also valid text, which must not make it a text frame."""
    return bytes([65 + number % 26, 32]) * 320


async def joined(media: Media) -> Any:
    from websockets.asyncio.client import connect

    carrier = await connect(await media.ticket(), compression=None)
    await carrier.send(json.dumps({"event": "start", "call_id": f"in-{media.calls}", "format": ["PCM16", 16000, 1]}))
    return carrier


async def test_binary_audio_goes_both_ways_and_text_beside_it_stays_text(media: Media) -> None:
    heard: list[MediaEvent] = []

    async def echo(session: MediaSession) -> None:
        async for event in session:
            heard.append(event)  # type: ignore[arg-type]
            if isinstance(event, AudioReceived):
                await session.send_audio(event.payload)

    media.answer_with(echo)
    carrier = await joined(media)
    for number in range(20):
        await carrier.send(tone(number))
    await carrier.send(json.dumps({"event": "dtmf", "digit": "5"}))
    back: list[bytes] = []
    while len(back) < 20:
        message = await asyncio.wait_for(carrier.recv(), 30)
        if isinstance(message, bytes):
            back.append(message)
        else:
            assert json.loads(message)["event"] == "mark"
    assert back == [tone(number) for number in range(20)]
    assert heard == [*(AudioReceived(tone(number)) for number in range(20)), DigitPressed("5")]
    await carrier.close()


async def test_a_binary_message_in_pieces_and_a_short_one_are_audio_like_any_other(media: Media) -> None:
    heard: list[MediaEvent] = []

    async def hear(session: MediaSession) -> None:
        async for event in session:
            heard.append(event)  # type: ignore[arg-type]

    media.answer_with(hear)
    carrier = await joined(media)
    await carrier.send([tone(1)[:100], tone(1)[100:]])
    await carrier.send(b"\x00\xff")
    await carrier.send(b'{"event": "dtmf", "digit": "1"}')
    await carrier.send(json.dumps({"event": "later"}))
    async with asyncio.timeout(30):
        while len(heard) < 4:
            await asyncio.sleep(0.005)
    assert heard[:3] == [AudioReceived(part) for part in (tone(1), b"\x00\xff", b'{"event": "dtmf", "digit": "1"}')]
    assert isinstance(heard[3], UnknownEvent) and heard[3].kind == "later"
    await carrier.close()


async def test_a_stream_that_ends_without_a_stop_frame_was_ended_by_the_carrier(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    media.answer_with(listen)
    lost, ended = await joined(media), await joined(media)
    first, second = await media.live(), await media.live(2)
    await lost.close()
    await asyncio.wait_for(first.wait_stopped(), 30)
    monkeypatch.setattr(BinaryFrames, "stop_frame", False)
    await ended.close()
    await asyncio.wait_for(second.wait_stopped(), 30)
    assert (first.stop_reason, second.stop_reason) == ("connection lost", "closed by the carrier")
    with pytest.raises(StreamNotOpen, match="closed by the carrier"):
        await second.send_audio(tone(1))


async def test_a_stream_without_marks_is_heard_by_the_clock_and_says_so(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BinaryFrames, "marks", False)
    done: asyncio.Future[tuple[float, Playback]] = asyncio.get_running_loop().create_future()

    async def speak(session: MediaSession) -> None:
        await session.send_audio(tone(1) * 10)
        await session.mark("said")
        async for event in session:
            if event == MarkReached("said"):
                heard = session.heard
                assert not session.heard_is_measured
                await session.send_audio(tone(2) * 10)
                done.set_result((heard, await session.clear()))

    media.answer_with(speak)
    carrier = await joined(media)
    heard, playback = await asyncio.wait_for(done, 30)
    assert heard == pytest.approx(0.2)
    assert not playback.measured and playback.heard + playback.dropped == pytest.approx(0.4)
    await carrier.close()


async def test_marks_that_never_come_back_after_a_clear_do_not_hold_the_position_back(
    media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position, "LATE", 60.0)  # no mark is given up before the clear
    done: asyncio.Future[tuple[bool, float]] = asyncio.get_running_loop().create_future()

    async def speak(session: MediaSession) -> None:
        await session.send_audio(tone(1) * 50)
        await session.drain(60)
        measured = session.heard_is_measured
        await session.clear()
        monkeypatch.setattr(position, "LATE", 0.05)
        before = session.heard
        await session.send_audio(tone(2) * 50)
        while session.heard < before + 0.9 or session.heard_is_measured:
            await asyncio.sleep(0.01)
        done.set_result((measured, session.heard - before))

    media.answer_with(speak)
    carrier = await joined(media)
    cleared = False
    async with asyncio.timeout(30):
        while not done.done():
            try:
                message = await asyncio.wait_for(carrier.recv(), 0.1)
            except TimeoutError:
                continue
            if isinstance(message, str):
                cleared = cleared or json.loads(message)["event"] == "clear"
                if not cleared:
                    await carrier.send(message)
    measured, heard = done.result()
    assert measured and heard > 0.5, "the first mark after the clear stands at half a second"
    await carrier.close()
