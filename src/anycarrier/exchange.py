"""Exchange: the one object a platform holds.

It searches and assigns numbers, makes and takes calls, and serves their audio, over any carrier. What its parts share
is in ``switchboard.py``; webhooks are handled in ``incoming.py``, media sockets in ``media.py``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.call_commands import CallCommands
from anycarrier.call_phases import QUEUED_AT_CARRIER
from anycarrier.call_watch import CallWatch
from anycarrier.callbook import CallBook, OnceStore
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, advance
from anycarrier.credentials import Credential, CredentialSource, MemoryCredentials
from anycarrier.errors import (
    AnycarrierError,
    AuthenticationFailed,
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
    StoreUnavailable,
    TicketRefused,
)
from anycarrier.events import CallEvent
from anycarrier.incoming import Turns, WebhookHandler
from anycarrier.listener import Desk, Listener, MediaTransport
from anycarrier.media import MediaServer
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult, e164
from anycarrier.policy import Policy
from anycarrier.provider import Capability, Provider, TicketPlace
from anycarrier.redaction import mask_number
from anycarrier.routing import Line, NumberRegistry, Router, by_line
from anycarrier.switchboard import Handler, Report, Switchboard, TransferGuard, log_failure
from anycarrier.tickets import Ticket
from anycarrier.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("anycarrier")

CARRIER_GRACE = 3.0
"""Seconds a carrier is to wait beyond our own limit before it ends a call by itself."""

WRITE_AGAIN = 1.0
"""Seconds between tries to write down a dialled call while the call book is unavailable."""


@runtime_checkable
class ManagedAgents(Protocol):
    """Agents with resources of their own (speech engines, sockets), opened and closed with the exchange."""

    async def open(self, switchboard: Switchboard) -> None:
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
    agent_id -> handler. ``transfer_guard`` is asked, after the policy, whether a call may be transferred.
    ``time_limit`` (seconds from answer) bounds calls that name none. Sessions are in ``audio`` whatever a carrier
    uses; ``carrier_audio`` is what carriers are asked for. ``settle`` is how many seconds a carrier may take to report
    a call over once its stream has ended; then it is asked.

    More than one process needs a shared ``registry``, ``calls`` and ``once``; ``owner`` names this one in ``calls``.
    While one of them raises ``StoreUnavailable``, calls go on where they can. ``report`` is called with every failure
    that no caller waits for (default: the log). ``turns`` is entered around each verified event, by credential id.
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
        report: Report = log_failure,
        turns: Turns | None = None,
    ) -> None:
        self.switchboard = Switchboard(
            registry=registry,
            credentials=credentials,
            public_url=public_url,
            secret=secret,
            agents=agents,
            policy=policy,
            router=router,
            transfer_guard=transfer_guard,
            calls=calls,
            once=once,
            http=http,
            audio=audio,
            carrier_audio=carrier_audio,
            time_limit=time_limit,
            owner=owner,
            report=report,
        )
        self.call_watch = CallWatch(self.switchboard, settle=settle)
        self.started = False
        """Whether :meth:`start` has run, and :meth:`stop` has not since."""
        self._commands = CallCommands(self.switchboard)
        self._webhooks = WebhookHandler(self.switchboard, self._commands, self.call_watch, turns)
        self._media = MediaServer(self.switchboard, self._commands, self.call_watch)
        self._listeners: dict[str, Listener] = {}
        self._dialling: dict[str, bool] = {}
        """By reference, whether the carrier was asked: calls being dialled, and those of which it is not known whether
        they ring, until they have ended."""
        self.switchboard.on_change.append(self._no_longer_dialling)

    # --- numbers ----------------------------------------------------------------------------------------------------

    async def search_numbers(
        self, query: NumberQuery | None = None, *, credential_id: str, **criteria: Any
    ) -> list[AvailableNumber]:
        """Numbers the carrier offers: give a :class:`NumberQuery`, or its fields as keywords."""
        provider = await self.switchboard.provider(credential_id)
        return await provider.search_numbers(query or NumberQuery(**criteria))

    async def buy_number(
        self, number: str, *, credential_id: str, agent_id: str | None = None, timeout: float = 30.0
    ) -> OwnedNumber | PendingOrder:
        """Buy a number found by search and, with ``agent_id``, assign it.

        A carrier that takes its time gives a :class:`PendingOrder` after ``timeout`` seconds; nothing is assigned then.
        """
        number = e164(number)
        if agent_id is not None:
            self.switchboard.handler_for(agent_id)
        provider = await self.switchboard.provider(credential_id)
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
        self.switchboard.handler_for(agent_id)
        provider = await self.switchboard.provider(credential_id)
        existing = await self._assigned_line(number)
        if existing is not None and existing.credential_id != credential_id:
            raise NumberAlreadyAssigned(number, existing.credential_id)
        sync = existing.sync if existing is not None else None
        if configure and provider.supports(Capability.CONFIGURE_NUMBER):
            webhook_url = self.switchboard.webhook_url(provider.name, credential_id)
            sync = await provider.configure_number(number, webhook_url=webhook_url)
            if not sync.ok:
                raise NotFound(provider.name, "configure_number", sync.message)
        line = Line(number=number, agent_id=agent_id, credential_id=credential_id, provider=provider.name, sync=sync)
        await self.switchboard.registry.assign(line)
        return line

    async def unassign(self, number: str, *, configure: bool = True) -> None:
        """Take the number out of service. The account keeps it.

        With ``configure`` the carrier is told first to send its calls here no more (see :meth:`unroute`); calls that
        come all the same are declined.
        """
        number = e164(number)
        if configure:
            await self.unroute(number, (await self.switchboard.registry.lookup(number)).credential_id)
        await self.switchboard.registry.unassign(number)

    async def unroute(self, number: str, credential_id: str) -> None:
        """Have the carrier send the number's calls here no more, where it can be told so.

        ``ProviderUnavailable`` and ``RateLimited`` are raised: try again. Any other refusal is only logged, since it
        would be the same the next time: the login is gone, or the number is another account's by now.
        """
        try:
            provider = await self.switchboard.provider(credential_id)
            if not provider.supports(Capability.UNCONFIGURE_NUMBER):
                return
            url = self.switchboard.webhook_url(provider.name, credential_id)
            done = await provider.unconfigure_number(number, webhook_url=url)
        except (ProviderUnavailable, RateLimited):
            raise
        except AnycarrierError as refused:
            done = SyncResult(ok=False, message=str(refused))
        if not done.ok:
            log.warning("the carrier may still send the calls of %s here: %s", mask_number(number), done.message)

    async def list_numbers(self, credential_id: str) -> list[OwnedNumber]:
        """Numbers the credential's account holds, assigned or not."""
        return await (await self.switchboard.provider(credential_id)).list_numbers()

    async def fetch_order(self, order: PendingOrder, *, credential_id: str) -> OwnedNumber | PendingOrder:
        """How a purchase that was pending stands now."""
        return await (await self.switchboard.provider(credential_id)).fetch_order(order.id)

    async def release_number(self, number: str, *, credential_id: str) -> None:
        """Give a number back to the carrier: final. Its line, if it has one, is taken out of service first."""
        number = e164(number)
        line = await self._assigned_line(number)
        if line is not None and line.credential_id == credential_id:
            await self.switchboard.registry.unassign(number)
        await (await self.switchboard.provider(credential_id)).release_number(number)

    # --- calls ------------------------------------------------------------------------------------------------------

    async def dial(
        self,
        *,
        from_: str | None = None,
        to: str | None = None,
        call: Call | None = None,
        agent_id: str | None = None,
        reference: str | None = None,
        custom: Mapping[str, str] | None = None,
        variables: Mapping[str, Any] | None = None,
        time_limit: float | None = None,
        **options: Any,
    ) -> Call:
        """Ring ``to`` from one of our numbers; the line's agent (or ``agent_id``) talks once it is answered.

        ``call`` is a call that is in the call book already, with its reference, numbers, agent and credential, in
        place of ``from_``, ``to``, ``agent_id`` and ``reference``. A refusal before the carrier is asked leaves it
        open.

        ``variables`` fill the placeholders of the agent's texts on this call, and reach the agent itself (Python or
        WebSocket); they need :class:`anycarrier.agent.Agents`, and stay in this process. ``custom`` are values that the
        carrier hands back with the stream. Time limit and machine detection are the agent's unless given here.

        ``options`` are those of :class:`DialRequest`: timeout, machine_detection, record, caller_id, digits,
        headers, extra.
        Exactly one request goes to the carrier. ``ProviderUnavailable`` means the outcome is unknown, unless its
        ``sent`` is False: the call stays in :meth:`calls_in_progress` until the carrier is heard of, or a minute after
        its ring time.
        """
        opened = call
        if call is None:
            call = await self._new_call(from_, to, agent_id, reference)
        elif not (from_ is to is agent_id is reference is None):
            raise ConfigurationError(
                "dial(call=...) takes numbers, agent and reference from the call: do not give them"
            )
        else:
            _check_never_dialled(call)
        if call.reference in self._dialling:
            raise ConfigurationError(
                "dial: this call is being dialled already, or its carrier did not say whether it rings; wait until it "
                "has ended, and dial a new call"
            )
        self._dialling[call.reference] = False
        try:
            return await self._dial(call, opened, custom or {}, variables or {}, time_limit, options)
        finally:
            if not self._dialling.get(call.reference):
                self._dialling.pop(call.reference, None)

    async def _dial(
        self,
        call: Call,
        opened: Call | None,
        custom: Mapping[str, str],
        variables: Mapping[str, Any],
        time_limit: float | None,
        options: Mapping[str, Any],
    ) -> Call:
        board = self.switchboard
        agent = call.agent_id or ""
        board.handler_for(agent)
        board.policy.check_destination(call.from_, call.to)
        in_progress = 0
        if board.policy.max_concurrent is not None:  # counting may be a query: without a limit it is not made
            in_progress = sum(c.credential_id == call.credential_id for c in await board.calls.in_progress())
        board.policy.check_rate(call.credential_id, in_progress)
        provider = await board.provider(call.credential_id)
        wanted = await self._prepare_dial(agent, call.reference, variables)
        limits = (time_limit, call.time_limit, wanted.pop("time_limit", None), board.time_limit)
        limit = next((each for each in limits if each), None)
        options = {**wanted, **options}
        call = call.model_copy(update={"provider": provider.name, "owner": board.owner, "time_limit": limit})
        timeout = float(options.get("timeout", 30.0))
        # A carrier may queue the dial. What ends the ticket sooner is the end of its call.
        ttl = QUEUED_AT_CARRIER + timeout
        stream = board.stream_target(call, custom, ttl)
        if provider.supports(Capability.INSTRUCT):
            call = call.model_copy(update={"facts": board.keep_stream(call, custom, ttl)})
            stream = board.kept_stream(call) or stream
        request = DialRequest(
            from_=call.from_,
            to=call.to,
            reference=call.reference,
            stream=stream,
            status_url=board.status_url(call),
            # The carrier's limit is for when we are gone: ours ends the call, and tells the agent why.
            time_limit=limit + CARRIER_GRACE if limit else None,
            **options,
        )
        if opened is None:
            await board.calls.open(call)
        elif call != opened:  # before the dial: the watch and a carrier's question, in any process, go by the book
            call = await board.update(call.reference, _as_dialled(call))
        self.call_watch.note(call, ring_time=timeout)
        reference = call.reference
        self._dialling[reference] = True
        try:
            seen = await provider.dial(request)
        except ProviderUnavailable as failed:
            if not failed.sent:  # else a phone may be ringing: the watch waits for the carrier to name it
                await board.end_locally(call, EndReason.PROVIDER_UNAVAILABLE)
            raise
        except AnycarrierError as refused:
            await board.end_locally(call, _dial_reason(refused))
            raise
        try:
            return await self._dialled(provider, reference, seen)
        except StoreUnavailable:  # nobody else knows the carrier's id: without it the call could not be ended
            board.spawn(self._dialled_later(provider, reference, seen), "write down a dialled call")
            raise

    async def _dialled(self, provider: Provider, reference: str, seen: Call) -> Call:
        """Write down what the carrier says of a call it has taken; end it there if it is to end, or has, here."""
        call = await self.switchboard.update(reference, lambda known: advance(known, seen, datetime.now(UTC)))
        self._dialling.pop(reference, None)  # from here on the call book says that it was dialled
        if call.intent is not None and not call.ended:  # hung up while the carrier was still being asked
            await provider.hang_up(call.id)
        return call

    async def _dialled_later(self, provider: Provider, reference: str, seen: Call) -> None:
        while True:
            await asyncio.sleep(WRITE_AGAIN)
            try:
                call = await self._dialled(provider, reference, seen)
            except StoreUnavailable:
                continue
            if call.ended:  # written off meanwhile
                await provider.hang_up(seen.id)
            return

    def _no_longer_dialling(self, call: Call) -> None:
        if call.ended:
            self._dialling.pop(call.reference, None)

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """End a call, ringing or answered, from any process. One that is over already is success.

        When the carrier does not take the hang-up, its error is raised, and it is tried again in the background.

        A call that was transferred goes on without its agent: only ``API_STOP``, somebody's explicit wish, ends it,
        the target's leg with it. Any other reason is kept for the case that the transfer fails, and does nothing now.
        """
        await self._commands.hang_up(call, reason)

    async def transfer(
        self, call: Call | str, to: str, *, caller_id: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Hand the far end to a number or ``sip:`` address. Our stream ends; the call goes on without the agent.

        ``headers`` are SIP or custom headers for the new leg, where the carrier can send them.

        ``call.transfer`` tells how far it has come. When the target does not take it, the call is the agent's again
        if its stream is still open, else it is hung up.
        """
        await self._commands.transfer(call, to, caller_id=caller_id, headers=headers)

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """Send DTMF digits to the far end.

        They go over the media socket where the carrier takes them there, else by its command, else as tones in the
        audio. The first and the last need the call's session in this process.
        """
        await self._commands.send_digits(call, digits)

    async def start_recording(self, call: Call | str) -> str:
        """Let the carrier record the call; the recording's id ("" when it is told later)."""
        return await self._commands.start_recording(call)

    async def stop_recording(self, call: Call | str, recording_id: str = "") -> None:
        """Stop the carrier's recording."""
        await self._commands.stop_recording(call, recording_id)

    async def fetch_call(self, call: Call | str) -> Call:
        """Ask the carrier how the call stands, and take its word where it is ahead of ours."""
        return await self._commands.fetch_call(call)

    async def calls_in_progress(self) -> list[Call]:
        """Calls that have not ended."""
        return await self.switchboard.calls.in_progress()

    async def wait_for(self, call: Call | str, status: CallStatus = CallStatus.ENDED, timeout: float = 60.0) -> Call:
        """Wait until the call has come to ``status`` or beyond; ``TimeoutError`` after ``timeout`` seconds."""
        return await self.wait_until(call, lambda c: c.status.rank >= status.rank, timeout)

    async def wait_until(self, call: Call | str, met: Callable[[Call], bool], timeout: float) -> Call:
        """Wait until ``met`` holds for the call as this process knows it."""
        return await self.switchboard.wait_until(call, met, timeout)

    # --- what carriers bring -----------------------------------------------------------------------------------------

    async def handle_webhook(self, provider: str, credential_id: str, request: WebhookRequest) -> WebhookReply:
        """Verify, read and act on one webhook; always a reply in the carrier's own dialect."""
        return await self._webhooks.handle(provider, credential_id, request)

    async def admit(self, ticket: str, place: TicketPlace = TicketPlace.PATH) -> Ticket:
        """Check a media socket's ticket before its upgrade is accepted; ``TicketRefused`` starts nothing.

        ``place`` is where it was found: it counts only where its carrier brings it.
        """
        return await self._media.admit(ticket, place)

    async def serve_media(self, ticket: Ticket, transport: MediaTransport) -> None:
        """Carry one call's audio until it is over."""
        await self._media.serve(ticket, transport)

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
            if isinstance(agents := self._agents, ManagedAgents):
                await agents.open(self.switchboard)
            if isinstance(self.switchboard.credentials, MemoryCredentials):
                for credential_id in self.switchboard.credentials.by_id:
                    await self.start_listener(credential_id)
        except BaseException:
            self.started = False
            raise

    async def start_listener(self, credential_id: str) -> None:
        """Start the credential's listener, if its carrier has one and it is not running."""
        provider = await self.switchboard.provider(credential_id)
        if provider.supports(Capability.LISTEN) and credential_id not in self._listeners:
            listener = provider.listen(self._desk(credential_id))
            self._listeners[credential_id] = listener
            await listener.start()

    async def stop(self) -> None:
        """Close listeners, sessions and the HTTP client. Calls in progress are left to the carrier's time limits."""
        self.started = False
        for listener in self._listeners.values():
            await listener.stop()
        self._listeners.clear()
        self.call_watch.stop()
        await self.switchboard.end_work()
        if isinstance(agents := self._agents, ManagedAgents):
            await agents.aclose()
        await self.switchboard.aclose()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _desk(self, credential_id: str) -> Desk:
        return _CredentialDesk(self.switchboard, self._webhooks, self._media, credential_id)

    @property
    def _agents(self) -> object:
        return self.switchboard.agents

    async def _new_call(self, from_: str | None, to: str | None, agent_id: str | None, reference: str | None) -> Call:
        if from_ is None or to is None:
            raise ConfigurationError("dial needs from_ and to, or an opened call")
        from_, to = e164(from_), e164(to)
        line = await self.switchboard.registry.lookup(from_)
        return Call(
            id="",
            provider=line.provider,
            direction=Direction.OUTBOUND,
            from_=from_,
            to=to,
            status=CallStatus.QUEUED,
            reference=reference or uuid.uuid4().hex,
            credential_id=line.credential_id,
            agent_id=agent_id or line.agent_id,
            created_at=datetime.now(UTC),
        )

    async def _prepare_dial(self, agent_id: str, reference: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(agents := self._agents, PreparesDials):
            return dict(await agents.prepare_dial(agent_id, reference, variables))
        if variables:
            raise ConfigurationError(
                "variables are for agents of anycarrier.agent.Agents; "
                "a plain handler finds what it needs by call.reference"
            )
        return {}

    async def _assigned_line(self, number: str) -> Line | None:
        try:
            return await self.switchboard.registry.lookup(number)
        except NumberNotAssigned:
            return None


class _CredentialDesk:
    """The :class:`anycarrier.listener.Desk` of one credential's listener."""

    def __init__(
        self, switchboard: Switchboard, webhooks: WebhookHandler, media: MediaServer, credential_id: str
    ) -> None:
        self.credential_id = credential_id
        self._board = switchboard
        self._webhooks = webhooks
        self._media = media

    async def event(self, event: CallEvent) -> WebhookReply:
        """Handle a call event."""
        provider = await self._board.provider(self.credential_id)
        return await self._webhooks.handle_event(provider, self.credential_id, event)

    async def media(self, ticket: str, transport: MediaTransport) -> None:
        """Serve a call's audio until it is over."""
        admitted = await self._media.admit(ticket, None)
        if admitted.credential_id != self.credential_id:
            raise TicketRefused("it was made for another credential's call")
        await self._media.serve(admitted, transport)


def _check_never_dialled(call: Call) -> None:
    if call.id or call.ended or call.direction is not Direction.OUTBOUND:
        raise ConfigurationError(
            "dial(call=...) takes an outbound call of the call book that was never dialled; this one is "
            f"{call.direction}, {call.status}, and {'the carrier has it' if call.id else 'the carrier never had it'}"
        )


def _as_dialled(call: Call) -> Callable[[Call], Call]:
    """The change that writes into the book what the dial of an opened ``call`` has settled."""

    def settled(known: Call) -> Call:
        _check_never_dialled(known)
        facts = {**known.facts, **call.facts}
        change = {"provider": call.provider, "owner": call.owner, "time_limit": call.time_limit, "facts": facts}
        return known.model_copy(update=change)

    return settled


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
