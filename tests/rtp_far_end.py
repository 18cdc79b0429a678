"""The far end of an RTP stream, packet by packet, on sockets of loopback addresses of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from anycarrier.serializer import Frame
from anycarrier_sip.media import RtpStream
from anycarrier_sip.pacer import Pacer, PortRange
from anycarrier_sip.sdp import Negotiated
from virtual_time import ExactLoop, LoopbackLoop, virtually

SILENCE = b"\xff" * 160
TICK = 0.02


def rtp(sequence: int, payload: bytes = b"A" * 160, *, kind: int = 0, ssrc: int = 7, timestamp: int | None = None,
        first: int = 0x80) -> bytes:  # fmt: skip
    """A packet; its timestamp goes with its sequence number."""
    stamp = sequence * 160 if timestamp is None else timestamp
    return struct.pack("!BBHII", first, kind, sequence % 65536, stamp % 2**32, ssrc) + payload


class Packet(NamedTuple):
    kind: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parsed(packet: bytes) -> Packet:
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet)
    assert first == 0x80
    return Packet(second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, packet[12:])


class Far:
    """One socket."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind((host, 0))
        self.address: tuple[str, int] = self.socket.getsockname()

    def send(self, packet: bytes, stream: RtpStream, *, rtcp: bool = False) -> None:
        self.socket.sendto(packet, ("127.0.0.1", stream.local.port + rtcp))

    def received(self) -> list[bytes]:
        """What has come since it was asked last, RTCP on the same port too."""
        got = []
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.socket.recv(2048))
        return got

    def heard(self) -> list[Packet]:
        return [parsed(packet) for packet in self.received() if not 192 <= packet[1] <= 223]

    async def speak(self, stream: RtpStream, count: int, first: int = 0, **packet: Any) -> None:
        """Packets 20 ms apart, each with a sound of its own."""
        for number in range(first, first + count):
            self.send(rtp(number, sound(number), **packet), stream)
            await asyncio.sleep(TICK)


def sound(number: int) -> bytes:
    return b"%08d" % number * 20


class Session:
    """What a session sees of a stream."""

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
    def numbers(self) -> list[int]:
        """Of the sounds that were heard; one that is heard again, as what fills a gap is, counts once."""
        heard = [int(frame[:8]) for frame in self.frames if isinstance(frame, bytes) and frame[:8].isdigit()]
        return [number for number, _ in itertools.groupby(heard)]

    @property
    def told(self) -> list[str]:
        """The frames that are not audio, without the start."""
        told = [frame for frame in self.frames if isinstance(frame, str)]
        assert '"start"' in told[0] and "start" not in "".join(told[1:]).replace("restart", "")
        return told[1:]

    async def close(self) -> None:
        await self.stream.close()
        await self._pushing


class Room(NamedTuple):
    pacer: Pacer
    ports: PortRange

    async def open(self, **options: Any) -> RtpStream:
        made = {"pacer": self.pacer, "ports": self.ports, "bind_host": "127.0.0.1", "advertised_host": "127.0.0.1",
                "call_id": "sip_1", **options}  # fmt: skip
        return RtpStream(**made)

    async def call(self, far: Far, *, options: dict[str, Any] | None = None, **terms: Any) -> Session:
        """A stream that has been connected to ``far``, and its session."""
        stream = await self.open(**(options or {}))
        stream.connect(terms_with(far, **terms))
        session = Session(stream)
        await asyncio.sleep(0)
        return session


def terms_with(far: Far, **terms: Any) -> Negotiated:
    host, port = far.address
    made = {"codec": "PCMU", "payload_type": 0, "remote": far.address, "remote_rtcp": (host, port), "rtcp_mux": True,
            "telephone_event": 101, "telephone_event_received": 101, **terms}  # fmt: skip
    return Negotiated(**made)


def scene(
    play: Callable[..., Awaitable[None]],
    *hosts: str,
    loop: type[ExactLoop] = LoopbackLoop,
    ports: tuple[int, int] = (20000, 29999),
) -> None:
    """Run ``play(room, far, ...)`` in virtual time, with a far end on each of ``hosts``."""

    async def run() -> None:
        with contextlib.ExitStack() as stack:
            room = Room(Pacer(), PortRange(*ports))
            far_ends = [stack.enter_context(_open(host)) for host in hosts or ("127.0.0.1",)]
            await play(room, *far_ends)
            assert room.pacer.streams == 0, "a test closes its sessions"
            room.pacer.close()

    virtually(run(), loop)


@contextlib.contextmanager
def _open(host: str) -> Iterator[Far]:
    far = Far(host)
    with far.socket:
        yield far
