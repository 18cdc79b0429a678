"""Calls in virtual time; the framework reads the wall clock too, which follows."""

import asyncio
import time

import pytest

from virtual_time import ExactLoop, Loops, steady_loops, virtual_loops
from virtual_time import one_clock as one_clock

WALL_CLOCK = time.time


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    """The service's database is in threads, which no virtual clock waits for."""
    return steady_loops() if "service" in item.path.name else virtual_loops()


@pytest.fixture(autouse=True)
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes as the loop's does: the framework times words and pauses by it."""
    begun = WALL_CLOCK()

    def clock() -> float:
        loop = asyncio._get_running_loop()
        return begun + loop.time() - 1000 if isinstance(loop, ExactLoop) else WALL_CLOCK()

    monkeypatch.setattr(time, "time", clock)
