"""A call's status and end reason, from Twilio's status words, SIP codes, and call resource. Pure.

The SIP code says more than the status word and takes precedence: Twilio's ``failed`` may be a wrong number, a forbidden
one, or a broken carrier. 487 alone says nothing: it confirms that the INVITE was cancelled (RFC 3261, 15.1.2), and the
status word says by whom. https://www.twilio.com/docs/voice/api/call-resource
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price, reason_of_sip
from anycarrier.errors import MalformedMessage

PROVIDER = "twilio"
FIRST_YEAR = 2008  # Twilio's own; an earlier time is a mistake, and arithmetic on it may fail

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

WORDS = {
    CallStatus.QUEUED: "queued",
    CallStatus.INITIATED: "initiated",
    CallStatus.RINGING: "ringing",
    CallStatus.ANSWERED: "in-progress",
}

ENDINGS = {
    EndReason.BUSY: "busy",
    EndReason.REJECTED: "busy",
    EndReason.NO_ANSWER: "no-answer",
    EndReason.CANCELED: "canceled",
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
    if word == "completed" or sip_code == 487:
        return REASONS[word]
    return reason_of_sip(sip_code) or REASONS[word]


def status_word(call: Call) -> str:
    """Twilio's word for how far ``call`` has come, whichever carrier has it: what its API and callbacks would say."""
    if not call.ended:
        return WORDS[call.status]
    if call.answered_at is not None:
        return "completed"
    if call.direction is Direction.INBOUND:
        # Twilio's word for a caller who gives up, and for one who is declined; "busy" is what <Reject> may ask for.
        return "busy" if call.reason is EndReason.BUSY else "no-answer"
    return ENDINGS.get(call.reason or EndReason.UNKNOWN, "failed")


def direction(word: str) -> Direction:
    """``inbound`` or ``outbound`` seen from us; Twilio writes outbound-api, outbound-dial, trunking-originating."""
    return Direction.INBOUND if word in ("inbound", "trunking-originating") else Direction.OUTBOUND


def call_from_rest(body: Mapping[str, Any], *, reference: str = "") -> Call:
    """The call in a REST answer; ``MalformedMessage`` when it has no id or an unheard-of status."""
    sid, word = body.get("sid"), body.get("status")
    if not isinstance(sid, str) or not sid or word not in STATUSES:
        raise MalformedMessage("not a call: no sid, or an unknown status")
    status = STATUSES[word]
    ended_at = moment(body.get("end_time")) if status is CallStatus.ENDED else None
    talked = seconds(body.get("duration"))
    answered_at = moment(body.get("start_time")) if status is CallStatus.ANSWERED else None
    if word == "completed" and ended_at:
        answered_at = ended_at - timedelta(seconds=talked or 0)
    return Call(
        id=sid,
        provider=PROVIDER,
        direction=direction(str(body.get("direction") or "outbound-api")),
        from_=str(body.get("from") or ""),
        to=str(body.get("to") or ""),
        status=status,
        reference=reference,
        reason=end_reason(word, None),
        carrier_status=word,
        answered_by=ANSWERED_BY.get(str(body.get("answered_by") or "")),
        created_at=moment(body.get("date_created")),
        answered_at=answered_at,
        ended_at=ended_at,
        price=price(body.get("price"), body.get("price_unit")),
        raw=body,
    )


def price(amount: Any, currency: Any) -> Price | None:
    """Twilio writes a charge as a negative number, and none until it is known."""
    try:
        return Price(amount=abs(Decimal(str(amount))), currency=currency) if amount is not None else None
    except (ArithmeticError, ValueError):
        return None


def seconds(text: Any) -> float | None:
    """A duration; None for what is no plausible number."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if 0 <= value < 1e9 else None


def moment(text: Any) -> datetime | None:
    """Twilio writes RFC 2822 in call callbacks and REST, ISO 8601 in stream callbacks."""
    if not isinstance(text, str) or not text:
        return None
    try:
        moment = datetime.fromisoformat(text) if text[:4].isdigit() else parsedate_to_datetime(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.year >= FIRST_YEAR else None
