"""Numbers by REST: search, buy (asynchronous at Telnyx), list, point at us, release. Requests checked in conftest."""

from __future__ import annotations

import json
from decimal import Decimal

import httpx
import pytest

from anycarrier.errors import (
    AuthenticationFailed,
    InvalidNumber,
    NotFound,
    NumberUnavailable,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType, OwnedNumber, PendingOrder
from anycarrier_telnyx import TelnyxProvider
from anycarrier_telnyx.numbers import offered, owned
from shared_documents import shared_path
from virtual_time import virtually

NUMBER = "+14155550100"
ORDER = "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"
URL = "https://voice.example.com/telnyx/main"
APPLICATION = "1000000000000000001"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(TelnyxProvider, "order_poll", 0.001)


def order(status: str, number: str = NUMBER) -> dict[str, object]:
    return {"data": {"id": ORDER, "status": status, "phone_numbers": [{"id": "x", "phone_number": number}]}}


def held(*numbers: str, **fields: object) -> dict[str, object]:
    rows = [{"id": f"20000000{i}", "phone_number": n, "status": "active", **fields} for i, n in enumerate(numbers)]
    return {"data": rows, "meta": {"page_number": 1, "page_size": 250, "total_pages": 1, "total_results": len(rows)}}


# --- search ----------------------------------------------------------------------------------------------------------


async def test_search_says_all_that_was_asked_and_repeats_features(telnyx, carrier):
    carrier.on("GET /available_phone_numbers", {"data": []})
    await telnyx.search_numbers(
        NumberQuery(
            country="CA", area_code="415", contains="5550*", locality="San Francisco", region="CA",
            type=NumberType.TOLL_FREE, features=("voice", "sms"), limit=7, extra={"filter[best_effort]": "true"},
        )
    )
    assert carrier.requests[0].url.params.multi_items() == [
        ("filter[country_code]", "CA"),
        ("filter[phone_number_type]", "toll_free"),
        ("filter[limit]", "7"),
        ("filter[features][]", "voice"),
        ("filter[features][]", "sms"),
        ("filter[national_destination_code]", "415"),
        ("filter[locality]", "San Francisco"),
        ("filter[administrative_area]", "CA"),
        ("filter[phone_number][starts_with]", "5550"),
        ("filter[best_effort]", "true"),
    ]


async def test_the_captured_search_result_is_read_with_price_and_place(telnyx, carrier):
    capture = shared_path("recordings", "telnyx", "api", "search_available_phone_numbers.json").read_text()
    carrier.on("GET /available_phone_numbers", json.loads(capture))
    [offer] = await telnyx.search_numbers(NumberQuery())
    assert (offer.number, offer.country, offer.region, offer.locality) == ("+16185550147", "US", "IL", "DOW")
    assert (offer.monthly_cost, offer.upfront_cost, offer.currency) == (Decimal("1.0"), Decimal("1.0"), "USD")
    assert offer.features == {NumberFeature.FAX, NumberFeature.VOICE, NumberFeature.SMS}
    assert offer.raw["quickship"] is True


async def test_masked_numbers_of_trial_accounts_are_left_out(telnyx, carrier):
    carrier.on("GET /available_phone_numbers", {"data": [{"phone_number": "+17792------"}, {"phone_number": NUMBER}]})
    assert [offer.number for offer in await telnyx.search_numbers(NumberQuery())] == [NUMBER]


async def test_the_second_page_is_cut_out_of_a_longer_search(telnyx, carrier):
    rows = [{"phone_number": f"+141555501{i:02}"} for i in range(5)]
    carrier.on("GET /available_phone_numbers", {"data": rows[:4]})
    offers = await telnyx.search_numbers(NumberQuery(limit=2, page=2))
    assert carrier.requests[0].url.params["filter[limit]"] == "4"
    assert [offer.number for offer in offers] == ["+14155550102", "+14155550103"]


async def test_a_pattern_telnyx_cannot_search_for_is_refused_and_not_dropped(telnyx, carrier):
    with pytest.raises(UnsupportedOperation, match="pattern"):
        await telnyx.search_numbers(NumberQuery(contains="5*5"))
    assert carrier.requests == []


@pytest.mark.parametrize("body", [{"data": None}, {"data": ["x"]}, {}, [], b"<html>"])
async def test_a_search_answered_with_something_else_is_unreadable(telnyx, carrier, body):
    carrier.on("GET /available_phone_numbers", body)
    with pytest.raises(UnreadableResponse):
        await telnyx.search_numbers(NumberQuery())


def test_odd_rows_do_not_break_a_result():
    odd = {
        "phone_number": NUMBER, "features": [{"name": "hd_voice"}, "x"], "region_information": None,
        "cost_information": {"monthly_cost": "NaN", "upfront_cost": None},
    }
    offer = offered(odd, NumberQuery())
    assert offer is not None
    assert (offer.monthly_cost, offer.upfront_cost, offer.features) == (None, None, frozenset())
    assert owned({"phone_number": "12345", "id": "1"}) is None


# --- buy -------------------------------------------------------------------------------------------------------------


async def test_buying_waits_for_the_order_to_succeed(telnyx, carrier):
    carrier.on("POST /number_orders", order("pending"))
    looks = iter([order("pending"), order("success")])
    carrier.on(f"GET /number_orders/{ORDER}", lambda request: next(looks))
    carrier.on("GET /phone_numbers", held(NUMBER))
    bought = await telnyx.buy_number(NUMBER, extra={"customer_reference": "desk"})
    assert isinstance(bought, OwnedNumber)
    assert (bought.number, bought.id) == (NUMBER, "200000000")
    assert carrier.bodies[0] == {
        "phone_numbers": [{"phone_number": NUMBER}], "connection_id": APPLICATION, "customer_reference": "desk",
    }
    assert carrier.asked.count("POST /number_orders") == 1


def test_an_order_that_takes_longer_comes_back_pending_with_its_id(open_telnyx, carrier, monkeypatch):
    monkeypatch.setattr(TelnyxProvider, "order_poll", 5.0)
    carrier.on("POST /number_orders", order("pending"))
    carrier.on(f"GET /number_orders/{ORDER}", order("pending"))
    pending = virtually(open_telnyx().buy_number(NUMBER, timeout=60))
    assert pending == PendingOrder(id=ORDER, number=NUMBER, provider="telnyx", raw=order("pending")["data"])
    assert carrier.asked.count(f"GET /number_orders/{ORDER}") >= 1


async def test_a_question_about_the_order_that_fails_does_not_lose_the_order(telnyx, carrier):
    carrier.on("POST /number_orders", order("pending"))
    looks = iter([httpx.ReadTimeout("slow"), order("success")])

    def look(request):
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    carrier.on(f"GET /number_orders/{ORDER}", look)
    carrier.on("GET /phone_numbers", held(NUMBER))
    bought = await telnyx.buy_number(NUMBER)
    assert isinstance(bought, OwnedNumber) and (bought.number, bought.id) == (NUMBER, "200000000")
    assert next(looks, None) is None, "asked again after the question that failed"
    assert carrier.asked.count("POST /number_orders") == 1, "and never ordered again"


async def test_a_carrier_that_stays_down_after_the_order_leaves_it_pending(telnyx, carrier):
    carrier.on("POST /number_orders", order("pending"))
    carrier.on(f"GET /number_orders/{ORDER}", httpx.ConnectError("down"))
    pending = await telnyx.buy_number(NUMBER, timeout=0.01)
    assert pending == PendingOrder(id=ORDER, number=NUMBER, provider="telnyx", raw=order("pending")["data"])
    assert carrier.asked.count("POST /number_orders") == 1


async def test_a_failed_order_is_a_number_that_cannot_be_had(telnyx, carrier):
    carrier.on("POST /number_orders", order("failure"))
    with pytest.raises(NumberUnavailable) as caught:
        await telnyx.buy_number(NUMBER)
    assert NUMBER not in str(caught.value)


@pytest.mark.parametrize("code", ["85000", "85001"])
async def test_a_number_that_is_gone_is_unavailable(telnyx, carrier, code):
    carrier.refuse("POST /number_orders", 422, code)
    with pytest.raises(NumberUnavailable, match="Search again"):
        await telnyx.buy_number(NUMBER)


async def test_the_captured_order_is_pending_and_is_fetched_later(telnyx, carrier):
    capture = json.loads(shared_path("recordings", "telnyx", "api", "create_number_order_pending.json").read_text())
    carrier.on(f"GET /number_orders/{ORDER}", capture)
    pending = await telnyx.fetch_order(ORDER)
    assert (type(pending), pending.id, pending.number) == (PendingOrder, capture["data"]["id"], "+15075550146")
    carrier.on(f"GET /number_orders/{ORDER}", order("success"))
    carrier.on("GET /phone_numbers", held("+14155550199", NUMBER))
    bought = await telnyx.fetch_order(ORDER)
    assert isinstance(bought, OwnedNumber) and (bought.number, bought.id) == (NUMBER, "200000001")


async def test_a_successful_order_not_yet_in_the_list_still_is_pending(telnyx, carrier):
    carrier.on(f"GET /number_orders/{ORDER}", order("success"))
    carrier.on("GET /phone_numbers", held())
    assert await telnyx.fetch_order(ORDER) == PendingOrder(
        id=ORDER, number=NUMBER, provider="telnyx", raw=order("success")["data"]
    )


@pytest.mark.parametrize("number", ["4155550100", "", "+1415"])
async def test_what_is_no_number_is_not_ordered(telnyx, carrier, number):
    with pytest.raises(InvalidNumber):
        await telnyx.buy_number(number)
    assert carrier.requests == []


async def test_an_order_stands_though_no_question_about_it_is_answered(telnyx, carrier):
    carrier.on("POST /number_orders", order("success"))
    carrier.on(f"GET /number_orders/{ORDER}", order("success"))
    carrier.on("GET /phone_numbers", {"errors": []}, status=503)
    pending = await telnyx.buy_number(NUMBER, timeout=0.01)
    assert isinstance(pending, PendingOrder) and pending.id == ORDER
    assert carrier.asked.count("POST /number_orders") == 1


# --- list and release ------------------------------------------------------------------------------------------------


async def test_the_captured_list_is_read(telnyx, carrier):
    capture = json.loads(shared_path("recordings", "telnyx", "api", "list_phone_numbers.json").read_text())
    carrier.on("GET /phone_numbers", capture)
    [number] = await telnyx.list_numbers()
    assert (number.number, number.id, number.status) == ("+12705550192", capture["data"][0]["id"], "active")


async def test_all_pages_are_read(telnyx, carrier):
    def page(request):
        number = int(request.url.params["page[number]"])
        body = held(f"+1415555010{number}")
        body["meta"]["total_pages"] = 3
        return body

    carrier.on("GET /phone_numbers", page)
    assert [n.number for n in await telnyx.list_numbers()] == ["+14155550101", "+14155550102", "+14155550103"]


async def test_only_the_very_number_is_listed_though_the_filter_finds_more(telnyx, carrier):
    carrier.on("GET /phone_numbers", held("+141555501009", NUMBER))
    assert [n.number for n in await telnyx.list_numbers(NUMBER)] == [NUMBER]
    assert carrier.requests[0].url.params["filter[phone_number]"] == NUMBER


async def test_release_deletes_by_id(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER))
    await telnyx.release_number(NUMBER)
    assert carrier.asked[-1] == "DELETE /phone_numbers/200000000"


