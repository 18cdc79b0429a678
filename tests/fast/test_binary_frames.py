"""A carrier whose audio travels in binary frames and whose control messages are JSON text, on both media paths."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from anycarrier import AudioFormat, AudioReceived, DigitPressed, MediaEvent, MediaSession, UnknownEvent
from anycarrier.errors import MalformedMessage, StreamNotOpen
from fake_carriers import FakeFrames, InlineProvider
from media_sockets import Media

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
    monkeypatch.setattr(media.exchange, "audio", PCM_16K)


def tone(number: int) -> bytes:
    """20 ms that nothing else is: every frame is also valid text, which must not make it a text frame."""
    return bytes([65 + number % 26, 32]) * 320


async def joined(media: Media) -> Any:
    from websockets.asyncio.client import connect

    carrier = await connect(await media.ticket(), compression=None)
    await carrier.send(json.dumps({"event": "start", "call_id": "in-1", "format": ["PCM16", 16000, 1]}))
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
        message = await asyncio.wait_for(carrier.recv(), 5)
        if isinstance(message, bytes):
            back.append(message)
        else:
            assert json.loads(message)["event"] == "mark"
    assert back == [tone(number) for number in range(20)]
    assert heard == [*(AudioReceived(tone(number)) for number in range(20)), DigitPressed("5")]
    await carrier.close()


async def test_a_binary_message_in_pieces_and_a_short_one_are_audio_like_any_other(media: Media) -> None:
    heard: list[MediaEvent] = []

    async def listen(session: MediaSession) -> None:
        async for event in session:
            heard.append(event)  # type: ignore[arg-type]

    media.answer_with(listen)
    carrier = await joined(media)
    await carrier.send([tone(1)[:100], tone(1)[100:]])
    await carrier.send(b"\x00\xff")
    await carrier.send(b'{"event": "dtmf", "digit": "1"}')
    await carrier.send(json.dumps({"event": "later"}))
    async with asyncio.timeout(5):
        while len(heard) < 4:
            await asyncio.sleep(0.005)
    assert heard[:3] == [AudioReceived(part) for part in (tone(1), b"\x00\xff", b'{"event": "dtmf", "digit": "1"}')]
    assert isinstance(heard[3], UnknownEvent) and heard[3].kind == "later"
    await carrier.close()
