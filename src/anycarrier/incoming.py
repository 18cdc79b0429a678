"""Handles what a carrier sends: a webhook, or an event of its own listener; and what an event changes about a call.

The order is what makes it safe: the credential in the path chooses the secret, the signature is checked before
anything is read, a replay is refused before a ticket is made, and only then is the number's agent looked up. Which call
an event is about is decided by the credential that vouches for it; how a call moves is in ``calls.py``.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import msgspec

from anycarrier.call_commands import CallCommands
from anycarrier.call_watch import CallWatch
from anycarrier.calls import Call, CallStatus, EndReason, StreamTarget, TransferStatus, advance, advance_transfer
from anycarrier.errors import (
    AnycarrierError,
    InvalidSipAddress,
    MalformedMessage,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    Replayed,
    RequestRejected,
    SignatureInvalid,
    StoreUnavailable,
    UnknownAgent,
    UnknownCredential,
    UnknownProvider,
    WireError,
)
from anycarrier.events import (
    CallEvent,
    CallProgress,
    DigitReported,
    IncomingCall,
    InstructionsFor,
    InstructionsRequested,
    MachineDetected,
    RoutingFailure,
    StreamProgress,
    TransferProgress,
)
from anycarrier.numbers import E164
from anycarrier.provider import Provider
from anycarrier.routing import Answer, Forward, LeaveRinging, Line, Reject, Route
from anycarrier.sip import SipAddress, is_sip
from anycarrier.switchboard import Switchboard
from anycarrier.webhooks import WebhookReply, WebhookRequest

log = logging.getLogger("anycarrier")

REMEMBER = 24 * 3600.0
"""Seconds an event id is remembered. A carrier without timestamps in its signature could be replayed for ever; after
a day the call book, which knows the call, still refuses."""

FORGET_EVERY = 1.0
"""Seconds between tries to forget an event while the store is unavailable."""

TICKET_TTL = 120.0
"""Seconds from answering to the carrier's media socket."""

ANSWER_PATIENCE = 20.0
"""Seconds in which an answer that failed may be tried again: longer than one request may take, shorter than a caller
listens to a ringing telephone."""

REPLY_PATIENCE = 5.0
"""The same where the carrier waits for the reply to its webhook, some fifteen seconds."""


Turns = Callable[[str], AbstractAsyncContextManager[None]]
"""Entered around each verified event, by credential id, so that a platform can have credentials take turns."""


