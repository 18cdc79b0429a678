"""Phone numbers: searching, buying, listing, releasing, and pointing them at us.

A purchase is an order that Telnyx completes in its own time. A number has no webhook URL of its own; it points at a
call-control application (its "connection"), which has one and is also what outbound calls leave through. We use the
credential's, or one of our own per webhook URL, found again by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from anycarrier.errors import NotFound, NumberUnavailable, RequestRejected
from anycarrier.numbers import (
    E164,
    AvailableNumber,
    NumberFeature,
    NumberQuery,
    NumberType,
    OwnedNumber,
    PendingOrder,
    SyncResult,
    digit_pattern,
    e164,
)
from anycarrier.parsing import decimal
from anycarrier.redaction import mask_number
from anycarrier.rest import given
from anycarrier_telnyx.commands import rows
from anycarrier_telnyx.sdk import Answer, Row, TelnyxApi

PAGE = 250
TYPES = {each.value: each for each in NumberType} | {"tollfree": NumberType.TOLL_FREE}
FEATURES = {each.value: each for each in NumberFeature}
CANNOT_DIAL = "It has no outbound voice profile, so it cannot dial out: create one in the portal and assign it."


class TelnyxNumbers(TelnyxApi):
    """The part of the provider that deals in numbers."""

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        """A page is cut out of the first ``limit * page`` results: the search has no pages.

        The request is built here because the SDK joins features with commas, a form that is nowhere documented.
        """
        operation = "search_numbers"
        place, digits = digit_pattern(query.contains) if query.contains else ("contains", "")
        if query.contains and not digits:
            raise self.unsupported(operation, "a pattern with * inside or a +; use country and area_code")
        wanted = given({
            "filter[country_code]": query.country,
            "filter[phone_number_type]": query.type.value,
            "filter[limit]": query.limit * query.page,
            "filter[features][]": [feature.value for feature in query.features],
            "filter[national_destination_code]": query.area_code,
            "filter[locality]": query.locality,
            "filter[administrative_area]": query.region,
            f"filter[phone_number][{place}]": digits,
        })
        body = await self.request(
            "GET", "/available_phone_numbers", operation=operation, params=wanted, extra=query.extra
        )
        found = self.data(body, operation, Answer[list[Row]])
        offers = [offer for row in found if (offer := offered(row, query))]
        return offers[(query.page - 1) * query.limit :][: query.limit]

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        return await self._held(number, "list_numbers")

    async def _held(self, number: str | None, operation: str) -> list[OwnedNumber]:
        """All numbers, or only ``number``: Telnyx's filter also finds longer ones that contain it."""
        query: dict[str, Any] = {"filter": {"phone_number": e164(number)}} if number else {}
        numbers: list[OwnedNumber] = []
        for page in count(1):
            body = await self.do(operation, "phone_numbers.list", **query, page_number=page, page_size=PAGE)
            found = self.data(body, operation, Answer[list[Row]])
            numbers += [held for row in found if (held := owned(row)) and number in (None, held.number)]
            meta = body.get("meta")
            pages = meta.get("total_pages") if isinstance(meta, dict) else None
            if not found or not isinstance(pages, int) or page >= pages:
                break
        return numbers

    async def release_number(self, number: str) -> None:
        held = await self._held(number, "release_number")
        if not held:
            raise self.not_held("release_number", number)
        await self.do("release_number", "phone_numbers.delete", held[0].id)

    # --- orders -----------------------------------------------------------------------------------------------------

    async def buy_number(
        self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None
    ) -> OwnedNumber | PendingOrder:
        operation = "buy_number"
        connection = self.credential.connection_id
        order = given({"phone_numbers": [{"phone_number": e164(number)}], "connection_id": connection})
        placed = await self.record(operation, "number_orders.create", **order, extra_body=dict(extra or {}))
        return await self.wait_for_order(self._pending(placed, operation, number), timeout)

    async def fetch_order(self, order_id: str) -> OwnedNumber | PendingOrder:
        """A successful order still is pending while the account does not list the number."""
        operation = "fetch_order"
        order = await self.record(operation, "number_orders.retrieve", order_id)
        pending = self._pending(order, operation)
        held = await self._held(pending.number, operation) if order.get("status") == "success" else []
        return held[0] if held else pending

    def _pending(self, order: Row, operation: str, number: str = "") -> PendingOrder:
        named = [number, *(str(row.get("phone_number")) for row in rows(order.get("phone_numbers")))]
        number = next(filter(E164.fullmatch, named), "")
        if not order.get("id") or not number:
            raise self.unreadable(operation, "an order without id or number", status=200)
        if order.get("status") == "failure":
            raise NumberUnavailable(self.name, operation, f"order {order['id']} for {mask_number(number)} failed")
        return PendingOrder(id=str(order["id"]), number=number, provider=self.name, raw=order)

    # --- where a number's calls go ------------------------------------------------------------------------------------

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        operation = "configure_number"
        held = await self._held(number, operation)
        if not held:
            return SyncResult.failed(f"the account does not hold {mask_number(number)}", webhook_url)
        application, changed, note = await self._settle(webhook_url, dry_run)
        if application is None:
            why = "the credential's connection_id is no call-control application. Correct it, or leave it out"
            return SyncResult.failed(why, webhook_url)
        if not application or held[0].raw.get("connection_id") != application:
            changed.append("phone_number.connection_id")
            if not dry_run:
                await self.record(operation, "phone_numbers.update", held[0].id, connection_id=application)
        return SyncResult.of(changed, webhook_url, dry_run=dry_run, note=note)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        """The application stays as it is: other numbers may point at it, and outbound calls leave through it."""
        operation = "unconfigure_number"
        held = await self._held(number, operation)
        if not held:
            return SyncResult.failed(f"the account does not hold {mask_number(number)}", webhook_url)
        pointed = str(held[0].raw.get("connection_id") or "")
        application = await self._application(pointed, operation) if pointed else None
        if application is None or application.get("webhook_event_url") != webhook_url:
            return SyncResult.of((), webhook_url)
        # No page says how to name no connection. "" is what a number without one was seen to have; as that proves
        # little, what the answer says counts.
        after = await self.record(operation, "phone_numbers.update", held[0].id, connection_id="")
        if after.get("connection_id"):
            why = "Telnyx keeps the number's connection: take it off the number in the portal"
            return SyncResult.failed(why, webhook_url)
        return SyncResult.of(["phone_number.connection_id"], webhook_url)

    async def _settle(self, webhook_url: str, dry_run: bool) -> tuple[str | None, list[str], str]:
        """(id, changes, note) of the application, once it sends version 2 webhooks to ``webhook_url``.

        The id is None where the credential's does not exist, and "" where a dry run would have made one.
        """
        operation, connection = "configure_number", self.credential.connection_id
        found = await (self._application(connection, operation) if connection else self._ours(webhook_url, operation))
        if found is None and connection:
            return None, [], ""
        wanted = {"webhook_event_url": webhook_url, "webhook_api_version": "2"}
        if found is None:
            outbound = await self._outbound(operation)
            if not dry_run:
                name = application_name(webhook_url)
                found = await self.record(
                    operation, "call_control_applications.create", application_name=name, **wanted, **outbound
                )
            return str((found or {}).get("id", "")), ["call_control_application"], "" if outbound else CANNOT_DIAL
        wanted_now = {**wanted, "active": True}
        wrong = {name: value for name, value in wanted_now.items() if found.get(name, name == "active") != value}
        identity = str(found.get("id", ""))
        if wrong and not dry_run:
            # Name and URL are required in every change, so both always go along.
            name = found.get("application_name") or application_name(webhook_url)
            change = {"application_name": name, "webhook_event_url": webhook_url, **wrong}
            await self.record(operation, "call_control_applications.update", identity, **change)
        return identity, [f"call_control_application.{name}" for name in wrong], ""

    async def _application(self, connection_id: str, operation: str) -> Row | None:
        """The application, None where the connection is none."""
        try:
            return await self.record(operation, "call_control_applications.retrieve", connection_id)
        except NotFound:
            return None

    async def _ours(self, webhook_url: str, operation: str) -> Row | None:
        """The application we made for ``webhook_url``, or any other that sends its webhooks there."""
        some = {"application_name": {"contains": "anycarrier"}}
        listed = await self.records(operation, "call_control_applications.list", filter=some, page_size=PAGE)
        ours = {"application_name": application_name(webhook_url), "webhook_event_url": webhook_url}.items()
        found = [row for row in listed if any(row.get(name) == value for name, value in ours)]
        return min(found, key=lambda row: str(row.get("created_at", "")), default=None)

    async def _outbound(self, operation: str) -> dict[str, Any]:
        """What a new application dials out by: the account's oldest enabled outbound voice profile, if any."""
        try:
            listed = await self.records(operation, "outbound_voice_profiles.list", page_size=PAGE, sort="created_at")
        except RequestRejected:
            return {}  # a key may be forbidden to see them; receiving calls needs none
        profiles = [str(row["id"]) for row in listed if row.get("enabled", True) and row.get("id")]
        return {"outbound": {"outbound_voice_profile_id": profiles[0]}} if profiles else {}


