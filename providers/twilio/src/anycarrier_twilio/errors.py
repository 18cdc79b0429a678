"""Twilio's numeric error codes: the error to raise for each, and the next step.

https://www.twilio.com/docs/api/errors lists all codes; these are the ones an exchange can meet and act on.
"""

from __future__ import annotations

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    RequirementsMissing,
)
from anycarrier.numbers import NumberRequirement
from anycarrier.refusals import Meaning

OVER = (404, 410, "20404", "21220")
"""What hanging up a call answers that has ended, or was ended so long ago that it is gone."""

_FROM = "Call from a number this account owns, or one it has verified as a caller id."
_GEOGRAPHY = "Enable the destination under Voice Geographic Permissions in the Twilio console."

_MEANINGS = {
    "10001 20005": Meaning(
        InsufficientFunds,
        "The account is not active: top it up, or see why it was suspended, in the Twilio console.",
    ),
    "10002": Meaning(PermissionDenied, "A trial account may not do this: upgrade it in the Twilio console."),
    "10004 20429": Meaning(RateLimited),
    "20003": Meaning(
        AuthenticationFailed,
        "Check account_sid and auth_token (or the API key); a suspended account is refused in the same way.",
    ),
    "20403": Meaning(PermissionDenied),
    "20404": Meaning(NotFound),
    "21203 21215": Meaning(PermissionDenied, _GEOGRAPHY),
    "21205": Meaning(RequestRejected, "Twilio cannot use the URL: public_url must be reachable from the internet."),
    "21210": Meaning(PermissionDenied, _FROM),
    "21211 21214 21217 21401 21421": Meaning(NumberRejected),
    "21212 21213": Meaning(NumberRejected, _FROM),
    "21216": Meaning(PermissionDenied, "Twilio blocks calls to this destination: ask Twilio support to lift it."),
    "21219": Meaning(PermissionDenied, "A trial account rings verified numbers only: verify this one, or upgrade."),
    "21220": Meaning(RequestRejected, "The call is over, or not answered yet: nothing can be done with it now."),
    "21422": Meaning(NumberUnavailable),
    "21452": Meaning(NumberUnavailable, "Twilio has no number there: search another area code."),
    "21631 21649 21651": Meaning(
        RequirementsMissing,
        "Twilio wants an address or regulatory bundle for this number: pass AddressSid or BundleSid in extra.",
    ),
}
MEANINGS = {code: meaning for codes, meaning in _MEANINGS.items() for code in codes.split()}

# The code of a wrong login, for an account whose login is good and whose rights are not.
BY_WORDS = ((r"^403 20003 ", Meaning(PermissionDenied)),)

REQUIREMENTS = {
    "21631": NumberRequirement.ADDRESS,
    "21649": NumberRequirement.DOCUMENTS,
    "21651": NumberRequirement.DOCUMENTS,
}
