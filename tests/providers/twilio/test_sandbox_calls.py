"""Calls through the Twilio sandbox, driven by the vendor's SDK, answered by a platform that is none of our code."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import Response
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from anycarrier.testing.live_server import serve_sandbox
from anycarrier_twilio.sandbox import TwilioSandbox
from sandbox_platform import Platform, Webhook, platform

OURS = "+14155550100"
THEIRS = "+12125550123"


class Redirected(TwilioHttpClient):
    """The SDK's own client, sent to the sandbox."""

    def __init__(self, base_url: str) -> None:
        super().__init__(timeout=60)
        self.base_url = base_url

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        return super().request(method, url.replace("https://api.twilio.com", self.base_url), *args, **kwargs)


class Desk:
    """A sandbox, a platform and the vendor's client, joined."""

    def __init__(self, sandbox: TwilioSandbox, here: Platform) -> None:
        self.sandbox = sandbox
        self.platform = here
        self.client = Client(
            sandbox.account.sid, sandbox.account.token, http_client=Redirected(sandbox.base_url)
        )

    async def sdk(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(call, *args, **kwargs)

    async def dial(self, to: str = THEIRS, **options: Any) -> Any:
        asked = {"twiml": self.stream(), "status_callback": f"{self.platform.url}/status", **options}
        asked.setdefault("status_callback_event", ["initiated", "ringing", "answered", "completed"])
        return await self.sdk(self.client.calls.create, to=to, from_=OURS, **asked)

    def stream(self, path: str = "/media/abc", after: str = "", **attributes: str) -> str:
        more = "".join(f' {name}="{value}"' for name, value in attributes.items())
        return (
            f'<Response><Connect><Stream url="{self.platform.socket_url}{path}"{more}>'
            f'<Parameter name="k" value="v&amp;w"/></Stream></Connect>{after}</Response>'
        )

    def answer_with(self, twiml: Any, **settings: Any) -> None:
        """What our number's webhook replies."""
        self.sandbox.add_number(OURS)
        owned = self.sandbox.account.number(OURS)
        assert owned is not None
        here = self.platform.url
        owned |= {"voice_url": f"{here}/voice", "status_callback": f"{here}/status", **settings}
        self.platform.replies["/voice"] = twiml

    def statuses(self) -> list[str]:
        return [webhook.params["CallStatus"] for webhook in self.platform.told("/status")]

    async def ended(self, **params: str) -> Webhook:
        """The terminal status callback."""
        found = await self.platform.wait_told("/status", CallbackSource="call-progress-events", **params)
        while not (last := [w for w in found if "CallDuration" in w.params]):
            found = await self.platform.wait_told("/status", len(found) + 1, **params)
        return last[0]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with serve_sandbox(TwilioSandbox) as sandbox:

        def genuine(webhook: Webhook) -> bool:
            validator = RequestValidator(sandbox.account.token)
            form = {} if webhook.method == "GET" else webhook.params
            return bool(validator.validate(webhook.url, form, webhook.headers.get("x-twilio-signature", "")))

        async with platform(genuine) as here:
            sandbox.add_number(OURS)
            yield Desk(sandbox, here)
            assert all(webhook.genuine for webhook in here.webhooks), "the vendor's validator refused a webhook"


async def test_an_inbound_call_is_announced_answered_streamed_and_ended_by_the_caller(desk: Desk) -> None:
    desk.answer_with(desk.stream())
    far_end = await desk.sandbox.ring(OURS, THEIRS, said=b"\x55" * 1600)
    socket = await desk.platform.socket()
    await socket.wait_for("media", 12)
    await far_end.hang_up()
    await socket.wait_for("stop")
    (voice,) = desk.platform.told("/voice")
    assert voice.params["CallStatus"] == "ringing" and voice.params["Direction"] == "inbound"
    assert voice.params["ToCity"] == "SAN FRANCISCO" and voice.params["FromZip"] == ""
    assert b"\x55" * 1600 in socket.audio()
    last = await desk.ended()
    assert last.params["CallStatus"] == "completed" and last.params["SequenceNumber"] == "0"
    assert int(last.params["CallDuration"]) >= 1 and last.params["Duration"] == "1"
    assert desk.statuses() == ["completed"]


async def test_stream_frames_have_the_carriers_shapes(desk: Desk) -> None:
    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    await far_end.press("5#")
    await socket.wait_for("dtmf", 2)
    await socket.wait_for("media", 3)
    connected, start = socket.frames[:2]
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": socket.sid,
        "start": {
            "accountSid": desk.sandbox.account.sid,
            "streamSid": socket.sid,
            "callSid": call.sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"k": "v&w"},
        },
    }
    first, second = socket.of("media")[:2]
    assert first["media"]["track"] == "inbound" and first["media"]["chunk"] == "1"
    assert int(first["media"]["timestamp"]) > 0
    assert int(second["media"]["timestamp"]) - int(first["media"]["timestamp"]) == 20
    assert [frame["dtmf"] for frame in socket.of("dtmf")] == [
        {"track": "inbound_track", "digit": "5"},
        {"track": "inbound_track", "digit": "#"},
    ]
    assert [int(frame["sequenceNumber"]) for frame in socket.frames[1:]] == list(range(1, len(socket.frames)))


