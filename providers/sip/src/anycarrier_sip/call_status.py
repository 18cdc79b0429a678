"""What SIP's words for the end of a call mean: status codes and ``Reason`` headers to end reasons, and back. Pure.

>>> reason_before_answer(480, cause=17, rang=True)
<EndReason.BUSY: 'busy'>
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anycarrier.calls import EndReason, reason_of_sip
from anycarrier.errors import AuthenticationFailed, NumberRejected, PermissionDenied, ProviderError, RateLimited
from anycarrier_sip.header_values import parameters_of

_GONE, _LIMITED = EndReason.PROVIDER_UNAVAILABLE, EndReason.PROVIDER_RATE_LIMITED
_DENIED, _WRONG = EndReason.PROVIDER_PERMISSION_DENIED, EndReason.INVALID_NUMBER

BY_STATUS: Mapping[int, EndReason] = {
    **dict.fromkeys((300, 301, 302, 305, 380, 416, 485), _WRONG),
    402: _DENIED,
    429: _LIMITED,
    **dict.fromkeys((400, 406, 415, 420, 421, 482, 483, 488, 494, 606), _GONE),
}
"""Final answers to an INVITE of which the library's :func:`anycarrier.calls.reason_of_sip` does not tell as much (RFC
3261 section 21). A code that neither knows counts as its class's x00."""

BY_CAUSE: Mapping[int, EndReason] = {
    17: EndReason.BUSY,
    21: EndReason.REJECTED,
    **dict.fromkeys((18, 19), EndReason.NO_ANSWER),
    **dict.fromkeys((1, 2, 3, 22, 28), _WRONG),
    **dict.fromkeys((20, 27), EndReason.UNREACHABLE),
    **dict.fromkeys((34, 38, 41, 42, 44, 47, 58, 65, 79, 88), _GONE),
    **dict.fromkeys((50, 52, 55, 57, 87), _DENIED),
}
"""Q.850 causes (RFC 3398, 6432). 16 and 31 are a normal end, whatever the call had come to; 127 says nothing."""

RAISED: Mapping[EndReason, type[ProviderError]] = {
    EndReason.PROVIDER_AUTH_FAILED: AuthenticationFailed,
    _DENIED: PermissionDenied,
    _WRONG: NumberRejected,
    _LIMITED: RateLimited,
}
"""What ``dial`` raises for an end that comes while it still waits: the caller's or the operator's to correct. A busy
or missed call is no error, and is told as the call's progress."""

REFUSALS: Mapping[EndReason, tuple[int, str]] = {
    EndReason.BUSY: (486, "Busy Here"),
    EndReason.REJECTED: (603, "Decline"),
    EndReason.INVALID_NUMBER: (404, "Not Found"),
}
"""How an incoming call is declined."""


def reason_before_answer(
    status: int | None, *, cause: int | None = None, rang: bool = False, retry_after: bool = False
) -> EndReason:
    """Why a call ended that was not answered. ``status`` None: nobody answered the INVITE at all."""
    if status is None:
        return _GONE
    # Gateways answer so for many things: a cause beside it knows better.
    if status in (480, 487, 500, 503) and (told := BY_CAUSE.get(cause or 0)):
        return told
    if status == 503 and retry_after:
        return _LIMITED
    if status in (408, 480, 504):
        return EndReason.NO_ANSWER if rang else EndReason.UNREACHABLE
    known = (BY_STATUS.get(code) or reason_of_sip(code) for code in (status, status // 100 * 100))
    return next(filter(None, known), EndReason.UNKNOWN)


def reason_after_answer(cause: int | None) -> EndReason:
    """Why the far end's BYE came: 38, 41 and 102 say that the line was lost."""
    return EndReason.MEDIA_ERROR if cause in (38, 41, 102) else EndReason.USER_HANGUP


def cause_of(reasons: Iterable[str]) -> int | None:
    """The Q.850 cause among the values of ``Reason`` headers (RFC 3326), None without one."""
    for told in map(parameters_of, reasons):
        cause = told.get("cause", "")
        if told[""].lower() == "q.850" and cause.isdecimal() and len(cause) <= 3:
            return int(cause)
    return None


def words_of(phrase: str, reasons: Iterable[str]) -> str:
    """The carrier's own words for ``Call.carrier_status``: the phrase, and what the ``Reason`` headers add."""
    said = [phrase]
    for value in reasons:
        cause = cause_of([value])
        said.append(f"{'' if cause is None else f'Q.850 {cause} '}{parameters_of(value).get('text', '')}".strip())
    return "; ".join("".join(c if c.isprintable() else " " for c in part)[:200] for part in said if part)


def transfer_status(status: int) -> str | None:
    """What the status line in a NOTIFY about a REFER says of the transfer; None while the target rings."""
    if status < 300:
        return None if status < 200 else "answered"
    # 487: it was rung no longer, mostly because the far end has hung up.
    told = {486: "busy", 600: "busy", 408: "no_answer", 480: "no_answer", 487: "canceled"}
    return told.get(status, "failed")
