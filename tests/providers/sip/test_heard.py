"""What an agent is told of the sound on a call, against what its far end records: to the packet, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from anycarrier import AudioReceived, DigitPressed, MarkReached, MediaSession
from anycarrier_sip import dtmf
from scripted_sip_peer import House, play, sdp

PACKET = 0.02
SILENCE = b"\xff" * 160


@dataclass
class Telephone(asyncio.DatagramProtocol):
    """The far end's media socket: it writes down what comes, and when each packet has been played to its end."""

    packets: list[tuple[float, bytes]] = field(default_factory=list)

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return int(self.transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.packets.append((asyncio.get_running_loop().time() + PACKET, data[12:]))

    def played(self, sound: int, count: int = 1) -> float:
        """When the ``count``-th packet that has samples of ``sound`` was over."""
        return [at for at, payload in self.packets if sound in payload][count - 1]

    def seconds(self, sound: int) -> float:
        return sum(payload.count(sound) for _, payload in self.packets) / 8000


Talk = Callable[[MediaSession, Telephone], Awaitable[None]]


def call(talk: Talk) -> None:
    """Ring the agent, let it talk, and wait for its hang-up."""
    telephone, failures = Telephone(), []

    async def agent(session: MediaSession) -> None:
        try:
            await talk(session, telephone)
        except BaseException as failure:
            failures.append(failure)
            raise

    async def scene(at: House) -> None:
        await at.peer.invite(body=sdp(await telephone.open())).answered()
        at.peer.respond(await at.peer.next("BYE", within=120), "200 OK")
        telephone.transport.close()
        assert not failures, failures[0]

    play(scene, agent=agent, quiet=False)


async def told(session: MediaSession, count: int) -> list[tuple[str, float]]:
    """The next ``count`` marks that come back, and when."""
    marks: list[tuple[str, float]] = []
    async for event in session:
        if isinstance(event, MarkReached):
            marks.append((event.name, asyncio.get_running_loop().time()))
            if len(marks) == count:
                break
    return marks


@pytest.mark.parametrize("size", [160, 800, 1234, 4000])
def test_marks_come_back_as_the_far_end_has_played_what_was_before_them(size: int) -> None:
    async def talk(session: MediaSession, telephone: Telephone) -> None:
        for number in range(1, 6):
            await session.send_audio(bytes([number]) * size)
            await session.mark(str(number))
        for name, at in await told(session, 5):
            last = max(when for when, payload in telephone.packets if int(name) in payload)
            assert at == pytest.approx(last, abs=PACKET), name

    call(talk)


def test_what_counts_as_heard_is_what_the_far_end_has_played() -> None:
    async def talk(session: MediaSession, telephone: Telephone) -> None:
        await session.send_audio(b"\x21" * 8000)
        await session.mark("one")
        await session.send_audio(b"\x21" * 8000)
        await session.mark("two")
        for _ in range(50):
            await asyncio.sleep(0.037)
            now = asyncio.get_running_loop().time()
            begun = sum(payload.count(0x21) for at, payload in telephone.packets) / 8000
            playing = max(0.0, telephone.packets[-1][0] - now) if telephone.packets else 0.0
            assert session.heard == pytest.approx(begun - playing, abs=PACKET + 0.001)

    call(talk)


@pytest.mark.parametrize("after", [0.1, 0.513, 1.2])
def test_a_clear_is_silence_within_60_ms_and_tells_how_much_was_heard(after: float) -> None:
    async def talk(session: MediaSession, telephone: Telephone) -> None:
        loop = asyncio.get_running_loop()
        await session.send_audio(b"\x21" * 80_000)
        await asyncio.sleep(after)
        asked = loop.time()
        playback = await session.clear()
        await asyncio.sleep(0.5)
        assert telephone.played(0x21, 0) <= asked + 0.06, "the last packet with sound, played to its end"
        assert playback.heard == pytest.approx(telephone.seconds(0x21), abs=PACKET)
        assert playback.heard + playback.dropped == pytest.approx(10)
        quiet = [payload for at, payload in telephone.packets if at > asked + 0.06]
        assert quiet and set(quiet) == {SILENCE}
        await session.send_audio(b"\x42" * 1600)
        asked = loop.time()
        await session.drain()
        assert telephone.seconds(0x42) == 0.2
        assert telephone.played(0x42) <= asked + 2 * PACKET, "it talks again at once"

    call(talk)


def test_a_bad_network_adds_no_delay_and_each_key_comes_once() -> None:
    """5 % lost, 2 % doubled, swapped by up to 40 ms of jitter, from socket to session. Ten minutes of it are the jitter
    buffer's own test."""
    seconds, chance = 30, random.Random(11)
    keys: list[str] = []
    heard: list[tuple[float, int]] = []
    pressed: list[str] = []

    async def agent(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, DigitPressed):
                pressed.append(event.digit)
            elif isinstance(event, AudioReceived):
                heard.append((asyncio.get_running_loop().time(), len(event.payload)))
                delays.extend(heard[-1][0] - said[code] for code in set(event.payload) if code in said)

    said: dict[int, float] = {}
    delays: list[float] = []

    async def scene(at: House) -> None:
        loop, telephone = asyncio.get_running_loop(), Telephone()
        leg = at.peer.invite(body=sdp(await telephone.open()))
        ok = await leg.answered()
        there = ("127.0.0.1", int(ok.body.split("m=audio ")[1].split()[0]))
        pressing: list[bytes | None] = []
        key_at, due = 0, loop.time()
        for number in range(seconds * 50):
            if number % 100 == 50:
                keys.append(chance.choice(dtmf.KEYS))
                pressing = [payload for _, payload in dtmf.packets(keys[-1])][:-1]
                key_at = number
            key = pressing.pop(0) if pressing else None
            code = number % 100
            said[code] = due
            kind, timestamp, payload = (101, key_at, key) if key else (0, number, bytes([code]) * 160)
            header = bytes([0x80, kind]) + (number & 0xFFFF).to_bytes(2) + (160 * timestamp).to_bytes(4) + b"them"
            for _ in range((chance.random() >= 0.05) + (chance.random() < 0.02)):
                loop.call_later(chance.random() * 0.04, telephone.transport.sendto, header + payload, there)
            due += PACKET
            await asyncio.sleep(due - loop.time())
        await asyncio.sleep(1)
        leg.request("BYE")
        await at.peer.next("200 BYE")
        telephone.transport.close()

    play(scene, agent=agent, quiet=False)
    assert pressed == keys
    third = len(delays) // 3
    first, last = sorted(delays[:third]), sorted(delays[-third:])
    assert last[third // 2] == pytest.approx(first[third // 2], abs=PACKET)
    assert last[third * 9 // 10] < 0.12, "where a packet is lost, the one before it is heard again, and fades"
    assert sum(size for _, size in heard) / 8000 == pytest.approx(seconds + 1, abs=0.3)
