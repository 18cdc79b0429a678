"""Webhooks on their way from a sandbox to us: sent, remembered, and sent again when a test asks.

Notifications of one call leave in order. Two quirks of real carriers can be switched on: ``duplicate`` delivers each
notification twice, ``reorder`` lets each overtake the one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import httpx

REORDER_WAIT = 0.2
"""Seconds a notification waits to be overtaken, so that the last one of a call goes out too."""


class Starter(Protocol):
    """Runs something in the background and sees it through."""

    def __call__(self, work: Coroutine[Any, Any, None], /) -> asyncio.Task[None]: ...


@dataclass(slots=True)
class Delivery:
    """One webhook: what was sent and what came back. ``status`` is None when nothing came (see ``failure``)."""

    kind: str
    """The carrier's name for what it tells."""
    call_id: str
    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What ``body`` (or the query) says, decoded."""
    timeout: float = 15.0
    status: int | None = None
    reply: bytes = b""
    reply_type: str = ""
    failure: str | None = None

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def again(self, **changes: Any) -> Delivery:
        """The same message, not yet sent; ``changes`` replace parts of it (a forged signature, another body)."""
        return replace(self, **{"status": None, "reply": b"", "reply_type": "", "failure": None, **changes})


class Courier:
    """Delivers webhooks over one HTTP client and keeps them all in ``log``."""

    def __init__(self, http: httpx.AsyncClient, start: Starter, quirks: set[str]) -> None:
        self.log: list[Delivery] = []
        self.quirks = quirks
        self._http = http
        self._start = start
        self._turns: dict[str, asyncio.Lock] = {}
        self._held: dict[str, Delivery] = {}
        self._news = asyncio.Event()

    async def post(self, delivery: Delivery) -> Delivery:
        """Send now and wait for the reply; never raises for what the other side does."""
        try:
            async with asyncio.timeout(delivery.timeout):
                response = await self._http.request(
                    delivery.method, delivery.url, content=delivery.body or None, headers=delivery.headers
                )
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as failure:
            delivery.failure = f"{type(failure).__name__}: {failure}"
        else:
            delivery.status = response.status_code
            delivery.reply = response.content
            delivery.reply_type = response.headers.get("content-type", "")
        self.log.append(delivery)
        news, self._news = self._news, asyncio.Event()
        news.set()
        return delivery

    def notify(self, delivery: Delivery) -> None:
        """Send in the background, after what was told of the same call before."""
        if "reorder" not in self.quirks:
            self._start(self._in_turn(delivery))
        elif (earlier := self._held.pop(delivery.call_id, None)) is not None:
            self._start(self._in_turn(delivery, earlier))
        else:
            self._held[delivery.call_id] = delivery
            self._start(self._let_go(delivery))

    async def wait_for(self, kind: str, *, count: int = 1, timeout: float = 5.0) -> list[Delivery]:
        """The first ``count`` deliveries of that kind, once they were sent."""
        async with asyncio.timeout(timeout):
            while len(found := [delivery for delivery in self.log if delivery.kind == kind]) < count:
                await self._news.wait()
        return found[:count]

    async def _let_go(self, delivery: Delivery) -> None:
        await asyncio.sleep(REORDER_WAIT)
        if self._held.get(delivery.call_id) is delivery:
            del self._held[delivery.call_id]
            await self._in_turn(delivery)

    async def _in_turn(self, *deliveries: Delivery) -> None:
        # asyncio.Lock is first come, first served: that alone keeps a call's notifications in order.
        async with self._turns.setdefault(deliveries[0].call_id, asyncio.Lock()):
            for delivery in deliveries:
                await self.post(delivery)
                if "duplicate" in self.quirks:
                    await self.post(delivery.again())
