"""Telnyx's webhooks: whether they are Telnyx's, and which call event they are. Pure; the table is at the end.

Only the version 2 envelope is read, ``{"data": {"event_type", "id", "occurred_at", "payload"}}``. For other shapes that
Telnyx can be configured to send, the error says what to change.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from anycarrier import events
from anycarrier.calls import Call, CallStatus, Direction, EndReason, Price, reason_of_sip
from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.events import CallEvent
from anycarrier.parsing import decimal, moment, reading, sip_code
from anycarrier.sip import headers_of
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx.commands import ClientState, named, read_client_state, rows

E = TypeVar("E", bound=CallEvent)

TEXML = (
    "telnyx sent a TeXML form. Point the number at a call-control application instead of a TeXML one "
    "(configure_number does), then ring again"
)
VERSION_1 = (
    "telnyx sent the API version 1 webhook shape. Set the call-control application's webhook_api_version "
    'to "2" (configure_number does), then ring again'
)
FLAT = (
    "telnyx sent the flat shape of its debugger and call_events list, not a webhook. "
    "Point the application's webhook_event_url here, not an export"
)
TOLERANCE = 300.0
"""Seconds a timestamp may be off, in the past or the future: what Telnyx's own libraries allow."""

DIRECTIONS = {"incoming": Direction.INBOUND, "outgoing": Direction.OUTBOUND}
CAUSES = {
    "call_rejected": EndReason.REJECTED, "no_answer": EndReason.NO_ANSWER, "not_found": EndReason.INVALID_NUMBER,
    "originator_cancel": EndReason.CANCELED, "time_limit": EndReason.MAX_DURATION, "timeout": EndReason.NO_ANSWER,
    "user_busy": EndReason.BUSY,
}  # fmt: skip
TRANSFER_OUTCOMES = {
    **{reason: reason.value for reason in (EndReason.BUSY, EndReason.CANCELED, EndReason.NO_ANSWER)},
    **dict.fromkeys((EndReason.AGENT_HANGUP, EndReason.USER_HANGUP, EndReason.MAX_DURATION), "completed"),
}
HUMANS = ("human", "human_residence", "human_business")
# not_sure and silence: Telnyx advises to treat them as a human, which "unknown" leaves to the caller.
ANSWERED_BY = dict.fromkeys(HUMANS, "human") | {"machine": "machine", "fax_detected": "fax"}
ORDER_STATUS = {"success": "completed", "failure": "failed"}


def verify_signature(request: WebhookRequest, public_key: str | None, now: float) -> None:
    """Return if the account's key signed ``request``, else ``SignatureInvalid``. ``now`` in Unix seconds.

    Ed25519 over the timestamp and the raw body, and not older than five minutes.
    """
    key = _decoded((public_key or "").strip(), 32, "the credential's public_key (see Keys & Credentials in the portal)")
    signature = _decoded(request.header("telnyx-signature-ed25519"), 64, "header telnyx-signature-ed25519")
    timestamp = request.header("telnyx-timestamp") or ""
    if not re.fullmatch(r"[0-9]{1,15}", timestamp):
        raise _refused("header telnyx-timestamp is missing or not a number of seconds")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise _refused(f"its timestamp is more than {TOLERANCE:.0f} s off. Check this machine's clock")
    try:
        from nacl.exceptions import CryptoError
        from nacl.signing import VerifyKey
    except ImportError as missing:
        raise _refused("PyNaCl is not installed. pip install PyNaCl") from missing
    try:
        VerifyKey(key).verify(timestamp.encode() + b"|" + request.body, signature)
    except (CryptoError, ValueError, TypeError):
        raise _refused("the signature does not match") from None


def _decoded(text: str | None, size: int, what: str) -> bytes:
    try:
        value = base64.b64decode(text or "", validate=True)
    except ValueError:  # no base64, no ASCII
        value = b""
    if len(value) != size:
        raise _refused(f"{what} is missing or not {size} bytes in base64")
    return value


