"""One media socket, from its ticket to the end of the call.

When a handler returns, its queued audio finishes playing, then the call is hung up. A handler that fails ends the call
too: a caller is never left in silence, and a carrier leg never goes on billing unattended. A stream
that ends tells nothing about the call: what becomes of it then is in ``call_watch.py``, and so is the time limit.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from anycarrier import call_progress
from anycarrier.calls import Call, CallStatus, EndReason, advance
from anycarrier.errors import AgentUnreachable, StreamNotOpen, TicketRefused, UnknownAgent
from anycarrier.events import CallEvent, CallProgress, RoutingFailure
from anycarrier.listener import MediaTransport
from anycarrier.session import MediaSession
from anycarrier.tickets import Ticket
from anycarrier.webhooks import WebhookReply

if TYPE_CHECKING:
    from anycarrier.exchange import Exchange, Handler

log = logging.getLogger("anycarrier")

START_TIMEOUT = 10.0
"""Seconds from the socket's opening to the carrier's start frame."""

NAMING_TIMEOUT = 5.0
"""Seconds a media socket may be ahead of the answer to our own dial request, which names the call."""

HANDLER_GRACE = 5.0
"""Seconds a handler has to finish after its stream has ended."""


class ExchangeDesk:
    """What a carrier's own listener may ask of us."""

    def __init__(self, exchange: Exchange, credential_id: str) -> None:
        self._exchange = exchange
        self.credential_id = credential_id

    async def event(self, event: CallEvent) -> WebhookReply:
        """Report a call event."""
        provider = await self._exchange.provider(self.credential_id)
        return await self._exchange.handle_event(provider, self.credential_id, event)

    async def media(self, ticket: str, transport: MediaTransport) -> None:
        """Serve a call's audio until it is over."""
        await serve(self._exchange, await admit(self._exchange, ticket), transport)


async def admit(exchange: Exchange, text: str) -> Ticket:
    """The ticket, if it is good and its call is waiting for a stream."""
    ticket = await exchange.tickets.redeem(text)
    call = await exchange.calls.get(ticket.reference)
    if call is None or call.ended:
        raise TicketRefused("its call is over")
    try:
        handler = exchange.handler_for(ticket.agent_id)
    except UnknownAgent as nobody:
        detail = f"hung up: there is no agent {ticket.agent_id!r}"
        await call_progress.routing_failed(exchange, call, RoutingFailure.UNKNOWN_AGENT, detail, ticket.agent_id)
        exchange.spawn(exchange.hang_up(call, EndReason.AGENT_ERROR), "hang up a call whose agent is gone")
        raise TicketRefused(str(nobody)) from None
    if handler is None:
        raise TicketRefused("this exchange has no handler: give it agents, or pass one to create_app")
    return ticket


async def serve(exchange: Exchange, ticket: Ticket, transport: MediaTransport) -> None:
    """Carry one call's audio until it is over."""
    handler = exchange.handler_for(ticket.agent_id)
    call = await exchange.calls.get(ticket.reference)
    if handler is None or call is None or ticket.reference in exchange.sessions:
        await transport.close(1008)
        return
    provider = await exchange.provider(ticket.credential_id)
    session = MediaSession(
        call, ticket.agent_id, provider.serializer(), transport, exchange, format=exchange.audio
    )
    exchange.sessions[ticket.reference] = session
    reader = asyncio.create_task(session.read(), name=f"media {ticket.reference}")
    try:
        if await _begin(exchange, ticket, session):
            await _talk(exchange, session, handler)
    finally:
        await session.close()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        exchange.sessions.pop(ticket.reference, None)
        exchange.call_watch.stream_ended(ticket.reference)


async def _begin(exchange: Exchange, ticket: Ticket, session: MediaSession) -> bool:
    """Wait for the start frame and compare whose call it is; False closes the socket with nothing started."""
    started = await session.wait_started(START_TIMEOUT)
    if started is None:
        unreadable = f" ({session.malformed_frames} frames could not be read)" if session.malformed_frames else ""
        log.warning("media socket on %s closed: no start frame%s", ticket.provider, unreadable)
        return False
    expected = ticket.call_id
    if not expected:
        try:
            expected = (await exchange.wait_until(ticket.reference, lambda c: bool(c.id), NAMING_TIMEOUT)).id
        except TimeoutError:
            expected = started.call_id  # the dial's outcome is unknown, and here is its call
    if started.call_id != expected:
        log.warning("media socket on %s closed: its ticket was made for another call", ticket.provider)
        return False
    now = datetime.now(UTC)
    seen = {"id": started.call_id, "status": CallStatus.ANSWERED}
    before = await exchange.calls.get(ticket.reference)

    def here(known: Call) -> Call:
        """Answered; and with its audio the call is this process's, whichever opened it."""
        if known.ended:
            return known
        return advance(known, known.model_copy(update=seen), now).model_copy(update={"owner": exchange.owner})

    session.call = await exchange.update(ticket.reference, here)
    if session.call.ended:
        return False  # its end came between the ticket and the start frame
    if before is not None and before.status.rank < CallStatus.ANSWERED.rank:
        # Not every carrier announces the answer of a call we took; whoever watches calls is told of it all the same.
        told = CallProgress(call=session.call, call_id=session.call.id, reference=session.call.reference)
        await call_progress.observe(exchange, told, session.call)
    if session.unreadable is not None:
        log.warning("call %s ends: %s", ticket.reference, session.unreadable)
        await exchange.hang_up(session.call, EndReason.MEDIA_ERROR)
        return False
    if session.call.intent is not None:
        # Hung up before the carrier had named it: now it can be told.
        provider = await exchange.provider(ticket.credential_id)
        await provider.hang_up(session.call.id)
        return False
    return True


async def _talk(exchange: Exchange, session: MediaSession, handler: Handler) -> None:
    talking = asyncio.ensure_future(handler(session))
    over = asyncio.ensure_future(session.wait_stopped())
    try:
        await asyncio.wait({talking, over}, return_when=asyncio.FIRST_COMPLETED)
        if not talking.done():
            await asyncio.wait({talking}, timeout=HANDLER_GRACE)
        if not talking.done():
            log.warning("agent %s still busy %g s after its call ended: cancelled", session.agent_id, HANDLER_GRACE)
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
        reason = await _verdict(exchange, session, talking)
        if not session.ended and await _unfinished(exchange, session):
            if reason is EndReason.AGENT_HANGUP:
                await session.drain()
            await exchange.hang_up(session.call, reason)
    except StreamNotOpen:
        pass  # the far end was quicker
    finally:
        talking.cancel()
        over.cancel()


async def _verdict(exchange: Exchange, session: MediaSession, talking: asyncio.Future[None]) -> EndReason:
    failure = None if talking.cancelled() else talking.exception()
    if failure is None or (isinstance(failure, StreamNotOpen) and session.ended):
        return EndReason.AGENT_HANGUP
    if isinstance(failure, AgentUnreachable):
        unreachable = RoutingFailure.AGENT_UNREACHABLE
        await call_progress.routing_failed(exchange, session.call, unreachable, str(failure), failure.agent_id)
    else:
        exchange.report(f"agent {session.agent_id} failed", failure)
    return EndReason.AGENT_ERROR


async def _unfinished(exchange: Exchange, session: MediaSession) -> bool:
    call = await exchange.calls.get(session.call.reference)
    return call is not None and not call.ended