async def test_the_upgrade_is_signed_over_the_stream_url_without_its_query(desk: Desk) -> None:
    await desk.dial(twiml=desk.stream("/media/abc?lost=1"))
    socket = await desk.platform.socket()
    assert socket.path == "/media/abc"
    headers = {name.lower(): value for name, value in socket.headers.items()}
    validator = RequestValidator(desk.sandbox.account.token)
    assert validator.validate(f"{desk.platform.socket_url}/media/abc", {}, headers["x-twilio-signature"])


async def test_an_outbound_call_tells_each_status_in_order(desk: Desk) -> None:
    call = await desk.dial()
    assert call.status == "queued" and call.direction == "outbound-api"
    await desk.platform.socket()
    assert (await desk.sdk(desk.client.calls(call.sid).fetch)).status == "in-progress"
    await desk.sdk(desk.client.calls(call.sid).update, status="completed")
    await desk.ended()
    assert desk.statuses() == ["initiated", "ringing", "in-progress", "completed"]
    assert [w.params["SequenceNumber"] for w in desk.platform.told("/status")] == ["0", "1", "2", "3"]
    with pytest.raises(TwilioRestException) as refused:
        await desk.sdk(desk.client.calls(call.sid).update, status="completed")
    assert refused.value.code == 21220


async def test_audio_is_played_in_real_time_and_marks_come_when_reached(desk: Desk) -> None:
    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    clock = asyncio.get_running_loop().time
    await socket.mark("idle")
    await socket.wait_for("mark")
    began = clock()
    await socket.play(b"\x11" * 1600)
    await socket.mark("half")
    await socket.play(b"\x22" * 1600)
    await socket.mark("whole")
    await socket.wait_for("mark", 2)
    half = clock() - began
    await socket.wait_for("mark", 3)
    whole = clock() - began
    assert [frame["mark"]["name"] for frame in socket.of("mark")] == ["idle", "half", "whole"]
    assert half >= 0.195 and whole >= 0.395, "a mark came before its audio was played"
    assert far_end.heard == b"\x11" * 1600 + b"\x22" * 1600


async def test_clear_drops_the_rest_and_echoes_pending_marks_at_once(desk: Desk) -> None:
    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    await socket.play(b"\x33" * 480_000)
    await socket.mark("never reached")
    await far_end.wait_heard(0.2)
    await socket.clear()
    await socket.wait_for("mark")
    heard = far_end.heard_seconds()
    assert 0.2 <= heard < 55, "a minute was queued and must not all have been played"
    await socket.play(b"\x44" * 160)
    await far_end.wait_heard(heard + 0.02)
    assert far_end.heard.endswith(b"\x33" + b"\x44" * 160)


