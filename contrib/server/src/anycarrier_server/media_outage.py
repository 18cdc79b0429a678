"""The exchange of a running service, where others share its process and its database may be away: what its calls lose
is said in one line each, and a call can still be hung up, for the reason that is written down once that is possible
again. A request that waits for a carrier gives its turn to the next."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from anycarrier.calls import Call, EndReason
from anycarrier.errors import TicketRefused
from anycarrier.events import CallEvent
from anycarrier.exchange import Exchange
from anycarrier.listener import MediaTransport
from anycarrier.provider import Provider
from anycarrier.tickets import Ticket
from anycarrier.webhooks import WebhookReply
from anycarrier_server.outage import DatabaseAway
from anycarrier_server.request_turns import RequestTurns, give_way
from anycarrier_server.store.turns import WORKSPACE

log = logging.getLogger("anycarrier")


class OutageAwareExchange(Exchange):
    """See the module."""

    missed: Callable[[], None] | None = None
    """Told that something of a call was not written down, for whoever asks the carrier afterwards."""

    def __init__(self, *args: Any, turns: RequestTurns, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = turns
        self._unwritten: dict[str, EndReason] = {}

    async def provider(self, credential_id: str) -> Provider:
        """Whoever asks for the carrier is about to wait for it, and keeps no other request waiting meanwhile."""
        give_way()
        return await super().provider(credential_id)

    async def handle_event(self, provider: Provider, credential_id: str, event: CallEvent) -> WebhookReply:
        """In the workspace's turn. Whose it is, is known since its signature was checked by the credential."""
        async with self._turns.of(WORKSPACE.get()):
            return await super().handle_event(provider, credential_id, event)

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """The carrier is asked even where the reason cannot be written down first. ``DatabaseAway`` when nobody knows
        the call's leg."""
        try:
            await super().hang_up(call, reason)
        except DatabaseAway as away:
            key = call if isinstance(call, str) else call.reference
            session = self.sessions.get(key)
            known = session.call if session is not None else await self.calls.get(key)
            if known is None or not known.id:
                raise
            if known.ended or known.intent is EndReason.TRANSFERRED:
                return
            reason = known.intent or self._unwritten.setdefault(known.reference, reason)
            if session is not None:
                session.call = known.model_copy(update={"intent": reason})
            self.report(f"why a call is hung up ({reason})", away)
            await (await self.provider(known.credential_id)).hang_up(known.id)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        call = await super().update(key, self._with_intent(change))
        self._unwritten.pop(call.reference, None)
        return call

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        call = await super().update_once(event, ttl, key, self._with_intent(change))
        if call is not None:
            self._unwritten.pop(call.reference, None)
        return call

    def _with_intent(self, change: Callable[[Call], Call]) -> Callable[[Call], Call]:
        """``change``, of the call with the reason that could not be written down before."""
        if not self._unwritten:
            return change

        def changed(call: Call) -> Call:
            reason = self._unwritten.get(call.reference)
            if reason is not None and call.intent is None and not call.ended:
                call = call.model_copy(update={"intent": reason})
            return change(call)

        return changed

    async def admit(self, ticket: str) -> Ticket:
        """``TicketRefused`` with status 503 when nobody can tell whether the ticket was used."""
        try:
            return await super().admit(ticket)
        except DatabaseAway as away:
            self.report("a media socket", away)
            raise TicketRefused("the database is away", status=503) from away

    async def serve_media(self, ticket: Ticket, transport: MediaTransport) -> None:
        """A call whose database goes away before it talks is hung up on: the carrier ends it."""
        try:
            await super().serve_media(ticket, transport)
        except DatabaseAway as away:
            self.report("a media socket", away)
            await transport.close(1013)  # try again later

    def report(self, what: str, failure: BaseException) -> None:
        if not isinstance(failure, DatabaseAway):
            super().report(what, failure)
            return
        log.error("%s: the database is away (%s)", what, failure)
        if self.missed is not None:
            self.missed()
