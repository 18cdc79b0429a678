"""Numbers the carrier takes its time to deliver: it is asked about the order until it is done, or says so itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anycarrier.errors import AnycarrierError, ProviderUnavailable, RateLimited
from anycarrier.events import CallEvent, NumberOrderProgress
from anycarrier.numbers import OwnedNumber, PendingOrder, SyncResult
from anycarrier_server.domain import sync
from anycarrier_server.store import public_id
from anycarrier_server.store.columns import utc_now
from anycarrier_server.store.models import LineRow

if TYPE_CHECKING:
    from anycarrier_server.service import Service

EVERY = 3.0
"""Seconds until the carrier is asked again, at first."""

SELDOM = 3600.0
"""And at most: an order that waits for papers takes days, so a tenth of its age is waited from half a minute on."""

PATIENCE = 14 * 86400.0
"""Seconds after which nobody asks any more; the carrier's own word still puts the number in service."""


async def finish_order(service: Service, line: LineRow, order: PendingOrder) -> LineRow:
    """The line as it waits; it goes into service in the background once the carrier delivers."""
    waiting = SyncResult(ok=False, message=_waiting(order.id), at=utc_now())
    line = await service.store.lines.change(line.id, sync=waiting.model_dump(mode="json"))
    service.spawn(_await_order(service, line, order), "finish a number order")
    return line


def heed(service: Service, event: CallEvent, call: object) -> None:
    """An observer: the carrier's word that an order is done puts its numbers in service, whoever ordered them when."""
    if isinstance(event, NumberOrderProgress) and event.status != "pending":
        service.spawn(_told(service, event), "finish a number order that the carrier reports")


async def _told(service: Service, event: NumberOrderProgress) -> None:
    for number in event.numbers:
        for line in await service.store.lines.held(number):
            # Only who waits for this very order: the number may be another's elsewhere.
            if line.status == "active" or (line.sync or {}).get("message") != _waiting(event.order_id):
                continue
            if event.status == "completed":
                await sync.put_in_service(service, line)
            else:
                await _give_up(service, line, f"the carrier says that order {event.order_id} failed")


async def _await_order(service: Service, line: LineRow, order: PendingOrder) -> None:
    provider = await service.exchange.switchboard.provider(public_id("credential", line.credential_id))
    clock = asyncio.get_running_loop().time
    began = clock()
    why = f"order {order.id} was not finished in {PATIENCE / 86400:.0f} days"
    while (age := clock() - began) < PATIENCE:
        await asyncio.sleep(min(max(EVERY, age / 10), SELDOM))
        try:
            done = await provider.fetch_order(order.id)
        except (ProviderUnavailable, RateLimited):
            continue
        except AnycarrierError as refused:
            why = str(refused)
            break
        held = await service.store.lines.get(line.workspace_id, line.id)
        if held is not None and held.status == "active":
            return  # the carrier's webhook was quicker
        if isinstance(done, OwnedNumber):
            if held is None:
                # Given up while it waited: it stays in the account, and its calls do not come here.
                await service.exchange.unroute(done.number, public_id("credential", line.credential_id))
                return
            await service.store.lines.change(line.id, carrier_number_id=done.id)
            await sync.put_in_service(service, line)
            return
    await _give_up(service, line, why)


async def _give_up(service: Service, line: LineRow, why: str) -> None:
    failed = SyncResult(ok=False, message=why, at=utc_now())
    await service.store.lines.change(line.id, sync=failed.model_dump(mode="json"))


def _waiting(order_id: str) -> str:
    return f"the carrier has not finished order {order_id} yet"
