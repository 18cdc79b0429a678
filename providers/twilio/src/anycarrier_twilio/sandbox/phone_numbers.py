"""The REST resources of phone numbers: those on offer, and those the account owns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from anycarrier.testing.sandbox_numbers import LOCAL, TOLL_FREE, Login, NumberForSale
from anycarrier_twilio.carrier_side.calls_api import RestError
from anycarrier_twilio.carrier_side.messages import API_VERSION, rfc2822
from anycarrier_twilio.sandbox.models import Account, new_sid
from anycarrier_twilio.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, not_found, page

_KINDS = {"Local": LOCAL, "TollFree": TOLL_FREE, "Mobile": "mobile"}
# A kind of number that a country does not have is a resource it does not have: 404.
_COUNTRIES = {"US": ("Local", "TollFree"), "CA": ("Local", "TollFree")}

_SETTINGS = {
    "ApiVersion": "text",
    "FriendlyName": "text",
    "SmsApplicationSid": "text",
    "SmsFallbackMethod": "method",
    "SmsFallbackUrl": "url",
    "SmsMethod": "method",
    "SmsUrl": "url",
    "StatusCallback": "url",
    "StatusCallbackMethod": "method",
    "VoiceApplicationSid": "text",
    "VoiceCallerIdLookup": "bool",
    "VoiceFallbackMethod": "method",
    "VoiceFallbackUrl": "url",
    "VoiceMethod": "method",
    "VoiceUrl": "url",
    "EmergencyStatus": "text",
    "EmergencyAddressSid": "text",
    "TrunkSid": "text",
    "IdentitySid": "text",
    "AddressSid": "text",
    "VoiceReceiveMode": "text",
    "BundleSid": "text",
}
_KEYS = {name: "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_") for name in _SETTINGS}
_SEARCH = {
    **PAGING,
    "AreaCode": "int",
    "Contains": "text",
    "SmsEnabled": "bool",
    "MmsEnabled": "bool",
    "VoiceEnabled": "bool",
    "FaxEnabled": "bool",
    "InRegion": "text",
    "InLocality": "text",
    "Beta": "bool",
    "ExcludeAllAddressRequired": "bool",
    "ExcludeLocalAddressRequired": "bool",
    "ExcludeForeignAddressRequired": "bool",
}
_UNSUPPORTED = ("InPostalCode", "NearNumber", "NearLatLong", "Distance", "InRateCenter", "InLata")


def friendly(number: str) -> str:
    """``(415) 555-0100`` for a North American number, the number itself for others."""
    return f"({number[2:5]}) {number[5:8]}-{number[8:]}" if number.startswith("+1") and len(number) == 12 else number


async def search(rest: Rest) -> Reply:
    country, kind = rest.path["CountryCode"], rest.path["Kind"]
    if kind not in _COUNTRIES.get(country, ()):
        not_found(rest)
    wanted = {"VoiceEnabled": "voice", "SmsEnabled": "sms", "MmsEnabled": "mms", "FaxEnabled": "fax"}
    found = rest.sandbox.inventory.search(
        # Toll-free numbers of the North American plan ring in both countries.
        country="US" if kind == "TollFree" else country,
        type=_KINDS[kind],
        area_code=rest.get("AreaCode") or None,
        contains=rest.get("Contains") or None,
        region=rest.get("InRegion") or None,
        locality=rest.get("InLocality") or None,
        features={feature for name, feature in wanted.items() if rest.flag(name)},
    )
    unwanted = {feature for name, feature in wanted.items() if rest.flag(name) is False}
    return page(
        rest, "available_phone_numbers", [_offer(offer, country) for offer in found if not offer.features & unwanted]
    )


def _offer(offer: NumberForSale, country: str) -> dict[str, Any]:
    return {
        "friendly_name": friendly(offer.number),
        "phone_number": offer.number,
        "lata": None,
        "rate_center": None,
        "latitude": None,
        "longitude": None,
        "locality": offer.locality,
        "region": offer.region,
        "postal_code": None,
        "iso_country": country,
        "address_requirements": "none",
        "beta": False,
        # Upper case here and lower case on owned numbers: the carrier's own inconsistency.
        "capabilities": {
            "voice": "voice" in offer.features,
            "SMS": "sms" in offer.features,
            "MMS": "mms" in offer.features,
            "fax": "fax" in offer.features,
        },
    }


def own(account: Account, number: str, features: frozenset[str], kind: str = LOCAL) -> dict[str, Any]:
    """Enter ``number`` into the account with the settings of a number just bought."""
    sid, now = new_sid("PN"), rfc2822(datetime.now(UTC))
    resource: dict[str, Any] = dict.fromkeys(_KEYS.values())
    resource |= {
        "sid": sid,
        "account_sid": account.sid,
        "friendly_name": friendly(number),
        "phone_number": number,
        "address_requirements": "none",
        "api_version": API_VERSION,
        "beta": False,
        "capabilities": {name: name in features for name in ("voice", "sms", "mms", "fax")},
        "date_created": now,
        "date_updated": now,
        "origin": "twilio",
        "emergency_status": "Active",
        "emergency_address_status": "unregistered",
        "voice_receive_mode": "voice",
        "voice_caller_id_lookup": False,
        "status": "in-use",
        "type": kind,
        "uri": f"/{API_VERSION}/Accounts/{account.sid}/IncomingPhoneNumbers/{sid}.json",
    }
    for name in ("voice_url", "voice_fallback_url", "sms_url", "sms_fallback_url", "status_callback"):
        resource[name] = ""
    for name in ("voice", "voice_fallback", "sms", "sms_fallback", "status_callback"):
        resource[f"{name}_method"] = "POST"
    account.numbers[sid] = resource
    return resource


def _apply(rest: Rest, resource: dict[str, Any]) -> None:
    for name, key in _KEYS.items():
        if name in rest.params:
            value: Any = rest.get(name)
            if name == "VoiceCallerIdLookup":
                value = rest.flag(name)
            elif name.endswith("Sid"):
                value = value or None
            resource[key] = value
    resource["date_updated"] = rfc2822(datetime.now(UTC))


async def buy(rest: Rest) -> Reply:
    inventory = rest.sandbox.inventory
    kind = _kind(rest)
    number, area_code = rest.get("PhoneNumber"), rest.get("AreaCode")
    if not number and area_code:
        offers = inventory.search(area_code=area_code)
        if not offers:
            raise RestError(400, 21452, f"No phone numbers found in area code {area_code}")
        number = offers[0].number
    if not number.startswith("+") or not number[1:].isdigit():
        raise RestError(400, 21421, f"{number} is not a valid number")
    if rest.login is Login.BROKE:
        raise no_funds()
    offer = inventory.find(number)
    if offer is None or kind not in (None, offer.type) or not inventory.sell(number):
        raise RestError(400, 21422, f"{number} is not available")
    resource = own(rest.account, number, offer.features, offer.type)
    _apply(rest, resource)
    return Reply(201, _shown(resource, kind))


def no_funds() -> RestError:
    """The carrier has no code of its own for an empty account: it makes the account inactive."""
    return RestError(403, 20005, "Account is not active")


def _owned(rest: Rest) -> dict[str, Any]:
    return rest.account.numbers.get(rest.path["NumberSid"]) or not_found(rest)


async def list_owned(rest: Rest) -> Reply:
    number, name = rest.get("PhoneNumber"), rest.get("FriendlyName")
    kind = _kind(rest)
    found = [
        owned
        for owned in rest.account.numbers.values()
        # The filter matches any part of the number, and sorts nothing.
        if number.strip("*") in owned["phone_number"] and (not name or owned["friendly_name"] == name)
        and kind in (None, owned["type"])
        and not rest.flag("Beta")
        and rest.get("Origin", "twilio") == "twilio"
    ]
    return page(rest, "incoming_phone_numbers", [_shown(owned, kind) for owned in found])


def _shown(owned: dict[str, Any], kind: str | None) -> dict[str, Any]:
    """The resource; where it is asked for by its kind, its type is left out."""
    return owned if kind is None else {name: value for name, value in owned.items() if name != "type"}


def _kind(rest: Rest) -> str | None:
    """The kind of number that the URL ends with (``/IncomingPhoneNumbers/Local.json``), None for the list of all."""
    return _KINDS.get(rest.url.rpartition("/")[2].partition(".")[0])


async def fetch_owned(rest: Rest) -> Reply:
    return Reply(200, _owned(rest))


async def update_owned(rest: Rest) -> Reply:
    resource = _owned(rest)
    _apply(rest, resource)
    return Reply(200, resource)


async def release(rest: Rest) -> Reply:
    resource = _owned(rest)
    del rest.account.numbers[resource["sid"]]
    rest.sandbox.inventory.take_back(resource["phone_number"])
    return Reply(204)


_FILTERS = {"Beta": "bool", "FriendlyName": "text", "PhoneNumber": "text", "Origin": "text"}
_NUMBERS = BASE + "/IncomingPhoneNumbers"
OPERATIONS = [
    Operation(
        "GET",
        BASE + "/AvailablePhoneNumbers/{CountryCode}/{Kind}",
        search,
        {**_SEARCH, **dict.fromkeys(_UNSUPPORTED, "unsupported")},
    ),
    Operation("GET", _NUMBERS, list_owned, {**PAGING, **_FILTERS}),
    Operation("POST", _NUMBERS, buy, {**_SETTINGS, "PhoneNumber": "text", "AreaCode": "text"}),
    Operation("GET", _NUMBERS + "/{NumberSid}", fetch_owned),
    Operation("POST", _NUMBERS + "/{NumberSid}", update_owned, _SETTINGS),
    Operation("DELETE", _NUMBERS + "/{NumberSid}", release),
    *(Operation("GET", f"{_NUMBERS}/{kind}", list_owned, {**PAGING, **_FILTERS}) for kind in _KINDS),
    *(Operation("POST", f"{_NUMBERS}/{kind}", buy, {**_SETTINGS, "PhoneNumber": "text"}) for kind in _KINDS),
]
