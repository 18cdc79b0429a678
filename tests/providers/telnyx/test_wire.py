"""Webhooks become call events: the captured ones, each kind in the contract, and whatever else is thrown at us."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.calls import CallStatus, Direction, EndReason, Price, advance
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
from anycarrier.webhooks import WebhookRequest
from anycarrier_telnyx.commands import ClientState, read_client_state
from anycarrier_telnyx.wire import EVENTS, parse_event
from openapi import Spec
from shared_documents import shared_path

CALL = "v3:call-of-the-tests"
OURS = ClientState(reference="0123abcd", direction=Direction.OUTBOUND).encode()
LEG_B = ClientState(reference="0123abcd", direction=Direction.OUTBOUND, transfer_of="v3:leg-a").encode()


def posted(body: object, url: str = "https://voice.example.com/telnyx/main") -> WebhookRequest:
    return WebhookRequest("POST", url, {}, body if isinstance(body, bytes) else json.dumps(body).encode())


def event(kind: str, /, **payload: Any) -> CallEvent:
    common = {
        "call_control_id": CALL, "call_leg_id": "leg", "call_session_id": "session", "connection_id": "28112",
        "client_state": OURS, "from": "+14155550100", "to": "+14155550123", "start_time": "2026-01-02T03:04:00Z",
    }
    data = {
        "record_type": "event", "event_type": kind, "id": "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",
        "occurred_at": "2026-01-02T03:04:05.678901Z", "payload": {**common, **payload},
    }
    parsed = parse_event(posted({"data": data, "meta": {"attempt": 1}}))
    assert parsed.event_id == data["id"]
    assert parsed.occurred_at == datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert parsed.raw["data"]["payload"] == {**common, **payload}
    return parsed


def recording(name: str) -> WebhookRequest:
    return posted(shared_path("recordings", "telnyx", "webhooks", name).read_bytes())


# --- captured ------------------------------------------------------------------------------------------------------


def test_the_captured_ring_is_an_incoming_call():
    capture = recording("inbound_pstn_call_initiated.json")
    ring = parse_event(capture)
    assert isinstance(ring, IncomingCall)
    told = capture.json()["data"]
    assert ring.call_id == ring.call.id == told["payload"]["call_control_id"]
    assert ring.event_id == told["id"]
    assert (ring.call.from_, ring.call.to) == ("+18125550165", "+13055550176")
    assert (ring.call.direction, ring.call.status) == (Direction.INBOUND, CallStatus.RINGING)
    assert ring.call.carrier_status == "parked"
    assert ring.call.created_at == datetime(2025, 11, 23, 3, 30, 0, 76316, UTC)


def test_the_captured_answer_tells_no_direction_and_none_is_guessed():
    answer = parse_event(recording("inbound_pstn_call_answered.json"))
    assert isinstance(answer, CallProgress)
    assert (answer.call.status, answer.call.direction) == (CallStatus.ANSWERED, Direction.UNKNOWN)
    assert answer.call.answered_at == answer.occurred_at == datetime(2025, 11, 23, 3, 30, 0, 996306, UTC)


def test_the_captured_hangup_was_the_caller_s():
    over = parse_event(recording("inbound_pstn_call_hangup.json"))
    assert isinstance(over, CallProgress)
    assert (over.call.status, over.call.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
    assert (over.call.carrier_status, over.call.sip_code) == ("normal_clearing", 200)
    assert over.call.ended_at == datetime(2025, 11, 23, 3, 30, 30, 816307, UTC)


def test_the_captured_order_is_complete():
    capture = recording("number_order_complete.json")
    order = parse_event(capture)
    assert isinstance(order, NumberOrderProgress)
    assert (order.order_id, order.status) == (capture.json()["data"]["payload"]["id"], "completed")
    assert order.numbers == ("+1312XXXXXXX",)


# --- each kind -----------------------------------------------------------------------------------------------------


def test_a_leg_we_dialled_is_progress_and_not_an_incoming_call():
    dialled = event("call.initiated", direction="outgoing", state="bridging")
    assert isinstance(dialled, CallProgress)
    assert (dialled.call.status, dialled.call.direction) == (CallStatus.INITIATED, Direction.OUTBOUND)
    assert dialled.reference == dialled.call.reference == "0123abcd"


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        ({"shaken_stir_attestation": "A", "shaken_stir_validated": True}, "A"),
        ({"shaken_stir_attestation": "b"}, "B"),
        ({"shaken_stir_attestation": "A", "shaken_stir_validated": False}, None),
        ({"shaken_stir_attestation": ""}, None),
        ({"shaken_stir_attestation": None}, None),
        ({"call_screening_result": {"action": "flag_calls", "shaken_stir_attestation": "A"}}, "A"),
        ({"call_screening_result": {"shaken_stir_attestation": "A"}, "shaken_stir_attestation": "C"}, "C"),
        ({"call_screening_result": {"shaken_stir_attestation": "A"}, "shaken_stir_validated": False}, None),
        ({"call_screening_result": {"action": "flag_calls", "shaken_stir_attestation": None}}, None),
        ({"call_screening_result": "flag_calls"}, None),
        ({}, None),
    ],
)
def test_attestation_counts_only_when_it_held(fields, level):
    assert event("call.initiated", direction="incoming", client_state=None, **fields).verified == level


@pytest.mark.parametrize("caller", [None, "", "anonymous", "sip:desk@pbx.example.com"])
def test_a_call_from_somebody_without_a_number_still_rings(caller):
    ring = event("call.initiated", direction="incoming", client_state=None, **{"from": caller})
    assert isinstance(ring, IncomingCall)
    assert ring.call.from_ == (caller or "")


def test_a_forwarded_call_names_who_sent_it_on():
    headers = [{"name": "X-Other", "value": "1"}, {"name": "Diversion", "value": "<sip:+14155550188@sip.example.com>"}]
    ring = event("call.initiated", direction="incoming", client_state=None, sip_headers=headers)
    assert ring.forwarded_from == "+14155550188"


def test_an_outbound_call_s_later_events_know_their_direction_from_what_travelled_along():
    answered = event("call.answered")
    assert (answered.call.direction, answered.call.status) == (Direction.OUTBOUND, CallStatus.ANSWERED)
    over = event("call.hangup", hangup_cause="normal_clearing", hangup_source="callee", sip_hangup_cause="200")
    assert over.call.reason is EndReason.USER_HANGUP
    assert over.call.reference == "0123abcd"


@pytest.mark.parametrize(
    ("kind", "result", "who", "ended", "beep"),
    [
        ("call.machine.detection.ended", "human", "human", False, False),
        ("call.machine.detection.ended", "machine", "machine", False, False),
        ("call.machine.detection.ended", "not_sure", "unknown", False, False),
        ("call.machine.premium.detection.ended", "human_residence", "human", False, False),
        ("call.machine.premium.detection.ended", "human_business", "human", False, False),
        ("call.machine.premium.detection.ended", "machine", "machine", False, False),
        ("call.machine.premium.detection.ended", "silence", "unknown", False, False),
        ("call.machine.premium.detection.ended", "fax_detected", "fax", False, False),
        ("call.machine.premium.detection.ended", "a word of tomorrow", "unknown", False, False),
        ("call.machine.greeting.ended", "beep_detected", "machine", True, True),
        ("call.machine.greeting.ended", "ended", "machine", True, False),
        ("call.machine.greeting.ended", "not_sure", "machine", True, False),
        ("call.machine.premium.greeting.ended", "beep_detected", "machine", True, True),
        ("call.machine.premium.greeting.ended", "no_beep_detected", "machine", True, False),
    ],
)
def test_who_picked_up(kind, result, who, ended, beep):
    detected = event(kind, result=result)
    assert isinstance(detected, MachineDetected)
    assert (detected.answered_by, detected.greeting_ended, detected.beep) == (who, ended, beep)


def test_keys_streams_and_recordings():
    assert event("call.dtmf.received", digit="#") == event("call.dtmf.received", digit="#")
    assert isinstance(digit := event("call.dtmf.received", digit="#"), DigitReported)
    assert digit.digit == "#"
    for status in ("started", "stopped"):
        stream = event(f"streaming.{status}", stream_url="wss://voice.example.com/media/t")
        assert isinstance(stream, StreamProgress)
        assert stream.status == status
    failed = event("streaming.failed", failure_reason="connection_failed", stream_id="s1")
    assert (failed.status, failed.detail, failed.stream_id) == ("failed", "connection_failed", "s1")
    saved = event(
        "call.recording.saved",
        recording_urls={"mp3": "https://store.example.com/r.mp3", "wav": "https://store.example.com/r.wav"},
        public_recording_urls={}, channels="dual", recording_id="r-1",
        recording_started_at="2026-01-02T03:04:05Z", recording_ended_at="2026-01-02T03:04:17.5Z",
    )
    assert isinstance(saved, RecordingProgress)
    assert (saved.status, saved.recording_id, saved.url) == ("completed", "r-1", "https://store.example.com/r.wav")
    assert (saved.duration, saved.channels) == (12.5, 2)
    broken = event("call.recording.error", reason="disk full")
    assert (broken.status, broken.url) == ("failed", None)


def test_a_bridged_call_is_a_transfer_that_was_answered():
    bridged = event("call.bridged")
    assert isinstance(bridged, TransferProgress)
    assert (bridged.status, bridged.call_id) == ("answered", CALL)


@pytest.mark.parametrize(
    ("cause", "source", "sip", "status"),
    [
        ("normal_clearing", "callee", "200", "completed"),
        ("normal_clearing", "caller", "200", "completed"),
        ("user_busy", "callee", "486", "busy"),
        ("timeout", "unknown", "487", "no_answer"),
        ("originator_cancel", "caller", "487", "canceled"),
        ("call_rejected", "callee", "603", "failed"),
        ("not_found", "callee", "404", "failed"),
        ("unspecified", "unknown", "unspecified", "failed"),
    ],
)
def test_the_end_of_a_leg_dialled_by_transfer_is_told_of_the_call_it_was_for(cause, source, sip, status):
    over = event(
        "call.hangup", client_state=LEG_B, hangup_cause=cause, hangup_source=source, sip_hangup_cause=sip
    )
    assert isinstance(over, TransferProgress)
    assert (over.status, over.call_id, over.target_call_id) == (status, "v3:leg-a", CALL)
    assert over.reference == "0123abcd"


@pytest.mark.parametrize("kind", ["call.initiated", "call.answered", "call.bridged", "streaming.started"])
def test_a_leg_dialled_by_transfer_is_never_taken_for_a_call_of_ours(kind):
    other = event(kind, client_state=LEG_B, direction="outgoing")
    assert isinstance(other, UnknownEvent)
    assert (other.kind, other.call_id) == (kind, "v3:leg-a")


@pytest.mark.parametrize(("told", "status"), [("success", "completed"), ("failure", "failed"), ("pending", "pending")])
def test_orders(told, status):
    order = event("number_order.complete", id="o-1", status=told, phone_numbers=[{"phone_number": "+14155550100"}, 1])
    assert (order.status, order.order_id, order.numbers) == (status, "o-1", ("+14155550100",))


@pytest.mark.parametrize("kind", ["call.speak.started", "call.playback.ended", "call.cost", "call.of.tomorrow"])
def test_a_kind_we_have_no_word_for_is_an_unknown_event_with_all_of_it(kind):
    other = event(kind, speak_id="1")
    assert isinstance(other, UnknownEvent)
    assert (other.kind, other.call_id, other.reference) == (kind, CALL, "0123abcd")


def test_before_our_first_command_the_url_s_reference_counts():
    data = {"event_type": "call.x", "id": "1", "payload": {"call_control_id": CALL}}
    url = "https://voice.example.com/telnyx/main?ref=feed"
    assert parse_event(posted({"data": data}, url)).reference == "feed"


def test_every_kind_of_the_document_s_webhooks_that_we_name_exists_there():
    document = Spec.load("telnyx_v2.trimmed.json").document
    named = {
        kind
        for schema in document["components"]["schemas"].values()
        for kind in schema.get("properties", {}).get("event_type", {}).get("enum", [])
    }
    # number_order.complete and the premium kinds are captured or described elsewhere; the rest must be in the document.
    elsewhere = {"number_order.complete"}
    assert set(EVENTS) - named <= elsewhere


# --- what must be refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"event_type": "call_initiated", "id": "1", "payload": {}}, "webhook_api_version"),
        ({"record_type": "event", "payload": {"call_control_id": CALL}}, "webhook_api_version"),
        ({"data": {"webhook_id": "1", "created_at": "2026", "name": "call.hangup", "payload": {}}}, "flat shape"),
        ({"data": {"record_type": "call_event", "name": "call.hangup", "metadata": {}}}, "flat shape"),
        ({"data": {"event_type": "call.hangup", "payload": {}}}, "event_type, id and payload"),
        ({"data": {"event_type": "call.hangup", "id": "1", "payload": []}}, "event_type, id and payload"),
        ({"data": {"event_type": ["x"], "id": "1", "payload": {}}}, "must be text"),
        ({"data": []}, "without a data object"),
        ({}, "without a data object"),
        ([], "not a JSON object"),
        (b"", "not JSON"),
        (b"a=b&c=d", "not JSON"),
        (b'{"data": {"event_type": "call.ini', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_other_shapes_are_refused_with_what_to_change(body, told):
    with pytest.raises(MalformedMessage, match=told):
        parse_event(posted(body))


def test_a_texml_form_is_called_that():
    form = replace(
        posted(b"CallSid=v3%3Ax&From=%2B14155550123&CallStatus=ringing"),
        headers={"content-type": "application/x-www-form-urlencoded; charset=utf-8"},
    )
    with pytest.raises(MalformedMessage, match="Point the number at a call-control application instead of a TeXML one"):
        parse_event(form)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("call.initiated", {"direction": "sideways"}),
        ("call.initiated", {"direction": None}),
        ("call.initiated", {"direction": "incoming", "to": None, "client_state": None}),
        ("call.initiated", {"direction": "incoming", "to": 14155550100, "client_state": None}),
        ("call.answered", {"call_control_id": None}),
        ("call.hangup", {"call_control_id": 5}),
        ("call.hangup", {"from": "\ud800"}),
        ("call.bridged", {"call_control_id": ""}),
        ("call.dtmf.received", {}),
        ("call.machine.detection.ended", {"result": None}),
        ("streaming.started", {"call_control_id": ""}),
        ("number_order.complete", {"id": None}),
    ],
)
def test_an_event_without_what_it_is_about_is_malformed(kind, fields):
    with pytest.raises(MalformedMessage, match=kind):
        event(kind, **fields)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([OURS, LEG_B]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "call_control_id", "client_state", "from", "to", "direction", "state", "hangup_cause", "hangup_source", "id",
    "sip_hangup_cause", "start_time", "end_time", "digit", "result", "recording_urls", "channels", "sip_headers",
    "shaken_stir_attestation", "phone_numbers", "status", "stream_id", "failure_reason", "recording_started_at",
]


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(body):
    try:
        parse_event(posted(body))
    except MalformedMessage:
        pass


@given(
    st.sampled_from([*EVENTS, "call.other"]) | st.text(max_size=5),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=len(FIELDS)),
    JSON,
)
def test_any_payload_of_any_kind_is_an_event_or_malformed(kind, payload, occurred_at):
    data = {"event_type": kind, "id": "1", "occurred_at": occurred_at, "payload": payload}
    try:
        assert isinstance(parse_event(posted({"data": data})), CallEvent)
    except MalformedMessage:
        pass


# --- what travels along --------------------------------------------------------------------------------------------


@given(
    st.builds(
        ClientState,
        reference=st.text(max_size=40),
        direction=st.sampled_from([None, Direction.INBOUND, Direction.OUTBOUND]),
        custom=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4),
        format=st.sampled_from(["", "L16/16000"]),
        transfer_of=st.text(max_size=9),
    )
)
def test_client_state_comes_back_as_it_went(state):
    assert read_client_state(state.encode()) == state


@given(st.text() | st.binary().map(lambda b: __import__("base64").b64encode(b).decode()) | JSON)
def test_somebody_else_s_client_state_is_an_empty_one(text):
    assert isinstance(read_client_state(text), ClientState)


def test_foreign_state_does_not_become_ours():
    assert read_client_state("aGF2ZSBhIG5pY2UgZGF5ID1d") == ClientState()
    assert read_client_state(None) == ClientState()


def test_an_incoming_call_brings_its_custom_headers():
    listed = [{"name": "X-Order", "value": "7"}, {"name": "From", "value": "me"}, {"name": "X-Odd"}, "odd", {"name": 7}]
    listed += [{"name": ["X-Order"], "value": "8"}, {"name": {}, "value": "9"}]
    ring = event("call.initiated", direction="incoming", client_state=None, custom_headers=listed)
    assert ring.headers == {"X-Order": "7"}
    assert event("call.initiated", direction="incoming", client_state=None, custom_headers=None).headers == {}


def test_what_a_call_cost_is_its_price_and_changes_no_status():
    part = {"call_part": "call-control", "cost": "0.0106", "currency": "USD"}
    charged = event("call.cost", status="success", total_cost="0.0106", cost_parts=[part])
    assert charged.call.price == Price(amount=Decimal("0.0106"), currency="USD")
    talking = event("call.answered").call
    moved = advance(talking, charged.call, charged.occurred_at)
    assert moved == talking.model_copy(update={"price": charged.call.price})
    unclear = {**part, "currency": "EUR"}
    for other in ({"status": "error"}, {"cost_parts": None}, {"cost_parts": [part, unclear]}):
        told = event("call.cost", **{"status": "success", "total_cost": "1", "cost_parts": [part], **other})
        assert isinstance(told, UnknownEvent)
