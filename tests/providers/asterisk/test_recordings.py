"""Captures of a real Asterisk: every event and frame is understood, and so is the sandbox's document of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from anycarrier import AudioReceived, CallProgress, CallStatus, DigitPressed, EndReason, IncomingCall, StreamStarted
from anycarrier.errors import AnycarrierError, AuthenticationFailed, NotFound, RequestRejected
from anycarrier.events import DigitReported, MarkReached, StreamError, UnknownEvent
from anycarrier_asterisk.call import AsteriskCall
from anycarrier_asterisk.frames import AsteriskSerializer
from ari_document import AriDocument
from shared_documents import shared_path

WEBHOOKS = [
    "application_replaced_and_rest_response", "inbound_media_bridge_dtmf_hangup", "media_client_unreachable",
    "outbound_canceled_by_us", "outbound_congestion", "outbound_unallocated_1",
]  # fmt: skip


def events_of(name: str) -> list[dict[str, Any]]:
    text = shared_path("recordings", "asterisk", "webhooks", f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def outbound(bare: Any, call_id: str) -> AsteriskCall:
    from anycarrier.calls import Call, DialRequest, Direction, StreamTarget

    stream, told = StreamTarget(url="wss://us/media?ticket=t", ticket="t"), "https://us/asterisk/main"
    request = DialRequest(from_="+14155550101", to="+12125550110", stream=stream, status_url=told)
    call = Call(id=call_id, provider="asterisk", direction=Direction.OUTBOUND, from_="+14155550101", to="+12125550110",
                status=CallStatus.INITIATED)  # fmt: skip
    return AsteriskCall(bare.listener, call, request)


def statuses(bare: Any, call_id: str) -> list[CallStatus]:
    return [each.call.status for each in bare.desk.told if isinstance(each, CallProgress) and each.call_id == call_id]


@pytest.mark.parametrize("name", WEBHOOKS)
async def test_no_captured_event_is_misunderstood(bare: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    class Socket:
        async def close(self) -> None: ...

    bare.listener._socket = Socket()
    for event in events_of(name):
        bare.listener.heard(json.dumps(event))
    assert not [record for record in caplog.records if "not understood" in record.getMessage()]


async def test_an_inbound_call_rings_and_ends_without_a_channel_destroyed(
    bare: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_asterisk.call.CAUSE_PATIENCE", 0.01)
    for event in events_of("inbound_media_bridge_dtmf_hangup"):
        bare.listener.heard(json.dumps(event))
        if event["type"] == "StasisStart" and event["args"]:
            bare.listener.calls[event["channel"]["id"]].answered_at = None
    first = bare.listener.calls["1795885818.1"]
    await first.over.wait()
    [rang, *_] = [each for each in bare.desk.told if isinstance(each, IncomingCall)]
    assert (rang.call.from_, rang.call.to, rang.call_id) == ("+14155550100", "+14155550101", "1795885818.1")
    keys = [each.digit for each in bare.desk.told if isinstance(each, DigitReported) and each.call_id == first.id]
    assert keys == ["1", "5", "#"]
    assert first.call.status is CallStatus.ENDED and first.call.carrier_status == "left Stasis"


@pytest.mark.parametrize(
    ("name", "call_id", "reason", "words", "told"),
    [
        ("outbound_congestion", "lc-out-congested", EndReason.PROVIDER_UNAVAILABLE, "Unknown; CONGESTION", []),
        ("outbound_unallocated_1", "lc-out-unalloc", EndReason.INVALID_NUMBER,
         "Unallocated (unassigned) number; NOANSWER", []),
        ("outbound_canceled_by_us", "lc-out-cancel", EndReason.CANCELED,
         "Normal Clearing; NOANSWER", [CallStatus.RINGING]),
    ],
)  # fmt: skip
async def test_an_outbound_call_ends_with_asterisks_own_word(
    bare: Any, name: str, call_id: str, reason: EndReason, words: str, told: list[CallStatus]
) -> None:
    call = outbound(bare, call_id)
    for event in events_of(name):
        if call_id == "lc-out-cancel" and event["type"] == "ChannelHangupRequest":
            call.asked = True
        bare.listener.heard(json.dumps(event))
    assert (call.call.reason, call.call.carrier_status, call.call.answered_at) == (reason, words, None)
    assert statuses(bare, call_id) == [*told, CallStatus.ENDED], "the far half of a Local channel is nobody's call"


async def test_a_media_client_that_is_unreachable_is_told_and_names_the_file_to_look_into(bare: Any) -> None:
    lines = events_of("media_client_unreachable")
    ends = [each["channel"] for each in lines if each["type"] == "ChannelDestroyed"]
    [media_channel] = [each for each in ends if each["name"].startswith("WebSocket/")]
    call = outbound(bare, "call-1")
    call.media_id = media_channel["id"]
    bare.answers["/externalMedia"] = httpx.Response(200, json={})
    taking = bare.desk.spawn(call.take(call.request.stream, "answer"), "")
    await _until(lambda: call.media_id in bare.listener.beside and call._media is not None)
    for event in lines:
        bare.listener.heard(json.dumps(event))
    told = r"did not connect to our media socket: No route.*\[anycarrier\] of websocket_client"
    with pytest.raises(RequestRejected, match=told):
        await taking


async def _until(met: Any) -> None:
    import asyncio

    while not met():
        await asyncio.sleep(0)


async def test_a_sip_status_wins_over_the_cause(bare: Any) -> None:
    path = shared_path("recordings", "asterisk", "webhooks", "pjsip_404_receipts.json")
    receipts = json.loads(path.read_text("utf-8"))
    call = outbound(bare, receipts[0]["channel_id"])
    channel = {"id": receipts[0]["channel_id"], "state": receipts[0]["channel_state"]}
    bare.listener.heard(json.dumps({**receipts[0], "type": receipts[0]["ari_event_type"], "channel": channel}))
    assert (call.call.reason, call.call.sip_code) == (EndReason.INVALID_NUMBER, 404)


# --- media -----------------------------------------------------------------------------------------------------------


def media(name: str) -> list[dict[str, Any]]:
    text = shared_path("recordings", "asterisk", "media_streams", name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("name", "size", "marks", "keys"),
    [
        ("json_ulaw_marks_flush_xoff_dtmf.jsonl", 160, ["m1"], "15#"),
        ("plaintext_slin16_marks_flush.jsonl", 640, ["mk1"], "15#"),
        ("closed_by_us.jsonl", 160, [], ""),
    ],
)
def test_every_captured_frame_is_read(name: str, size: int, marks: list[str], keys: str) -> None:
    serializer, found = AsteriskSerializer(), []
    frames = [each for each in media(name) if each.get("dir") == "from_asterisk"]
    for each in frames:
        audio = base64.b64decode(each["b64"]) if "b64" in each else bytes(each.get("binary", 0))
        found += serializer.decode(each.get("text", audio))
    [start] = [each for each in found if isinstance(each, StreamStarted)]
    assert start.call_id.startswith("lc-m") and start.early and start.silent
    assert [each.name for each in found if isinstance(each, MarkReached)] == marks, "a flush swallows the others"
    assert "".join(each.digit for each in found if isinstance(each, DigitPressed)) == keys
    heard = [each for each in found if isinstance(each, AudioReceived)]
    assert {len(each.payload) for each in heard} <= {size, 40} and len(found) == len(frames)
    assert all(each.kind in ("STATUS", "MEDIA_BUFFERING_COMPLETED", "QUEUE_DRAINED", "MEDIA_XOFF", "MEDIA_XON")
               for each in found if isinstance(each, UnknownEvent))  # fmt: skip
    assert [each.detail for each in found if isinstance(each, StreamError)] in ([], ["Unable to parse JSON command"])


def test_the_start_of_a_production_server_is_read() -> None:
    path = shared_path("recordings", "asterisk", "media_streams", "plaintext_media_start_22_11.txt")
    [start] = AsteriskSerializer().decode(path.read_text("utf-8").strip())
    assert isinstance(start, StreamStarted) and start.stream_id == "dograh-ext-98fc90e9-3f20-4244-b20a-ecb5e52da23e"


def test_our_commands_are_those_of_the_capture() -> None:
    serializer = AsteriskSerializer()
    serializer.decode(next(each["text"] for each in media("json_ulaw_marks_flush_xoff_dtmf.jsonl") if "text" in each))
    captured = [json.loads(each["text"]) for each in media("json_ulaw_marks_flush_xoff_dtmf.jsonl")
                if each.get("dir") == "to_asterisk" and each.get("text", "").startswith("{")]  # fmt: skip
    for mine in (*serializer.encode_mark("m1"), *serializer.encode_clear()):
        assert json.loads(mine) in captured


# --- REST ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [("401", AuthenticationFailed, 401), ("404_channel", NotFound, 404), ("409_same_id", RequestRejected, 409)],
)
def test_a_captured_error_has_its_type(bare: Any, name: str, kind: type[AnycarrierError], status: int) -> None:
    captured = json.loads(shared_path("recordings", "asterisk", "errors", f"{name}.json").read_text("utf-8"))
    with pytest.raises(kind) as refused:
        bare.provider.read(httpx.Response(captured["status"], json=captured["body"]), "dial")
    assert refused.value.status == status and captured["body"]["message"] in str(refused.value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "name", ["external_media_websocket", "get_channel", "originate_into_app", "record_201_then_fails"]
)
def test_the_captures_are_as_the_document_says(name: str) -> None:
    """So that the checker is right about what it refuses elsewhere."""
    document = AriDocument.load()
    captured = json.loads(shared_path("recordings", "asterisk", "api", f"{name}.json").read_text("utf-8"))
    asked = captured["request"]
    assert document.request_problems(asked["method"], asked["path"], asked["query"], asked["body"]) == []
    assert document.answer_problems(asked["method"], asked["path"], captured["status"], captured["body"]) == []


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_captured_events_are_as_the_document_says(name: str) -> None:
    document = AriDocument.load()
    found = {problem for each in events_of(name) for problem in document.event_problems(each)}
    assert found <= {"RESTResponse.rest_responses is missing"}, found
