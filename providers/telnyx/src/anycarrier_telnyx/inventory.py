"""Buying, listing, pointing and releasing numbers.

A purchase is an order that Telnyx finishes when it likes: it is asked about until it is done or our time is up, and
then comes back as pending with its id, never forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from anycarrier.errors import (
    NotFound,
    NumberUnavailable,
    ProviderUnavailable,
    RateLimited,
    UnreadableResponse,
)
from anycarrier.numbers import E164, OwnedNumber, PendingOrder, SyncResult, e164
from anycarrier.redaction import mask_number
from anycarrier_telnyx import applications
from anycarrier_telnyx.numbers import owned
from anycarrier_telnyx.sdk import Sdk

PAGE = 250


class Inventory:
    """The numbers of one account."""

    poll_every = 1.0
    """Seconds between two looks at an order."""

    def __init__(self, sdk: Sdk, connection_id: str | None) -> None:
        self.sdk = sdk
        self.connection_id = connection_id

    async def list(self, number: str | None, operation: str) -> list[OwnedNumber]:
        """All numbers, or only ``number``: Telnyx's filter also finds longer ones that contain it."""
        rows: list[dict[str, Any]] = []
        query: dict[str, Any] = {"filter": {"phone_number": e164(number)}} if number else {}
        page = 1
        while True:
            body = await self._page(query, page, operation)
            found = self.sdk.members(body, operation)
            rows += found
            meta = body.get("meta")
            pages = meta.get("total_pages") if isinstance(meta, Mapping) else None
            if not found or not isinstance(pages, int) or page >= pages:
                break
            page += 1
        numbers = [held for row in rows if (held := owned(row))]
        return [held for held in numbers if number in (None, held.number)]

    async def _page(self, query: Mapping[str, Any], page: int, operation: str) -> Any:
        return await self.sdk.ask(
            operation,
            lambda telnyx: telnyx.phone_numbers.with_raw_response.list(**query, page_number=page, page_size=PAGE),
        )

    async def buy(self, number: str, timeout: float, extra: Mapping[str, Any] | None) -> OwnedNumber | PendingOrder:
        """Order ``number`` and wait up to ``timeout`` seconds for it to be ours."""
        order: dict[str, Any] = {"phone_numbers": [{"phone_number": e164(number)}]}
        if self.connection_id:
            order["connection_id"] = self.connection_id
        placed = await self.sdk.record(
            "buy_number",
            lambda telnyx: telnyx.number_orders.with_raw_response.create(**order, extra_body=dict(extra or {})),
        )
        pending = self._pending(placed, "buy_number", number)
        clock = asyncio.get_running_loop().time
        deadline = clock() + timeout
        while True:
            try:
                if placed.get("status") != "pending" and (bought := await self._outcome(placed, number, "buy_number")):
                    return bought
                wait = min(self.poll_every, deadline - clock())
                if wait < 0:
                    return pending
                await asyncio.sleep(wait)
                placed = await self._order(pending.id, "buy_number")
            except (ProviderUnavailable, RateLimited):
                # The order stands whatever becomes of our questions about it.
                if clock() >= deadline:
                    return pending
                await asyncio.sleep(min(self.poll_every, max(0.0, deadline - clock())))

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """How an order stands."""
        order = await self._order(order_id, "fetch_order")
        pending = self._pending(order, "fetch_order")
        if order.get("status") == "pending":
            return pending
        return await self._outcome(order, pending.number, "fetch_order") or pending

    async def _order(self, order_id: str, operation: str) -> dict[str, Any]:
        return await self.sdk.record(
            operation, lambda telnyx: telnyx.number_orders.with_raw_response.retrieve(order_id)
        )

    def _pending(self, order: Mapping[str, Any], operation: str, number: str | None = None) -> PendingOrder:
        if number is None:
            rows = order.get("phone_numbers")
            named = [row.get("phone_number") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            number = next((text for text in named if isinstance(text, str) and E164.fullmatch(text)), None)
        if not order.get("id") or number is None:
            raise UnreadableResponse(self.sdk.provider.name, operation, "an order without id or number", status=200)
        return PendingOrder(id=str(order["id"]), number=number, provider=self.sdk.provider.name, raw=dict(order))

    async def _outcome(self, order: Mapping[str, Any], number: str, operation: str) -> OwnedNumber | None:
        """The number of a successful order, None while the account does not list it yet."""
        if order.get("status") == "success":
            held = await self.list(number, operation)
            return held[0] if held else None
        if order.get("status") == "failure":
            raise NumberUnavailable(
                self.sdk.provider.name, operation, f"order {order.get('id')} for {mask_number(number)} failed"
            )
        return None

    async def release(self, number: str) -> None:
        """Give ``number`` back."""
        held = await self.list(number, "release_number")
        if not held:
            raise NotFound(
                self.sdk.provider.name, "release_number", f"the account does not hold {mask_number(number)}"
            )
        await self.sdk.ask(
            "release_number", lambda telnyx: telnyx.phone_numbers.with_raw_response.delete(held[0].id)
        )

    async def configure(self, number: str, webhook_url: str, *, dry_run: bool, at: datetime) -> SyncResult:
        """Settle the application, then point ``number`` at it."""

        def result(ok: bool, message: str, changed: tuple[str, ...] = ()) -> SyncResult:
            return SyncResult(ok=ok, message=message, changed=changed, webhook_url=webhook_url, at=at)

        held = await self.list(number, applications.OPERATION)
        if not held:
            return result(False, f"the account does not hold {mask_number(number)}. Buy it, or use its own account")
        application = await applications.settle(self.sdk, self.connection_id, webhook_url, dry_run=dry_run)
        if application is None:
            return result(
                False, "the credential's connection_id is no call-control application. Correct it, or leave it out"
            )
        changed = application.changed
        pointed = str(held[0].raw.get("connection_id") or "")
        if pointed != application.id or not application.id:
            changed += ("phone_number.connection_id",)
            if not dry_run:
                await self.sdk.ask(
                    applications.OPERATION,
                    lambda telnyx: telnyx.phone_numbers.with_raw_response.update(
                        held[0].id, connection_id=application.id
                    ),
                )
        if not changed:
            return result(True, "all was set already")
        verb = "would set" if dry_run else "set"
        return result(True, f"{verb} {', '.join(changed)}.{application.note}", changed)

    async def unconfigure(self, number: str, webhook_url: str, *, at: datetime) -> SyncResult:
        """Let ``number`` point nowhere, if it points at an application that posts to ``webhook_url``.

        The application stays as it is: other numbers may point at it, and outbound calls leave through it.
        """

        def result(ok: bool, message: str, changed: tuple[str, ...] = ()) -> SyncResult:
            return SyncResult(ok=ok, message=message, changed=changed, webhook_url=webhook_url, at=at)

        operation = "unconfigure_number"
        held = await self.list(number, operation)
        if not held:
            return result(False, f"the account does not hold {mask_number(number)}")
        pointed = str(held[0].raw.get("connection_id") or "")
        if not pointed or await applications.webhook_of(self.sdk, pointed, operation) != webhook_url:
            return result(True, "its calls were not sent there")
        # No page says how to name no connection. "" is what a number without one was seen to have; as that proves
        # little, what the answer says counts.
        after = await self.sdk.record(
            operation, lambda telnyx: telnyx.phone_numbers.with_raw_response.update(held[0].id, connection_id="")
        )
        if after.get("connection_id"):
            return result(False, "Telnyx keeps the number's connection: take it off the number in the portal")
        return result(True, "set phone_number.connection_id", ("phone_number.connection_id",))
