"""Twilio's REST API of calls, for what plays Twilio: the sandbox, and a front for Twilio's own applications. Pure.

Logins, parameters, errors and pages as all resources have them, and what the requests of calls ask for.
https://www.twilio.com/docs/usage/requests-to-twilio, https://www.twilio.com/docs/voice/api/call-resource
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from anycarrier_twilio.carrier_side.messages import API_VERSION, rfc2822
from anycarrier_twilio.carrier_side.twiml import Instructions

EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
"""What a status callback can ask for."""

PAGING = ("PageSize", "Page", "PageToken")

_DIGITS = re.compile(r"[0-9A-Da-d#*wW]{0,32}")
_LINKS = (
    "events notifications payments recordings siprec streams transcriptions user_defined_message_subscriptions "
    "user_defined_messages"
).split()
_UNKNOWN = (
    "parent_call_sid phone_number_sid duration price answered_by forwarded_from group_sid caller_name trunk_sid"
).split()
_NUMBER = re.compile(r"[0-9]{1,9}")


class RestError(Exception):
    """A refusal in Twilio's shape. https://www.twilio.com/docs/api/errors"""

    def __init__(
        self, status: int, code: int, message: str, *, detail: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"code": code, "message": message}
        if detail:
            self.body["detail"] = detail
        self.body |= {"more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
        self.headers = headers or {}


def read_login(authorization: str) -> tuple[str, str]:
    """User and password of an ``Authorization`` header; both "" for what is no basic one."""
    scheme, _, given = authorization.partition(" ")
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:  # no base64, no ASCII, no UTF-8
        return "", ""
    return (user, password) if scheme.lower() == "basic" else ("", "")


class Parameters:
    """A request's parameters by name."""

    def __init__(self, params: Mapping[str, list[str]]) -> None:
        self.params = params

    def get(self, name: str, default: str = "") -> str:
        """The last value; ``default`` where there is none."""
        return self.params[name][-1].strip() if name in self.params else default

    def words(self, name: str) -> list[str]:
        """A list: the parameter more than once, or one value with blanks."""
        return [word for value in self.params.get(name, []) for word in value.split()]

    def number(self, name: str, default: int) -> int:
        """A whole number; ``default`` where it is missing or empty."""
        text = self.get(name)
        if text and not _NUMBER.fullmatch(text):
            raise RestError(400, 20001, f"{name} is not valid: {text[:40]!r} is no number")
        return int(text) if text else default

    def method(self, name: str) -> str:
        """``GET`` or ``POST``, the default."""
        word = self.get(name).upper() or "POST"
        if word not in ("GET", "POST"):
            raise RestError(400, 20001, f"{name} must be GET or POST")
        return word

    def on_day(self, name: str, when: datetime | None) -> bool:
        """Whether ``when`` is on the day that ``name``, ``name<`` and ``name>`` ask for."""
        day = when.astimezone(UTC).date().isoformat() if when else ""
        holds: dict[str, Callable[[str, str], bool]] = {"": str.__eq__, "<": str.__le__, ">": str.__ge__}
        asked = {sign: self.get(name + sign)[:10] for sign in holds}
        return all(not limit or (day != "" and holds[sign](day, limit)) for sign, limit in asked.items())


def page(
    request: Parameters, path: str, name: str, items: Sequence[Any], show: Callable[[Any], dict[str, Any]] = dict
) -> dict[str, Any]:
    """One page of a list; ``show`` makes the resource of an item."""
    size, number = request.number("PageSize", 50), request.number("Page", 0)
    if not 0 < size <= 1000:
        raise RestError(400, 20007, "Page size must be between 1 and 1000")
    shown = items[size * number : size * (number + 1)]

    def link(to: int) -> str:
        kept = [(key, value) for key, values in request.params.items() if key not in PAGING for value in values]
        return f"{path}?{urlencode([*kept, ('PageSize', size), ('Page', to)])}"

    return {
        name: [show(item) for item in shown],
        "end": size * number + max(0, len(shown) - 1),
        "first_page_uri": link(0),
        "next_page_uri": link(number + 1) if size * (number + 1) < len(items) else None,
        "page": number,
        "page_size": size,
        "previous_page_uri": link(number - 1) if number else None,
        "start": size * number,
        "uri": link(number),
    }


# --- calls ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StatusCallback:
    """Where a call's progress is posted, and which of ``initiated ringing answered completed`` are told."""

    url: str
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What is asked for with a call; the defaults are Twilio's."""

    instructions: Instructions | None = None
    timeout: float = 60
    time_limit: float = 14400
    status_callback: StatusCallback | None = None
    send_digits: str = ""
    detection: str = ""
    """``Enable`` or ``DetectMessageEnd``; empty: no detection."""
    detection_async: bool = False
    detection_callback: StatusCallback | None = None


Options = TypeVar("Options", bound=CallOptions)


def read_options(request: Parameters, kind: Callable[..., Options], **more: Any) -> Options:
    """The :class:`CallOptions`, or a ``kind`` with ``more``, that a request to dial asks for."""
    timeout, limit = request.number("Timeout", 60), request.number("TimeLimit", 14400)
    if not 0 < timeout <= 600 or not 0 < limit <= 86400:
        raise RestError(400, 20001, "Timeout must be within 1 and 600 seconds, TimeLimit within 1 and 86400")
    digits, detection = request.get("SendDigits"), request.get("MachineDetection")
    if not _DIGITS.fullmatch(digits):
        raise RestError(400, 20001, "SendDigits is not valid: 1 to 32 of 0-9 A-D # * w W")
    if detection not in ("", "Enable", "DetectMessageEnd"):
        raise RestError(400, 20001, f"MachineDetection {detection[:40]!r} is not valid")
    return kind(
        instructions=read_instructions(request),
        timeout=timeout,
        time_limit=limit,
        status_callback=read_callback(request, "StatusCallback"),
        send_digits=digits,
        detection=detection,
        detection_async=request.get("AsyncAmd").lower() == "true",
        detection_callback=read_callback(request, "AsyncAmdStatusCallback"),
        **more,
    )


def call_resource(
    account_sid: str,
    sid: str,
    *,
    created: datetime | None,
    updated: datetime | None,
    answered: datetime | None,
    ended: datetime | None,
    **known: Any,
) -> dict[str, Any]:
    """The call as the API shows it; what is not ``known`` of it is null."""
    path = f"/{API_VERSION}/Accounts/{account_sid}/Calls/{sid}"
    return {
        **dict.fromkeys(_UNKNOWN),
        "sid": sid,
        "account_sid": account_sid,
        "date_created": rfc2822(created),
        "date_updated": rfc2822(updated),
        "start_time": rfc2822(answered),
        "end_time": rfc2822(ended),
        "price_unit": "USD",
        "api_version": API_VERSION,
        "queue_time": "0",
        "uri": f"{path}.json",
        "subresource_uris": {link: f"{path}/{''.join(map(str.title, link.split('_')))}.json" for link in _LINKS},
        **known,
    }


def read_instructions(request: Parameters) -> Instructions | None:
    """What a request wants run; ``Twiml`` wins over ``Url``."""
    fallback_url, twiml, url = request.get("FallbackUrl"), request.get("Twiml"), request.get("Url")
    fallback = Instructions(fallback_url, request.method("FallbackMethod")) if fallback_url else None
    if twiml:
        return Instructions(twiml=twiml, fallback=fallback)
    return Instructions(url, request.method("Method"), fallback=fallback) if url else None


def read_callback(request: Parameters, name: str) -> StatusCallback | None:
    """The callback of that name, and the events that it is told."""
    events = frozenset(request.words(f"{name}Event")) or frozenset({"completed"})
    if unknown := sorted(events - EVENTS):
        raise RestError(400, 21626, f"Invalid StatusCallbackEvent(s): {', '.join(unknown)[:100]}")
    url, method = request.get(name), request.method(f"{name}Method")
    return StatusCallback(url, method, events) if url else None