async def test_closing_our_side_goes_on_with_the_twiml_and_ends_the_call(desk: Desk) -> None:
    await desk.dial(twiml=desk.stream(after='<Play digits="12"/>'))
    socket = await desk.platform.socket()
    await socket.connection.close()
    last = await desk.ended()
    assert last.params["CallStatus"] == "completed"
    assert desk.sandbox.far_ends[last.params["CallSid"]].digits == "12"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff\xff", 31950),
        ("{no json", 31950),
        ("[1]", 31951),
        ('{"event":"media","media":{"payload":"AAAA"}}', 31951),
        ('{"event":"media","streamSid":"$","media":{"payload":"%%%"}}', 31951),
        ('{"event":"mark","streamSid":"$"}', 31951),
        ('{"event":"shout","streamSid":"$"}', 31951),
    ],
)
async def test_a_frame_the_carrier_does_not_take_closes_the_stream_with_its_error(
    desk: Desk, message: bytes | str, code: int
) -> None:
    callback = f"{desk.platform.url}/stream"
    await desk.dial(twiml=desk.stream(statusCallback=callback))
    socket = await desk.platform.socket()
    await socket.connection.send(message.replace("$", socket.sid) if isinstance(message, str) else message)
    assert (await desk.ended()).params["CallStatus"] == "completed"
    assert socket.closed.is_set()
    assert [complaint.code for complaint in desk.sandbox.debugger] == [code]
    told = await desk.platform.wait_told("/stream", 3)
    assert [w.params["StreamEvent"] for w in told] == ["stream-started", "stream-error", "stream-stopped"]
    assert str(code) in told[1].params["StreamError"]


@pytest.mark.parametrize(
    ("to", "status", "sip"),
    [
        ("+15005550101", "busy", "486"),
        ("+15005550102", "no-answer", "487"),
        ("+15005550103", "busy", "603"),
        ("+15005550114", "failed", "404"),
    ],
)
async def test_calls_that_are_not_answered_end_in_the_carriers_words(
    desk: Desk, to: str, status: str, sip: str
) -> None:
    call = await desk.dial(to, timeout=1)
    last = await desk.ended()
    assert (last.params["CallStatus"], last.params["SipResponseCode"]) == (status, sip)
    assert (last.params["CallDuration"], last.params["Duration"]) == ("0", "0")
    assert (await desk.sdk(desk.client.calls(call.sid).fetch)).status == status
    assert not desk.platform.sockets


@pytest.mark.parametrize(
    ("to", "http", "code"),
    [
        ("+15005550104", 400, 21211),
        ("+15005550107", 429, 20429),
        ("+15005550108", 500, 20500),
        ("+15005550110", 400, 21215),
        ("+15005550111", 403, 20005),
        ("0049301234", 400, 21211),
    ],
)
async def test_calls_the_api_refuses_carry_the_carriers_code(desk: Desk, to: str, http: int, code: int) -> None:
    with pytest.raises(TwilioRestException) as refused:
        await desk.dial(to)
    assert (refused.value.status, refused.value.code) == (http, code)
    assert not desk.sandbox.far_ends


async def test_the_magic_number_for_timeouts_is_never_answered(desk: Desk) -> None:
    dialling = asyncio.create_task(desk.dial("+15005550109"))
    async with asyncio.timeout(30):
        while not desk.sandbox.requests:
            await asyncio.sleep(0.01)
    done, _ = await asyncio.wait({dialling}, timeout=0.3)
    assert not done
    desk.sandbox.closing.set()  # lets the test end; only aclose does this otherwise
    with pytest.raises(TwilioRestException):
        await dialling


async def test_0112_hangs_up_after_a_second_and_0113_rings_before_it_answers(desk: Desk) -> None:
    first, second = await desk.dial("+15005550112"), await desk.dial("+15005550113")
    ringing = await desk.sandbox.far_end(second.sid)
    await ringing.wait_for("answered")
    assert (await desk.ended(CallSid=first.sid)).params["CallStatus"] == "completed"
    rang = {what: at for at, what in ringing.log}
    assert rang["answered"] - rang["ringing"] >= 1.0
    lasted = {what: at for at, what in desk.sandbox.far_ends[first.sid].log}
    assert lasted["ended"] - lasted["answered"] >= 0.99


async def test_0115_loses_the_media_socket_while_the_call_stays_up(desk: Desk) -> None:
    call = await desk.dial("+15005550115")
    socket = await desk.platform.socket()
    await asyncio.wait_for(socket.closed.wait(), 30)
    assert not socket.of("stop")
    assert (await desk.sdk(desk.client.calls(call.sid).fetch)).status == "in-progress"
    await desk.sdk(desk.client.calls(call.sid).update, status="completed")
    assert (await desk.ended()).params["CallStatus"] == "completed"
    assert [complaint.code for complaint in desk.sandbox.debugger] == [31921]