class WebhookHandler:
    """Handles the webhooks and events of every carrier of one exchange."""

    def __init__(
        self, switchboard: Switchboard, commands: CallCommands, watch: CallWatch, turns: Turns | None = None
    ) -> None:
        self._board = switchboard
        self._commands = commands
        self._watch = watch
        self._turns = turns

    async def handle(self, provider_name: str, credential_id: str, request: WebhookRequest) -> WebhookReply:
        """One webhook, start to end."""
        try:
            provider = await self._board.provider(credential_id)
        except (UnknownCredential, UnknownProvider):
            return WebhookReply(status=404, body=b"no such credential")
        if provider.name != provider_name:
            return WebhookReply(status=404, body=b"no such credential")
        try:
            provider.verify(request)
            event = provider.parse_webhook(request)
        except SignatureInvalid as refused:
            log.warning("%s webhook refused for credential %s: %s", provider.name, credential_id, refused)
            return provider.refuse(refused)
        except MalformedMessage as problem:
            log.warning("%s webhook unreadable for credential %s: %s", provider.name, credential_id, problem)
            return provider.refuse(problem)
        return await self.handle_event(provider, credential_id, event)

    async def handle_event(self, provider: Provider, credential_id: str, event: CallEvent) -> WebhookReply:
        """One event whose sender is known to be the carrier."""
        if self._turns is None:
            return await self._handle_event(provider, credential_id, event)
        async with self._turns(credential_id):
            return await self._handle_event(provider, credential_id, event)

    async def _handle_event(self, provider: Provider, credential_id: str, event: CallEvent) -> WebhookReply:
        """Seen before: incoming calls are refused, everything else is acknowledged again."""
        key = f"event:{credential_id}:{event.event_id}"
        try:
            if isinstance(event, InstructionsRequested):
                return await self._instruct(provider, credential_id, event, key)
            if isinstance(event, CallProgress):
                known = await call_of(self._board, credential_id, event)
                if known is not None:
                    # What calls mostly bring: seen before or not, and how the call stands now, are one step.
                    await moved_on(self._board, credential_id, event, known, key)
                    return provider.acknowledge(event)
            if event.event_id and not await self._board.once.first(key, REMEMBER):
                return _repeated(provider, event)
            if isinstance(event, IncomingCall):
                return await self._incoming_call(provider, credential_id, event)
            await progressed(self._board, self._commands, self._watch, credential_id, event)
            return provider.acknowledge(event)
        except AnycarrierError as problem:
            # The carrier may send it again, and then it must not count as a replay.
            if event.event_id and not isinstance(problem, Replayed):
                await _forget_now_or_later(self._board, key)
            level = logging.WARNING if isinstance(problem, WireError) else logging.ERROR
            log.log(level, "%s event %s not handled: %s", provider.name, type(event).__name__, problem)
            return provider.refuse(problem)
        except Exception:
            # The store is unavailable, or there is a bug. The HTTP layer reports it, and the carrier may retry.
            if event.event_id:
                await _forget_now_or_later(self._board, key)
            raise

    async def _instruct(
        self, provider: Provider, credential_id: str, event: InstructionsRequested, key: str
    ) -> WebhookReply:
        """Asked again, the carrier gets the same instructions: it may not have had the first. The ticket works once."""
        board = self._board
        call = await call_of(board, credential_id, event)
        if call is None:
            board.tell_observers(event, None, None)
            return await provider.instruct(event, event.call, None)
        await moved_on(board, credential_id, event, call, key)
        call = await board.calls.get(call.reference) or call
        wanted = event.purpose == InstructionsFor.ANSWERED and not call.ended and call.intent is None
        return await provider.instruct(event, call, board.kept_stream(call) if wanted else None)

    async def _incoming_call(self, provider: Provider, credential_id: str, event: IncomingCall) -> WebhookReply:
        line = await _called_line(self._board, event.call.to, credential_id)
        fresh = event.call.model_copy(
            update={
                "to": line.number if line else event.call.to,
                "reference": uuid.uuid4().hex,
                "credential_id": credential_id,
                "agent_id": line.agent_id if line else None,
                "owner": self._board.owner,
                "time_limit": self._board.time_limit,
            }
        )
        call = await self._board.calls.open(fresh)
        if call.reference != fresh.reference:
            raise Replayed("this call is known already")
        self._board.tell(call)
        event = msgspec.structs.replace(event, call=call, reference=call.reference)
        self._board.tell_observers(event, call, line)
        if provider.answers_in_reply:
            return await self._route(provider, event, call, line)
        # The carrier's patience for a webhook is short and it takes commands afterwards: acknowledge first.
        self._board.spawn(self._route(provider, event, call, line), f"answer a call on {provider.name}")
        return provider.acknowledge(event)

    async def _route(self, provider: Provider, event: IncomingCall, call: Call, line: Line | None) -> WebhookReply:
        """Decide and do it. Any failure on our side declines the call, so that no caller keeps ringing."""
        try:
            with self._watch.routing(call.reference):
                try:
                    route = await self._board.router(event, line)
                    if isinstance(route, Reject):
                        await self._tell_why(call, line, route)
                    return await self._follow(provider, event, call, line, route)
                except ProviderError:
                    raise
                except Exception as failure:  # noqa: BLE001 reported
                    if isinstance(failure, UnknownAgent):
                        detail = f"declined: there is no agent {failure.agent_id!r}"
                        unknown = RoutingFailure.UNKNOWN_AGENT
                        await self._board.routing_failed(call, unknown, detail, failure.agent_id)
                    elif isinstance(failure, AnycarrierError):
                        log.error("call on %s declined: %s", provider.name, failure)
                    else:
                        self._board.report(f"call on {provider.name} declined", failure)
                    return await self._follow(provider, event, call, line, Reject(EndReason.AGENT_ERROR))
        except ProviderError as refused:
            if provider.answers_in_reply:  # and so it is declined in the reply
                await self._board.end_locally(call, EndReason.PROVIDER_UNAVAILABLE)
                raise
            return await self._decline(provider, event, call, refused)

    async def _tell_why(self, call: Call, line: Line | None, declined: Reject) -> None:
        """Report a call that is declined because of a failure to the observers."""
        failure, why = declined.failure, declined.why or "no agent takes it"
        if failure is None and line is None:
            failure = RoutingFailure.NUMBER_NOT_ASSIGNED
            why = "no line of this credential has the number that was called"
        if failure is not None:
            await self._board.routing_failed(call, failure, f"declined: {why}", declined.agent_id)

    async def _decline(
        self, provider: Provider, event: IncomingCall, call: Call, refused: ProviderError
    ) -> WebhookReply:
        """The carrier did not do what was decided: decline the call; what does not work now is up to the watch."""
        log.error("call on %s declined: %s", provider.name, refused)

        def ending(known: Call) -> Call:
            if known.ended or (known.intent is not None and known.transfer is None):
                return known
            return known.model_copy(update={"intent": EndReason.PROVIDER_UNAVAILABLE, "transfer": None})

        await self._board.update(call.reference, ending)
        try:
            return await provider.reject(event)
        except ProviderError as problem:
            log.warning("call on %s could not be declined yet: %s", provider.name, problem)
            return provider.acknowledge(event)

    async def _follow(
        self, provider: Provider, event: IncomingCall, call: Call, line: Line | None, route: Route
    ) -> WebhookReply:
        match route:
            case Answer(agent_id, custom, time_limit):
                self._board.handler_for(agent_id)
                limit = time_limit or call.time_limit
                call = await self._board.update(
                    call.reference, lambda c: c.model_copy(update={"agent_id": agent_id, "time_limit": limit})
                )
                target = self._board.stream_target(call, custom, ttl=TICKET_TTL)
                return await _answer(self._board, provider, event, target)
            case Reject(reason):
                declined = {"intent": reason, "transfer": None}
                try:
                    await self._board.update(call.reference, lambda c: c.model_copy(update=declined))
                except StoreUnavailable:  # no caller keeps ringing for it
                    self._board.keep_reason(call, reason)
                return await provider.reject(event, _told_to_caller(reason, line))
            case Forward(to):
                self._board.policy.check_destination(call.line_number, to)
                # Declined, should the target not take it.
                forwarded = {"intent": EndReason.REJECTED, "transfer": TransferStatus.REQUESTED}
                if not provider.reports_transfers:
                    forwarded["transfer"] = TransferStatus.ANSWERED
                call = await self._board.update(call.reference, lambda c: c.model_copy(update=forwarded))
                return await provider.forward(event, to, status_url=self._board.status_url(call))
            case LeaveRinging():
                self._watch.leave_ringing(call.reference)
                return provider.leave_ringing(event)


