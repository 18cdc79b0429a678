"""With many calls an idle loop sleeps for a millisecond at a time; a busy one never, nor one with few calls."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from anycarrier_server.runtime import IDLE, MANY, TICK, Coalescer


class Loop:
    """A running loop whose time goes on only by ``work`` and by sleeping."""

    def __init__(self) -> None:
        self.live = MANY
        self.now = 100.0
        self.work = IDLE / 10
        self.busy = False
        self.slept: list[float] = []
        self.coalescer = Coalescer(lambda: self.live, lambda: self.busy, clock=self.clock, sleep=self.sleep)

    def clock(self) -> float:
        self.now += self.work / 2
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)


@pytest.fixture
async def loop() -> AsyncIterator[Loop]:
    made = Loop()
    yield made
    made.coalescer.stop()


async def test_an_idle_loop_with_many_calls_sleeps_a_tick_at_a_time(loop: Loop) -> None:
    loop.coalescer.start()
    await loop.rounds(50)
    assert len(loop.slept) > 20
    assert all(0 < seconds <= TICK for seconds in loop.slept)


async def test_a_busy_loop_never_sleeps(loop: Loop) -> None:
    loop.work = IDLE * 3
    loop.coalescer.start()
    await loop.rounds(50)
    assert loop.coalescer.looking
    assert loop.slept == []


async def test_a_request_at_hand_is_not_slept_upon_and_after_it_there_is_sleep_again(loop: Loop) -> None:
    loop.coalescer.start()
    await loop.rounds(10)
    loop.busy = True
    await loop.rounds(1)
    loop.slept.clear()
    await loop.rounds(50)
    assert loop.slept == []
    loop.busy = False
    async with asyncio.timeout(30):
        while not loop.slept:
            await asyncio.sleep(0.001)


async def test_work_makes_the_rest_of_a_tick_shorter_and_not_the_tick_longer(loop: Loop) -> None:
    loop.coalescer.start()
    await loop.rounds(10)
    loop.work = TICK / 2
    await loop.rounds(1)
    loop.work = IDLE / 10
    loop.slept.clear()
    await loop.rounds(3)
    assert 0 < loop.slept[0] < TICK * 0.8
    assert loop.slept[1] == pytest.approx(TICK, rel=0.1)


async def test_few_calls_are_left_alone_and_many_become_few(loop: Loop) -> None:
    loop.live = MANY - 1
    loop.coalescer.start()
    await loop.rounds(20)
    assert not loop.coalescer.looking
    assert loop.slept == []
    loop.live = MANY
    loop.coalescer.count()
    await loop.rounds(20)
    assert loop.slept
    loop.live = 0
    loop.coalescer.count()
    loop.slept.clear()
    await loop.rounds(20)
    assert loop.slept == []


async def test_many_again_within_a_round_is_looked_after_once(loop: Loop) -> None:
    loop.coalescer.start()
    await loop.rounds(3)
    loop.live = 0
    loop.coalescer.count()
    loop.live = MANY
    loop.coalescer.count()
    loop.slept.clear()
    await loop.rounds(30)
    assert len(loop.slept) <= 30


async def test_what_comes_while_it_sleeps_is_there_afterwards() -> None:
    """On the real clock: nothing that comes by a socket or from a thread is lost or waits for a second thing."""
    coalescer = Coalescer(lambda: MANY, lambda: False)
    coalescer.start()
    try:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        async with asyncio.timeout(30):
            for number in range(50):
                theirs.send(b"%02d" % number)
                assert await reader.readexactly(2) == b"%02d" % number
                assert await asyncio.to_thread(str, number) == str(number)
        writer.close()
        theirs.close()
    finally:
        coalescer.stop()
