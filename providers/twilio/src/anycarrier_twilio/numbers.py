"""Phone numbers in Twilio's terms: what to ask a search, what an answer means, what settings must be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anycarrier.errors import UnsupportedOperation
from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberRequirement, NumberType, OwnedNumber
from anycarrier.rest import given
from anycarrier_twilio.call_status import PROVIDER

REQUIREMENTS: Mapping[str, frozenset[NumberRequirement]] = {
    "none": frozenset(),
    "any": frozenset({NumberRequirement.ADDRESS}),
    "local": frozenset({NumberRequirement.LOCAL_ADDRESS}),
    "foreign": frozenset({NumberRequirement.FOREIGN_ADDRESS}),
}
"""Twilio's ``address_requirements``. Regulatory bundles are not told by a search."""

SettingsOf = Callable[[Mapping[str, Any], str], dict[str, str]]
"""Given a number as Twilio has it and our webhook URL: what to write, by the SDK's names."""

NORTH_AMERICA = ("US", "CA")
MAX_RESULTS = 1000  # Twilio's largest page
_KINDS = {kind.value.replace("_", ""): kind for kind in NumberType}


def search_fields(query: NumberQuery, unsupported: Callable[[str, str], UnsupportedOperation]) -> dict[str, Any]:
    """``query`` as keyword arguments of the SDK's list; what Twilio would quietly ignore is refused.

    The inventory search has no pages to turn, only a number of results to ask for: page 3 is the last third.
    """
    for name, value in (("area code", query.area_code), ("region", query.region)):
        if value and query.country not in NORTH_AMERICA:
            raise unsupported(f"search by {name}", f"only in {' and '.join(NORTH_AMERICA)}")
    wanted = query.limit * query.page
    if wanted > MAX_RESULTS:
        raise unsupported("search beyond", f"{MAX_RESULTS} numbers")
    where = {"area_code": query.area_code, "in_locality": query.locality, "in_region": query.region}
    able = {f"{feature}_enabled": True for feature in query.features}
    return given({"limit": wanted, "contains": query.contains, **where, **able})


def available(item: Mapping[str, Any], kind: NumberType, provider: str = PROVIDER) -> AvailableNumber:
    """One offer. Twilio's search tells no price."""
    return AvailableNumber(
        number=item.get("phone_number", ""),
        provider=provider,
        country=item.get("iso_country") or "",
        type=kind,
        region=item.get("region") or None,
        locality=item.get("locality") or None,
        features=features(item),
        requirements=REQUIREMENTS.get(str(item.get("address_requirements"))),
        raw=item,
    )


def owned(item: Mapping[str, Any], provider: str = PROVIDER) -> OwnedNumber:
    """One number of the account's; ``id`` is its PN SID."""
    return OwnedNumber(
        number=item.get("phone_number", ""),
        provider=provider,
        id=item.get("sid", ""),
        status=item.get("status") or "active",
        type=_KINDS.get(str(item.get("type") or "").replace("-", "").replace("_", "").lower()),
        features=features(item),
        friendly_name=item.get("friendly_name") or None,
        webhook_url=item.get("voice_url") or None,
        raw=item,
    )


def features(item: Mapping[str, Any]) -> frozenset[NumberFeature]:
    """What a number can carry. Offers say ``SMS`` where owned numbers say ``sms``."""
    told = item.get("capabilities")
    able = {str(name).lower() for name, yes in told.items() if yes} if isinstance(told, Mapping) else set()
    return frozenset(feature for feature in NumberFeature if feature in able)


def settings_to_write(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that differ from what sends its calls to ``webhook_url``, with their new values."""
    wanted = {
        "voice_url": webhook_url,
        "voice_method": "POST",
        "status_callback": webhook_url,
        "status_callback_method": "POST",
        # Either of these, when set, makes Twilio ignore the number's own URL.
        "voice_application_sid": "",
        "trunk_sid": "",
    }
    if item.get("voice_receive_mode") == "fax":
        wanted["voice_receive_mode"] = "voice"
    return {name: value for name, value in wanted.items() if (item.get(name) or "") != value}


def settings_to_clear(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that send its calls, or news of them, to ``webhook_url``, each with nothing as value."""
    ours = ("voice_url", "voice_fallback_url", "status_callback")
    return {name: "" for name in ours if item.get(name) == webhook_url}
