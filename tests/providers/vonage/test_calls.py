"""What Vonage is asked to do with calls: bodies against its documents, hosts by region, and errors by type."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest

from anycarrier import errors
from anycarrier.audio import PCMA_8K, PCMU_8K, AudioFormat
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from anycarrier.events import IncomingCall
from anycarrier_vonage import VonageProvider
from providers.vonage.conftest import Carrier
from shared_documents import shared_path

PLACED = {"uuid": "63f6", "status": "started", "direction": "outbound", "conversation_uuid": "CON-1"}
REF = "0123456789abcdef0123456789abcdef"
STATUS = f"https://voice.example.com/vonage/main?ref={REF}"
REGION = "https://api-us-3.vonage.com"


def asked(**changes: Any) -> DialRequest:
    stream = StreamTarget(url="wss://voice.example.com/media/ticket", format=changes.pop("format", PCMU_8K),
                          custom=changes.pop("custom", {}))  # fmt: skip
    return DialRequest(
        from_="+14155550100", to="+14155550123", stream=stream, status_url=STATUS, reference=REF, **changes
    )


def ringing(**changes: Any) -> IncomingCall:
    call = Call(id="aade", provider="vonage", direction=Direction.INBOUND, from_=changes.get("from_", "+14155550123"),
                to="+14155550100", status=CallStatus.RINGING)  # fmt: skip
    return IncomingCall(call=call, call_id="aade")


def with_facts(provider: VonageProvider, **facts: str) -> VonageProvider:
    async def kept(call_id: str) -> Mapping[str, str]:
        return facts

    provider.call_facts = kept
    return provider


async def body_of(vonage: VonageProvider, carrier: Carrier, **changes: Any) -> dict[str, Any]:
    carrier.on("POST /v1/calls", PLACED, status=201)
    await vonage.dial(asked(**changes))
    body: dict[str, Any] = carrier.bodies[-1]
    return body


async def test_a_dial_is_one_request_with_its_instructions(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("POST /v1/calls", PLACED, status=201)
    call = await vonage.dial(asked(timeout=45, custom={"desk": "front"}))
    assert carrier.asked == ["POST /v1/calls"]
    assert carrier.bodies == [{
        "to": [{"type": "phone", "number": "14155550123"}],
        "from": {"type": "phone", "number": "14155550100"},
        "ncco": [{"action": "connect", "from": "14155550100", "endpoint": [{
            "type": "websocket", "uri": "wss://voice.example.com/media/ticket",
            "content-type": "audio/l16;rate=8000", "headers": {"custom-desk": "front"}}]}],
        "event_url": [STATUS], "event_method": "POST", "ringing_timer": 45,
    }]  # fmt: skip
    assert (call.id, call.reference, call.status) == ("63f6", REF, CallStatus.INITIATED)
    assert call.direction is Direction.OUTBOUND
    assert (call.from_, call.to) == ("+14155550100", "+14155550123")
    assert call.facts == {"region": "https://api.nexmo.com", "line": "+14155550100"}


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"timeout": 600}, {"ringing_timer": 120}),
        ({"timeout": 0.2}, {"ringing_timer": 1}),
        ({"time_limit": 90.4}, {"length_timer": 90}),
        ({"time_limit": 0.2}, {"length_timer": 1}),
        ({"caller_id": "+14155550142"}, {"from": {"type": "phone", "number": "14155550142"}}),
        ({"digits": "1w2W#"}, {"to": [{"type": "phone", "number": "14155550123", "dtmfAnswer": "1p2pp#"}]}),
        ({"machine_detection": MachineDetection.DETECT}, {"machine_detection": "continue"}),
        (
            {"machine_detection": MachineDetection.WAIT_FOR_BEEP},
            {"advanced_machine_detection": {"behavior": "continue", "mode": "default", "beep_timeout": 45}},
        ),
        ({"extra": {"length_timer": 7}}, {"length_timer": 7}),
    ],
)
async def test_each_option_is_sent(
    vonage: VonageProvider, carrier: Carrier, changes: dict[str, Any], sent: dict[str, Any]
) -> None:
    body = await body_of(vonage, carrier, **changes)
    assert {name: body[name] for name in sent} == sent


async def test_a_recording_is_an_action_before_the_connect(vonage: VonageProvider, carrier: Carrier) -> None:
    record, connect = (await body_of(vonage, carrier, record=True))["ncco"]
    assert record == {"action": "record", "format": "wav", "split": "conversation", "channels": 2,
                      "eventUrl": [STATUS], "eventMethod": "POST"}  # fmt: skip
    assert connect["action"] == "connect"


@pytest.mark.parametrize(
    ("format", "rate"),
    [
        (PCMU_8K, 8000),
        (AudioFormat("L16", 8000), 8000),
        (AudioFormat("L16", 16000), 16000),
        (AudioFormat("PCM16", 24000), 24000),
    ],
)
async def test_the_rate_is_what_was_asked_for(
    vonage: VonageProvider, carrier: Carrier, format: AudioFormat, rate: int
) -> None:
    (connect,) = (await body_of(vonage, carrier, format=format))["ncco"]
    assert connect["endpoint"][0]["content-type"] == f"audio/l16;rate={rate}"


@pytest.mark.parametrize(
    "changes",
    [
        {"headers": {"X-Order": "7"}},
        {"digits": "1A"},
        {"format": PCMA_8K},
        {"format": AudioFormat("L16", 44100)},
        {"format": AudioFormat("L16", 16000, 2)},
        {"format": AudioFormat("OPUS", 8000)},
        {"custom": {"x": "y" * 510}},
    ],
    ids=lambda changes: str(changes)[:40],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is(
    vonage: VonageProvider, carrier: Carrier, changes: dict[str, Any]
) -> None:
    with pytest.raises(errors.UnsupportedOperation):
        await vonage.dial(asked(**changes))
    assert carrier.asked == []


async def test_the_instructions_are_of_vonages_schema(vonage: VonageProvider, carrier: Carrier) -> None:
    from jsonschema import Draft7Validator

    schema = Draft7Validator(json.loads(shared_path("specs", "vonage_ncco.schema.json").read_text()))
    body = await body_of(vonage, carrier, record=True, custom={"desk": "front"})
    replies = [
        await vonage.answer(ringing(), asked().stream),
        await vonage.forward(ringing(), "+14155550142", status_url=STATUS),
        await vonage.forward(ringing(), "sip:desk@example.com"),
    ]
    for ncco in [body["ncco"], *(json.loads(reply.body) for reply in replies)]:
        assert [error.message for error in schema.iter_errors(ncco)] == []
    assert list(schema.iter_errors([{"action": "connect"}])) != []


async def test_an_answer_names_the_call_to_the_socket(vonage: VonageProvider) -> None:
    reply = await vonage.answer(ringing(), asked(custom={"desk": "front"}).stream)
    (connect,) = json.loads(reply.body)
    assert connect["endpoint"][0]["headers"] == {"call": "aade", "custom-desk": "front"}
    assert (reply.status, reply.content_type, connect["from"]) == (200, "application/json", "14155550100")


async def test_declining_and_leaving_a_call(vonage: VonageProvider) -> None:
    for reason in (EndReason.BUSY, EndReason.REJECTED, EndReason.INVALID_NUMBER):
        assert (await vonage.reject(ringing(), reason)).body == b"[]"
    assert json.loads(vonage.leave_ringing(ringing()).body) == [{"action": "wait", "timeout": 120}]


@pytest.mark.parametrize(("from_", "shown"), [("+14155550123", "14155550100"), ("anonymous", "14155550100")])
async def test_a_forward_shows_our_number(vonage: VonageProvider, from_: str, shown: str) -> None:
    (connect,) = json.loads((await vonage.forward(ringing(from_=from_), "+14155550142", status_url=STATUS)).body)
    assert connect == {"action": "connect", "from": shown, "endpoint": [{"type": "phone", "number": "14155550142"}],
                       "eventUrl": [f"{STATUS}&leg=target"]}  # fmt: skip


async def test_commands_go_to_the_region_of_the_call(vonage: VonageProvider, carrier: Carrier) -> None:
    with_facts(vonage, region=REGION, line="+14155550100")
    carrier.on("PUT /v1/calls/aade", status=204)
    carrier.on("PUT /v1/calls/aade/dtmf", {"message": "DTMF sent", "uuid": "aade"})
    await vonage.hang_up("aade")
    await vonage.transfer("aade", "+14155550142", status_url=STATUS)
    await vonage.send_digits("aade", "1w#")
    assert {request.url.host for request in carrier.requests} == {"api-us-3.vonage.com"}
    hang_up, transfer, digits = carrier.bodies
    assert (hang_up, digits) == ({"action": "hangup"}, {"digits": "1p#"})
    assert transfer == {"action": "transfer", "destination": {"type": "ncco", "ncco": [{
        "action": "connect", "from": "14155550100", "endpoint": [{"type": "phone", "number": "14155550142"}],
        "eventUrl": [f"{STATUS}&leg=target"]}]}}  # fmt: skip


@pytest.mark.parametrize("region", ["https://evil.example.net", "http://api-us-3.vonage.com", ""])
async def test_a_fact_that_is_no_region_is_not_given_our_token(
    vonage: VonageProvider, carrier: Carrier, region: str
) -> None:
    with_facts(vonage, region=region)
    carrier.on("PUT /v1/calls/aade", status=204)
    await vonage.hang_up("aade")
    assert carrier.requests[0].url.host == "api.nexmo.com"


async def test_the_credentials_region_is_where_calls_are_placed(
    open_vonage: Callable[..., VonageProvider], carrier: Carrier
) -> None:
    vonage = open_vonage(region="eu-1")
    carrier.on("POST /v1/calls", PLACED, status=201)
    call = await vonage.dial(asked())
    assert carrier.requests[0].url.host == "api-eu-1.vonage.com"
    assert call.facts["region"] == "https://api-eu-1.vonage.com"


async def test_a_transfer_to_a_sip_address_takes_headers(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("PUT /v1/calls/aade", status=204)
    headers = {"X-Order": "7", "User-to-User": "00;encoding=hex"}
    await vonage.transfer("aade", "sip:desk@example.com", caller_id="+14155550142", headers=headers)
    (connect,) = carrier.bodies[0]["destination"]["ncco"]
    assert connect["endpoint"] == [{"type": "sip", "uri": "sip:desk@example.com", "headers": {"Order": "7"},
                                    "standardHeaders": {"User-to-User": "00;encoding=hex"}}]  # fmt: skip
    assert connect["from"] == "14155550142" and "eventUrl" not in connect
    with pytest.raises(errors.UnsupportedOperation):
        await vonage.transfer("aade", "+14155550142", headers=headers)


@pytest.mark.parametrize(
    ("status", "fetched", "over"),
    [(204, None, True), (404, None, True), (400, "completed", True), (400, "", True), (400, "answered", False),
     (500, None, False)],
)
async def test_hanging_up_a_call_that_is_over_is_success(
    vonage: VonageProvider, carrier: Carrier, status: int, fetched: str | None, over: bool
) -> None:
    carrier.on("PUT /v1/calls/aade", {"title": "Bad Request"} if status != 204 else None, status=status)
    if fetched:  # else Vonage has forgotten it by then
        carrier.on("GET /v1/calls/aade", {**PLACED, "uuid": "aade", "status": fetched, "from": {}, "to": {}})
    if over:
        await vonage.hang_up("aade")
    else:
        with pytest.raises(errors.ProviderError):
            await vonage.hang_up("aade")


@pytest.mark.parametrize(
    "to", ["", "4155550123", "tel:+14155550123", "+14155550123&x", "sip:a@b.example@c.example", "sip:a@b,sip:c@d"]
)
async def test_a_call_is_handed_to_addresses_only(vonage: VonageProvider, carrier: Carrier, to: str) -> None:
    with pytest.raises(errors.InvalidNumber):
        await vonage.transfer("aade", to)
    with pytest.raises(errors.InvalidNumber):
        await vonage.forward(ringing(), to)
    assert carrier.asked == []


def test_the_provider_keeps_no_secret_of_the_account(vonage: VonageProvider) -> None:
    assert not any(secret in repr(vars(vonage)) for secret in ("kept-secret", "a1b2c3d4"))


async def test_a_call_is_fetched_with_its_price(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /v1/calls/63f6", {
        **PLACED, "status": "completed", "from": {"type": "phone", "number": "14155550100"},
        "to": {"type": "phone", "number": "14155550123"}, "start_time": "2026-03-02T09:15:04Z",
        "end_time": "2026-03-02T09:15:09Z", "price": "0.0525", "rate": "0.39", "duration": "5", "network": "65512",
    })  # fmt: skip
    call = await vonage.fetch_call("63f6")
    assert (call.ended, call.duration, call.from_, call.to) == (True, 5.0, "+14155550100", "+14155550123")
    assert call.price is not None and str(call.price.amount) == "0.0525"


@pytest.mark.parametrize("call_id", ["../applications", "a/b", "a?b", "", "a b"])
async def test_what_is_no_id_gets_into_no_path(vonage: VonageProvider, carrier: Carrier, call_id: str) -> None:
    with pytest.raises(errors.NotFound):
        await vonage.fetch_call(call_id)
    assert carrier.asked == []


async def test_a_recording_is_fetched_from_where_it_is(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /v1/files/87b8", b"RIFF")
    assert await vonage.fetch_recording(f"{REGION}/v1/files/87b8") == b"RIFF"
    assert await vonage.fetch_recording("87b8") == b"RIFF"
    assert [request.url.host for request in carrier.requests] == ["api-us-3.vonage.com", "api.nexmo.com"]


@pytest.mark.parametrize("where", ["https://evil.example.net/v1/files/87b8", "http://api.nexmo.com/v1/files/87b8"])
async def test_nobody_else_is_shown_our_token(vonage: VonageProvider, carrier: Carrier, where: str) -> None:
    with pytest.raises(errors.NotFound):
        await vonage.fetch_recording(where)
    assert carrier.requests == []


async def test_a_redirect_of_a_recording_is_not_followed(vonage: VonageProvider, carrier: Carrier) -> None:
    carrier.on("GET /v1/files/87b8", lambda request: None, status=302)
    with pytest.raises(errors.UnreadableResponse):
        await vonage.fetch_recording("87b8")
    assert len(carrier.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"type": 400, "title": "Bad Request",
               "invalid_parameters": [{"name": "to[0].number", "reason": "is no number"}]}, errors.NumberRejected),
        (400, {"type": 400, "title": "Bad Request",
               "invalid_parameters": [{"name": "ncco", "reason": "has no action"}]}, errors.RequestRejected),
        (401, {"title": "Unauthorized"}, errors.AuthenticationFailed),
        (402, {"title": "Low balance"}, errors.InsufficientFunds),
        (404, {"error_title": "Not Found"}, errors.NotFound),
        (500, "<html>", errors.ProviderUnavailable),
        (503, {"title": "x"}, errors.ProviderUnavailable),
    ],
)  # fmt: skip
async def test_a_refusal_is_a_typed_error(
    vonage: VonageProvider, carrier: Carrier, status: int, body: Any, kind: type[errors.ProviderError]
) -> None:
    carrier.on("POST /v1/calls", body, status=status)
    with pytest.raises(errors.ProviderError) as refused:
        await vonage.dial(asked())
    assert type(refused.value) is kind and refused.value.status == status
    assert "4155550123" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "kind"), [("problem_403", errors.PermissionDenied), ("problem_429", errors.RateLimited)]
)
async def test_the_documented_refusals(
    vonage: VonageProvider, carrier: Carrier, name: str, kind: type[errors.ProviderError]
) -> None:
    kept = json.loads(shared_path("recordings", "vonage", "errors", f"{name}.json").read_text())
    carrier.on("POST /v1/calls", kept["body"], status=kept["status"])
    with pytest.raises(kind) as refused:
        await vonage.dial(asked())
    assert kept["body"]["detail"] in str(refused.value)


async def test_a_dial_without_an_answer_is_not_sent_again(
    open_vonage: Callable[..., VonageProvider], carrier: Carrier
) -> None:
    def lost(request: httpx.Request) -> None:
        raise httpx.ReadError("gone")

    carrier.on("POST /v1/calls", lost)
    with pytest.raises(errors.ProviderUnavailable) as failed:
        await open_vonage().dial(asked())
    assert failed.value.outcome_unknown and len(carrier.requests) == 1