async def test_releasing_a_number_of_somebody_else_is_not_found(telnyx, carrier):
    carrier.on("GET /phone_numbers", held())
    with pytest.raises(NotFound):
        await telnyx.release_number(NUMBER)
    assert carrier.asked == ["GET /phone_numbers"]


# --- configure -------------------------------------------------------------------------------------------------------


async def test_configuring_makes_a_version_2_application_and_points_the_number_at_it(open_telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id=""))
    carrier.on("GET /call_control_applications", {"data": []})
    carrier.on("GET /outbound_voice_profiles", {"data": [{"id": "77", "name": "Default", "enabled": True}]})
    carrier.on("POST /call_control_applications", {"data": {"id": "900"}})
    result = await open_telnyx(connection_id=None).configure_number(NUMBER, webhook_url=URL)
    assert carrier.bodies == [
        {
            "application_name": "anycarrier voice.example.com/telnyx/main",
            "webhook_event_url": URL,
            "webhook_api_version": "2",
            "outbound": {"outbound_voice_profile_id": "77"},
        },
        {"connection_id": "900"},
    ]
    assert carrier.asked[-1] == "PATCH /phone_numbers/200000000"
    assert (result.ok, result.changed) == (True, ("call_control_application", "phone_number.connection_id"))
    assert result.webhook_url == URL
    assert result.at is not None


