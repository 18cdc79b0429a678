"""Sandboxes keep their carriers' times: when the machine stands still, their clock does."""

from virtual_time import steady_loops as pytest_asyncio_loop_factories  # noqa: F401 a hook
