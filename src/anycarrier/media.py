"""One media socket, from its ticket to the end of the call.

When a handler returns, its queued audio finishes playing, then the call is hung up. A handler that fails ends the call
too: a caller is never left in silence, and a carrier leg never goes on billing unattended. A stream
that ends tells nothing about the call: what becomes of it then is in ``call_watch.py``, and so is the time limit.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from anycarrier.audio import PCMU_8K
from anycarrier.call_commands import CallCommands
from anycarrier.call_watch import CallWatch
from anycarrier.calls import Call, CallStatus, Direction, EndReason, MachineDetection, advance
from anycarrier.errors import AgentUnreachable, StoreUnavailable, StreamNotOpen, TicketRefused, UnknownAgent
from anycarrier.events import CallProgress, MachineDetected, RoutingFailure
from anycarrier.incoming import progressed
from anycarrier.listener import MediaTransport
from anycarrier.machine_detection import UNDECIDED, MachineDetector, Verdict
from anycarrier.provider import TicketPlace
from anycarrier.session import MediaSession, run_handler
from anycarrier.switchboard import Handler, Switchboard
from anycarrier.tickets import Ticket

log = logging.getLogger("anycarrier")

START_TIMEOUT = 10.0
"""Seconds from the socket's opening to the carrier's start frame."""

EARLY_MEDIA = 1.0
"""Seconds between two looks at what early media has brought; it is dropped."""

LONGEST_RING = 900.0
"""Seconds that early media is served at most. Longer than any dial rings: the watch over open calls ends it before."""

NAMING_TIMEOUT = 5.0
"""Seconds a media socket may be ahead of the answer to our own dial request, which names the call."""


OVERDUE = UNDECIDED + 2.0
"""Seconds from the answer after which nobody knows who answered, if hardly any audio came to tell by."""


class MachineListener:
    """Listens for an answering machine in a call that was dialled with such a wish, on a carrier that does not detect.

    What it finds is reported like a carrier's event. It never costs the call anything but the verdict.
    """

    def __init__(
        self, switchboard: Switchboard, commands: CallCommands, watch: CallWatch, ticket: Ticket, session: MediaSession
    ) -> None:
        self._board = switchboard
        self._commands = commands
        self._watch = watch
        self._session = session
        self._credential_id = ticket.credential_id
        self._wanted = MachineDetection(ticket.machine_detection)
        self._detector: MachineDetector | None = None
        self._overdue: asyncio.TimerHandle | None = None
        self._in_order = asyncio.Lock()
        if self._wanted is not MachineDetection.OFF and session.call.direction is Direction.OUTBOUND:
            session.stream.monitor(self._hear)

    def answered(self) -> None:
        """The call is answered: within :data:`OVERDUE` seconds it is known who did, sound or none."""
        if self._session.stream.input.monitor is not None:
            self._overdue = asyncio.get_running_loop().call_later(OVERDUE, self._give_up)

    def stop(self) -> None:
        """The call is over."""
        self._session.stream.monitor(None)
        if self._overdue is not None:
            self._overdue.cancel()

    def _hear(self, payload: bytes) -> None:
        try:
            if self._detector is None:
                self._detector = MachineDetector(self._wanted, self._session.stream.carrier_format or PCMU_8K)
            for verdict in self._detector.hear(payload):
                self._report(verdict)
        except Exception as bug:  # noqa: BLE001 whatever it is, the call goes on
            self.stop()
            self._board.report("listening for an answering machine failed", bug)
            return
        if self._detector.done:
            self.stop()

    def _give_up(self) -> None:
        if self._detector is None or not self._detector.decided:
            self.stop()
            self._report(Verdict("unknown"))

    def _report(self, verdict: Verdict) -> None:
        self._board.spawn(self._tell(verdict, datetime.now(UTC)), "report who answered a call")

    async def _tell(self, verdict: Verdict, at: datetime) -> None:
        async with self._in_order:
            call = self._session.call
            event = MachineDetected(
                call_id=call.id, reference=call.reference, occurred_at=at, answered_by=verdict.answered_by,
                greeting_ended=verdict.greeting_ended, beep=verdict.beep,
            )  # fmt: skip
            await progressed(self._board, self._commands, self._watch, self._credential_id, event)


class MediaServer:
    """Serves the media sockets of one exchange.

    ``handler_grace``: seconds a handler has to finish after its stream has ended, and again once it was cancelled.
    """

    def __init__(
        self, switchboard: Switchboard, commands: CallCommands, watch: CallWatch, *, handler_grace: float = 5.0
    ) -> None:
        self._board = switchboard
        self._commands = commands
        self._watch = watch
        self._grace = handler_grace

    async def admit(self, text: str, place: TicketPlace | None) -> Ticket:
        """The ticket, if it is good and its call is waiting for a stream.

        ``TicketRefused`` has status 503 when the once store or the call book cannot say so.
        """
        try:
            return await self._admit(text, place)
        except StoreUnavailable as unavailable:
            self._board.report("a media socket", unavailable)
            raise TicketRefused("the store is unavailable", status=503) from unavailable

    async def _admit(self, text: str, place: TicketPlace | None) -> Ticket:
        ticket = await self._board.tickets.redeem(text, place)
        call = await self._board.calls.get(ticket.reference)
        if call is None or call.ended:
            raise TicketRefused("its call is over")
        try:
            handler = self._board.handler_for(ticket.agent_id)
        except UnknownAgent as nobody:
            detail = f"hung up: there is no agent {ticket.agent_id!r}"
            await self._board.routing_failed(call, RoutingFailure.UNKNOWN_AGENT, detail, ticket.agent_id)
            self._board.spawn(self._commands.hang_up(call, EndReason.AGENT_ERROR), "hang up a call whose agent is gone")
            raise TicketRefused(str(nobody)) from None
        if handler is None:
            why = "this exchange has no agents: give it some, or pass a handler to create_app"
            log.error("call %s on %s gets no media socket: %s", call.reference, call.provider, why)
            raise TicketRefused(why)
        return ticket

    async def serve(self, ticket: Ticket, transport: MediaTransport) -> None:
        """Carry one call's audio until it is over. A store that is unavailable before the call talks closes it."""
        try:
            await self._serve(ticket, transport)
        except StoreUnavailable as unavailable:
            self._board.report("a media socket", unavailable)
            await transport.close(1013)  # try again later

    async def _serve(self, ticket: Ticket, transport: MediaTransport) -> None:
        handler = self._board.handler_for(ticket.agent_id)
        call = await self._board.calls.get(ticket.reference)
        if handler is None or call is None or ticket.reference in self._board.sessions:
            await transport.close(1008)
            return
        provider = await self._board.provider(ticket.credential_id)
        session = MediaSession(
            call, ticket.agent_id, provider.serializer(), transport, self._commands, format=self._board.audio
        )
        self._board.sessions[ticket.reference] = session
        for keys in self._watch.take_keys(ticket.reference):
            session.stream.deliver(keys)
        listening = MachineListener(self._board, self._commands, self._watch, ticket, session)
        reader = asyncio.create_task(session.stream.read(), name=f"media {ticket.reference}")
        try:
            if await self._begin(ticket, session):
                listening.answered()
                await self._talk(session, handler)
        finally:
            listening.stop()
            await session.stream.close()
            reader.cancel()
            [failed] = await asyncio.gather(reader, return_exceptions=True)
            if isinstance(failed, Exception):
                self._board.report(f"reading the media socket on {ticket.provider} failed", failed)
            self._board.sessions.pop(ticket.reference, None)
            self._watch.stream_ended(ticket.reference)

    async def _begin(self, ticket: Ticket, session: MediaSession) -> bool:
        """Wait for the start frame and compare whose call it is; False closes the socket with nothing started."""
        started = await session.stream.wait_started(START_TIMEOUT)
        if started is None:
            why = session.stop_reason or f"none within {START_TIMEOUT:g} s"
            unreadable = f" ({session.malformed_frames} frames could not be read)" if session.malformed_frames else ""
            log.warning("media socket on %s closed: no start frame: %s%s", ticket.provider, why, unreadable)
            return False
        expected = ticket.call_id
        if not expected:
            try:
                call = await self._board.wait_until(ticket.reference, lambda c: bool(c.id), NAMING_TIMEOUT)
                expected = call.id
            except TimeoutError:
                expected = started.call_id  # the dial's outcome is unknown, and here is its call
        if started.call_id and started.call_id != expected:  # without an id, the ticket says whose call it is
            log.warning("media socket on %s closed: its ticket was made for another call", ticket.provider)
            return False
        if started.early and not await self._answered_by_carrier(ticket, session, keep=started.silent):
            return False
        now = datetime.now(UTC)
        seen = {"id": expected, "status": CallStatus.ANSWERED}
        was_answered = True

        def here(known: Call) -> Call:  # may run twice
            """Answered; and with its audio the call is this process's, whichever opened it."""
            nonlocal was_answered
            was_answered = known.status.rank >= CallStatus.ANSWERED.rank
            if known.ended:
                return known
            answered = advance(known, known.model_copy(update=seen), now)
            return answered.model_copy(update={"owner": self._board.owner})

        session.call = await self._board.update(ticket.reference, here)
        if session.call.ended:
            return False  # its end came between the ticket and the start frame
        if not was_answered:
            # Not every carrier reports the answer of a call we took; observers are told of it all the same.
            told = CallProgress(call=session.call, call_id=session.call.id, reference=session.call.reference)
            await self._board.observe(told, session.call)
        if session.unreadable is not None:
            log.warning("call %s ends: %s", ticket.reference, session.unreadable)
            await self._commands.hang_up(session.call, EndReason.MEDIA_ERROR)
            return False
        if session.call.intent is not None:
            # Hung up before the carrier had named it: now it can be told.
            provider = await self._board.provider(ticket.credential_id)
            with self._board.asking(provider, "hang_up"):
                await provider.hang_up(session.call.id)
            return False
        return True

    async def _answered_by_carrier(self, ticket: Ticket, session: MediaSession, *, keep: bool) -> bool:
        """Drop early media until the call is answered, unless to ``keep`` it; False when it ends before, or its stream
        does."""
        answered = asyncio.ensure_future(
            self._board.wait_until(ticket.reference, lambda c: c.status.rank >= CallStatus.ANSWERED.rank, LONGEST_RING)
        )
        over = asyncio.ensure_future(session.wait_stopped())
        try:
            while not (answered.done() or over.done()):
                await asyncio.wait({answered, over}, timeout=EARLY_MEDIA, return_when=asyncio.FIRST_COMPLETED)
                if not keep:
                    session.stream.events.take_audio()
            return answered.done() and answered.exception() is None  # an end comes after the answer, and is seen next
        finally:
            answered.cancel()
            over.cancel()

    async def _talk(self, session: MediaSession, handler: Handler) -> None:
        talking = asyncio.ensure_future(run_handler(handler, session))
        over = asyncio.ensure_future(session.wait_stopped())
        try:
            await asyncio.wait({talking, over}, return_when=asyncio.FIRST_COMPLETED)
            if not talking.done():
                await asyncio.wait({talking}, timeout=self._grace)
            if not talking.done():
                log.warning("agent %s still busy %g s after its call ended: cancelled", session.agent_id, self._grace)
                talking.cancel()
                await asyncio.wait({talking}, timeout=self._grace)
            reason = await self._verdict(session, talking)
            await self._commands.transfer_asked(session.call.reference)  # some carriers end the call with its stream
            if not session.ended and await self._unfinished(session):
                if reason is EndReason.AGENT_HANGUP:
                    await session.drain()
                await self._commands.hang_up(session.call, reason)
        except StreamNotOpen:
            pass  # the far end was quicker
        finally:
            talking.cancel()
            over.cancel()

    async def _verdict(self, session: MediaSession, talking: asyncio.Future[None]) -> EndReason:
        if not talking.done():
            log.error("agent %s goes on although its call is over and it was cancelled", session.agent_id)
            return EndReason.AGENT_ERROR
        failure = None if talking.cancelled() else talking.exception()
        if failure is None or (isinstance(failure, StreamNotOpen) and session.ended):
            return EndReason.AGENT_HANGUP
        if isinstance(failure, AgentUnreachable):
            unreachable = RoutingFailure.AGENT_UNREACHABLE
            await self._board.routing_failed(session.call, unreachable, str(failure), failure.agent_id)
        else:
            self._board.report(f"agent {session.agent_id} failed", failure)
        return EndReason.AGENT_ERROR

    async def _unfinished(self, session: MediaSession) -> bool:
        try:
            call = await self._board.calls.get(session.call.reference)
        except StoreUnavailable:  # the session has not ended, and a hang-up needs no book
            return True
        return call is not None and not call.ended
