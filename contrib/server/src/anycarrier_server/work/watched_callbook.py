"""The call book, watched: the process that writes a call's end also starts its post-call work."""

from __future__ import annotations

from collections.abc import Callable

from anycarrier.calls import Call
from anycarrier_server.store.callbook import SqlCallBook


class WatchedCallBook:
    """A :class:`anycarrier.callbook.CallBook` that tells ``on_end`` of each call it sees end, once."""

    def __init__(self, book: SqlCallBook, on_end: Callable[[Call], None]) -> None:
        self._book = book
        self._on_end = on_end

    async def open(self, call: Call) -> Call:
        return await self._book.open(call)

    async def get(self, key: str) -> Call | None:
        return await self._book.get(key)

    async def in_progress(self) -> list[Call]:
        return await self._book.in_progress()

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        watched = _Watched(change)
        after = await self._book.update(key, watched)
        self._look(watched, after)
        return after

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        watched = _Watched(change)
        after = await self._book.update_once(event, ttl, key, watched)
        if after is not None:
            self._look(watched, after)
        return after

    def _look(self, watched: _Watched, after: Call) -> None:
        if after.ended and not watched.was_over:
            self._on_end(after)


class _Watched:
    """A change that remembers whether the call was over before it; it may run twice."""

    def __init__(self, change: Callable[[Call], Call]) -> None:
        self._change = change
        self.was_over = True

    def __call__(self, before: Call) -> Call:
        self.was_over = before.ended
        return self._change(before)