def application_name(webhook_url: str) -> str:
    """Ours for this webhook URL, readable in the portal: ``anycarrier voice.example.com/telnyx/main``."""
    parts = urlsplit(webhook_url)
    return f"anycarrier {parts.netloc}{parts.path}"


def offered(row: Row, query: NumberQuery) -> AvailableNumber | None:
    """One search result. None for a number that cannot be bought: trial accounts see them masked, +17792------."""
    number = str(row.get("phone_number"))
    if not E164.fullmatch(number):
        return None
    places = {each.get("region_type"): str(each.get("region_name")) for each in rows(row.get("region_information"))}
    told = row.get("cost_information")
    costs: Row = told if isinstance(told, dict) else {}
    features = {str(each.get("name")) for each in rows(row.get("features"))}
    return AvailableNumber(
        number=number, provider="telnyx", country=places.get("country_code", query.country),
        type=TYPES.get(str(row.get("phone_number_type")), query.type), region=places.get("state"),
        locality=places.get("location") or places.get("rate_center"),
        features=frozenset(FEATURES[name] for name in features & FEATURES.keys()),
        monthly_cost=decimal(costs.get("monthly_cost")), upfront_cost=decimal(costs.get("upfront_cost")),
        currency=str(costs["currency"]) if costs.get("currency") else None, raw=row,
    )  # fmt: skip


def owned(row: Row) -> OwnedNumber | None:
    """One number of the account; None for what has no E.164 number, such as a short code."""
    number, label = str(row.get("phone_number")), row.get("customer_reference")
    if not E164.fullmatch(number):
        return None
    return OwnedNumber(
        number=number, provider="telnyx", id=str(row.get("id", "")), status=str(row.get("status") or "active"),
        type=TYPES.get(str(row.get("phone_number_type"))), friendly_name=label if isinstance(label, str) else None,
        raw=row,
    )  # fmt: skip
