"""Phone numbers: search, buy, list, configure, release, over REST."""

from __future__ import annotations

import pytest

from anycarrier.errors import (
    AuthenticationFailed,
    InvalidNumber,
    NotFound,
    NumberUnavailable,
    PermissionDenied,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType


def offers(kit, count, **changes):
    return {
        "available_phone_numbers": [kit.offer_body(f"+141555501{i:02}", **changes) for i in range(count)],
        "uri": "/2010-04-01/Accounts/AC/AvailablePhoneNumbers/US/Local.json",
    }


async def test_search_asks_for_what_the_query_says(provider, carrier, kit):
    carrier.answers(200, offers(kit, 2))
    found = await provider.search_numbers(
        NumberQuery(
            area_code="415",
            contains="555*",
            locality="San Francisco",
            region="CA",
            features=(NumberFeature.VOICE, NumberFeature.SMS),
            limit=2,
            extra={"ExcludeAllAddressRequired": "true"},
        )
    )
    request = carrier.requests[-1]
    assert request.url.path.endswith("/AvailablePhoneNumbers/US/Local.json")
    assert dict(request.url.params) == {
        "AreaCode": "415",
        "Contains": "555*",
        "InLocality": "San Francisco",
        "InRegion": "CA",
        "VoiceEnabled": "true",
        "SmsEnabled": "true",
        "ExcludeAllAddressRequired": "true",
        "PageSize": "2",
    }
    assert [n.number for n in found] == ["+14155550100", "+14155550101"]
    assert (found[0].country, found[0].region, found[0].locality) == ("US", "CA", "San Francisco")
    assert found[0].features == {NumberFeature.VOICE, NumberFeature.SMS}, "SMS in capitals is sms"
    assert found[0].monthly_cost is None and found[0].raw["iso_country"] == "US"


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (NumberType.LOCAL, "Local"),
        (NumberType.TOLL_FREE, "TollFree"),
        (NumberType.MOBILE, "Mobile"),
        (NumberType.NATIONAL, "National"),
    ],
)
async def test_each_kind_of_number_has_its_list(provider, carrier, kit, kind, part):
    carrier.answers(200, offers(kit, 1, iso_country="GB"))
    found = await provider.search_numbers(NumberQuery(country="GB", type=kind))
    assert carrier.requests[-1].url.path.endswith(f"/GB/{part}.json") and found[0].type is kind


async def test_the_second_page_is_what_follows_the_first(provider, carrier, kit):
    carrier.answers(200, offers(kit, 5))
    found = await provider.search_numbers(NumberQuery(limit=3, page=2))
    assert carrier.requests[-1].url.params["PageSize"] == "6"
    assert [n.number for n in found] == ["+14155550103", "+14155550104"]


async def test_pages_the_carrier_makes_are_followed_up_to_the_limit(provider, carrier, kit):
    first, second = offers(kit, 2), offers(kit, 2)
    first["next_page_uri"] = f"/2010-04-01/Accounts/{kit.ACCOUNT}/AvailablePhoneNumbers/US/Local.json?Page=1&PageSize=3"
    carrier.answers(200, first).answers(200, second)
    found = await provider.search_numbers(NumberQuery(limit=3))
    assert len(found) == 3 and carrier.requests[-1].url.params["Page"] == "1"


@pytest.mark.parametrize(
    "query",
    [
        NumberQuery(country="GB", area_code="20"),
        NumberQuery(country="DE", region="BE"),
        NumberQuery(limit=250, page=5),
    ],
)
async def test_what_twilio_would_ignore_is_refused(provider, carrier, query):
    with pytest.raises(UnsupportedOperation):
        await provider.search_numbers(query)
    assert carrier.requests == []


async def test_a_kind_of_number_that_the_country_has_not_is_no_missing_id(provider, carrier, kit):
    carrier.answers(404, kit.error_body(404, 20404, "The requested resource was not found"))
    with pytest.raises(UnsupportedOperation, match="there are no mobile numbers in US"):
        await provider.search_numbers(NumberQuery(country="US", type=NumberType.MOBILE))


