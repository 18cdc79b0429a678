"""Calls in Plivo's words: numbers, and why one ended. Pure.

https://www.plivo.com/docs/voice/troubleshooting/hangup-causes-and-sources
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price
from anycarrier.numbers import normal
from anycarrier.parsing import decimal, integer, moment

NORMAL_HANGUP = 4000
CODES = {
    EndReason.CANCELED: "1000 9000",
    EndReason.AGENT_HANGUP: "4010 4020 4030",
    EndReason.MAX_DURATION: "6000",
    EndReason.MEDIA_ERROR: "6020",
    EndReason.VOICEMAIL: "9100",
    EndReason.MARKED_AS_SPAM: "3130",
    EndReason.CONCURRENCY_LIMIT: "1020 5030",
    EndReason.INVALID_NUMBER: "2000 3050 3120",
    EndReason.UNREACHABLE: "2010 2020 3070",
    EndReason.PROVIDER_PERMISSION_DENIED: "1010 2030 2040 2050 2070 3030 3140",
    EndReason.REJECTED: "2060 3020 3040 3110 9110",
    EndReason.NO_ANSWER: "3000 6010",
    EndReason.BUSY: "3010 3100",
    EndReason.PROVIDER_UNAVAILABLE: "3080 3090 5000 5010 5020",
}
REASONS = {int(code): reason for reason, codes in CODES.items() for code in codes.split()} | dict.fromkeys(
    (*range(7011, 7035), *range(8011, 8015)), EndReason.AGENT_ERROR  # our URL, our XML
)
BY_STATUS = {"busy": "BUSY", "no-answer": "NO_ANSWER", "timeout": "NO_ANSWER", "cancel": "CANCELED"}
FAR_END = {"caller": Direction.INBOUND, "callee": Direction.OUTBOUND, "call recipient": Direction.OUTBOUND}
"""Who can hang up, and the direction of the calls of which that is the far end."""


def number(text: Any) -> str:
    """Plivo writes the same number with and without ``+``. What is no number stays as it is."""
    return normal(text) or str(text)


def end_reason(raw: Mapping[str, Any], names: str, direction: Direction) -> EndReason:
    """``names`` of the fields for code, source and status. Plivo spells a source in several ways."""
    code, source, status = (raw.get(name) for name in names.split())
    known, who = integer(code) or 0, str(source).strip().lower()
    if known != NORMAL_HANGUP:
        return REASONS.get(known) or EndReason[BY_STATUS.get(str(status).lower(), "UNKNOWN")]
    if who == "carrier" or FAR_END.get(who) is direction:
        return EndReason.USER_HANGUP
    return EndReason.AGENT_HANGUP if who in FAR_END or who in ("api request", "answer xml") else EndReason.UNKNOWN


def read_call(raw: Mapping[str, Any], names: str, status: CallStatus, /, **more: Any) -> Call:
    """``names`` of the fields for id, direction, from and to; they differ from one message to the next."""
    id_, direction, from_, to = (raw[name] for name in names.split())
    seen = Direction.INBOUND if direction == "inbound" else Direction.OUTBOUND
    return Call(id=id_, provider="plivo", direction=seen, from_=number(from_), to=number(to), status=status, **more)


def price(amount: Any) -> Price | None:
    """Plivo bills in US dollars."""
    known = decimal(amount)
    return None if known is None else Price(amount=abs(known), currency="USD")


def read_live(raw: Mapping[str, Any]) -> Call:
    status = CallStatus.RINGING if raw["call_status"] == "ringing" else CallStatus.ANSWERED
    more = {"carrier_status": raw["call_status"], "created_at": moment(raw.get("session_start")), "raw": raw}
    return read_call(raw, "call_uuid direction from to", status, **more)


def read_ended(raw: Mapping[str, Any]) -> Call:
    """Times of ended calls say their offset."""
    call = read_call(raw, "call_uuid call_direction from_number to_number", CallStatus.ENDED, raw=raw)
    times = {"created_at": "initiation_time", "answered_at": "answer_time", "ended_at": "end_time"}
    told = {"carrier_status": raw.get("hangup_cause_name"), "price": price(raw.get("total_amount"))}
    reason = end_reason(raw, "hangup_cause_code hangup_source call_state", call.direction)
    return call.model_copy(update={**{k: moment(raw.get(v)) for k, v in times.items()}, **told, "reason": reason})
