"""Calls through every installed carrier's sandbox to a stand-in for the Realtime API, by the SDK and a raw socket."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
sys.path.append(str(Path(__file__).parents[3] / "docs/examples/openai"))

from anycarrier import MediaSession
from frameworks.carriers import CARRIERS
from frameworks.openai.doors import DOORS, Door
from virtual_time import Loops, steady_loops, virtual_loops
from virtual_time import one_clock as one_clock
from whole.conftest import House, open_house

Handler = Callable[[MediaSession], Awaitable[None]]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    """The service's database is in threads, which no virtual clock waits for."""
    return steady_loops() if "service" in item.path.name else virtual_loops()


@pytest.fixture(params=CARRIERS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with open_house(request.param) as opened:
        yield opened


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """The SDK, or a raw socket: what is asserted of one holds for the other."""
    return DOORS[request.param]