@pytest.mark.parametrize(
    ("to", "mode", "verdict"),
    [
        (THEIRS, "Enable", "human"),
        ("+15005550105", "Enable", "machine_start"),
        ("+15005550105", "DetectMessageEnd", "machine_end_beep"),
        ("+15005550106", "Enable", "fax"),
    ],
)
async def test_asynchronous_detection_tells_who_answered(desk: Desk, to: str, mode: str, verdict: str) -> None:
    amd = f"{desk.platform.url}/amd"
    call = await desk.dial(to, machine_detection=mode, async_amd="true", async_amd_status_callback=amd)
    (told,) = await desk.platform.wait_told("/amd")
    assert told.params["AnsweredBy"] == verdict and told.params["CallSid"] == call.sid
    assert int(told.params["MachineDetectionDuration"]) >= 300
    if mode == "DetectMessageEnd":
        assert len(desk.sandbox.far_ends[call.sid].microphone.said) == 1.4 * 8000, "the beep had not sounded yet"
    assert (await desk.sdk(desk.client.calls(call.sid).fetch)).answered_by == verdict


async def test_synchronous_detection_fetches_the_twiml_with_the_verdict(desk: Desk) -> None:
    desk.platform.replies["/answer"] = "<Response><Hangup/></Response>"
    await desk.dial("+15005550106", twiml=None, url=f"{desk.platform.url}/answer", machine_detection="Enable")
    (asked,) = await desk.platform.wait_told("/answer")
    assert asked.params["AnsweredBy"] == "fax" and asked.params["CallStatus"] == "in-progress"


async def test_new_twiml_stops_the_stream_and_transfers_the_call(desk: Desk) -> None:
    desk.answer_with(desk.stream())
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    socket = await desk.platform.socket()
    dial = f'<Dial callerId="{OURS}" action="{desk.platform.url}/dialled"><Number>+13125550144</Number></Dial>'
    desk.platform.replies["/dialled"] = "<Response><Hangup/></Response>"
    call = await desk.sdk(desk.client.calls(far_end.call_id).update, twiml=f"<Response>{dial}</Response>")
    assert call.status == "in-progress"
    await socket.wait_for("stop")
    children = [leg for leg in desk.sandbox.account.calls.values() if leg.parent is not None]
    while not children:
        await asyncio.sleep(0.01)
        children = [leg for leg in desk.sandbox.account.calls.values() if leg.parent is not None]
    target = children[0].far_end
    await target.wait_for("answered")
    assert (target.from_, target.to, far_end.transferred_to) == (OURS, "+13125550144", "+13125550144")
    await far_end.say(b"\x66" * 800)
    await target.wait_heard(0.1)
    assert target.heard == b"\x66" * 800
    await target.hang_up()
    (dialled,) = await desk.platform.wait_told("/dialled")
    assert dialled.params["DialCallStatus"] == "completed" and dialled.params["DialCallSid"] == target.call_id
    assert (await desk.ended(CallSid=far_end.call_id)).params["CallStatus"] == "completed"


async def test_sip_headers_come_with_an_inbound_call_and_go_out_in_the_sip_address(desk: Desk) -> None:
    """https://www.twilio.com/docs/voice/api/sip-twiml and https://www.twilio.com/docs/voice/twiml/sip"""
    desk.answer_with(desk.stream())
    far_end = await desk.sandbox.ring(OURS, THEIRS, headers={"X-Case": "7"})
    await desk.platform.socket()
    (voice,) = desk.platform.told("/voice")
    assert voice.params["SipHeader_X-Case"] == "7"
    sip = f'<Dial callerId="{OURS}"><Sip>sip:desk@pbx.example?X-Case=8&amp;X-Name=A%20B</Sip></Dial>'
    await desk.sdk(desk.client.calls(far_end.call_id).update, twiml=f"<Response>{sip}</Response>")
    while len(desk.sandbox.far_ends) < 2:
        await asyncio.sleep(0.01)
    target = next(each for each in desk.sandbox.far_ends.values() if each is not far_end)
    assert (target.to, target.headers) == ("sip:desk@pbx.example", {"X-Case": "8", "X-Name": "A B"})


