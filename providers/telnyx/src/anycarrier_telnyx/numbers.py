"""Phone numbers: search filters and results, and buying, listing, configuring, and releasing numbers.

A purchase is an order that Telnyx completes in its own time. It is polled until it is complete or the timeout is over,
and is then returned as pending with its id. Search results carry prices as text and the region as a list. Trial
accounts see masked numbers (``+17792------``) that cannot be bought; those are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from anycarrier.errors import (
    NotFound,
    NumberUnavailable,
    ProviderUnavailable,
    RateLimited,
    UnreadableResponse,
)
from anycarrier.numbers import (
    E164,
    AvailableNumber,
    NumberFeature,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    SyncResult,
    e164,
)
from anycarrier.redaction import mask_number
from anycarrier_telnyx import applications
from anycarrier_telnyx.sdk import Sdk

_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")
_TYPES = {
    "local": NumberType.LOCAL,
    "toll_free": NumberType.TOLL_FREE,
    "tollfree": NumberType.TOLL_FREE,
    "mobile": NumberType.MOBILE,
    "national": NumberType.NATIONAL,
}
_FEATURES = {feature.value: feature for feature in NumberFeature}


def pattern(contains: str) -> tuple[str, str] | None:
    """(filter, digits) for digits, or letters as on a keypad, with ``*`` before or after; None for other patterns."""
    text = contains.upper().translate(_KEYPAD)
    core = text.strip("*")
    if not core.isdecimal():
        return None
    if text == core or (text.startswith("*") and text.endswith("*")):
        return "contains", core
    return ("ends_with" if text.startswith("*") else "starts_with"), core


def search_filter(query: NumberQuery) -> dict[str, Any]:
    """Query parameters of a search, as the developer pages spell them.

    Built here because the SDK joins features with commas, a form that is nowhere documented. A page is cut out of
    the first ``limit * page`` results: the search has no pages.
    """
    wanted: dict[str, Any] = {
        "filter[country_code]": query.country,
        "filter[phone_number_type]": query.type.value,
        "filter[limit]": query.limit * query.page,
    }
    if query.features:
        wanted["filter[features][]"] = [feature.value for feature in query.features]
    if query.area_code:
        wanted["filter[national_destination_code]"] = query.area_code
    if query.locality:
        wanted["filter[locality]"] = query.locality
    if query.region:
        wanted["filter[administrative_area]"] = query.region
    found = pattern(query.contains) if query.contains else None
    if found:
        wanted[f"filter[phone_number][{found[0]}]"] = found[1]
    return wanted


def offered(row: Mapping[str, Any], query: NumberQuery) -> AvailableNumber | None:
    """One search result; None for a masked number."""
    number = row.get("phone_number")
    if not isinstance(number, str) or not E164.fullmatch(number):
        return None
    regions = {
        str(region.get("region_type")): str(region.get("region_name"))
        for region in _rows(row.get("region_information"))
    }
    costs = row.get("cost_information")
    costs = costs if isinstance(costs, Mapping) else {}
    return AvailableNumber(
        number=number,
        provider="telnyx",
        country=regions.get("country_code", query.country),
        type=_TYPES.get(str(row.get("phone_number_type")), query.type),
        region=regions.get("state"),
        locality=regions.get("location") or regions.get("rate_center"),
        features=frozenset(
            _FEATURES[name] for feature in _rows(row.get("features")) if (name := str(feature.get("name"))) in _FEATURES
        ),
        monthly_cost=_price(costs.get("monthly_cost")),
        upfront_cost=_price(costs.get("upfront_cost")),
        currency=str(costs["currency"]) if costs.get("currency") else None,
        raw=dict(row),
    )


def owned(row: Mapping[str, Any]) -> OwnedNumber | None:
    """One number of the account; None for what has no E.164 number, such as a short code."""
    number = row.get("phone_number")
    if not isinstance(number, str) or not E164.fullmatch(number):
        return None
    return OwnedNumber(
        number=number,
        provider="telnyx",
        id=str(row.get("id", "")),
        status=str(row.get("status") or "active"),
        type=_TYPES.get(str(row.get("phone_number_type"))),
        friendly_name=row.get("customer_reference") if isinstance(row.get("customer_reference"), str) else None,
        raw=dict(row),
    )


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _price(text: object) -> Decimal | None:
    try:
        price = Decimal(str(text))
    except InvalidOperation:
        return None
    return price if price.is_finite() else None


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
                # The order stands, even if our questions about it fail.
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
