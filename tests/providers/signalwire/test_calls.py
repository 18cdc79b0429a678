"""Calls: what is asked of SignalWire, held against its OpenAPI document, and what is answered to its questions."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import httpx
import pytest

from anycarrier.audio import L16_8K, L16_16K, PCMA_8K, AudioFormat
from anycarrier.calls import Call, CallStatus, DialRequest, Direction, EndReason, MachineDetection, StreamTarget
from anycarrier.errors import (
    MalformedMessage,
    NotFound,
    ProviderUnavailable,
    RequestRejected,
    SignatureInvalid,
    UnreadableResponse,
    UnsupportedOperation,
)
from anycarrier.events import IncomingCall, InstructionsFor, InstructionsRequested, TransferProgress
from anycarrier_signalwire import SignalWireProvider, wire

STREAM = StreamTarget(url="wss://voice.example.com/media/ticket", custom={"desk": 'a"<&b'})


def request(kit: Any, **changes: Any) -> DialRequest:
    facts = {"from_": kit.OURS, "to": kit.THEIRS, "stream": STREAM, "status_url": kit.STATUS_URL, "reference": "r1"}
    return DialRequest(**{**facts, **changes})


def incoming(kit: Any, from_: str = "") -> IncomingCall:
    call = Call(
        id=kit.CALL, provider="signalwire", direction=Direction.INBOUND, from_=from_ or kit.THEIRS, to=kit.OURS,
        status=CallStatus.RINGING,
    )  # fmt: skip
    return IncomingCall(call=call, call_id=kit.CALL)


def asked(kit: Any, url: str) -> InstructionsRequested:
    fields = {"CallSid": kit.CALL, "CallStatus": "in-progress", "Direction": "outbound-api"}
    event = wire.parse(kit.webhook(fields, url))
    assert isinstance(event, InstructionsRequested)
    return event


def verbs(body: bytes) -> ET.Element:
    root = ET.fromstring(body)
    assert root.tag == "Response"
    return root


# --- dialling -----------------------------------------------------------------------------------------------------


async def test_a_dial_asks_for_its_instructions_later_and_carries_none(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, kit.call_body())
    call = await provider.dial(request(kit, timeout=19.2))
    assert (call.id, call.status, call.provider, call.reference) == (kit.CALL, CallStatus.QUEUED, "signalwire", "r1")
    assert (call.from_, call.to) == (kit.OURS, kit.THEIRS)
    (sent,) = carrier.requests
    assert (sent.method, str(sent.url)) == ("POST", f"https://example.signalwire.com{kit.PATH}/Calls")
    assert sent.headers["authorization"] == httpx.BasicAuth(kit.PROJECT, "PT0")._auth_header
    assert carrier.sent == {
        "To": kit.THEIRS,
        "From": kit.OURS,
        "Url": kit.STATUS_URL + "&instruct=answered",
        "Method": "POST",
        "StatusCallback": kit.STATUS_URL,
        "StatusCallbackMethod": "POST",
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        "Timeout": "20",
    }


async def test_each_option_of_a_dial_is_a_field(kit: Any, carrier: Any, provider: SignalWireProvider) -> None:
    carrier.answers(200, kit.call_body(**{"from": "+14155550142"}))
    options = {"digits": "w12#", "record": True, "machine_detection": MachineDetection.WAIT_FOR_BEEP}
    call = await provider.dial(request(kit, caller_id="+14155550142", extra={"MaxPricePerMinute": "0.05"}, **options))
    assert call.from_ == kit.OURS
    sent = carrier.sent
    assert (sent["From"], sent["CallerId"], sent["SendDigits"]) == (kit.OURS, "+14155550142", "w12#")
    assert (sent["MachineDetection"], sent["AsyncAmd"]) == ("DetectMessageEnd", "true")
    assert sent["AsyncAmdStatusCallback"] == sent["RecordingStatusCallback"] == kit.STATUS_URL
    assert (sent["Record"], sent["RecordingChannels"], sent["Trim"]) == ("true", "dual", "do-not-trim")
    assert sent["RecordingStatusCallbackEvent"] == "in-progress completed absent", "one value, with spaces"
    assert sent["MaxPricePerMinute"] == "0.05"


@pytest.mark.parametrize(
    "change",
    [
        {"time_limit": 60},
        {"digits": "12A"},
        {"headers": {"X-Order": "7"}},
        {"stream": StreamTarget(url="wss://voice.example.com/media?ticket=x")},
        {"stream": StreamTarget(url="wss://voice.example.com/media/x", custom={"a": "\x00"})},
        *({"stream": StreamTarget(url="wss://v.example/x", format=form)} for form in (PCMA_8K, L16_8K)),
        {"stream": StreamTarget(url="wss://v.example/x", format=AudioFormat("PCMU", 8000, 2))},
    ],
)
async def test_what_signalwire_would_drop_is_refused_before_it_is_asked(
    kit: Any, carrier: Any, provider: SignalWireProvider, change: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedOperation):
        await provider.dial(request(kit, **change))
    assert not carrier.requests and not provider.limits_calls


async def test_a_dial_that_nobody_answers_is_not_sent_again(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.script.append(httpx.ReadTimeout("slow"))
    with pytest.raises(ProviderUnavailable) as failed:
        await provider.dial(request(kit))
    assert failed.value.outcome_unknown and len(carrier.requests) == 1
    carrier.answers(200, kit.call_body(status="odd"))
    with pytest.raises(UnreadableResponse):
        await provider.dial(request(kit))


# --- what is answered ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        (AudioFormat("PCMU", 8000), None),
        (L16_16K, "L16@16000h"),
        (AudioFormat("PCM16", 16000), "L16@16000h"),
        (AudioFormat("PCM16", 24000), "L16@24000h"),
    ],
)
async def test_an_answer_connects_the_stream_in_the_format_that_was_asked_for(
    kit: Any, provider: SignalWireProvider, form: AudioFormat, codec: str | None
) -> None:
    target = STREAM.model_copy(update={"format": form})
    for reply in (
        await provider.answer(incoming(kit), target),
        await provider.instruct(asked(kit, kit.STATUS_URL + "&instruct=answered"), incoming(kit).call, target),
    ):
        assert reply.content_type in ("text/xml", "application/xml")
        (connect,) = verbs(reply.body)
        (stream,) = connect
        assert (connect.tag, stream.tag, stream.get("url")) == ("Connect", "Stream", STREAM.url)
        assert stream.get("codec") == codec
        assert [(p.get("name"), p.get("value")) for p in stream] == [("desk", 'a"<&b')]
    assert stream.get("statusCallback") == kit.STATUS_URL


async def test_a_call_with_nothing_to_connect_is_ended(kit: Any, provider: SignalWireProvider) -> None:
    answered = asked(kit, kit.STATUS_URL + "&instruct=answered")
    assert len(verbs((await provider.instruct(answered, incoming(kit).call, None)).body)) == 0
    over = incoming(kit).call.model_copy(update={"status": CallStatus.ENDED})
    transfer = asked(kit, kit.STATUS_URL + "&instruct=transfer&target=%2B12125550199")
    assert len(verbs((await provider.instruct(transfer, over, None)).body)) == 0


async def test_a_transfer_gives_a_url_and_is_asked_there_for_its_target(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, kit.call_body(status="in-progress"))
    headers = {"X-Order": "a b&c", "User-to-User": "1"}
    await provider.transfer(
        kit.CALL, "sip:desk@pbx.example.com", caller_id=kit.OURS, status_url=kit.STATUS_URL, headers=headers
    )
    assert carrier.requests[0].url.path == f"{kit.PATH}/Calls/{kit.CALL}"
    assert set(carrier.sent) == {"Url", "Method"} and carrier.sent["Method"] == "POST"
    question = asked(kit, carrier.sent["Url"])
    assert question.purpose is InstructionsFor.TRANSFER
    reply = await provider.instruct(question, incoming(kit).call, None)
    (dial,) = verbs(reply.body)
    (noun,) = dial
    assert (dial.tag, dial.get("callerId"), dial.get("action")) == ("Dial", kit.OURS, kit.STATUS_URL)
    assert (noun.tag, noun.text) == ("Sip", "sip:desk@pbx.example.com?X-Order=a%20b%26c&User-to-User=1")
    assert (noun.get("statusCallback"), noun.get("statusCallbackEvent")) == (kit.STATUS_URL, "answered")


async def test_a_transfer_that_cannot_be_made_is_refused(kit: Any, carrier: Any, provider: SignalWireProvider) -> None:
    with pytest.raises(UnsupportedOperation, match="status_url"):
        await provider.transfer(kit.CALL, kit.THEIRS)
    with pytest.raises(UnsupportedOperation, match="headers"):
        await provider.transfer(kit.CALL, kit.THEIRS, status_url=kit.STATUS_URL, headers={"X-Order": "7"})
    assert not carrier.requests


async def test_a_call_is_declined_or_sent_on_in_the_reply(kit: Any, provider: SignalWireProvider) -> None:
    for reason, word in ((EndReason.BUSY, "busy"), (EndReason.INVALID_NUMBER, "rejected")):
        (reject,) = verbs((await provider.reject(incoming(kit), reason)).body)
        assert (reject.tag, reject.get("reason")) == ("Reject", word)
    for from_, shown in ((kit.THEIRS, None), ("anonymous", kit.OURS)):
        (dial,) = verbs((await provider.forward(incoming(kit, from_), "+12125550199", status_url=kit.HOOK)).body)
        assert (dial.get("callerId"), dial[0].text) == (shown, "+12125550199")


def test_what_asks_for_instructions_is_never_answered_with_nothing(kit: Any, provider: SignalWireProvider) -> None:
    after = TransferProgress(status="no_answer", raw={"DialCallStatus": "no-answer"})
    for event in (incoming(kit), asked(kit, kit.STATUS_URL + "&instruct=answered"), after):
        reply = provider.acknowledge(event)
        assert reply.status == 200 and len(verbs(reply.body)) == 0
    assert provider.acknowledge(TransferProgress(status="answered")).status == 204
    pause, reject = verbs(provider.leave_ringing(incoming(kit)).body)
    assert (pause.tag, reject.tag) == ("Pause", "Reject")
    (busy,) = verbs(provider.refuse(UnsupportedOperation("signalwire", "answer")).body)
    assert busy.get("reason") == "busy"
    assert provider.refuse(SignatureInvalid("x")).status == 403
    assert provider.refuse(MalformedMessage("x")).status == 400


# --- hanging up ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([(200, "completed")], ["completed"]),
        ([(400, "21220"), "ringing", (200, "canceled")], ["completed", "canceled"]),
        ([(400, "10000"), "completed"], ["completed"]),
        # It was answered between the two.
        ([(400, "21220"), "ringing", (400, "10000"), "in-progress", (200, "completed")],
         ["completed", "canceled", "completed"]),
        ([(404, "20404")], ["completed"]),
        ([(400, "21220"), "ringing", (404, "20404")], ["completed", "canceled"]),
    ],
)  # fmt: skip
async def test_a_hang_up_uses_the_word_for_the_stage_the_call_is_at(
    kit: Any, carrier: Any, provider: SignalWireProvider, script: list[Any], words: list[str]
) -> None:
    for step in script:
        if isinstance(step, str):
            carrier.answers(200, kit.call_body(status=step))
        elif step[0] == 200:
            carrier.answers(200, kit.call_body(status=step[1]))
        else:
            carrier.answers(step[0], kit.flat(step[0], int(step[1])))
    await provider.hang_up(kit.CALL)
    assert [kit.form(sent)["Status"] for sent in carrier.requests if sent.method == "POST"] == words
    assert not carrier.script


async def test_a_hang_up_that_is_refused_for_good_is_an_error(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    for _ in range(3):
        carrier.answers(400, kit.flat(400, 10000)).answers(200, kit.call_body(status="in-progress"))
    with pytest.raises(RequestRejected):
        await provider.hang_up(kit.CALL)
    carrier.script.clear()
    carrier.answers(400, kit.flat(400, 21402))
    with pytest.raises(RequestRejected, match="public_url"):
        await provider.hang_up(kit.CALL)
    carrier.answers(503, kit.flat(503, 20504))
    with pytest.raises(ProviderUnavailable):
        await provider.hang_up(kit.CALL)


# --- recordings ---------------------------------------------------------------------------------------------------


async def test_a_recording_is_started_stopped_and_fetched_by_its_id(
    kit: Any, carrier: Any, provider: SignalWireProvider
) -> None:
    carrier.answers(200, {"sid": kit.RECORDING})
    assert await provider.start_recording(kit.CALL, status_url=kit.STATUS_URL) == kit.RECORDING
    assert carrier.sent["RecordingStatusCallbackEvent"] == "in-progress completed absent"
    carrier.answers(200, {"sid": kit.RECORDING})
    await provider.stop_recording(kit.CALL, kit.RECORDING)
    assert carrier.requests[-1].url.path == f"{kit.PATH}/Calls/{kit.CALL}/Recordings/{kit.RECORDING}"
    assert carrier.sent == {"Status": "stopped"}
    with pytest.raises(UnsupportedOperation, match="id"):
        await provider.stop_recording(kit.CALL)
    carrier.answers(302, location="https://files.example.com/x.wav").answers(200, content=b"RIFFxxxxWAVE")
    assert await provider.fetch_recording(kit.RECORDING) == b"RIFFxxxxWAVE"
    api, store = carrier.requests[-2:]
    assert api.url.path == f"{kit.PATH}/Recordings/{kit.RECORDING}.wav" and "authorization" in api.headers
    assert store.url.host == "files.example.com" and "authorization" not in store.headers


async def test_an_id_that_is_none_asks_for_nothing(kit: Any, carrier: Any, provider: SignalWireProvider) -> None:
    for act in (provider.hang_up, provider.fetch_call, provider.fetch_recording, provider.start_recording):
        with pytest.raises(NotFound):
            await act("../Calls")
    assert not carrier.requests