def _told_to_caller(reason: EndReason, line: Line | None) -> EndReason:
    """As much of why a call is declined as a caller may learn."""
    if reason is EndReason.BUSY:
        return reason
    return EndReason.INVALID_NUMBER if line is None and reason is EndReason.REJECTED else EndReason.REJECTED


async def _forget_now_or_later(switchboard: Switchboard, key: str) -> None:
    """Forget an event, later if the store is unavailable now; else the event would be ignored when it is sent again."""
    try:
        await switchboard.once.forget(key)
    except Exception as away:  # noqa: BLE001 whatever the store's driver raises
        log.warning("an event that was not handled is forgotten later: %s", type(away).__name__)
        switchboard.spawn(_forget(switchboard, key), "forget an event that was not handled")


async def _forget(switchboard: Switchboard, key: str) -> None:
    deadline = asyncio.get_running_loop().time() + REMEMBER
    while True:
        await asyncio.sleep(FORGET_EVERY)
        try:
            await switchboard.once.forget(key)
            return
        except Exception:
            if asyncio.get_running_loop().time() > deadline:
                raise


def _repeated(provider: Provider, event: CallEvent) -> WebhookReply:
    if isinstance(event, IncomingCall) and provider.answers_in_reply:
        return provider.refuse(Replayed("this call was announced before"))
    return provider.acknowledge(event)


