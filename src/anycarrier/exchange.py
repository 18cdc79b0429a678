"""Exchange: the one object a platform holds.

It searches and assigns numbers, makes and takes calls, and serves their audio, over any carrier. What its parts share
is in ``switchboard.py``; ``dialling.py`` makes calls, ``incoming.py`` handles webhooks, ``media.py`` serves media
sockets.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.call_commands import CallCommands
from anycarrier.call_watch import CallWatch
from anycarrier.callbook import CallBook, OnceStore
from anycarrier.calls import Call, CallStatus, Direction, EndReason, TransferStatus, checked_reference
from anycarrier.credentials import Credential, CredentialSource, MemoryCredentials
from anycarrier.dialling import Dialler
from anycarrier.errors import (
    AnycarrierError,
    ConfigurationError,
    NotFound,
    NumberAlreadyAssigned,
    NumberNotAssigned,
    ProviderUnavailable,
    RateLimited,
)
from anycarrier.incoming import Turns, WebhookHandler
from anycarrier.listener import MediaTransport
from anycarrier.listeners import Listeners
from anycarrier.media import MediaServer
from anycarrier.numbers import AvailableNumber, NumberQuery, OwnedNumber, PendingOrder, SyncResult, e164
from anycarrier.policy import Policy
from anycarrier.provider import Capability, TicketPlace
from anycarrier.redaction import mask_number
from anycarrier.routing import Line, NumberRegistry, Router, by_line
from anycarrier.sip import destination
from anycarrier.subscriptions import MOST_EVENTS, Subscription
from anycarrier.switchboard import Handler, Report, Switchboard, TransferGuard, log_failure
from anycarrier.tickets import Ticket
from anycarrier.webhooks import WebhookReply, WebhookRequest

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("anycarrier")


@runtime_checkable
class ManagedAgents(Protocol):
    """Agents with resources of their own (speech engines, sockets), opened and closed with the exchange."""

    async def open(self, switchboard: Switchboard) -> None:
        """Before the first call."""
        ...

    async def aclose(self) -> None:
        """After the last one."""
        ...


class Exchange:
    """Numbers, calls and media over any carrier.

    ``credentials`` is a mapping id -> Credential, or a :class:`CredentialSource`. ``public_url`` is the origin (and
    path, when mounted) under which carriers reach us: the single source for signatures and media URLs. ``secret``
    seals media tickets and must be the same in every process. ``agents`` is one handler for all agents, or a mapping
    agent_id -> handler. ``transfer_guard`` is asked, after the policy, whether a call may be transferred.
    ``time_limit`` (seconds from answer) bounds calls that name none. Sessions are in ``audio`` whatever a carrier
    uses; ``carrier_audio`` is what carriers are asked for. ``settle`` is how many seconds a carrier may take to report
    a call over once its stream has ended; then it is asked. ``handler_grace`` is how many seconds a handler has to
    finish once its stream has ended; then it is cancelled.

    More than one process needs a shared ``registry``, ``calls`` and ``once``; ``owner`` names this one in ``calls``.
    While one of them raises ``StoreUnavailable``, calls go on where they can. ``report`` is called with every failure
    that no caller waits for (default: the log). ``turns`` is entered around each verified event, by credential id.

    ``carrier_settings`` are the operator's, for carriers with sockets of their own: at most one of each
    :attr:`Provider.settings_type`.
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
        handler_grace: float = 5.0,
        owner: str | None = None,
        report: Report = log_failure,
        turns: Turns | None = None,
        carrier_settings: Iterable[object] = (),
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
        self._media = MediaServer(self.switchboard, self._commands, self.call_watch, handler_grace=handler_grace)
        self.listeners = Listeners(self.switchboard, self._webhooks, self._media, carrier_settings)
        self._dialler = Dialler(self.switchboard, self.call_watch)

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

        ``to`` is a number, or a ``sip:`` address where the carrier rings those (:attr:`Provider.dials_sip`).

        ``call`` is a call that is in the call book already, with its reference, numbers, agent and credential, in
        place of ``from_``, ``to``, ``agent_id`` and ``reference``. A refusal before the carrier is asked leaves it
        open. A ``reference`` of yours is 32 lower-case hexadecimal digits, as of ``uuid.uuid4().hex``.

        ``variables`` fill the placeholders of the agent's texts on this call, and reach the agent itself (Python or
        WebSocket); they need :class:`anycarrier.agent.Agents`, and stay in this process. ``custom`` are values that the
        carrier hands back with the stream. Time limit and machine detection are the agent's unless given here.

        ``options`` are those of :class:`DialRequest`: timeout, machine_detection, record, caller_id, digits,
        headers, extra.
        Exactly one request goes to the carrier. ``ProviderUnavailable`` means the outcome is unknown, unless its
        ``sent`` is False: the call stays in :meth:`calls_in_progress` until the carrier is heard of, or a minute after
        its ring time.
        """
        opened = call is not None
        if call is None:
            if from_ is None or to is None:
                raise ConfigurationError("dial needs from_ and to, or an opened call")
            call = await self._new_call(e164(from_), destination(to), agent_id, reference)
        elif not (from_ is to is agent_id is reference is None):
            raise ConfigurationError(
                "dial(call=...) takes numbers, agent and reference from the call: do not give them"
            )
        checked_reference(call.reference)
        return await self._dialler.dial(call, opened, custom or {}, variables or {}, time_limit, options)

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """End a call, ringing or answered, from any process. One that is over already is success.

        One that another process has on sockets of its own is ended by that one within a second or two.

        When the carrier does not take the hang-up, its error is raised, and it is tried again in the background.

        A call that was transferred goes on without its agent: only ``API_STOP``, somebody's explicit wish, ends it, the
        target's leg with it; not over SIP, where the far end has called the target by itself. Any other reason is kept
        for the case that the transfer fails, and does nothing now.
        """
        await self._commands.hang_up(call, reason)

    async def transfer(
        self,
        call: Call | str,
        to: str = "",
        *,
        replaces: Call | str | None = None,
        caller_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hand the far end to a number or ``sip:`` address. Our stream ends; the call goes on without the agent.

        ``replaces``, in place of ``to``, is another call of ours, to somebody who was asked first: its far end takes
        over (attended transfer). Both calls are of one credential, and its carrier can do that
        (:attr:`Provider.attended_transfers`); the other call is transferred with this one, or is ours again with it.

        ``headers`` are SIP or custom headers for the new leg, where the carrier can send them.

        ``call.transfer`` tells how far it has come. When the target does not take it, the call is the agent's again
        if its stream is still open, else it is hung up.
        """
        await self._commands.transfer(call, to, replaces=replaces, caller_id=caller_id, headers=headers)

    async def wait_for_transfer(self, call: Call | str, timeout: float = 60.0) -> TransferStatus | None:
        """What comes of the call's transfer: ANSWERED, or None when the target did not take the call, and the call is
        ours again unless it has ended. ``TimeoutError`` while the target still rings after ``timeout`` seconds.
        """
        return await self._commands.wait_for_transfer(call, timeout)

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """Send DTMF digits to the far end. ``CallElsewhere`` where another process has the call on its own sockets.

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
        """Wait until the call has come to ``status`` or beyond; ``TimeoutError`` after ``timeout`` seconds.

        It may be named by its reference or the carrier's id, also before this process has heard of it.
        """
        return await self.wait_until(call, lambda c: c.status.rank >= status.rank, timeout)

    async def wait_until(self, call: Call | str, met: Callable[[Call], bool], timeout: float) -> Call:
        """Wait until ``met`` holds for the call as this process knows it; see :meth:`wait_for`."""
        return await self.switchboard.wait_until(call, met, timeout)

    def subscribe(self, *, most: int = MOST_EVENTS) -> Subscription:
        """This process's events from now on, to be iterated, each with its call; ``most`` that are not taken are kept.

        Close it, or use it as a context: else it ends with the exchange.
        """
        subscription = Subscription(self.switchboard.observers, most=most)
        self.switchboard.subscriptions.add(subscription)
        return subscription

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

        ``create_app`` calls it. An app that serves the routes itself calls it before the first call. A listener that
        does not open is named in the log and tried again; the others open.
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
                    await self.switchboard.provider(credential_id)  # a plugin that is missing is told at once
                starting = (self._start_quietly(credential_id) for credential_id in self.switchboard.credentials.by_id)
                await asyncio.gather(*starting)
        except BaseException:
            self.started = False
            raise

    async def start_listener(self, credential_id: str) -> None:
        """Start the credential's listener, if its carrier has one and it is not running with the present secrets.

        Raises what keeps it from opening: ``ConfigurationError`` for an address that cannot be bound, or what its
        carrier says. It is tried again all the same, less and less often, until it opens or :meth:`close_listener`.
        """
        await self.listeners.start(credential_id)

    async def close_listener(self, credential_id: str) -> None:
        """Close the credential's listener, if it has one: the credential or its last line is gone. Its calls end."""
        await self.listeners.close(credential_id)

    async def stop(self) -> None:
        """Close listeners, sessions and the HTTP client. Calls in progress are left to the carrier's time limits."""
        self.started = False
        await self.listeners.close_all()
        self.call_watch.stop()
        await self.switchboard.end_work()
        if isinstance(agents := self._agents, ManagedAgents):
            await agents.aclose()
        await self.switchboard.aclose()

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _start_quietly(self, credential_id: str) -> None:
        with suppress(AnycarrierError):  # which is in the log
            await self.start_listener(credential_id)

    @property
    def _agents(self) -> object:
        return self.switchboard.agents

    async def _new_call(self, from_: str, to: str, agent_id: str | None, reference: str | None) -> Call:
        line = await self.switchboard.registry.lookup(from_)
        return Call(
            id="",
            provider=line.provider,
            direction=Direction.OUTBOUND,
            from_=from_,
            to=to,
            status=CallStatus.QUEUED,
            reference=checked_reference(reference) if reference is not None else uuid.uuid4().hex,
            credential_id=line.credential_id,
            agent_id=agent_id or line.agent_id,
            created_at=datetime.now(UTC),
        )

    async def _assigned_line(self, number: str) -> Line | None:
        try:
            return await self.switchboard.registry.lookup(number)
        except NumberNotAssigned:
            return None
