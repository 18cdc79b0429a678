"""Which call event each kind of Telnyx webhook is. Pure; the table is at the end."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from anycarrier.calls import CallStatus, Direction, EndReason
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
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx.envelope import Happening, moment, open_envelope
from anycarrier_telnyx.hangup_causes import end_reason, sip_code

_NUMBER = re.compile(r"\+[1-9]\d{6,14}")


def parse_event(request: WebhookRequest) -> CallEvent:
    """The event in ``request``. A kind we have no word for is an ``UnknownEvent``."""
    happening = open_envelope(request)
    table = TRANSFER_LEG if happening.state.transfer_of else EVENTS
    return table.get(happening.kind, unknown)(happening)


def unknown(happening: Happening) -> CallEvent:
    return UnknownEvent(kind=happening.kind, **happening.common())


# --- a call of ours ----------------------------------------------------------------------------------------------


def initiated(happening: Happening) -> CallEvent:
    # The same event is sent for the legs we dial; answering one of those is error 90102.
    if happening.text("direction") not in ("incoming", "outgoing"):
        raise happening.malformed("direction is neither incoming nor outgoing")
    word = happening.text("state") or "initiated"
    if happening.direction is Direction.OUTBOUND:
        call = happening.call(CallStatus.INITIATED, carrier_status=word)
        return CallProgress(call=call, **happening.common())
    happening.needed("to")  # a caller may withhold who rings, never whom
    return IncomingCall(
        call=happening.call(CallStatus.RINGING, carrier_status=word),
        verified=_attestation(happening.payload),
        forwarded_from=_diverted_by(happening.payload.get("sip_headers")),
        **happening.common(),
    )


def answered(happening: Happening) -> CallEvent:
    word = happening.text("state") or "answered"
    call = happening.call(CallStatus.ANSWERED, carrier_status=word, answered_at=happening.occurred_at)
    return CallProgress(call=call, **happening.common())


def hung_up(happening: Happening) -> CallEvent:
    cause = happening.text("hangup_cause")
    sip = sip_code(happening.payload.get("sip_hangup_cause"))
    call = happening.call(
        CallStatus.ENDED,
        carrier_status=cause or None,
        sip_code=sip,
        ended_at=moment(happening.payload.get("end_time")) or happening.occurred_at,
        reason=end_reason(cause, happening.text("hangup_source"), sip, happening.direction),
    )
    return CallProgress(call=call, **happening.common())


def bridged(happening: Happening) -> CallEvent:
    happening.needed("call_control_id")
    return TransferProgress(status="answered", **happening.common())


def digit(happening: Happening) -> CallEvent:
    return DigitReported(digit=happening.needed("digit"), **happening.common())


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


def transfer_ended(happening: Happening) -> CallEvent:
    sip = sip_code(happening.payload.get("sip_hangup_cause"))
    reason = end_reason(
        happening.text("hangup_cause"), happening.text("hangup_source"), sip, Direction.OUTBOUND
    )
    status = TRANSFER_OUTCOMES.get(reason, "failed") if reason else "failed"
    target = happening.needed("call_control_id")
    return TransferProgress(status=status, target_call_id=target, **happening.common())


# --- who picked up -----------------------------------------------------------------------------------------------

ANSWERED_BY = {
    "human": "human",
    "human_residence": "human",
    "human_business": "human",
    "machine": "machine",
    "fax_detected": "fax",
}


def machine_detected(happening: Happening) -> CallEvent:
    # not_sure and silence: Telnyx advises to treat them as a human, which "unknown" leaves to the caller.
    return MachineDetected(answered_by=ANSWERED_BY.get(happening.needed("result"), "unknown"), **happening.common())


def greeting_ended(happening: Happening) -> CallEvent:
    beep = happening.needed("result") == "beep_detected"
    return MachineDetected(answered_by="machine", greeting_ended=True, beep=beep, **happening.common())


# --- streams, recordings, orders -------------------------------------------------------------------------------------


def stream(status: str) -> Callable[[Happening], CallEvent]:
    def parse(happening: Happening) -> CallEvent:
        happening.needed("call_control_id")
        return StreamProgress(
            status=status,
            stream_id=happening.text("stream_id") or None,
            detail=happening.text("failure_reason") or None,
            **happening.common(),
        )

    return parse


def recording_saved(happening: Happening) -> CallEvent:
    begun = moment(happening.payload.get("recording_started_at"))
    ended = moment(happening.payload.get("recording_ended_at"))
    return RecordingProgress(
        status="completed",
        recording_id=happening.text("recording_id") or None,
        url=_url(happening.payload.get("recording_urls")) or _url(happening.payload.get("public_recording_urls")),
        duration=(ended - begun).total_seconds() if begun and ended else None,
        channels={"single": 1, "dual": 2}.get(happening.text("channels")),
        **happening.common(),
    )


def recording_failed(happening: Happening) -> CallEvent:
    return RecordingProgress(
        status="failed", recording_id=happening.text("recording_id") or None, **happening.common()
    )


ORDER_STATUS = {"success": "completed", "failure": "failed", "pending": "pending"}


def order(happening: Happening) -> CallEvent:
    rows = happening.payload.get("phone_numbers")
    numbers = [row.get("phone_number") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return NumberOrderProgress(
        order_id=happening.needed("id"),
        status=ORDER_STATUS.get(happening.text("status"), "pending"),
        numbers=tuple(number for number in numbers if isinstance(number, str)),
        **happening.common(),
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


def _diverted_by(headers: object) -> str | None:
    """The number in a SIP ``Diversion`` header (RFC 5806): who sent the call on to us."""
    for header in headers if isinstance(headers, list) else ():
        if isinstance(header, dict) and str(header.get("name")).lower() == "diversion":
            found = _NUMBER.search(str(header.get("value")))
            return found.group() if found else None
    return None


EVENTS: Mapping[str, Callable[[Happening], CallEvent]] = {
    "call.initiated": initiated,
    "call.answered": answered,
    "call.bridged": bridged,
    "call.hangup": hung_up,
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

TRANSFER_LEG: Mapping[str, Callable[[Happening], CallEvent]] = {"call.hangup": transfer_ended}
"""The leg that a transfer dials is no call of ours: all we want of it is how it ended. That it was answered is told by
``call.bridged`` on the call itself."""
