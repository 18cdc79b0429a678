"""The exchange of a running service: what its calls lose while the database is away is said in one line each."""

from __future__ import annotations

import logging
from collections.abc import Callable

from linecard.errors import TicketRefused
from linecard.exchange import Exchange
from linecard.listener import MediaTransport
from linecard.server.outage import DatabaseAway
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
