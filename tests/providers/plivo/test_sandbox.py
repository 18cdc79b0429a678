"""The sandbox behaves as Plivo is documented to, traps included; the other side is a customer without anycarrier."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier.testing.far_end import FarEnd
from anycarrier_plivo.sandbox import PlivoSandbox
from anycarrier_plivo.sandbox.answer_xml import InvalidXml, read
from anycarrier_plivo.sandbox.app import AUTH_ID, AUTH_TOKEN
from providers.plivo.platform import Customer, customer

OURS, CALLER = "+14155550100", "+12125550123"


@pytest.fixture
async def shop(sandbox: PlivoSandbox) -> AsyncIterator[Customer]:
    async with customer(AUTH_TOKEN) as opened:
        yield opened


async def ask(sandbox: PlivoSandbox, method: str, path: str, **body: Any) -> httpx.Response:
    async with httpx.AsyncClient(auth=(AUTH_ID, AUTH_TOKEN)) as http:
        url = f"{sandbox.base_url}/v1/Account/{AUTH_ID}/{path}"
        return await http.request(method, url, json=body or None)


async def rung(sandbox: PlivoSandbox, shop: Customer, *replies: str | int, method: str = "POST", **more: str) -> FarEnd:
    """Somebody rings a number that points at the customer, who replies so."""
    urls = {"answer_url": shop.answer("answer", *replies), "hangup_url": f"{shop.url}/over", "answer_method": method}
    made = await ask(sandbox, "POST", "Application/", app_name=f"a{len(sandbox.legs)}", **urls, **more)
    sandbox.add_number(OURS)
    await ask(sandbox, "POST", f"Number/{OURS[1:]}/", app_id=made.json()["app_id"])
    return await sandbox.ring(OURS, CALLER, headers={"Case": "7"})


async def ended(shop: Customer) -> tuple[str, str, str]:
    over = await shop.wait("Hangup")
    return over["CallStatus"], over["HangupCauseCode"], over["HangupSource"]


async def test_a_number_that_points_nowhere_cannot_be_rung(sandbox: PlivoSandbox):
    with pytest.raises(LookupError):
        await sandbox.ring(OURS, CALLER)
    sandbox.add_number(OURS)
    with pytest.raises(LookupError):
        await sandbox.ring(OURS, CALLER)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_ring_is_told_by_either_method(sandbox: PlivoSandbox, shop: Customer, method: str):
    far_end = await rung(sandbox, shop, '<Hangup reason="busy"/>', method=method)
    await far_end.wait_for("ended")
    begun = await shop.wait("StartApp")
    assert (begun["From"], begun["To"], begun["CallStatus"]) == ("12125550123", "14155550100", "ringing")
    assert begun["X-PH-Case"] == "7" and "RequestUUID" not in begun
    assert await ended(shop) == ("busy", "3010", "Answer XML")


@pytest.mark.parametrize(
    ("xml", "end"),
    [
        ('<Hangup reason="rejected"/>', ("busy", "3020", "Answer XML")),
        ("<Hangup/>", ("completed", "4000", "Answer XML")),
        ("", ("completed", "4010", "Answer XML")),
        ('<Wait length="0"/><Hangup reason="busy"/>', ("completed", "4000", "Answer XML")),
        ("<Reject/>", ("completed", "8011", "Error")),  # another carrier's
        ("<Stream> wss://voice.example.com/x </Stream>", ("completed", "8011", "Error")),
        ("<Stream keepcallalive='true'>wss://voice.example.com/x</Stream>", ("completed", "8011", "Error")),
        ("not xml <", ("completed", "8011", "Error")),
    ],
)
async def test_what_a_reply_does(sandbox: PlivoSandbox, shop: Customer, xml: str, end: tuple[str, str, str]):
    await rung(sandbox, shop, xml)
    assert await ended(shop) == end


async def test_an_url_is_asked_three_times_and_then_the_fallback(sandbox: PlivoSandbox, shop: Customer):
    await rung(sandbox, shop, 500)
    assert await ended(shop) == ("completed", "7011", "Error")
    assert shop.kinds("answer") == ["StartApp"] * 3
    shop.told.clear()
    fallback = shop.answer("fallback", '<Hangup reason="busy"/>')
    await rung(sandbox, shop, 500, fallback_answer_url=fallback)
    assert await ended(shop) == ("busy", "3010", "Answer XML")
    shop.told.clear()
    await rung(sandbox, shop, 500, '<Hangup reason="busy"/>')
    assert await ended(shop) == ("busy", "3010", "Answer XML") and shop.kinds("answer") == ["StartApp"] * 2


async def test_what_is_told_in_vain_is_told_again(sandbox: PlivoSandbox, shop: Customer):
    shop.answer("over", 503, 503, "")
    await rung(sandbox, shop, "<Hangup/>")
    async with asyncio.timeout(20):
        while shop.kinds("over") != ["Hangup"] * 3:
            await asyncio.sleep(0.005)


async def test_a_stream_without_keep_call_alive_ends_the_call_at_once(sandbox: PlivoSandbox, shop: Customer):
    await rung(sandbox, shop, shop.stream.replace('keepCallAlive="true" ', ""))
    assert await ended(shop) == ("completed", "4010", "Answer XML")


async def test_both_sides_of_a_stream_and_no_word_at_its_end(sandbox: PlivoSandbox, shop: Customer):
    told = f'<Stream statusCallbackUrl="{shop.url}/stream" extraHeaders="a=1,b=2"'
    far_end = await rung(sandbox, shop, shop.stream.replace("<Stream", told))
    start = await shop.frame("start")
    assert start["sequenceNumber"] == 1 and start["extra_headers"] == "a=1;b=2", "given with commas"
    stream_id = start["start"]["streamId"]
    assert start["start"] == {
        "callId": far_end.call_id, "streamId": stream_id, "accountId": AUTH_ID, "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000},
    }  # fmt: skip
    await far_end.say(b"\x20" * 160)
    await far_end.press("5")
    assert (await shop.frame("dtmf"))["dtmf"]["digit"] == "5"
    heard = await shop.frame("media")
    assert isinstance(heard["media"]["chunk"], int) and isinstance(heard["media"]["timestamp"], str)
    sound = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": base64.b64encode(b"\x42" * 800).decode()}
    wrong = [{**sound, "contentType": "audio/x-l16"}, {**sound, "sampleRate": 16000}, {**sound, "payload": "!"},
             {**sound, "payload": base64.b64encode(b"\x43" * 13_000).decode()}]  # fmt: skip
    for media in [*wrong, sound]:
        shop.say.put_nowait({"event": "playAudio", "media": media})
    shop.say.put_nowait({"event": "checkpoint", "streamId": stream_id, "name": "heard"})
    assert (await shop.frame("playedStream"))["name"] == "heard"
    assert far_end.heard == b"\x42" * 800, "what does not fit the stream is not played"
    long = base64.b64encode(b"\x42" * 8000).decode()
    shop.say.put_nowait({"event": "playAudio", "media": {**sound, "payload": long}})
    shop.say.put_nowait({"event": "checkpoint", "streamId": stream_id, "name": "overtaken"})
    shop.say.put_nowait({"event": "clearAudio", "streamId": stream_id})
    shop.say.put_nowait({"event": "sendDTMF", "dtmf": "12"})
    await shop.frame("clearedAudio")
    shop.say.put_nowait(None)  # we close: what follows the stream runs, and here nothing does
    assert await ended(shop) == ("completed", "4010", "Answer XML")
    assert far_end.digits == "12"
    names = [frame["event"] for frame in shop.frames]
    assert names.count("playedStream") == 1 and "stop" not in names
    assert [frame["sequenceNumber"] for frame in shop.frames] == list(range(1, len(names) + 1))
    await shop.wait("StopStream")
    assert shop.kinds("stream") == ["StartStream", "StopStream"]


async def test_a_socket_that_cannot_be_opened_is_tried_three_times(sandbox: PlivoSandbox, shop: Customer):
    nowhere = shop.stream.replace("/media", "/nowhere").replace("<Stream", f'<Stream statusCallbackUrl="{shop.url}/s"')
    await rung(sandbox, shop, nowhere)
    assert (await shop.wait("DroppedStream"))["ServiceURL"].endswith("/nowhere")
    assert (await ended(shop))[1] == "4010"


async def test_silence_before_the_answer_leaves_the_call_ringing(sandbox: PlivoSandbox, shop: Customer):
    far_end = await rung(sandbox, shop, '<PreAnswer><Wait length="60"/></PreAnswer><Hangup reason="busy"/>')
    await shop.wait("StartApp")
    assert far_end.state == "ringing"
    await far_end.hang_up()
    assert await ended(shop) == ("cancel", "1000", "Caller")
    assert (await shop.wait("Hangup"))["AnswerTime"] == ""


async def test_a_busy_target_is_told_by_the_action_which_says_how_to_go_on(sandbox: PlivoSandbox, shop: Customer):
    after = shop.answer("after", '<Wait length="0"/>')
    await rung(sandbox, shop, f'<Wait length="0"/><Dial action="{after}"><Number>+15005550101</Number></Dial>')
    assert await ended(shop) == ("completed", "4010", "Answer XML")
    (form,) = [form for path, form in shop.told if path == "after"]
    assert form["DialStatus"] == "busy" and form["DialALegUUID"] == form["CallUUID"]


async def dialled(sandbox: PlivoSandbox, shop: Customer, to: str = CALLER, **more: Any) -> FarEnd:
    urls = {"answer_url": f"{shop.url}/answer", "hangup_url": f"{shop.url}/over"}
    fired = await ask(sandbox, "POST", "Call/", **{"from": OURS, "to": to, **urls, **more})
    assert fired.status_code == 201, fired.text
    return await sandbox.far_end(fired.json()["request_uuid"])


@pytest.mark.parametrize(
    ("to", "end"),
    [
        ("+15005550101", ("busy", "3010", "Carrier")),
        ("+15005550102", ("timeout", "6010", "Plivo")),
        ("+15005550103", ("busy", "3110", "Carrier")),
        ("+15005550114", ("failed", "3120", "Carrier")),
    ],
)
async def test_a_call_that_is_not_connected(sandbox: PlivoSandbox, shop: Customer, to: str, end: tuple[str, str, str]):
    await dialled(sandbox, shop, to, ring_timeout=0.1)
    assert await ended(shop) == end and shop.kinds("answer") == []


async def test_the_time_limit_is_plivos_word_too(sandbox: PlivoSandbox, shop: Customer):
    shop.answer("answer", '<Wait length="60"/>')
    await dialled(sandbox, shop, time_limit=0.2)
    assert await ended(shop) == ("completed", "6000", "Plivo")


@pytest.mark.parametrize(("mode", "code"), [("true", "4000"), ("hangup", "9100")])
async def test_only_a_machine_is_told_of(sandbox: PlivoSandbox, shop: Customer, mode: str, code: str):
    shop.answer("answer", '<Wait length="60"/>')
    more = {"machine_detection": mode, "machine_detection_url": f"{shop.url}/amd"}
    far_end = await dialled(sandbox, shop, "+15005550105", **more)
    assert (await shop.wait("MachineDetection"))["Machine"] == "true"
    await far_end.hang_up()
    assert (await ended(shop))[1] == code
    shop.told.clear()
    far_end = await dialled(sandbox, shop, **more)
    await far_end.wait_for("answered")
    await far_end.hang_up()
    await ended(shop)
    assert "MachineDetection" not in shop.kinds()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "Call/", {"from": OURS, "to": CALLER}, 400),
        ("POST", "Call/", {"from": OURS, "to": f"{CALLER}<{CALLER}", "answer_url": "https://x.example.com"}, 400),
        ("POST", "Call/", {"from": OURS, "to": OURS, "answer_url": "https://x.example.com"}, 400),
        ("POST", "Call/", {"from": OURS, "to": CALLER, "answer_url": "https://x.example.com", "novelty": 1}, 400),
        ("POST", "Call/", {"from": OURS, "to": CALLER, "answer_url": "https://x.example", "sip_headers": "a b"}, 400),
        ("GET", "Call/unknown/", {}, 404),
        ("DELETE", "Call/unknown/", {}, 404),
        ("POST", "Call/unknown/Stream/", {}, 404),
        ("GET", "Number/14155550199/", {}, 404),
        ("GET", "Number/?limit=21", {}, 400),
        ("POST", "Application/", {}, 400),
        ("GET", "Conference/", {}, 404),
    ],
)
async def test_what_is_not_simulated_is_refused_in_plivos_shape(
    sandbox: PlivoSandbox, method: str, path: str, body: dict[str, Any], status: int
):
    answer = await ask(sandbox, method, path, **body)
    assert (answer.status_code, answer.json().keys()) == (status, {"api_id", "error"})


def test_the_largest_document():
    assert read(b"<Response>" + b" " * 99_000 + b"</Response>") == ()
    with pytest.raises(InvalidXml):
        read(b"<Response>" + b" " * 100_000 + b"</Response>")
