"""What the tests of all speech engines share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from virtual_time import SteadyLoop, follow_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"steady": SteadyLoop}


@pytest.fixture(autouse=True)
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    follow_loop(monkeypatch)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Any], Any]]:
    """Engines that are closed when the test is over, whatever happens in it."""
    engines: list[Any] = []

    def keep(engine: Any) -> Any:
        engines.append(engine)
        return engine

    yield keep
    for engine in engines:
        await engine.aclose()
