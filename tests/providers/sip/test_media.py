"""RTP streams over real sockets: what one says, the other hears. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from anycarrier.serializer import Frame
from anycarrier_sip import sdp
from anycarrier_sip.frames import CLEAR, control
from anycarrier_sip.media import RtpStream
from anycarrier_sip.pacer import Pacer, PortRange
from virtual_time import virtually

SILENCE = b"\xff" * 160


class Leg:
    """A stream and what it has pushed."""

    def __init__(self, stream: RtpStream) -> None:
        self.stream = stream
        self.frames: list[Frame] = []
        self.times: list[float] = []
        self._pushing = asyncio.create_task(stream.push_to(self._take))

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        self.times.append(asyncio.get_running_loop().time())

    @property
    def heard(self) -> bytes:
        return b"".join(frame for frame in self.frames if isinstance(frame, bytes))

    @property
    def told(self) -> list[str]:
        return [frame for frame in self.frames if isinstance(frame, str)]

    async def close(self) -> None:
        await self.stream.close()
        await self._pushing


def talk(scene: Callable[[Leg, Leg], Awaitable[None]], srtp: sdp.Srtp = "off") -> None:
    """Two streams that have agreed on terms: the first offered."""

    async def run() -> None:
        pacer, ports = Pacer(), PortRange(20000, 29999)
        options = {"pacer": pacer, "ports": ports, "bind_host": "127.0.0.1", "advertised_host": "127.0.0.1"}
        ours = await RtpStream.open(**options, srtp=srtp, call_id="sip_ours")  # type: ignore[arg-type]
        theirs = await RtpStream.open(**options, srtp=srtp, call_id="sip_theirs")  # type: ignore[arg-type]
        body, terms = sdp.answer(sdp.offer(ours.local), theirs.local)
        ours.connect(sdp.accept(body, ours.local))
        theirs.connect(terms)
        legs = Leg(ours), Leg(theirs)
        await asyncio.sleep(0)
        try:
            await scene(*legs)
        finally:
            for leg in legs:
                await leg.close()
        assert pacer.streams == 0

    virtually(run())


def speech(frames: int) -> bytes:
    return b"".join(bytes((number % 200 + 1,)) * 160 for number in range(frames))


@pytest.mark.parametrize("srtp", ["off", "required"])
def test_what_one_says_the_other_hears(srtp: sdp.Srtp) -> None:
    async def scene(ours: Leg, theirs: Leg) -> None:
        ours.stream.write(speech(50))
        ours.stream.write(control("mark", name="end"))
        await asyncio.sleep(2)
        assert speech(50) in theirs.heard
        assert ours.heard.strip(b"\xff") == b""
        assert 95 * 160 <= len(ours.heard) <= 101 * 160, "it is as long as the time that has passed"
        assert ours.told == [control("start", call="sip_ours", sends_digits=True), control("mark", name="end")]

    talk(scene, srtp)


def test_clear_is_silence_within_a_frame() -> None:
    async def scene(ours: Leg, theirs: Leg) -> None:
        ours.stream.write(speech(500))
        ours.stream.write(control("mark", name="end"))
        await asyncio.sleep(0.5)
        ours.stream.write(CLEAR)
        before = len(theirs.frames)
        await asyncio.sleep(0.5)
        after = [frame for frame in theirs.frames[before:] if frame != SILENCE]
        assert len(after) <= 1
        assert len(ours.told) == 1, "the mark is dropped with the sound before it"

    talk(scene)


def test_keys_are_heard_once_each_and_after_the_sound_before_them() -> None:
    async def scene(ours: Leg, theirs: Leg) -> None:
        ours.stream.write(speech(10))
        ours.stream.send_digits("159*0#D11")
        await asyncio.sleep(3)
        assert theirs.told[1:] == [control("digit", digits=digit) for digit in "159*0#D11"]
        first = theirs.frames.index(control("digit", digits="1"))
        assert speech(10) in b"".join(frame for frame in theirs.frames[:first] if isinstance(frame, bytes))

    talk(scene)