async def test_configuring_again_writes_nothing(open_telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="900"))
    ours = {
        "id": "900", "application_name": "anycarrier voice.example.com/telnyx/main", "webhook_event_url": URL,
        "webhook_api_version": "2", "active": True,
    }
    carrier.on("GET /call_control_applications", {"data": [ours]})
    result = await open_telnyx(connection_id=None).configure_number(NUMBER, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ())
    assert [asked for asked in carrier.asked if not asked.startswith("GET")] == []


async def test_the_credential_s_application_is_mended_and_used(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="5"))
    theirs = {
        "id": APPLICATION, "application_name": "desk", "webhook_event_url": "https://old.example.com",
        "webhook_api_version": "1", "active": True,
    }
    carrier.on(f"GET /call_control_applications/{APPLICATION}", {"data": theirs})
    carrier.on(f"PATCH /call_control_applications/{APPLICATION}", {"data": theirs})
    result = await telnyx.configure_number(NUMBER, webhook_url=URL)
    assert carrier.bodies == [
        {"application_name": "desk", "webhook_event_url": URL, "webhook_api_version": "2"},
        {"connection_id": APPLICATION},
    ]
    assert result.changed == (
        "call_control_application.webhook_event_url",
        "call_control_application.webhook_api_version",
        "phone_number.connection_id",
    )


