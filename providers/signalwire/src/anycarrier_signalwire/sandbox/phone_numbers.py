"""The REST resources of phone numbers: those on offer, and those the project owns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from anycarrier.testing.sandbox_numbers import LOCAL, TOLL_FREE, Login
from anycarrier_signalwire.sandbox.models import VERSION, Project, new_id, rfc2822
from anycarrier_signalwire.sandbox.rest import BASE, PAGING, Operation, Reply, Rest, RestError, not_found, page

_KINDS = {"Local": LOCAL, "TollFree": TOLL_FREE}
_COUNTRIES = ("US", "CA")

_SETTINGS = {
    "FriendlyName": "text",
    "SmsApplicationSid": "text",
    "SmsFallbackMethod": "method",
    "SmsFallbackUrl": "url",
    "SmsMethod": "method",
    "SmsUrl": "url",
    "StatusCallback": "url",
    "StatusCallbackMethod": "method",
    "VoiceApplicationSid": "text",
    "VoiceFallbackMethod": "method",
    "VoiceFallbackUrl": "url",
    "VoiceMethod": "method",
    "VoiceUrl": "url",
}
_KEYS = {name: "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_") for name in _SETTINGS}
_IGNORED = (
    "Beta ExcludeAllAddressRequired ExcludeForeignAddressRequired ExcludeLocalAddressRequired FaxEnabled MmsEnabled "
    "SmsEnabled VoiceEnabled"
).split()
"""Accepted for compatibility: they change nothing."""


def friendly(number: str) -> str:
    """``(415) 555-0100`` for a North American number, the number itself for others."""
    return f"({number[2:5]}) {number[5:8]}-{number[8:]}" if number.startswith("+1") and len(number) == 12 else number


async def search(rest: Rest) -> Reply:
    country, kind = rest.path["IsoCountry"], rest.path["Kind"]
    if kind not in _KINDS or country not in _COUNTRIES:
        not_found(rest)
    if rest.get("InLocality") and not rest.get("InRegion"):
        raise RestError(400, 10000, "InLocality needs InRegion")
    found = rest.sandbox.inventory.search(
        # Toll-free numbers of the North American plan ring in both countries.
        country="US" if kind == "TollFree" else country,
        type=_KINDS[kind],
        area_code=rest.get("AreaCode") or None,
        contains=rest.get("Contains") or None,
        region=rest.get("InRegion") or None,
        locality=rest.get("InLocality") or None,
    )
    offers = [
        {
            "friendly_name": friendly(offer.number),
            "phone_number": offer.number,
            "lata": None,
            "locality": None,
            "rate_center": (offer.locality or "").upper() or None,
            "latitude": None,
            "longitude": None,
            "region": offer.region,
            "postal_code": None,
            "iso_country": country,
            "capabilities": {
                "voice": "voice" in offer.features, "SMS": "sms" in offer.features, "MMS": "mms" in offer.features,
            },
            "beta": False,
        }
        for offer in found[: rest.number("PageSize", 50)]
    ]  # fmt: skip
    return Reply(200, {"uri": rest.url, "available_phone_numbers": offers})


def own(project: Project, number: str, features: frozenset[str]) -> dict[str, Any]:
    """Enter ``number`` into the project with the settings of a number just bought."""
    sid, now = new_id(), rfc2822(datetime.now(UTC))
    resource: dict[str, Any] = {
        "sid": sid,
        "account_id": project.sid,
        "account_sid": project.sid,
        "address_requirements": "none",
        "address_sid": None,
        "api_version": VERSION,
        "beta": False,
        "capabilities": {name: name in features for name in ("voice", "sms", "mms", "fax")},
        "country_code": "US",
        "date_created": now,
        "date_updated": now,
        "emergency_address_sid": None,
        "emergency_status": "Inactive",
        "identity_sid": None,
        "origin": "signalwire",
        "phone_number": number,
        "trunk_sid": None,
        "uri": f"{project.path}/IncomingPhoneNumbers/{sid}.json",
        "voice_caller_id_lookup": None,
        **dict.fromkeys(_KEYS.values()),
        **{key: "POST" for key in _KEYS.values() if key.endswith("_method")},
        "friendly_name": friendly(number),
    }
    project.numbers[sid] = resource
    return resource


def _apply(rest: Rest, resource: dict[str, Any]) -> None:
    for name, key in _KEYS.items():
        if name in rest.params:
            resource[key] = rest.get(name) or None
    if rest.get("VoiceReceiveMode") == "fax":  # which of the two it is, no answer tells
        rest.sandbox.fax_numbers.add(resource["sid"])
    elif rest.get("VoiceReceiveMode") == "voice":
        rest.sandbox.fax_numbers.discard(resource["sid"])
    resource["date_updated"] = rfc2822(datetime.now(UTC))


async def buy(rest: Rest) -> Reply:
    inventory, number = rest.sandbox.inventory, rest.get("PhoneNumber")
    if not number.startswith("+") or not number[1:].isdigit():
        raise RestError(400, 21401, f"{number[:40]} is not a valid phone number")
    if rest.login is Login.BROKE:
        raise no_funds()
    offer = inventory.find(number)
    if offer is None or not inventory.sell(number):
        raise RestError(422, 21422, f"{number} is not available")
    resource = own(rest.project, number, offer.features)
    _apply(rest, resource)
    rest.sandbox.bought_at[resource["sid"]] = rest.sandbox.clock()
    return Reply(201, resource)


def no_funds() -> RestError:
    return RestError(422, 4001, "This costs more than the balance of the project")


def _owned(rest: Rest) -> dict[str, Any]:
    return rest.project.numbers.get(rest.path["Sid"]) or not_found(rest)


async def list_owned(rest: Rest) -> Reply:
    number, name = rest.get("PhoneNumber"), rest.get("FriendlyName")
    found = [
        owned
        for owned in rest.project.numbers.values()
        # A pattern: it matches any part of a number.
        if number.strip("*") in owned["phone_number"] and (not name or owned["friendly_name"] == name)
    ]
    return page(rest, "incoming_phone_numbers", found)


async def fetch_owned(rest: Rest) -> Reply:
    return Reply(200, _owned(rest))


async def update_owned(rest: Rest) -> Reply:
    resource = _owned(rest)
    _apply(rest, resource)
    return Reply(200, resource)


async def release(rest: Rest) -> Reply:
    resource = _owned(rest)
    age = rest.sandbox.clock() - rest.sandbox.bought_at.get(resource["sid"], float("-inf"))
    if age < rest.sandbox.release_after:
        raise RestError(409, 22121, "The phone number was purchased too recently to be released")
    del rest.project.numbers[resource["sid"]]
    rest.sandbox.inventory.take_back(resource["phone_number"])
    return Reply(204)


_SEARCH = {"AreaCode": "int", "Contains": "text", "InLocality": "text", "InRegion": "text", "PageSize": "int"}
_WRITTEN = {**_SETTINGS, "VoiceReceiveMode": "text"}
_NUMBERS = BASE + "/IncomingPhoneNumbers"
OPERATIONS = [
    Operation(
        "GET",
        BASE + "/AvailablePhoneNumbers/{IsoCountry}/{Kind}",
        search,
        {**_SEARCH, **dict.fromkeys(_IGNORED, "bool")},
    ),
    Operation("GET", _NUMBERS, list_owned, {**PAGING, "PhoneNumber": "text", "FriendlyName": "text"}),
    Operation("POST", _NUMBERS, buy, {**_WRITTEN, "PhoneNumber": "text"}),
    Operation("GET", _NUMBERS + "/{Sid}", fetch_owned),
    Operation("POST", _NUMBERS + "/{Sid}", update_owned, _WRITTEN),
    Operation("DELETE", _NUMBERS + "/{Sid}", release),
]
