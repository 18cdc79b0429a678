"""Telnyx's error codes: the error to raise for each, and the next step. Reads its error bodies. Pure.

Codes are text. ``errors`` is a list, or, on a body Telnyx could not parse, an object.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    RateLimited,
)

CALL_ENDED = "90018"
NOT_ANSWERED_YET = "90034"

ERROR_TYPES: Mapping[str, type[ProviderError]] = {
    "10009": AuthenticationFailed,
    "20002": AuthenticationFailed,  # key revoked
    "20006": AuthenticationFailed,  # access token expired
    "20008": AuthenticationFailed,  # key invalid
    "10010": PermissionDenied,
    "20012": InsufficientFunds,  # account inactive: what an empty account becomes
    "20013": PermissionDenied,  # account blocked
    "20014": PermissionDenied,  # account not verified
    "20015": PermissionDenied,  # feature not enabled
    "20016": PermissionDenied,  # account not verified to level 1
    "20017": PermissionDenied,  # account not verified to level 2
    "20100": InsufficientFunds,
    "10038": PermissionDenied,  # account level lacks the feature
    "10039": PermissionDenied,  # account level's limit reached
    "10005": NotFound,
    "90015": NotFound,  # call_control_id invalid
    "10002": NumberRejected,
    "10016": NumberRejected,
    "85000": NumberUnavailable,  # not found by a search first
    "85001": NumberUnavailable,
    "85006": NumberUnavailable,  # reserved by somebody
    "10011": RateLimited,
    "90041": RateLimited,  # channel limits: of the user, the outbound profile, the connection
    "90042": RateLimited,
    "90043": RateLimited,
}

_FROM = "Call from a number this account owns, or one it has verified as a caller id."
_VERIFY = "Verify the account in the Telnyx portal."
_UPGRADE = "Raise the account's level in the Telnyx portal."
_OVER = "The call is over: nothing can be done with it now."
NEXT_STEPS: Mapping[str, str] = {
    "20012": "The account is inactive, which an empty one becomes: top it up, or see why in the Telnyx portal.",
    "20013": "The account is blocked: see why in the Telnyx portal, or ask Telnyx support.",
    "20014": _VERIFY,
    "20016": _VERIFY,
    "20017": _VERIFY,
    "10038": _UPGRADE,
    "10039": _UPGRADE,
    "90018": _OVER,
    "90034": "The call is not answered yet: wait for that, then ask again.",
}
"""Code -> what to do, where the error's own advice is too general."""

# 10010 says "not permitted" of many things; the words of its SIP code (D...) say of which.
# https://developers.telnyx.com/docs/voice/sip-trunking/troubleshooting/response-codes
_NOT_PERMITTED = (
    (re.compile(r"(?i)\bD51\b|\borigination number|\bunverified\b.*\bnumber"), _FROM),
    (re.compile(r"(?i)\bD13\b|\bwhitelist"), "Allow the destination's country in the outbound voice profile."),
    (re.compile(r"(?i)\bD(?:7|38)\b|\boutbound (voice )?profile"), "Give the application an outbound voice profile."),
)

# Requests that are refused at one of these places are refused for the number.
_NUMBER_PLACES = re.compile(r"/?(to|from|phone_number|phone_numbers/\d+/phone_number)")
_ABOUT_A_FIELD = {"10004", "10015", "10027", "10033"}
_MONEY = re.compile(r"(?i)\b(funds?|balance|credit|prepaid|payment)\b")


def read_errors(body: Any) -> tuple[str | None, str]:
    """(code, words) of an error body, the first code and all words; (None, ...) where there is no code."""
    errors = body.get("errors") if isinstance(body, Mapping) else None
    if isinstance(errors, Mapping):
        errors = [errors]
    if not isinstance(errors, list):
        return None, ""
    listed = [error for error in errors if isinstance(error, Mapping)]
    code = next((str(error["code"]) for error in listed if error.get("code") is not None), None)
    return code, "; ".join(filter(None, map(_words, listed)))


def _words(error: Mapping[str, Any]) -> str:
    words = ": ".join(str(error[name]) for name in ("title", "detail") if error.get(name))
    place = _place(error)
    return f"{words} (at {place})" if place else words


def _place(error: Mapping[str, Any]) -> str:
    source = error.get("source")
    if not isinstance(source, Mapping):
        return ""
    return next((str(source[name]) for name in ("pointer", "parameter") if source.get(name)), "")


def meaning(code: str | None, message: str, status: int | None) -> tuple[type[ProviderError] | None, str | None]:
    """The error a refusal means and what to do about it; None where the HTTP status, or the error, tells all."""
    kind = ERROR_TYPES.get(code or "")
    if (kind is PermissionDenied or (kind is None and status == 403)) and _MONEY.search(message):
        return InsufficientFunds, None  # 20015 and others were seen when the credit had run out
    place = re.search(r"\(at (\S+)\)", message)
    if code in _ABOUT_A_FIELD and place and _NUMBER_PLACES.fullmatch(place.group(1)):
        return NumberRejected, None
    if code == "10010":
        return kind, next((advice for words, advice in _NOT_PERMITTED if words.search(message)), None)
    return kind, NEXT_STEPS.get(code or "")


def call_is_gone(refusal: ProviderError) -> bool:
    """True when a command was refused because its call is over: 90018 just after the end, and once the call is
    forgotten a 404 or 410, or a 422 with 90015 or no code at all. A 422 for anything else is a refusal."""
    forgotten = refusal.status == 410 or (refusal.status == 422 and refusal.code is None)
    return refusal.code == CALL_ENDED or isinstance(refusal, NotFound) or forgotten


def already_answered(code: str | None, message: str) -> bool:
    """True for the refusal of a second answer. No source documents its code, so the words decide."""
    return code != CALL_ENDED and bool(re.search(r"(?i)already\b.{0,20}\banswered", message))