async def test_no_offers_is_an_empty_list(provider, carrier, kit):
    carrier.answers(200, offers(kit, 0))
    assert await provider.search_numbers(NumberQuery(contains="99999")) == []


async def test_buying_is_immediate(provider, carrier, kit):
    carrier.answers(201, kit.number_body())
    bought = await provider.buy_number(kit.OURS, extra={"AddressSid": "AD" + "6" * 32})
    assert carrier.sent == {"PhoneNumber": kit.OURS, "AddressSid": "AD" + "6" * 32}
    assert (bought.number, bought.id, bought.friendly_name) == (kit.OURS, kit.NUMBER_SID, "Front desk")
    assert bought.features == {NumberFeature.VOICE, NumberFeature.SMS}


async def test_a_number_somebody_else_bought_is_unavailable(provider, carrier, kit):
    carrier.answers(400, kit.error_body(400, 21422, f"{kit.OURS} is not available"))
    with pytest.raises(NumberUnavailable, match="Search again") as caught:
        await provider.buy_number(kit.OURS)
    assert kit.OURS not in str(caught.value)


async def test_buying_nonsense_asks_nobody(provider, carrier):
    with pytest.raises(InvalidNumber):
        await provider.buy_number("555 0100")
    assert carrier.requests == []


async def test_all_pages_of_the_accounts_numbers_are_listed(provider, carrier, kit):
    more = f"/2010-04-01/Accounts/{kit.ACCOUNT}/IncomingPhoneNumbers.json?Page=1&PageSize=1000"
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body()], "next_page_uri": more})
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(phone_number="+14155550101")]})
    assert [n.number for n in await provider.list_numbers()] == [kit.OURS, "+14155550101"]


async def test_asking_for_one_number_ignores_those_that_only_resemble_it(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(phone_number="+141555501001")]})
    assert await provider.list_numbers(kit.OURS) == []
    assert carrier.requests[-1].url.params["PhoneNumber"] == kit.OURS


async def test_configure_writes_only_what_differs_and_clears_what_shadows_us(provider, carrier, kit):
    shadowed = kit.number_body(trunk_sid="TK" + "5" * 32, voice_application_sid="AP" + "6" * 32)
    carrier.answers(200, {"incoming_phone_numbers": [shadowed]}).answers(200, kit.number_body(voice_url=kit.HOOK))
    result = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.requests[-1].url.path.endswith(f"/IncomingPhoneNumbers/{kit.NUMBER_SID}.json")
    assert carrier.sent == {
        "VoiceUrl": kit.HOOK,
        "StatusCallback": kit.HOOK,
        "VoiceApplicationSid": "",
        "TrunkSid": "",
    }
    assert result.ok and set(result.changed) == set(carrier.sent) and result.webhook_url == kit.HOOK


async def test_configure_turns_a_fax_line_into_a_voice_line(provider, carrier, kit):
    right = {"voice_url": kit.HOOK, "status_callback": kit.HOOK, "voice_receive_mode": "fax"}
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(**right)]}).answers(200, kit.number_body())
    result = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.sent == {"VoiceReceiveMode": "voice"} and result.changed == ("VoiceReceiveMode",)


async def test_configure_a_right_number_writes_nothing(provider, carrier, kit):
    right = kit.number_body(voice_url=kit.HOOK, status_callback=kit.HOOK)
    carrier.answers(200, {"incoming_phone_numbers": [right]})
    result = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert result.ok and result.changed == () and [r.method for r in carrier.requests] == ["GET"]


async def test_a_dry_run_only_tells(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(voice_method="GET")]})
    result = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK, dry_run=True)
    assert result.changed == ("VoiceUrl", "VoiceMethod", "StatusCallback") and "would" in result.message
    assert [r.method for r in carrier.requests] == ["GET"]


