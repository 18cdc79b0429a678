"""Calls by REST: what goes out (checked against the OpenAPI document in conftest), and what comes of the answer."""

from __future__ import annotations

import base64
import json

import httpx
import msgspec
import pytest

from anycarrier.audio import L16_16K, PCMA_8K, AudioFormat
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from anycarrier.errors import (
    ConfigurationError,
    InvalidNumber,
    NotFound,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.events import IncomingCall
from anycarrier.numbers import NumberQuery
from anycarrier_telnyx import TelnyxCredential, TelnyxProvider, provider

CALL = "v3:call-of-the-tests"
RECORD = {
    "call_control_id": CALL, "call_leg_id": "leg", "call_session_id": "session", "record_type": "call",
    "is_alive": False,
}
STREAM = StreamTarget(url="wss://voice.example.com/media/ticket", custom={"lang": "de"})
REQUEST = DialRequest(
    from_="+14155550100",
    to="+14155550123",
    stream=STREAM,
    status_url="https://voice.example.com/telnyx/main?ref=0123abcd",
    reference="0123abcd",
)
ACTIONS = f"/calls/{CALL}/actions"


def incoming() -> IncomingCall:
    call = Call(
        id=CALL, provider="telnyx", direction=Direction.INBOUND, from_="+14155550123", to="+14155550100",
        status=CallStatus.RINGING, reference="feed",
    )
    return IncomingCall(call_id=CALL, call=call)


def state_of(text: str) -> dict[str, object]:
    state: dict[str, object] = json.loads(base64.b64decode(text))
    return state


# --- dial ----------------------------------------------------------------------------------------------------------


async def test_dial_asks_for_raw_audio_both_ways_and_takes_our_reference_along(telnyx, carrier):
    carrier.on("POST /calls", {"data": RECORD})
    call = await telnyx.dial(REQUEST)
    [body] = carrier.bodies
    state = state_of(body.pop("client_state"))
    assert state == {"ref": "0123abcd", "dir": "outbound", "custom": {"lang": "de"}}
    assert body == {
        "connection_id": "1000000000000000001",
        "from": "+14155550100",
        "to": "+14155550123",
        "timeout_secs": 30,
        "webhook_url": REQUEST.status_url,
        "command_id": "0123abcd",
        "stream_url": STREAM.url,
        "stream_track": "inbound_track",
        "stream_codec": "PCMU",
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": "PCMU",
    }
    assert (call.id, call.reference, call.status) == (CALL, "0123abcd", CallStatus.INITIATED)
    assert call.direction is Direction.OUTBOUND


async def test_dial_with_everything_asked_for(telnyx, carrier):
    carrier.on("POST /calls", {"data": RECORD})
    wish = REQUEST.model_copy(
        update={
            "timeout": 12.4, "time_limit": 90.0, "machine_detection": MachineDetection.WAIT_FOR_BEEP, "record": True,
            "caller_id": "+14155550199", "digits": "1wd#", "headers": {"X-Order": "7"},
            "extra": {"sip_region": "Europe", "timeout_secs": 44},
        }
    )
    call = await telnyx.dial(wish)
    [body] = carrier.bodies
    assert body["time_limit_secs"] == 90
    assert body["answering_machine_detection"] == "greeting_end"
    assert (body["record"], body["record_format"], body["record_channels"]) == ("record-from-answer", "wav", "dual")
    assert body["from"] == "+14155550199"
    assert body["send_digits_on_answer"] == "1wD#"
    assert body["custom_headers"] == [{"name": "X-Order", "value": "7"}]
    assert body["sip_region"] == "Europe"
    assert body["timeout_secs"] == 44, "extra is merged last"
    assert call.time_limit == 90.0


@pytest.mark.parametrize(("asked", "sent"), [(0.5, 5), (5.2, 6), (600, 600)])
async def test_ring_time_is_brought_into_what_telnyx_takes(telnyx, carrier, asked, sent):
    carrier.on("POST /calls", {"data": RECORD})
    await telnyx.dial(REQUEST.model_copy(update={"timeout": asked}))
    assert carrier.bodies[0]["timeout_secs"] == sent


@pytest.mark.parametrize(("asked", "sent"), [(3.0, 30), (45.1, 46), (90_000.0, 14400)])
async def test_a_time_limit_is_brought_into_what_telnyx_takes_and_kept_as_asked_on_the_call(
    telnyx, carrier, asked, sent
):
    carrier.on("POST /calls", {"data": RECORD})
    call = await telnyx.dial(REQUEST.model_copy(update={"time_limit": asked}))
    assert carrier.bodies[0]["time_limit_secs"] == sent
    assert call.time_limit == asked


@pytest.mark.parametrize("format", [PCMA_8K, L16_16K])
async def test_dial_asks_for_the_stream_s_own_codec_in_both_directions(telnyx, carrier, format):
    carrier.on("POST /calls", {"data": RECORD})
    await telnyx.dial(REQUEST.model_copy(update={"stream": STREAM.model_copy(update={"format": format})}))
    [body] = carrier.bodies
    assert body["stream_codec"] == body["stream_bidirectional_codec"] == format.encoding
    assert body.get("stream_bidirectional_sampling_rate", 8000) == format.rate
    assert state_of(body["client_state"])["format"] == f"{format.encoding}/{format.rate}"


async def test_a_format_telnyx_cannot_carry_is_refused_before_anything_is_sent(telnyx, carrier):
    target = STREAM.model_copy(update={"format": AudioFormat("PCM16", 16000)})
    with pytest.raises(UnsupportedOperation, match="PCM16"):
        await telnyx.dial(REQUEST.model_copy(update={"stream": target}))
    with pytest.raises(UnsupportedOperation, match="answer"):
        await telnyx.answer(incoming(), target)
    assert carrier.requests == []


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
async def test_a_failed_dial_is_posted_exactly_once(telnyx, carrier, status):
    carrier.on("POST /calls", {"errors": []}, status=status)
    with pytest.raises((ProviderUnavailable, RateLimited, RequestRejected)) as caught:
        await telnyx.dial(REQUEST)
    assert carrier.asked == ["POST /calls"]
    assert caught.value.operation == "dial"
    if status in (408, 500, 502, 503):
        assert "do not dial again" in str(caught.value)


@pytest.mark.parametrize("failure", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
async def test_a_dial_without_an_answer_has_an_unknown_outcome_and_is_not_repeated(telnyx, carrier, failure):
    carrier.on("POST /calls", failure)
    with pytest.raises(ProviderUnavailable, match=type(failure).__name__) as caught:
        await telnyx.dial(REQUEST)
    assert caught.value.outcome_unknown
    assert caught.value.status is None
    assert len(carrier.requests) == 1


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")])
async def test_a_dial_that_found_no_connection_was_not_sent(telnyx, carrier, failure):
    carrier.on("POST /calls", failure)
    with pytest.raises(ProviderUnavailable, match="Nothing was sent") as caught:
        await telnyx.dial(REQUEST)
    assert not caught.value.outcome_unknown


async def test_looking_for_the_application_is_not_dialling(carrier):
    carrier.on("GET /call_control_applications", {"errors": []}, status=503)
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        with pytest.raises(ProviderUnavailable) as caught:
            await TelnyxProvider(TelnyxCredential(api_key="KEY0123"), http).dial(REQUEST)
    assert not caught.value.outcome_unknown and caught.value.status == 503


@pytest.mark.parametrize(
    "answer", [b"<html>bad gateway</html>", b'{"data": {"call_con', {"data": {}}, {"data": []}, []]
)
async def test_half_or_foreign_answers_to_dial_are_unreadable(telnyx, carrier, answer):
    carrier.on("POST /calls", answer)
    with pytest.raises(UnreadableResponse):
        await telnyx.dial(REQUEST)


async def test_a_redirect_is_no_answer(telnyx, carrier):
    carrier.on("POST /calls", b"", status=302, headers={"location": "https://portal.example.com"})
    with pytest.raises((UnreadableResponse, RequestRejected, ProviderUnavailable)):
        await telnyx.dial(REQUEST)
    assert len(carrier.requests) == 1


async def test_dial_without_a_connection_uses_the_application_made_for_our_webhooks(open_telnyx, carrier):
    carrier.on("POST /calls", {"data": RECORD})
    carrier.on(
        "GET /call_control_applications",
        {"data": [
            {"id": "1", "application_name": "other", "webhook_event_url": "https://voice.example.com/telnyx/other"},
            {"id": "22", "application_name": "anycarrier voice.example.com/telnyx/main"},
        ]},
    )
    telnyx = open_telnyx(connection_id=None)
    await telnyx.dial(REQUEST)
    await telnyx.dial(REQUEST)
    assert [body["connection_id"] for body in carrier.bodies] == ["22", "22"]
    assert carrier.asked.count("GET /call_control_applications") == 1


async def test_dial_with_no_connection_at_all_says_what_to_configure(open_telnyx, carrier):
    carrier.on("GET /call_control_applications", {"data": []})
    with pytest.raises(ConfigurationError, match="connection_id"):
        await open_telnyx(connection_id=None).dial(REQUEST)
    assert "POST /calls" not in carrier.asked


async def test_another_account_in_the_environment_is_not_used(monkeypatch, telnyx, carrier):
    monkeypatch.setenv("TELNYX_API_KEY", "KEYother")
    monkeypatch.setenv("TELNYX_CLIENT_ID", "someone")
    monkeypatch.setenv("TELNYX_CLIENT_SECRET", "else")
    monkeypatch.setenv("TELNYX_BASE_URL", "https://elsewhere.example.com")
    carrier.on("POST /calls", {"data": RECORD})
    await telnyx.dial(REQUEST)
    assert [request.url.host for request in carrier.requests] == ["api.telnyx.com"]


async def test_base_url_moves_every_request(carrier):
    carrier.on("POST /sandbox/calls", {"data": RECORD})
    carrier.on("GET /sandbox/available_phone_numbers", {"data": []})
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        credential = TelnyxCredential(api_key="KEY0123", connection_id="1", base_url="http://127.0.0.1:8123/sandbox/")
        telnyx = TelnyxProvider(credential, http)
        await telnyx.dial(REQUEST)
        assert await telnyx.search_numbers(NumberQuery()) == []
    assert [f"{r.url.host}:{r.url.port}{r.url.path}" for r in carrier.requests] == [
        "127.0.0.1:8123/sandbox/calls", "127.0.0.1:8123/sandbox/available_phone_numbers",
    ]


# --- answer, reject, forward, hang up --------------------------------------------------------------------------------


async def test_answer_connects_the_stream_by_rest_and_carries_our_state(telnyx, carrier):
    reply = await telnyx.answer(incoming(), STREAM)
    assert carrier.asked == [f"POST {ACTIONS}/answer"]
    [body] = carrier.bodies
    assert state_of(body["client_state"]) == {"ref": "feed", "dir": "inbound", "custom": {"lang": "de"}}
    assert body["stream_bidirectional_mode"] == "rtp"
    assert reply.status == 200
    assert not telnyx.answers_in_reply


WIDE = STREAM.model_copy(update={"format": L16_16K})
START = f"POST {ACTIONS}/streaming_start"


async def test_a_stream_whose_rate_has_to_be_said_starts_after_the_answer(telnyx, carrier):
    await telnyx.answer(incoming(), WIDE)
    assert carrier.asked == [f"POST {ACTIONS}/answer", START]
    answer, start = carrier.bodies
    assert not [name for name in answer if name.startswith("stream_")]
    assert answer["client_state"] == start["client_state"] and state_of(start["client_state"])["format"] == "L16/16000"
    assert start["stream_url"] == WIDE.url and start["stream_bidirectional_sampling_rate"] == 16000
    assert start["stream_codec"] == start["stream_bidirectional_codec"] == "L16"
    assert start["stream_bidirectional_mode"] == "rtp" and start["command_id"] != answer["command_id"]


@pytest.mark.parametrize(("status", "code"), [(422, "90034"), (503, "10000"), (429, "10011")])
async def test_a_stream_that_cannot_start_yet_is_asked_for_again_by_the_same_command(
    telnyx, carrier, monkeypatch, status, code
):
    monkeypatch.setattr(provider, "STREAM_RETRY", 0.0)

    def not_yet(request):
        carrier.on(START, {"data": {"result": "ok"}})
        return {"errors": [{"code": code, "title": "Not yet"}]}

    carrier.on(START, not_yet, status=status)
    assert (await telnyx.answer(incoming(), WIDE)).status == 200
    assert carrier.asked == [f"POST {ACTIONS}/answer", START, START]
    assert carrier.bodies[1] == carrier.bodies[2]


@pytest.mark.parametrize(("code", "patience"), [("90034", -1.0), ("10015", 5.0)])
async def test_a_call_whose_stream_does_not_start_is_hung_up(telnyx, carrier, monkeypatch, code, patience):
    monkeypatch.setattr(provider, "STREAM_PATIENCE", patience)
    carrier.refuse(START, 422, code)
    with pytest.raises(RequestRejected) as caught:
        await telnyx.answer(incoming(), WIDE)
    assert (caught.value.code, caught.value.operation) == (code, "answer")
    assert carrier.asked == [f"POST {ACTIONS}/answer", START, f"POST {ACTIONS}/hangup"]


async def test_a_webhook_that_comes_twice_starts_the_stream_by_one_command(telnyx, carrier):
    await telnyx.answer(incoming(), WIDE)
    carrier.refuse(f"POST {ACTIONS}/answer", 422, "90999", "Call has already been answered")
    await telnyx.answer(incoming(), WIDE)
    first, second = carrier.bodies[1], carrier.bodies[3]
    assert first == second


async def test_a_caller_who_has_gone_needs_no_stream(telnyx, carrier):
    carrier.refuse(START, 422, "90018", "Call has already ended")
    assert (await telnyx.answer(incoming(), WIDE)).status == 200
    carrier.refuse(f"POST {ACTIONS}/answer", 422, "90018", "Call has already ended")
    await telnyx.answer(incoming(), WIDE)
    assert carrier.asked.count(START) == 1


async def test_the_same_call_answered_twice_is_one_command_to_telnyx(telnyx, carrier):
    await telnyx.answer(incoming(), STREAM)
    await telnyx.answer(incoming(), STREAM)
    first, second = carrier.bodies
    assert first["command_id"] == second["command_id"]


@pytest.mark.parametrize(
    ("code", "title"), [("90018", "Call has already ended"), ("90999", "Call has already been answered")]
)
async def test_answering_a_call_that_is_answered_or_over_is_no_error(telnyx, carrier, code, title):
    carrier.refuse(f"POST {ACTIONS}/answer", 422, code, title)
    assert (await telnyx.answer(incoming(), STREAM)).status == 200


async def test_answering_what_cannot_be_answered_is_an_error(telnyx, carrier):
    carrier.refuse(f"POST {ACTIONS}/answer", 422, "90102", "Command is for incoming calls only")
    with pytest.raises(RequestRejected) as caught:
        await telnyx.answer(incoming(), STREAM)
    assert caught.value.code == "90102"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (EndReason.BUSY, "USER_BUSY"),
        (EndReason.REJECTED, "CALL_REJECTED"),
        (EndReason.INVALID_NUMBER, "CALL_REJECTED"),
    ],
)
async def test_reject_says_busy_or_rejected(telnyx, carrier, reason, cause):
    await telnyx.reject(incoming(), reason)
    assert carrier.asked == [f"POST {ACTIONS}/reject"]
    assert carrier.bodies[0]["cause"] == cause


