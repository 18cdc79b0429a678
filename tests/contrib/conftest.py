"""What the tests of all speech engines share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from virtual_time import one_clock as one_clock
from virtual_time import steady_loops as pytest_asyncio_loop_factories  # noqa: F401 a hook


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
