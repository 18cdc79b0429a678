"""Calls: what a dial asks for, the documents that we answer with, commands on a live call, and refusals."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from anycarrier import DialRequest, MachineDetection, StreamTarget
from anycarrier.audio import PCMA_8K
from anycarrier.calls import Call
from anycarrier.errors import (
    InsufficientFunds,
    NotFound,
    NumberRejected,
    PermissionDenied,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UnsupportedOperation,
)
from anycarrier.events import InstructionsRequested, RecordingProgress
from anycarrier.testing.replay import logged_in
from anycarrier.webhooks import WebhookReply, WebhookRequest
from anycarrier_bandwidth import BandwidthProvider
from anycarrier_bandwidth.sandbox import BandwidthSandbox
from anycarrier_bandwidth.sandbox.bxml import parse
from anycarrier_bandwidth.sandbox.recordings import Recording
from anycarrier_bandwidth.sandbox.webhooks import Callback, recorded, webhook

STREAM = StreamTarget(url="wss://voice.example.com/media", ticket='t"<&>', custom={"order": 'A&B <"7">', "who": "Zoë"})


def request(kit: Any, **changes: Any) -> DialRequest:
    facts = {"from_": kit.OURS, "to": kit.THEIRS, "stream": STREAM, "status_url": f"{kit.HOOK}?ref={'0' * 32}"}
    return DialRequest(**{**facts, "reference": "0" * 32, **changes})


def placed(sandbox: BandwidthSandbox) -> dict[str, Any]:
    return next(r.body for r in reversed(sandbox.requests) if r.method == "POST" and r.path.endswith("/calls"))


def verbs(reply: WebhookReply) -> list[ET.Element]:
    parse(reply.body)  # as the sandbox reads it, strictly
    return list(ET.fromstring(reply.body))


def asked(provider: BandwidthProvider, kit: Any, url: str, kind: str = "answer") -> Any:
    body = f'{{"eventType":"{kind}","callId":"c-1","direction":"outbound","eventTime":"2026-06-10T19:15:19.694Z"}}'
    return provider.parse_webhook(WebhookRequest("POST", url, {}, body.encode()))


async def test_a_dial_gives_each_url_its_login(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    call = await provider.dial(request(kit, machine_detection=MachineDetection.WAIT_FOR_BEEP, timeout=20.2))
    body = placed(sandbox)
    login = {"username": "anycarrier", "password": "sandbox-callback-password"}
    assert body["answerUrl"] == body["disconnectUrl"] == request(kit).status_url
    assert {name: body[name] for name in login} == {name: body["machineDetection"][name] for name in login} == login
    assert (body["callTimeout"], body["machineDetection"]["delayResult"]) == (21, True)
    assert body["machineDetection"]["callbackUrl"].endswith("&greeted=1")
    assert "password" not in str(call.raw).lower() and "sandbox-callback" not in repr(call)
    assert (call.from_, call.to, call.reference) == (kit.OURS, kit.THEIRS, "0" * 32)


async def test_another_number_is_shown_and_the_call_is_still_ours(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    sandbox.add_number("+14155550142")
    call = await provider.dial(request(kit, caller_id="+14155550142"))
    assert (placed(sandbox)["from"], call.from_) == ("+14155550142", kit.OURS)


async def test_keys_and_recording_come_back_with_the_answer(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    await provider.dial(request(kit, digits="12#w", record=True))
    event = asked(provider, kit, placed(sandbox)["answerUrl"])
    assert isinstance(event, InstructionsRequested) and event.reference == "0" * 32
    told = verbs(await provider.instruct(event, event.call, STREAM))
    assert [verb.tag for verb in told] == ["StartRecording", "StartGather", "SendDtmf", "StartStream", "StopStream"]
    assert told[2].text == "12#w"
    assert told[0].get("recordingAvailableUrl") == told[1].get("dtmfUrl") == f"{kit.HOOK}?ref={'0' * 32}"


async def test_the_answer_connects_the_stream_with_its_ticket_and_every_url_has_the_login(
    provider: BandwidthProvider, kit: Any
) -> None:
    event = asked(provider, kit, f"{kit.HOOK}?ref=abc", "initiate")
    gather, start, stop = verbs(await provider.answer(event, STREAM))
    assert dict(start.attrib) == {
        "destination": STREAM.url, "destinationUsername": "anycarrier", "destinationPassword": STREAM.ticket,
        "name": "anycarrier", "mode": "bidirectional", "tracks": "inbound", "streamEventUrl": f"{kit.HOOK}?ref=abc",
        "username": "anycarrier", "password": "sandbox-callback-password",
    }  # fmt: skip
    assert {each.get("name"): each.get("value") for each in start} == dict(STREAM.custom)
    assert (stop.tag, stop.get("wait"), stop.get("name")) == ("StopStream", "true", start.get("name"))
    for verb in (gather, start):
        assert (verb.get("username"), verb.get("password")) == ("anycarrier", "sandbox-callback-password")


@pytest.mark.parametrize(
    "stream",
    [
        {"format": PCMA_8K},
        {"custom": {str(n): "x" for n in range(13)}},
        {"custom": {"n" * 257: "x"}},
        {"custom": {"n": "x" * 2049}},
        {"custom": {"n": "\x07"}},
    ],
)
async def test_what_a_stream_cannot_have_is_refused(
    provider: BandwidthProvider, kit: Any, stream: dict[str, Any]
) -> None:
    odd, event = STREAM.model_copy(update=stream), asked(provider, kit, kit.HOOK)
    dial, answer = provider.dial(request(kit, stream=odd)), provider.answer(event, odd)
    for refused in (dial, answer, provider.instruct(event, event.call, odd)):
        with pytest.raises(UnsupportedOperation):
            await refused


@pytest.mark.parametrize("field", [{"time_limit": 60}, {"headers": {"X-Order": "7"}}])
async def test_what_a_dial_cannot_have_is_refused(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any, field: dict[str, Any]
) -> None:
    with pytest.raises(UnsupportedOperation):
        await provider.dial(request(kit, **field))
    assert not sandbox.requests


async def test_a_call_that_nobody_wants_any_more_is_hung_up_in_the_reply(provider: BandwidthProvider, kit: Any) -> None:
    event = asked(provider, kit, kit.HOOK)
    for reply in (await provider.instruct(event, event.call, None), await provider.reject(event)):  # type: ignore[arg-type]
        assert [verb.tag for verb in verbs(reply)] == ["Hangup"]


async def test_a_transfer_tells_us_of_every_step_and_escapes_what_it_is_given(
    provider: BandwidthProvider, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    async def keep(operation: str, call_id: str, *verbs: str) -> None:
        told.append(f"<Response>{''.join(verbs)}</Response>")

    monkeypatch.setattr(provider, "_run", keep)
    await provider.transfer("c-1", kit.THEIRS, caller_id=kit.OURS, status_url=f"{kit.HOOK}?ref=1&x=<2>")
    await provider.transfer("c-1", "sip:desk@pbx.example.com")
    first, second = ([*ET.fromstring(text)] for text in told)
    assert [verb.tag for verb in first] == [verb.tag for verb in second] == ["StopStream", "Transfer"]
    [party] = first[1]
    assert (party.tag, party.text, first[1].get("transferCallerId")) == ("PhoneNumber", kit.THEIRS, kit.OURS)
    urls = {party.get("transferAnswerUrl"), party.get("transferDisconnectUrl"), first[1].get("transferCompleteUrl")}
    assert urls == {f"{kit.HOOK}?ref=1&x=<2>"}
    assert {each.get("password") for each in (party, first[1])} == {"sandbox-callback-password"}
    assert second[1][0].tag == "SipUri" and not second[1].attrib
    with pytest.raises(UnsupportedOperation):
        await provider.transfer("c-1", kit.THEIRS, headers={"X-Order": "7"})


async def test_whatever_is_put_to_a_live_call_waits_for_its_stream_again(
    provider: BandwidthProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document replaces the one before it: with no verb left the call would end."""
    told: list[list[str]] = []

    async def keep(operation: str, call_id: str, *verbs: str) -> None:
        told.append([ET.fromstring(verb).tag for verb in verbs])
        assert dict(ET.fromstring(verbs[-1]).attrib) == {"name": "anycarrier", "wait": "true"}

    monkeypatch.setattr(provider, "_run", keep)
    await provider.send_digits("c-1", "1#")
    await provider.start_recording("c-1")
    await provider.stop_recording("c-1")
    assert told == [[verb, "StopStream"] for verb in ("SendDtmf", "StartRecording", "StopRecording")]


