"""Switchboard: what every part of one process shares about its calls, below :class:`anycarrier.exchange.Exchange`.

It holds the registry, the credentials and their providers, the call book, the once store, tickets, policy, router,
agents, observers and live sessions. Webhooks, media sockets and the call watch work on it and import downwards; a
platform reaches it as ``exchange.switchboard``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from weakref import WeakSet

from anycarrier import plugins
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.callbook import CallBook, MemoryCallBook, MemoryOnce, OnceCallBook, OnceStore
from anycarrier.calls import (
    LONGEST_FACT,
    STREAM_FACT,
    Call,
    CallStatus,
    EndReason,
    MachineDetection,
    StreamTarget,
    advance,
    checked_reference,
)
from anycarrier.credentials import Credential, CredentialSource, MemoryCredentials
from anycarrier.errors import (
    AnycarrierError,
    CallUnconfirmed,
    ConfigurationError,
    NumberNotAssigned,
    ProviderUnavailable,
    StoreUnavailable,
    UnknownAgent,
    UnknownCall,
)
from anycarrier.events import CallEvent, RoutingFailed, RoutingFailure
from anycarrier.policy import Policy
from anycarrier.provider import Capability, Provider, TicketPlace
from anycarrier.routing import Line, NumberRegistry, Router, by_line
from anycarrier.session import MediaSession, check_handler
from anycarrier.subscriptions import Observer, Subscription
from anycarrier.tickets import Ticket, TicketOffice

if TYPE_CHECKING:
    import httpx

    from anycarrier.listener import Desk

log = logging.getLogger("anycarrier")

PATH_CHARACTERS = "!$&'()*+,;=:@"
"""What stands in a URL's path as it is (RFC 3986), besides letters, digits and ``-._~``."""

Handler = Callable[[MediaSession], Awaitable[None]]
"""Talks on one call; when it returns, its queued audio finishes playing and the call is hung up."""

GIVE_AGENTS = (
    "Give a function (async def front_desk(session)), what an adapter's *_agent(...) returns, "
    "anycarrier.agent.Agents(), or a dict of functions by agent id. "
    "A path (module:function) goes to Agents().add(..., handler=path)."
)

TransferGuard = Callable[[Call, str], Awaitable[None]]
"""Asked before a call is transferred, whoever asks for it; raises to refuse."""

Report = Callable[[str, BaseException], None]
"""Called with each failure that no caller waits for; the first argument is a clause, "agent x failed"."""


def log_failure(what: str, failure: BaseException) -> None:
    """The default :data:`Report`: an error in the log. A store that is unavailable is one line, without a traceback."""
    if isinstance(failure, StoreUnavailable):
        log.error("%s: the store is unavailable (%s)", what, failure)
    else:
        log.error("%s: %s", what, str(failure) or type(failure).__name__, exc_info=failure)


