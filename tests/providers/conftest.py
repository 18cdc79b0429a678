"""Sandboxes keep their carriers' times: when the machine stands still, their clock does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_time import SteadyLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"steady": SteadyLoop}
