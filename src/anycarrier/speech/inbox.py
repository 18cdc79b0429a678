"""What an engine has heard, on its way to whoever listens: put from callbacks, iterated by one task."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

LIMIT = 4096
"""Items kept for a reader that does not come; the oldest go first."""


class Inbox(Generic[T]):
    """An async iterator that ends when it is closed, or raises when its engine failed, after all that was put.

    To be used in one event loop; ``put`` never waits.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque(maxlen=LIMIT)
        self._wake: asyncio.Future[None] | None = None
        self._closed = False
        self._failure: Exception | None = None

    @property
    def closed(self) -> bool:
        """True once nothing more can be put."""
        return self._closed

    def put(self, item: T) -> None:
        """One more; ignored once closed."""
        if not self._closed:
            self._items.append(item)
            self._ring()

    def close(self, failure: Exception | None = None) -> None:
        """End the iteration, with ``failure`` if there was one; the first close counts."""
        if not self._closed:
            self._closed, self._failure = True, failure
            self._ring()

    def _ring(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def __aiter__(self) -> Inbox[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._closed:
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._items.popleft()
