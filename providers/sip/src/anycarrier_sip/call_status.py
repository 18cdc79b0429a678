"""What SIP's words for the end of a call mean: status codes and ``Reason`` headers to end reasons, and back. Pure.

>>> reason_before_answer(480, cause=17, rang=True)
<EndReason.BUSY: 'busy'>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from anycarrier.calls import EndReason, reason_of_sip
from anycarrier.errors import AuthenticationFailed, NumberRejected, PermissionDenied, ProviderError, RateLimited

_GONE = EndReason.PROVIDER_UNAVAILABLE
_DENIED = EndReason.PROVIDER_PERMISSION_DENIED
_WRONG = EndReason.INVALID_NUMBER
_AUTH = EndReason.PROVIDER_AUTH_FAILED

BY_STATUS: Mapping[int, EndReason | None] = {
    **dict.fromkeys((300, 301, 302, 305, 380, 416, 485), _WRONG),
    402: _DENIED,
    **dict.fromkeys((408, 480, 504), None),  # no_answer once it rang, else unreachable
    429: EndReason.PROVIDER_RATE_LIMITED,
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

VAGUE = frozenset({480, 487, 500, 503})
"""Answers that gateways give for many things: a cause beside them knows better."""

LOST = frozenset({38, 41, 102})
"""Causes of a BYE that say that the line was lost."""


def reason_before_answer(
    status: int | None, *, cause: int | None = None, rang: bool = False, retry_after: bool = False
) -> EndReason:
    """Why a call ended that was not answered. ``status`` None: nobody answered the INVITE at all."""
    if status is None:
        return _GONE
    if status in VAGUE and (told := BY_CAUSE.get(cause or 0)):
        return told
    if status == 503 and retry_after:
        return EndReason.PROVIDER_RATE_LIMITED
    for code in (status, status // 100 * 100):
        if code in BY_STATUS:
            return BY_STATUS[code] or (EndReason.NO_ANSWER if rang else EndReason.UNREACHABLE)
        if told := reason_of_sip(code):
            return told
    return EndReason.UNKNOWN


def reason_after_answer(cause: int | None) -> EndReason:
    """Why the far end's BYE came."""
    return EndReason.MEDIA_ERROR if cause in LOST else EndReason.USER_HANGUP


_QUOTED = re.compile(r'"[^"]*"')
_CAUSE = re.compile(r"(?i)\s*q\.850\s*;(?:.*;)?\s*cause\s*=\s*(\d{1,3})\s*(?:;|$)")
_TEXT = re.compile(r'(?i);\s*text\s*=\s*"?([^";]{1,200})')


def cause_of(reasons: Iterable[str]) -> int | None:
    """The Q.850 cause among the values of ``Reason`` headers (RFC 3326), None without one."""
    for value in reasons:
        if found := _CAUSE.match(_QUOTED.sub("", value)):
            return int(found[1])
    return None


def words_of(phrase: str, reasons: Iterable[str]) -> str:
    """The carrier's own words for ``Call.carrier_status``: the phrase, and what the ``Reason`` headers add."""
    said = [phrase] if phrase else []
    for value in reasons:
        cause, text = cause_of([value]), _TEXT.search(value)
        parts = ([f"Q.850 {cause}"] if cause is not None else []) + ([text[1]] if text else [])
        if parts:
            said.append(" ".join(parts))
    return "; ".join("".join(c if c.isprintable() else " " for c in part)[:200] for part in said)


RAISED: Mapping[EndReason, type[ProviderError]] = {
    _AUTH: AuthenticationFailed,
    _DENIED: PermissionDenied,
    _WRONG: NumberRejected,
    EndReason.PROVIDER_RATE_LIMITED: RateLimited,
}
"""What ``dial`` raises for an end that comes while it still waits: the caller's or the operator's to correct. A busy
or missed call is no error, and is told as the call's progress."""

REFUSALS: Mapping[EndReason, tuple[int, str]] = {
    EndReason.BUSY: (486, "Busy Here"),
    EndReason.REJECTED: (603, "Decline"),
    EndReason.INVALID_NUMBER: (404, "Not Found"),
}
"""How an incoming call is declined."""


def transfer_status(status: int) -> str | None:
    """What the status line in a NOTIFY about a REFER says of the transfer; None while the target rings."""
    if status < 200:
        return None
    if status < 300:
        return "answered"
    if status in (486, 600):
        return "busy"
    if status == 487:  # it was rung no longer, mostly because the far end has hung up
        return "canceled"
    return "no_answer" if status in (408, 480) else "failed"
