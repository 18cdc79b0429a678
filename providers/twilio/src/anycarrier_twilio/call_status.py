"""A call's status and end reason, from Twilio's status words, SIP codes, and call resource. Pure.

The SIP code says more than the status word and takes precedence: Twilio's ``failed`` may be a wrong number, a forbidden
one, or a broken carrier. 487 alone says nothing: it confirms that the INVITE was cancelled (RFC 3261, 15.1.2), and the
status word says by whom. https://www.twilio.com/docs/voice/api/call-resource
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from anycarrier.calls import Call, CallStatus, Direction, EndReason, price_of, reason_of_sip
from anycarrier.errors import MalformedMessage
from anycarrier.parsing import moment, seconds, sip_code

PROVIDER = "twilio"

REASONS = {
    # Completed means it was answered; whether we hung up, the exchange knows better than Twilio.
    "completed": EndReason.USER_HANGUP,
    "busy": EndReason.BUSY,
    "no-answer": EndReason.NO_ANSWER,
    "canceled": EndReason.CANCELED,
    "failed": EndReason.UNREACHABLE,
}

STATUSES = {
    "queued": CallStatus.QUEUED,
    "initiated": CallStatus.INITIATED,
    "ringing": CallStatus.RINGING,
    "in-progress": CallStatus.ANSWERED,
    "answered": CallStatus.ANSWERED,
    **dict.fromkeys(REASONS, CallStatus.ENDED),
}

ANSWERED_BY = {
    **{word: word for word in ("human", "fax", "unknown")},
    **dict.fromkeys("machine machine_start machine_end_beep machine_end_silence machine_end_other".split(), "machine"),
}


def end_reason(word: str, sip: int | None) -> EndReason | None:
    """Why a call ended, from Twilio's status word and the SIP code; None while it has not."""
    told = reason_of_sip(sip) if word != "completed" and sip != 487 else None
    return (told or REASONS[word]) if word in REASONS else None


def read_call(
    word: str, *, direction: object, at: datetime | None, talked: object, sip: int | None, **known: Any
) -> Call:
    """The call whose status is ``word`` since ``at``. Directions are also outbound-api, outbound-dial and the like."""
    status = STATUSES[word]
    answered_at = at if status is CallStatus.ANSWERED else None
    if word == "completed" and at:  # answered and over, also where it lasted 0 whole seconds
        answered_at = at - timedelta(seconds=seconds(talked) or 0)
    return Call(
        direction=Direction.INBOUND if direction in ("inbound", "trunking-originating") else Direction.OUTBOUND,
        status=status,
        reason=end_reason(word, sip),
        carrier_status=word,
        sip_code=sip,
        answered_at=answered_at,
        ended_at=at if status is CallStatus.ENDED else None,
        **known,
    )


def call_from_rest(body: Mapping[str, Any], provider: str = PROVIDER) -> Call:
    """The call in a REST answer; ``MalformedMessage`` when it has no id or an unheard-of status."""
    sid, word = body.get("sid"), body.get("status")
    if not isinstance(sid, str) or not sid or word not in STATUSES:
        raise MalformedMessage("not a call: no sid, or an unknown status")
    return read_call(
        word,
        direction=body.get("direction"),
        at=moment(body.get("end_time" if word in REASONS else "start_time")),
        talked=body.get("duration"),
        sip=sip_code(body.get("sip_result_code")),  # in the answers of those who speak as Twilio does
        id=sid,
        provider=provider,
        from_=str(body.get("from") or ""),
        to=str(body.get("to") or ""),
        answered_by=ANSWERED_BY.get(str(body.get("answered_by") or "")),
        created_at=moment(body.get("date_created")),
        price=price_of(body.get("price"), body.get("price_unit")),
        raw=body,
    )
