"""Whole calls, sockets included, in virtual time."""

from virtual_time import one_clock as one_clock
from virtual_time import virtual_loops as pytest_asyncio_loop_factories  # noqa: F401 a hook
