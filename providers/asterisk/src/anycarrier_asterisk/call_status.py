"""What Asterisk's words for a call mean: channel states, Q.850 causes, SIP statuses in ``tech_cause``. Pure."""

from collections.abc import Mapping
from typing import Any

from anycarrier import errors
from anycarrier.calls import CallStatus, EndReason, reason_of_sip

STATES = {"Ring": CallStatus.RINGING, "Ringing": CallStatus.RINGING, "Up": CallStatus.ANSWERED}  # others come before
_GONE, _WRONG, _DENIED = EndReason.PROVIDER_UNAVAILABLE, EndReason.INVALID_NUMBER, EndReason.PROVIDER_PERMISSION_DENIED
_LIMITED, _NOBODY, _ENDED = EndReason.PROVIDER_RATE_LIMITED, EndReason.UNREACHABLE, EndReason.CANCELED

BY_CAUSE: Mapping[object, EndReason] = {
    **dict.fromkeys((1, 22, 28), _WRONG), **dict.fromkeys((18, 19, 20), EndReason.NO_ANSWER), 17: EndReason.BUSY,
    **dict.fromkeys((27, 34, 38, 41, 42, 44, 58), _GONE), 21: EndReason.REJECTED, 3: _NOBODY, 16: _ENDED, 26: _ENDED,
}  # fmt: skip
"""Of a call that was not answered. 0 and 127 tell nothing."""
BY_DIAL = {"CANCEL": _ENDED, "CONGESTION": _GONE, "CHANUNAVAIL": _NOBODY}
BY_DIAL |= {"BUSY": EndReason.BUSY, "NOANSWER": EndReason.NO_ANSWER}
"""By the last Dial status, where the cause tells nothing: that of a busy channel may be 0."""
BY_SIP = {402: _DENIED, 429: _LIMITED, 485: _WRONG}  # where the library's own table of SIP says nothing
RAISED = {
    _WRONG: errors.NumberRejected, EndReason.PROVIDER_AUTH_FAILED: errors.AuthenticationFailed,
    _DENIED: errors.PermissionDenied, _LIMITED: errors.RateLimited,
}  # fmt: skip
"""What a dial raises that ended before it rang: what caller or operator can correct. A busy callee is no error."""
DECLINED = {EndReason.BUSY: "busy", _WRONG: "unallocated"}  # how Asterisk is told to decline; else "rejected"
NO_NEWS = frozenset(
    "StasisStart Dial ChannelCreated ChannelVarset ChannelDialplan ChannelCallerId ChannelConnectedLine"
    " ChannelStateChange ChannelHangupRequest ChannelEnteredBridge ChannelLeftBridge ChannelDtmfReceived".split()
)


def sip_status(event: Mapping[str, Any]) -> int | None:
    """The SIP status that a channel ended with; on a media channel ``tech_cause`` is a close code of WebSockets."""
    told = str(event.get("tech_cause", ""))
    return int(told) if told.isdecimal() and len(told) == 3 and told >= "400" else None


def reason_of(event: Mapping[str, Any], dial_status: str, *, answered: bool, ours: bool) -> EndReason:
    """Why a channel ended, by its ChannelDestroyed; {} where none came. ``ours``: we have asked for it."""
    status, by_cause = sip_status(event), BY_CAUSE.get(event.get("cause"))
    if ours:
        return EndReason.AGENT_HANGUP if answered else _ENDED
    if answered:
        return EndReason.MEDIA_ERROR if by_cause in (_GONE, _NOBODY) else EndReason.USER_HANGUP
    by_sip = BY_SIP.get(status or 0) or reason_of_sip(status)
    return by_sip or by_cause or BY_DIAL.get(dial_status) or EndReason.UNKNOWN


def words_of(event: Mapping[str, Any], dial_status: str = "") -> str:
    """Asterisk's own words for an end."""
    said = str(event.get("cause_txt") or "left Stasis")
    return f"{said}; {dial_status}" if dial_status not in ("", "ANSWER") else said
