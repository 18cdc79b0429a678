"""Vonage's JSON of calls, in webhooks and REST answers, as events and calls. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, price_of, reason_of_sip
from anycarrier.networks import on_domain
from anycarrier.numbers import normal
from anycarrier.parsing import fingerprint, moment, reading, sip_code
from anycarrier.rest import given
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_vonage.credential import DOMAINS
from anycarrier_vonage.frames import KEYS

UNDER_WAY = {"started": CallStatus.INITIATED, "ringing": CallStatus.RINGING, "answered": CallStatus.ANSWERED}
ENDED = {
    "busy": EndReason.BUSY, "cancelled": EndReason.CANCELED, "completed": EndReason.USER_HANGUP,
    "failed": EndReason.PROVIDER_UNAVAILABLE, "rejected": EndReason.REJECTED, "timeout": EndReason.NO_ANSWER,
    "unanswered": EndReason.NO_ANSWER,
}  # fmt: skip
DETAILS = {
    "cannot_route": EndReason.PROVIDER_PERMISSION_DENIED, "invalid_number": EndReason.INVALID_NUMBER,
    "number_out_of_service": EndReason.UNREACHABLE, "unavailable": EndReason.UNREACHABLE,
}  # fmt: skip  # those that say another thing than the status

TARGET = "leg=target"  # in the query of the event URL of the leg that a caller is handed to: nothing else names it
TARGET_LEG = {"unanswered": "no_answer", "timeout": "no_answer", "cancelled": "canceled", "rejected": "failed"}
SOCKET = {"started": "", "ringing": "", "answered": "started", "completed": "stopped", "disconnected": "stopped"}
DIRECTIONS = {"inbound": Direction.INBOUND, "outbound": Direction.OUTBOUND}


def parse(request: WebhookRequest, base_url: str | None) -> events.CallEvent:
    raw = request.fields()
    with reading("vonage webhook", request.body):
        call_id = str(raw.get("call_uuid") or raw.get("uuid") or "")
        status, state = str(raw.get("status") or ""), raw.get("sub_state")
        about = (call_id, status, state, raw.get("recording_uuid"), raw.get("timestamp"))
        said: dict[str, Any] = {
            "reference": request.query().get("ref", ""),
            "event_id": ":".join(str(part) for part in about if part) if call_id else fingerprint(raw),
            "occurred_at": moment(raw.get("timestamp")),
            "raw": raw,
        }
        if str(raw.get("to")).startswith(("ws:", "wss:")):
            return socket_event(raw, status, said)
        if "recording_url" in raw:  # it names no call; its URL is its id, and says in which region the file is
            began, ended, url = moment(raw.get("start_time")), moment(raw.get("end_time")), str(raw["recording_url"])
            lasted = (ended - began).total_seconds() if began and ended else None
            return events.RecordingProgress(status="completed", recording_id=url, url=url, duration=lasted, **said)
        if TARGET in request.url.partition("?")[2].split("&"):
            if status in {*ENDED, "answered"}:
                return events.TransferProgress(status=TARGET_LEG.get(status, status), target_call_id=call_id, **said)
            return events.UnknownEvent(kind=f"target {status}", **said)
        said["call_id"] = call_id
        if status in ("human", "machine"):
            over = state in ("beep_start", "beep_timeout")
            return events.MachineDetected(answered_by=status, greeting_ended=over, beep=state == "beep_start", **said)
        if call_id and (status in UNDER_WAY or status in ENDED):
            return events.CallProgress(call=call_of(raw, said["reference"]), **said)
        dtmf = raw.get("dtmf")  # an object; text in 2019
        digits = str((dtmf.get("digits") if isinstance(dtmf, Mapping) else dtmf) or "")
        if KEYS.fullmatch(digits):
            return events.DigitReported(digit=digits, **said)
        if not status and call_id and number(raw.get("to")) and not raw.keys() & {"speech", "dtmf", "type", "reason"}:
            return incoming(raw, call_id, said, base_url)
        kind = status or str(raw.get("type") or ("notify" if "payload" in raw else "error" if "reason" in raw else ""))
        return events.UnknownEvent(kind=kind, **said)


def incoming(raw: dict[str, Any], call_id: str, said: dict[str, Any], base_url: str | None) -> events.IncomingCall:
    """The answer webhook. ``region_url`` is where all that is asked of the call must go."""
    region, to = str(raw.get("region_url") or "").rstrip("/"), number(raw["to"])
    facts = given({"region": region if trusted(region, base_url) else "", "line": to})
    call = Call(
        id=call_id, provider="vonage", direction=Direction.INBOUND, to=to,
        from_=number(raw.get("from") or raw.get("from_user")), status=CallStatus.RINGING,
        facts=facts, raw=raw,
    )  # fmt: skip
    sip = {name.removeprefix("SipHeader_"): value for name, value in raw.items() if name.startswith("SipHeader_")}
    return events.IncomingCall(call=call, headers=headers_of(sip), **said)


def trusted(url: str, base_url: str | None) -> bool:
    return on_domain(url, *DOMAINS) or bool(base_url and f"{url}/".startswith(f"{base_url}/"))


def socket_event(raw: Mapping[str, Any], status: str, said: dict[str, Any]) -> events.CallEvent:
    """The socket is a leg with a uuid and statuses of its own: they say nothing about the call."""
    headers = raw.get("headers")
    said["call_id"] = str(headers.get("call", "")) if isinstance(headers, Mapping) else ""
    if state := SOCKET.get(status, "failed" if status in ENDED else ""):
        return events.StreamProgress(status=state, stream_id=str(raw.get("uuid")), detail=status, **said)
    return events.UnknownEvent(kind=f"websocket {status}", **said)


def call_of(raw: Mapping[str, Any], reference: str = "", facts: Mapping[str, str] | None = None) -> Call:
    """A call as REST answers and webhooks describe it."""
    word, detail, code = str(raw["status"]), str(raw.get("detail") or ""), sip_code(raw.get("sip_code"))
    reason = ENDED.get(word)
    if word in ENDED and word != "completed":
        reason = reason_of_sip(code) or DETAILS.get(detail) or reason
    return Call(
        id=str(raw["uuid"]), provider="vonage", direction=DIRECTIONS.get(str(raw.get("direction")), Direction.UNKNOWN),
        from_=number(raw.get("from")), to=number(raw.get("to")), reference=reference, reason=reason,
        status=CallStatus.ENDED if reason else UNDER_WAY.get(word, CallStatus.INITIATED), sip_code=code,
        carrier_status=f"{word}: {detail}" if detail else word, price=price_of(raw.get("price"), "EUR"),
        answered_at=moment(raw.get("start_time")) if word in ("answered", "completed") else None,
        ended_at=moment(raw.get("end_time")) if reason else None, facts=facts or {}, raw=dict(raw),
    )  # fmt: skip


def number(party: Any) -> str:
    """Vonage writes numbers without their plus; names, and numbers that are none, stay as they are."""
    party = party[0] if isinstance(party, list) and party else party
    if isinstance(party, Mapping):
        party = party.get("number") or party.get("uri")
    return normal(party or "") or str(party or "")
