"""Twilio's numeric error codes: the error to raise for each, and the next step.

https://www.twilio.com/docs/api/errors lists all codes; these are the ones an exchange can meet and act on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    RateLimited,
    RequestRejected,
    RequirementsMissing,
)


class Meaning(NamedTuple):
    """Our error for a code, and the next step (None: the error's own)."""

    error: type[ProviderError]
    next_step: str | None = None


ALREADY_OVER = frozenset({"21220", "20404"})
"""What hanging up a call answers that has ended, or was ended so long ago that it is gone."""

_CREDENTIAL = "Check account_sid and auth_token (or the API key); a suspended account is refused in the same way."
_ACCOUNT = "The account is not active: top it up, or see why it was suspended, in the Twilio console."
_NUMBER = "Check the number is E.164, like +14155550100, and in service."
_FROM = "Call from a number this account owns, or one it has verified as a caller id."
_GEOGRAPHY = "Enable the destination under Voice Geographic Permissions in the Twilio console."
_REGULATION = "Twilio wants an address or regulatory bundle for this number: pass AddressSid or BundleSid in extra."

MEANINGS: Mapping[str, Meaning] = {
    "10001": Meaning(InsufficientFunds, _ACCOUNT),
    "10002": Meaning(PermissionDenied, "A trial account may not do this: upgrade it in the Twilio console."),
    "10004": Meaning(RateLimited),
    "20003": Meaning(AuthenticationFailed, _CREDENTIAL),
    "20005": Meaning(InsufficientFunds, _ACCOUNT),
    "20403": Meaning(PermissionDenied),
    "20404": Meaning(NotFound),
    "20429": Meaning(RateLimited),
    "21203": Meaning(PermissionDenied, _GEOGRAPHY),
    "21205": Meaning(RequestRejected, "Twilio cannot use the URL: public_url must be reachable from the internet."),
    "21210": Meaning(PermissionDenied, _FROM),
    "21211": Meaning(NumberRejected, _NUMBER),
    "21212": Meaning(NumberRejected, _FROM),
    "21213": Meaning(NumberRejected, _FROM),
    "21214": Meaning(NumberRejected, _NUMBER),
    "21215": Meaning(PermissionDenied, _GEOGRAPHY),
    "21216": Meaning(PermissionDenied, "Twilio blocks calls to this destination: ask Twilio support to lift it."),
    "21217": Meaning(NumberRejected, _NUMBER),
    "21219": Meaning(PermissionDenied, "A trial account rings verified numbers only: verify this one, or upgrade."),
    "21220": Meaning(RequestRejected, "The call is over, or not answered yet: nothing can be done with it now."),
    "21401": Meaning(NumberRejected, _NUMBER),
    "21421": Meaning(NumberRejected, _NUMBER),
    "21422": Meaning(NumberUnavailable),
    "21452": Meaning(NumberUnavailable, "Twilio has no number there: search another area code."),
    "21631": Meaning(RequirementsMissing, _REGULATION),
    "21649": Meaning(RequirementsMissing, _REGULATION),
    "21651": Meaning(RequirementsMissing, _REGULATION),
}


def meaning(code: str | None, status: int | None) -> Meaning | None:
    """What ``code`` means; None where the HTTP status alone must tell."""
    if code == "20003" and status == 403:
        # The same code for an account whose login is good and whose rights are not.
        return Meaning(PermissionDenied)
    return MEANINGS.get(code or "")
