"""Numbers: searching the inventory, ordering (which takes a moment), owning, pointing at a connection, giving back."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from starlette.responses import JSONResponse, Response

from anycarrier.testing.sandbox_numbers import LOCAL, PENDING_NUMBER, TOLL_FREE, TOLL_FREE_CODES, NumberForSale
from anycarrier_telnyx.sandbox.account import Account
from anycarrier_telnyx.sandbox.rest import Ask, data, kept, listed
from anycarrier_telnyx.sandbox.validation import refuse
from anycarrier_telnyx.sandbox.webhooks import moment

DEFAULT_LIMIT = 100
ORDER_TAKES = 0.1
"""Seconds an order is pending."""


async def search(ask: Ask) -> Response:
    """GET /available_phone_numbers"""
    query = ask.query
    found = ask.sandbox.inventory.search(
        country=query.get("filter[country_code]", "US"),
        type=query.get("filter[phone_number_type]", "local"),
        area_code=query.get("filter[national_destination_code]"),
        region=query.get("filter[administrative_area]"),
        locality=query.get("filter[locality]", query.get("filter[rate_center]")),
        features=query.get("filter[features]", ()),
    )
    rows = [_offer(offer) for offer in found if _matches(offer, query)][: query.get("filter[limit]", DEFAULT_LIMIT)]
    ask.account.searched.update(row["phone_number"] for row in rows)
    # Captures have the totals under "metadata".
    return JSONResponse({"data": rows, "metadata": {"total_results": len(rows), "best_effort_results": 0}})


def _matches(offer: NumberForSale, query: Any) -> bool:
    # With an area code given, the pattern is about what follows it.
    digits = offer.number[5:] if "filter[national_destination_code]" in query else offer.number[2:]
    whole = offer.number[1:]

    def pattern(name: str) -> str:
        return str(query.get(f"filter[phone_number][{name}]", "")).lstrip("+")

    starts = digits.startswith(pattern("starts_with")) or whole.startswith(pattern("starts_with"))
    return starts and digits.endswith(pattern("ends_with")) and pattern("contains") in digits


def _offer(offer: NumberForSale) -> dict[str, Any]:
    regions = [("country_code", offer.country), ("state", offer.region)]
    regions += [("rate_center", offer.locality.upper()), ("location", offer.locality)] if offer.locality else []
    return {
        "phone_number": offer.number,
        "record_type": "available_phone_number",
        "best_effort": False,
        "quickship": True,
        "reservable": True,
        "cost_information": {
            "monthly_cost": f"{float(offer.monthly_cost):.5f}",
            "upfront_cost": f"{float(offer.upfront_cost):.5f}",
            "currency": "USD",
        },
        "features": [{"name": name} for name in sorted(offer.features)],
        "region_information": [{"region_type": kind, "region_name": name} for kind, name in regions if name],
    }


async def order(ask: Ask) -> Response:
    """POST /number_orders"""
    wanted = [entry["phone_number"] for entry in ask.body["phone_numbers"]]
    connection = ask.body.get("connection_id", "")
    if connection and connection not in ask.account.applications:
        raise refuse("85004", "There is no such connection.", pointer="/connection_id")
    for place, number in enumerate(wanted):
        at = f"/phone_numbers/{place}/phone_number"
        if number not in ask.account.searched:
            raise refuse("85000", "The number has not been found by a search of this account.", pointer=at)
        if not ask.sandbox.inventory.sell(number):
            raise refuse("85001", "The number is no longer available.", pointer=at)
    # Optional texts that were not given are null on the wire (captured), though the document says string.
    optional = ("connection_id", "billing_group_id", "customer_reference", "messaging_profile_id")
    made: dict[str, Any] = {
        "id": str(uuid.uuid4()),
        "record_type": "number_order",
        "status": "pending",
        "requirements_met": True,
        "phone_numbers_count": len(wanted),
        "phone_numbers": [_ordered(number) for number in wanted],
        "sub_number_orders_ids": [str(uuid.uuid4())],
        "created_at": moment(),
        "updated_at": moment(),
        **{name: ask.body.get(name) for name in optional},
    }
    ask.account.orders[made["id"]] = made
    takes = ask.sandbox.pending_for if PENDING_NUMBER in wanted else ORDER_TAKES
    ask.sandbox.start(_complete(ask, made, takes))
    return data(_snapshot(made))


def _ordered(number: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "record_type": "number_order_phone_number",
        "phone_number": number,
        "phone_number_type": TOLL_FREE if number[2:5] in TOLL_FREE_CODES else LOCAL,
        "country_code": "US",
        "regulatory_requirements": [],
        "requirements_met": True,
        "requirements_status": "approved",
        "status": "pending",
    }


async def _complete(ask: Ask, made: dict[str, Any], takes: float) -> None:
    await asyncio.sleep(takes)
    connection = made["connection_id"] or ""
    for entry in made["phone_numbers"]:
        entry["status"] = "success"
        ask.account.add_number(entry["phone_number"], connection, entry["phone_number_type"])
    made.update(status="success", updated_at=moment())
    url = ask.account.applications.get(connection, {}).get("webhook_event_url", "")
    ask.sandbox.tell(ask.account, "number_order.complete", _snapshot(made), url=url, connection_id=connection)


def _snapshot(made: dict[str, Any]) -> dict[str, Any]:
    return {**made, "phone_numbers": [dict(entry) for entry in made["phone_numbers"]]}


async def orders(ask: Ask) -> Response:
    """GET /number_orders"""
    fields = {name: name for name in ("status", "customer_reference", "phone_numbers_count", "requirements_met")}
    fields |= {"created_at][gt": "created_at", "created_at][lt": "created_at"}
    return listed([row for row in ask.account.orders.values() if kept(row, ask.query, fields)], ask.query)


async def fetch_order(ask: Ask) -> Response:
    """GET /number_orders/{id}"""
    found = ask.account.orders.get(ask.ids["id"])
    if found is None:
        raise refuse("10005", "There is no such order.")
    return data(found)


async def owned(ask: Ask) -> Response:
    """GET /phone_numbers"""
    names = ("phone_number", "connection_id", "customer_reference", "status", "billing_group_id",
             "emergency_address_id", "country_iso_alpha2")  # fmt: skip
    fields = {name: name for name in names} | {"number_type][eq": "phone_number_type"}
    hows = ("contains", "ends_with", "eq", "starts_with")
    fields |= {f"voice.connection_name][{how}": "connection_name" for how in hows}
    tag, untagged = ask.query.get("filter[tag]"), ask.query.get("filter[without_tags]") == "true"
    rows = [
        row
        for row in reversed(ask.account.numbers.values())
        if kept(row, ask.query, fields) and (tag is None or tag in row["tags"]) and not (untagged and row["tags"])
    ]
    return listed(rows, ask.query)


async def verified(ask: Ask) -> Response:
    """GET /verified_numbers"""
    return listed(ask.account.verified.values(), ask.query)


async def fetch_verified(ask: Ask) -> Response:
    """GET /verified_numbers/{id}"""
    found = ask.account.verified.get(ask.ids["id"])
    if found is None:
        raise refuse("10005", "There is no such verified number.")
    return data(found)


async def delete_verified(ask: Ask) -> Response:
    """DELETE /verified_numbers/{id}"""
    answer = await fetch_verified(ask)
    del ask.account.verified[ask.ids["id"]]
    return answer


def _owned(account: Account, number_id: str) -> dict[str, Any]:
    found = account.numbers.get(number_id)
    if found is None:
        raise refuse("10005", "There is no such phone number.")
    return found


async def fetch_number(ask: Ask) -> Response:
    """GET /phone_numbers/{id}"""
    return data(_owned(ask.account, ask.ids["id"]))


async def update_number(ask: Ask) -> Response:
    """PATCH /phone_numbers/{id}"""
    number = _owned(ask.account, ask.ids["id"])
    connection = ask.body.get("connection_id", "")
    if connection and connection not in ask.account.applications:
        raise refuse("85004", "There is no such connection.", pointer="/connection_id")
    number.update({name: value for name, value in ask.body.items() if name not in ("id", "address_id")})
    name = ask.account.applications.get(number["connection_id"], {}).get("application_name", "")
    number.update(connection_name=name, updated_at=moment())
    return data(number)


async def release(ask: Ask) -> Response:
    """DELETE /phone_numbers/{id}"""
    number = _owned(ask.account, ask.ids["id"])
    if number["deletion_lock_enabled"]:
        raise refuse("10027", "The number is locked against deletion.")
    del ask.account.numbers[number["id"]]
    ask.sandbox.inventory.take_back(number["phone_number"])
    left_out = ("country_iso_alpha2", "source_type")
    texts = {name: value if value is not None else "" for name, value in number.items() if name not in left_out}
    return data({**texts, "status": "deleted"})


def _voice(account: Account, number_id: str) -> dict[str, Any]:
    number = _owned(account, number_id)
    settings = account.voice_settings.setdefault(
        number_id,
        {
            "call_forwarding": {"call_forwarding_enabled": True},
            "call_recording": {
                "inbound_call_recording_enabled": False,
                "inbound_call_recording_channels": "single",
                "inbound_call_recording_format": "wav",
            },
            "inbound_call_screening": "disabled",
            "tech_prefix_enabled": False,
            "translated_number": "",
            "usage_payment_method": "pay-per-minute",
        },
    )
    same = {"id": number_id, "phone_number": number["phone_number"], "connection_id": number["connection_id"]}
    return {"record_type": "voice_settings", **same, **settings}


async def fetch_voice(ask: Ask) -> Response:
    """GET /phone_numbers/{id}/voice"""
    return data(_voice(ask.account, ask.ids["id"]))


async def update_voice(ask: Ask) -> Response:
    """PATCH /phone_numbers/{id}/voice"""
    _voice(ask.account, ask.ids["id"])
    settings = ask.account.voice_settings[ask.ids["id"]]
    for name, value in ask.body.items():
        if isinstance(value, dict):
            settings.setdefault(name, {}).update(value)
        elif name != "caller_id_name_enabled":
            settings[name] = value
    return data(_voice(ask.account, ask.ids["id"]))
