"""Numbers, and the applications that say where their calls go: we keep one for each webhook URL, which they share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anycarrier import AvailableNumber, NumberFeature, NumberQuery, NumberType, OwnedNumber, PendingOrder, errors
from anycarrier.numbers import NumberRequirement, SyncResult, country_of, e164, normal
from anycarrier.parsing import decimal, fingerprint
from anycarrier.provider import Provider
from anycarrier.rest import given
from anycarrier_plivo.credential import PlivoCredential

LARGEST_PAGE = 20
TYPES = {kind: kind.value.replace("_", "") for kind in NumberType}
READ_TYPES = {theirs: ours for ours, theirs in TYPES.items()} | {"fixed": NumberType.LOCAL}
FEATURES = {feature: feature.value for feature in (NumberFeature.VOICE, NumberFeature.SMS, NumberFeature.MMS)}
PARKED = "anycarrier-unassigned"
Bought = OwnedNumber | PendingOrder


class PlivoNumbers(Provider):
    """The part of the provider that deals in numbers, and where every request goes."""

    credential: PlivoCredential

    def at(self, operation: str, *path: str) -> dict[str, Any]:
        """What a request is made with: every path is below the account, and ends with a slash."""
        parts = (self.path_id(operation, part) for part in path)
        return {"operation": operation, "path": "/".join(("/Account", self.credential.auth_id, *parts, ""))}

    async def search_numbers(self, query: NumberQuery) -> list[AvailableNumber]:
        operation, digits = "search_numbers", (query.area_code or "") + (query.contains or "")
        if query.contains and not (query.country in ("US", "CA") and re.fullmatch(r"\d{10}", digits)):
            raise self.unsupported(operation, "plivo finds numbers by their first digits only: use area_code")
        services = ",".join(self.word(operation, FEATURES, feature) for feature in query.features)
        asked = {"country_iso": query.country, "type": TYPES[query.type], "services": services, "pattern": digits,
                 "region": query.region, "city": query.locality}  # fmt: skip
        first = (query.page - 1) * query.limit
        rows = await self._rows(operation, "PhoneNumber", first, first + query.limit, extra=query.extra, **asked)
        return [read_offer(row) for row in rows]

    async def _rows(
        self, operation: str, kind: str, first: int = 0, last: int = 10**9, *, extra: Any = None, **asked: Any
    ) -> list[dict[str, Any]]:
        def after(body: Any, page: Mapping[str, Any]) -> Mapping[str, Any] | None:
            offset = page["offset"] + page["limit"]
            more = body["meta"]["next"] and offset < last
            return {**page, "offset": offset, "limit": min(LARGEST_PAGE, last - offset)} if more else None

        params = {**given(asked), "limit": min(LARGEST_PAGE, last - first), "offset": first}
        rows = await self.listed(**self.at(operation, kind), rows="objects", params=params, extra=extra, after=after)
        return [row for row in rows if kind == "Application" or normal(row.get("number"))]

    async def buy_number(self, number: str, *, timeout: float = 30.0, extra: Mapping[str, Any] | None = None) -> Bought:
        where = self.at("buy_number", "PhoneNumber", e164(number)[1:])
        status, raw = await self.ask(lambda raw: (raw["status"], raw), "POST", **where, json={}, extra=extra)
        if status == "pending":
            return await self.wait_for_order(PendingOrder(id=number, number=number, provider="plivo", raw=raw), timeout)
        return OwnedNumber(number=number, provider="plivo", id=number[1:], raw=raw)

    async def fetch_order(self, order_id: str) -> Bought:
        """An order has no id of its own: it is known by its number, and done when the account holds it."""
        row = await self._get("fetch_order", "Number", order_id.lstrip("+"))
        return read_owned(row, None) if row else PendingOrder(id=order_id, number=e164(order_id), provider="plivo")

    async def release_number(self, number: str) -> None:
        await self.request("DELETE", **self.at("release_number", "Number", e164(number)[1:]))

    async def list_numbers(self, number: str | None = None) -> list[OwnedNumber]:
        operation = "list_numbers"
        only = [] if number is None else [await self._get(operation, "Number", e164(number)[1:])]
        rows = list(filter(None, only)) if only else await self._rows(operation, "Number")
        apps = sorted({application_id(row) for row in rows} - {""})
        urls = {app_id: (await self._get(operation, "Application", app_id)).get("answer_url") for app_id in apps}
        return [read_owned(row, urls.get(application_id(row)) or None) for row in rows]

    async def _get(self, operation: str, kind: str, id_: str) -> dict[str, Any]:  # empty for what is not there
        try:
            found = await self.ask(dict, "GET", **self.at(operation, kind, id_)) if id_ else {}
        except errors.NotFound:
            return {}
        return found if kind != "Number" or normal(found.get("number")) else {}

    async def configure_number(self, number: str, *, webhook_url: str, dry_run: bool = False) -> SyncResult:
        wanted = dict.fromkeys(("answer_url", "hangup_url"), webhook_url)
        wanted |= dict.fromkeys(("answer_method", "hangup_method"), "POST")
        return await self._point("configure_number", number, f"anycarrier-{fingerprint(wanted)}", wanted, dry=dry_run)

    async def unconfigure_number(self, number: str, *, webhook_url: str) -> SyncResult:
        """Plivo documents no way to detach a number: it is moved to an application that has no URL."""
        return await self._point("unconfigure_number", number, PARKED, {}, only=webhook_url)

    async def _point(
        self, operation: str, number: str, name: str, wanted: dict[str, str], *, dry: bool = False, only: str = ""
    ) -> SyncResult:
        """Have the number point to an application with these settings: its own, or ours of that name."""
        where, url = self.at(operation, "Number", e164(number)[1:]), wanted.get("answer_url", "")
        if not (row := await self._get(operation, "Number", e164(number)[1:])):
            return SyncResult.failed(str(self.not_held(operation, number)), url)
        app = await self._get(operation, "Application", application_id(row))
        if only and app.get("answer_url") != only:
            return SyncResult.of((), app.get("answer_url") or "", note="It does not point here")
        if not wanted or not wanted.items() <= app.items():
            named = await self._rows(operation, "Application", app_name=name)  # all whose names begin so
            app = next((each for each in named if each.get("app_name") == name), {})
        changed = [setting for setting, value in wanted.items() if app.get(setting) != value]
        moved = ["application"] * (not app or app.get("app_id") != application_id(row))
        if not dry and (changed or not app):
            path, body = ("Application", *filter(None, [app.get("app_id")])), {"app_name": name, **wanted}
            app = {**await self.ask(dict, "POST", **self.at(operation, *path), json=body), **app}
        if not dry and moved:
            await self.ask(dict, "POST", **where, json={"app_id": app.get("app_id")})
        return SyncResult.of([*moved, *changed], url, dry_run=dry)


def application_id(owned: Mapping[str, Any]) -> str:
    """The last part of ``/v1/Account/MA.../Application/123/``; empty for a SIP trunk or nothing."""
    return (re.search(r"/Application/(\w+)/?$", str(owned.get("application"))) or ("", ""))[1]


def read_offer(raw: dict[str, Any]) -> AvailableNumber:
    regulated = raw.get("restriction") or raw.get("prerequisites")
    return AvailableNumber(
        country=country_of(normal(raw["number"]) or "") or "", region=raw.get("region"), locality=raw.get("city"),
        requirements=frozenset({NumberRequirement.DOCUMENTS} if regulated else ()), currency="USD",
        monthly_cost=decimal(raw.get("monthly_rental_rate")), upfront_cost=decimal(raw.get("setup_rate")),
        **_common(raw, "type"),
    )  # fmt: skip


def read_owned(raw: dict[str, Any], webhook_url: str | None) -> OwnedNumber:
    about = {"id": str(raw["number"]), "friendly_name": raw.get("alias"), **_common(raw, "number_type")}
    return OwnedNumber(webhook_url=webhook_url, **about)


def _common(raw: dict[str, Any], kind: str) -> dict[str, Any]:
    features = frozenset(feature for feature, name in FEATURES.items() if raw.get(f"{name}_enabled"))
    number, known = normal(raw["number"]), READ_TYPES.get(str(raw.get(kind)))
    return {"number": number, "provider": "plivo", "type": known, "features": features, "raw": raw}