class Switchboard:
    """What the parts of an exchange share; the arguments are those of :class:`anycarrier.exchange.Exchange`."""

    def __init__(
        self,
        *,
        registry: NumberRegistry,
        credentials: Mapping[str, Credential] | CredentialSource,
        public_url: str,
        secret: str | bytes,
        agents: Handler | Mapping[str, Handler] | None = None,
        policy: Policy | None = None,
        router: Router = by_line,
        transfer_guard: TransferGuard | None = None,
        calls: CallBook | None = None,
        once: OnceStore | None = None,
        http: httpx.AsyncClient | None = None,
        audio: AudioFormat = PCMU_8K,
        carrier_audio: AudioFormat = PCMU_8K,
        time_limit: float | None = None,
        owner: str | None = None,
        report: Report = log_failure,
    ) -> None:
        url = urlsplit(public_url)
        if url.scheme not in ("https", "http") or not url.hostname or url.query or url.fragment:
            raise ConfigurationError(f"public_url must be like https://voice.example.com, not {public_url!r}")
        if url.username is not None or url.password is not None:
            raise ConfigurationError("public_url must not hold a user or password: carriers and agents get to see it")
        if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise ConfigurationError("public_url must be https, except on loopback: calls and secrets travel over it")
        self.public_url = public_url.rstrip("/")
        self.registry = registry
        self.credentials = MemoryCredentials(credentials) if isinstance(credentials, Mapping) else credentials
        self.agents = agents
        self.policy = policy or Policy()
        self.router = router
        self.transfer_guard = transfer_guard
        self.calls: CallBook = calls or MemoryCallBook()
        self.once: OnceStore = once or MemoryOnce()
        self.tickets = TicketOffice(secret, self.once)
        self.audio = audio
        self.carrier_audio = carrier_audio
        self.time_limit = time_limit
        self.owner = owner or uuid.uuid4().hex
        self.report = report
        self.observers: list[Observer] = []
        self.subscriptions: WeakSet[Subscription] = WeakSet()
        self.on_change: list[Callable[[Call], None]] = []
        """Called with every call that this process has changed or read anew, as it stands now."""
        self.on_new_provider: list[Callable[[str], None]] = []
        """Called with a credential's id when its secrets have changed, and its provider was made anew."""
        self.desk_for: Callable[[Provider, str], Desk] | None = None
        """Makes the desk of a provider that listens."""
        self.sessions: dict[str, MediaSession] = {}
        """Live sessions of this process, by call reference."""
        self._http = http
        self._own_http = http is None
        self._providers: dict[str, Provider] = {}
        self._waiters: dict[str, dict[asyncio.Future[Call], Callable[[Call], bool]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._unwritten: dict[str, EndReason] = {}

    # --- carriers, agents, lines --------------------------------------------------------------------------------------

    @property
    def agents(self) -> Handler | Mapping[str, Handler] | None:
        """One handler for all agents, or agent_id -> handler; ``ConfigurationError`` for what is neither."""
        return self._agents

    @agents.setter
    def agents(self, given: Handler | Mapping[str, Handler] | None) -> None:
        for agent_id, handler in given.items() if isinstance(given, dict) else ():
            check_handler(handler, f"agents[{agent_id!r}]")
        if given is not None and not isinstance(given, Mapping):
            check_handler(given, "agents", GIVE_AGENTS)
        self._agents = given

    async def provider(self, credential_id: str) -> Provider:
        """The provider of a credential: made once, made anew when the credential's secrets change."""
        credential = await self.credentials.credential(credential_id)
        provider = self._providers.get(credential_id)
        if provider is None or (provider.credential is not credential and provider.credential != credential):
            changed = provider is not None
            provider = self._providers[credential_id] = plugins.open_provider(credential, self._shared_http())
            provider.call_facts = partial(self._facts_of, credential_id)
            if provider.supports(Capability.LISTEN) and self.desk_for is not None:
                provider.desk = self.desk_for(provider, credential_id)
            for noted in self.on_new_provider if changed else ():
                noted(credential_id)
        return provider

    @contextmanager
    def asking(self, provider: Provider, operation: str) -> Iterator[None]:
        """While the carrier is asked about a call. What its plugin raises against the contract becomes
        ``ProviderUnavailable``: nobody knows what the carrier has done.
        """
        try:
            yield
        except (AnycarrierError, StoreUnavailable):
            raise
        except Exception as bug:
            self.report(f"{operation} on {provider.name}: a bug of its plugin", bug)
            raise ProviderUnavailable(provider.name, operation, type(bug).__name__) from bug

    async def _facts_of(self, credential_id: str, call_id: str) -> Mapping[str, str]:
        call = await self.calls.get(call_id)
        return call.facts if call is not None and call.credential_id == credential_id else {}

    def handler_for(self, agent_id: str) -> Handler | None:
        """The agent's handler; ``UnknownAgent`` when agents are listed and this one is not."""
        if isinstance(self.agents, Mapping):
            try:
                return self.agents[agent_id]
            except KeyError:
                raise UnknownAgent(agent_id, self.agents) from None
        return self.agents

    async def line_of(self, number: str, credential_id: str) -> Line | None:
        """The number's line if it belongs to this credential.

        A number is routed only by the account it is on: another tenant's carrier cannot ring it.
        """
        try:
            line = await self.registry.lookup(number)
        except NumberNotAssigned:
            return None
        return line if line.credential_id == credential_id else None

    # --- addresses ----------------------------------------------------------------------------------------------------

    def webhook_url(self, provider: str, credential_id: str) -> str:
        """Where the carrier posts for this credential; signatures cover the URL, so it is written as it will arrive."""
        if "/" in credential_id or not credential_id.strip("."):
            raise ConfigurationError(f"credential id {credential_id!r} cannot be part of a URL: use letters and digits")
        return f"{self.public_url}/{provider}/{quote(credential_id, safe=PATH_CHARACTERS)}"

    def status_url(self, call: Call) -> str:
        """Where the carrier posts about one call of ours."""
        return f"{self.webhook_url(call.provider, call.credential_id)}?ref={call.reference}"

    def stream_target(
        self, call: Call, custom: Mapping[str, str], ttl: float, listen: MachineDetection = MachineDetection.OFF
    ) -> StreamTarget:
        """Where the carrier is to connect the call's audio, with a ticket good for ``ttl`` seconds.

        ``listen``: the machine detection that is left to us.
        """
        ticket = self.tickets.issue(
            provider=call.provider,
            credential_id=call.credential_id,
            reference=call.reference,
            call_id=call.id,
            agent_id=call.agent_id or "",
            ttl=ttl,
            machine_detection=listen,
        )
        return self._target(call, custom, ticket)

    def keep_stream(
        self, call: Call, custom: Mapping[str, str], ttl: float, listen: MachineDetection = MachineDetection.OFF
    ) -> dict[str, str]:
        """The facts by which :meth:`kept_stream` makes the dialled call's stream target anew, in any process."""
        facts = {"expires": self.tickets.expiry(ttl), "listen": listen, "custom": dict(custom)}
        kept = json.dumps(facts, separators=(",", ":"))
        if len(kept) > LONGEST_FACT:
            raise ConfigurationError(
                f"the custom values of a call on {call.provider} are too long: the carrier asks for them only once the "
                f"call is answered, and at most {LONGEST_FACT - 64} characters are kept until then"
            )
        return {**call.facts, STREAM_FACT: kept}

    def kept_stream(self, call: Call) -> StreamTarget | None:
        """The stream target that the call was dialled with, its one-shot ticket included; None when none is kept."""
        try:
            kept = json.loads(call.facts[STREAM_FACT])
        except (KeyError, ValueError):
            return None
        # Without the carrier's id: the ticket was made before the carrier had named the call.
        facts = Ticket(
            call.provider, call.credential_id, call.reference, "", call.agent_id or "", kept["expires"],
            kept.get("listen", "off"),
        )  # fmt: skip
        return self._target(call, kept["custom"], self.tickets.reissue(facts))

    def _target(self, call: Call, custom: Mapping[str, str], ticket: str) -> StreamTarget:
        url = f"ws{self.public_url.removeprefix('http')}/media"
        match plugins.get_provider(call.provider).ticket_place:
            case TicketPlace.PATH:
                url += f"/{ticket}"
            case TicketPlace.QUERY:
                url += f"?ticket={ticket}"
            case TicketPlace.HEADER:
                pass
        return StreamTarget(url=url, ticket=ticket, format=self.carrier_audio, custom=custom)

    # --- calls --------------------------------------------------------------------------------------------------------

    async def known(self, call: Call | str) -> Call:
        """The call as the call book has it. A ``Call`` that names its credential is written down if it is new."""
        key = call if isinstance(call, str) else call.reference or call.id
        known = await self.calls.get(key)
        if known is not None:
            return known
        if isinstance(call, Call) and call.credential_id:
            if not call.reference:
                call = call.model_copy(update={"reference": uuid.uuid4().hex})
            checked_reference(call.reference)
            opened = await self.calls.open(call)
            self.tell(opened)
            return opened
        raise UnknownCall(key)

    async def named(self, call: Call | str, operation: str) -> Call:
        """:meth:`known`, with the carrier's id; ``CallUnconfirmed`` before the carrier has named the call."""
        known = await self.known(call)
        if not known.id:
            raise CallUnconfirmed(known.provider, operation)
        return known

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        """Change a call in the book and wake everyone who waits for it."""
        call = await self.calls.update(key, self._with_reason(change))
        self._unwritten.pop(call.reference, None)
        self.tell(call)
        return call

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        """:meth:`update`, if this is the first use of ``event`` within ``ttl`` seconds; else None, and nothing done."""
        change = self._with_reason(change)
        if isinstance(self.calls, OnceCallBook):
            call = await self.calls.update_once(event, ttl, key, change)
        else:
            call = await self.calls.update(key, change) if await self.once.first(event, ttl) else None
        if call is not None:
            self._unwritten.pop(call.reference, None)
            self.tell(call)
        return call

    def tell(self, call: Call) -> None:
        """Pass the call's present state to its session, its waiters and :attr:`on_change`."""
        for noted in self.on_change:
            noted(call)
        for key in (call.reference, call.id) if self._waiters else ():
            for waiter, met in self._waiters.get(key, {}).items():
                # Judged here and now: by the time the waiter runs, the call may have moved on again.
                if not waiter.done() and met(call):
                    waiter.set_result(call)
        if (session := self.sessions.get(call.reference)) is not None:
            session.call = call
            if call.ended:
                session.stream.stop("call ended")

    async def wait_until(self, call: Call | str, met: Callable[[Call], bool], timeout: float) -> Call:
        """Wait until ``met`` holds for the call as this process knows it, or raise ``TimeoutError``.

        A call that is not known yet is waited for as well, by its reference or the carrier's id.
        """
        key = call if isinstance(call, str) else call.reference or call.id
        waiter: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(key, {})
        waiting[waiter] = met  # before the book is read: it may be changed meanwhile
        try:
            async with asyncio.timeout(timeout):
                try:
                    current = await self.known(call)
                except UnknownCall:
                    return await waiter
                return current if met(current) else await waiter
        finally:
            waiting.pop(waiter, None)
            if not waiting:
                self._waiters.pop(key, None)

    async def end_locally(self, call: Call, reason: EndReason) -> Call:
        """Write the call off: the carrier never had it, or will not report its end."""
        over = call.model_copy(update={"status": CallStatus.ENDED, "reason": reason})
        return await self.update(call.reference, lambda c: advance(c, over, datetime.now(UTC)))

    def keep_reason(self, call: Call, reason: EndReason) -> EndReason:
        """Remember why ``call`` is hung up while the call book is unavailable; it is written with the next change.

        Returns the reason that stands: the call's own intent, or the first one kept.
        """
        reason = call.intent or self._unwritten.setdefault(call.reference, reason)
        if (session := self.sessions.get(call.reference)) is not None:
            session.call = call.model_copy(update={"intent": reason})
        return reason

    def _with_reason(self, change: Callable[[Call], Call]) -> Callable[[Call], Call]:
        """``change``, applied to the call with the reason that could not be written before."""
        if not self._unwritten:
            return change

        def changed(call: Call) -> Call:
            reason = self._unwritten.get(call.reference)
            if reason is not None and call.intent is None and not call.ended:
                call = call.model_copy(update={"intent": reason})
            return change(call)

        return changed

    # --- observers ----------------------------------------------------------------------------------------------------

    async def observe(self, event: CallEvent, call: Call) -> None:
        """Tell observers and plugins of an event; plugins get the number's line too, which is looked up for them."""
        line = await self.line_of(call.line_number, call.credential_id) if plugins.watched() else None
        self.tell_observers(event, call, line)

    async def routing_failed(
        self, call: Call, failure: RoutingFailure, detail: str, agent_id: str | None = None
    ) -> None:
        """Report that a call did not reach its agent: one line in the log, and an event to observers."""
        log.warning("call %s on %s: %s", call.reference, call.provider, detail)
        event = RoutingFailed(
            call_id=call.id, reference=call.reference, occurred_at=datetime.now(UTC), failure=failure,
            agent_id=agent_id, detail=detail,
        )  # fmt: skip
        await self.observe(event, call)

    def tell_observers(self, event: CallEvent, call: Call | None, line: Line | None) -> None:
        """:meth:`observe` where the line is known, or there is none."""
        for observer in [*self.observers]:  # one may end its subscription at this very event
            try:
                observer(event, call)
            except Exception:
                log.exception("an observer failed on %s", type(event).__name__)
        plugins.call_event(event, line)

    # --- tasks and resources ------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Run ``work`` beside the present request; its failure is reported under ``what``."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.report(f"could not {task.get_name()}", failure)

    async def end_work(self) -> None:
        """Close the live sessions and cancel what was spawned; subscriptions end after that."""
        for session in list(self.sessions.values()):
            await session.stream.close(1001)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for subscription in [*self.subscriptions]:
            subscription.close()

    async def aclose(self) -> None:
        """Close the providers, and the HTTP client unless it was given."""
        for provider in self._providers.values():
            await provider.aclose()
        self._providers.clear()
        if self._http is not None and self._own_http:
            await self._http.aclose()
            self._http = None

    def _shared_http(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            # One pool for all carriers; no retries anywhere, since a retried dial rings a person twice.
            self._http = httpx.AsyncClient(timeout=Provider.timeout, limits=httpx.Limits(max_connections=200))
        return self._http
