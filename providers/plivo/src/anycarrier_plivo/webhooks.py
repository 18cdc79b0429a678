"""Calls in Plivo's words: its webhooks as events, what it answers about a call, and why one ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price
from anycarrier.events import CallEvent, InstructionsFor
from anycarrier.numbers import normal
from anycarrier.parsing import decimal, integer, moment
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest

STREAMS = {"StartStream": "started", "StopStream": "stopped", "DroppedStream": "failed"}
STREAMS |= {name: name for name in ("started", "stopped", "failed")}
DIALS = {name: name for name in ("completed", "busy", "failed")} | {"cancel": "canceled", "-answer": "answered"}
DIALS |= dict.fromkeys(("timeout", "no-answer"), "no_answer")

ANSWERED, ENDED, NORMAL_HANGUP = CallStatus.ANSWERED, CallStatus.ENDED, 4000
CODES = {  # https://www.plivo.com/docs/voice/troubleshooting/hangup-causes-and-sources
    EndReason.CANCELED: "1000 9000", EndReason.AGENT_HANGUP: "4010 4020 4030", EndReason.MAX_DURATION: "6000",
    EndReason.MEDIA_ERROR: "6020", EndReason.VOICEMAIL: "9100", EndReason.MARKED_AS_SPAM: "3130",
    EndReason.CONCURRENCY_LIMIT: "1020 5030", EndReason.INVALID_NUMBER: "2000 3050 3120",
    EndReason.UNREACHABLE: "2010 2020 3070", EndReason.REJECTED: "2060 3020 3040 3110 9110",
    EndReason.PROVIDER_PERMISSION_DENIED: "1010 2030 2040 2050 2070 3030 3140", EndReason.NO_ANSWER: "3000 6010",
    EndReason.BUSY: "3010 3100", EndReason.PROVIDER_UNAVAILABLE: "3080 3090 5000 5010 5020",
}  # fmt: skip
REASONS = {int(code): reason for reason, codes in CODES.items() for code in codes.split()}
REASONS |= dict.fromkeys((*range(7011, 7035), *range(8011, 8015)), EndReason.AGENT_ERROR)  # our URL, our XML
BY_STATUS = {"busy": "BUSY", "no-answer": "NO_ANSWER", "timeout": "NO_ANSWER", "cancel": "CANCELED"}
FAR_END = {"caller": Direction.INBOUND, "callee": Direction.OUTBOUND, "call recipient": Direction.OUTBOUND}
"""Who can hang up, and the direction of the calls of which that is the far end."""


def parse(request: WebhookRequest) -> CallEvent:
    fields = {**request.query(), **request.form()}
    kind, call_id, uuid = fields.get("Event", ""), _id(fields), fields.get("CallUUID", "")
    if "DialStatus" in fields or "DialAction" in fields:
        return _dial(fields)
    if "RecordUrl" in fields or "RecordingID" in fields:
        return _recording(fields)
    common, renamed = _common(fields, kind), {} if call_id == uuid else {"call": call_id}
    query = urlencode({name: value for name, value in fields.items() if name == "ref"} | renamed)
    # The URL that we gave for this call, without what Plivo or a transfer has put behind it.
    facts = {"webhook": urlunsplit(urlsplit(request.url)._replace(query=query, fragment=""))}
    facts |= {"uuid": uuid} if renamed else {}
    match kind:
        case _ if kind != "Hangup" and "transfer_to" in fields:
            common, call = _common(fields, "transfer", fields["transfer_to"]), _call(fields, ANSWERED, facts)
            return events.InstructionsRequested(call=call, purpose=InstructionsFor.TRANSFER, **common)
        case "StartApp" if fields["Direction"] == "outbound":
            call = _call(fields, ANSWERED, facts)
            return events.InstructionsRequested(call=call, purpose=InstructionsFor.ANSWERED, **common)
        case "StartApp":
            common["verified"] = {level: level for level in "ABC"}.get(fields.get("STIRAttestation", ""))
            common |= {"forwarded_from": normal(fields.get("ForwardedFrom")), "headers": headers_of(fields)}
            return events.IncomingCall(call=_call(fields, CallStatus.RINGING, facts), **common)
        case "Ring":
            return events.CallProgress(call=_call(fields, CallStatus.RINGING, facts), **common)
        case "Hangup":
            call = _ended(_call(fields, ENDED, facts), fields, "HangupCauseCode HangupSource CallStatus TotalCost")
            return events.CallProgress(call=call, **common)
        case "MachineDetection":
            heard = {"true": "machine", "false": "human"}.get(fields["Machine"].lower(), "unknown")
            return events.MachineDetected(answered_by=heard, **common)
        case _ if kind in STREAMS and "StreamID" in fields:
            common, stream_id = _common(fields, fields["StreamID"], STREAMS[kind]), fields["StreamID"]
            return events.StreamProgress(status=STREAMS[kind], stream_id=stream_id, detail=kind, **common)
    return events.UnknownEvent(kind=kind, **_common(fields, kind, fields.get("Timestamp", "")))


def _id(fields: Mapping[str, str]) -> str:
    """What ``dial`` was told, which old accounts have not as ``CallUUID``; where no webhook says it, our URL does."""
    dialled = fields.get("call") or (fields.get("RequestUUID") if fields.get("Direction") == "outbound" else "")
    return dialled or fields.get("CallUUID", "")


def _common(fields: Mapping[str, str], *happening: str) -> dict[str, Any]:
    """Plivo has no ids of events: a happening is named by its call and what happened."""
    call_id, reference = _id(fields), fields.get("ref", "")
    if not call_id and "recording" not in happening:
        raise KeyError("CallUUID")
    return {"call_id": call_id, "reference": reference, "event_id": ":".join((call_id, *happening)), "raw": fields}


def _call(fields: Mapping[str, str], status: CallStatus, facts: Mapping[str, str]) -> Call:
    """``SessionStart`` alone is in UTC: the other times are in the account's own zone, which they do not say."""
    more: dict[str, Any] = {"facts": facts, "carrier_status": fields.get("HangupCauseName") or fields.get("CallStatus")}
    more |= {"reference": fields.get("ref", ""), "created_at": moment(fields.get("SessionStart"))}
    return _read({**fields, "CallUUID": _id(fields)}, "CallUUID Direction From To", status, **more)


