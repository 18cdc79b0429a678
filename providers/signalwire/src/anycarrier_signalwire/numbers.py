"""Phone numbers in SignalWire's terms: what to ask a search, what an answer means, what settings must be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anycarrier.errors import UnsupportedOperation
from anycarrier.numbers import AvailableNumber, NumberFeature, NumberQuery, NumberType, OwnedNumber
from anycarrier.rest import given
from anycarrier_twilio import numbers as twilio

OURS = {"provider": "signalwire"}
KINDS = {NumberType.LOCAL: "Local", NumberType.TOLL_FREE: "TollFree"}
MAX_RESULTS = 1000
SettingsOf = Callable[[Mapping[str, Any], str], dict[str, str]]
"""Given a number as SignalWire has it and our webhook URL: what to write."""


def search_fields(query: NumberQuery, unsupported: Callable[[str, str], UnsupportedOperation]) -> dict[str, Any]:
    """``query`` as parameters; what SignalWire accepts and ignores is refused.

    The search has no pages to turn, only a number of results to ask for: page 3 is the last third.
    """
    if set(query.features) - {NumberFeature.VOICE}:
        raise unsupported("search by feature", "it takes them and ignores them; each offer names its features")
    if query.area_code and query.country not in ("US", "CA"):
        raise unsupported("search by area code", "only in US and CA")
    if query.locality and not query.region:
        raise unsupported("search by locality", "only together with its region")
    wanted = query.limit * query.page
    if wanted > MAX_RESULTS:
        raise unsupported("search beyond", f"{MAX_RESULTS} numbers")
    where = {"AreaCode": query.area_code, "InLocality": query.locality, "InRegion": query.region}
    return given({**where, "Contains": query.contains, "PageSize": wanted})


def available(item: Mapping[str, Any], kind: NumberType) -> AvailableNumber:
    """One offer. The search tells no price."""
    return twilio.available(item, kind).model_copy(update=OURS)


def owned(item: Mapping[str, Any]) -> OwnedNumber:
    """One number of the project's."""
    return twilio.owned(item).model_copy(update=OURS)


def settings_to_write(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that differ from what sends its calls to ``webhook_url``, with their new values."""
    wanted = {
        "VoiceUrl": webhook_url,
        "VoiceMethod": "POST",
        "StatusCallback": webhook_url,
        "StatusCallbackMethod": "POST",
        "VoiceApplicationSid": "",  # when set, the number's own URL is ignored
    }
    changed = {name: value for name, value in wanted.items() if (item.get(KEYS[name]) or "") != value}
    # A number that receives faxes takes no calls. Which it does, no answer tells.
    return {**changed, "VoiceReceiveMode": "voice"} if changed else {}


def settings_to_clear(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that send its calls, or news of them, to ``webhook_url``, each with nothing as value."""
    ours = ("VoiceUrl", "VoiceFallbackUrl", "StatusCallback")
    return {name: "" for name in ours if item.get(KEYS[name]) == webhook_url}


KEYS = {
    "VoiceUrl": "voice_url",
    "VoiceMethod": "voice_method",
    "VoiceFallbackUrl": "voice_fallback_url",
    "VoiceApplicationSid": "voice_application_sid",
    "StatusCallback": "status_callback",
    "StatusCallbackMethod": "status_callback_method",
}
"""A setting as it is written -> as it is read."""