def _refused(why: str) -> SignatureInvalid:
    return SignatureInvalid(f"telnyx webhook refused: {why}")


def parse_event(request: WebhookRequest) -> CallEvent:
    """The event in ``request``. A kind we have no word for is an ``UnknownEvent``."""
    webhook = open_webhook(request)
    table = TRANSFER_LEG if webhook.state.transfer_of else EVENTS
    with reading(f"telnyx {webhook.kind}", request.body):
        return table.get(webhook.kind, Webhook.unknown)(webhook)


def open_webhook(request: WebhookRequest) -> Webhook:
    """A version 2 webhook, else ``MalformedMessage`` saying what was sent instead."""
    if (request.header("content-type") or "").startswith("application/x-www-form-urlencoded"):
        raise MalformedMessage(TEXML, request.body)
    body = request.json()
    data = body.get("data")
    if not isinstance(data, dict):
        version_1 = "event_type" in body or "payload" in body
        raise MalformedMessage(VERSION_1 if version_1 else "telnyx webhook without a data object", request.body)
    kind, identity, payload = data.get("event_type"), data.get("id"), data.get("payload")
    if not kind or not identity or not isinstance(payload, dict):
        flat = "webhook_id" in data or "created_at" in data or data.get("record_type") == "call_event"
        raise MalformedMessage(FLAT if flat else "telnyx webhook without event_type, id and payload", request.body)
    if not isinstance(kind, str) or not isinstance(identity, str):
        raise MalformedMessage("telnyx webhook: event_type and id must be text", request.body)
    state = read_client_state(payload.get("client_state"))
    # Before our first command on a leg there is no state; the URL we gave when dialling names the call too.
    return Webhook(kind, body, payload, state, state.reference or request.query().get("ref", ""))


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook. ``state`` is what we had sent along; a method for each event that it may be."""

    kind: str
    raw: Mapping[str, Any]
    payload: Mapping[str, Any]
    state: ClientState
    reference: str

    def text(self, name: str) -> str:
        """A field of the payload; "" when it is absent or null. The message is malformed when it is no text."""
        value = self.payload.get(name)
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} is not text")
        (value or "").encode()  # half of a character is no text either
        return value or ""

    def needed(self, name: str) -> str:
        """A field without which the event means nothing."""
        if text := self.text(name):
            return text
        raise KeyError(name)

    @property
    def direction(self) -> Direction:
        """As told, else as we noted in the state. A leg without either is none that we dialled or answered."""
        return DIRECTIONS.get(self.text("direction")) or self.state.direction or Direction.UNKNOWN

    def event(self, kind: type[E], /, **told: Any) -> E:
        """With the fields that all have. The leg a transfer dialled speaks for the call it was transferred from."""
        data = self.raw["data"]
        call_id = self.state.transfer_of or self.text("call_control_id")
        return kind(
            call_id=call_id, reference=self.reference, event_id=data["id"],
            occurred_at=moment(data.get("occurred_at")), raw=self.raw, **told,
        )  # fmt: skip

    def unknown(self) -> CallEvent:
        return self.event(events.UnknownEvent, kind=self.kind)

    def call(self, status: CallStatus, **told: Any) -> Call:
        """The call as this event describes it."""
        return Call(
            id=self.needed("call_control_id"), provider="telnyx", direction=self.direction, from_=self.text("from"),
            to=self.text("to"), status=status, reference=self.reference,
            created_at=moment(self.payload.get("start_time")), raw=dict(self.payload), **told,
        )  # fmt: skip

    def initiated(self) -> CallEvent:
        # The same event is sent for the legs we dial; answering one of those is error 90102.
        if self.text("direction") not in DIRECTIONS:
            raise TypeError("direction is neither incoming nor outgoing")
        word = self.text("state") or "initiated"
        if self.direction is Direction.OUTBOUND:
            return self.event(events.CallProgress, call=self.call(CallStatus.INITIATED, carrier_status=word))
        self.needed("to")  # a caller may withhold who rings, never whom
        headers = headers_of(dict(named(self.payload.get("custom_headers"))))
        return self.event(
            events.IncomingCall, call=self.call(CallStatus.RINGING, carrier_status=word), headers=headers,
            verified=self._attestation(), forwarded_from=self._diverted_by(),
        )  # fmt: skip

    def _attestation(self) -> str | None:
        """A, B or C; None too when Telnyx looked at the signature and it did not hold."""
        told, screened = self.payload, self.payload.get("call_screening_result")
        if not told.get("shaken_stir_attestation") and isinstance(screened, Mapping):
            told = screened  # where inbound call screening is on, it stands in there
        level = str(told.get("shaken_stir_attestation")).upper()
        held = self.payload.get("shaken_stir_validated") not in (False, "false")
        return level if held and level in ("A", "B", "C") else None

    def _diverted_by(self) -> str | None:
        """The number in a SIP ``Diversion`` header (RFC 5806): who sent the call on to us."""
        headers = named(self.payload.get("sip_headers"))
        diversions = [text for name, text in headers if name.lower() == "diversion"]
        found = re.search(r"\+[1-9]\d{6,14}", diversions[0]) if diversions else None
        return found.group() if found else None

    def answered(self) -> CallEvent:
        word = self.text("state") or "answered"
        at = moment(self.raw["data"].get("occurred_at"))
        return self.event(events.CallProgress, call=self.call(CallStatus.ANSWERED, carrier_status=word, answered_at=at))

    def hung_up(self) -> CallEvent:
        call = self.call(
            CallStatus.ENDED, carrier_status=self.text("hangup_cause") or None, reason=self._end_reason(self.direction),
            sip_code=sip_code(self.payload.get("sip_hangup_cause")),
            ended_at=moment(self.payload.get("end_time")) or moment(self.raw["data"].get("occurred_at")),
        )  # fmt: skip
        return self.event(events.CallProgress, call=call)

    def _end_reason(self, direction: Direction) -> EndReason | None:
        sip = sip_code(self.payload.get("sip_hangup_cause"))
        return end_reason(self.text("hangup_cause"), self.text("hangup_source"), sip, direction)

    def transfer_ended(self) -> CallEvent:
        """How the leg that a transfer dialled ended is what became of the transfer."""
        reason = self._end_reason(Direction.OUTBOUND)
        status = TRANSFER_OUTCOMES.get(reason, "failed") if reason else "failed"
        return self.event(events.TransferProgress, status=status, target_call_id=self.needed("call_control_id"))

    def bridged(self) -> CallEvent:
        self.needed("call_control_id")
        return self.event(events.TransferProgress, status="answered")

    def cost(self) -> CallEvent:
        """What a call was charged, for applications with ``call_cost_in_webhooks``."""
        currencies = {str(part.get("currency")) for part in rows(self.payload.get("cost_parts"))}
        if self.text("status") != "success" or len(currencies) != 1:
            return self.unknown()
        price = Price.model_validate({"amount": decimal(self.needed("total_cost")), "currency": currencies.pop()})
        # It may overtake call.hangup, which tells the reason: the lowest status changes none.
        return self.event(events.CallProgress, call=self.call(CallStatus.INITIATED, price=price))

    def digit(self) -> CallEvent:
        return self.event(events.DigitReported, digit=self.needed("digit"))

    def machine_detected(self) -> CallEvent:
        return self.event(events.MachineDetected, answered_by=ANSWERED_BY.get(self.needed("result"), "unknown"))

    def greeting_ended(self) -> CallEvent:
        beep = self.needed("result") == "beep_detected"
        return self.event(events.MachineDetected, answered_by="machine", greeting_ended=True, beep=beep)

    def stream(self) -> CallEvent:
        self.needed("call_control_id")
        status, stream_id, why = self.kind.rpartition(".")[2], self.text("stream_id"), self.text("failure_reason")
        return self.event(events.StreamProgress, status=status, stream_id=stream_id or None, detail=why or None)

    def recording_saved(self) -> CallEvent:
        begun, ended = (moment(self.payload.get(f"recording_{word}_at")) for word in ("started", "ended"))
        # WAV before MP3: the one we ask for, and the one that loses nothing.
        links = [self.payload.get(name) for name in ("recording_urls", "public_recording_urls")]
        urls = [urls.get(form) for urls in links if isinstance(urls, dict) for form in ("wav", "mp3")]
        return self.event(
            events.RecordingProgress, status="completed", recording_id=self.text("recording_id") or None,
            url=next((url for url in urls if isinstance(url, str) and url), None),
            duration=(ended - begun).total_seconds() if begun and ended else None,
            channels={"single": 1, "dual": 2}.get(self.text("channels")),
        )  # fmt: skip

    def recording_failed(self) -> CallEvent:
        return self.event(events.RecordingProgress, status="failed", recording_id=self.text("recording_id") or None)

    def order(self) -> CallEvent:
        listed = [row.get("phone_number") for row in rows(self.payload.get("phone_numbers"))]
        numbers = tuple(number for number in listed if isinstance(number, str))
        status = ORDER_STATUS.get(self.text("status"), "pending")
        return self.event(events.NumberOrderProgress, order_id=self.needed("id"), status=status, numbers=numbers)


def end_reason(cause: str, source: str, sip: int | None, direction: Direction) -> EndReason | None:
    """Our word for a call's end; None when Telnyx tells nothing, and whether it was answered decides.

    A SIP code says more than the ``hangup_cause`` beside it (``call_rejected`` with 607 is a spam block), with three
    exceptions: ``time_limit`` is our own limit, whatever code the BYE carried; 487 only confirms a cancel, and the
    cause says by whom; an answered call may end as ``normal_clearing`` with 503 from a proxy at its very end.
    """
    word = CAUSES.get(cause)
    if word is EndReason.MAX_DURATION or (sip == 487 and word is not None):
        return word
    told = reason_of_sip(sip)
    if told is not None and (told is not EndReason.PROVIDER_UNAVAILABLE or cause != "normal_clearing"):
        return told
    if cause == "normal_clearing":
        # caller and callee are the leg's own. On a leg that we neither dialled nor answered nobody is us.
        ours = {Direction.INBOUND: "callee", Direction.OUTBOUND: "caller"}.get(direction)
        return EndReason.AGENT_HANGUP if source == ours else EndReason.USER_HANGUP
    if word is None and sip is not None and sip >= 400:
        return EndReason.UNREACHABLE
    return word


EVENTS: Mapping[str, Callable[[Webhook], CallEvent]] = {
    "call.initiated": Webhook.initiated,
    "call.answered": Webhook.answered,
    "call.bridged": Webhook.bridged,
    "call.hangup": Webhook.hung_up,
    "call.cost": Webhook.cost,
    "call.dtmf.received": Webhook.digit,
    "call.machine.detection.ended": Webhook.machine_detected,
    "call.machine.premium.detection.ended": Webhook.machine_detected,
    "call.machine.greeting.ended": Webhook.greeting_ended,
    "call.machine.premium.greeting.ended": Webhook.greeting_ended,
    "call.recording.saved": Webhook.recording_saved,
    "call.recording.error": Webhook.recording_failed,
    "streaming.started": Webhook.stream,
    "streaming.stopped": Webhook.stream,
    "streaming.failed": Webhook.stream,
    "number_order.complete": Webhook.order,
}

TRANSFER_LEG: Mapping[str, Callable[[Webhook], CallEvent]] = {"call.hangup": Webhook.transfer_ended}
"""The leg that a transfer dials is no call of ours: all we want of it is how it ended. That it was answered is told by
``call.bridged`` on the call itself."""
