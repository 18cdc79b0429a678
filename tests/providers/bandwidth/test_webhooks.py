"""Webhooks: who is believed, what each becomes, and what is answered."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from anycarrier import EndReason
from anycarrier.errors import MalformedMessage, SignatureInvalid
from anycarrier.events import (
    CallProgress,
    IncomingCall,
    InstructionsRequested,
    MachineDetected,
    RecordingProgress,
    StreamProgress,
    TransferProgress,
    UnknownEvent,
)
from anycarrier.webhooks import WebhookRequest
from anycarrier_bandwidth import BandwidthProvider, wire
from shared_documents import shared_path

LOGIN = "anycarrier:callback-password-0123"
APP = "04e88489-df02-4e34-a0ee-27a91849555f"
RECORDINGS = {
    "captured_initiate_inbound": IncomingCall,
    "doc_answer_outbound": InstructionsRequested,
    "doc_machine_detected": MachineDetected,
    "doc_media_stream_rejected": StreamProgress,
    "doc_recording_available": RecordingProgress,
    "doc_redirect": UnknownEvent,
    "doc_transfer_complete": TransferProgress,
}


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


def webhook(authorization: str | None = basic(LOGIN), url: str = "https://x/bandwidth/main?ref=r", **told: Any) -> (
    WebhookRequest
):
    body = {"eventType": "disconnect", "callId": "c-1", "accountId": "9900000", "applicationId": APP, **told}
    headers = {"authorization": authorization} if authorization is not None else {}
    return WebhookRequest("POST", url, headers, json.dumps(body).encode())


@pytest.fixture
def known(kit: Any) -> BandwidthProvider:
    return BandwidthProvider(kit.credential())


def test_the_login_of_the_credential_is_believed(known: BandwidthProvider) -> None:
    known.verify(webhook())
    known.verify(webhook(basic(LOGIN).replace("Basic", "basic")))


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Basic", "Basic ", basic(LOGIN)[:-2], basic("anycarrier:"), basic(":callback-password-0123"),
     basic("anycarrier:callback-password-012"), basic("anycarrier:callback-password-01234"), basic("x:x"),
     "Bearer callback-password-0123", "Basic é", "Basic ///", basic(LOGIN).encode().hex()],
)  # fmt: skip
def test_any_other_login_is_refused(known: BandwidthProvider, authorization: str | None) -> None:
    with pytest.raises(SignatureInvalid) as refused:
        known.verify(webhook(authorization))
    assert "callback-password" not in str(refused.value)


@pytest.mark.parametrize("told", [{"accountId": "1"}, {"applicationId": "x"}, {"accountId": 5}, {"accountId": None}])
def test_a_message_of_another_account_or_application_is_refused(known: BandwidthProvider, told: dict[str, Any]) -> None:
    with pytest.raises(SignatureInvalid, match="another"):
        known.verify(webhook(**told))


@pytest.mark.parametrize("name", sorted(RECORDINGS))
def test_every_recording_becomes_its_event(known: BandwidthProvider, name: str) -> None:
    kept = json.loads(shared_path("recordings", "bandwidth", "webhooks", f"{name}.json").read_text())
    body = json.dumps(kept["body"]).encode()
    request = WebhookRequest(kept["method"], "https://x/bandwidth/main", kept["headers"], body)
    event = known.parse_webhook(request)
    assert type(event) is RECORDINGS[name]
    assert event.raw == kept["body"] and event.event_id and event.occurred_at is not None
    assert event.call_id == kept["body"]["callId"]


def test_the_recorded_bodies_of_calls_are_read() -> None:
    for name in ("made_call_state_list_of_one", "doc_create_call_201"):
        body = json.loads(shared_path("recordings", "bandwidth", "api", f"{name}.json").read_text())["body"]
        call = wire.call_from_rest(body)
        assert call.id.startswith("c-") and call.from_ and call.to
        assert "REDACTED" not in str(call.raw), "the password that the carrier repeats"


@pytest.mark.parametrize(
    ("cause", "code", "text", "reason"),
    [
        ("hangup", None, "", EndReason.USER_HANGUP),
        ("busy", 486, "", EndReason.BUSY),
        ("busy", None, "", EndReason.BUSY),
        ("timeout", 487, "", EndReason.NO_ANSWER),
        ("timeout", None, "", EndReason.NO_ANSWER),
        ("cancel", None, "", EndReason.CANCELED),
        ("rejected", 603, "", EndReason.REJECTED),
        ("rejected", 404, "", EndReason.INVALID_NUMBER),
        ("rejected", None, "", EndReason.REJECTED),
        ("callback-error", None, "", EndReason.AGENT_ERROR),
        ("invalid-bxml", None, "", EndReason.AGENT_ERROR),
        ("application-error", None, "", EndReason.AGENT_ERROR),
        ("account-limit", None, "Account call creation rate limit exceeded", EndReason.PROVIDER_RATE_LIMITED),
        ("account-limit", None, "Account Concurrent call limit exceeded", EndReason.CONCURRENCY_LIMIT),
        ("node-capacity-exceeded", None, "", EndReason.PROVIDER_UNAVAILABLE),
        ("error", None, "", EndReason.UNREACHABLE),
        ("error", 503, "", EndReason.PROVIDER_UNAVAILABLE),
        ("something-new", None, "", EndReason.UNREACHABLE),
        ("", None, "", EndReason.UNREACHABLE),
    ],
)
def test_every_cause_has_a_reason_and_the_carriers_word_is_kept(
    known: BandwidthProvider, cause: str, code: int | None, text: str, reason: EndReason
) -> None:
    event = known.parse_webhook(webhook(cause=cause, sipResponseCode=code, errorMessage=text))
    assert isinstance(event, CallProgress)
    assert (event.call.reason, event.call.sip_code) == (reason, code)
    assert event.call.carrier_status == (cause or "disconnect")


@pytest.mark.parametrize(
    ("value", "query", "told"),
    [
        ("human", "", ("human", False, False)),
        ("answering-machine", "", ("machine", False, False)),
        ("answering-machine", "&greeted=1", ("machine", True, False)),
        ("tone-detected", "", ("machine", True, True)),
        ("human", "&greeted=1", ("human", False, False)),
        ("silence", "&greeted=1", ("unknown", False, False)),
        ("something-new", "", ("unknown", False, False)),
    ],
)
def test_who_picked_up(known: BandwidthProvider, value: str, query: str, told: tuple[object, ...]) -> None:
    request = webhook(url=f"https://x/b/main?ref=r{query}", eventType="machineDetectionComplete",
                      machineDetectionResult={"value": value, "duration": "PT1S"})  # fmt: skip
    event = known.parse_webhook(request)
    assert isinstance(event, MachineDetected)
    assert (event.answered_by, event.greeting_ended, event.beep) == told


@pytest.mark.parametrize(
    ("kind", "told", "status", "call_id"),
    [
        ("transferAnswer", {"parentCallId": "c-0"}, "answered", "c-0"),
        ("transferDisconnect", {"parentCallId": "c-0", "cause": "busy"}, "busy", "c-0"),
        ("transferComplete", {"cause": "timeout"}, "no_answer", "c-1"),
        ("transferComplete", {"cause": "hangup"}, "completed", "c-1"),
        ("transferComplete", {"cause": "cancel"}, "canceled", "c-1"),
        ("transferComplete", {"cause": "account-limit"}, "failed", "c-1"),
    ],
)
def test_what_becomes_of_a_transfer_is_news_of_the_call_that_was_transferred(
    known: BandwidthProvider, kind: str, told: dict[str, str], status: str, call_id: str
) -> None:
    event = known.parse_webhook(webhook(eventType=kind, **told))
    assert isinstance(event, TransferProgress) and (event.status, event.call_id) == (status, call_id)


KINDS = (
    "initiate answer disconnect machineDetectionComplete dtmf recordingAvailable transferAnswer transferComplete "
    "transferDisconnect mediaStreamStarted mediaStreamRejected mediaStreamStopped"
)
ODD = [None, 5, True, "x", [], ["1", "2"], {"a": None}, {"value": 5}]
FIELDS = (
    "eventTime parentCallId from to direction state startTime answerTime endTime cause errorMessage sipResponseCode "
    "recordingId mediaUrl duration channels status machineDetectionResult mediaStream stirShaken diversion sipHeaders "
    "uui"
)


@pytest.mark.parametrize("kind", KINDS.split())
def test_a_value_of_another_type_in_a_field_we_could_do_without_loses_no_event(
    known: BandwidthProvider, kind: str
) -> None:
    expected = type(known.parse_webhook(webhook(eventType=kind, digit="1")))
    assert expected is not UnknownEvent
    for field in FIELDS.split():
        for odd in ODD:
            request = webhook(eventType=kind, **{"digit": "1", field: odd})
            known.verify(request)
            event = known.parse_webhook(request)
            assert type(event) is expected and event.call_id, f"{field} = {odd!r}"


def test_a_withheld_caller_and_a_header_sent_twice_are_an_incoming_call_all_the_same(known: BandwidthProvider) -> None:
    odd = {"from": None, "stirShaken": {"verstat": "No-TN-Validation", "attestationIndicator": None, "valid": True},
           "diversion": {"origTo": "+14155550142", "counter": 1},
           "sipHeaders": {"x-a": ["1", "2"], "x-b": "3"}}  # fmt: skip
    event = known.parse_webhook(webhook(eventType="initiate", **odd))
    assert isinstance(event, IncomingCall)
    assert (event.call.from_, event.verified, event.forwarded_from) == ("", None, "+14155550142")
    assert dict(event.headers) == {"x-b": "3"}


@pytest.mark.parametrize("kind", ["initiate", "answer", "redirect", "gather", "transferAnswer", "transferComplete"])
def test_who_asks_for_instructions_is_answered_with_a_document(known: BandwidthProvider, kind: str) -> None:
    reply = known.acknowledge(known.parse_webhook(webhook(eventType=kind)))
    assert (reply.status, reply.content_type) == (200, "application/xml") and b"<Response/>" in reply.body


@pytest.mark.parametrize("kind", ["disconnect", "dtmf", "mediaStreamStopped", "recordingAvailable", "somethingNew"])
def test_who_only_tells_is_answered_with_nothing(known: BandwidthProvider, kind: str) -> None:
    assert known.acknowledge(known.parse_webhook(webhook(eventType=kind, digit="1"))).status == 204


def test_keys_pressed_in_one_moment_are_two_events(known: BandwidthProvider) -> None:
    told = {"eventType": "dtmf", "eventTime": "2026-06-10T19:15:19.694Z"}
    first, second = (known.parse_webhook(webhook(**told, digit=digit)) for digit in "12")
    assert first.event_id != second.event_id


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b'{"eventType": "answer"}', b'{"callId": "c-1"}', b"\xff"])
def test_what_is_no_event_is_malformed(known: BandwidthProvider, body: bytes) -> None:
    with pytest.raises(MalformedMessage):
        known.parse_webhook(WebhookRequest("POST", "https://x/b/main", {}, body))