async def test_forward_transfers_the_parked_call(telnyx, carrier):
    await telnyx.forward(incoming(), "+14155550177")
    assert carrier.asked == [f"POST {ACTIONS}/transfer"]
    [body] = carrier.bodies
    assert (body["to"], body.get("from")) == ("+14155550177", None)
    assert state_of(body["target_leg_client_state"]) == {"ref": "feed", "dir": "outbound", "transfer_of": CALL}


@pytest.mark.parametrize("caller", ["anonymous", "sip:al@pbx.example.com", ""])
async def test_forwarding_a_caller_without_a_number_shows_ours(telnyx, carrier, caller):
    ringing = incoming()
    call = ringing.call.model_copy(update={"from_": caller})
    await telnyx.forward(msgspec.structs.replace(ringing, call=call), "+14155550177")
    assert carrier.bodies[0]["from"] == "+14155550100"


async def test_a_sip_address_with_two_readings_is_never_sent(telnyx, carrier):
    for nowhere in ("sip:a@b.example@c.example", "sip:a@b.example<x>", "sip:a@b.example,sip:c@d.example"):
        with pytest.raises(InvalidNumber):
            await telnyx.transfer(CALL, nowhere)
    assert not carrier.requests


async def test_hang_up_asks_once(telnyx, carrier):
    await telnyx.hang_up(CALL)
    assert carrier.asked == [f"POST {ACTIONS}/hangup"]


