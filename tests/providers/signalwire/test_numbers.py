"""Numbers: what a search is asked and refused, pages, and the settings that are written."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberUnavailable,
    ProviderError,
    RequestRejected,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType
from anycarrier_signalwire import SignalWireProvider


def offers(*numbers: str) -> dict[str, Any]:
    told = {"iso_country": "US", "region": "CA", "locality": None, "capabilities": {"voice": True, "SMS": True}}
    return {"uri": "/", "available_phone_numbers": [{"phone_number": number, **told} for number in numbers]}


async def test_a_search_sends_each_field_and_takes_its_page_from_the_answer(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, offers(*(f"+1415555010{n}" for n in range(5))))
    query = NumberQuery(area_code="415", contains="555", region="CA", locality="San Francisco", limit=2, page=2)
    found = await provider.search_numbers(query)
    assert [offer.number for offer in found] == ["+14155550102", "+14155550103"]
    assert found[0].features == {NumberFeature.VOICE, NumberFeature.SMS} and found[0].provider == "signalwire"
    (sent,) = carrier.requests
    assert sent.url.path == f"{kit.PATH}/AvailablePhoneNumbers/US/Local"
    assert dict(sent.url.params) == {
        "AreaCode": "415", "Contains": "555", "InRegion": "CA", "InLocality": "San Francisco", "PageSize": "4",
    }  # fmt: skip
    carrier.answers(200, offers())
    assert await provider.search_numbers(NumberQuery(country="CA", type=NumberType.TOLL_FREE)) == []
    assert carrier.requests[-1].url.path == f"{kit.PATH}/AvailablePhoneNumbers/CA/TollFree"


@pytest.mark.parametrize(
    "query",
    [
        {"type": NumberType.MOBILE},
        {"type": NumberType.NATIONAL},
        {"features": (NumberFeature.VOICE, NumberFeature.SMS)},
        {"country": "GB", "area_code": "20"},
        {"locality": "Chicago"},
        {"limit": 250, "page": 5},
    ],
)
async def test_what_signalwire_would_ignore_is_refused(
    carrier: Any, provider: SignalWireProvider, query: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedOperation):
        await provider.search_numbers(NumberQuery(**query))
    assert not carrier.requests


async def test_the_list_follows_its_pages_on_the_same_host_only(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    following = f"{kit.PATH}/IncomingPhoneNumbers?Page=1&PageSize=1000&PageToken=PA1"
    carrier.answers(200, kit.numbers_page(kit.number_body(), following=following))
    carrier.answers(200, kit.numbers_page(kit.number_body("+14155550101")))
    assert [held.number for held in await provider.list_numbers()] == [kit.OURS, "+14155550101"]
    first, second = carrier.requests
    assert first.url.params["PageSize"] == "1000" and second.url.params["PageToken"] == "PA1"
    assert second.url.host == "example.signalwire.com" and "authorization" in second.headers
    for elsewhere in ("https://evil.example/x", "@evil.example/x", ".evil.example/x"):
        carrier.requests.clear()
        carrier.script.clear()
        carrier.answers(200, kit.numbers_page(following=elsewhere)).answers(200, kit.numbers_page())
        with pytest.raises(ProviderError):
            await provider.list_numbers()
        assert len(carrier.requests) == 1, f"{carrier.requests[-1].url} was given our login"


async def test_the_filter_is_a_pattern_so_the_number_is_compared(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, kit.numbers_page(kit.number_body("+141555501001"), kit.number_body()))
    (held,) = await provider.list_numbers(kit.OURS)
    assert (held.number, held.id, held.provider) == (kit.OURS, kit.NUMBER_SID, "signalwire")
    assert dict(carrier.requests[0].url.params) == {"PhoneNumber": kit.OURS}
    carrier.answers(200, kit.numbers_page({"sid": "x"}))
    with pytest.raises(UnreadableResponse):
        await provider.list_numbers()


async def test_a_number_is_configured_by_what_differs_and_only_then(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    held = kit.number_body(voice_application_sid="app", status_callback=kit.HOOK)
    carrier.answers(200, kit.numbers_page(held)).answers(200, held)
    done = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.sent == {"VoiceUrl": kit.HOOK, "VoiceApplicationSid": "", "VoiceReceiveMode": "voice"}
    assert done.ok and set(done.changed) == set(carrier.sent)
    assert carrier.requests[-1].url.path == f"{kit.PATH}/IncomingPhoneNumbers/{kit.NUMBER_SID}"
    carrier.answers(200, kit.numbers_page(kit.number_body(voice_url=kit.HOOK, status_callback=kit.HOOK)))
    done = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert done.ok and done.changed == () and not carrier.script
    carrier.answers(200, kit.numbers_page(held))
    done = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK, dry_run=True)
    assert done.ok and done.changed and carrier.requests[-1].method == "GET"


async def test_a_number_is_let_go_of_where_it_points_to_us(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    held = kit.number_body(voice_url=kit.HOOK, voice_fallback_url="https://other.example/x", status_callback=kit.HOOK)
    carrier.answers(200, kit.numbers_page(held)).answers(200, held)
    done = await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.sent == {"VoiceUrl": "", "StatusCallback": ""} and done.ok


async def test_a_number_that_is_not_held_is_no_failure_of_ours(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    for act in (provider.configure_number, provider.unconfigure_number):
        carrier.answers(200, kit.numbers_page())
        done = await act(kit.OURS, webhook_url=kit.HOOK)
        assert not done.ok and kit.OURS not in done.message
    carrier.answers(200, kit.numbers_page())
    with pytest.raises(NotFound):
        await provider.release_number(kit.OURS)


async def test_a_number_is_bought_at_once_and_released(kit: Any, carrier: Any, provider: SignalWireProvider) -> None:
    carrier.answers(201, kit.number_body())
    bought = await provider.buy_number(kit.OURS, extra={"FriendlyName": "Desk"})
    assert bought.id == kit.NUMBER_SID and carrier.sent == {"PhoneNumber": kit.OURS, "FriendlyName": "Desk"}
    carrier.answers(200, kit.numbers_page(kit.number_body())).answers(204)
    await provider.release_number(kit.OURS)
    assert carrier.requests[-1].method == "DELETE"
    carrier.answers(200, kit.numbers_page(kit.number_body())).answers(409, kit.flat(409, 22121))
    with pytest.raises(RequestRejected, match="too recently"):
        await provider.release_number(kit.OURS)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (422, {"code": 4001, "message": "no money", "status": 422}, InsufficientFunds),
        (422, {"code": 21422, "message": "gone", "status": 422}, NumberUnavailable),
        (422, {"errors": ["Number is not available"]}, NumberUnavailable),
    ],
)
async def test_a_purchase_that_is_refused_says_why(
    kit: Any, carrier: Any, provider: SignalWireProvider, status: int, body: Any, error: type[ProviderError]
) -> None:
    carrier.answers(status, body)
    with pytest.raises(error):
        await provider.buy_number(kit.OURS)


async def test_a_login_is_checked_and_another_project_is_a_wrong_login(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, {"sid": kit.PROJECT, "status": "active"})
    assert await provider.check_credential() == kit.PROJECT
    assert carrier.requests[0].url.path == kit.PATH
    carrier.answers(404)
    with pytest.raises(AuthenticationFailed, match="project_id"):
        await provider.check_credential()
    carrier.answers(401, kit.flat(401, 20003))
    with pytest.raises(AuthenticationFailed, match="scopes"):
        await provider.check_credential()
