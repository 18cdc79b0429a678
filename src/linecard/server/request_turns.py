"""Requests take turns: one of each workspace at a time, as long as it is quick, once it is read and its key is known.

All requests share one event loop. Of ten at once from one client each would be done as late as if they had come one
after the other, and every step of somebody else's request would stand behind one of each of them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Hashable
from weakref import WeakValueDictionary

TURN = 0.02
"""Seconds after which a request no longer keeps the others waiting: it waits itself, for a carrier or a receiver."""


class RequestTurns:
    """One process's."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def of(self, whom: Hashable) -> AsyncIterator[None]:
        """Wait for the turn, and have it for ``TURN`` seconds at most."""
        lock = self._locks.setdefault(whom, asyncio.Lock())
        await lock.acquire()
        held = [lock]

        def let_go() -> None:
            if held:
                held.pop().release()

        timer = asyncio.get_running_loop().call_later(TURN, let_go)
        try:
            yield
        finally:
            timer.cancel()
            let_go()
