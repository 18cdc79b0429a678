"""The exchange of a running service: media sockets that come while the database is away are told so, in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable

from linecard.errors import TicketRefused
from linecard.exchange import Exchange
from linecard.listener import MediaTransport
from linecard.server.outage import database_is_away
from linecard.tickets import Ticket

log = logging.getLogger("linecard")


class OutageAwareExchange(Exchange):
    """See the module."""

    missed: Callable[[], None] | None = None
    """Told that something of a call was not written down, for whoever asks the carrier afterwards."""

    async def admit(self, ticket: str) -> Ticket:
        """``TicketRefused`` with status 503 when nobody can tell whether the ticket was used."""
        try:
            return await super().admit(ticket)
        except Exception as problem:
            self._unless_away(problem)
            raise TicketRefused("the database is away", status=503) from problem

    async def serve_media(self, ticket: Ticket, transport: MediaTransport) -> None:
        """A call whose database goes away before it talks is hung up on: the carrier ends it."""
        try:
            await super().serve_media(ticket, transport)
        except Exception as problem:  # noqa: BLE001 what is not the database's is raised again
            self._unless_away(problem)
            await transport.close(1013)  # try again later

    def _unless_away(self, problem: Exception) -> None:
        if not database_is_away(problem):
            raise problem
        log.error("a media socket: the database is away (%s)", type(problem).__name__)
        if self.missed is not None:
            self.missed()
