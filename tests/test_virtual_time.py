"""The loops whose clocks the tests go by: what they wait for, and what they do not count."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from virtual_time import follow_loop, virtually


def test_waiting_takes_no_time_and_standing_still_is_not_counted() -> None:
    async def wait() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        time.sleep(0.1)  # noqa: ASYNC251 a machine that stands still
        await asyncio.sleep(1)
        return asyncio.get_running_loop().time() - began

    assert virtually(wait()) == pytest.approx(3601, abs=0.01)


def test_what_is_sent_over_loopback_is_there_before_the_next_timer() -> None:
    async def echo() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1_000_000))
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(bytes(1_000_000))
            async with asyncio.timeout(0.3):
                sent = await reader.read(-1)
            writer.close()
            return sent

    assert virtually(echo()) == bytes(1_000_000)


def test_a_thread_is_waited_for() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.to_thread(time.sleep, 0.1)

    virtually(work())


def test_the_end_of_the_threads_is_waited_for_however_long_it_takes() -> None:
    class Slow(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            time.sleep(0.1)
            super().shutdown(wait, cancel_futures=cancel_futures)

    async def work() -> None:
        asyncio.get_running_loop().set_default_executor(Slow(1))

    virtually(work())  # on Python 3.12 and later with a time limit


def test_who_yields_until_it_is_late_comes_to_an_end() -> None:
    async def spin() -> None:
        async with asyncio.timeout(1):
            while True:
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        virtually(spin())


def test_the_monotonic_clock_follows_the_loop_that_runs_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    follow_loop(monkeypatch)

    async def clocks() -> tuple[float, float]:
        await asyncio.sleep(1_000_000)
        return time.monotonic(), asyncio.get_running_loop().time()

    read, loops = virtually(clocks())
    assert read == loops > 1_000_000 and time.monotonic() != read

    async def real() -> float:
        await asyncio.sleep(0)
        return time.monotonic()

    assert asyncio.run(real()) <= time.monotonic()


def test_a_datagram_over_loopback_is_there_before_the_next_timer() -> None:
    async def ping_pong() -> float:
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        class Player(asyncio.DatagramProtocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
                left = int(data) - 1
                if left:
                    self.transport.sendto(str(left).encode(), source)  # type: ignore[attr-defined]
                else:
                    over.set_result(None)

        here, there = [
            (await loop.create_datagram_endpoint(Player, local_addr=("127.0.0.1", 0)))[0] for _ in range(2)
        ]
        began = loop.time()
        here.sendto(b"1000", there.get_extra_info("sockname"))
        async with asyncio.timeout(0.3):
            await over
        here.close()
        there.close()
        return loop.time() - began

    assert virtually(ping_pong()) < 0.3
