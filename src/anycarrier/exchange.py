"""Exchange: the one object a platform holds.

It finds and assigns numbers, makes and takes calls, and serves their audio; which carrier a call is on shows nowhere.
What happens when a webhook comes in is in ``incoming.py``, what happens on a media socket in ``media.py``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from anycarrier import incoming, media, plugins
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.call_phases import QUEUED_AT_CARRIER
from anycarrier.call_watch import CallWatch
from anycarrier.callbook import CallBook, MemoryCallBook, OnceCallBook
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, StreamTarget, TransferStatus, advance
from anycarrier.credentials import Credential, CredentialSource, MemoryCredentials
from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
    CallUnconfirmed,
    ConfigurationError,
    InsufficientFunds,
    NotFound,
    NumberAlreadyAssigned,
    NumberNotAssigned,
    NumberRejected,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    UnknownAgent,
    UnknownCall,
)
from anycarrier.events import CallEvent
from anycarrier.listener import Listener, MediaTransport
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult, e164
from anycarrier.once import MemoryOnce, OnceStore
from anycarrier.policy import Policy
from anycarrier.provider import Capability, Provider
from anycarrier.redaction import mask_number
from anycarrier.registry import Line, NumberRegistry
from anycarrier.routing import Router, by_line
from anycarrier.session import MediaSession
from anycarrier.tickets import Ticket, TicketOffice
from anycarrier.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("anycarrier")

CARRIER_GRACE = 3.0
"""Seconds a carrier is to wait beyond our own limit before it ends a call by itself."""

Handler = Callable[[MediaSession], Awaitable[None]]
"""Talks on one call; returning hangs up once everything said was heard."""

TransferGuard = Callable[[Call, str], Awaitable[None]]
"""Asked before a call is handed on, whoever wants it; raises what speaks against it."""

Observer = Callable[[CallEvent, Call | None], None]
"""Told of every verified event and the call it was about; must return fast."""


@runtime_checkable
class Staff(Protocol):
    """Agents that hold something dear (speech engines, sockets), opened and closed with the exchange."""

    async def open(self, exchange: Exchange) -> None:
        """Before the first call."""
        ...

    async def aclose(self) -> None:
        """After the last one."""
        ...


@runtime_checkable
class PreparesDials(Protocol):
    """Agents with settings of their own, which a dial must know: :class:`anycarrier.agent.Agents`."""

    async def prepare_dial(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep ``variables`` for the call of that reference; the arguments of :meth:`Exchange.dial` that the agent's
        settings ask for."""
        ...


