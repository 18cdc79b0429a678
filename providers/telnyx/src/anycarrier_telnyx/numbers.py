"""Telnyx's numbers as ours, and how to ask for them. Pure.

Search results carry prices as text and the region as a list; accounts on trial see masked numbers
(``+17792------``) that cannot be bought, so those are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from anycarrier.numbers import E164, AvailableNumber, NumberFeature, NumberQuery, NumberType, OwnedNumber

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
