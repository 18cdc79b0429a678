"""Calls of bots in virtual time: sessions, pipelines and whole calls over loopback sockets."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import pytest
from loguru import logger

from virtual_time import one_clock as one_clock
from virtual_time import virtual_loops as pytest_asyncio_loop_factories  # noqa: F401  pytest-asyncio calls it

with warnings.catch_warnings():
    # pipecat's own imports warn of audioop (Python 3.11 and 3.12) and of its own retired classes. What else it calls
    # deprecated is an error here.
    warnings.simplefilter("ignore", DeprecationWarning)
    import pipecat.services.tts_service  # noqa: F401


@pytest.fixture(autouse=True)
def quiet_pipecat() -> Iterator[None]:
    """pipecat's log from its warnings on, where pytest captures it."""
    logger.remove()
    sink = logger.add(sys.stderr, level="WARNING")
    yield
    logger.remove(sink)
