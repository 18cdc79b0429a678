"""SignalWire's error codes: the error to raise for each, and the next step.

https://developer.signalwire.com/compatibility-api/rest/error-codes
"""

from __future__ import annotations

from collections.abc import Mapping

from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    NotFound,
    NumberRejected,
    NumberUnavailable,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)
from anycarrier.refusals import Meaning

OVER = ("21220", "10000")
"""What a call answers that cannot be ended so: it is over, or not at the stage that was meant."""

_FROM = "Call from a number this project owns, or one it has verified as a caller id."
_URL = "SignalWire cannot use the URL: public_url must be reachable from the internet."

ERROR_TYPES: Mapping[str, type[ProviderError] | Meaning] = {
    "4001": InsufficientFunds,
    "10001": Meaning(PermissionDenied, "Ask SignalWire to enable this for your space."),
    "20001": ProviderUnavailable,
    "20003": Meaning(
        AuthenticationFailed,
        "Check space, project_id and api_token, and that the token has the scopes Voice and Numbers.",
    ),
    "20010": Meaning(PermissionDenied, "The project is disabled for this: see why in the SignalWire dashboard."),
    "20404": NotFound,
    "20429": RateLimited,
    "20504": ProviderUnavailable,
    "21205": Meaning(RequestRejected, _URL),
    "21210": Meaning(PermissionDenied, _FROM),
    "21211": NumberRejected,
    "21212": Meaning(NumberRejected, _FROM),
    "21213": Meaning(NumberRejected, _FROM),
    "21217": NumberRejected,
    "21219": Meaning(PermissionDenied, "A trial project rings verified numbers only: verify this one, or pay in."),
    "21220": Meaning(RequestRejected, "The call is over, or not answered yet: nothing can be done with it now."),
    "21401": NumberRejected,
    "21402": Meaning(RequestRejected, _URL),
    "21422": NumberUnavailable,
    "21611": RateLimited,
    "22121": Meaning(RequestRejected, "The number was bought too recently to be released: try again later."),
}

ERROR_WORDS = (
    (r"^404 - ", Meaning(NotFound, "Check the id, and that project_id is the project of api_token.")),
    (r"not available|already (taken|purchased)", NumberUnavailable),
)
"""A 404 without a code is the answer to another project's token; how a number that is gone is refused, is unknown."""
