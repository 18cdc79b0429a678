"""Numbers the carrier takes its time to deliver: the order is asked after until it is done."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from linecard.errors import LinecardError, ProviderUnavailable, RateLimited
from linecard.numbers import OwnedNumber, PendingOrder, SyncResult
from linecard.server.domain import sync
from linecard.server.store import public_id
from linecard.server.store.columns import utc_now
from linecard.server.store.models import LineRow

if TYPE_CHECKING:
    from linecard.server.service import Service

EVERY = 3.0
PATIENCE = 600.0


async def finish_order(service: Service, line: LineRow, order: PendingOrder) -> LineRow:
    """The line as it waits; it goes into service in the background once the carrier delivers."""
    waiting = SyncResult(ok=False, message=f"the carrier has not finished order {order.id} yet", at=utc_now())
    line = await service.store.lines.change(line.id, sync=waiting.model_dump(mode="json"))
    service.spawn(_await_order(service, line, order), "finish a number order")
    return line


async def _await_order(service: Service, line: LineRow, order: PendingOrder) -> None:
    provider = await service.exchange.provider(public_id("credential", line.credential_id))
    why = f"order {order.id} was not finished in {PATIENCE:g} s"
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                await asyncio.sleep(EVERY)
                try:
                    done = await provider.fetch_order(order.id)
                except (ProviderUnavailable, RateLimited):
                    continue
                if isinstance(done, OwnedNumber):
                    if await service.store.lines.get(line.workspace_id, line.id) is None:
                        # Given up while it waited: it stays in the account, and its calls do not come here.
                        await service.exchange.unroute(done.number, public_id("credential", line.credential_id))
                        return
                    await service.store.lines.change(line.id, carrier_number_id=done.id)
                    await sync.put_in_service(service, line)
                    return
    except TimeoutError:
        pass
    except LinecardError as refused:
        why = str(refused)
    failed = SyncResult(ok=False, message=why, at=utc_now())
    await service.store.lines.change(line.id, sync=failed.model_dump(mode="json"))
