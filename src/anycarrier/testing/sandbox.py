"""Sandbox: a carrier without an account. An ASGI app that plays the carrier on its own wire, and a handle to act with.

This is the carrier-neutral half: what a test, a demo or a control API may do with any of them. Each provider ships
a subclass that speaks its carrier's REST, webhooks and media socket.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

import httpx

from anycarrier.credentials import Credential
from anycarrier.testing.courier import Courier, Delivery
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.number_stock import NumberStock

if TYPE_CHECKING:
    from starlette.types import ASGIApp

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(slots=True)
class RestRequest:
    """One REST request we received, and the status it was answered with."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    status: int = 0


class Sandbox(ABC):
    """One carrier, played. Make it inside a running event loop; ``base_url`` is where :attr:`app` is reachable.

    ``quirks`` makes it as unpleasant as carriers are: ``duplicate`` and ``reorder`` (webhooks), ``quiet`` (no
    silence frames while nobody speaks).
    """

    provider: ClassVar[str]
    app: ASGIApp

    def __init__(self, *, base_url: str, http: httpx.AsyncClient | None = None) -> None:
        """``http`` is the client webhooks go out by; without one the sandbox makes and closes its own."""
        self.base_url = base_url.rstrip("/")
        self.quirks: set[str] = set()
        self.stock = NumberStock()
        self.far_ends: dict[str, FarEnd] = {}
        self.requests: list[RestRequest] = []
        self.closing = asyncio.Event()
        """Set by :meth:`aclose`: what is never answered waits for this."""
        self._own_http = http is None
        # Webhooks go where they are sent, whatever proxy the environment names.
        # A connection is kept for less long than any server keeps one: else it may be closed in the very moment it is
        # used again, and a webhook would be lost, every so often, five idle seconds after the last.
        kept = httpx.Limits(keepalive_expiry=1.0)
        self._http = http or httpx.AsyncClient(trust_env=False, timeout=30.0, limits=kept)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._arrivals = asyncio.Event()
        self.courier = Courier(self._http, self.start, self.quirks)

    # --- every carrier's own --------------------------------------------------------------------------------------

    @abstractmethod
    def credential(self, **overrides: Any) -> Credential:
        """A credential that works here: its ``base_url`` points to us, its webhook secret is what we sign with."""

    @abstractmethod
    def add_number(self, number: str) -> None:
        """Give the account a number it owns already."""

    @abstractmethod
    async def ring(self, to: str, from_: str, *, said: bytes = b"") -> FarEnd:
        """Somebody rings a number of ours and, when answered, says ``said``. ``LookupError``: nobody's number."""

    @abstractmethod
    def sign(self, delivery: Delivery) -> Delivery:
        """``delivery`` with the carrier's signature for its present URL and body, made now."""

    def give_number(self, number: str, credential: Credential) -> None:
        """Give the account of ``credential`` a number it owns already, where the carrier tells accounts apart."""
        self.add_number(number)

    def open_account(self, credential: Credential) -> None:
        """Know a credential somebody made themselves, so that its webhooks can be signed before it first logs in."""
        return None

    def point_webhooks(self, url: str) -> None:
        """Type ``url`` into the carrier's console, for carriers whose numbers are not configured by API."""
        return None

    # --- the same for all -----------------------------------------------------------------------------------------

    @property
    def deliveries(self) -> list[Delivery]:
        """All webhooks sent so far, in the order they were answered."""
        return self.courier.log

    async def redeliver(self, index: int) -> Delivery:
        """Send a past webhook once more, byte for byte: a replay."""
        return await self.courier.post(self.deliveries[index].again())

    async def far_end(self, call_id: str, timeout: float = 5) -> FarEnd:
        """The telephone at the other end of a call, waiting for the call to be placed if need be."""
        async with asyncio.timeout(timeout):
            while call_id not in self.far_ends:
                await self._arrivals.wait()
        return self.far_ends[call_id]

    def connect(self, far_end: FarEnd) -> FarEnd:
        """Enter a new call's far end."""
        self.far_ends[far_end.call_id] = far_end
        arrivals, self._arrivals = self._arrivals, asyncio.Event()
        arrivals.set()
        return far_end

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run in the background until done or :meth:`aclose`; what goes wrong there, ``aclose`` raises."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    async def aclose(self) -> None:
        """End everything still going on, without telling anybody. Raises what a background task died of."""
        self.closing.set()
        for far_end in list(self.far_ends.values()):
            far_end.ended("sandbox closed")
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)
        if self._own_http:
            await self._http.aclose()
        if self._failures:
            failures = [f if isinstance(f, Exception) else RuntimeError(repr(f)) for f in self._failures]
            self._failures = []
            raise ExceptionGroup(f"the {self.provider} sandbox failed in the background", failures)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def may_stream_to(url: str) -> bool:
    """True for ``wss://`` anywhere, and for ``ws://`` on this machine: the only place a sandbox may go unencrypted."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "wss" or (parts.scheme == "ws" and parts.hostname in LOOPBACK))
