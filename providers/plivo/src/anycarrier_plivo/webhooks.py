"""Plivo's webhooks, as events. Pure.

A kind is told by ``Event``, or by its fields; the URL says whose it is: our reference, and the target of a transfer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from anycarrier import events
from anycarrier.calls import Call, CallStatus
from anycarrier.events import CallEvent, InstructionsFor
from anycarrier.parsing import integer, moment
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_plivo.calls import end_reason, number, price, read_call

STREAMS = {"StartStream": "started", "StopStream": "stopped", "DroppedStream": "failed"}
STREAMS |= {name: name for name in ("started", "stopped", "failed")}
DIALS = {name: name for name in ("completed", "busy", "failed")}
DIALS |= {"cancel": "canceled", "timeout": "no_answer", "no-answer": "no_answer"}


def parse(request: WebhookRequest) -> CallEvent:
    fields = {**request.query(), **request.form()}
    kind = fields.get("Event", "")
    if "DialStatus" in fields or "DialAction" in fields:
        return _dial(fields)
    if "RecordUrl" in fields or "RecordingID" in fields:
        return _recording(fields)
    common, facts = _common(fields, kind), {"webhook": our_url(request)}
    if "transfer_to" in fields and kind != "Hangup":
        common = _common(fields, "transfer", fields["transfer_to"])
        call = _call(fields, CallStatus.ANSWERED, facts=facts)
        return events.InstructionsRequested(call=call, purpose=InstructionsFor.TRANSFER, **common)
    match kind:
        case "StartApp" if fields["Direction"] == "outbound":
            call = _call(fields, CallStatus.ANSWERED, facts=facts)
            return events.InstructionsRequested(call=call, purpose=InstructionsFor.ANSWERED, **common)
        case "StartApp":
            vouched = {level: level for level in "ABC"}.get(fields.get("STIRAttestation", ""))
            sent_on = number(fields.get("ForwardedFrom", "")) or None
            about = {"verified": vouched, "forwarded_from": sent_on, "headers": headers_of(fields), **common}
            return events.IncomingCall(call=_call(fields, CallStatus.RINGING, facts=facts), **about)
        case "Ring":
            return events.CallProgress(call=_call(fields, CallStatus.RINGING), **common)
        case "Hangup":
            call = _call(fields, CallStatus.ENDED, price=price(fields.get("TotalCost")))
            reason = end_reason(fields, "HangupCauseCode HangupSource CallStatus", call.direction)
            return events.CallProgress(call=call.model_copy(update={"reason": reason}), **common)
        case "MachineDetection":
            heard = {"true": "machine", "false": "human"}.get(fields["Machine"].lower(), "unknown")
            return events.MachineDetected(answered_by=heard, **common)
        case _ if kind in STREAMS and "StreamID" in fields:
            common, stream_id = _common(fields, fields["StreamID"], STREAMS[kind]), fields["StreamID"]
            return events.StreamProgress(status=STREAMS[kind], stream_id=stream_id, detail=kind, **common)
    return events.UnknownEvent(kind=kind, **_common(fields, kind, fields.get("Timestamp", "")))


def our_url(request: WebhookRequest) -> str:
    """The URL that we gave for this call, without what Plivo or a transfer has put behind it."""
    parts, reference = urlsplit(request.url), request.query().get("ref")
    return urlunsplit(parts._replace(query=urlencode({"ref": reference}) if reference else "", fragment=""))


def _common(fields: Mapping[str, str], *happening: str) -> dict[str, Any]:
    """Plivo has no ids of events: a happening is named by its call and what happened."""
    call_id = fields["CallUUID"]
    event_id = ":".join((call_id, *happening))
    return {"call_id": call_id, "reference": fields.get("ref", ""), "event_id": event_id, "raw": fields}


def _call(fields: Mapping[str, str], status: CallStatus, **more: Any) -> Call:
    """``SessionStart`` alone is in UTC: the other times are in the account's own zone, which they do not say."""
    more["carrier_status"] = fields.get("HangupCauseName") or fields.get("CallStatus")
    more |= {"reference": fields.get("ref", ""), "created_at": moment(fields.get("SessionStart"))}
    return read_call(fields, "CallUUID Direction From To", status, **more)


def _dial(fields: Mapping[str, str]) -> CallEvent:
    """``DialStatus`` is the outcome, ``DialAction`` a step on the way."""
    target, said = fields.get("DialBLegUUID", ""), fields.get("DialStatus") or fields.get("DialAction", "")
    status = DIALS.get(said) if "DialStatus" in fields else {"answer": "answered"}.get(said)
    common = _common(fields, "dial", target, said)
    if status is None:
        return events.UnknownEvent(kind=fields.get("Event") or said, **common)
    return events.TransferProgress(status=status, target_call_id=target or None, **common)


def _recording(fields: Mapping[str, str]) -> CallEvent:
    """The milliseconds are right; what ``RecordingDuration`` counts, Plivo and its users do not agree on."""
    milliseconds, recording_id = integer(fields.get("RecordingDurationMs")), fields.get("RecordingID", "")
    status, duration = ("in_progress", None) if milliseconds is None else ("completed", milliseconds / 1000)
    about = _common({"CallUUID": "", **fields}, "recording", recording_id, status) | {"url": fields.get("RecordUrl")}
    return events.RecordingProgress(status=status, recording_id=recording_id, duration=duration, **about)
