"""What Telnyx's error codes and words mean, and the next step where an error's own is too general."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from anycarrier import errors
from anycarrier.refusals import Meaning

Meant = type[errors.ProviderError] | Meaning

CALL_ENDED = "90018"
NOT_ANSWERED_YET = "90034"

_CODES: Mapping[Meant, tuple[str, ...]] = {
    errors.AuthenticationFailed: ("10009", "20002", "20006", "20008"),  # the last three: revoked, expired, invalid
    errors.PermissionDenied: ("10010", "20015"),
    Meaning(errors.PermissionDenied, "The account is blocked: see why in the Telnyx portal, or ask Telnyx support."): (
        "20013",
    ),
    Meaning(errors.PermissionDenied, "Verify the account in the Telnyx portal."): ("20014", "20016", "20017"),
    Meaning(errors.PermissionDenied, "Raise the account's level in the Telnyx portal."): ("10038", "10039"),
    Meaning(
        errors.InsufficientFunds,
        "The account is inactive, which an empty one becomes: top it up, or see why in the Telnyx portal.",
    ): ("20012",),
    errors.InsufficientFunds: ("20100",),
    errors.NotFound: ("10005", "90015"),
    errors.NumberRejected: ("10002", "10016"),
    errors.NumberUnavailable: ("85000", "85001", "85006"),  # not found by a search first, sold, reserved by somebody
    errors.RateLimited: ("10011", "90041", "90042", "90043"),  # the last three: channels of user, profile, connection
    Meaning(None, "The call is over: nothing can be done with it now."): (CALL_ENDED,),
    Meaning(None, "The call is not answered yet: wait for that, then ask again."): (NOT_ANSWERED_YET,),
}
ERROR_TYPES: Mapping[str, Meant] = {code: meant for meant, codes in _CODES.items() for code in codes}

_MONEY = r"\b(funds?|balance|credit|prepaid|payment)\b"
_NUMBER = r"\(at /?(to|from|phone_number|phone_numbers/\d+/phone_number)\)"
_OWN = "Call from a number this account owns, or one it has verified as a caller id."
_COUNTRY = "Allow the destination's country in the outbound voice profile."
_PROFILE = "Give the application an outbound voice profile."

ERROR_WORDS: Sequence[tuple[str, Meant]] = (
    (r"^408 ", errors.ProviderUnavailable),
    # 20015 and others were seen when the credit had run out.
    (rf"^(403 (?!2000[268])|\d+ (10010|2001[3-7]|1003[89])).*{_MONEY}", errors.InsufficientFunds),
    # A field that is refused for its form, where that field holds a number.
    (rf"^\d+ (10004|10015|10027|10033) .*{_NUMBER}", errors.NumberRejected),
    # 10010 says "not permitted" of many things; the words of its SIP code (D...) say of which.
    # https://developers.telnyx.com/docs/voice/sip-trunking/troubleshooting/response-codes
    (r"^\d+ 10010 .*(\bD51\b|\borigination number|\bunverified\b.*\bnumber)", Meaning(errors.PermissionDenied, _OWN)),
    (r"^\d+ 10010 .*(\bD13\b|\bwhitelist)", Meaning(errors.PermissionDenied, _COUNTRY)),
    (r"^\d+ 10010 .*(\bD(7|38)\b|\boutbound (voice )?profile)", Meaning(errors.PermissionDenied, _PROFILE)),
)


def call_is_gone(refusal: errors.ProviderError) -> bool:
    """True when a command was refused because its call is over: 90018 just after the end, and once the call is
    forgotten a 404 or 410, or a 422 with 90015 or no code at all. A 422 for anything else is a refusal."""
    forgotten = refusal.status == 410 or (refusal.status == 422 and refusal.code is None)
    return refusal.code == CALL_ENDED or isinstance(refusal, errors.NotFound) or forgotten


def already_answered(refusal: errors.ProviderError) -> bool:
    """True for the refusal of a second answer. No source documents its code, so the words decide."""
    return refusal.code != CALL_ENDED and bool(re.search(r"(?i)already\b.{0,20}\banswered", refusal.message))