@pytest.mark.parametrize("connection", [None, APPLICATION])
async def test_a_dry_run_says_the_same_and_writes_nothing(open_telnyx, carrier, connection):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id=""))
    carrier.on("GET /call_control_applications", {"data": []})
    carrier.on("GET /outbound_voice_profiles", {"data": []})
    carrier.on(
        f"GET /call_control_applications/{APPLICATION}", {"data": {"id": APPLICATION, "webhook_api_version": "1"}}
    )
    telnyx = open_telnyx(connection_id=connection)
    result = await telnyx.configure_number(NUMBER, webhook_url=URL, dry_run=True)
    assert result.ok
    assert result.message.startswith("would write")
    assert "phone_number.connection_id" in result.changed
    assert {asked.split()[0] for asked in carrier.asked} == {"GET"}


async def test_an_account_without_an_outbound_profile_is_told_that_it_cannot_dial(open_telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER))
    carrier.on("GET /call_control_applications", {"data": []})
    carrier.refuse("GET /outbound_voice_profiles", 403, "10010")
    carrier.on("POST /call_control_applications", {"data": {"id": "900"}})
    result = await open_telnyx(connection_id=None).configure_number(NUMBER, webhook_url=URL)
    assert result.ok
    assert "cannot dial out" in result.message
    assert "outbound" not in carrier.bodies[0]