async def test_hang_up_reject_and_stop_recording_on_an_ended_call_are_not_errors(telnyx, carrier):
    for action in ("hangup", "reject", "record_stop"):
        carrier.refuse(f"POST {ACTIONS}/{action}", 422, "90018", "Call has already ended")
    await telnyx.hang_up(CALL)
    await telnyx.reject(incoming())
    await telnyx.stop_recording(CALL)
    assert len(carrier.requests) == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [(422, "90018"), (422, "90015"), (404, "10005"), (404, None), (410, None), (410, "10005"), (422, None)],
)
async def test_hanging_up_or_declining_a_call_that_is_gone_is_success(telnyx, carrier, status, code):
    errors = [{"code": code, "title": "Gone"}] if code else []
    for action in ("hangup", "reject"):
        carrier.on(f"POST {ACTIONS}/{action}", {"errors": errors}, status=status)
    await telnyx.hang_up(CALL)
    await telnyx.reject(incoming())
    assert len(carrier.requests) == 2


@pytest.mark.parametrize(
    ("status", "code"), [(422, "10015"), (422, "90034"), (401, "10009"), (429, "10011"), (500, "10007")]
)
async def test_a_hang_up_that_is_refused_for_anything_else_is_an_error(telnyx, carrier, status, code):
    carrier.refuse(f"POST {ACTIONS}/hangup", status, code, "Refused")
    with pytest.raises(ProviderError):
        await telnyx.hang_up(CALL)


