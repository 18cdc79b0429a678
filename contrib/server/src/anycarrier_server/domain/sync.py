"""Making a number's calls come here: the carrier is told, and what it said is kept, good or bad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anycarrier.errors import AnycarrierError
from anycarrier.numbers import SyncResult
from anycarrier.provider import Capability
from anycarrier_server.store import public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import LineRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service


def webhook_url(service: Service, line: LineRow) -> str:
    """Where the carrier posts this number's calls, for those who configure it by hand."""
    return service.exchange.switchboard.webhook_url(line.provider, public_id("credential", line.credential_id))


async def configure(service: Service, line: LineRow) -> SyncResult:
    """Tell the carrier; never raises for what the carrier says. Idempotent."""
    url = webhook_url(service, line)
    provider = await service.exchange.switchboard.provider(public_id("credential", line.credential_id))
    if not provider.supports(Capability.CONFIGURE_NUMBER):
        by_hand = f"this carrier has no API for it: let the number's calls be posted to {url} by hand"
        return SyncResult(ok=True, message=by_hand, webhook_url=url, at=utc_now())
    try:
        done = await provider.configure_number(line.number, webhook_url=url)
    except AnycarrierError as refused:
        return SyncResult(ok=False, message=str(refused), webhook_url=url, at=utc_now())
    return done.model_copy(update={"webhook_url": done.webhook_url or url, "at": done.at or utc_now()})


async def put_in_service(service: Service, line: LineRow) -> LineRow:
    """Configure, and set the line active or, with the reason in ``sync``, inactive. ``Taken`` when another
    workspace or credential has the number in service meanwhile."""
    result = await configure(service, line)
    line = await service.store.lines.change(
        line.id, status="active" if result.ok else "inactive", sync=result.model_dump(mode="json")
    )
    if result.ok:
        await service.exchange.start_listener(public_id("credential", line.credential_id))
    return line