async def test_a_number_not_held_and_a_connection_not_there_are_told_and_change_nothing(telnyx, carrier):
    carrier.on("GET /phone_numbers", held())
    missing = await telnyx.configure_number(NUMBER, webhook_url=URL)
    assert not missing.ok
    assert "does not hold" in missing.message
    carrier.on("GET /phone_numbers", held(NUMBER))
    carrier.refuse(f"GET /call_control_applications/{APPLICATION}", 404, "10005")
    wrong = await telnyx.configure_number(NUMBER, webhook_url=URL)
    assert not wrong.ok
    assert "connection_id" in wrong.message
    assert {asked.split()[0] for asked in carrier.asked} == {"GET"}


# --- unconfigure -----------------------------------------------------------------------------------------------------


def application(url: str) -> dict[str, object]:
    return {"data": {"id": "900", "application_name": "desk", "webhook_event_url": url, "webhook_api_version": "2"}}


async def test_unconfiguring_lets_the_number_point_nowhere_and_keeps_the_application(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="900"))
    carrier.on("GET /call_control_applications/900", application(URL))
    carrier.on("PATCH /phone_numbers/200000000", {"data": {"id": "200000000", "connection_id": ""}})
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert carrier.bodies == [{"connection_id": ""}]
    assert [asked for asked in carrier.asked if not asked.startswith("GET")] == ["PATCH /phone_numbers/200000000"]
    assert (result.ok, result.changed, result.webhook_url) == (True, ("phone_number.connection_id",), URL)
    assert result.at is not None


async def test_a_number_on_somebody_elses_application_is_left_alone(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="900"))
    carrier.on("GET /call_control_applications/900", application("https://other.example.com/telnyx/main"))
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert (result.ok, result.changed, carrier.bodies) == (True, (), [])


async def test_a_number_on_a_connection_that_is_no_application_is_left_alone(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="900"))
    carrier.refuse("GET /call_control_applications/900", 404, "10005")
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert (result.ok, result.changed, carrier.bodies) == (True, (), [])


@pytest.mark.parametrize("nowhere", ["", None])
async def test_unconfiguring_a_number_that_points_nowhere_asks_for_nothing_more(telnyx, carrier, nowhere):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id=nowhere))
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert (result.ok, result.changed, carrier.asked) == (True, (), ["GET /phone_numbers"])


async def test_a_connection_the_carrier_keeps_is_not_called_undone(telnyx, carrier):
    carrier.on("GET /phone_numbers", held(NUMBER, connection_id="900"))
    carrier.on("GET /call_control_applications/900", application(URL))
    carrier.on("PATCH /phone_numbers/200000000", {"data": {"id": "200000000", "connection_id": "900"}})
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert not result.ok
    assert "portal" in result.message


async def test_unconfiguring_a_number_not_held_is_told_and_changes_nothing(telnyx, carrier):
    carrier.on("GET /phone_numbers", held())
    result = await telnyx.unconfigure_number(NUMBER, webhook_url=URL)
    assert not result.ok
    assert "does not hold" in result.message
    assert NUMBER not in result.message
    assert carrier.asked == ["GET /phone_numbers"]


# --- credential ------------------------------------------------------------------------------------------------------


async def test_a_credential_is_checked_by_logging_in(telnyx, open_telnyx, carrier):
    carrier.on("GET /balance", {"data": {"balance": "1.00"}})
    assert await open_telnyx(connection_id=None).check_credential() == "Telnyx"
    carrier.on(f"GET /call_control_applications/{APPLICATION}", {"data": {"application_name": "front desk"}})
    assert await telnyx.check_credential() == "front desk"
    carrier.refuse("GET /balance", 401, "10009", "Authentication failed")
    with pytest.raises(AuthenticationFailed):
        await open_telnyx(connection_id=None).check_credential()