def _dial(fields: Mapping[str, str]) -> CallEvent:  # DialStatus is the outcome, DialAction a step on the way
    target, said = fields.get("DialBLegUUID", ""), fields.get("DialStatus") or f"-{fields.get('DialAction')}"
    common = _common(fields, "dial", target, said)
    if said in DIALS:
        return events.TransferProgress(status=DIALS[said], target_call_id=target or None, **common)
    return events.UnknownEvent(kind=fields.get("Event") or said, **common)


def _recording(fields: Mapping[str, str]) -> CallEvent:
    """The milliseconds are right; what ``RecordingDuration`` counts, Plivo and its users do not agree on."""
    milliseconds, recording_id = integer(fields.get("RecordingDurationMs")), fields.get("RecordingID", "")
    status, duration = ("in_progress", None) if milliseconds is None else ("completed", milliseconds / 1000)
    about = _common(fields, "recording", recording_id, status) | {"url": fields.get("RecordUrl")}
    return events.RecordingProgress(status=status, recording_id=recording_id, duration=duration, **about)


def _read(raw: Mapping[str, Any], names: str, status: CallStatus, /, **more: Any) -> Call:
    """``names`` of the fields for id, direction and the two numbers, which come with and without ``+``."""
    id_, direction, *parties = (raw[name] for name in names.split())
    seen = Direction.INBOUND if direction == "inbound" else Direction.OUTBOUND
    from_, to = (normal(party) or str(party) for party in parties)
    return Call(id=id_, provider="plivo", direction=seen, from_=from_, to=to, status=status, **more)


def _ended(call: Call, raw: Mapping[str, Any], names: str) -> Call:
    """With reason and price in US dollars, from the fields for code, source, status and cost. Spelling varies."""
    code, source, status, cost = (raw.get(name) for name in names.split())
    known, who, amount = integer(code) or 0, str(source).strip().lower(), decimal(cost)
    reason = REASONS.get(known) or EndReason[BY_STATUS.get(str(status).lower(), "UNKNOWN")]
    if known == NORMAL_HANGUP and (who == "carrier" or FAR_END.get(who) is call.direction):
        reason = EndReason.USER_HANGUP
    elif known == NORMAL_HANGUP and (who in FAR_END or who in ("api request", "answer xml")):
        reason = EndReason.AGENT_HANGUP
    price = None if amount is None else Price(amount=abs(amount), currency="USD")
    return call.model_copy(update={"reason": reason, "price": price})


def read_live(raw: Mapping[str, Any]) -> Call:
    status = CallStatus.RINGING if raw["call_status"] == "ringing" else CallStatus.ANSWERED
    more = {"carrier_status": raw["call_status"], "created_at": moment(raw.get("session_start")), "raw": raw}
    return _read(raw, "call_uuid direction from to", status, **more)


def read_ended(raw: Mapping[str, Any]) -> Call:  # its times say their offset
    times = {"created_at": "initiation_time", "answered_at": "answer_time", "ended_at": "end_time"}
    more: dict[str, Any] = {ours: moment(raw.get(theirs)) for ours, theirs in times.items()} | {"raw": raw}
    more["carrier_status"] = raw.get("hangup_cause_name")
    call = _read(raw, "call_uuid call_direction from_number to_number", ENDED, **more)
    return _ended(call, raw, "hangup_cause_code hangup_source call_state total_amount")
