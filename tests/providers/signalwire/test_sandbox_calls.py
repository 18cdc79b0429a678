"""Calls through the sandbox, driven by the SDK of Twilio, which is the vendor's too, and answered by a test platform.

What the SDK cannot read of an answer, and what its validator cannot check, would fail here.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_signalwire.sandbox import SignalWireSandbox
from sandbox_platform import Platform, Socket, Webhook, platform

OURS, THEIRS = "+14155550100", "+12125550123"
EVENTS = ["initiated", "ringing", "answered", "completed"]
HANG_UP = "<Response><Hangup/></Response>"


class Redirected(TwilioHttpClient):
    """The SDK's own client, sent to the sandbox as the vendor's SDK is sent to a space."""

    def __init__(self, base_url: str) -> None:
        super().__init__(timeout=60)
        self.base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        path = url.removeprefix("https://api.twilio.com")
        prefix = "" if path.startswith("/api/laml/") else "/api/laml"
        return super().request(method, self.base_url + prefix + path, *args, **kwargs)


class Desk:
    """A sandbox, a platform and the SDK, joined."""

    def __init__(self, sandbox: SignalWireSandbox, here: Platform) -> None:
        self.sandbox = sandbox
        self.platform = here
        self.client = Client(sandbox.project.sid, "PTany", http_client=Redirected(sandbox.base_url))

    async def sdk(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(call, *args, **kwargs)

    async def dial(self, document: Any, to: str = THEIRS, **options: Any) -> Any:
        self.platform.replies["/voice"] = document
        asked = {"url": f"{self.platform.url}/voice", "status_callback": f"{self.platform.url}/status", **options}
        asked.setdefault("status_callback_event", EVENTS)
        return await self.sdk(self.client.calls.create, to=to, from_=OURS, **asked)

    def answer_with(self, document: Any, **settings: Any) -> None:
        """What our number's webhook replies."""
        owned = self.sandbox.project.number(OURS)
        assert owned is not None
        here = self.platform.url
        owned |= {"voice_url": f"{here}/voice", "status_callback": f"{here}/status", **settings}
        self.platform.replies["/voice"] = document

    def stream(self, after: str = "", **attributes: str) -> str:
        more = "".join(f' {name}="{value}"' for name, value in attributes.items())
        url = f"{self.platform.socket_url}/media/abc"
        return f'<Response><Connect><Stream url="{url}"{more}/></Connect>{after}</Response>'

    def statuses(self) -> list[str]:
        return [webhook.params["CallStatus"] for webhook in self.platform.told("/status")]

    async def over(self) -> Webhook:
        """The last status callback of the call."""
        ends = ("completed", "busy", "failed", "no-answer", "canceled")
        while not (found := [w for w in self.platform.told("/status") if w.params["CallStatus"] in ends]):
            await self.platform.wait_told("/status", len(self.platform.told("/status")) + 1)
        return found[0]


def sid_of(socket: Socket) -> str:
    return str(socket.of("start")[0]["start"]["streamSid"])


async def say(socket: Socket, event: str, **body: Any) -> None:
    await socket.send({"event": event, "streamSid": sid_of(socket), **body})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with serve_sandbox(SignalWireSandbox) as sandbox:

        def genuine(webhook: Webhook) -> bool:
            # The form scheme is Twilio's, so Twilio's validator is a judge of it.
            form = {} if webhook.method == "GET" else webhook.params
            key = sandbox.project.signing_key
            header = webhook.headers.get("x-signalwire-signature", "")
            return bool(RequestValidator(key).validate(webhook.url, form, header))

        async with platform(genuine) as here:
            sandbox.add_number(OURS)
            yield Desk(sandbox, here)
            assert all(webhook.genuine for webhook in here.webhooks), "the validator refused a webhook"


async def test_a_dialled_call_asks_for_its_instructions_once_it_is_answered(desk: Desk) -> None:
    call = await desk.dial(desk.stream())
    assert call.status == "queued" and call.direction == "outbound"
    (asked,) = await desk.platform.wait_told("/voice")
    assert (asked.params["CallStatus"], asked.params["Direction"]) == ("in-progress", "outbound-api")
    assert "CallbackSource" not in asked.params and "FromCity" not in asked.params
    socket = await desk.platform.socket()
    await desk.sdk(desk.client.calls(call.sid).update, status="completed")
    last = await desk.over()
    await socket.closed.wait()
    assert desk.statuses() == ["initiated", "ringing", "answered", "in-progress", "completed"]
    assert (last.params["SipResultCode"], last.params["CallbackSource"]) == ("200", "call-progress-events")
    assert [w.params["SequenceNumber"] for w in desk.platform.told("/status")] == list("01234")
    fetched = await desk.sdk(desk.client.calls(call.sid).fetch)
    assert fetched.status == "completed" and int(fetched.duration) >= 1


