"""Fairness between workspaces: none delays another's requests or database changes by more than one of its own.

Three parts: :class:`FairQueue` serves what waits by workspace in turn; :class:`FairLock` is a lock that is granted in
that order; :class:`RequestSlots` limits how many requests of each workspace are processed at once.

The workspace a task works for is set where it becomes known (an API key, the credential of a carrier webhook or media
socket, a delivery), and the task's own tasks inherit it. Work for no workspace (claiming deliveries, writing
transcripts) counts as one more workspace.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextvars import ContextVar
from typing import Generic, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from anycarrier.credentials import Credential, CredentialSource

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


TURN = 0.05
"""Seconds after which a request no longer keeps the others waiting: it waits itself, for a receiver perhaps."""

_HELD: ContextVar[Callable[[], None]] = ContextVar("turn")


def give_way() -> None:
    """This task is about to wait for somebody else's server: its turn, if it has one, is over."""
    if (let_go := _HELD.get(None)) is not None:
        let_go()


class RequestSlots:
    """How many requests, and carriers' events, of one workspace are processed at once in this process.

    All share one event loop: of ten at once, each would be done as late as if they had come one after the other, and
    every step of another workspace's request would wait behind one of each. ``at_once`` is 1 where a request waits for
    nothing but this process.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._at_once = at_once
        self._slots: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def of(self, whom: Hashable) -> AsyncIterator[None]:
        """Wait for the turn, and have it until :func:`give_way`, for ``TURN`` seconds at most."""
        turn = self._slots.setdefault(whom, asyncio.Semaphore(self._at_once))
        await turn.acquire()
        held = [turn]

        def let_go() -> None:
            if held:
                held.pop().release()

        _HELD.set(let_go)
        timer = asyncio.get_running_loop().call_later(TURN, let_go)
        try:
            yield
        finally:
            timer.cancel()
            let_go()


class YieldingCredentials:
    """A :class:`CredentialSource` for the exchange: a task that asks for a carrier is about to wait, and gives way."""

    def __init__(self, source: CredentialSource) -> None:
        self._source = source

    async def credential(self, credential_id: str) -> Credential:
        """The credential, after :func:`give_way`."""
        give_way()
        return await self._source.credential(credential_id)
