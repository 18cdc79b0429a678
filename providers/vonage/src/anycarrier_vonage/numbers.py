"""Vonage's numbers, and the application that its webhooks belong to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType, OwnedNumber
from anycarrier.parsing import decimal
from anycarrier.rest import given

PAGE = 100
"""The most numbers that Vonage puts on a page."""

TYPES = {NumberType.LOCAL: "landline", NumberType.MOBILE: "mobile-lvn", NumberType.TOLL_FREE: "landline-toll-free"}
NORTH_AMERICA = {NumberType.LOCAL: "mobile-lvn", NumberType.TOLL_FREE: "landline-toll-free"}
"""In the USA and Canada mobile and geographic numbers are the same, and Vonage calls them mobile."""

FEATURES = {NumberFeature.SMS: "SMS", NumberFeature.MMS: "MMS", NumberFeature.VOICE: "VOICE"}
FORWARDED = ("sip", "tel", "vxml")
KEPT = ("moHttpUrl", "moSmppSysType", "voiceStatusCallback")
"""Settings of a number that are sent back unchanged: whether Vonage keeps what an update leaves out is not known."""


def types_in(country: object) -> dict[NumberType, str]:
    return NORTH_AMERICA if country in ("US", "CA") else TYPES


def search(query: NumberQuery, kind: str, features: Collection[str]) -> tuple[dict[str, Any], int, int]:
    """What Vonage's first page is asked with, and the first and last number wanted, counted over all pages."""
    size, begin, end = min(query.limit, PAGE), (query.page - 1) * query.limit, query.page * query.limit
    pattern = f"1{query.area_code}" if query.area_code else query.contains
    params = {
        "country": query.country, "type": kind, "pattern": pattern, "size": size, "index": begin // size + 1,
        "search_pattern": (0 if query.area_code else 1) if pattern else None,
        "features": ",".join(word for word in FEATURES.values() if word in features),
    }  # fmt: skip
    return given(params), begin, end


def pages(end: float) -> Callable[[Any, Mapping[str, Any]], dict[str, Any] | None]:
    """What the next page is asked with, while there are more numbers and fewer than ``end`` have come."""

    def after(body: Any, page: Mapping[str, Any]) -> dict[str, Any] | None:
        more = page["index"] * page["size"] < min(end, (body or {}).get("count", 0))
        return {**page, "index": page["index"] + 1} if more else None

    return after


def offer(number: Mapping[str, Any]) -> AvailableNumber:
    cost = decimal(number.get("cost"))
    currency = None if cost is None else "EUR"
    return AvailableNumber(**described(number), country=number["country"], monthly_cost=cost, currency=currency)


def owned(number: Mapping[str, Any], webhook_url: str | None = None) -> OwnedNumber:
    return OwnedNumber(**described(number), id=number["msisdn"], webhook_url=webhook_url)


def described(number: Mapping[str, Any]) -> dict[str, Any]:
    types = {word: type for type, word in types_in(number.get("country")).items()}
    features = frozenset(feature for feature, word in FEATURES.items() if word in number.get("features", ()))
    shown = {"number": f"+{number['msisdn']}", "provider": "vonage", "raw": dict(number)}
    return {**shown, "type": types.get(str(number.get("type"))), "features": features}


def application_of(number: Mapping[str, Any]) -> str:
    """The application that gets the number's calls; a forwarding of the number's own comes first."""
    return "" if number.get("voiceCallbackType") in FORWARDED else str(number.get("app_id") or "")


def update(number: Mapping[str, Any], application_id: str) -> dict[str, str]:
    """The form that links a number to an application, or to none."""
    form = {name: str(number[name]) for name in ("country", "msisdn", *KEPT) if number.get(name)}
    if application_id and number.get("voiceCallbackType") in FORWARDED:
        form |= {"voiceCallbackType": "app", "voiceCallbackValue": application_id}
    return {**form, "app_id": application_id} if application_id else form


def answer_url(application: Mapping[str, Any]) -> str | None:
    webhooks = (application.get("capabilities") or {}).get("voice", {}).get("webhooks", {})
    url: str | None = webhooks.get("answer_url", {}).get("address")
    return url


def point(application: dict[str, Any], webhook_url: str) -> list[str]:
    """Point the application's webhooks to ``webhook_url`` in its document, which is written whole; what was changed."""
    voice = application.setdefault("capabilities", {}).setdefault("voice", {})
    hooks, changed = voice.setdefault("webhooks", {}), []
    for name in ("answer_url", "event_url"):
        before = hooks.get(name)
        hooks[name] = {**(before or {}), "address": webhook_url, "http_method": "POST"}
        changed += [name] if hooks[name] != before else []
    changed += ["signed_callbacks"] if voice.get("signed_callbacks") is not True else []
    voice["signed_callbacks"] = True
    for ours in ("id", "_links"):
        application.pop(ours, None)
    return changed
