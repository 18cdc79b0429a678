"""Each webhook of Plivo's becomes its event: the recorded ones, every cause, and what nobody has documented."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from anycarrier import Call, CallProgress, CallStatus, Direction, EndReason, IncomingCall, UnknownEvent
from anycarrier.errors import MalformedMessage, ProviderUnavailable, Replayed, SignatureInvalid
from anycarrier.events import (
    CallEvent,
    InstructionsFor,
    InstructionsRequested,
    MachineDetected,
    RecordingProgress,
    StreamProgress,
    TransferProgress,
)
from anycarrier.webhooks import WebhookRequest
from anycarrier_plivo import PlivoCredential, PlivoProvider
from providers.plivo.conftest import AUTH_ID, TOKEN, Carrier
from shared_documents import shared_path

PLIVO = PlivoProvider(PlivoCredential(auth_id=AUTH_ID, auth_token=TOKEN))
URL = "https://voice.example.com/plivo/main"
CALL = "afa6fa0c-c9c8-4abb-a673-f89f2199cc9b"
FIELDS = {"CallUUID": CALL, "Direction": "inbound", "From": "14155550123", "To": "14155550100",
          "CallStatus": "ringing", "Event": "StartApp", "SessionStart": "2026-09-16 08:33:39.219903"}  # fmt: skip


EMPTY = urlencode({**FIELDS, "CallUUID": ""}).encode()


def read(url: str = URL, **fields: str) -> CallEvent:
    return PLIVO.parse_webhook(WebhookRequest("POST", url, {}, urlencode({**FIELDS, **fields}).encode()))


def call_of(event: CallEvent) -> Call:
    assert isinstance(event, IncomingCall | CallProgress)
    return event.call


RECORDED = {
    "answer_outbound_get_2026.json": (InstructionsRequested, CallStatus.ANSWERED),
    "doc_answer_get_sip_header.json": (InstructionsRequested, CallStatus.ANSWERED),
    "hangup_outbound_completed_callee.json": (CallProgress, CallStatus.ENDED),
    "ring_outbound.json": (CallProgress, CallStatus.RINGING),
}


def recorded(name: str) -> CallEvent:
    kept = json.loads(shared_path("recordings", "plivo", "webhooks", name).read_text())
    query = kept.get("raw_query")
    url = f"{kept['url']}?{query}" if query else kept["url"]
    return PLIVO.parse_webhook(WebhookRequest(kept["method"], url, kept["headers"], kept.get("raw_body", "").encode()))


def test_every_recorded_webhook_has_an_expectation():
    assert {path.name for path in shared_path("recordings", "plivo", "webhooks").iterdir()} == RECORDED.keys()


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_webhook_becomes_its_event(name: str):
    event = recorded(name)
    kind, status = RECORDED[name]
    assert type(event) is kind and call_of(event).status is status
    call = call_of(event)
    assert call.id == event.call_id == event.raw["RequestUUID"] and call.direction is Direction.OUTBOUND
    assert call.from_.startswith("+") or not call.from_.isdigit() or len(call.from_) > 15


async def test_an_account_with_two_ids_for_a_call_keeps_its_calls(carrier: Carrier, plivo: PlivoProvider):
    """As in a sample of 2015; on the accounts of today the two are equal."""
    event = recorded("doc_answer_get_sip_header.json")
    request_id, uuid = event.raw["RequestUUID"], event.raw["CallUUID"]
    call = call_of(event)
    assert (call.id, event.call_id, call.facts["uuid"]) == (request_id, request_id, uuid) and request_id != uuid
    assert call.facts["webhook"].endswith(f"?call={request_id}"), "what names no request is known by this"
    told = {"CallUUID": uuid, "DialAction": "answer", "DialBLegUUID": "b"}
    step = PLIVO.parse_webhook(WebhookRequest("POST", call.facts["webhook"], {}, urlencode(told).encode()))
    assert isinstance(step, TransferProgress) and step.call_id == request_id

    async def facts(call_id: str) -> dict[str, str]:
        return dict(call.facts) if call_id == request_id else {}

    plivo.call_facts = facts
    carrier.on(f"DELETE /Call/{uuid}/", httpx.Response(204))
    await plivo.hang_up(request_id)
    assert carrier.asked == [f"DELETE /Call/{uuid}/"]
    live = {"call_uuid": uuid, "call_status": "ringing", "direction": "outbound", "from": "1", "to": "2"}
    carrier.on(f"GET /Call/{uuid}/", live)
    assert (await plivo.fetch_call(request_id)).id == request_id


def test_the_recorded_hang_up_has_its_reason_its_price_and_plivos_word():
    call = call_of(recorded("hangup_outbound_completed_callee.json"))
    assert (call.reason, call.carrier_status) == (EndReason.USER_HANGUP, "Normal Hangup")
    assert call.price is not None and (call.price.amount, call.price.currency) == (Decimal("0.01000"), "USD")
    assert call.created_at == datetime(2024, 9, 26, 8, 35, 10, 910772, tzinfo=UTC)
    assert call.answered_at is None and call.ended_at is None, "those are in a zone that the webhook does not name"


def test_a_number_is_the_same_with_and_without_its_plus():
    for spelling in ("14155550123", "+14155550123"):
        assert call_of(read(From=spelling)).from_ == "+14155550123"
    for odd in ("anonymous", "sip:al@pbx.example.com", "", "41455"):
        assert call_of(read(From=odd)).from_ == odd


def test_somebody_rings():
    event = read(STIRAttestation="B", ForwardedFrom="14155550199", **{"X-PH-Case": "7", "SIP-H-To": "<sip:x>"})
    assert isinstance(event, IncomingCall)
    assert (event.verified, event.forwarded_from) == ("B", "+14155550199")
    assert event.headers == {"X-PH-Case": "7"} and event.raw["SIP-H-To"] == "<sip:x>"
    assert event.call.facts == {"webhook": URL} and event.reference == ""
    for nothing in ("Not Applicable", "", "D", "AB"):
        plain = read(STIRAttestation=nothing)
        assert isinstance(plain, IncomingCall) and (plain.verified, plain.forwarded_from) == (None, None)


def test_a_dialled_call_asks_for_instructions_and_says_whose_it_is():
    event = read(f"{URL}?ref=abc&record=1", Direction="outbound", CallStatus="in-progress")
    assert isinstance(event, InstructionsRequested) and event.purpose is InstructionsFor.ANSWERED
    assert (event.reference, event.raw["record"]) == ("abc", "1")
    assert event.call.facts == {"webhook": f"{URL}?ref=abc"}, "what we put behind it is not part of it"


def test_a_transfer_asks_for_instructions_whatever_plivo_calls_it():
    for kind in ("Redirect", "Transfer", "StartApp", "Novelty"):
        event = read(f"{URL}?ref=abc&transfer_to=%2B14155550199&show=%2B14155550100", Event=kind)
        assert isinstance(event, InstructionsRequested) and event.purpose is InstructionsFor.TRANSFER
        assert event.raw["transfer_to"] == "+14155550199" and event.event_id == f"{CALL}:transfer:+14155550199"
        assert event.call.facts == {"webhook": f"{URL}?ref=abc"}
    assert type(read(f"{URL}?transfer_to=x", Event="Hangup")) is CallProgress


def test_a_webhook_by_get_is_read_from_its_query():
    query = urlencode(sorted({**FIELDS, "ref": "abc", "Direction": "outbound"}.items()))
    event = PLIVO.parse_webhook(WebhookRequest("GET", f"{URL}?{query}"))
    assert isinstance(event, InstructionsRequested) and event.reference == "abc"
    assert event.call.facts == {"webhook": f"{URL}?ref=abc"}


CAUSES = {
    EndReason.CANCELED: (1000, 9000),
    EndReason.PROVIDER_PERMISSION_DENIED: (1010, 2030, 2040, 2050, 2070, 3030, 3140),
    EndReason.CONCURRENCY_LIMIT: (1020, 5030),
    EndReason.INVALID_NUMBER: (2000, 3050, 3120),
    EndReason.UNREACHABLE: (2010, 2020, 3070),
    EndReason.REJECTED: (2060, 3020, 3040, 3110, 9110),
    EndReason.NO_ANSWER: (3000, 6010),
    EndReason.BUSY: (3010, 3100),
    EndReason.PROVIDER_UNAVAILABLE: (3080, 3090, 5000, 5010, 5020),
    EndReason.MARKED_AS_SPAM: (3130,),
    EndReason.AGENT_HANGUP: (4010, 4020, 4030),
    EndReason.MAX_DURATION: (6000,),
    EndReason.MEDIA_ERROR: (6020,),
    EndReason.AGENT_ERROR: (7011, 7012, 7021, 7034, 8011, 8012, 8013, 8014),
    EndReason.VOICEMAIL: (9100,),
    EndReason.UNKNOWN: (0, 7010, 7035, 8010, 8015, 12345),
}


@pytest.mark.parametrize(("reason", "code"), [(reason, code) for reason, codes in CAUSES.items() for code in codes])
def test_every_cause_has_its_reason(reason: EndReason, code: int):
    call = call_of(read(Event="Hangup", CallStatus="failed", HangupCauseCode=str(code), HangupCauseName="A Name"))
    assert (call.status, call.reason, call.carrier_status) == (CallStatus.ENDED, reason, "A Name")


@pytest.mark.parametrize(
    ("direction", "source", "reason"),
    [
        ("outbound", "Callee", EndReason.USER_HANGUP),
        ("outbound", "Call recipient", EndReason.USER_HANGUP),
        ("outbound", "callee", EndReason.USER_HANGUP),
        ("outbound", "Caller", EndReason.AGENT_HANGUP),
        ("inbound", "Caller", EndReason.USER_HANGUP),
        ("inbound", "Callee", EndReason.AGENT_HANGUP),
        ("inbound", "Carrier", EndReason.USER_HANGUP),
        ("inbound", "API Request", EndReason.AGENT_HANGUP),
        ("outbound", "Answer XML", EndReason.AGENT_HANGUP),
        ("inbound", "Plivo", EndReason.UNKNOWN),
        ("inbound", "Error", EndReason.UNKNOWN),
        ("inbound", "", EndReason.UNKNOWN),
    ],
)
def test_who_hung_up_normally_is_told_by_the_source(direction: str, source: str, reason: EndReason):
    told = {"Event": "Hangup", "CallStatus": "completed", "HangupCauseCode": "4000", "HangupSource": source}
    assert call_of(read(Direction=direction, **told)).reason is reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("busy", EndReason.BUSY),
        ("no-answer", EndReason.NO_ANSWER),
        ("timeout", EndReason.NO_ANSWER),
        ("cancel", EndReason.CANCELED),
        ("failed", EndReason.UNKNOWN),
        ("completed", EndReason.UNKNOWN),
    ],
)
def test_without_a_code_the_status_has_to_do(status: str, reason: EndReason):
    for code in ({}, {"HangupCauseCode": ""}, {"HangupCauseCode": "0"}, {"HangupCauseCode": "many"}):
        call = call_of(read(Event="Hangup", CallStatus=status, **code))
        assert (call.reason, call.carrier_status) == (reason, status)


@pytest.mark.parametrize(
    ("cost", "amount"),
    [("0.01", "0.01"), ("-0.01", "0.01"), ("0", "0"), ("", None), ("NaN", None), ("a lot", None)],
)
def test_only_a_price_is_a_price(cost: str, amount: str | None):
    price = call_of(read(Event="Hangup", TotalCost=cost)).price
    assert (None if price is None else price.amount) == (None if amount is None else Decimal(amount))


@pytest.mark.parametrize(
    ("said", "heard"), [("true", "machine"), ("True", "machine"), ("false", "human"), ("maybe", "unknown")]
)
def test_a_machine_is_told(said: str, heard: str):
    event = read(Event="MachineDetection", Machine=said)
    assert isinstance(event, MachineDetected) and event.answered_by == heard


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("StartStream", "started"), ("StopStream", "stopped"), ("DroppedStream", "failed"),
        ("started", "started"), ("stopped", "stopped"), ("failed", "failed"),
    ],
)  # fmt: skip
def test_a_streams_news_are_read_by_either_name(kind: str, status: str):
    event = read(Event=kind, StreamID="s1")
    assert isinstance(event, StreamProgress)
    assert (event.status, event.stream_id, event.detail, event.event_id) == (status, "s1", kind, f"{CALL}:s1:{status}")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"DialAction": "answer", "Event": "DialAnswer"}, "answered"),
        ({"DialStatus": "completed"}, "completed"),
        ({"DialStatus": "busy"}, "busy"),
        ({"DialStatus": "failed"}, "failed"),
        ({"DialStatus": "cancel"}, "canceled"),
        ({"DialStatus": "timeout"}, "no_answer"),
        ({"DialStatus": "no-answer"}, "no_answer"),
    ],
)
def test_what_became_of_a_transfer(fields: dict[str, str], status: str):
    event = read(f"{URL}?ref=abc", DialBLegUUID="b1", **fields)
    assert isinstance(event, TransferProgress)
    assert (event.status, event.target_call_id, event.reference) == (status, "b1", "abc")


@pytest.mark.parametrize("fields", [{"DialAction": "hangup"}, {"DialAction": "connected"}, {"DialStatus": "asleep"}])
def test_other_steps_of_a_transfer_are_unknown(fields: dict[str, str]):
    assert isinstance(read(**fields), UnknownEvent)


def test_a_recording_is_done_once_its_length_is_known():
    done = read(Event="", RecordUrl="https://media.plivo.com/r.wav", RecordingID="r", RecordingDurationMs="1020")
    assert isinstance(done, RecordingProgress)
    assert (done.status, done.recording_id, done.duration) == ("completed", "r", 1.02)
    for not_yet in ("-1", "", "soon"):
        begun = read(Event="", RecordUrl="https://media.plivo.com/r.wav", RecordingID="r", RecordingDurationMs=not_yet)
        assert isinstance(begun, RecordingProgress) and (begun.status, begun.duration) == ("in_progress", None)
        assert begun.event_id != done.event_id


def test_a_recording_that_names_no_call_is_read():
    body = urlencode({"RecordUrl": "https://media.plivo.com/r.wav", "RecordingID": "r", "RecordingDurationMs": "5"})
    event = PLIVO.parse_webhook(WebhookRequest("POST", f"{URL}?ref=abc", {}, body.encode()))
    assert isinstance(event, RecordingProgress) and (event.call_id, event.reference) == ("", "abc")


def test_what_is_new_is_unknown_and_what_is_about_nothing_is_malformed():
    event = read(Event="Novelty")
    assert isinstance(event, UnknownEvent) and (event.kind, event.raw["Event"]) == ("Novelty", "Novelty")
    for body in (b"", b"Event=Novelty", b"Event=StartApp&CallUUID=x", b"\xff\xfe", b"{}", EMPTY):
        with pytest.raises(MalformedMessage):
            PLIVO.parse_webhook(WebhookRequest("POST", URL, {}, body))


def test_a_refusal_is_a_bare_4xx_for_strangers_and_sounds_busy_to_a_caller():
    assert PLIVO.refuse(SignatureInvalid("no")).status == 403
    assert PLIVO.refuse(MalformedMessage("no", b"")).status == 400
    for ours in (Replayed("again"), ProviderUnavailable("plivo", "answer", "down")):
        reply = PLIVO.refuse(ours)
        assert (reply.status, reply.content_type) == (200, "application/xml")
        assert b'<Hangup reason="busy"/>' in reply.body


def test_everything_is_acknowledged_in_xml():
    event = read(Event="Ring")
    reply: Any = PLIVO.acknowledge(event)
    assert reply.body == b'<?xml version="1.0" encoding="UTF-8"?><Response/>'
