"""Webhooks: every kind of form becomes the right event; nothing but MalformedMessage comes out otherwise."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.calls import CallStatus, Direction, EndReason, advance
from anycarrier.errors import MalformedMessage
from anycarrier.events import (
    CallEvent,
    CallProgress,
    DigitReported,
    IncomingCall,
    MachineDetected,
    RecordingProgress,
    StreamProgress,
    TransferProgress,
    UnknownEvent,
)
from anycarrier.webhooks import WebhookRequest
from anycarrier_twilio.call_status import STATUSES, call_from_rest, end_reason
from anycarrier_twilio.wire import parse
from shared_documents import shared_path

CALL = "CA" + "1" * 32
RING = {
    "CallSid": CALL,
    "AccountSid": "AC" + "0" * 32,
    "CallStatus": "ringing",
    "Direction": "inbound",
    "From": "+14155550123",
    "To": "+14155550100",
    "FromCity": "",
}
STATUS = {
    "CallSid": CALL,
    "CallStatus": "ringing",
    "Direction": "outbound-api",
    "From": "+14155550100",
    "To": "+14155550123",
    "CallbackSource": "call-progress-events",
    "Timestamp": "Tue, 10 Aug 2010 08:02:47 +0000",
    "SequenceNumber": "1",
}


def test_a_ringing_call_is_an_incoming_call(kit):
    event = parse(kit.webhook({**RING, "StirVerstat": "TN-Validation-Passed-B", "ForwardedFrom": "+14155550188"}))
    assert isinstance(event, IncomingCall)
    assert (event.call_id, event.event_id, event.reference) == (CALL, f"{CALL}:incoming:ringing", "")
    assert (event.verified, event.forwarded_from) == ("B", "+14155550188")
    call = event.call
    assert (call.id, call.direction, call.status) == (CALL, Direction.INBOUND, CallStatus.RINGING)
    assert (call.from_, call.to) == ("+14155550123", "+14155550100")
    assert event.raw["FromCity"] == "", "blank fields are kept"


def test_a_call_that_came_by_sip_brings_its_custom_headers(kit):
    carried = {"SipHeader_X-Order": "7", "SipHeader_User-to-User": "6869", "SipHeader_P-Asserted-Identity": "me"}
    assert parse(kit.webhook({**RING, **carried})).headers == {"X-Order": "7", "User-to-User": "6869"}
    assert parse(kit.webhook(RING)).headers == {}


@pytest.mark.parametrize(
    ("verstat", "grade"),
    [
        ("TN-Validation-Passed-A", "A"),
        ("TN-Validation-Passed-A-Diverted", "A"),
        ("TN-Validation-Passed-C-Passthrough", "C"),
        ("TN-Validation-Failed-A", None),
        ("No-TN-Validation", None),
        ("TN-Validation-Passed-D", None),
        ("", None),
    ],
)
def test_attestation_counts_only_when_it_passed(kit, verstat, grade):
    event = parse(kit.webhook({**RING, "StirVerstat": verstat}))
    assert isinstance(event, IncomingCall) and event.verified == grade


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("queued", CallStatus.QUEUED, None),
        ("initiated", CallStatus.INITIATED, None),
        ("ringing", CallStatus.RINGING, None),
        ("in-progress", CallStatus.ANSWERED, None),
        ("completed", CallStatus.ENDED, EndReason.USER_HANGUP),
        ("busy", CallStatus.ENDED, EndReason.BUSY),
        ("no-answer", CallStatus.ENDED, EndReason.NO_ANSWER),
        ("canceled", CallStatus.ENDED, EndReason.CANCELED),
        ("failed", CallStatus.ENDED, EndReason.UNREACHABLE),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_every_status_callback_is_progress_by_post_and_by_get(kit, word, status, reason, method):
    event = parse(kit.webhook({**STATUS, "CallStatus": word}, method=method, url=f"{kit.HOOK}?ref=r1"))
    assert isinstance(event, CallProgress)
    assert (event.call.status, event.call.reason, event.call.carrier_status) == (status, reason, word)
    assert (event.reference, event.call.reference, event.sequence) == ("r1", "r1", 1)
    assert event.event_id == f"{CALL}:status:1"
    assert event.occurred_at == datetime(2010, 8, 10, 8, 2, 47, tzinfo=UTC)
    assert "ref" not in event.raw and event.raw["CallStatus"] == word


@pytest.mark.parametrize(
    ("word", "sip", "reason"),
    [
        ("failed", 401, EndReason.PROVIDER_AUTH_FAILED),
        ("failed", 407, EndReason.PROVIDER_AUTH_FAILED),
        ("failed", 403, EndReason.PROVIDER_PERMISSION_DENIED),
        ("failed", 404, EndReason.INVALID_NUMBER),
        ("failed", 410, EndReason.INVALID_NUMBER),
        ("failed", 484, EndReason.INVALID_NUMBER),
        ("no-answer", 408, EndReason.NO_ANSWER),
        ("failed", 480, EndReason.NO_ANSWER),
        ("busy", 486, EndReason.BUSY),
        ("failed", 600, EndReason.BUSY),
        ("busy", 603, EndReason.REJECTED),
        ("failed", 603, EndReason.REJECTED),
        ("canceled", 487, EndReason.CANCELED),
        ("no-answer", 487, EndReason.NO_ANSWER),
        ("busy", 487, EndReason.BUSY),
        ("failed", 487, EndReason.UNREACHABLE),
        ("failed", 607, EndReason.MARKED_AS_SPAM),
        ("failed", 608, EndReason.MARKED_AS_SPAM),
        ("failed", 500, EndReason.PROVIDER_UNAVAILABLE),
        ("failed", 503, EndReason.PROVIDER_UNAVAILABLE),
        ("failed", 488, EndReason.UNREACHABLE),
        ("completed", 200, EndReason.USER_HANGUP),
        ("completed", 487, EndReason.USER_HANGUP),
        ("busy", 200, EndReason.BUSY),
    ],
)
def test_the_sip_code_wins_over_the_word_and_is_kept(kit, word, sip, reason):
    event = parse(kit.webhook({**STATUS, "CallStatus": word, "SipResponseCode": str(sip)}))
    assert isinstance(event, CallProgress)
    assert (event.call.reason, event.call.sip_code, event.call.carrier_status) == (reason, sip, word)


def test_only_an_ended_call_has_a_reason():
    for word, status in STATUSES.items():
        assert (end_reason(word, None) is not None) == (status is CallStatus.ENDED)
        assert (end_reason(word, 486) is not None) == (status is CallStatus.ENDED)
    assert end_reason("dreaming", 486) is None


def test_a_completed_call_tells_when_it_was_answered(kit):
    event = parse(kit.webhook({**STATUS, "CallStatus": "completed", "CallDuration": "16", "Duration": "1"}))
    assert isinstance(event, CallProgress)
    assert event.call.answered_at == datetime(2010, 8, 10, 8, 2, 31, tzinfo=UTC)
    assert event.call.duration == 16.0


def test_a_call_too_short_for_a_whole_second_was_answered(kit):
    """twilio-java issue 207: only "completed" tells of it, with a duration of 0."""
    event = parse(kit.webhook({**STATUS, "CallStatus": "completed", "CallDuration": "0", "Duration": "0"}))
    assert isinstance(event, CallProgress) and event.call.answered_at == event.call.ended_at is not None
    ringing = event.call.model_copy(update={"status": CallStatus.RINGING, "answered_at": None, "ended_at": None})
    over = advance(ringing, event.call, event.call.ended_at)
    assert (over.reason, over.answered_at, over.duration) == (EndReason.USER_HANGUP, event.call.ended_at, 0.0)
    fetched = call_from_rest({"sid": CALL, "status": "completed", "end_time": STATUS["Timestamp"], "duration": "0"})
    assert fetched.answered_at == fetched.ended_at is not None


def test_an_unanswered_call_has_no_answer_time(kit):
    for word in ("busy", "no-answer", "canceled", "failed"):
        event = parse(kit.webhook({**STATUS, "CallStatus": word, "CallDuration": "0", "Duration": "0"}))
        assert isinstance(event, CallProgress) and event.call.answered_at is None and event.call.duration == 0


def test_events_are_the_same_on_redelivery_and_differ_otherwise(kit):
    def identity(**changes: str) -> str:
        return parse(kit.webhook({**STATUS, **changes})).event_id

    assert identity() == identity()
    assert len({identity(), identity(SequenceNumber="2"), identity(CallSid="CA2")}) == 3
    unnumbered = {k: v for k, v in STATUS.items() if k != "SequenceNumber"}
    assert parse(kit.webhook(unnumbered)).event_id == f"{CALL}:status:ringing"


@pytest.mark.parametrize(
    ("word", "who", "ended", "beep"),
    [
        ("human", "human", False, False),
        ("machine_start", "machine", False, False),
        ("machine_end_beep", "machine", True, True),
        ("machine_end_silence", "machine", True, False),
        ("machine_end_other", "machine", True, False),
        ("fax", "fax", False, False),
        ("unknown", "unknown", False, False),
    ],
)
@pytest.mark.parametrize("more", [{}, {"CallStatus": "in-progress", "Direction": "outbound-api"}])
def test_every_verdict_of_the_machine_detector(kit, word, who, ended, beep, more):
    form = {"CallSid": CALL, "AnsweredBy": word, "MachineDetectionDuration": "2300", **more}
    event = parse(kit.webhook(form, url=f"{kit.HOOK}?ref=r1"))
    assert isinstance(event, MachineDetected) and event.event_id == f"{CALL}:amd:{word}"
    assert (event.answered_by, event.greeting_ended, event.beep, event.reference) == (who, ended, beep, "r1")


def test_a_status_callback_that_knows_who_answered_is_still_a_status(kit):
    event = parse(kit.webhook({**STATUS, "CallStatus": "completed", "AnsweredBy": "machine_start"}))
    assert isinstance(event, CallProgress) and event.call.answered_by == "machine"


@pytest.mark.parametrize(
    ("word", "status"), [("stream-started", "started"), ("stream-stopped", "stopped"), ("stream-error", "failed")]
)
def test_stream_callbacks(kit, word, status):
    form = {
        "CallSid": CALL,
        "StreamSid": "MZ1",
        "StreamEvent": word,
        "StreamError": "31920" if status == "failed" else "",
        "Timestamp": "2024-05-01T10:00:00.250Z",
    }
    event = parse(kit.webhook(form))
    assert isinstance(event, StreamProgress)
    assert (event.status, event.stream_id, event.call_id) == (status, "MZ1", CALL)
    assert event.detail == ("31920" if status == "failed" else None)
    assert event.occurred_at == datetime(2024, 5, 1, 10, 0, 0, 250000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("word", "status"),
    [("in-progress", "in_progress"), ("completed", "completed"), ("absent", "absent"), ("failed", "failed")],
)
def test_recording_callbacks(kit, word, status):
    form = {
        "CallSid": CALL,
        "RecordingSid": "RE1",
        "RecordingStatus": word,
        "RecordingUrl": "https://api.twilio.com/RE1",
        "RecordingDuration": "11",
        "RecordingChannels": "2",
        "CallStatus": "in-progress",
    }
    event = parse(kit.webhook(form))
    assert isinstance(event, RecordingProgress)
    assert (event.status, event.recording_id, event.duration, event.channels) == (status, "RE1", 11.0, 2)


@pytest.mark.parametrize("word", ["completed", "answered", "busy", "no-answer", "failed", "canceled"])
def test_the_result_of_a_dial_is_transfer_progress(kit, word):
    form = {**STATUS, "CallStatus": "in-progress", "DialCallStatus": word, "DialCallSid": "CA9"}
    del form["CallbackSource"]
    event = parse(kit.webhook(form))
    assert isinstance(event, TransferProgress)
    assert (event.status, event.target_call_id, event.call_id) == (word.replace("-", "_"), "CA9", CALL)


def test_a_transcription_is_no_progress_of_its_call(kit):
    form = {**STATUS, "CallStatus": "completed", "TranscriptionStatus": "completed", "TranscriptionText": "hello"}
    event = parse(kit.webhook(form))
    assert isinstance(event, UnknownEvent)
    assert (event.kind, event.raw["TranscriptionText"]) == ("transcription-completed", "hello")


@pytest.mark.parametrize("word", ["busy", "no-answer", "failed", "canceled"])
def test_the_result_of_a_dial_whose_caller_is_gone_is_that_the_caller_did_not_wait(kit, word):
    form = {**STATUS, "CallStatus": "completed", "DialCallStatus": word, "DialCallSid": "CA9"}
    assert parse(kit.webhook(form)).status == "canceled"
    for talked in ("completed", "answered"):
        assert parse(kit.webhook({**form, "DialCallStatus": talked})).status == talked


def test_a_dial_that_connected_nobody_is_not_completed(kit):
    form = {**STATUS, "CallStatus": "in-progress", "DialCallStatus": "completed", "DialCallSid": "CA9"}
    bridged, alone = ({**form, "DialBridged": word} for word in ("true", "false"))
    assert parse(kit.webhook(bridged)).status == "completed"
    assert parse(kit.webhook(alone)).status == "canceled"


def test_the_answered_far_leg_of_a_dial_is_told_of_its_parent(kit):
    form = {**STATUS, "CallSid": "CA9", "ParentCallSid": CALL, "CallStatus": "in-progress"}
    event = parse(kit.webhook(form))
    assert isinstance(event, TransferProgress)
    assert (event.status, event.call_id, event.target_call_id) == ("answered", CALL, "CA9")


def test_the_ringing_far_leg_is_not_the_parent_ringing(kit):
    event = parse(kit.webhook({**STATUS, "CallSid": "CA9", "ParentCallSid": CALL}))
    assert isinstance(event, UnknownEvent) and (event.call_id, event.kind) == ("CA9", "leg-ringing")


def test_keys_told_by_webhook(kit):
    event = parse(kit.webhook({**RING, "CallStatus": "in-progress", "Digits": "12"}))
    assert isinstance(event, DigitReported) and event.digit == "12"


def test_a_record_verb_reporting_hangup_as_its_digits_is_no_key(kit):
    form = {**RING, "CallStatus": "completed", "Digits": "hangup", "RecordingSid": "RE1", "RecordingUrl": "https://x"}
    assert isinstance(parse(kit.webhook(form)), CallProgress)


@pytest.mark.parametrize(
    "form",
    [
        {"Hello": "world"},
        {**STATUS, "CallStatus": "dreaming"},
        {"CallSid": CALL, "RecordingStatus": "processing"},
        {"CallSid": CALL, "StreamEvent": "stream-sneezed"},
        {"CallSid": CALL, "DialCallStatus": "eaten"},
        {"CallSid": CALL, "AnsweredBy": "cat"},
    ],
)
def test_what_we_have_no_word_for_is_unknown_and_whole(kit, form):
    event = parse(kit.webhook(form))
    assert isinstance(event, UnknownEvent) and event.raw == form
    assert event.event_id and event.event_id == parse(kit.webhook(form)).event_id


def test_a_json_body_is_passed_on_as_unknown(kit):
    request = WebhookRequest("POST", kit.HOOK, {"content-type": "application/json"}, b'{"type": "x", "data": {"a": 1}}')
    event = parse(request)
    assert isinstance(event, UnknownEvent) and (event.kind, event.raw["data"]) == ("x", {"a": 1})


@pytest.mark.parametrize("body", ["", "CallStatus=ringing&Direction=inbound", "&".join(["a=1"] * 1001)])
def test_what_cannot_be_read_is_malformed(kit, body):
    with pytest.raises(MalformedMessage):
        parse(kit.webhook(body))


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "application/json"])
def test_bytes_that_are_no_text_are_malformed(kit, kind):
    with pytest.raises(MalformedMessage):
        parse(WebhookRequest("POST", kit.HOOK, {"content-type": kind}, b"\xff\xfe"))


@pytest.mark.parametrize(
    "stamp", ["yesterday", "0001-01-01T00:00:00+14:00", "Tue, 99 Aug 2010 08:02:47 +0000", "", "0"]
)
def test_a_wrong_time_is_no_time(kit, stamp):
    event = parse(kit.webhook({**STATUS, "CallStatus": "completed", "CallDuration": "5", "Timestamp": stamp}))
    assert event.occurred_at is None


def test_every_webhook_twilio_really_sent_is_the_right_event():
    kinds = {
        "inbound_voice_ringing_us": IncomingCall,
        "inbound_status_completed_us": CallProgress,
        "status_busy_sip486": CallProgress,
        "recording_completed": RecordingProgress,
    }
    files = sorted(shared_path("recordings", "twilio", "webhooks").glob("*.json"))
    assert {file.stem for file in files} == set(kinds)
    events: dict[str, CallEvent] = {}
    for file in files:
        recorded = json.loads(file.read_text())
        raw, url = recorded["raw_body"], "https://voice.example.com/twilio/main"
        request = (
            WebhookRequest("GET", f"{url}?{raw}", recorded["headers"])
            if recorded["method"] == "GET"
            else WebhookRequest("POST", url, recorded["headers"], raw.encode())
        )
        event = events[file.stem] = parse(request)
        assert type(event) is kinds[file.stem] and event.raw == recorded["params"]
    ringing, ended = events["inbound_voice_ringing_us"], events["inbound_status_completed_us"]
    assert isinstance(ringing, IncomingCall) and ringing.verified == "A"
    assert isinstance(ended, CallProgress) and ended.call_id == ringing.call_id and ended.sequence == 0
    assert (ended.call.status, ended.call.duration) == (CallStatus.ENDED, 3.0)
    busy = events["status_busy_sip486"]
    assert isinstance(busy, CallProgress)
    assert (busy.call.reason, busy.call.sip_code, busy.sequence) == (EndReason.BUSY, 486, 2)
    recording = events["recording_completed"]
    assert isinstance(recording, RecordingProgress)
    assert (recording.status, recording.duration, recording.channels) == ("completed", 11.0, 2)


NAMES = st.sampled_from(
    "CallSid CallStatus Direction CallbackSource Timestamp SequenceNumber CallDuration SipResponseCode AnsweredBy "
    "ParentCallSid RecordingStatus RecordingDuration RecordingChannels StreamEvent DialCallStatus Digits StirVerstat "
    "From To".split()
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from([*STATUSES, "inbound", "human", "-1", "nan", "1e999", "9" * 400, "9999-12-31T23:59:59-23:59"]),
)


@given(st.dictionaries(NAMES, VALUES), st.sampled_from(["GET", "POST"]))
def test_any_form_is_an_event_or_malformed(fields, method):
    body = urlencode(fields, errors="replace")
    url = "https://voice.example.com/twilio/main"
    request = WebhookRequest(method, f"{url}?{body}" if method == "GET" else url, {}, body.encode())
    try:
        event = parse(request)
    except MalformedMessage:
        return
    assert isinstance(event, CallEvent) and event.event_id


@given(st.binary(max_size=300), st.sampled_from(["application/x-www-form-urlencoded", "application/json", "x"]))
def test_any_bytes_are_an_event_or_malformed(body, kind):
    request = WebhookRequest("POST", "https://voice.example.com/twilio/main", {"content-type": kind}, body)
    try:
        assert isinstance(parse(request), CallEvent)
    except MalformedMessage:
        pass
