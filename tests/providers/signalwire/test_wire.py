"""Webhooks into events: recordings, forms and JSON, a number's own callback, questions for instructions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from anycarrier.calls import CallStatus, Direction, EndReason
from anycarrier.errors import MalformedMessage
from anycarrier.events import (
    CallProgress,
    InstructionsFor,
    InstructionsRequested,
    MachineDetected,
    RecordingProgress,
    TransferProgress,
    UnknownEvent,
)
from anycarrier.webhooks import WebhookRequest
from anycarrier_signalwire import wire
from anycarrier_twilio.call_status import call_from_rest
from shared_documents import shared_path


def recorded(name: str) -> WebhookRequest:
    kept = json.loads(shared_path("recordings", "signalwire", "webhooks", f"{name}.json").read_text())
    return WebhookRequest(kept["method"], "https://voice.example.com/s/m", kept["headers"], kept["raw_body"].encode())


def test_the_recorded_webhooks_are_their_events() -> None:
    blocked = wire.parse(recorded("status_failed_sip500_partial"))
    assert isinstance(blocked, CallProgress) and blocked.call.provider == "signalwire"
    assert (blocked.call.reason, blocked.call.sip_code) == (EndReason.PROVIDER_UNAVAILABLE, 500)
    assert (blocked.call.carrier_status, blocked.raw["HangupDirection"]) == ("failed", "inbound")
    busy = wire.parse(recorded("made_status_busy_outbound"))
    assert isinstance(busy, CallProgress) and busy.call.direction is Direction.OUTBOUND
    assert (busy.call.reason, busy.call.sip_code, busy.sequence) == (EndReason.BUSY, 486, 3)
    recording = wire.parse(recorded("doc_recording_completed"))
    assert isinstance(recording, RecordingProgress) and (recording.status, recording.duration) == ("completed", 94.0)


def test_the_recorded_call_of_rest_is_read() -> None:
    body = json.loads(shared_path("recordings", "signalwire", "api", "get_call_completed_inbound.json").read_text())
    call = call_from_rest(body, "signalwire")
    assert (call.provider, call.status, call.direction) == ("signalwire", CallStatus.ENDED, Direction.INBOUND)
    assert call.price is not None and str(call.price.amount) == "0.00928"
    assert call.duration == 22 and call.reason is EndReason.USER_HANGUP


@pytest.mark.parametrize(
    ("word", "sip", "reason"),
    [
        ("completed", "200", EndReason.USER_HANGUP),
        ("busy", "486", EndReason.BUSY),
        ("busy", "603", EndReason.REJECTED),
        ("no-answer", "487", EndReason.NO_ANSWER),
        ("canceled", None, EndReason.CANCELED),
        ("failed", "404", EndReason.INVALID_NUMBER),
        ("failed", "500", EndReason.PROVIDER_UNAVAILABLE),
        ("failed", None, EndReason.UNREACHABLE),
        ("failed", "odd", EndReason.UNREACHABLE),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_an_end_has_its_reason_from_the_word_and_the_sip_code(
    kit: Any, word: str, sip: str | None, reason: EndReason, as_json: bool
) -> None:
    fields = {"CallSid": kit.CALL, "CallStatus": word, "Direction": "outbound-api", "SequenceNumber": "3"}
    fields |= {"CallbackSource": "call-progress-events", **({"SipResultCode": sip} if sip else {})}
    event = wire.parse(kit.webhook(fields, kit.STATUS_URL, as_json=as_json))
    assert isinstance(event, CallProgress) and event.call.status is CallStatus.ENDED
    assert (event.call.reason, event.call.carrier_status) == (reason, word)
    assert event.reference == "0123456789abcdef0123456789abcdef"
    rest = call_from_rest(kit.call_body(status=word, sip_result_code=sip), "signalwire")
    assert (rest.reason, rest.sip_code) == (reason, int(sip) if sip and sip.isdigit() else None)


def test_numbers_in_json_are_read_as_what_they_are(kit: Any) -> None:
    fields = {"CallSid": kit.CALL, "CallStatus": "completed", "CallbackSource": "x", "Direction": "outbound-api",
              "SequenceNumber": 4, "CallDuration": 22, "Timestamp": "Thu, 04 Apr 2024 18:32:15 +0000",
              "CallerName": None}  # fmt: skip
    event = wire.parse(kit.webhook(fields, as_json=True))
    assert isinstance(event, CallProgress) and (event.sequence, event.call.duration) == (4, 22.0)


def test_json_that_is_no_calls_is_an_unknown_event_with_all_of_it(kit: Any) -> None:
    for fields in ({"event_type": "calling.call.state"}, {"CallSid": kit.CALL, "params": {"a": 1}}):
        event = wire.parse(kit.webhook(fields, as_json=True))
        assert isinstance(event, UnknownEvent) and event.raw == fields
    with pytest.raises(MalformedMessage):
        wire.parse(kit.webhook({"CallSid": kit.CALL, "CallStatus": "\ud800"}, as_json=True))


def test_answered_and_in_progress_are_two_events_of_one_status(kit: Any) -> None:
    base = {"CallSid": kit.CALL, "CallbackSource": "call-progress-events", "Direction": "outbound-api"}
    events = [
        wire.parse(kit.webhook({**base, "CallStatus": word, "SequenceNumber": sequence}))
        for word, sequence in (("answered", "2"), ("in-progress", "3"))
    ]
    assert [event.call.status for event in events if isinstance(event, CallProgress)] == [CallStatus.ANSWERED] * 2
    assert len({event.event_id for event in events}) == 2


def test_a_numbers_own_callback_tells_no_time_of_the_end_and_no_cause(kit: Any) -> None:
    fields = {"CallSid": kit.CALL, "From": kit.THEIRS, "To": kit.OURS, "CallDuration": "31",
              "Timestamp": "Thu, 04 Apr 2024 18:32:15 +0000"}  # fmt: skip
    over = wire.parse(kit.webhook({**fields, "CallStatus": "completed"}))
    assert isinstance(over, CallProgress) and over.call.direction is Direction.INBOUND
    assert (over.occurred_at, over.call.ended_at, over.call.reason) == (None, None, EndReason.USER_HANGUP)
    failed = wire.parse(kit.webhook({**fields, "CallStatus": "failed"}))
    assert isinstance(failed, CallProgress)
    assert (failed.call.reason, failed.call.carrier_status) == (EndReason.NO_ANSWER, "failed")
    assert failed.raw["Timestamp"] == fields["Timestamp"]


def test_a_question_for_instructions_says_what_for_and_keeps_what_was_asked_with(kit: Any) -> None:
    asked = {"CallSid": kit.CALL, "CallStatus": "in-progress", "Direction": "outbound-api", "From": kit.OURS,
             "To": kit.THEIRS}  # fmt: skip
    plain = wire.parse(kit.webhook(asked, kit.STATUS_URL))
    assert type(plain) is CallProgress
    url = wire.instructions_url(kit.STATUS_URL, InstructionsFor.ANSWERED)
    answered = wire.parse(kit.webhook(asked, url))
    assert isinstance(answered, InstructionsRequested) and answered.purpose is InstructionsFor.ANSWERED
    assert answered.raw[wire.STATUS_URL] == kit.STATUS_URL and answered.reference in kit.STATUS_URL
    ids = set()
    for target in ("sip:a@b.example?X-Order=7&Y=8", "+12125550199"):
        url = wire.instructions_url(kit.STATUS_URL, InstructionsFor.TRANSFER, target=target, caller_id=kit.OURS)
        event = wire.parse(kit.webhook(asked, url))
        assert isinstance(event, InstructionsRequested) and event.purpose is InstructionsFor.TRANSFER
        assert (event.raw[wire.TARGET], event.raw[wire.CALLER_ID]) == (target, kit.OURS)
        assert event.raw[wire.STATUS_URL] == kit.STATUS_URL
        ids.add(event.event_id)
    assert len(ids) == 2, "a second transfer is no repetition of the first"
    bare = wire.parse(kit.webhook(asked, wire.instructions_url(kit.HOOK, InstructionsFor.ANSWERED)))
    assert bare.raw[wire.STATUS_URL] == kit.HOOK


def test_a_get_is_read_without_our_own_query(kit: Any) -> None:
    url = f"{kit.STATUS_URL}&instruct=answered&CallSid={kit.CALL}&CallStatus=in-progress&Direction=outbound-api"
    event = wire.parse(WebhookRequest("GET", url, {}))
    assert isinstance(event, InstructionsRequested) and event.call_id == kit.CALL


@pytest.mark.parametrize(
    ("word", "who", "ended"),
    [
        ("human", "human", False),
        ("machine", "machine", False),
        ("machine_end_beep", "machine", True),
        ("fax", "fax", False),
    ],
)
def test_who_answered_is_told_in_any_of_the_words(kit: Any, word: str, who: str, ended: bool) -> None:
    event = wire.parse(kit.webhook({"CallSid": kit.CALL, "AnsweredBy": word}))
    assert isinstance(event, MachineDetected) and (event.answered_by, event.greeting_ended) == (who, ended)
    assert call_from_rest(kit.call_body(answered_by=word), "signalwire").answered_by == who


def test_a_call_that_rings_nobody_is_malformed(kit: Any) -> None:
    with pytest.raises(MalformedMessage, match="number"):
        wire.parse(kit.webhook({"CallSid": kit.CALL, "CallStatus": "ringing", "Direction": "inbound", "To": ""}))


def test_a_word_nobody_knows_is_kept(kit: Any) -> None:
    base = {"CallSid": kit.CALL, "Direction": "inbound"}
    for fields in ({"CallStatus": "parked"}, {"RecordingStatus": "odd"}, {"StreamEvent": "odd"}, {"AnsweredBy": "odd"}):
        event = wire.parse(kit.webhook({**base, **fields}))
        assert isinstance(event, UnknownEvent) and event.raw == {**base, **fields} and event.kind


def test_the_leg_of_a_transfer_is_the_calls_transfer(kit: Any) -> None:
    leg = {"CallSid": "leg", "ParentCallSid": kit.CALL, "CallStatus": "in-progress", "Direction": "outbound-dial",
           "CallbackSource": "call-progress-events", "SequenceNumber": "1"}  # fmt: skip
    event = wire.parse(kit.webhook(leg, kit.STATUS_URL))
    assert isinstance(event, TransferProgress) and (event.call_id, event.status) == (kit.CALL, "answered")
