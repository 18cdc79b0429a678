"""What the tests of all speech engines share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest


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