async def test_frames_have_the_carriers_shapes(desk: Desk) -> None:
    call = await desk.dial(desk.stream())
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    await far_end.press("5")
    await socket.wait_for("dtmf")
    await socket.wait_for("media", 2)
    connected, start = socket.frames[:2]
    assert connected == {"event": "connected", "protocol": "Call", "version": "0.2.0"}
    sid = sid_of(socket)
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "streamSid": sid,
            "accountSid": desk.sandbox.project.sid,
            "callSid": call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }
    media = socket.of("media")[0]
    assert set(media) == {"event", "sequenceNumber", "media"}, "a media frame names no stream"
    assert set(media["media"]) == {"track", "chunk", "timestamp", "payload"} and media["media"]["timestamp"] == "0"
    (dtmf,) = socket.of("dtmf")
    assert dtmf["streamSid"] == sid and dtmf["dtmf"] == {"digit": "5", "duration": 100}
    await say(socket, "mark", mark={"name": "m"})
    (mark,) = await socket.wait_for("mark")
    assert mark == {"event": "mark", "streamSid": sid, "mark": {"name": "m"}}
    await far_end.hang_up()
    (stop,) = await socket.wait_for("stop")
    assert set(stop) == {"event", "sequenceNumber"}


async def test_parameters_and_the_bearer_token_arrive(desk: Desk) -> None:
    noun = '><Parameter name="k" value="v&amp;w"/></Stream></Connect>'
    await desk.dial(desk.stream(authBearerToken="t0ken").replace("/></Connect>", noun))
    socket = await desk.platform.socket()
    assert socket.of("start")[0]["start"]["customParameters"] == {"k": "v&w"}
    assert {name.lower(): value for name, value in socket.headers.items()}["authorization"] == "Bearer t0ken"


async def test_keys_on_the_socket_reach_the_far_end_and_leave_the_stream_open(desk: Desk) -> None:
    call = await desk.dial(desk.stream())
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    for digit in "4#D":
        await say(socket, "dtmf", dtmf={"digit": digit})
    await say(socket, "media", media={"payload": base64.b64encode(b"\x55" * 800).decode()})
    await far_end.wait_heard(0.1)
    assert far_end.digits == "4#D" and far_end.heard == b"\x55" * 800


