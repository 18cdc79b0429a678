"""Vonage's numbers, and the application that its webhooks belong to. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from anycarrier.calls import price_of
from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType, OwnedNumber
from anycarrier.rest import given

PAGE = 100  # the most numbers that Vonage puts on one
TYPES = {NumberType.LOCAL: "landline", NumberType.MOBILE: "mobile-lvn", NumberType.TOLL_FREE: "landline-toll-free"}
NORTH = {NumberType.LOCAL: "mobile-lvn", NumberType.TOLL_FREE: "landline-toll-free"}
TYPES_IN = {"US": NORTH, "CA": NORTH}  # where mobile and geographic numbers are the same, and are called mobile

FEATURES = {NumberFeature.SMS: "SMS", NumberFeature.MMS: "MMS", NumberFeature.VOICE: "VOICE"}
FORWARDED = ("sip", "tel", "vxml")
KEPT = ("moHttpUrl", "moSmppSysType", "voiceStatusCallback")  # sent again: an update may drop what it leaves out


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


def next_page(body: Any, page: Mapping[str, Any], end: float = float("inf")) -> dict[str, Any] | None:
    """What it is asked with, while there are more numbers and fewer than ``end`` have come."""
    more = page["index"] * page["size"] < min(end, (body or {}).get("count", 0))
    return {**page, "index": page["index"] + 1} if more else None


def offer(number: Mapping[str, Any]) -> AvailableNumber:
    price = price_of(number.get("cost"), "EUR")
    priced: dict[str, Any] = {"monthly_cost": price.amount, "currency": price.currency} if price else {}
    return AvailableNumber(**described(number), country=number["country"], **priced)


def owned(number: Mapping[str, Any], webhook_url: str | None = None) -> OwnedNumber:
    return OwnedNumber(**described(number), id=number["msisdn"], webhook_url=webhook_url)


def described(number: Mapping[str, Any]) -> dict[str, Any]:
    types = {word: type for type, word in TYPES_IN.get(number["country"], TYPES).items()}
    features = frozenset(feature for feature, word in FEATURES.items() if word in number.get("features", ()))
    shown = {"number": f"+{number['msisdn']}", "provider": "vonage", "raw": dict(number)}
    return {**shown, "type": types.get(str(number.get("type"))), "features": features}


def application_of(number: Mapping[str, Any]) -> str:
    """The application that gets the number's calls; a forwarding of the number's own comes first."""
    return "" if number.get("voiceCallbackType") in FORWARDED else str(number.get("app_id") or "")


def update(number: Mapping[str, Any], application_id: str) -> dict[str, str]:
    """The form that links a number to an application, or to none."""
    form = given({**{name: number.get(name) for name in ("country", "msisdn", *KEPT)}, "app_id": application_id})
    forwarded = application_id and number.get("voiceCallbackType") in FORWARDED
    return form | ({"voiceCallbackType": "app", "voiceCallbackValue": application_id} if forwarded else {})


def answer_url(application: Mapping[str, Any]) -> Any:
    voice = (application.get("capabilities") or {}).get("voice", {})
    return voice.get("webhooks", {}).get("answer_url", {}).get("address")


def point(application: dict[str, Any], webhook_url: str) -> list[str]:
    """Point the application's webhooks to ``webhook_url`` in its document, which is written whole; what was changed."""
    voice = application.setdefault("capabilities", {}).setdefault("voice", {})
    had, webhook = voice.get("webhooks") or {}, {"address": webhook_url, "http_method": "POST"}
    hooks = {name: {**(had.get(name) or {}), **webhook} for name in ("answer_url", "event_url")}
    changed = [name for name, hook in hooks.items() if hook != had.get(name)]
    changed += ["signed_callbacks"] if voice.get("signed_callbacks") is not True else []
    voice |= {"webhooks": {**had, **hooks}, "signed_callbacks": True}
    application.pop("id", None), application.pop("_links", None)
    return changed
