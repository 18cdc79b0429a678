"""Twilio's numeric error codes: the error to raise for each, and the next step.

https://www.twilio.com/docs/api/errors lists all codes; these are the ones an exchange can meet and act on.
"""

from __future__ import annotations

from anycarrier import errors
from anycarrier.numbers import NumberRequirement
from anycarrier.refusals import Meaning

OVER = (404, 410, "20404", "21220")
"""What hanging up a call answers that has ended, or was ended so long ago that it is gone."""

_LOGIN = "Check account_sid and auth_token (or the API key); a suspended account is refused in the same way."
_ACCOUNT = "The account is not active: top it up, or see why it was suspended, in the Twilio console."
_GEOGRAPHY = "Enable the destination under Voice Geographic Permissions in the Twilio console."
_FROM = "Call from a number this account owns, or one it has verified as a caller id."
_REGULATION = "Twilio wants an address or regulatory bundle for this number: pass AddressSid or BundleSid in extra."

_MEANINGS = (
    ("10001 20005", errors.InsufficientFunds, _ACCOUNT),
    ("10002", errors.PermissionDenied, "A trial account may not do this: upgrade it in the Twilio console."),
    ("10004 20429", errors.RateLimited, None),
    ("20003", errors.AuthenticationFailed, _LOGIN),
    ("20403", errors.PermissionDenied, None),
    ("20404", errors.NotFound, None),
    ("21203 21215", errors.PermissionDenied, _GEOGRAPHY),
    ("21205", errors.RequestRejected, "Twilio cannot use the URL: public_url must be reachable from the internet."),
    ("21210", errors.PermissionDenied, _FROM),
    ("21211 21214 21217 21401 21421", errors.NumberRejected, None),
    ("21212 21213", errors.NumberRejected, _FROM),
    ("21216", errors.PermissionDenied, "Twilio blocks calls to this destination: ask Twilio support to lift it."),
    ("21219", errors.PermissionDenied, "A trial account rings verified numbers only: verify this one, or upgrade."),
    ("21220", errors.RequestRejected, "The call is over, or not answered yet: nothing can be done with it now."),
    ("21422", errors.NumberUnavailable, None),
    ("21452", errors.NumberUnavailable, "Twilio has no number there: search another area code."),
    ("21631 21649 21651", errors.RequirementsMissing, _REGULATION),
)
MEANINGS = {code: Meaning(error, step) for codes, error, step in _MEANINGS for code in codes.split()}

# The code of a wrong login, for an account whose login is good and whose rights are not.
BY_WORDS = ((r"^403 20003 ", errors.PermissionDenied),)
REQUIREMENTS = {"21631": NumberRequirement.ADDRESS, **dict.fromkeys(("21649", "21651"), NumberRequirement.DOCUMENTS)}