ERRORS = [
    (400, {"type": "validation", "description": "Invalid to: must be an E164 telephone number"}, NumberRejected),
    (400, {"type": "validation", "description": "Invalid from: must be an E164 telephone number"}, NumberRejected),
    (400, {"type": "validation", "description": "answerUrl is required"}, RequestRejected),
    (402, {"type": "error", "description": "out of credits"}, InsufficientFunds),
    (403, {"type": "authorization-error", "description": "no"}, PermissionDenied),
    (404, {"type": "validation", "description": "Call [c-1] not found"}, NotFound),
    (409, {"type": "error", "description": "HTTP voice feature is required"}, PermissionDenied),
    (415, {"type": "error", "description": "no"}, RequestRejected),
    (429, {"type": "system-overloaded", "description": "Account concurrent call limit exceeded"}, RateLimited),
    (500, {"type": "internal-error", "description": "no"}, ProviderUnavailable),
    (503, {}, ProviderUnavailable),
]


@pytest.mark.parametrize(("status", "body", "kind"), ERRORS)
async def test_a_refusal_is_told_by_its_status_and_words(
    kit: Any, status: int, body: dict[str, str], kind: type[ProviderError]
) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    provider = BandwidthProvider(kit.credential(), httpx.AsyncClient(transport=transport))
    provider.log_in = logged_in  # type: ignore[method-assign]
    with pytest.raises(ProviderError) as refused:
        await provider.dial(request(kit))
    assert type(refused.value) is kind and refused.value.next_step
    assert body.get("description", "") in str(refused.value) or re.search(r"\+\d", body["description"])