async def test_a_call_id_cannot_lead_out_of_its_path(open_telnyx, carrier):
    await open_telnyx(base_url="http://127.0.0.1/v2").hang_up("v3:a/../../b?c")
    assert carrier.requests[0].url.raw_path == b"/v2/calls/v3:a%2F..%2F..%2Fb%3Fc/actions/hangup"


# --- the rest --------------------------------------------------------------------------------------------------------


async def test_fetch_call_tells_a_live_call_from_one_that_is_over(telnyx, carrier):
    record = {**RECORD, "is_alive": True, "start_time": "2026-01-02T03:04:05Z"}
    carrier.on(f"GET /calls/{CALL}", {"data": record})
    live = await telnyx.fetch_call(CALL)
    assert (live.status, live.ended_at) == (CallStatus.INITIATED, None)
    carrier.on(f"GET /calls/{CALL}", {"data": {**record, "is_alive": False, "end_time": "2026-01-02T03:05:05Z"}})
    over = await telnyx.fetch_call(CALL)
    assert over.ended
    assert (over.ended_at - over.created_at).total_seconds() == 60


@pytest.mark.parametrize("status", [404, 422])
async def test_fetching_an_unknown_call_is_not_found(telnyx, carrier, status):
    carrier.refuse(f"GET /calls/{CALL}", status, "10015", "Bad Request")
    with pytest.raises(NotFound):
        await telnyx.fetch_call(CALL)


