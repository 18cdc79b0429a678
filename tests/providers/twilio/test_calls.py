"""Calls over REST: what goes out, what comes back as a Call, and what must never be sent twice."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from xml.etree import ElementTree

import httpx
import pytest

from anycarrier.audio import L16_16K
from anycarrier.calls import CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from anycarrier.errors import (
    InvalidNumber,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.provider import Capability
from anycarrier_twilio import TwilioCredential, TwilioProvider
from openapi import Spec

STREAM = StreamTarget(url="wss://voice.example.com/media/ticket", custom={"desk": 'a "b" & <c>'})
CALLS_PATH = "/2010-04-01/Accounts/AC00000000000000000000000000000000/Calls.json"


def dial_request(kit, **changes):
    fields = {"from_": kit.OURS, "to": kit.THEIRS, "stream": STREAM, "status_url": f"{kit.HOOK}?ref=abc"}
    return DialRequest(**{**fields, "reference": "abc", **changes})


async def test_dial_sends_the_stream_inline_and_asks_for_every_status(provider, carrier, kit):
    carrier.answers(201, kit.call_body())
    call = await provider.dial(dial_request(kit))
    assert (call.id, call.status, call.direction) == (kit.CALL, CallStatus.QUEUED, Direction.OUTBOUND)
    assert (call.from_, call.to, call.reference) == (kit.OURS, kit.THEIRS, "abc")
    assert call.carrier_status == "queued" and call.raw["sid"] == kit.CALL
    assert call.created_at == datetime(2010, 8, 10, 8, 2, 17, tzinfo=UTC)
    request = carrier.requests[-1]
    assert (request.method, request.url.path) == ("POST", CALLS_PATH)
    sent = carrier.sent
    twiml = sent.pop("Twiml")
    assert sent == {
        "To": kit.THEIRS,
        "From": kit.OURS,
        "Timeout": "30",
        "StatusCallback": f"{kit.HOOK}?ref=abc",
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
    }
    stream = ElementTree.fromstring(twiml.encode()).find("Connect/Stream")
    assert stream is not None and stream.get("url") == STREAM.url
    assert stream.get("statusCallback") == f"{kit.HOOK}?ref=abc"
    parameter = stream.find("Parameter")
    assert parameter is not None and (parameter.get("name"), parameter.get("value")) == ("desk", 'a "b" & <c>')


async def test_dial_passes_on_every_wish(provider, carrier, kit):
    carrier.answers(201, kit.call_body())
    call = await provider.dial(
        dial_request(
            kit,
            timeout=12.5,
            time_limit=60,
            record=True,
            caller_id="+14155550199",
            digits="1w2#",
            extra={"Trim": "trim-silence", "Timeout": "20"},
        )
    )
    sent = carrier.sent
    url = f"{kit.HOOK}?ref=abc"
    assert sent["From"] == "+14155550199" and call.from_ == kit.OURS
    assert (sent["TimeLimit"], sent["SendDigits"], call.time_limit) == ("60", "1w2#", 60)
    assert (sent["Record"], sent["RecordingChannels"], sent["RecordingStatusCallback"]) == ("true", "dual", url)
    assert sent["RecordingStatusCallbackEvent"] == ["in-progress", "completed", "absent"]
    assert (sent["Trim"], sent["Timeout"]) == ("trim-silence", "20"), "extra is merged last and wins"


@pytest.mark.parametrize(
    ("wish", "word"),
    [(MachineDetection.DETECT, "Enable"), (MachineDetection.WAIT_FOR_BEEP, "DetectMessageEnd")],
)
async def test_machine_detection_never_keeps_the_callee_waiting(provider, carrier, kit, wish, word):
    carrier.answers(201, kit.call_body())
    await provider.dial(dial_request(kit, machine_detection=wish))
    sent = carrier.sent
    assert (sent["MachineDetection"], sent["AsyncAmd"]) == (word, "true")
    assert sent["AsyncAmdStatusCallback"] == f"{kit.HOOK}?ref=abc"


async def test_keys_with_machine_detection_are_refused_since_twilio_would_drop_the_detection(provider, carrier, kit):
    with pytest.raises(UnsupportedOperation, match="digits together with machine detection"):
        await provider.dial(dial_request(kit, digits="1", machine_detection=MachineDetection.DETECT))
    assert carrier.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_dial_posts_exactly_once_whatever_the_carrier_answers(provider, carrier, kit, status):
    carrier.answers(status, {"status": status, "message": "no", "code": 20500 if status != 429 else 20429})
    with pytest.raises(RateLimited if status == 429 else ProviderUnavailable) as caught:
        await provider.dial(dial_request(kit))
    assert [r.method for r in carrier.requests] == ["POST"]
    if status != 429:
        assert caught.value.outcome_unknown and "may be ringing" in str(caught.value)


@pytest.mark.parametrize(
    ("failure", "unknown"),
    [
        (httpx.ReadTimeout("slow"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("full"), False),
    ],
)
async def test_dial_is_not_repeated_when_no_answer_comes(provider, carrier, kit, failure, unknown):
    carrier.breaks(failure)
    with pytest.raises(ProviderUnavailable) as caught:
        await provider.dial(dial_request(kit))
    assert len(carrier.requests) == 1 and caught.value.status is None
    assert caught.value.outcome_unknown is unknown and ("may be ringing" in str(caught.value)) is unknown


@pytest.mark.parametrize(
    "answer", [b"", b"<html>gateway</html>", b'{"sid": "CA', b"[1]", b"{}", b'{"sid": "CA1", "status": "dreaming"}']
)
async def test_a_dial_answered_with_nonsense_has_an_unknown_outcome(provider, carrier, kit, answer):
    carrier.spec = None  # the document rightly refuses such answers
    carrier.answers(201, content=answer)
    with pytest.raises(UnreadableResponse) as caught:
        await provider.dial(dial_request(kit))
    assert caught.value.outcome_unknown and len(carrier.requests) == 1


async def test_a_stream_twilio_cannot_carry_is_refused_before_dialling(provider, carrier, kit):
    for stream in (
        StreamTarget(url=STREAM.url, format=L16_16K),
        StreamTarget(url=f"{STREAM.url}?token=1"),
        StreamTarget(url=STREAM.url, custom={"a": "\x00"}),
        StreamTarget(url=STREAM.url, custom={"notes": "x" * 496}),
    ):
        with pytest.raises(UnsupportedOperation):
            await provider.dial(dial_request(kit, stream=stream))
    assert carrier.requests == []


async def test_a_custom_value_as_long_as_twilio_takes_goes_out(provider, carrier, kit):
    carrier.answers(201, kit.call_body())
    await provider.dial(dial_request(kit, stream=StreamTarget(url=STREAM.url, custom={"notes": "x" * 495})))
    assert "x" * 495 in carrier.sent["Twiml"]


async def test_login_is_account_and_token_or_the_api_key(carrier, kit):
    key = TwilioCredential(
        account_sid=kit.ACCOUNT, auth_token=kit.TOKEN, api_key_sid="SK" + "4" * 32, api_key_secret="hush"
    )
    plain = TwilioCredential(account_sid=kit.ACCOUNT, auth_token=kit.TOKEN)
    for credential, login in ((plain, f"{kit.ACCOUNT}:{kit.TOKEN}"), (key, f"SK{'4' * 32}:hush")):
        carrier.answers(200, kit.call_body())
        async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
            await TwilioProvider(credential, http).fetch_call(kit.CALL)
        sent = carrier.requests[-1].headers["authorization"]
        assert base64.b64decode(sent.removeprefix("Basic ")).decode() == login
        assert kit.ACCOUNT in carrier.requests[-1].url.path


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({"base_url": "http://127.0.0.1:8123/sandbox/twilio"}, "http://127.0.0.1:8123/sandbox/twilio/2010-04-01/"),
        ({"base_url": "http://127.0.0.1:8123/"}, "http://127.0.0.1:8123/2010-04-01/"),
        ({"region": "ie1", "edge": "dublin"}, "https://api.dublin.ie1.twilio.com/2010-04-01/"),
    ],
)
async def test_requests_go_where_the_credential_says(carrier, kit, changes, url):
    carrier.spec = None
    carrier.answers(200, kit.call_body())
    credential = TwilioCredential(account_sid=kit.ACCOUNT, auth_token=kit.TOKEN, **changes)
    async with httpx.AsyncClient(transport=httpx.MockTransport(carrier.handle)) as http:
        await TwilioProvider(credential, http).fetch_call(kit.CALL)
    assert str(carrier.requests[-1].url).startswith(url)


async def test_the_environment_changes_nothing(provider, carrier, kit, monkeypatch):
    monkeypatch.setenv("TWILIO_EDGE", "sydney")
    monkeypatch.setenv("TWILIO_REGION", "au1")
    carrier.answers(200, kit.call_body())
    await provider.fetch_call(kit.CALL)
    assert carrier.requests[-1].url.host == "api.twilio.com"


async def test_hanging_up_completes_the_call(provider, carrier, kit):
    carrier.answers(200, kit.call_body(status="completed"))
    await provider.hang_up(kit.CALL)
    assert carrier.sent == {"Status": "completed"}


@pytest.mark.parametrize(("status", "code"), [(400, 21220), (404, 20404), (410, 20410)])
async def test_hanging_up_an_ended_call_is_not_an_error(provider, carrier, kit, status, code):
    carrier.answers(status, kit.error_body(status, code, "Call is not in-progress. Cannot redirect."))
    await provider.hang_up(kit.CALL)
    assert len(carrier.requests) == 1


async def test_another_refusal_to_hang_up_is_told(provider, carrier, kit):
    carrier.answers(400, kit.error_body(400, 21218, "no"))
    with pytest.raises(RequestRejected):
        await provider.hang_up(kit.CALL)


async def test_an_id_that_could_leave_its_path_is_not_sent(provider, carrier):
    for bad in ("../Accounts", "CA1/Recordings", "", "CA1?x=1", "CA1.json"):
        with pytest.raises(NotFound):
            await provider.fetch_call(bad)
    assert carrier.requests == []


async def test_fetch_call_tells_times_reason_and_who_answered(provider, carrier, kit):
    carrier.answers(
        200,
        kit.call_body(
            status="completed",
            direction="inbound",
            answered_by="machine_end_beep",
            start_time="Tue, 10 Aug 2010 08:02:31 +0000",
            end_time="Tue, 10 Aug 2010 08:02:47 +0000",
            duration="16",
        ),
    )
    call = await provider.fetch_call(kit.CALL)
    assert (call.direction, call.status, call.reason) == (Direction.INBOUND, CallStatus.ENDED, EndReason.USER_HANGUP)
    assert call.duration == 16.0 and call.answered_by == "machine"


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("queued", CallStatus.QUEUED, None),
        ("ringing", CallStatus.RINGING, None),
        ("in-progress", CallStatus.ANSWERED, None),
        ("busy", CallStatus.ENDED, EndReason.BUSY),
        ("no-answer", CallStatus.ENDED, EndReason.NO_ANSWER),
        ("canceled", CallStatus.ENDED, EndReason.CANCELED),
        ("failed", CallStatus.ENDED, EndReason.UNREACHABLE),
    ],
)
async def test_every_rest_status_has_its_place(provider, carrier, kit, word, status, reason):
    carrier.answers(200, kit.call_body(status=word))
    call = await provider.fetch_call(kit.CALL)
    assert (call.status, call.reason, call.carrier_status) == (status, reason, word)


async def test_transfer_redirects_the_call_to_a_dial_that_reports_back(provider, carrier, kit):
    carrier.answers(200, kit.call_body(status="in-progress"))
    await provider.transfer(kit.CALL, "+14155550177", caller_id=kit.OURS, status_url=f"{kit.HOOK}?ref=a&x=1")
    dial = ElementTree.fromstring(carrier.sent["Twiml"].encode()).find("Dial")
    assert dial is not None
    assert (dial.get("callerId"), dial.get("action")) == (kit.OURS, f"{kit.HOOK}?ref=a&x=1")
    assert dial.findtext("Number") == "+14155550177"


async def test_transfer_to_a_sip_address(provider, carrier, kit):
    carrier.answers(200, kit.call_body(status="in-progress"))
    await provider.transfer(kit.CALL, "sip:desk@example.com")
    assert ElementTree.fromstring(carrier.sent["Twiml"].encode()).findtext("Dial/Sip") == "sip:desk@example.com"


async def test_transfer_to_a_sip_address_carries_headers_in_it(provider, carrier, kit):
    carrier.answers(200, kit.call_body(status="in-progress"))
    await provider.transfer(kit.CALL, "sip:desk@example.com", headers={"X-Order": "7 & 8", "X-Case": "9"})
    sip = ElementTree.fromstring(carrier.sent["Twiml"].encode()).findtext("Dial/Sip")
    assert sip == "sip:desk@example.com?X-Order=7%20%26%208&X-Case=9"
    carrier.answers(200, kit.call_body(status="in-progress"))
    await provider.transfer(kit.CALL, "sip:desk@example.com?X-Desk=1", headers={"X-Case": "9"})
    sip = ElementTree.fromstring(carrier.sent["Twiml"].encode()).findtext("Dial/Sip")
    assert sip == "sip:desk@example.com?X-Desk=1&X-Case=9"
    with pytest.raises(UnsupportedOperation, match="over 1024 characters"):
        await provider.transfer(kit.CALL, "sip:desk@pbx.example.com", headers={"X-Order": "7" * 1024})


async def test_transfer_to_nonsense_asks_nobody(provider, carrier, kit):
    for bad in ("5551234", "sip:", "sip:a <b>", "javascript:1"):
        with pytest.raises(InvalidNumber):
            await provider.transfer(kit.CALL, bad)
    assert carrier.requests == []


async def test_transfer_of_an_ended_call_says_it_is_over(provider, carrier, kit):
    carrier.answers(400, kit.error_body(400, 21220, "Call is not in-progress. Cannot redirect."))
    with pytest.raises(RequestRejected, match="The call is over"):
        await provider.transfer(kit.CALL, "+14155550177")


async def test_recording_starts_stops_and_is_fetched(provider, carrier, kit):
    recording = {"sid": kit.RECORDING, "call_sid": kit.CALL, "status": "in-progress"}
    carrier.answers(201, recording).answers(200, {**recording, "status": "stopped"})
    assert await provider.start_recording(kit.CALL, status_url=kit.HOOK) == kit.RECORDING
    assert carrier.sent["RecordingStatusCallback"] == kit.HOOK and carrier.sent["RecordingChannels"] == "dual"
    await provider.stop_recording(kit.CALL, kit.RECORDING)
    assert carrier.sent == {"Status": "stopped"} and carrier.requests[-1].url.path.endswith(f"{kit.RECORDING}.json")
    carrier.answers(200, recording)
    await provider.stop_recording(kit.CALL)
    assert carrier.requests[-1].url.path.endswith("Recordings/Twilio.CURRENT.json")
    carrier.answers(200, content=b"RIFF....WAVE\xff\xfe", headers={"content-type": "audio/x-wav"})
    assert await provider.fetch_recording(kit.RECORDING) == b"RIFF....WAVE\xff\xfe"
    assert carrier.requests[-1].url.path.endswith(f"/Recordings/{kit.RECORDING}.wav")
    assert carrier.requests[-1].headers["authorization"].startswith("Basic ")


async def test_a_recording_kept_elsewhere_is_followed_without_our_login(provider, carrier, kit):
    carrier.answers(307, headers={"location": "https://media.example.com/extra/1.wav"}, content=b"")
    carrier.answers(200, content=b"RIFF", headers={"content-type": "audio/wav"})
    assert await provider.fetch_recording(kit.RECORDING) == b"RIFF"
    assert "authorization" not in carrier.requests[-1].headers


async def test_a_recording_that_is_not_there_is_not_found(provider, carrier, kit):
    carrier.answers(404, kit.error_body(404, 20404, "The requested resource was not found"))
    with pytest.raises(NotFound):
        await provider.fetch_recording(kit.RECORDING)


async def test_keys_cannot_be_pressed_by_rest_and_that_is_declared(provider, kit):
    assert not provider.supports(Capability.SEND_DIGITS)
    with pytest.raises(UnsupportedOperation):
        await provider.send_digits(kit.CALL, "1")


async def test_every_operation_was_held_against_the_openapi_document(provider, carrier, kit):
    """The other tests check requests only where the document is at hand; here its absence is a skip, said aloud."""
    carrier.spec = Spec.load("twilio_api_v2010.trimmed.json", blank_clears=True)
    carrier.answers(201, kit.call_body())
    await provider.dial(dial_request(kit, record=True, machine_detection=MachineDetection.DETECT, time_limit=5))
    carrier.answers(200, kit.call_body())
    await provider.fetch_call(kit.CALL)
    carrier.answers(200, kit.call_body())
    await provider.hang_up(kit.CALL)
    carrier.answers(201, {"sid": kit.RECORDING})
    await provider.start_recording(kit.CALL, status_url=kit.HOOK)
    carrier.answers(200, {"sid": kit.RECORDING})
    await provider.stop_recording(kit.CALL)
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body(trunk_sid="TK" + "5" * 32)]})
    carrier.answers(200, kit.number_body())
    await provider.configure_number(kit.OURS, webhook_url=kit.HOOK)
    carrier.answers(201, kit.number_body())
    await provider.buy_number(kit.OURS)
    carrier.answers(200, {"incoming_phone_numbers": [kit.number_body()]}).answers(204)
    await provider.release_number(kit.OURS)
    carrier.answers(200, {"sid": kit.ACCOUNT, "status": "active"})
    await provider.check_credential()
    assert len(carrier.spec.seen) == 10


async def test_many_operations_at_once_do_not_mix_their_answers(credential, kit):
    async def answer(request: httpx.Request) -> httpx.Response:
        sid = request.url.path.rpartition("/")[2].removesuffix(".json")
        await asyncio.sleep(0.001 * (int(sid[2:]) % 5))
        return httpx.Response(200, json=kit.call_body(sid=sid))

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        provider = TwilioProvider(credential, http)
        ids = [f"CA{n}" for n in range(40)]
        assert [call.id for call in await asyncio.gather(*map(provider.fetch_call, ids))] == ids


async def test_headers_are_refused_where_twilio_carries_none(provider, carrier, kit):
    with pytest.raises(UnsupportedOperation, match="headers"):
        await provider.dial(dial_request(kit, headers={"X-Order": "7"}))
    with pytest.raises(UnsupportedOperation, match="headers"):
        await provider.transfer(kit.CALL, kit.THEIRS, headers={"X-Order": "7"})
    assert carrier.requests == []


@pytest.mark.parametrize(
    ("amount", "currency", "price"),
    [("-0.0085", "USD", ("0.0085", "USD")), (None, "USD", None), ("free", "USD", None), ("-1", "dollars", None)],
)
async def test_a_call_has_twilio_s_price_once_it_is_known(provider, carrier, kit, amount, currency, price):
    carrier.answers(200, kit.call_body(status="completed", price=amount, price_unit=currency))
    found = (await provider.fetch_call(kit.CALL)).price
    assert (found and (str(found.amount), found.currency)) == price
