"""Webhooks and REST answers of Vonage's: every status and cause, and what is captured or documented elsewhere."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from anycarrier import events
from anycarrier.calls import CallStatus, Direction, EndReason
from anycarrier.errors import MalformedMessage
from anycarrier.webhooks import WebhookRequest
from anycarrier_vonage.wire import call_of, number, parse, trusted
from shared_documents import shared_path

URL = "https://voice.example.com/vonage/main"
LEG = {"uuid": "63f6", "from": "14155550100", "to": "14155550123", "direction": "outbound",
       "conversation_uuid": "CON-1", "timestamp": "2026-03-02T09:15:03.000Z"}  # fmt: skip


def told(body: dict[str, Any], url: str = URL, base_url: str | None = None) -> Any:
    return parse(WebhookRequest("POST", url, {}, json.dumps(body).encode()), base_url)


@pytest.mark.parametrize(
    ("name", "kind", "what"),
    [
        ("answer_get_region_url", events.IncomingCall, "+12015550121 +19435550123"),
        ("doc_input_dtmf", events.DigitReported, "1234"),
        ("doc_websocket_unanswered", events.StreamProgress, "failed"),
        ("dtmf_post", events.DigitReported, "2"),
        ("event_get_notify", events.UnknownEvent, "notify"),
        ("event_post_completed", events.CallProgress, "ended user_hangup"),
        ("event_post_notify", events.UnknownEvent, "notify"),
        ("event_post_started", events.CallProgress, "initiated None"),
        ("recording_get", events.RecordingProgress, "5.0"),
    ],
)
def test_each_recording_becomes_its_event(name: str, kind: type, what: str) -> None:
    kept = json.loads(shared_path("recordings", "vonage", "webhooks", f"{name}.json").read_text())
    query = f"?{kept['raw_query']}" if "raw_query" in kept else ""
    body = kept.get("raw_body") or (json.dumps(kept["body"]) if "body" in kept else "")
    event: Any = parse(WebhookRequest(kept["method"], kept["url"] + query, kept["headers"], body.encode()), None)
    assert type(event) is kind and event.raw == kept.get("body", kept.get("params"))
    match event:
        case events.IncomingCall(call=call):
            assert f"{call.from_} {call.to}" == what and call.facts["region"] == "https://api-us-3.vonage.com"
        case events.CallProgress(call=call):
            assert f"{call.status} {call.reason}" == what
        case events.RecordingProgress(duration=duration):
            assert str(duration) == what
        case _:
            assert what in (getattr(event, "digit", None), getattr(event, "status", None), getattr(event, "kind", None))


def test_there_are_no_recordings_beside_these() -> None:
    assert len(list(shared_path("recordings", "vonage", "webhooks").glob("*.json"))) == 9


@pytest.mark.parametrize(
    ("status", "detail", "reason"),
    [
        ("busy", None, EndReason.BUSY),
        ("cancelled", None, EndReason.CANCELED),
        ("unanswered", None, EndReason.NO_ANSWER),
        ("unanswered", "timeout", EndReason.NO_ANSWER),
        ("unanswered", "unavailable", EndReason.UNREACHABLE),
        ("timeout", None, EndReason.NO_ANSWER),
        ("rejected", None, EndReason.REJECTED),
        ("rejected", "declined", EndReason.REJECTED),
        ("rejected", "restricted", EndReason.REJECTED),
        ("rejected", "invalid_number", EndReason.INVALID_NUMBER),
        ("rejected", "news", EndReason.REJECTED),
        ("failed", None, EndReason.PROVIDER_UNAVAILABLE),
        ("failed", "cannot_route", EndReason.PROVIDER_PERMISSION_DENIED),
        ("failed", "number_out_of_service", EndReason.UNREACHABLE),
        ("failed", "internal_error", EndReason.PROVIDER_UNAVAILABLE),
        ("completed", None, EndReason.USER_HANGUP),
        ("completed", "internal_error", EndReason.USER_HANGUP),
    ],
)
def test_each_end_has_its_reason_and_keeps_vonages_word(status: str, detail: str | None, reason: EndReason) -> None:
    event = told({**LEG, "status": status, "detail": detail})
    assert (event.call.status, event.call.reason) == (CallStatus.ENDED, reason)
    assert event.call.carrier_status == (f"{status}: {detail}" if detail else status)


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [("486", "failed", EndReason.BUSY), (603, "unanswered", EndReason.REJECTED), ("x", "busy", EndReason.BUSY),
     ("487", "completed", EndReason.USER_HANGUP)],
)  # fmt: skip
def test_a_sip_code_wins_where_there_is_one(code: Any, status: str, reason: EndReason) -> None:
    call = told({**LEG, "status": status, "sip_code": code}).call
    assert call.reason is reason and call.sip_code == (int(code) if code != "x" else None)


@pytest.mark.parametrize(
    ("status", "ours"),
    [("started", CallStatus.INITIATED), ("ringing", CallStatus.RINGING), ("answered", CallStatus.ANSWERED)],
)
def test_a_call_under_way(status: str, ours: CallStatus) -> None:
    event = told({**LEG, "status": status, "start_time": None}, f"{URL}?ref=abc")
    assert (event.call.status, event.call.reason, event.reference, event.call.reference) == (ours, None, "abc", "abc")
    assert event.event_id == f"63f6:{status}:2026-03-02T09:15:03.000Z"


def test_an_end_has_times_and_a_price_in_euros() -> None:
    ended = {"start_time": "2026-03-02T09:15:04Z", "end_time": "2026-03-02T09:15:09Z", "price": "0.0525"}
    call = told({**LEG, "status": "completed", **ended}).call
    assert (call.duration, call.price.amount, call.price.currency) == (5.0, Decimal("0.0525"), "EUR")


@pytest.mark.parametrize("start", [None, "", "nonsense"])
def test_a_call_that_nobody_answered_is_completed_without_an_answer(start: str | None) -> None:
    call = told({**LEG, "status": "completed", "start_time": start, "price": "none"}).call
    assert (call.answered_at, call.price, call.status) == (None, None, CallStatus.ENDED)


@pytest.mark.parametrize(
    ("body", "who", "over", "beep"),
    [
        ({"status": "human"}, "human", False, False),
        ({"status": "machine"}, "machine", False, False),
        ({"status": "machine", "sub_state": "beep_start"}, "machine", True, True),
        ({"status": "machine", "sub_state": "beep_timeout"}, "machine", True, False),
        ({"status": "machine", "sub_state": "news"}, "machine", False, False),
    ],
)
def test_who_picked_up(body: dict[str, Any], who: str, over: bool, beep: bool) -> None:
    event = told({"call_uuid": "63f6", "timestamp": "2026-03-02T09:15:03Z", **body})
    assert type(event) is events.MachineDetected
    assert (event.call_id, event.answered_by, event.greeting_ended, event.beep) == ("63f6", who, over, beep)


def test_the_two_verdicts_on_a_machine_are_two_events() -> None:
    first, second = ({"call_uuid": "1", "status": "machine", "sub_state": state} for state in (None, "beep_start"))
    assert told(first).event_id != told(second).event_id


@pytest.mark.parametrize("status", ["started", "answered", "completed", "busy", "failed", "disconnected", "news"])
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_socket_legs_news_is_never_the_calls(status: str, scheme: str) -> None:
    event = told({**LEG, "to": f"{scheme}://voice.example.com/media/x", "status": status, "headers": {"call": "aade"}})
    assert not isinstance(event, events.CallProgress) and event.call_id == "aade"
    stopped = {"completed": "stopped", "disconnected": "stopped"}
    expected = {"answered": "started", "busy": "failed", "failed": "failed", **stopped}
    assert getattr(event, "status", None) == expected.get(status)


@pytest.mark.parametrize(
    ("status", "ours"),
    [("answered", "answered"), ("completed", "completed"), ("busy", "busy"), ("unanswered", "no_answer"),
     ("timeout", "no_answer"), ("cancelled", "canceled"), ("rejected", "failed"), ("failed", "failed")],
)  # fmt: skip
def test_the_leg_a_caller_was_handed_to(status: str, ours: str) -> None:
    event = told({**LEG, "uuid": "target", "status": status}, f"{URL}?ref=abc&leg=target")
    assert type(event) is events.TransferProgress
    assert (event.status, event.target_call_id, event.reference, event.call_id) == (ours, "target", "abc", "")


@pytest.mark.parametrize("status", ["started", "ringing", "news"])
def test_that_it_rings_is_no_news_of_the_call(status: str) -> None:
    event = told({**LEG, "uuid": "target", "status": status}, f"{URL}?ref=abc&leg=target")
    assert type(event) is events.UnknownEvent and event.call_id == ""


@pytest.mark.parametrize(
    "body",
    [
        {"type": "transfer", "conversation_uuid_from": "CON-1", "conversation_uuid_to": "CON-2", "uuid": "63f6"},
        {"type": "transfer", "uuid": "63f6", "to": "14155550100"},
        {"reason": "Syntax error in NCCO", "uuid": "63f6", "to": "14155550100"},
        {"payload": {"foo": "bar"}},
        {"speech": {"results": []}, "dtmf": {"digits": "", "timed_out": True}, "uuid": "63f6", "to": "14155550100"},
        {"speech": {"results": []}, "uuid": "63f6", "to": "14155550100"},
        {**LEG, "status": "parked"},
        {**LEG, "status": "unanswered", "uuid": ""},
        {"from": "14155550123", "to": None, "uuid": "aade"},
        {"from": "14155550123", "to": [], "uuid": "aade"},
        {"dtmf": {"digits": "12x"}, "uuid": "aade", "to": "14155550100"},
        {},
    ],
)
def test_everything_else_is_unknown_and_kept(body: dict[str, Any]) -> None:
    event = told(body)
    assert type(event) is events.UnknownEvent and event.raw == body


def test_news_that_names_no_leg_is_told_apart_by_all_that_it_says() -> None:
    first, second = ({"payload": {"n": n}, "timestamp": LEG["timestamp"]} for n in (1, 2))
    assert told(first).event_id == told(first).event_id != told(second).event_id
    assert told({"from": "1", "conversation_uuid": "CON-1"}).event_id


@pytest.mark.parametrize(
    "region", ["http://api-us-3.vonage.com", "https://api.example.net", "https://vonage.com.evil", 7, None]
)
def test_a_region_that_is_not_vonages_is_not_kept(region: Any) -> None:
    event = told({"from": "1", "to": "14155550100", "uuid": "aade", "region_url": region})
    assert event.call.facts == {"line": "+14155550100"}


def test_a_sandboxs_region_is_kept_for_its_own_credential_only() -> None:
    assert trusted("http://127.0.0.1:80/us-3", "http://127.0.0.1:80")
    assert not trusted("http://127.0.0.1:8080/us-3", "http://127.0.0.1:80")
    assert not trusted("http://127.0.0.1:80/us-3", None) and not trusted("", "http://127.0.0.1:80")


@pytest.mark.parametrize(
    ("party", "written"),
    [
        ("14155550100", "+14155550100"),
        ("+14155550100", "+14155550100"),
        ({"type": "phone", "number": "447700900001"}, "+447700900001"),
        ([{"type": "phone", "number": "447700900001"}], "+447700900001"),
        ({"type": "sip", "uri": "sip:a@example.com"}, "sip:a@example.com"),
        ("anonymous", "anonymous"),
        ("0014155550100", "0014155550100"),
        ("911", "911"),
        ([], ""),
        (None, ""),
    ],
)
def test_numbers_get_their_plus_and_names_stay(party: Any, written: str) -> None:
    assert number(party) == written


def test_a_call_with_lists_and_times_without_a_zone() -> None:
    call = call_of(json.loads(shared_path("recordings", "vonage", "api", "doc_get_call_lists.json").read_text()))
    assert (call.from_, call.to, call.direction) == ("+447700900001", "+447700900000", Direction.OUTBOUND)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff"])
def test_what_is_no_webhook_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        parse(WebhookRequest("POST", URL, {}, body), None)