class Exchange:
    """Numbers, calls and media over any carrier.

    ``credentials`` is a mapping id -> Credential, or a :class:`CredentialSource`. ``public_url`` is the origin (and
    path, when mounted) under which carriers reach us: the single source for signatures and media URLs. ``secret``
    seals media tickets and must be the same in every process. ``agents`` is one handler for all agents, or a mapping
    agent_id -> handler. ``transfer_guard`` is asked, after the policy, whether a call may be handed on. ``time_limit``
    (seconds from answer) bounds calls that name none. Sessions are in ``audio`` whatever a carrier uses;
    ``carrier_audio`` is what carriers are asked for. ``settle`` is how many seconds a carrier may take to report a call
    over once its stream has ended; then it is asked.

    More than one process needs a shared ``registry``, ``calls`` and ``once``; ``owner`` names this one in ``calls``.
    """

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
        settle: float = 5.0,
        owner: str | None = None,
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
        self.settle = settle
        self.owner = owner or uuid.uuid4().hex
        self.call_watch = CallWatch(self)
        self.started = False
        """Whether :meth:`start` has run, and :meth:`stop` has not since."""
        self.observers: list[Observer] = []
        self.sessions: dict[str, MediaSession] = {}
        """Live sessions of this process, by call reference."""
        self._http = http
        self._own_http = http is None
        self._providers: dict[str, Provider] = {}
        self._listeners: dict[str, Listener] = {}
        self._waiters: dict[str, dict[asyncio.Future[Call], Callable[[Call], bool]]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- numbers ----------------------------------------------------------------------------------------------------

    async def search_numbers(
        self, query: NumberQuery | None = None, *, credential_id: str, **criteria: Any
    ) -> list[AvailableNumber]:
        """Numbers the carrier offers: give a :class:`NumberQuery`, or its fields as keywords."""
        provider = await self.provider(credential_id)
        return await provider.search_numbers(query or NumberQuery(**criteria))

    async def buy_number(
        self, number: str, *, credential_id: str, agent_id: str | None = None, timeout: float = 30.0
    ) -> OwnedNumber | PendingOrder:
        """Buy a number found by search and, with ``agent_id``, assign it.

        A carrier that takes its time gives a :class:`PendingOrder` after ``timeout`` seconds; nothing is assigned then.
        """
        number = e164(number)
        if agent_id is not None:
            self.handler_for(agent_id)
        provider = await self.provider(credential_id)
        bought = await provider.buy_number(number, timeout=timeout)
        if agent_id is not None and isinstance(bought, OwnedNumber):
            await self.assign(number, agent_id=agent_id, credential_id=credential_id)
        return bought

    async def assign(self, number: str, *, agent_id: str, credential_id: str, configure: bool = True) -> Line:
        """Give a number to an agent; a number of the same credential is simply re-assigned.

        With ``configure`` the carrier is told to send the number's calls here (idempotent), and only when that worked
        is the line registered. ``NumberAlreadyAssigned`` when another credential serves the number.
        """
        number = e164(number)
        self.handler_for(agent_id)
        provider = await self.provider(credential_id)
        existing = await self._line(number)
        if existing is not None and existing.credential_id != credential_id:
            raise NumberAlreadyAssigned(number, existing.credential_id)
        sync = existing.sync if existing is not None else None
        if configure and provider.supports(Capability.CONFIGURE_NUMBER):
            sync = await provider.configure_number(number, webhook_url=self.webhook_url(provider.name, credential_id))
            if not sync.ok:
                raise NotFound(provider.name, "configure_number", sync.message)
        line = Line(number=number, agent_id=agent_id, credential_id=credential_id, provider=provider.name, sync=sync)
        await self.registry.assign(line)
        return line

    async def unassign(self, number: str, *, configure: bool = True) -> None:
        """Take the number out of service. The account keeps it.

        With ``configure`` the carrier is told first to send its calls here no more (see :meth:`unroute`); calls that
        come all the same are declined.
        """
        number = e164(number)
        if configure:
            await self.unroute(number, (await self.registry.lookup(number)).credential_id)
        await self.registry.unassign(number)

    async def list_numbers(self, credential_id: str) -> list[OwnedNumber]:
        """Numbers the credential's account holds, assigned or not."""
        return await (await self.provider(credential_id)).list_numbers()

    async def fetch_order(self, order: PendingOrder, *, credential_id: str) -> OwnedNumber | PendingOrder:
        """How a purchase that was pending stands now."""
        return await (await self.provider(credential_id)).fetch_order(order.id)

    async def release_number(self, number: str, *, credential_id: str) -> None:
        """Give a number back to the carrier: final. Its line, if it has one, is taken out of service first."""
        number = e164(number)
        line = await self._line(number)
        if line is not None and line.credential_id == credential_id:
            await self.registry.unassign(number)
        await (await self.provider(credential_id)).release_number(number)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def dial(
        self,
        *,
        from_: str,
        to: str,
        agent_id: str | None = None,
        reference: str | None = None,
        custom: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        time_limit: float | None = None,
        line: Line | None = None,
        **options: Any,
    ) -> Call:
        """Ring ``to`` from one of our numbers; the line's agent (or ``agent_id``) talks once it is answered.

        ``variables`` fill the placeholders of the agent's texts on this call, and reach the agent itself (Python or
        WebSocket); they need :class:`anycarrier.agent.Agents`, and stay in this process. ``custom`` are values that the
        carrier hands back with the stream. Time limit and machine detection are the agent's unless given here.
        ``line`` is the number's, from who has looked it up already.

        ``options`` are those of :class:`DialRequest`: timeout, machine_detection, record, caller_id, digits, extra.
        Exactly one request goes to the carrier. ``ProviderUnavailable`` means the outcome is unknown, unless its
        ``sent`` is False: the call stays in :meth:`calls_in_progress` until the carrier is heard of, or a minute after
        its ring time.
        """
        from_, to = e164(from_), e164(to)
        if line is None or line.number != from_:
            line = await self.registry.lookup(from_)
        agent = agent_id or line.agent_id
        self.handler_for(agent)
        self.policy.check_destination(from_, to)
        in_progress = 0
        if self.policy.max_concurrent is not None:  # counting may be a query; who sets no limit does not pay for it
            in_progress = sum(c.credential_id == line.credential_id for c in await self.calls.in_progress())
        self.policy.check_rate(line.credential_id, in_progress)
        provider = await self.provider(line.credential_id)
        reference = reference or uuid.uuid4().hex
        wanted = await self._prepare_dial(agent, reference, variables or {})
        theirs = wanted.pop("time_limit", None)
        time_limit, options = time_limit or theirs, {**wanted, **options}
        call = Call(
            id="",
            provider=provider.name,
            direction=Direction.OUTBOUND,
            from_=from_,
            to=to,
            status=CallStatus.QUEUED,
            reference=reference,
            credential_id=line.credential_id,
            agent_id=agent,
            owner=self.owner,
            time_limit=time_limit or self.time_limit,
            created_at=datetime.now(UTC),
        )
        timeout = float(options.get("timeout", 30.0))
        request = DialRequest(
            from_=from_,
            to=to,
            reference=call.reference,
            # A carrier may queue the dial. What ends the ticket sooner is the end of its call.
            stream=self.stream_target(call, custom or {}, ttl=QUEUED_AT_CARRIER + timeout),
            status_url=f"{self.webhook_url(provider.name, line.credential_id)}?ref={call.reference}",
            # The carrier's limit is for when we are gone: ours ends the call, and tells the agent why.
            time_limit=call.time_limit + CARRIER_GRACE if call.time_limit else None,
            **options,
        )
        await self.calls.open(call)
        self.call_watch.note(call, ring_time=timeout)
        try:
            seen = await provider.dial(request)
        except ProviderUnavailable as failed:
            if not failed.sent:  # else a phone may be ringing: the watch waits for the carrier to name it
                await self.end_locally(call, EndReason.PROVIDER_UNAVAILABLE)
            raise
        except AnycarrierError as refused:
            await self.end_locally(call, _dial_reason(refused))
            raise
        call = await self.update(call.reference, lambda known: advance(known, seen, datetime.now(UTC)))
        if call.intent is not None and not call.ended:  # hung up while the carrier was still being asked
            await provider.hang_up(call.id)
        return call

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """End a call, ringing or answered, from any process. One that is over already is success.

        When the carrier does not take the hang-up, its error is raised, and it is tried again in the background.

        A call that was transferred goes on without its agent: only ``API_STOP``, somebody's explicit wish, ends it,
        the target's leg with it. Any other reason is kept for the case that the transfer fails, and does nothing now.
        """
        call = await self._known(call)
        if call.ended:
            return
        provider = await self.provider(call.credential_id)

        def asked(c: Call) -> Call:
            stands = c.intent is not None and (c.transfer is None or reason is not EndReason.API_STOP)
            return c if stands else c.model_copy(update={"intent": reason})

        call = await self.update(call.reference, asked)
        if call.id and (call.transfer is None or reason is EndReason.API_STOP):
            await provider.hang_up(call.id)

    async def transfer(self, call: Call | str, to: str, *, caller_id: str | None = None) -> None:
        """Hand the far end to a number or ``sip:`` address. Our stream ends; the call goes on without the agent.

        ``call.transfer`` tells how far it has come. When the target does not take it, the call is the agent's again
        if its stream is still open, else it is hung up.
        """
        call = await self._named(call, "transfer")
        self.policy.check_destination(call.line_number, to)
        if self.transfer_guard is not None:
            await self.transfer_guard(call, to)
        provider = await self.provider(call.credential_id)
        before = call.transfer
        await self.update(call.reference, lambda c: c.model_copy(update={"transfer": TransferStatus.REQUESTED}))
        try:
            # Our own number unless told otherwise: carriers default to one we may not be allowed to show.
            shown = caller_id or call.line_number
            await provider.transfer(call.id, to, caller_id=shown, status_url=self.status_url(call))
        except AnycarrierError:
            await self.update(call.reference, lambda c: c.model_copy(update={"transfer": before}))
            raise
        if not provider.reports_transfers:
            await self.update(call.reference, lambda c: c.model_copy(update={"transfer": TransferStatus.ANSWERED}))

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """Press keys. Carriers without a command for it get them as tones in the audio, when the call is ours."""
        call = await self._named(call, "send_digits")
        provider = await self.provider(call.credential_id)
        session = self.sessions.get(call.reference)
        if provider.supports(Capability.SEND_DIGITS) or session is None:
            await provider.send_digits(call.id, digits)
            return
        from anycarrier.tones import dtmf_tones

        await session.send_audio(dtmf_tones(digits, session.format))

    async def start_recording(self, call: Call | str) -> str:
        """Let the carrier record the call; the recording's id ("" when it is told later)."""
        call = await self._named(call, "start_recording")
        provider = await self.provider(call.credential_id)
        return await provider.start_recording(call.id, status_url=self.status_url(call))

    async def stop_recording(self, call: Call | str, recording_id: str = "") -> None:
        """Stop the carrier's recording."""
        call = await self._named(call, "stop_recording")
        await (await self.provider(call.credential_id)).stop_recording(call.id, recording_id)

    async def fetch_call(self, call: Call | str) -> Call:
        """Ask the carrier how the call stands, and take its word where it is ahead of ours."""
        call = await self._named(call, "fetch_call")
        seen = await (await self.provider(call.credential_id)).fetch_call(call.id)
        return await self.update(call.reference, lambda c: advance(c, seen, datetime.now(UTC)))

    async def calls_in_progress(self) -> list[Call]:
        """Calls that have not ended."""
        return await self.calls.in_progress()

    async def wait_for(self, call: Call | str, status: CallStatus = CallStatus.ENDED, timeout: float = 60.0) -> Call:
        """Wait until the call has come to ``status`` or beyond; ``TimeoutError`` after ``timeout`` seconds."""
        return await self.wait_until(call, lambda c: c.status.rank >= status.rank, timeout)

    async def wait_until(self, call: Call | str, met: Callable[[Call], bool], timeout: float) -> Call:
        """Wait until ``met`` holds for the call as this process knows it."""
        async with asyncio.timeout(timeout):
            current = await self._known(call)
            if met(current):
                return current
            waiter: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            waiting = self._waiters.setdefault(current.reference, {})
            waiting[waiter] = met
            try:
                return await waiter
            finally:
                waiting.pop(waiter, None)
                if not waiting:
                    self._waiters.pop(current.reference, None)

    # --- what carriers bring -----------------------------------------------------------------------------------------

    async def handle_webhook(self, provider: str, credential_id: str, request: WebhookRequest) -> WebhookReply:
        """Verify, read and act on one webhook; always a reply in the carrier's own dialect."""
        return await incoming.handle_webhook(self, provider, credential_id, request)

    async def handle_event(self, provider: Provider, credential_id: str, event: CallEvent) -> WebhookReply:
        """Act on one event whose sender is known to be the carrier."""
        return await incoming.handle_event(self, provider, credential_id, event)

    async def admit(self, ticket: str) -> Ticket:
        """Check a media socket's ticket before its upgrade is accepted; ``TicketRefused`` starts nothing."""
        return await media.admit(self, ticket)

    async def serve_media(self, ticket: Ticket, transport: MediaTransport) -> None:
        """Carry one call's audio until it is over."""
        await media.serve(self, ticket, transport)

    # --- coming and going --------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start speech engines, and the listeners of carriers with sockets of their own. A second call does nothing.

        ``create_app`` calls it. An app that serves the routes itself calls it before the first call.
        """
        if self.started:
            return
        self.started = True
        self.call_watch.start()
        try:
            if isinstance(staff := self._staff, Staff):
                await staff.open(self)
            if isinstance(self.credentials, MemoryCredentials):
                for credential_id in self.credentials.by_id:
                    await self.open_line_to(credential_id)
        except BaseException:
            self.started = False
            raise

    async def open_line_to(self, credential_id: str) -> None:
        """Start the credential's listener, if its carrier has one and it is not running."""
        provider = await self.provider(credential_id)
        if provider.supports(Capability.LISTEN) and credential_id not in self._listeners:
            listener = provider.listen(media.ExchangeDesk(self, credential_id))
            self._listeners[credential_id] = listener
            await listener.start()

    async def stop(self) -> None:
        """Close listeners, sessions and the HTTP client. Calls in progress are left to the carrier's time limits."""
        self.started = False
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        self.call_watch.stop()
        for session in list(self.sessions.values()):
            await session.close(1001)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if isinstance(staff := self._staff, Staff):
            await staff.aclose()
        for provider in self._providers.values():
            await provider.aclose()
        self._providers.clear()
        if self._http is not None and self._own_http:
            await self._http.aclose()
            self._http = None

    # --- shared by the rooms below ------------------------------------------------------------------------------------

    async def provider(self, credential_id: str) -> Provider:
        """The carrier behind a credential: made once, made anew when the credential's secrets change."""
        credential = await self.credentials.credential(credential_id)
        provider = self._providers.get(credential_id)
        if provider is None or (provider.credential is not credential and provider.credential != credential):
            provider = self._providers[credential_id] = plugins.open_provider(credential, self._shared_http())
        return provider

    async def unroute(self, number: str, credential_id: str) -> None:
        """Have the carrier send the number's calls here no more, where it can be told so.

        ``ProviderUnavailable`` and ``RateLimited`` are raised: try again. Any other refusal is only logged, since it
        would be the same the next time: the login is gone, or the number is another account's by now.
        """
        try:
            provider = await self.provider(credential_id)
            if not provider.supports(Capability.UNCONFIGURE_NUMBER):
                return
            url = self.webhook_url(provider.name, credential_id)
            done = await provider.unconfigure_number(number, webhook_url=url)
        except (ProviderUnavailable, RateLimited):
            raise
        except AnycarrierError as refused:
            done = SyncResult(ok=False, message=str(refused))
        if not done.ok:
            log.warning("the carrier may still send the calls of %s here: %s", mask_number(number), done.message)

    def handler_for(self, agent_id: str) -> Handler | None:
        """The agent's handler; ``UnknownAgent`` when agents are listed and this one is not."""
        if isinstance(self.agents, Mapping):
            try:
                return self.agents[agent_id]
            except KeyError:
                raise UnknownAgent(agent_id, self.agents) from None
        return self.agents

    def webhook_url(self, provider: str, credential_id: str) -> str:
        """Where the carrier posts for this credential."""
        return f"{self.public_url}/{provider}/{credential_id}"

    def status_url(self, call: Call) -> str:
        """Where the carrier posts about one call of ours."""
        return f"{self.webhook_url(call.provider, call.credential_id)}?ref={call.reference}"

    def stream_target(self, call: Call, custom: Mapping[str, str], ttl: float) -> StreamTarget:
        """The media URL for a call, with a fresh ticket in its path."""
        ticket = self.tickets.issue(
            provider=call.provider,
            credential_id=call.credential_id,
            reference=call.reference,
            call_id=call.id,
            agent_id=call.agent_id or "",
            ttl=ttl,
        )
        url = f"ws{self.public_url.removeprefix('http')}/media/{ticket}"
        return StreamTarget(url=url, format=self.carrier_audio, custom=custom)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        """Change a call in the book and wake whoever waits for it."""
        call = await self.calls.update(key, change)
        self.tell(call)
        return call

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        """:meth:`update`, if this is the first use of ``event`` within ``ttl`` seconds; else None, and nothing done."""
        if isinstance(self.calls, OnceCallBook):
            call = await self.calls.update_once(event, ttl, key, change)
        else:
            call = await self.calls.update(key, change) if await self.once.first(event, ttl) else None
        if call is not None:
            self.tell(call)
        return call

    def tell(self, call: Call) -> None:
        """Everybody here who has to do with the call: how it stands now."""
        self.call_watch.note(call)
        for waiter, met in self._waiters.get(call.reference, {}).items():
            # Judged here and now: by the time the waiter runs, the call may have moved on again.
            if not waiter.done() and met(call):
                waiter.set_result(call)
        if (session := self.sessions.get(call.reference)) is not None:
            session.call = call
            if call.ended:
                session.stop("call ended")

    async def end_locally(self, call: Call, reason: EndReason) -> Call:
        """Write the call off: the carrier never had it, or will not tell us of its end."""
        over = call.model_copy(update={"status": CallStatus.ENDED, "reason": reason})
        return await self.update(call.reference, lambda c: advance(c, over, datetime.now(UTC)))

    def spawn(self, work: Coroutine[Any, Any, Any], what: str) -> asyncio.Task[Any]:
        """Run ``work`` beside the present request; its failure is logged under ``what``."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def report(self, what: str, failure: BaseException) -> None:
        """Say in the log what went wrong where nobody waits for it; ``what`` is a clause, "agent x failed"."""
        log.error("%s: %s", what, str(failure) or type(failure).__name__, exc_info=failure)

    @property
    def _staff(self) -> object:
        return self.agents

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self.report(f"could not {task.get_name()}", failure)

    async def _prepare_dial(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(staff := self._staff, PreparesDials):
            return dict(await staff.prepare_dial(agent_id, reference, variables))
        if variables:
            raise ConfigurationError(
                "variables are for agents of anycarrier.agent.Agents; "
                "a plain handler finds what it needs by call.reference"
            )
        return {}

    async def _known(self, call: Call | str) -> Call:
        key = call if isinstance(call, str) else call.reference or call.id
        known = await self.calls.get(key)
        if known is not None:
            return known
        if isinstance(call, Call) and call.credential_id:
            opened = await self.calls.open(call)
            self.call_watch.note(opened)
            return opened
        raise UnknownCall(key)

    async def _named(self, call: Call | str, operation: str) -> Call:
        known = await self._known(call)
        if not known.id:
            raise CallUnconfirmed(known.provider, operation)
        return known

    async def _line(self, number: str) -> Line | None:
        try:
            return await self.registry.lookup(number)
        except NumberNotAssigned:
            return None

    def _shared_http(self) -> httpx.AsyncClient:
        if self._http is None:
            import httpx

            # One pool for all carriers; no retries anywhere, since a retried dial rings a person twice.
            self._http = httpx.AsyncClient(timeout=Provider.timeout, limits=httpx.Limits(max_connections=200))
        return self._http


def _dial_reason(refused: AnycarrierError) -> EndReason:
    reasons: tuple[tuple[type[AnycarrierError], EndReason], ...] = (
        (NumberRejected, EndReason.INVALID_NUMBER),
        (PermissionDenied, EndReason.PROVIDER_PERMISSION_DENIED),
        (InsufficientFunds, EndReason.PROVIDER_PERMISSION_DENIED),
        (AuthenticationFailed, EndReason.PROVIDER_AUTH_FAILED),
        (RateLimited, EndReason.PROVIDER_RATE_LIMITED),
        (ProviderError, EndReason.UNKNOWN),
    )
    return next((reason for kind, reason in reasons if isinstance(refused, kind)), EndReason.UNKNOWN)