async def test_the_price_is_a_charge_in_the_call_resource_once_an_answered_call_is_over(desk: Desk) -> None:
    call = await desk.dial()
    await desk.platform.socket()
    fetch = desk.client.calls(call.sid).fetch
    assert (await desk.sdk(fetch)).price is None
    await desk.sandbox.far_ends[call.sid].hang_up()
    await desk.ended()
    over = await desk.sdk(fetch)
    assert (over.price, over.price_unit) == ("-0.00850", "USD")


async def test_a_transfer_to_a_busy_number_reports_it_and_the_caller_stays(desk: Desk) -> None:
    dial = f'<Dial action="{desk.platform.url}/dialled">+15005550101</Dial>'
    desk.answer_with(f"<Response>{dial}</Response>")
    desk.platform.replies["/dialled"] = "<Response><Pause length='30'/></Response>"
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    (dialled,) = await desk.platform.wait_told("/dialled")
    assert (dialled.params["DialCallStatus"], dialled.params["DialBridged"]) == ("busy", "false")
    assert far_end.state == "answered"


@pytest.mark.parametrize(("reason", "status"), [("busy", "busy"), ("rejected", "no-answer")])
async def test_reject_as_the_first_verb_ends_the_call_unanswered(desk: Desk, reason: str, status: str) -> None:
    desk.answer_with(f'<Response><Reject reason="{reason}"/></Response>')
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    last = await desk.ended()
    assert last.params["CallStatus"] == status and last.params["CallDuration"] == "0"
    assert "answered" not in [what for _, what in far_end.log]


async def test_a_call_to_a_number_without_a_voice_url_fails_and_nobody_is_told(desk: Desk) -> None:
    desk.answer_with(desk.stream())
    (sid,) = desk.sandbox.account.numbers
    await desk.sdk(desk.client.incoming_phone_numbers(sid).update, voice_url="", status_callback="")
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "failed" and desk.sandbox.deliveries == []
    assert [complaint.code for complaint in desk.sandbox.debugger] == [11100]


async def test_a_webhook_that_refuses_ends_the_call_as_busy_with_11200(desk: Desk) -> None:
    from starlette.responses import Response

    desk.answer_with(Response(status_code=403))
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "busy"
    assert [complaint.code for complaint in desk.sandbox.debugger] == [11200]


async def test_a_webhook_too_slow_is_given_up_and_the_fallback_is_asked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = asyncio.Event()

    async def slow(webhook: Webhook) -> str:
        await over.wait()
        return ""

    timeouts = itertools.chain([0.2], itertools.repeat(60.0))  # only the first webhook is given up so soon
    monkeypatch.setattr(TwilioSandbox, "webhook_timeout", property(lambda sandbox: next(timeouts)))
    desk.answer_with(slow, voice_fallback_url=f"{desk.platform.url}/fallback")
    desk.platform.replies["/fallback"] = "<Response><Hangup/></Response>"
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    (asked,) = await desk.platform.wait_told("/fallback")
    assert asked.params["ErrorCode"] == "11205" and asked.params["ErrorUrl"].endswith("/voice")
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "completed"
    over.set()


@pytest.mark.parametrize(("document", "code"), [(Response(status_code=500), "11200"), ("<Response><Connect>", "12100")])
async def test_the_fallback_is_asked_also_in_the_middle_of_a_call(
    desk: Desk, document: Response | str, code: str
) -> None:
    url = desk.platform.url
    desk.answer_with(f"<Response><Redirect>{url}/next</Redirect></Response>", voice_fallback_url=f"{url}/fallback")
    desk.platform.replies["/next"] = document
    desk.platform.replies["/fallback"] = "<Response><Say>sorry</Say></Response>"
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    (asked,) = await desk.platform.wait_told("/fallback")
    assert (asked.params["ErrorCode"], asked.params["ErrorUrl"]) == (code, f"{url}/next")
    await far_end.wait_for("ended")
    assert "hears: sorry" in [what for _, what in far_end.log]
    desk.platform.replies["/fallback"] = document
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert "hears of an application error" in [what for _, what in far_end.log]
    assert len(desk.platform.told("/fallback")) == 2, "once a call"