@pytest.mark.parametrize("status", [404, 409])
async def test_a_call_that_is_over_needs_no_hang_up(kit: Any, status: int) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json={"type": "x", "description": "over"}))
    provider = BandwidthProvider(kit.credential(), httpx.AsyncClient(transport=transport))
    provider.log_in = logged_in  # type: ignore[method-assign]
    await provider.hang_up("c-1")


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"state": "queued"}, "queued"),
        ({"state": "initiated"}, "initiated"),
        ({"state": "initiated", "direction": "inbound"}, "ringing"),
        ({"state": "answered"}, "answered"),
        ({"state": "disconnected", "disconnectCause": "busy"}, "ended"),
        ({"state": "on-hold", "answerTime": "2026-06-10T19:15:25.432Z"}, "answered"),
        ({"state": "gone", "endTime": "2026-06-10T19:15:25.432Z", "disconnectCause": "busy"}, "ended"),
        ({"state": "new"}, "initiated"),
    ],
)
@pytest.mark.parametrize("listed", [False, True])
async def test_a_call_is_read_in_every_state_alone_or_in_a_list(
    kit: Any, told: dict[str, str], status: str, listed: bool
) -> None:
    body = {"callId": "c-1", "direction": "outbound", "from": kit.OURS, "to": kit.THEIRS, **told}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=[body] if listed else body))
    provider = BandwidthProvider(kit.credential(), httpx.AsyncClient(transport=transport))
    provider.log_in = logged_in  # type: ignore[method-assign]
    call = await provider.fetch_call("c-1")
    assert isinstance(call, Call) and call.status == status
    assert (call.reason == "busy") is (status == "ended")


async def test_a_recording_is_told_and_fetched(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    call = await provider.dial(request(kit))
    far_end = await sandbox.far_end(call.id)
    await far_end.wait_for("answered")
    recording = Recording(sandbox.account.calls[call.id], None, channels=2, name="")
    recording.stop()
    told = webhook(Callback(kit.HOOK), call.id, recorded(recording), 15)
    event = provider.parse_webhook(WebhookRequest("POST", told.url, told.headers, told.body))
    assert isinstance(event, RecordingProgress) and (event.status, event.channels) == ("completed", 2)
    assert (await provider.fetch_recording(event.recording_id or ""))[:4] == b"RIFF"
    with pytest.raises(NotFound):
        await provider.fetch_recording("r-without-its-call")