async def test_configure_a_number_of_another_account_is_not_ok(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": []})
    result = await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    assert not result.ok and "does not hold" in result.message and kit.OURS not in result.message


async def test_unconfigure_clears_what_points_here_and_nothing_else(provider, carrier, kit):
    ours = kit.number_body(voice_url=kit.HOOK, status_callback=kit.HOOK, trunk_sid="TK" + "5" * 32)
    carrier.answers(200, {"incoming_phone_numbers": [ours]}).answers(200, kit.number_body(voice_url=""))
    result = await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.requests[-1].url.path.endswith(f"/IncomingPhoneNumbers/{kit.NUMBER_SID}.json")
    assert carrier.sent == {"VoiceUrl": "", "StatusCallback": ""}
    assert result.ok and set(result.changed) == set(carrier.sent) and result.webhook_url == kit.HOOK


async def test_unconfigure_takes_back_the_fallback_somebody_set_to_us(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(voice_fallback_url=kit.HOOK)]})
    carrier.answers(200, kit.number_body())
    await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert carrier.sent == {"VoiceFallbackUrl": ""}


@pytest.mark.parametrize("voice_url", ["https://old.example.com/voice", "https://voice.example.com/twilio/2", "", None])
async def test_unconfigure_leaves_a_number_that_points_elsewhere_alone(provider, carrier, kit, voice_url):
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(voice_url=voice_url)]})
    result = await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert result.ok and result.changed == () and [r.method for r in carrier.requests] == ["GET"]


async def test_unconfigure_a_number_of_another_account_is_not_ok(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": []})
    result = await provider.unconfigure_number(kit.OURS, webhook_url=kit.HOOK)
    assert not result.ok and "does not hold" in result.message and kit.OURS not in result.message


async def test_release_deletes_the_number(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body()]}).answers(204)
    await provider.release_number(kit.OURS)
    assert carrier.requests[-1].method == "DELETE" and kit.NUMBER_SID in carrier.requests[-1].url.path


async def test_release_of_a_number_not_held_is_not_found(provider, carrier, kit):
    carrier.answers(200, {"incoming_phone_numbers": []})
    with pytest.raises(NotFound, match="does not hold") as caught:
        await provider.release_number(kit.OURS)
    assert kit.OURS not in str(caught.value) and len(carrier.requests) == 1


async def test_check_credential_names_the_account(provider, carrier, kit):
    carrier.answers(200, {"sid": kit.ACCOUNT, "friendly_name": "Acme", "status": "active"})
    assert await provider.check_credential() == kit.ACCOUNT
    assert carrier.requests[-1].url.path == f"/2010-04-01/Accounts/{kit.ACCOUNT}.json"


async def test_check_credential_tells_wrong_secrets_from_a_suspended_account(provider, carrier, kit):
    carrier.answers(401, kit.error_body(401, 20003, "Authenticate"))
    with pytest.raises(AuthenticationFailed):
        await provider.check_credential()
    carrier.answers(200, {"sid": kit.ACCOUNT, "status": "suspended"})
    with pytest.raises(PermissionDenied, match="suspended"):
        await provider.check_credential()


@pytest.mark.parametrize("item", [{}, {"phone_number": "nobody"}, {"phone_number": None}])
async def test_a_number_that_is_none_is_an_unreadable_answer(provider, carrier, item):
    carrier.spec = None
    carrier.answers(200, {"incoming_phone_numbers": [item]})
    with pytest.raises(UnreadableResponse):
        await provider.list_numbers()


@pytest.mark.parametrize(
    ("said", "requirements"),
    [("none", set()), ("any", {"address"}), ("local", {"local_address"}), ("foreign", {"foreign_address"}),
     ("new word", None), (None, None)],
)
async def test_an_offered_number_says_which_address_it_requires(provider, carrier, kit, said, requirements):
    offers = [kit.offer_body("+14155550100", address_requirements=said)]
    carrier.answers(200, {"available_phone_numbers": offers})
    [offer] = await provider.search_numbers(NumberQuery())
    assert offer.requirements == requirements