async def test_an_update_may_bring_a_fallback_of_its_own(desk: Desk) -> None:
    url = desk.platform.url
    call = await desk.dial(twiml="<Response><Pause length='60'/></Response>")
    await desk.platform.wait_told("/status", CallStatus="in-progress")
    desk.platform.replies["/next"] = Response(status_code=500)
    desk.platform.replies["/fallback"] = "<Response><Hangup/></Response>"
    await desk.sdk(desk.client.calls(call.sid).update, url=f"{url}/next", fallback_url=f"{url}/fallback")
    (asked,) = await desk.platform.wait_told("/fallback")
    assert asked.params["ErrorUrl"] == f"{url}/next"


@pytest.mark.parametrize(
    ("twiml", "code"),
    [
        ("<Response><Connect>", 12100),
        ("<Reply/>", 12100),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><Response/>", 12100),
        ("<Response><Conect/></Response>", 12200),
        ("<Response><Start><Stream url='wss://a/b'/></Start></Response>", 12200),
        ("<Response><Hangup when='now'/></Response>", 12200),
        ("<Response><Connect><Stream url='wss://a/b' track='both_tracks'/></Connect></Response>", 12200),
    ],
)
async def test_twiml_the_carrier_cannot_run_is_an_application_error(desk: Desk, twiml: str, code: int) -> None:
    desk.answer_with(twiml)
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert [complaint.code for complaint in desk.sandbox.debugger] == [code]
    assert "hears of an application error" in [what for _, what in far_end.log]


async def test_a_stream_is_not_opened_unencrypted_to_another_machine(desk: Desk) -> None:
    desk.answer_with("<Response><Connect><Stream url='ws://media.example/abc'/></Connect></Response>")
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert [complaint.code for complaint in desk.sandbox.debugger] == [31922]


async def test_a_platform_that_does_not_take_the_socket_is_a_failed_handshake(desk: Desk) -> None:
    desk.answer_with(f"<Response><Connect><Stream url='ws{desk.platform.url[4:]}/nothing'/></Connect></Response>")
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert [complaint.code for complaint in desk.sandbox.debugger] == [31920]


async def test_the_time_limit_ends_an_answered_call(desk: Desk) -> None:
    call = await desk.dial(time_limit=1)
    last = await desk.ended()
    assert last.params["CallStatus"] == "completed"
    log = {what: at for at, what in desk.sandbox.far_ends[call.sid].log}
    assert log["ended"] - log["answered"] >= 0.99


async def test_canceling_ends_a_ringing_call_and_leaves_an_answered_one_alone(desk: Desk) -> None:
    ringing = await desk.dial("+15005550102", timeout=60)
    answered = await desk.dial()
    await desk.platform.socket()
    assert (await desk.sdk(desk.client.calls(ringing.sid).update, status="canceled")).status == "canceled"
    assert (await desk.sdk(desk.client.calls(answered.sid).update, status="canceled")).status == "in-progress"
    assert (await desk.ended(CallSid=ringing.sid)).params["CallStatus"] == "canceled"


async def test_a_caller_who_gives_up_before_the_answer_leaves_no_answer(desk: Desk) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def think(webhook: Webhook) -> str:
        asked.set()
        await over.wait()
        return ""

    desk.answer_with(think)
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await asyncio.wait_for(asked.wait(), 30)
    await far_end.hang_up()
    last = await desk.ended()
    assert (last.params["CallStatus"], last.params["SipResponseCode"]) == ("no-answer", "487")
    over.set()


async def test_digits_asked_for_at_dialling_reach_the_far_end(desk: Desk) -> None:
    call = await desk.dial(send_digits="1w2#")
    await desk.platform.socket()
    assert desk.sandbox.far_ends[call.sid].digits == "12#"


async def test_a_platform_that_never_reads_cannot_hold_up_the_hang_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anycarrier_twilio.sandbox.media_stream.GOODBYE_TIMEOUT", 0.5)
    desk.platform.read = False
    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    await far_end.wait_for("streaming")
    await desk.sdk(desk.client.calls(call.sid).update, status="completed")
    assert (await desk.ended()).params["CallStatus"] == "completed"


