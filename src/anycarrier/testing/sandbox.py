"""Sandbox: a carrier without an account. An ASGI app that speaks the carrier's protocols, with methods to act in it.

This is the carrier-neutral part: what a test, a demo or a control API can do with any sandbox, and how a sandbox sends
webhooks. Each provider ships a subclass that speaks its carrier's REST, webhooks and media socket.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, cast
from urllib.parse import urlsplit

import httpx

from anycarrier.credentials import Credential
from anycarrier.errors import ConfigurationError
from anycarrier.plugins import get_provider
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import NumberInventory

if TYPE_CHECKING:
    from starlette.types import ASGIApp


T = TypeVar("T")

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
        self.inventory = NumberInventory()
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
        self.webhooks = WebhookSender(self._http, self.start, self.quirks)

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

    def lead_here(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a credential, changed so that it leads to this sandbox, wherever it has led before."""
        return {**fields, "base_url": self.base_url}

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
        return self.webhooks.log

    async def redeliver(self, index: int) -> Delivery:
        """Send a past webhook once more, byte for byte: a replay."""
        return await self.webhooks.post(self.deliveries[index].again())

    async def far_end(self, call_id: str, timeout: float = 20) -> FarEnd:
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


class WebhookSender:
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

    async def wait_for(self, kind: str, *, count: int = 1, timeout: float = 20) -> list[Delivery]:
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


def sandbox_type(carrier: str) -> type[Sandbox]:
    """The sandbox the carrier's plugin ships; ``ConfigurationError`` when it ships none."""
    module, _, name = get_provider(carrier).sandbox.partition(":")
    if not name:
        raise ConfigurationError(f"provider {carrier!r} ships no sandbox: it names none in Provider.sandbox")
    return cast(type[Sandbox], getattr(import_module(module), name))


async def until_interrupted(work: Coroutine[Any, Any, T], interrupt: asyncio.Future[Any]) -> T | None:
    """What ``work`` comes to. Once ``interrupt`` is done, ``work`` is cancelled, and it is None; look there."""
    task = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {task, interrupt}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if not interrupt.done():
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        raise failure
    return None