async def test_transfer_marks_the_new_leg_as_this_call_s(telnyx, carrier):
    await telnyx.transfer(
        CALL, "sip:desk@pbx.example.com", caller_id="+14155550100", status_url="https://x.example.com/telnyx/m?ref=r1"
    )
    [body] = carrier.bodies
    assert (body["to"], body["from"]) == ("sip:desk@pbx.example.com", "+14155550100")
    assert body["webhook_url"] == "https://x.example.com/telnyx/m?ref=r1"
    assert state_of(body["target_leg_client_state"]) == {"ref": "r1", "dir": "outbound", "transfer_of": CALL}


@pytest.mark.parametrize("to", ["4155550123", "sip:", "tel:+14155550123", ""])
async def test_transfer_to_no_number_and_no_sip_address_is_refused_here(telnyx, carrier, to):
    with pytest.raises(InvalidNumber):
        await telnyx.transfer(CALL, to)
    assert carrier.requests == []


async def test_send_digits_may_repeat_the_same_digits(telnyx, carrier):
    await telnyx.send_digits(CALL, "12w#a")
    await telnyx.send_digits(CALL, "12w#a")
    first, second = carrier.bodies
    assert first["digits"] == "12w#A"
    assert first["command_id"] != second["command_id"]


async def test_recording_starts_in_stereo_wav_stops_and_is_fetched_without_our_login(telnyx, carrier):
    carrier.on(f"POST {ACTIONS}/record_start", {"data": {"result": "ok", "recording_id": "r-1"}})
    assert await telnyx.start_recording(CALL) == "r-1"
    assert {"format": "wav", "channels": "dual"}.items() <= carrier.bodies[0].items()
    await telnyx.stop_recording(CALL, "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0")
    assert carrier.bodies[1]["recording_id"] == "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0"
    carrier.on("GET /recordings/r-1", {"data": {"download_urls": {"wav": "https://store.example.com/r.wav"}}})
    carrier.on("GET /r.wav", b"RIFF....")
    assert await telnyx.fetch_recording("r-1") == b"RIFF...."
    assert "authorization" not in carrier.requests[-1].headers


async def test_a_recording_id_not_told_at_the_start_comes_later_by_webhook(telnyx, carrier):
    assert await telnyx.start_recording(CALL) == ""


async def test_a_recording_without_wav_or_with_an_expired_link_is_an_error(telnyx, carrier):
    carrier.on("GET /recordings/r-1", {"data": {"download_urls": {"mp3": "https://store.example.com/r.mp3"}}})
    with pytest.raises(NotFound, match="WAV"):
        await telnyx.fetch_recording("r-1")
    carrier.on("GET /recordings/r-2", {"data": {"download_urls": {"wav": "https://store.example.com/r.wav"}}})
    carrier.on("GET /r.wav", b"<Error>expired</Error>", status=403)
    with pytest.raises(RequestRejected):
        await telnyx.fetch_recording("r-2")
