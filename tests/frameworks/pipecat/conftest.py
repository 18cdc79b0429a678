"""Calls of bots in virtual time: sessions, pipelines and whole calls over loopback sockets."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import pytest
from loguru import logger

from virtual_time import Loops, steady_loops, virtual_loops
from virtual_time import one_clock as one_clock

with warnings.catch_warnings():
    # pipecat's own imports warn of audioop (Python 3.11 and 3.12) and of its own retired classes. What else it calls
    # deprecated is an error here.
    warnings.simplefilter("ignore", DeprecationWarning)
    import pipecat.services.tts_service  # noqa: F401


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    """The service's database is in threads, which no virtual clock waits for."""
    return steady_loops() if "service" in item.path.name else virtual_loops()


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    """pipecat's log from its warnings on, where pytest captures it."""
    logger.remove()
    sink = logger.add(sys.stderr, level="WARNING")
    yield
    logger.remove(sink)
