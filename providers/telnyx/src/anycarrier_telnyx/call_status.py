"""A call's status and end reason, from Telnyx's hangup fields and call record. Pure.

A SIP code says more than the ``hangup_cause`` beside it (``call_rejected`` with 607 is a spam block), so it takes
precedence, with three exceptions. ``time_limit`` is our own limit, whatever code the BYE carried. 487 only confirms a
cancel, and ``hangup_cause`` says by whom. An answered call may end as ``normal_clearing`` with 503 from a proxy at its
very end, so server errors do not outweigh that cause.

The call record holds neither a status nor the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, reason_of_sip
from anycarrier_telnyx.client_state import read_client_state

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
    told = reason_of_sip(sip)
    if told is not None and (told is not EndReason.PROVIDER_UNAVAILABLE or cause != "normal_clearing"):
        return told
    if cause == "normal_clearing":
        return _who_hung_up(source, direction)
    if word is None and sip is not None and sip >= 400:
        return EndReason.UNREACHABLE
    return word


def _who_hung_up(source: str, direction: Direction) -> EndReason:
    """``caller`` and ``callee`` are the leg's own: inbound, the caller is the far end; outbound, the caller is us. On a
    leg that we neither dialled nor answered nobody is us."""
    ours = {Direction.INBOUND: "callee", Direction.OUTBOUND: "caller"}.get(direction)
    return EndReason.AGENT_HANGUP if source == ours else EndReason.USER_HANGUP


def dialled_call(record: Mapping[str, Any], request: DialRequest) -> Call:
    """The answer to a dial, which Telnyx has taken and not yet begun."""
    return Call(
        id=record["call_control_id"],
        provider="telnyx",
        direction=Direction.OUTBOUND,
        from_=request.from_,
        to=request.to,
        status=CallStatus.INITIATED,
        reference=request.reference,
        time_limit=request.time_limit,
        created_at=moment(record.get("start_time")),
        raw=dict(record),
    )


def fetched_call(record: Mapping[str, Any], call_id: str) -> Call:
    """The call's record. ``INITIATED`` stands for "not over": whether somebody answered is not told."""
    state = read_client_state(record.get("client_state"))
    ended_at = moment(record.get("end_time"))
    return Call(
        id=str(record.get("call_control_id") or call_id),
        provider="telnyx",
        direction=state.direction or Direction.OUTBOUND,
        from_="",
        to="",
        status=CallStatus.ENDED if ended_at else CallStatus.INITIATED,
        reference=state.reference,
        created_at=moment(record.get("start_time")),
        ended_at=ended_at,
        raw=dict(record),
    )


def moment(text: object) -> datetime | None:
    """An ISO 8601 time in UTC; None for what is not one."""
    if not isinstance(text, str):
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
