"""Phone numbers in SignalWire's terms: what to ask a search, and what settings must be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anycarrier.errors import UnsupportedOperation
from anycarrier.numbers import NumberFeature, NumberQuery, NumberType
from anycarrier.rest import given
from anycarrier_twilio import numbers as twilio

KINDS = {NumberType.LOCAL: "Local", NumberType.TOLL_FREE: "TollFree"}
MAX_RESULTS = 1000
SettingsOf = Callable[[Mapping[str, Any], str], dict[str, str]]


def search_fields(query: NumberQuery, unsupported: Callable[[str, str], UnsupportedOperation]) -> dict[str, Any]:
    """``query`` as parameters; what SignalWire accepts and ignores is refused.

    The search has no pages to turn, only a number of results to ask for: page 3 is the last third.
    """
    if set(query.features) - {NumberFeature.VOICE}:
        raise unsupported("search by feature", "it takes them and ignores them; each offer names its features")
    if query.area_code and query.country not in twilio.NORTH_AMERICA:
        raise unsupported("search by area code", "only in US and CA")
    if query.locality and not query.region:
        raise unsupported("search by locality", "only together with its region")
    wanted = query.limit * query.page
    if wanted > MAX_RESULTS:
        raise unsupported("search beyond", f"{MAX_RESULTS} numbers")
    where = {"AreaCode": query.area_code, "InLocality": query.locality, "InRegion": query.region}
    return given({**where, "Contains": query.contains, "PageSize": wanted})


def settings_to_write(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that differ from what sends its calls to ``webhook_url``, with their new values."""
    changed = _written(twilio.settings_to_write(item, webhook_url))
    # A number that receives faxes takes no calls. Which it does, no answer tells.
    return {**changed, "VoiceReceiveMode": "voice"} if changed else {}


def settings_to_clear(item: Mapping[str, Any], webhook_url: str) -> dict[str, str]:
    """The settings of ``item`` that send its calls, or news of them, to ``webhook_url``, each with nothing as value."""
    return _written(twilio.settings_to_clear(item, webhook_url))


def _written(settings: Mapping[str, str]) -> dict[str, str]:
    """``voice_url`` is read, ``VoiceUrl`` is written."""
    return {"".join(map(str.title, name.split("_"))): value for name, value in settings.items()}
