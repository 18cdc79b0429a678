"""Whole calls, sockets included, in virtual time; where Twilio's SDK works in a thread, in real time."""

import pytest

from virtual_time import Loops, steady_loops, virtual_loops
from virtual_time import one_clock as one_clock


def pytest_asyncio_loop_factories(item: pytest.Item) -> Loops:
    return steady_loops() if "rest" in item.path.name else virtual_loops()
