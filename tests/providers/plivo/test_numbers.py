"""Numbers and the applications they point at: what is asked, and what is left alone."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from anycarrier import NumberFeature, NumberQuery, NumberType, OwnedNumber, PendingOrder
from anycarrier.errors import (
    InvalidNumber,
    NotFound,
    NumberUnavailable,
    RequirementsMissing,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import NumberRequirement
from anycarrier_plivo import PlivoProvider
from providers.plivo.conftest import AUTH_ID, Carrier
from shared_documents import shared_path

URL = "https://voice.example.com/plivo/main"
OURS = "+14155550100"
WANTED = {"answer_url": URL, "hangup_url": URL, "answer_method": "POST", "hangup_method": "POST"}


def page(objects: list[Any], more: bool = False) -> dict[str, Any]:
    return {"api_id": "x", "meta": {"limit": 20, "offset": 0, "next": "/v1/..." if more else None}, "objects": objects}


def held(app_id: str | None = None, number: str = "14155550100") -> dict[str, Any]:
    resource = f"/v1/Account/{AUTH_ID}/Application/{app_id}/" if app_id else None
    return {"number": number, "number_type": "local", "application": resource, "voice_enabled": True}


def recorded(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(shared_path("recordings", "plivo", "api", f"{name}.json").read_text())
    return read


async def search(plivo: PlivoProvider, **query: Any) -> list[Any]:
    return await plivo.search_numbers(NumberQuery(**query))


async def test_a_search_sends_what_was_asked(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("GET /PhoneNumber/", page([]))
    await search(plivo, area_code="415", region="CA", locality="San Francisco", type=NumberType.TOLL_FREE, limit=7,
                 page=3, features=(NumberFeature.VOICE, NumberFeature.SMS), extra={"lata": "722"})  # fmt: skip
    assert dict(carrier.requests[0].url.params) == {
        "country_iso": "US", "type": "tollfree", "services": "voice,sms", "pattern": "415", "region": "CA",
        "city": "San Francisco", "limit": "7", "offset": "14", "lata": "722",
    }  # fmt: skip


async def test_a_search_for_more_than_a_page_turns_pages(plivo: PlivoProvider, carrier: Carrier):
    rows = [{"number": f"1415555{last:04}"} for last in range(45)]
    carrier.on("GET /PhoneNumber/", page(rows[:20], True), page(rows[20:40], True), page(rows[40:45], True))
    found = await search(plivo, limit=45)
    assert [offer.number for offer in found] == [f"+1415555{last:04}" for last in range(45)]
    asked = [(request.url.params["limit"], request.url.params["offset"]) for request in carrier.requests]
    assert asked == [("20", "0"), ("20", "20"), ("5", "40")]


async def test_an_offer_is_read(plivo: PlivoProvider, carrier: Carrier):
    row = {"number": "14155550177", "type": "fixed", "city": "SF", "region": "CA", "monthly_rental_rate": "0.80000",
           "setup_rate": "0.00000", "voice_enabled": True, "sms_enabled": True, "restriction": None}  # fmt: skip
    regulated = {"number": "+918031790000", "type": "local", "restriction": "physical_address", "restriction_text": "x"}
    carrier.on("GET /PhoneNumber/", page([row, regulated, {"number": "not one"}]))
    plain, papers = await search(plivo)
    assert (plain.number, plain.type, plain.country, plain.locality) == ("+14155550177", NumberType.LOCAL, "US", "SF")
    assert (plain.monthly_cost, plain.upfront_cost, plain.currency) == (Decimal("0.8"), Decimal(0), "USD")
    assert plain.features == {NumberFeature.VOICE, NumberFeature.SMS} and plain.requirements == frozenset()
    assert (papers.number, papers.country) == ("+918031790000", "IN")
    assert papers.requirements == {NumberRequirement.DOCUMENTS}


@pytest.mark.parametrize(
    "query",
    [
        {"contains": "555"},
        {"contains": "5550177"},
        {"area_code": "415", "contains": "555"},
        {"area_code": "415", "contains": "55*0177"},
        {"area_code": "303", "contains": "5550177", "country": "GB"},
        {"features": (NumberFeature.FAX,)},
    ],
)
async def test_what_plivo_cannot_search_for_is_refused(plivo: PlivoProvider, carrier: Carrier, query: dict[str, Any]):
    with pytest.raises(UnsupportedOperation):
        await search(plivo, **query)
    assert carrier.requests == []


async def test_the_rest_of_a_whole_number_is_its_first_digits(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("GET /PhoneNumber/", page([]))
    await search(plivo, area_code="415", contains="5550177")
    assert carrier.requests[0].url.params["pattern"] == "4155550177"


async def test_an_answer_without_a_list_is_unreadable(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("GET /PhoneNumber/", {"api_id": "x", "objects": "many"})
    with pytest.raises(UnreadableResponse):
        await search(plivo)


async def test_a_number_is_bought(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("POST /PhoneNumber/14155550186/", recorded("doc_buy_number"), status=201)
    bought = await plivo.buy_number("+14155550186", extra={"app_id": "1"})
    assert isinstance(bought, OwnedNumber) and (bought.number, bought.id) == ("+14155550186", "14155550186")
    assert carrier.bodies == [{"app_id": "1"}] and len(carrier.requests) == 1


async def test_an_order_is_done_when_the_account_holds_the_number(plivo: PlivoProvider, carrier: Carrier):
    plivo.order_poll = 0.001  # type: ignore[misc]
    carrier.on("POST /PhoneNumber/14155550100/", {"status": "pending", "numbers": []}, status=201)
    order = await plivo.buy_number(OURS, timeout=0.0)
    assert isinstance(order, PendingOrder) and (order.id, order.number) == (OURS, OURS)
    assert isinstance(await plivo.fetch_order(order.id), PendingOrder)
    gone = httpx.Response(404, json={"error": "not found"})
    carrier.on("GET /Number/14155550100/", gone, httpx.Response(200, json=held()))
    assert isinstance(await plivo.buy_number(OURS, timeout=5), OwnedNumber)


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (404, "number not found in inventory", NumberUnavailable),
        (400, "compliance_application_id is required", RequirementsMissing),
        (400, "verification_info is required", RequirementsMissing),
    ],
)
async def test_a_purchase_is_refused(
    plivo: PlivoProvider, carrier: Carrier, status: int, text: str, error: type[Exception]
):
    carrier.on("POST /PhoneNumber/14155550100/", {"error": text}, status=status)
    with pytest.raises(error, match=text):
        await plivo.buy_number(OURS)


async def test_numbers_are_listed_with_where_their_calls_go(plivo: PlivoProvider, carrier: Carrier):
    trunk = {**held(number="14155550103"), "application": f"/v1/Account/{AUTH_ID}/Zentrunk/Trunk/77/"}
    rows = [held("1"), held("1", "14155550101"), held(None, "14155550102"), trunk, held("2", "14155550104")]
    carrier.on("GET /Number/", page(rows[:3], True), page(rows[3:]))
    carrier.on("GET /Application/1/", {"app_id": "1", **WANTED})  # the other one is gone
    numbers = await plivo.list_numbers()
    assert [(number.number[-3:], number.webhook_url) for number in numbers] == [
        ("100", URL), ("101", URL), ("102", None), ("103", None), ("104", None)
    ]  # fmt: skip
    assert sorted(carrier.asked).count("GET /Application/1/") == 1, "an application is asked about once"


async def test_one_number_is_read_or_not_held(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("GET /Number/17605550166/", recorded("doc_get_number"))
    carrier.on("GET /Application/29986316244302815/", recorded("doc_get_application"))
    (number,) = await plivo.list_numbers("+17605550166")
    assert (number.number, number.type, number.webhook_url) == ("+17605550166", NumberType.LOCAL, "http://www.google.com/")
    assert await plivo.list_numbers("+14155550199") == []


@pytest.mark.parametrize("number", ["14155550100", "4155550100", "+1415", "00491701234567", ""])
async def test_what_is_no_number_is_asked_of_nobody(plivo: PlivoProvider, carrier: Carrier, number: str):
    for ask in (plivo.buy_number, plivo.release_number, plivo.list_numbers):
        with pytest.raises(InvalidNumber):
            await ask(number)
    for point in (plivo.configure_number, plivo.unconfigure_number):
        with pytest.raises(InvalidNumber):
            await point(number, webhook_url=URL)
    assert carrier.requests == []


async def test_release_is_final_and_of_a_number_that_is_held(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("DELETE /Number/14155550100/", httpx.Response(204))
    await plivo.release_number(OURS)
    with pytest.raises(NotFound):
        await plivo.release_number("+14155550199")


# --- configuring ------------------------------------------------------------------------------------------------------


async def configure(plivo: PlivoProvider, carrier: Carrier, **options: Any) -> tuple[tuple[str, ...], list[str]]:
    carrier.requests.clear()
    result = await plivo.configure_number(OURS, webhook_url=URL, **options)
    assert result.ok and result.webhook_url == URL
    return result.changed, [asked for asked in carrier.asked if not asked.startswith("GET")]


def scripted(carrier: Carrier, number: dict[str, Any], *applications: dict[str, Any]) -> None:
    carrier.on("GET /Number/14155550100/", number)
    carrier.on("POST /Number/14155550100/", recorded("doc_update_application"), status=202)
    carrier.on("POST /Application/", {"app_id": "9", "message": "created"}, status=201)
    carrier.on("GET /Application/", page(list(applications)))
    for application in applications:
        carrier.on(f"GET /Application/{application['app_id']}/", application)
        carrier.on(f"POST /Application/{application['app_id']}/", {"message": "changed"}, status=202)


async def name_of_ours(plivo: PlivoProvider, carrier: Carrier) -> str:
    scripted(carrier, held())
    await configure(plivo, carrier)
    name: str = carrier.bodies[0]["app_name"]
    carrier.requests.clear()
    return name


async def test_the_first_number_makes_the_application_and_the_next_shares_it(plivo: PlivoProvider, carrier: Carrier):
    scripted(carrier, held())
    changed, asked = await configure(plivo, carrier)
    assert (set(changed), asked) == ({"application", *WANTED}, ["POST /Application/", "POST /Number/14155550100/"])
    made, pointed = carrier.bodies
    assert made.items() >= WANTED.items() and pointed == {"app_id": "9"}
    name = made["app_name"]
    assert name.startswith("anycarrier-") and URL not in name
    other = {"app_id": "8", "app_name": f"{name}-2", **WANTED}
    scripted(carrier, held(), other, {"app_id": "9", "app_name": name, **WANTED})
    changed, asked = await configure(plivo, carrier)
    assert (changed, asked, carrier.bodies) == (("application",), ["POST /Number/14155550100/"], [{"app_id": "9"}])


async def test_what_is_right_already_is_not_written(plivo: PlivoProvider, carrier: Carrier):
    scripted(carrier, held("5"), {"app_id": "5", "app_name": "made by hand", **WANTED})
    assert await configure(plivo, carrier) == ((), [])


async def test_an_application_of_ours_that_was_changed_is_mended(plivo: PlivoProvider, carrier: Carrier):
    name = await name_of_ours(plivo, carrier)
    scripted(carrier, held("9"), {"app_id": "9", "app_name": name, **WANTED, "hangup_url": "", "answer_method": "GET"})
    changed, asked = await configure(plivo, carrier)
    assert (set(changed), asked) == ({"hangup_url", "answer_method"}, ["POST /Application/9/"])


async def test_an_application_of_somebody_else_is_left_alone(plivo: PlivoProvider, carrier: Carrier):
    other = {"app_id": "5", "app_name": "other", "answer_url": "https://else.example.com", "hangup_url": ""}
    scripted(carrier, held("5"), other)
    _, asked = await configure(plivo, carrier)
    assert asked == ["POST /Application/", "POST /Number/14155550100/"]


async def test_a_dry_run_says_what_it_would_write(plivo: PlivoProvider, carrier: Carrier):
    scripted(carrier, held())
    changed, asked = await configure(plivo, carrier, dry_run=True)
    assert (set(changed), asked) == ({"application", *WANTED}, [])


async def test_a_number_that_is_not_held_cannot_be_pointed(plivo: PlivoProvider, carrier: Carrier):
    for result in (
        await plivo.configure_number("+14155550199", webhook_url=URL),
        await plivo.unconfigure_number("+14155550199", webhook_url=URL),
    ):
        assert not result.ok and "+14155550199" not in result.message and "does not hold" in result.message
    assert all(asked.startswith("GET") for asked in carrier.asked)


async def test_a_number_is_parked_where_there_is_no_url(plivo: PlivoProvider, carrier: Carrier):
    scripted(carrier, held("5"), {"app_id": "5", "app_name": "ours", **WANTED})
    result = await plivo.unconfigure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ("application",))
    assert carrier.bodies == [{"app_name": "anycarrier-unassigned"}, {"app_id": "9"}]
    scripted(carrier, held("9"), {"app_id": "9", "app_name": "anycarrier-unassigned", "answer_url": ""})
    carrier.requests.clear()
    result = await plivo.unconfigure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ()) and carrier.bodies == []


async def test_a_number_that_points_elsewhere_stays_there(plivo: PlivoProvider, carrier: Carrier):
    scripted(carrier, held("5"), {"app_id": "5", "app_name": "other", "answer_url": "https://else.example.com"})
    result = await plivo.unconfigure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed, carrier.bodies) == (True, (), [])
