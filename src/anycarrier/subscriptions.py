"""A subscriber's own copy of an exchange's events, to be iterated: bounded, so that a slow one holds up no call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from anycarrier.calls import Call
from anycarrier.events import CallEvent

Observer = Callable[[CallEvent, Call | None], None]
"""Called with every verified event and the call it is about; must return fast."""

MOST_EVENTS = 1000
"""Events that are kept for a subscriber who does not take them; beyond that the oldest are dropped."""


class Subscription:
    """The events of an exchange from now on, in order, each with its call as it stood then (None: a call not kept).

        async with exchange.subscribe() as events:
            async for event, call in events:
                ...

    For one consumer. Iteration ends once :meth:`close` was called, the block was left or the exchange has stopped, and
    the events at hand are taken.
    """

    def __init__(self, observers: list[Observer], *, most: int = MOST_EVENTS) -> None:
        """``observers`` are the exchange's; ``most`` events are kept."""
        if most < 1:
            raise ValueError("a subscription keeps one event at least")
        self.dropped = 0
        """Events that were not taken in time, and are lost."""
        self._observers = observers
        self._kept: deque[tuple[CallEvent, Call | None]] = deque(maxlen=most)
        self._closed = False
        self._news = asyncio.Event()
        observers.append(self._observe)

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> tuple[CallEvent, Call | None]:
        while not self._kept:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._kept.popleft()

    def close(self) -> None:
        """No more events; a second time changes nothing."""
        if not self._closed:
            self._closed = True
            self._observers.remove(self._observe)
            self._news.set()

    @property
    def closed(self) -> bool:
        """True once no more events come in."""
        return self._closed

    def _observe(self, event: CallEvent, call: Call | None) -> None:
        if len(self._kept) == self._kept.maxlen:
            self.dropped += 1
        self._kept.append((event, call))
        self._news.set()
