"""Why a leg ended, in our words: Telnyx's ``hangup_cause``, ``hangup_source`` and ``sip_hangup_cause``. Pure.

A SIP code tells more than the word beside it (``call_rejected`` with 607 is a spam block), so it wins, with three
exceptions. ``time_limit`` is our own limit, whatever the BYE carried. 487 is only the echo of a cancel, and who
cancelled is what the word says. And a call that was answered may end ``normal_clearing`` with "503": somebody's
proxy at the very end, not the reason; server-side codes therefore do not outvote that word.
"""

from __future__ import annotations

from anycarrier.calls import Direction, EndReason

BY_SIP = {
    401: EndReason.PROVIDER_AUTH_FAILED,
    403: EndReason.PROVIDER_PERMISSION_DENIED,
    404: EndReason.INVALID_NUMBER,
    407: EndReason.PROVIDER_AUTH_FAILED,
    408: EndReason.NO_ANSWER,
    410: EndReason.INVALID_NUMBER,
    480: EndReason.NO_ANSWER,
    484: EndReason.INVALID_NUMBER,
    486: EndReason.BUSY,
    487: EndReason.CANCELED,
    600: EndReason.BUSY,
    603: EndReason.REJECTED,
    604: EndReason.INVALID_NUMBER,
    607: EndReason.MARKED_AS_SPAM,
    608: EndReason.MARKED_AS_SPAM,
}

BY_WORD = {
    "call_rejected": EndReason.REJECTED,
    "no_answer": EndReason.NO_ANSWER,
    "not_found": EndReason.INVALID_NUMBER,
    "originator_cancel": EndReason.CANCELED,
    "time_limit": EndReason.MAX_DURATION,
    "timeout": EndReason.NO_ANSWER,
    "user_busy": EndReason.BUSY,
}


def sip_code(value: object) -> int | None:
    """The code in ``"486"`` or 486; None for "unspecified" and the like."""
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        number = int(value)
    else:
        return None
    return number if 100 <= number <= 699 else None


def end_reason(cause: str, source: str, sip: int | None, direction: Direction) -> EndReason | None:
    """Our word for it; None when Telnyx tells nothing, and ``calls.advance`` goes by whether it was answered."""
    word = BY_WORD.get(cause)
    if word is EndReason.MAX_DURATION or (sip == 487 and word is not None):
        return word
    if sip in BY_SIP:
        return BY_SIP[sip]
    if cause == "normal_clearing":
        return _who_hung_up(source, direction)
    if sip is not None and 500 <= sip <= 599:
        return EndReason.PROVIDER_UNAVAILABLE
    if word is None and sip is not None and sip >= 400:
        return EndReason.UNREACHABLE
    return word


def _who_hung_up(source: str, direction: Direction) -> EndReason:
    """``caller`` and ``callee`` are the leg's own: inbound, the caller is the far end; outbound, the caller is us. On a
    leg that we neither dialled nor answered nobody is us."""
    ours = {Direction.INBOUND: "callee", Direction.OUTBOUND: "caller"}.get(direction)
    return EndReason.AGENT_HANGUP if source == ours else EndReason.USER_HANGUP
