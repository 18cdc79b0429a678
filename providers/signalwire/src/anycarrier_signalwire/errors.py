"""SignalWire's error codes: the error to raise for each, and the next step.

https://developer.signalwire.com/compatibility-api/rest/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping

from anycarrier import errors
from anycarrier.refusals import Meaning

OVER = ("21220", "10000")
"""What a call answers that cannot be ended so: it is over, or not at the stage that was meant."""

_LOGIN = "Check space, project_id and api_token, and that the token has the scopes Voice and Numbers."
_FROM = "Call from a number this project owns, or one it has verified as a caller id."
_URL = "SignalWire cannot use the URL: public_url must be reachable from the internet."
_TRIAL = "A trial project rings verified numbers only: verify this one, or pay in."

ERROR_TYPES: Mapping[str, type[errors.ProviderError] | Meaning] = {
    "4001": errors.InsufficientFunds,
    "10001": Meaning(errors.PermissionDenied, "Ask SignalWire to enable this for your space."),
    "20003": Meaning(errors.AuthenticationFailed, _LOGIN),
    "20010": Meaning(errors.PermissionDenied, "The project is disabled for this: see why in the SignalWire dashboard."),
    "20404": errors.NotFound,
    "21210": Meaning(errors.PermissionDenied, _FROM),
    "21219": Meaning(errors.PermissionDenied, _TRIAL),
    "21220": Meaning(errors.RequestRejected, "The call is over, or not answered yet: nothing can be done with it now."),
    "21422": errors.NumberUnavailable,
    "22121": Meaning(errors.RequestRejected, "The number was bought too recently to be released: try again later."),
    **dict.fromkeys(("20001", "20504"), errors.ProviderUnavailable),
    **dict.fromkeys(("20429", "21611"), errors.RateLimited),
    **dict.fromkeys(("21205", "21402"), Meaning(errors.RequestRejected, _URL)),
    **dict.fromkeys(("21212", "21213"), Meaning(errors.NumberRejected, _FROM)),
    **dict.fromkeys(("21211", "21217", "21401"), errors.NumberRejected),
}

ERROR_WORDS = (
    (r"^404 - ", Meaning(errors.NotFound, "Check the id, and that project_id is the project of api_token.")),
    (r"not available|already (taken|purchased)", errors.NumberUnavailable),
)
"""A 404 without a code is the answer to another project's token; how a number that is gone is refused, is unknown."""
