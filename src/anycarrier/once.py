"""Things that may happen once: a webhook, a ticket. Used against replays, so it must hold over all processes."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol, runtime_checkable


@runtime_checkable
class OnceStore(Protocol):
    """Tells the first use of a key from every later one."""

    async def first(self, key: str, ttl: float) -> bool:
        """True exactly once per key within ``ttl`` seconds, whichever process asks."""
        ...

    async def forget(self, key: str) -> None:
        """Let the key be used again: what it stood for did not work out."""
        ...


class MemoryOnce:
    """Keys in a dict, for one process. ``limit`` bounds memory: beyond it the oldest keys are forgotten early."""

    def __init__(self, *, limit: int = 200_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()
        self._limit = limit
        self._clock = clock

    async def first(self, key: str, ttl: float) -> bool:
        now = self._clock()
        seen = self._until.get(key)
        if seen is not None and seen > now:
            return False
        self._until[key] = now + ttl
        self._until.move_to_end(key)
        while len(self._until) > self._limit or next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return True

    async def forget(self, key: str) -> None:
        self._until.pop(key, None)
