"""Telnyx's webhooks as call events. Pure; the table is at the end.

Only the version 2 envelope is read, ``{"data": {"event_type", "id", "occurred_at", "payload"}}``. For other shapes that
Telnyx can be configured to send, the error says what to change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price
from anycarrier.errors import MalformedMessage
from anycarrier.events import (
    CallEvent,
    CallProgress,
    DigitReported,
    IncomingCall,
    MachineDetected,
    NumberOrderProgress,
    RecordingProgress,
    StreamProgress,
    TransferProgress,
    UnknownEvent,
)
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx.call_status import end_reason, moment, sip_code
from anycarrier_telnyx.client_state import ClientState, read_client_state

_NUMBER = re.compile(r"\+[1-9]\d{6,14}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """One webhook, opened and checked. ``state`` is what we had sent along, ``raw`` the whole body."""

    kind: str
    id: str
    occurred_at: datetime | None
    payload: Mapping[str, Any]
    state: ClientState
    reference: str
    raw: Mapping[str, Any]
    body: bytes

    def text(self, name: str) -> str:
        """A field of the payload; "" when it is absent or null, ``MalformedMessage`` when it is no text."""
        value = self.payload.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.malformed(f"{name} is not text")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.malformed(f"{name} is not Unicode") from None
        return value

    def needed(self, name: str) -> str:
        """A field without which the event means nothing."""
        return self.text(name) or self._missing(name)

    def _missing(self, name: str) -> str:
        raise self.malformed(f"{name} is missing")

    def malformed(self, detail: str) -> MalformedMessage:
        """Theirs: this event cannot be read."""
        return MalformedMessage(f"telnyx {self.kind}: {detail}", self.body)

    def common(self) -> dict[str, Any]:
        """The fields every event has. The leg a transfer dialled speaks for the call it was transferred from."""
        return {
            "call_id": self.state.transfer_of or self.text("call_control_id"),
            "reference": self.reference,
            "event_id": self.id,
            "occurred_at": self.occurred_at,
            "raw": self.raw,
        }

    @property
    def direction(self) -> Direction:
        """As told, else as we noted in the state. A leg without either is none that we dialled or answered."""
        told = self.text("direction")
        if told in ("incoming", "outgoing"):
            return Direction.INBOUND if told == "incoming" else Direction.OUTBOUND
        return self.state.direction or Direction.UNKNOWN

    def call(self, status: CallStatus, **details: Any) -> Call:
        """The call as this event describes it."""
        try:
            return Call(
                id=self.needed("call_control_id"),
                provider="telnyx",
                direction=self.direction,
                from_=self.text("from"),
                to=self.text("to"),
                status=status,
                reference=self.reference,
                created_at=moment(self.payload.get("start_time")),
                raw=dict(self.payload),
                **details,
            )
        except ValidationError:
            raise self.malformed("the call's fields cannot be read") from None


def open_envelope(request: WebhookRequest) -> Envelope:
    """The envelope of a version 2 webhook, else ``MalformedMessage`` saying what was sent instead."""
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        raise MalformedMessage(
            "telnyx sent a TeXML form. Point the number at a call-control application instead of a TeXML one "
            "(configure_number does), then ring again",
            request.body,
        )
    body = request.json()
    data = body.get("data")
    if not isinstance(data, dict):
        if "event_type" in body or "payload" in body:
            raise MalformedMessage(
                "telnyx sent the API version 1 webhook shape. Set the call-control application's webhook_api_version "
                'to "2" (configure_number does), then ring again',
                request.body,
            )
        raise MalformedMessage("telnyx webhook without a data object", request.body)
    kind, identity, payload = data.get("event_type"), data.get("id"), data.get("payload")
    if not kind or not identity or not isinstance(payload, dict):
        if "webhook_id" in data or "created_at" in data or data.get("record_type") == "call_event":
            raise MalformedMessage(
                "telnyx sent the flat shape of its debugger and call_events list, not a webhook. "
                "Point the application's webhook_event_url here, not an export",
                request.body,
            )
        raise MalformedMessage("telnyx webhook without event_type, id and payload", request.body)
    if not isinstance(kind, str) or not isinstance(identity, str):
        raise MalformedMessage("telnyx webhook: event_type and id must be text", request.body)
    state = read_client_state(payload.get("client_state"))
    return Envelope(
        kind=kind,
        id=identity,
        occurred_at=moment(data.get("occurred_at")),
        payload=payload,
        state=state,
        # Before our first command on a leg there is no state; the URL we gave when dialling names the call too.
        reference=state.reference or request.query().get("ref", ""),
        raw=body,
        body=request.body,
    )


def parse_event(request: WebhookRequest) -> CallEvent:
    """The event in ``request``. A kind we have no word for is an ``UnknownEvent``."""
    envelope = open_envelope(request)
    table = TRANSFER_LEG if envelope.state.transfer_of else EVENTS
    return table.get(envelope.kind, unknown)(envelope)


def unknown(envelope: Envelope) -> CallEvent:
    return UnknownEvent(kind=envelope.kind, **envelope.common())


# --- a call of ours ----------------------------------------------------------------------------------------------


def initiated(envelope: Envelope) -> CallEvent:
    # The same event is sent for the legs we dial; answering one of those is error 90102.
    if envelope.text("direction") not in ("incoming", "outgoing"):
        raise envelope.malformed("direction is neither incoming nor outgoing")
    word = envelope.text("state") or "initiated"
    if envelope.direction is Direction.OUTBOUND:
        call = envelope.call(CallStatus.INITIATED, carrier_status=word)
        return CallProgress(call=call, **envelope.common())
    envelope.needed("to")  # a caller may withhold who rings, never whom
    return IncomingCall(
        call=envelope.call(CallStatus.RINGING, carrier_status=word),
        verified=_attestation(envelope.payload),
        forwarded_from=_diverted_by(envelope.payload.get("sip_headers")),
        headers=_custom_headers(envelope.payload.get("custom_headers")),
        **envelope.common(),
    )


def answered(envelope: Envelope) -> CallEvent:
    word = envelope.text("state") or "answered"
    call = envelope.call(CallStatus.ANSWERED, carrier_status=word, answered_at=envelope.occurred_at)
    return CallProgress(call=call, **envelope.common())


def hung_up(envelope: Envelope) -> CallEvent:
    cause = envelope.text("hangup_cause")
    sip = sip_code(envelope.payload.get("sip_hangup_cause"))
    call = envelope.call(
        CallStatus.ENDED,
        carrier_status=cause or None,
        sip_code=sip,
        ended_at=moment(envelope.payload.get("end_time")) or envelope.occurred_at,
        reason=end_reason(cause, envelope.text("hangup_source"), sip, envelope.direction),
    )
    return CallProgress(call=call, **envelope.common())


def cost(envelope: Envelope) -> CallEvent:
    """What a call was charged, for applications with ``call_cost_in_webhooks``."""
    parts = envelope.payload.get("cost_parts")
    listed = parts if isinstance(parts, list) else []
    currencies = {str(part.get("currency")) for part in listed if isinstance(part, dict)}
    if envelope.text("status") != "success" or len(currencies) != 1:
        return unknown(envelope)
    try:
        price = Price(amount=Decimal(envelope.needed("total_cost")), currency=next(iter(currencies)))
    except (ArithmeticError, ValueError):
        raise envelope.malformed("the cost cannot be read") from None
    # It may overtake call.hangup, which tells the reason: the lowest status changes none.
    return CallProgress(call=envelope.call(CallStatus.INITIATED, price=price), **envelope.common())


def bridged(envelope: Envelope) -> CallEvent:
    envelope.needed("call_control_id")
    return TransferProgress(status="answered", **envelope.common())


def digit(envelope: Envelope) -> CallEvent:
    return DigitReported(digit=envelope.needed("digit"), **envelope.common())


# --- the leg a transfer dialled ------------------------------------------------------------------------------------
TRANSFER_OUTCOMES = {
    EndReason.BUSY: "busy",
    EndReason.CANCELED: "canceled",
    EndReason.NO_ANSWER: "no_answer",
    EndReason.AGENT_HANGUP: "completed",
    EndReason.USER_HANGUP: "completed",
    EndReason.MAX_DURATION: "completed",
}
"""How the leg a transfer dialled ended -> what became of the transfer; everything else failed."""


def transfer_ended(envelope: Envelope) -> CallEvent:
    sip = sip_code(envelope.payload.get("sip_hangup_cause"))
    reason = end_reason(
        envelope.text("hangup_cause"), envelope.text("hangup_source"), sip, Direction.OUTBOUND
    )
    status = TRANSFER_OUTCOMES.get(reason, "failed") if reason else "failed"
    target = envelope.needed("call_control_id")
    return TransferProgress(status=status, target_call_id=target, **envelope.common())


# --- who picked up -----------------------------------------------------------------------------------------------

ANSWERED_BY = {
    "human": "human",
    "human_residence": "human",
    "human_business": "human",
    "machine": "machine",
    "fax_detected": "fax",
}


def machine_detected(envelope: Envelope) -> CallEvent:
    # not_sure and silence: Telnyx advises to treat them as a human, which "unknown" leaves to the caller.
    return MachineDetected(answered_by=ANSWERED_BY.get(envelope.needed("result"), "unknown"), **envelope.common())


def greeting_ended(envelope: Envelope) -> CallEvent:
    beep = envelope.needed("result") == "beep_detected"
    return MachineDetected(answered_by="machine", greeting_ended=True, beep=beep, **envelope.common())


# --- streams, recordings, orders -------------------------------------------------------------------------------------


def stream(status: str) -> Callable[[Envelope], CallEvent]:
    def parse(envelope: Envelope) -> CallEvent:
        envelope.needed("call_control_id")
        return StreamProgress(
            status=status,
            stream_id=envelope.text("stream_id") or None,
            detail=envelope.text("failure_reason") or None,
            **envelope.common(),
        )

    return parse


def recording_saved(envelope: Envelope) -> CallEvent:
    begun = moment(envelope.payload.get("recording_started_at"))
    ended = moment(envelope.payload.get("recording_ended_at"))
    return RecordingProgress(
        status="completed",
        recording_id=envelope.text("recording_id") or None,
        url=_url(envelope.payload.get("recording_urls")) or _url(envelope.payload.get("public_recording_urls")),
        duration=(ended - begun).total_seconds() if begun and ended else None,
        channels={"single": 1, "dual": 2}.get(envelope.text("channels")),
        **envelope.common(),
    )


def recording_failed(envelope: Envelope) -> CallEvent:
    return RecordingProgress(
        status="failed", recording_id=envelope.text("recording_id") or None, **envelope.common()
    )


ORDER_STATUS = {"success": "completed", "failure": "failed", "pending": "pending"}


def order(envelope: Envelope) -> CallEvent:
    rows = envelope.payload.get("phone_numbers")
    numbers = [row.get("phone_number") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return NumberOrderProgress(
        order_id=envelope.needed("id"),
        status=ORDER_STATUS.get(envelope.text("status"), "pending"),
        numbers=tuple(number for number in numbers if isinstance(number, str)),
        **envelope.common(),
    )


def _url(urls: object) -> str | None:
    """WAV before MP3: the one we ask for, and the one that loses nothing."""
    if not isinstance(urls, dict):
        return None
    return next((url for name in ("wav", "mp3") if isinstance(url := urls.get(name), str) and url), None)


def _attestation(payload: Mapping[str, Any]) -> str | None:
    """A, B or C; None too when Telnyx looked at the signature and it did not hold."""
    level = payload.get("shaken_stir_attestation")
    screened = payload.get("call_screening_result")
    if not level and isinstance(screened, Mapping):  # where inbound call screening is on, it stands in there
        level = screened.get("shaken_stir_attestation")
    if payload.get("shaken_stir_validated") in (False, "false"):
        return None
    return level.upper() if isinstance(level, str) and level.upper() in ("A", "B", "C") else None


def _custom_headers(listed: object) -> dict[str, str]:
    """``[{"name": "X-...", "value": "..."}]``; items of another shape stay in ``raw`` alone."""
    if not isinstance(listed, list):
        return {}
    named = [item for item in listed if isinstance(item, dict) and isinstance(item.get("name"), str)]
    return headers_of({item["name"]: item.get("value") for item in named})


def _diverted_by(headers: object) -> str | None:
    """The number in a SIP ``Diversion`` header (RFC 5806): who sent the call on to us."""
    for header in headers if isinstance(headers, list) else ():
        if isinstance(header, dict) and str(header.get("name")).lower() == "diversion":
            found = _NUMBER.search(str(header.get("value")))
            return found.group() if found else None
    return None


EVENTS: Mapping[str, Callable[[Envelope], CallEvent]] = {
    "call.initiated": initiated,
    "call.answered": answered,
    "call.bridged": bridged,
    "call.hangup": hung_up,
    "call.cost": cost,
    "call.dtmf.received": digit,
    "call.machine.detection.ended": machine_detected,
    "call.machine.premium.detection.ended": machine_detected,
    "call.machine.greeting.ended": greeting_ended,
    "call.machine.premium.greeting.ended": greeting_ended,
    "call.recording.saved": recording_saved,
    "call.recording.error": recording_failed,
    "streaming.started": stream("started"),
    "streaming.stopped": stream("stopped"),
    "streaming.failed": stream("failed"),
    "number_order.complete": order,
}

TRANSFER_LEG: Mapping[str, Callable[[Envelope], CallEvent]] = {"call.hangup": transfer_ended}
"""The leg that a transfer dials is no call of ours: all we want of it is how it ended. That it was answered is told by
``call.bridged`` on the call itself."""
