"""Numbers and the application: what is searched, bought, linked and given back, against Vonage's documents."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from anycarrier import errors
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType
from anycarrier_vonage import VonageProvider
from providers.vonage.conftest import APPLICATION, Carrier
from shared_documents import shared_path

APP = f"/v2/applications/{APPLICATION}"
URL = "https://voice.example.com/vonage/main"
OURS = "+14155550100"
DONE = {"error-code": "200", "error-code-label": "success"}


def held(**more: Any) -> dict[str, Any]:
    number = {"country": "US", "msisdn": "14155550100", "type": "mobile-lvn", "features": ["SMS", "VOICE"], **more}
    return {"count": 1, "numbers": [number]}


def application(**voice: Any) -> dict[str, Any]:
    return {
        "id": APPLICATION, "name": "Desk", "keys": {"public_key": "PUBLIC"}, "privacy": {"improve_ai": False},
        "capabilities": {"rtc": {"webhooks": {}}, "voice": voice}, "_links": {"self": {"href": APP}},
    }  # fmt: skip


def pointed(url: str = URL) -> dict[str, Any]:
    hook = {"address": url, "http_method": "POST", "socket_timeout": 5000}
    return {"webhooks": {"answer_url": hook, "event_url": hook}, "signed_callbacks": True}


async def params_of(vonage: VonageProvider, carrier: Carrier, **query: Any) -> dict[str, str]:
    carrier.on("GET /number/search", {})
    assert await vonage.search_numbers(NumberQuery(**query)) == []
    return dict(carrier.requests[-1].url.params)


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ({"area_code": "415", "limit": 2}, {"country": "US", "type": "mobile-lvn", "pattern": "1415",
         "search_pattern": "0", "features": "VOICE", "size": "2", "index": "1"}),
        ({"country": "GB", "contains": "4420", "page": 3}, {"country": "GB", "type": "landline", "pattern": "4420",
         "search_pattern": "1", "features": "VOICE", "size": "20", "index": "3"}),
        ({"country": "GB", "type": NumberType.MOBILE, "features": (NumberFeature.VOICE, NumberFeature.SMS)},
         {"country": "GB", "type": "mobile-lvn", "features": "SMS,VOICE", "size": "20", "index": "1"}),
        ({"type": NumberType.TOLL_FREE, "features": ()},
         {"country": "US", "type": "landline-toll-free", "size": "20", "index": "1"}),
    ],
)  # fmt: skip
async def test_a_search_is_sent_in_vonages_words(
    vonage: VonageProvider, carrier: Carrier, query: dict[str, Any], sent: dict[str, str]
) -> None:
    assert await params_of(vonage, carrier, **query) == sent


@pytest.mark.parametrize(
    "query",
    [
        {"locality": "San Francisco"},
        {"region": "CA"},
        {"area_code": "415", "contains": "55"},
        {"area_code": "20", "country": "GB"},
        {"contains": "TAXI"},
        {"contains": "41*"},
        {"type": NumberType.NATIONAL},
        {"type": NumberType.MOBILE},
        {"features": (NumberFeature.FAX,)},
    ],
    ids=str,
)
async def test_what_vonage_cannot_search_is_refused(
    vonage: VonageProvider, carrier: Carrier, query: dict[str, Any]
) -> None:
    with pytest.raises(errors.UnsupportedOperation):
        await vonage.search_numbers(NumberQuery(**query))
    assert carrier.asked == []


async def test_a_page_of_ours_is_cut_from_pages_of_a_hundred(vonage: VonageProvider, carrier: Carrier) -> None:
    def page(request: Any) -> dict[str, Any]:
        size, index = int(request.url.params["size"]), int(request.url.params["index"])
        rows = range((index - 1) * size, min(index * size, 730))
        return {"count": 730, "numbers": [{"country": "US", "msisdn": str(14155550000 + row)} for row in rows]}

    carrier.on("GET /number/search", page)
    found = [(await vonage.search_numbers(NumberQuery(limit=250, page=number))) for number in (1, 2, 3)]
    assert [len(offers) for offers in found] == [250, 250, 230]
    assert [offer.number for offers in found for offer in offers] == [f"+{14155550000 + row}" for row in range(730)]
    assert [dict(request.url.params)["index"] for request in carrier.requests] == [*"123", *"345", *"678"]


async def test_the_documented_offers(vonage: VonageProvider, carrier: Carrier) -> None:
    kept = shared_path("recordings", "vonage", "api", "doc_search_numbers.json")
    carrier.on("GET /number/search", json.loads(kept.read_text()))
    found = await vonage.search_numbers(NumberQuery(country="GB", limit=3))
    first = found[0]
    assert (first.number, first.type) == ("+442039050000", NumberType.LOCAL)
    assert (first.monthly_cost, first.currency) == (Decimal("1.00"), "EUR")
    assert first.features == {NumberFeature.VOICE} and len(found) == 3


async def test_the_documented_lists(vonage: VonageProvider, carrier: Carrier) -> None:
    for name in ("doc_list_owned_numbers", "doc_number_search_empty"):
        kept = json.loads(shared_path("recordings", "vonage", "api", f"{name}.json").read_text())
        carrier.on("GET /account/numbers", kept)
        numbers = await vonage.list_numbers()
        assert [number.number for number in numbers] == [f"+{one['msisdn']}" for one in kept.get("numbers", ())]


async def test_a_number_is_bought_with_its_country(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("POST /number/buy", DONE)
    bought = await vonage.buy_number("+442039050000", extra={"target_api_key": "1a2345b7"})
    assert carrier.forms == [{"country": "GB", "msisdn": "442039050000", "target_api_key": "1a2345b7"}]
    assert (bought.number, bought.id) == ("+442039050000", "442039050000")


@pytest.mark.parametrize("number", ["14155550100", "", "+1415"])
async def test_what_is_no_number_is_not_bought(vonage: VonageProvider, carrier: Carrier, number: str) -> None:
    with pytest.raises(errors.InvalidNumber):
        await vonage.buy_number(number)
    assert carrier.asked == []


@pytest.mark.parametrize("status", [200, 420])
@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("method failed", errors.NumberUnavailable),
        ("Numbers from this country can be requested from the Dashboard as they require a valid local address",
         errors.RequirementsMissing),
    ],
)  # fmt: skip
async def test_a_number_that_is_not_sold(
    vonage: VonageProvider, carrier: Carrier, status: int, label: str, kind: type[errors.ProviderError]
) -> None:
    carrier.on("POST /number/buy", {"error-code": "420", "error-code-label": label}, status=status)
    with pytest.raises(kind) as refused:
        await vonage.buy_number(OURS)
    assert type(refused.value) is kind and refused.value.code == "420"


async def test_a_login_that_failed_may_be_told_in_a_200(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("POST /number/buy", {"error-code": "401", "error-code-label": "authentication failed"})
    with pytest.raises(errors.AuthenticationFailed):
        await vonage.buy_number(OURS)


@pytest.mark.parametrize("answer", [None, {}, {"error-code-label": "success"}])
async def test_an_answer_that_says_nothing_is_no_success(vonage: VonageProvider, carrier: Carrier, answer: Any) -> None:
    carrier.on("POST /number/buy", answer)
    with pytest.raises(errors.ProviderError):
        await vonage.buy_number(OURS)


async def test_a_number_is_released_with_the_country_it_was_bought_in(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held(country="CA"))
    carrier.on("POST /number/cancel", DONE)
    await vonage.release_number(OURS)
    assert carrier.forms == [{"country": "CA", "msisdn": "14155550100"}]
    carrier.on("GET /account/numbers", {})
    with pytest.raises(errors.NotFound):
        await vonage.release_number(OURS)


async def test_a_number_that_only_begins_alike_is_another(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held(msisdn="141555501001"))
    assert await vonage.list_numbers(OURS) == []


async def test_a_linked_number_has_the_applications_address(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held(app_id=APPLICATION))
    carrier.on(f"GET {APP}", application(**pointed()))
    (number,) = await vonage.list_numbers()
    assert (number.webhook_url, number.type) == (URL, NumberType.LOCAL)
    carrier.on("GET /account/numbers", held(app_id=APPLICATION, voiceCallbackType="tel"))
    (number,) = await vonage.list_numbers()
    assert number.webhook_url is None


async def test_configuring_writes_the_whole_application_back(vonage: VonageProvider, carrier: Carrier) -> None:
    theirs = {"address": "https://old.example.com", "http_method": "GET", "socket_timeout": 5000}
    carrier.on("GET /account/numbers", held(moHttpUrl="https://sms.example.com"))
    hooks = {"answer_url": theirs, "fallback_answer_url": theirs}
    carrier.on(f"GET {APP}", application(webhooks=hooks, conversations_ttl=48))
    carrier.on(f"PUT {APP}", application())
    carrier.on("POST /number/update", DONE)
    result = await vonage.configure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ("answer_url", "event_url", "signed_callbacks", "app_id"))
    (put,) = [json.loads(r.content) for r in carrier.requests if r.method == "PUT"]
    assert put == {
        "name": "Desk", "keys": {"public_key": "PUBLIC"}, "privacy": {"improve_ai": False},
        "capabilities": {"rtc": {"webhooks": {}}, "voice": {
            "webhooks": {"answer_url": {"address": URL, "http_method": "POST", "socket_timeout": 5000},
                         "event_url": {"address": URL, "http_method": "POST"}, "fallback_answer_url": theirs},
            "conversations_ttl": 48, "signed_callbacks": True}},
    }  # fmt: skip
    assert carrier.forms == [{"country": "US", "msisdn": "14155550100", "moHttpUrl": "https://sms.example.com",
                              "app_id": APPLICATION}]  # fmt: skip


async def test_configuring_twice_writes_nothing(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held(app_id=APPLICATION))
    carrier.on(f"GET {APP}", application(**pointed()))
    result = await vonage.configure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ()) and {r.method for r in carrier.requests} == {"GET"}


async def test_a_dry_run_only_says_what_it_would_write(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held())
    carrier.on(f"GET {APP}", application())
    result = await vonage.configure_number(OURS, webhook_url=URL, dry_run=True)
    assert result.changed == ("answer_url", "event_url", "signed_callbacks", "app_id")
    assert {r.method for r in carrier.requests} == {"GET"}


async def test_a_forwarding_of_the_numbers_own_is_cleared(vonage: VonageProvider, carrier: Carrier) -> None:
    forwarded = {"voiceCallbackType": "sip", "voiceCallbackValue": "sip:x@y.z"}
    carrier.on("GET /account/numbers", held(app_id=APPLICATION, **forwarded))
    carrier.on(f"GET {APP}", application(**pointed()))
    carrier.on("POST /number/update", DONE)
    result = await vonage.configure_number(OURS, webhook_url=URL)
    assert result.changed == ("app_id",)
    (form,) = carrier.forms
    assert (form["voiceCallbackType"], form["voiceCallbackValue"], form["app_id"]) == ("app", APPLICATION, APPLICATION)


@pytest.mark.parametrize("act", ["configure_number", "unconfigure_number"])
async def test_a_number_that_is_not_held_is_no_error(vonage: VonageProvider, carrier: Carrier, act: str) -> None:
    carrier.on("GET /account/numbers", {})
    result = await getattr(vonage, act)(OURS, webhook_url=URL)
    assert not result.ok and "hold" in result.message


async def test_unconfiguring_takes_the_link_away_and_looks(vonage: VonageProvider, carrier: Carrier) -> None:
    answers = [held(app_id=APPLICATION, moHttpUrl="https://sms.example.com"), held()]
    carrier.on("GET /account/numbers", lambda request: answers.pop(0))
    carrier.on(f"GET {APP}", application(**pointed()))
    carrier.on("POST /number/update", DONE)
    result = await vonage.unconfigure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ("app_id",))
    assert carrier.forms == [{"country": "US", "msisdn": "14155550100", "moHttpUrl": "https://sms.example.com"}]


async def test_a_link_that_vonage_keeps_is_said(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /account/numbers", held(app_id=APPLICATION))
    carrier.on(f"GET {APP}", application(**pointed()))
    carrier.on("POST /number/update", DONE)
    result = await vonage.unconfigure_number(OURS, webhook_url=URL)
    assert not result.ok and "dashboard" in result.message


@pytest.mark.parametrize(("app_id", "url"), [("another", URL), (APPLICATION, "https://other.example.com/vonage/main")])
async def test_what_leads_elsewhere_stays(vonage: VonageProvider, carrier: Carrier, app_id: str, url: str) -> None:
    carrier.on("GET /account/numbers", held(app_id=app_id))
    carrier.on(f"GET {APP}", application(**pointed(url)))
    result = await vonage.unconfigure_number(OURS, webhook_url=URL)
    assert (result.ok, result.changed) == (True, ()) and {r.method for r in carrier.requests} == {"GET"}


async def test_both_logins_are_checked(vonage: VonageProvider, carrier: Carrier) -> None:
    kept = json.loads(shared_path("recordings", "vonage", "api", "doc_get_application.json").read_text())
    carrier.on(f"GET {APP}", kept)
    carrier.on("GET /v1/calls", {"count": 0})
    assert await vonage.check_credential() == "My Server Demo"
    for request in (f"GET {APP}", "GET /v1/calls"):
        good = carrier.answers[request]
        carrier.on(request, {"title": "Unauthorized"}, status=401)
        with pytest.raises(errors.AuthenticationFailed):
            await vonage.check_credential()
        carrier.answers[request] = good
