"""Refusals of the calls API: what Twilio would say to what the exchange or a carrier refuses.

https://www.twilio.com/docs/api/errors
"""

from __future__ import annotations

from anycarrier.errors import (
    AnycarrierError,
    ConfigurationError,
    DestinationNotAllowed,
    InsufficientFunds,
    InvalidNumber,
    LimitReached,
    NumberNotAssigned,
    NumberRejected,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    StoreUnavailable,
    UnsupportedOperation,
)
from anycarrier.redaction import redact
from anycarrier_twilio.carrier_side.calls_api import RestError


def refusal(problem: Exception, to: str, from_: str) -> RestError:
    """What Twilio would say to a call that the exchange, its policy or its carrier refused. What ``problem`` says more
    is its ``detail``, if it is an error of ours; it has no number in it."""
    detail = redact(str(problem)) if isinstance(problem, (AnycarrierError, StoreUnavailable)) else ""
    forbidden = f"Account not authorized to call {to}. Perhaps you need to enable some international permissions."
    not_ours = f"The source phone number provided, {from_}, is not yet verified for your account."
    match problem:
        case LimitReached() | RateLimited():
            headers = {"retry-after": f"{problem.retry_after:.0f}"} if problem.retry_after else None
            return RestError(429, 20429, "Too Many Requests", detail=detail, headers=headers)
        case DestinationNotAllowed():
            return RestError(400, 21215, forbidden, detail=detail)
        case InvalidNumber() | NumberRejected():
            return RestError(400, 21211, f"Invalid 'To' Phone Number: {to}", detail=detail)
        case NumberNotAssigned():
            return RestError(400, 21210, not_ours, detail=detail)
        case PermissionDenied():
            return RestError(400, 21215, forbidden, detail=detail)
        case InsufficientFunds():
            return RestError(403, 20005, "Account not active", detail=detail)
        case UnsupportedOperation() | RequestRejected() | ConfigurationError():
            return RestError(400, 20001, "The call cannot be made with these parameters", detail=detail)
        case StoreUnavailable() | ProviderUnavailable():
            return RestError(503, 20503, "Service Unavailable", detail=detail)
    return RestError(500, 20500, "Internal Server Error", detail=detail)  # our credential at the carrier, say
