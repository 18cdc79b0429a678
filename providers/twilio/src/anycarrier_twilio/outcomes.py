"""Twilio's words for how a call stands and why it ended, and ours for the same. Pure tables.

The SIP code, where there is one, says more than the status word and wins over it: Twilio's ``failed`` may be a
wrong number, a forbidden one or a broken carrier. https://www.twilio.com/docs/voice/api/call-resource
487 alone says nothing: it only confirms that the INVITE was ended (RFC 3261, 15.1.2), by a ring timer, a busy callee's
network or whoever rang, and which of them it was is what the word tells.
"""

from __future__ import annotations

from anycarrier.calls import CallStatus, Direction, EndReason

STATUSES = {
    "queued": CallStatus.QUEUED,
    "initiated": CallStatus.INITIATED,
    "ringing": CallStatus.RINGING,
    "in-progress": CallStatus.ANSWERED,
    "answered": CallStatus.ANSWERED,
    "completed": CallStatus.ENDED,
    "busy": CallStatus.ENDED,
    "failed": CallStatus.ENDED,
    "no-answer": CallStatus.ENDED,
    "canceled": CallStatus.ENDED,
}

REASONS = {
    # Completed means it was answered; whether we hung up, the exchange knows better than Twilio.
    "completed": EndReason.USER_HANGUP,
    "busy": EndReason.BUSY,
    "no-answer": EndReason.NO_ANSWER,
    "canceled": EndReason.CANCELED,
    "failed": EndReason.UNREACHABLE,
}

SIP_REASONS = {
    401: EndReason.PROVIDER_AUTH_FAILED,
    403: EndReason.PROVIDER_PERMISSION_DENIED,
    404: EndReason.INVALID_NUMBER,
    407: EndReason.PROVIDER_AUTH_FAILED,
    408: EndReason.NO_ANSWER,
    410: EndReason.INVALID_NUMBER,
    480: EndReason.NO_ANSWER,
    484: EndReason.INVALID_NUMBER,
    486: EndReason.BUSY,
    600: EndReason.BUSY,
    603: EndReason.REJECTED,
    604: EndReason.INVALID_NUMBER,
    607: EndReason.MARKED_AS_SPAM,
    608: EndReason.MARKED_AS_SPAM,
}

ANSWERED_BY = {
    "human": "human",
    "machine_start": "machine",
    "machine_end_beep": "machine",
    "machine_end_silence": "machine",
    "machine_end_other": "machine",
    "fax": "fax",
    "unknown": "unknown",
}


def end_reason(word: str, sip_code: int | None) -> EndReason | None:
    """Why a call ended, from Twilio's status word and the SIP code; None while it has not."""
    if STATUSES.get(word) is not CallStatus.ENDED:
        return None
    if word == "completed" or sip_code is None:
        return REASONS[word]
    if sip_code in SIP_REASONS:
        return SIP_REASONS[sip_code]
    if 500 <= sip_code < 600:
        return EndReason.PROVIDER_UNAVAILABLE
    return REASONS[word]


def direction(word: str) -> Direction:
    """``inbound`` or ``outbound`` seen from us; Twilio writes outbound-api, outbound-dial, trunking-originating."""
    return Direction.INBOUND if word in ("inbound", "trunking-originating") else Direction.OUTBOUND