async def _answer(
    switchboard: Switchboard, provider: Provider, event: IncomingCall, target: StreamTarget
) -> WebhookReply:
    """Answer, and again when that fails in a way that passes; answering what is answered does no harm.

    Carriers tell one command from another by its id, which is the provider's to keep the same.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + (REPLY_PATIENCE if provider.answers_in_reply else ANSWER_PATIENCE)
    pause = 0.5
    tried_before = False
    while True:
        try:
            return await provider.answer(event, target)
        except (ProviderUnavailable, RateLimited) as problem:
            wait = max(pause, (problem.retry_after or 0.0) if isinstance(problem, RateLimited) else 0.0)
            if clock() + wait > until:
                # An answer whose reply was lost may have been heard: the call talks while we waited for that reply.
                if await _is_answered_or_over(switchboard, event.reference):
                    return provider.acknowledge(event)
                raise
            log.warning("%s Trying again in %.1f s.", problem, wait)
        except RequestRejected:
            # The answer that seemed to fail may have been heard, and this refusal be due to it.
            if tried_before and await _is_answered_or_over(switchboard, event.reference):
                return provider.acknowledge(event)
            raise
        await asyncio.sleep(wait)
        pause, tried_before = pause * 2, True
        if await _is_answered_or_over(switchboard, event.reference):
            return provider.acknowledge(event)


async def _is_answered_or_over(switchboard: Switchboard, reference: str) -> bool:
    call = await switchboard.calls.get(reference)
    return call is None or call.status.rank >= CallStatus.ANSWERED.rank or call.intent is not None


async def _called_line(switchboard: Switchboard, called: str, credential_id: str) -> Line | None:
    """The line that was called, which the carrier may name as ``14155550100`` or ``sip:+14155550100@host`` too.

    Nothing is guessed: digits are taken for a whole number with its country code, and it must be a line of ours.
    """
    number = called
    if not E164.fullmatch(called) and is_sip(called):
        try:
            number = SipAddress.parse(called).user or ""
        except InvalidSipAddress:
            return None
    for spelling in (number, f"+{number}"):
        if E164.fullmatch(spelling) and (line := await switchboard.line_of(spelling, credential_id)):
            return line
    return None


async def moved_on(
    switchboard: Switchboard, credential_id: str, event: CallProgress, call: Call, key: str | None
) -> None:
    """Move ``call`` on. With ``key``, an event that has an id does so once only."""
    seen, when, unnamed = event.call, _when(event), not call.id

    def change(known: Call) -> Call:
        return advance(known, seen, when)

    if key is None or not event.event_id:
        moved: Call | None = await switchboard.update(call.reference, change)
    else:
        moved = await switchboard.update_once(key, REMEMBER, call.reference, change)
    if moved is None:
        return
    if unnamed:
        await _now_named(switchboard, credential_id, moved, seen)
    await switchboard.observe(event, moved)


async def _now_named(switchboard: Switchboard, credential_id: str, call: Call, seen: Call) -> None:
    """Hang up a call that was to be hung up, or was given up, while nobody knew what to call it."""
    if call.id and not seen.ended and (call.ended or call.intent is not None):
        provider = await switchboard.provider(credential_id)
        switchboard.spawn(provider.hang_up(call.id), "hang up a call the carrier has just named")


async def progressed(
    switchboard: Switchboard, commands: CallCommands, watch: CallWatch, credential_id: str, event: CallEvent
) -> None:
    """Take in news of any kind, seen for the first time."""
    call = await call_of(switchboard, credential_id, event)
    if call is None:
        # A leg we do not keep (a transfer's other half), or a call from before we were started.
        switchboard.tell_observers(event, None, None)
        return
    key = call.reference
    match event:
        case CallProgress():
            await moved_on(switchboard, credential_id, event, call, None)
            return
        case MachineDetected(answered_by=who):
            call = await switchboard.update(key, lambda c: c.model_copy(update={"answered_by": who}))
        case TransferProgress(status=status):
            call = await _transfer_moved(switchboard, credential_id, call, status, _when(event))
        case StreamProgress(status="failed") if call.status is not CallStatus.ENDED:
            switchboard.spawn(commands.hang_up(call, EndReason.MEDIA_ERROR), "end a call whose audio failed")
        case _:
            pass
    await switchboard.observe(event, call)
    session = switchboard.sessions.get(key)
    if session is not None and isinstance(event, DigitReported | MachineDetected | TransferProgress):
        session.stream.deliver(event)
        if call.transfer is TransferStatus.ANSWERED:
            session.stream.stop("transferred")  # not every carrier ends our stream when others talk
    elif session is None and isinstance(event, DigitReported):
        watch.keep_keys(key, event)


async def _transfer_moved(switchboard: Switchboard, credential_id: str, call: Call, status: str, at: datetime) -> Call:
    provider = await switchboard.provider(credential_id)
    abandoned = False

    def moved(c: Call) -> Call:
        nonlocal abandoned
        after = advance_transfer(c, status, at)
        given_back = c.transfer is not None and after.transfer is None and not after.ended
        abandoned = given_back and after.intent is not None
        if not given_back or after.intent is EndReason.API_STOP:
            return after
        if status == "canceled":
            # Mostly the far end left, whose hang-up is about to be told: the agent's wish to leave is not its reason.
            return after.model_copy(update={"intent": None})
        if after.intent is None and provider.answers_in_reply:
            # Such a carrier took our stream away for the transfer, and its call ends with the reply to this event.
            return after.model_copy(update={"intent": EndReason.AGENT_HANGUP})
        return after

    call = await switchboard.update(call.reference, moved)
    if abandoned:
        switchboard.spawn(provider.hang_up(call.id), "hang up a call whose transfer failed after its agent had left")
    return call


def _when(event: CallEvent) -> datetime:
    """When it happened: the carrier's time, read as the second it names where it names no finer one."""
    now = datetime.now(UTC)
    if event.occurred_at is None:
        return now
    if event.occurred_at.microsecond == 0:
        return max(event.occurred_at, min(now, event.occurred_at + timedelta(seconds=0.999)))
    return event.occurred_at


async def call_of(switchboard: Switchboard, credential_id: str, event: CallEvent) -> Call | None:
    """The call the event is about; None when we keep none."""
    for key in (event.call_id, event.reference):
        call = await switchboard.calls.get(key) if key else None
        # A reference is only as good as the credential that vouches for it, and it names one leg: another leg's news is
        # not this call's, but some news (of a recording, of a transfer's target) names no leg at all.
        if call is None or call.credential_id != credential_id:
            continue
        if not event.call_id or call.id in ("", event.call_id):
            return call
    return None