async def test_the_debugger_tells_once_that_the_buffer_is_full(desk: Desk) -> None:
    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    far_end.playback.limit = 0.1
    socket = await desk.platform.socket()
    for _ in range(3):
        await socket.play(b"\x11" * 801)
    await socket.play(b"\x22" * 800)
    await far_end.wait_heard(0.1)
    assert far_end.heard == b"\x22" * 800
    assert [complaint.code for complaint in desk.sandbox.debugger] == [31931]


async def test_a_dial_that_answers_on_bridge_leaves_the_caller_ringing_until_then(desk: Desk) -> None:
    nobody = "<Number>+15005550102</Number>"  # rings until the timeout: the test picks up
    desk.answer_with(f"<Response><Dial answerOnBridge='true' timeout='600'>{nobody}</Dial></Response>")
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    while not (children := [leg for leg in desk.sandbox.account.calls.values() if leg.parent is not None]):
        await asyncio.sleep(0.01)
    (child,) = children
    while child.status != "ringing":
        await asyncio.sleep(0.01)
    assert (far_end.state, far_end.transferred_to) == ("ringing", "+15005550102")
    child.answer()
    await far_end.wait_for("answered")
    assert child.status == "in-progress"
    await far_end.hang_up()
    await child.far_end.wait_for("ended")
    assert child.status == "completed"


async def test_a_caller_id_nobody_verified_fails_the_dial(desk: Desk) -> None:
    desk.answer_with("<Response><Dial callerId='+13125550199'>+13125550144</Dial></Response>")
    far_end = await desk.sandbox.ring(OURS, THEIRS)
    await far_end.wait_for("ended")
    assert [complaint.code for complaint in desk.sandbox.debugger] == [13214]
    assert len(desk.sandbox.far_ends) == 1


async def test_redirect_and_a_connect_action_fetch_the_next_document(desk: Desk) -> None:
    here = desk.platform
    desk.answer_with(f"<Response><Redirect>{here.url}/next</Redirect></Response>")
    stream = desk.stream().replace("<Connect>", f'<Connect action="{here.url}/after">')
    here.replies["/next"] = stream
    here.replies["/after"] = "<Response><Hangup/></Response>"
    await desk.sandbox.ring(OURS, THEIRS)
    socket = await here.socket()
    assert here.told("/next")[0].params["CallStatus"] == "in-progress"
    await socket.connection.close()
    await here.wait_told("/after")
    assert (await desk.ended()).params["CallStatus"] == "completed"


async def test_tones_in_our_audio_are_heard_as_keys(desk: Desk) -> None:
    from anycarrier.testing.far_end_audio import key_tone, tone

    call = await desk.dial()
    far_end = await desk.sandbox.far_end(call.sid)
    socket = await desk.platform.socket()
    await socket.play(key_tone("4") + tone(0.06) + key_tone("#") + tone(0.06))
    await far_end.wait_heard(0.32)
    assert (far_end.keys_heard(), far_end.digits) == ("4#", "")


async def test_a_fragment_with_connection_overrides_is_neither_sent_nor_signed(desk: Desk) -> None:
    desk.answer_with("<Response><Hangup/></Response>")
    owned = desk.sandbox.account.number(OURS)
    assert owned is not None
    owned["voice_url"] += "?ref=1#rc=2&rp=all"
    await desk.sandbox.ring(OURS, THEIRS)
    (told,) = await desk.platform.wait_told("/voice")
    assert told.url == f"{desk.platform.url}/voice?ref=1" and told.genuine


async def test_audio_is_dropped_and_reported_once_when_the_platform_does_not_keep_up(desk: Desk) -> None:
    call = await desk.dial()
    await desk.platform.socket()
    leg = desk.sandbox.account.calls[call.sid]
    assert leg.stream is not None
    for _ in range(700):  # in one go: the writer gets no turn, as with a peer that does not read
        leg.stream._hear(b"\x01" * 160)
    assert [complaint.code for complaint in desk.sandbox.debugger] == [31930]
    assert leg.stream._outbox.qsize() < 700
