"""What is asked of Plivo about calls: each option is sent or refused, and what it answers is a typed word of ours."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest

from anycarrier import Call, CallStatus, Direction, EndReason, IncomingCall, StreamTarget
from anycarrier.audio import PCMA_8K, AudioFormat
from anycarrier.errors import (
    AuthenticationFailed,
    InsufficientFunds,
    InvalidNumber,
    InvalidSipAddress,
    NotFound,
    NumberRejected,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.events import InstructionsFor, InstructionsRequested
from anycarrier.webhooks import WebhookReply
from anycarrier_plivo import PlivoProvider
from providers.plivo.conftest import STATUS_URL, Carrier, dial
from shared_documents import shared_path

FIRED = {"api_id": "x", "message": "call fired", "request_uuid": "c1"}
TARGET = StreamTarget(url="wss://voice.example.com/media/a&b")


def document(reply: WebhookReply) -> list[ET.Element]:
    assert (reply.status, reply.content_type) == (200, "application/xml")
    root = ET.fromstring(reply.body)
    assert root.tag == "Response"
    return list(root)


def known(direction: Direction = Direction.OUTBOUND, **facts: str) -> Call:
    return Call(
        id="c1", provider="plivo", direction=direction, from_="+14155550123", to="+14155550100",
        status=CallStatus.ANSWERED, facts=facts,
    )  # fmt: skip


async def test_a_plain_dial_is_this_and_nothing_more(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("POST /Call/", FIRED, status=201)
    call = await plivo.dial(dial())
    assert carrier.bodies == [
        {"from": "+14155550100", "to": "+14155550123", "answer_url": STATUS_URL, "answer_method": "POST",
         "ring_url": STATUS_URL, "ring_method": "POST", "hangup_url": STATUS_URL, "hangup_method": "POST",
         "ring_timeout": 30}
    ]  # fmt: skip
    assert (call.id, call.status, call.carrier_status) == ("c1", CallStatus.QUEUED, "call fired")
    assert call.reference == "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("option", "sent"),
    [
        ({"timeout": 12.4}, {"ring_timeout": 12}),
        ({"timeout": 0.3, "time_limit": 0.4}, {"ring_timeout": 1, "time_limit": 1}),
        ({"time_limit": 90.0}, {"time_limit": 90}),
        ({"time_limit": 1e6}, {"time_limit": 86_400}),
        ({"digits": "12w#"}, {"send_digits": "12w#"}),
        ({"caller_id": "+14155550142"}, {"from": "+14155550142"}),
        ({"headers": {"X-PH-Case": "7 & 8"}}, {"sip_headers": "Case=7%20%26%208"}),
        ({"record": True}, {"answer_url": f"{STATUS_URL}&record=1"}),
        ({"extra": {"caller_name": "Front desk"}}, {"caller_name": "Front desk"}),
    ],
)
async def test_an_option_of_a_dial_is_sent(
    plivo: PlivoProvider, carrier: Carrier, option: dict[str, Any], sent: dict[str, Any]
):
    carrier.on("POST /Call/", FIRED, status=201)
    await plivo.dial(dial(**option))
    assert sent.items() <= carrier.bodies[0].items()


@pytest.mark.parametrize(
    "option",
    [
        {"headers": {"X-Case": "7"}},
        {"headers": {"X-PH-Case": "7", "User-to-User": "x"}},
        {"headers": {"X-PH-Front-Desk": "7"}},
        {"stream": TARGET.model_copy(update={"format": PCMA_8K})},
        {"stream": TARGET.model_copy(update={"format": AudioFormat("PCM16", 44_100)})},
        {"stream": TARGET.model_copy(update={"custom": {"long": "x" * 512}})},
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    plivo: PlivoProvider, carrier: Carrier, option: dict[str, Any]
):
    with pytest.raises(UnsupportedOperation):
        await plivo.dial(dial(**option))
    assert carrier.requests == []


BARRED = "Calls to this destination region are barred"


@pytest.mark.parametrize(
    ("status", "text", "error", "step"),
    [
        (400, "to parameter is invalid", NumberRejected, "E.164"),
        (400, "'+1500' is not a valid number", NumberRejected, "E.164"),
        (400, "answer_url parameter is missing", RequestRejected, ""),
        (401, "no", AuthenticationFailed, ""),
        (402, "no", InsufficientFunds, ""),
        (400, "insufficient credit", InsufficientFunds, ""),
        (403, BARRED, PermissionDenied, "Geo Permissions"),
        (403, "Voice capability is currently disabled for this account", PermissionDenied, ""),
        (403, "maximum concurrency reached", RateLimited, ""),
        (405, "no", RequestRejected, ""),
        (429, "too many", RateLimited, ""),
        (500, "no", ProviderUnavailable, "do not dial again"),
        (503, "no", ProviderUnavailable, "do not dial again"),
    ],
)
async def test_a_refusal_is_typed_and_asked_for_once(
    plivo: PlivoProvider, carrier: Carrier, status: int, text: str, error: type[Exception], step: str
):
    carrier.on("POST /Call/", {"api_id": "x", "error": text}, status=status)
    with pytest.raises(error) as refused:
        await plivo.dial(dial())
    assert type(refused.value) is error and text[:10] in str(refused.value)
    assert step in str(refused.value) and len(carrier.requests) == 1


async def test_a_number_without_accepted_papers_is_refused_in_plivos_words(plivo: PlivoProvider, carrier: Carrier):
    recorded = json.loads(shared_path("recordings", "plivo", "errors", "compliance_not_accepted.json").read_text())
    carrier.on("POST /Call/", recorded["body"], status=recorded["status"])
    with pytest.raises(RequestRejected, match="compliance application is not in 'accepted' status"):
        await plivo.dial(dial())


@pytest.mark.parametrize("body", [{}, [], {"message": "call fired"}])
async def test_a_dial_without_an_id_has_an_unknown_outcome(plivo: PlivoProvider, carrier: Carrier, body: Any):
    carrier.on("POST /Call/", body, status=201)
    with pytest.raises(UnreadableResponse) as failed:
        await plivo.dial(dial())
    assert failed.value.outcome_unknown


async def test_the_recorded_answer_to_a_dial_is_read(plivo: PlivoProvider, carrier: Carrier):
    body = shared_path("recordings", "plivo", "api", "doc_create_call_fired.json").read_bytes()
    carrier.on("POST /Call/", httpx.Response(201, content=body))
    assert (await plivo.dial(dial())).id == "9834029e-58b6-11e1-b8b7-a5bd0e4e126f"


# --- instructions -----------------------------------------------------------------------------------------------------


def incoming(**facts: str) -> IncomingCall:
    call = known(Direction.INBOUND, **facts).model_copy(update={"status": CallStatus.RINGING})
    return IncomingCall(call=call, call_id="c1")


@pytest.mark.parametrize(
    ("format", "content_type"),
    [
        (AudioFormat("PCMU", 8000), "audio/x-mulaw;rate=8000"),
        (AudioFormat("PCM16", 16000), "audio/x-l16;rate=16000"),
        (AudioFormat("L16", 24000), "audio/x-l16;rate=24000"),
    ],
)
async def test_an_answer_connects_the_stream(plivo: PlivoProvider, format: AudioFormat, content_type: str):
    target = TARGET.model_copy(update={"format": format, "custom": {"who": "Zoë & co"}})
    (stream,) = document(await plivo.answer(incoming(webhook=STATUS_URL), target))
    assert (stream.tag, stream.text) == ("Stream", TARGET.url)
    assert stream.attrib == {
        "bidirectional": "true", "keepCallAlive": "true", "streamTimeout": "86400", "contentType": content_type,
        "statusCallbackUrl": STATUS_URL, "extraHeaders": "who=Zo%C3%AB%20%26%20co",
    }  # fmt: skip


async def test_a_stream_that_plivo_cannot_carry_is_refused_when_answering(plivo: PlivoProvider):
    with pytest.raises(UnsupportedOperation):
        await plivo.answer(incoming(), TARGET.model_copy(update={"format": PCMA_8K}))


@pytest.mark.parametrize(
    ("reason", "word"),
    [(EndReason.BUSY, "busy"), (EndReason.REJECTED, "rejected"), (EndReason.INVALID_NUMBER, "rejected")],
)
async def test_a_call_is_declined(plivo: PlivoProvider, reason: EndReason, word: str):
    (first,) = document(await plivo.reject(incoming(), reason))
    assert (first.tag, first.attrib) == ("Hangup", {"reason": word})


@pytest.mark.parametrize(
    ("to", "tag"), [("+14155550199", "Number"), ("sip:al@pbx.example.com;transport=tcp", "User")]
)
async def test_a_call_is_sent_on(plivo: PlivoProvider, to: str, tag: str):
    (dialled,) = document(await plivo.forward(incoming(), to, status_url=STATUS_URL))
    told = {"action": STATUS_URL, "callbackUrl": STATUS_URL}
    assert (dialled.tag, dialled.attrib) == ("Dial", told), "the caller has a number, and it may be shown"
    assert [(child.tag, child.text) for child in dialled] == [(tag, to)]
    (dialled,) = document(await plivo.forward(incoming(), to))
    assert dialled.attrib == {}


async def test_a_caller_without_a_number_shows_the_lines(plivo: PlivoProvider):
    event = incoming()
    event = IncomingCall(call=event.call.model_copy(update={"from_": "anonymous"}), call_id="c1")
    (dialled,) = document(await plivo.forward(event, "+14155550199"))
    assert dialled.attrib == {"callerId": "+14155550100"}


async def test_a_call_left_ringing_waits_unanswered(plivo: PlivoProvider):
    before, after = document(plivo.leave_ringing(incoming()))
    assert before.tag == "PreAnswer" and [(w.tag, w.attrib) for w in before] == [("Wait", {"length": "120"})]
    assert after.tag == "Hangup"


def asked(purpose: InstructionsFor, **raw: str) -> InstructionsRequested:
    return InstructionsRequested(call=known(webhook=STATUS_URL), call_id="c1", purpose=purpose, raw=raw)


async def test_a_dialled_call_is_connected_recorded_or_ended(plivo: PlivoProvider):
    answered = asked(InstructionsFor.ANSWERED)
    (stream,) = document(await plivo.instruct(answered, known(), TARGET))
    assert (stream.tag, stream.text, stream.get("statusCallbackUrl")) == ("Stream", TARGET.url, STATUS_URL)
    (over,) = document(await plivo.instruct(answered, known(), None))
    assert (over.tag, over.attrib) == ("Hangup", {})
    record, stream = document(await plivo.instruct(asked(InstructionsFor.ANSWERED, record="1"), known(), TARGET))
    assert (record.tag, stream.tag) == ("Record", "Stream")
    assert record.attrib == {
        "recordSession": "true", "redirect": "false", "playBeep": "false", "fileFormat": "wav", "maxLength": "86400",
        "callbackUrl": STATUS_URL,
    }  # fmt: skip


async def test_a_transfer_is_instructed_by_its_own_url(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("POST /Call/c1/", {"message": "call transfered"}, status=202)
    carrier.on("DELETE /Call/c1/Stream/", httpx.Response(204))
    options = {"caller_id": "+14155550142", "headers": {"X-PH-Case": "7"}}
    await plivo.transfer("c1", "sip:al@pbx.example.com", status_url=STATUS_URL, **options)  # type: ignore[arg-type]
    assert carrier.asked == ["POST /Call/c1/", "DELETE /Call/c1/Stream/"], "told first, then the stream is ended"
    body = carrier.bodies[0]
    assert (body["legs"], body["aleg_method"]) == ("aleg", "POST")
    url = httpx.URL(body["aleg_url"])
    assert url.params["ref"] == "0123456789abcdef0123456789abcdef"
    event = asked(InstructionsFor.TRANSFER, **dict(url.params))
    (dialled,) = document(await plivo.instruct(event, known(), None))
    assert dialled.attrib == {"callerId": "+14155550142", "action": STATUS_URL, "callbackUrl": STATUS_URL}
    assert [(user.tag, user.text, user.attrib) for user in dialled] == [
        ("User", "sip:al@pbx.example.com", {"sipHeaders": "Case=7"})
    ]


async def test_a_transfer_without_a_stream_is_one_too_and_a_refused_one_leaves_the_stream(
    plivo: PlivoProvider, carrier: Carrier
):
    carrier.on("POST /Call/c1/", {"message": "call transfered"}, status=202)
    await plivo.transfer("c1", "+14155550199", status_url=STATUS_URL)  # 404 for the stream
    carrier.requests.clear()
    carrier.on("POST /Call/c1/", {"error": "no"}, status=400)
    with pytest.raises(RequestRejected):
        await plivo.transfer("c1", "+14155550199", status_url=STATUS_URL)
    assert carrier.asked == ["POST /Call/c1/"]


@pytest.mark.parametrize(
    "asked_for",
    [
        {"to": "+14155550199"},
        {"to": "+14155550199", "status_url": STATUS_URL, "headers": {"X-PH-Case": "7"}},
        {"to": "sip:al@pbx.example.com", "status_url": STATUS_URL, "headers": {"X-Case": "7"}},
    ],
)
async def test_a_transfer_that_cannot_be_sent_whole_is_refused(
    plivo: PlivoProvider, carrier: Carrier, asked_for: dict[str, Any]
):
    with pytest.raises(UnsupportedOperation):
        await plivo.transfer("c1", **asked_for)
    assert carrier.requests == []


@pytest.mark.parametrize("to", ["", "4155550123", "tel:+14155550123", "sip:a@b.example@c.example", "sip:a@b,sip:c@d"])
async def test_what_is_no_destination_is_sent_nowhere(plivo: PlivoProvider, carrier: Carrier, to: str):
    with pytest.raises((InvalidNumber, InvalidSipAddress)):
        await plivo.transfer("c1", to, status_url=STATUS_URL)
    with pytest.raises((InvalidNumber, InvalidSipAddress)):
        await plivo.forward(incoming(), to)
    assert carrier.requests == []


# --- during a call ----------------------------------------------------------------------------------------------------


async def test_a_live_call_is_one_request_and_a_queued_one_two(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("DELETE /Call/c1/", httpx.Response(204))
    await plivo.hang_up("c1")
    assert carrier.asked == ["DELETE /Call/c1/"]
    carrier.requests.clear()
    carrier.on("DELETE /Request/c2/", httpx.Response(204))
    await plivo.hang_up("c2")
    await plivo.hang_up("c3")  # it is over
    assert carrier.asked == [f"DELETE /{kind}/{call}/" for call in ("c2", "c3") for kind in ("Call", "Request")]


@pytest.mark.parametrize("status", [401, 403, 429, 500])
async def test_a_hang_up_that_fails_is_not_taken_for_done(plivo: PlivoProvider, carrier: Carrier, status: int):
    carrier.on("DELETE /Call/c1/", {"error": "no"}, status=status)
    with pytest.raises((AuthenticationFailed, PermissionDenied, RateLimited, ProviderUnavailable)):
        await plivo.hang_up("c1")
    carrier.on("DELETE /Request/c2/", {"error": "no"}, status=status)
    with pytest.raises((AuthenticationFailed, PermissionDenied, RateLimited, ProviderUnavailable)):
        await plivo.hang_up("c2")


@pytest.mark.parametrize("call_id", ["", "../Number", "c1/../../x", "c 1", "c1?x=y"])
async def test_what_is_no_id_is_asked_of_nobody(plivo: PlivoProvider, carrier: Carrier, call_id: str):
    with pytest.raises(NotFound):
        await plivo.fetch_call(call_id)
    assert carrier.requests == []


async def test_a_live_call_is_read(plivo: PlivoProvider, carrier: Carrier):
    body = shared_path("recordings", "plivo", "api", "doc_live_call_get.json").read_bytes()
    carrier.on("GET /Call/c1/", httpx.Response(200, content=body))
    call = await plivo.fetch_call("c1")
    assert (call.status, call.carrier_status) == (CallStatus.ANSWERED, "in-progress")
    assert call.direction is Direction.OUTBOUND
    assert (call.from_, call.to) == ("+918687880000", "+919798990000")
    assert call.created_at == datetime(2017, 5, 22, 13, 17, 49, 50872, tzinfo=UTC)
    assert carrier.requests[0].url.params["status"] == "live"


async def test_an_ended_call_is_read(plivo: PlivoProvider, carrier: Carrier):
    listed = json.loads(shared_path("recordings", "plivo", "api", "doc_list_calls.json").read_text())["objects"]
    for raw in listed:
        cause = {"hangup_cause_code": 4000, "hangup_cause_name": "Normal Hangup", "hangup_source": "callee"}
        gone = httpx.Response(404, json={"error": "not found"})
        carrier.on("GET /Call/c1/", gone, httpx.Response(200, json={**raw, **cause}))
        call = await plivo.fetch_call("c1")
        assert (call.status, call.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
        assert call.carrier_status == "Normal Hangup"
        assert call.answered_at is not None and call.answered_at.tzinfo is UTC and call.duration == 12
        assert call.price is not None and call.price.amount == Decimal("0.136")
    with pytest.raises(NotFound):
        await plivo.fetch_call("c2")


async def test_keys_are_a_command(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("POST /Call/c1/DTMF/", {"message": "digits sent"}, status=202)
    await plivo.send_digits("c1", "1w2#")
    assert carrier.bodies == [{"digits": "1w2#", "leg": "aleg"}]


# --- recordings -------------------------------------------------------------------------------------------------------


async def test_a_recording_is_asked_for_in_full_length(plivo: PlivoProvider, carrier: Carrier):
    body = shared_path("recordings", "plivo", "api", "doc_record_start.json").read_bytes()
    carrier.on("POST /Call/c1/Record/", httpx.Response(202, content=body))
    assert await plivo.start_recording("c1", status_url=STATUS_URL) == "48dfaf60-3b2a-11e3"
    await plivo.start_recording("c1")
    plain = {"time_limit": 86_400, "file_format": "wav"}
    assert carrier.bodies == [{**plain, "callback_url": STATUS_URL}, plain]


async def test_a_recording_is_stopped_and_one_that_is_over_is_not_found(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("DELETE /Call/c1/Record/", httpx.Response(204))
    await plivo.stop_recording("c1", "r1")
    with pytest.raises(NotFound):
        await plivo.stop_recording("c2")


async def test_the_file_is_fetched_without_our_login(plivo: PlivoProvider, carrier: Carrier):
    """Its link leads to a store: who gets the login there could use the account."""
    link = {"recording_url": "https://media.example.com/r1.wav", "recording_format": "wav"}
    carrier.on("GET /Recording/r1/", link)
    carrier.on("GET /r1.wav", httpx.Response(200, content=b"RIFF"))
    assert await plivo.fetch_recording("r1") == b"RIFF"
    asked_api, asked_store = carrier.requests
    assert "authorization" in asked_api.headers and "authorization" not in asked_store.headers


async def test_the_account_has_a_name(plivo: PlivoProvider, carrier: Carrier):
    carrier.on("GET /", {"auth_id": "MA", "name": "Front Desk", "cash_credits": "1.0"})
    assert await plivo.check_credential() == "Front Desk"
    carrier.on("GET /", {"error": "no"}, status=401)
    with pytest.raises(AuthenticationFailed):
        await plivo.check_credential()
