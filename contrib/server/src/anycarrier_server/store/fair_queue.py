"""A fair queue and a fair lock: workspaces take turns, and each one's own items are first come, first served.

A workspace that has a hundred changes waiting delays another's by one of them. Which workspace a task works for is
set where that becomes known, and its tasks inherit it: by an API key, by a carrier webhook's or media socket's
credential, by a delivery. Work for no workspace (taking deliveries, writing transcripts) counts as one more.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from contextvars import ContextVar
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

WORKSPACE: ContextVar[UUID | None] = ContextVar("workspace", default=None)
"""The one this task works for."""


class FairQueue(Generic[T]):
    """What waits, by workspace. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[UUID | None, deque[T]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, item: T) -> None:
        """Behind what else waits for this task's workspace."""
        with self._lock:
            self._waiting.setdefault(WORKSPACE.get(), deque()).append(item)

    def get(self) -> T | None:
        """The next, of the workspace that has waited longest; None when nothing waits."""
        with self._lock:
            if not self._waiting:
                return None
            workspace, theirs = self._waiting.popitem(last=False)
            item = theirs.popleft()
            if theirs:
                self._waiting[workspace] = theirs
            return item

    def drop(self, item: T) -> bool:
        """It waits no longer; False when somebody has it already."""
        with self._lock:
            for workspace, theirs in self._waiting.items():
                if item in theirs:
                    theirs.remove(item)
                    if not theirs:
                        del self._waiting[workspace]
                    return True
            return False


class FairLock:
    """A lock, ``async with``."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    async def __aenter__(self) -> None:
        if not self._taken:
            self._taken = True
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.put(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not self._waiting.drop(mine) and not mine.cancelled():
                self._next()  # its turn came in the same moment
            raise

    async def __aexit__(self, *_: object) -> None:
        self._next()

    def _next(self) -> None:
        while (waiter := self._waiting.get()) is not None:
            if not waiter.done():
                waiter.set_result(None)
                return
        self._taken = False