@pytest.mark.parametrize(("codec", "rate"), [("L16@16000h", 16000), ("L16@24000h", 24000)])
async def test_wideband_is_little_endian_and_is_heard(desk: Desk, codec: str, rate: int) -> None:
    call = await desk.dial(desk.stream(codec=codec))
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    sent = socket.of("start")[0]["start"]["mediaFormat"]
    assert sent == {"encoding": "audio/x-L16", "sampleRate": rate, "channels": 1}
    quiet = (1000).to_bytes(2, "little") * (rate // 5)
    await say(socket, "media", media={"payload": base64.b64encode(quiet).decode()})
    await far_end.wait_heard(0.15)
    # A steady 1,000 is mu-law 0xce (992); read the other way round it would be loud.
    assert far_end.heard.count(b"\xce") > 1000


async def test_a_message_that_is_none_ends_the_stream(desk: Desk) -> None:
    await desk.dial(desk.stream(statusCallback=f"{desk.platform.url}/stream"))
    socket = await desk.platform.socket()
    await socket.send({"event": "media", "streamSid": "another", "media": {"payload": ""}})
    (told,) = await desk.platform.wait_told("/stream", StreamEvent="stream-error")
    assert told.params["StreamError"] == "general_error" and told.params["Unique-ID"]
    await desk.over()


async def test_a_call_is_sent_elsewhere_for_its_instructions_and_dials(desk: Desk) -> None:
    call = await desk.dial(desk.stream())
    await desk.platform.socket()
    here = desk.platform.url
    desk.platform.replies["/transfer"] = (
        f'<Response><Dial callerId="{OURS}" action="{here}/after"><Number statusCallback="{here}/leg" '
        f'statusCallbackEvent="answered">+12125550199</Number></Dial></Response>'
    )
    desk.platform.replies["/after"] = HANG_UP
    await desk.sdk(desk.client.calls(call.sid).update, url=f"{here}/transfer?to=x")
    legs = await desk.platform.wait_told("/leg", 2)
    assert {leg.params["ParentCallSid"] for leg in legs} == {call.sid}
    assert {leg.params["Direction"] for leg in legs} == {"outbound-dial"}
    await (await desk.sandbox.far_end(legs[0].params["CallSid"])).hang_up()
    (after,) = await desk.platform.wait_told("/after")
    assert after.params["DialCallStatus"] == "completed" and "DialBridged" not in after.params
    await desk.over()


@pytest.mark.parametrize(("put_down", "status"), [(True, "failed"), (False, "completed")])
async def test_a_numbers_own_callback_is_told_the_end_alone(desk: Desk, put_down: bool, status: str) -> None:
    desk.answer_with('<Response><Pause length="30"/></Response>' if put_down else HANG_UP)
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    (voice,) = await desk.platform.wait_told("/voice")
    assert set(voice.params) == {"CallSid", "AccountSid", "ApiVersion", "CallStatus", "Direction", "From", "To"}
    if put_down:
        await far_end.hang_up()
    told = await desk.over()
    assert told.params["CallStatus"] == status and len(desk.platform.told("/status")) == 1
    assert not {"CallbackSource", "Direction", "SequenceNumber"} & set(told.params)


async def test_news_is_sent_three_times_in_all_and_a_question_once(desk: Desk) -> None:
    desk.sandbox.retry_seconds = 0.01
    desk.platform.replies["/status"] = Response(status_code=500)
    await desk.dial(Response(status_code=500), status_callback_event=["completed"])
    await desk.platform.wait_told("/status", 3, CallStatus="completed")
    assert len(desk.platform.told("/voice")) == 1
    assert [complaint.code for complaint in desk.sandbox.log] == [11217]


async def test_a_question_that_fails_goes_to_the_fallback(desk: Desk) -> None:
    desk.platform.replies["/fallback"] = HANG_UP
    await desk.dial(Response("", media_type="text/xml"), fallback_url=f"{desk.platform.url}/fallback")
    await desk.platform.wait_told("/fallback")
    assert [complaint.code for complaint in desk.sandbox.log] == [12100], "an empty body is an error"
    await desk.over()


async def test_a_call_that_is_declined_has_the_status_of_its_reason(desk: Desk) -> None:
    for reason, status in (("busy", "busy"), ("rejected", "no-answer")):
        desk.answer_with(f'<Response><Reject reason="{reason}"/></Response>')
        far_end = await desk.sandbox.ring(OURS, THEIRS)
        await far_end.wait_for("ended")
        assert (await desk.sdk(desk.client.calls(far_end.call_id).fetch)).status == status


async def test_a_machine_is_told_by_its_callback(desk: Desk) -> None:
    amd = {"machine_detection": "DetectMessageEnd", "async_amd": "true"}
    call = await desk.dial(desk.stream(), "+15005550105", async_amd_status_callback=f"{desk.platform.url}/amd", **amd)
    (told,) = await desk.platform.wait_told("/amd")
    assert told.params["AnsweredBy"] == "machine_end_beep" and "CallStatus" not in told.params
    assert (await desk.sdk(desk.client.calls(call.sid).fetch)).answered_by == "machine"


async def test_the_sdk_lists_numbers_over_pages_and_reads_refusals(desk: Desk) -> None:
    for last in range(101, 104):
        desk.sandbox.add_number(f"+14155550{last}")
    held = await desk.sdk(desk.client.incoming_phone_numbers.list, page_size=2)
    assert sorted(each.phone_number for each in held) == [f"+14155550{last}" for last in range(100, 104)]
    offers = await desk.sdk(desk.client.available_phone_numbers("US").local.list, area_code=415, limit=3)
    bought = await desk.sdk(desk.client.incoming_phone_numbers.create, phone_number=offers[0].phone_number)
    assert await desk.sdk(desk.client.incoming_phone_numbers(bought.sid).delete)
    assert (await desk.sdk(desk.client.api.v2010.accounts(desk.sandbox.project.sid).fetch)).status == "active"
    with pytest.raises(TwilioRestException) as refused:
        await desk.sdk(desk.client.calls("00000000-0000-0000-0000-000000000000").fetch)
    assert (refused.value.status, refused.value.code) == (404, 20404)


async def test_a_recording_by_the_sdk(desk: Desk) -> None:
    call = await desk.dial(desk.stream())
    await desk.platform.socket()
    here = f"{desk.platform.url}/recording"
    recording = await desk.sdk(
        desk.client.calls(call.sid).recordings.create, recording_status_callback=here, recording_channels="dual"
    )
    await desk.sdk(desk.client.calls(call.sid).recordings(recording.sid).update, status="paused")
    await desk.sdk(desk.client.calls(call.sid).recordings(recording.sid).update, status="stopped")
    (told,) = await desk.platform.wait_told("/recording", RecordingStatus="completed")
    assert told.params["RecordingChannels"] == "2" and told.params["RecordingUrl"].endswith(recording.sid)
    with pytest.raises(TwilioRestException):
        await desk.sdk(desk.client.calls(call.sid).recordings("Twilio.CURRENT").update, status="stopped")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<Response><Gather/></Response>", 12200),
        ('<Response><Connect><Stream url="wss://a" codec="PCMA"/></Connect></Response>', 12200),
        ('<Response><Dial action="/relative">+12125550199</Dial></Response>', 12200),
        ("<Twiml/>", 12100),
        ("<!DOCTYPE x><Response/>", 12100),
        (json.dumps({"version": "1.0.0"}), 12100),
        ("<Response><Say>" + "x" * 65_000 + "</Say></Response>", 11750),
    ],
)
async def test_a_document_that_cannot_be_played_is_in_the_log(desk: Desk, document: str, code: int) -> None:
    await desk.dial(document, status_callback_event=["completed"])
    await desk.over()
    assert [complaint.code for complaint in desk.sandbox.log] == [code]
