"""A carrier that keeps a few seconds of audio, and drops more: what is sent ahead stays below that."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import MediaSession
from anycarrier.errors import StreamNotOpen
from anycarrier.testing.scripted_line import AwaitedLine, PushingLine
from fake_carriers import FakeFrames
from fake_sessions import CALL, Control
from virtual_time import virtually

SECOND = b"\x55" * 8000


class ShortBuffer(FakeFrames):
    """Keeps three seconds; audio goes out in frames of one."""

    buffer_seconds = 3.0
    marks = False

    def encode_audio(self, payload: bytes) -> list[str]:
        encode = super().encode_audio
        return [frame for at in range(0, len(payload), 8000) for frame in encode(payload[at : at + 8000])]


class Line:
    def __init__(self, pushes: bool) -> None:
        self.came: list[tuple[float, str | bytes]] = []
        self.clock = asyncio.get_running_loop().time
        self.began = self.clock()
        transport = (PushingLine if pushes else AwaitedLine)(self.take)
        frames = ShortBuffer()
        frames.open = True
        self.session = MediaSession(CALL, "a", frames, transport, Control(), clock=self.clock)
        self.session.stream.receive('{"event": "start", "call_id": "c1"}')

    def take(self, frame: str | bytes) -> None:
        self.came.append((round(self.clock() - self.began, 2), frame))

    def at(self) -> list[float]:
        return [at for at, frame in self.came if b"clear" not in str(frame).encode()]


@pytest.mark.parametrize("pushes", [True, False])
def test_audio_waits_until_the_carrier_has_room(pushes: bool) -> None:
    async def act() -> None:
        line = Line(pushes)
        await line.session.send_audio(SECOND * 6)
        await line.session.send_audio(SECOND)
        assert line.at() == pytest.approx([0, 0, 0, 0, 1, 2, 3], abs=0.03)

    virtually(act())


@pytest.mark.parametrize("pushes", [True, False])
def test_a_clear_ends_the_wait_and_what_waited_is_not_sent(pushes: bool) -> None:
    async def act() -> None:
        line = Line(pushes)
        sending = asyncio.ensure_future(line.session.send_audio(SECOND * 9))
        await asyncio.sleep(1.5)
        await asyncio.wait_for(line.session.clear(), 0.1)
        await asyncio.wait_for(sending, 0.1)
        await line.session.send_audio(SECOND)
        assert line.at() == pytest.approx([0, 0, 0, 0, 1, 1.5], abs=0.03)

    virtually(act())


@pytest.mark.parametrize("pushes", [True, False])
def test_the_end_of_the_stream_ends_the_wait(pushes: bool) -> None:
    async def act() -> None:
        line = Line(pushes)
        sending = asyncio.ensure_future(line.session.send_audio(SECOND * 9))
        await asyncio.sleep(0.5)
        line.session.stream.stop("over")
        with pytest.raises(StreamNotOpen):
            await asyncio.wait_for(sending, 0.1)

    virtually(act())
