"""What several processes must share about calls: the call book, and keys that may be used once.

The call book holds the calls in progress, so that any process can tell how one stands. The once store guards against
replays: it tells the first use of a webhook's or a ticket's key from every later one.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from anycarrier.calls import Call, checked_reference
from anycarrier.errors import UnknownCall


@runtime_checkable
class CallBook(Protocol):
    """Calls by our reference and by the carrier's id. ``change`` functions are pure and may run twice."""

    async def open(self, call: Call) -> Call:
        """Write a new call down. When its reference or its carrier id is known, the stored call comes back instead."""
        ...

    async def get(self, key: str) -> Call | None:
        """The call by reference or carrier id."""
        ...

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        """Read, change and write as one step; ``UnknownCall`` when there is none. Returns what is now stored."""
        ...

    async def in_progress(self) -> list[Call]:
        """Calls that have not ended."""
        ...


@runtime_checkable
class OnceCallBook(CallBook, Protocol):
    """A call book beside the once-only keys, which can do both as one step: half the work for a shared database."""

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        """:meth:`update`, if this is the first use of ``event`` within ``ttl`` seconds; else None, and nothing done."""
        ...


@runtime_checkable
class SweptCallBook(CallBook, Protocol):
    """A call book of several processes that tells cheaply which calls are to end.

    A process that has calls on its own sockets (:class:`anycarrier.listener.Listener`) asks every second: nobody else
    can hang those up. Of another book it reads :meth:`CallBook.in_progress`.
    """

    async def ending(self, references: Collection[str]) -> list[Call]:
        """Those of these calls that have ended, or that somebody has asked to end (:attr:`Call.intent`)."""
        ...


class MemoryCallBook:
    """A dict for one process. Of ended calls the last ``keep`` stay readable."""

    def __init__(self, *, keep: int = 10_000) -> None:
        self._by_reference: dict[str, Call] = {}
        self._reference_of: dict[str, str] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._keep = keep

    async def open(self, call: Call) -> Call:
        checked_reference(call.reference)
        known = self._find(call.reference) or (self._find(call.id) if call.id else None)
        if known is not None:
            return known
        self._store(call)
        return call

    async def get(self, key: str) -> Call | None:
        return self._find(key)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        call = self._find(key)
        if call is None:
            raise UnknownCall(key)
        changed = change(call)
        if changed is not call:
            self._store(changed)
        return changed

    async def in_progress(self) -> list[Call]:
        return [call for call in self._by_reference.values() if not call.ended]

    async def ending(self, references: Collection[str]) -> list[Call]:
        calls = (self._by_reference.get(reference) for reference in references)
        return [call for call in calls if call is not None and (call.ended or call.intent is not None)]

    def _find(self, key: str) -> Call | None:
        return self._by_reference.get(self._reference_of.get(key, key))

    def _store(self, call: Call) -> None:
        self._by_reference[call.reference] = call
        if call.id:
            self._reference_of[call.id] = call.reference
        if call.ended:
            self._ended[call.reference] = None
            while len(self._ended) > self._keep:
                oldest, _ = self._ended.popitem(last=False)
                gone = self._by_reference.pop(oldest)
                self._reference_of.pop(gone.id, None)


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
