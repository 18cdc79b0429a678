"""Plivo's own SDK drives the sandbox, with nothing of the adapter between: what it understands is Plivo's."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import plivo
import pytest
from plivo.exceptions import AuthenticationError, ForbiddenError, PlivoRestError, ResourceNotFoundError
from plivo.rest import client as sdk

from anycarrier_plivo.sandbox import PlivoSandbox
from anycarrier_plivo.sandbox.app import AUTH_ID, AUTH_TOKEN
from providers.plivo.platform import Customer, customer

OURS, THEIRS = "14155550100", "+12125550123"


class Sdk:
    """The blocking client, in a thread."""

    def __init__(self, token: str = AUTH_TOKEN) -> None:
        self.client = plivo.RestClient(AUTH_ID, token, timeout=20)

    async def __call__(self, ask: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(ask, self.client)


@pytest.fixture
async def asks(sandbox: PlivoSandbox, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    voice = "API_VOICE_BASE_URI"
    for name in ("PLIVO_API_BASE_URI", voice, f"{voice}_FALLBACK_1", f"{voice}_FALLBACK_2"):
        monkeypatch.setattr(sdk, name, f"{sandbox.base_url}/v1/Account")
    return Sdk()


@pytest.fixture
async def shop(sandbox: PlivoSandbox) -> AsyncIterator[Customer]:
    async with customer(AUTH_TOKEN) as opened:
        yield opened


async def test_the_account_and_its_logins(asks: Sdk, sandbox: PlivoSandbox):
    account = await asks(lambda c: c.account.get())
    assert (account.auth_id, account.name) == (AUTH_ID, "Sandbox") and float(account.cash_credits) > 0
    with pytest.raises(AuthenticationError):
        await Sdk("wrong-token")(lambda c: c.account.get())
    with pytest.raises(ForbiddenError):
        await Sdk("suspended-token")(lambda c: c.account.get())
    for token in ("broke-token", "throttled-token"):
        with pytest.raises(PlivoRestError):
            await Sdk(token)(lambda c: c.account.get())
    assert [request.status for request in sandbox.requests] == [200, 401, 403, 402, 429]


async def test_numbers_are_searched_bought_pointed_and_given_back(asks: Sdk):
    found = await asks(lambda c: c.numbers.search("US", type="local", pattern="415", limit=3, services="voice"))
    assert found.meta.limit == 3 and found.meta.next and len(found.objects) == 3
    number = found.objects[0].number
    assert number.startswith("1415") and found.objects[0].restriction is None
    bought = await asks(lambda c: c.numbers.buy(number))
    assert bought.status == "fulfilled" and bought.numbers[0]["number"] == number
    made = await asks(lambda c: c.applications.create("desk", answer_url="https://x.example.com/a"))
    assert made.app_id.isdigit() and len(made.app_id) == 20
    assert (await asks(lambda c: c.numbers.update(number, app_id=made.app_id))).message == "changed"
    held = await asks(lambda c: c.numbers.get(number))
    assert held.application.endswith(f"/Application/{made.app_id}/") and held.voice_enabled
    await asks(lambda c: c.applications.update(made.app_id, hangup_url="https://x.example.com/h"))
    application = await asks(lambda c: c.applications.get(made.app_id))
    assert (application.answer_url, application.hangup_url) == ("https://x.example.com/a", "https://x.example.com/h")
    assert [one.app_name for one in (await asks(lambda c: c.applications.list(limit=20))).objects] == ["desk"]
    assert [one.number for one in (await asks(lambda c: c.numbers.list(limit=20))).objects] == [number]
    await asks(lambda c: c.numbers.delete(number))
    with pytest.raises(ResourceNotFoundError):
        await asks(lambda c: c.numbers.get(number))
    await asks(lambda c: c.applications.delete(made.app_id))
    with pytest.raises(ResourceNotFoundError):
        await asks(lambda c: c.applications.get(made.app_id))


async def test_a_call_from_dial_to_record(asks: Sdk, sandbox: PlivoSandbox, shop: Customer):
    answer = shop.answer("answer", '<Record recordSession="true" redirect="false" maxLength="60" '
                         f'callbackUrl="{shop.url}/recorded" callbackMethod="POST"/>{shop.stream}')  # fmt: skip
    urls = {"ring_url": f"{shop.url}/ring", "hangup_url": f"{shop.url}/over"}
    fired = await asks(lambda c: c.calls.create(OURS, THEIRS, answer, "POST", sip_headers="Case=7", **urls))
    assert (fired.message, len(fired.request_uuid)) == ("call fired", 36)
    call_id = fired.request_uuid
    far_end = await sandbox.far_end(call_id)
    await far_end.wait_for("streaming")
    ring = await shop.wait("Ring")
    assert (ring["From"], ring["To"], ring["CallStatus"]) == (f"+{OURS}", THEIRS[1:], "ringing")
    begun = await shop.wait("StartApp")
    assert (begun["CallStatus"], begun["Direction"], begun["From"]) == ("in-progress", "outbound", OURS)
    assert begun["RequestUUID"] == begun["ALegUUID"] == call_id and begun["X-PH-Case"] == "7"
    live = await asks(lambda c: c.live_calls.get(call_id))
    assert (live.call_status, live.direction, live.to) == ("in-progress", "outbound", THEIRS[1:])
    assert call_id in (await asks(lambda c: c.live_calls.list_ids())).calls
    started = await asks(lambda c: c.calls.start_recording(call_id, time_limit=60, file_format="wav"))
    assert started.recording_id and started.url.endswith(".wav")
    assert (await asks(lambda c: c.calls.send_digits(call_id, "12#"))).message == "digits sent"
    assert far_end.digits == "12#"
    await far_end.say(b"\x20" * 1600)
    await asks(lambda c: c.calls.hangup(call_id))
    over = await shop.wait("Hangup")
    assert (over["CallStatus"], over["HangupCauseCode"], over["HangupSource"]) == ("completed", "4000", "API Request")
    assert over["AnswerTime"] and over["StartTime"][:4].isdigit() and float(over["TotalCost"]) > 0
    with pytest.raises(ResourceNotFoundError):
        await asks(lambda c: c.calls.hangup(call_id))
    ended = await asks(lambda c: c.calls.get(call_id))
    assert (ended.call_state, ended.hangup_cause_code, ended.call_direction) == ("ANSWER", 4000, "outbound")
    kept = await asks(lambda c: c.recordings.get(started.recording_id))
    assert kept.call_uuid == call_id and float(kept.recording_duration_ms) > 0
    listed = await asks(lambda c: c.recordings.list(call_uuid=call_id))
    assert {one.recording_id for one in listed.objects} > {started.recording_id}, "that of the XML is one too"
    async with httpx.AsyncClient() as http:
        with wave.open(io.BytesIO((await http.get(kept.recording_url)).content)) as sound:
            assert (sound.getframerate(), sound.getnchannels()) == (8000, 2)


async def test_a_transfer_runs_once_the_stream_has_ended(asks: Sdk, sandbox: PlivoSandbox, shop: Customer):
    answer = shop.answer("answer", shop.stream)
    told = f'action="{shop.url}/after" callbackUrl="{shop.url}/steps"'
    other = shop.answer("other", f"<Dial {told}><Number>+13105550130</Number></Dial>")
    fired = await asks(lambda c: c.calls.create(OURS, THEIRS, answer, "POST", hangup_url=f"{shop.url}/over"))
    far_end = await sandbox.far_end(fired.request_uuid)
    await far_end.wait_for("streaming")
    moved = await asks(lambda c: c.calls.transfer(fired.request_uuid, legs="aleg", aleg_url=other, aleg_method="POST"))
    assert moved.message == "call transfered"
    assert shop.kinds("other") == [] and far_end.streaming, "the stream goes on first"
    await asks(lambda c: c.calls.delete_all_streams(fired.request_uuid))
    step = await shop.wait("DialAnswer")
    assert (step["DialAction"], step["DialBLegTo"], step["CallUUID"]) == ("answer", "13105550130", fired.request_uuid)
    assert far_end.transferred_to == "+13105550130" and far_end.state == "answered"
    await asks(lambda c: c.calls.hangup(fired.request_uuid))


@pytest.mark.parametrize(
    ("to", "error"),
    [("+15005550104", PlivoRestError), ("+15005550110", PlivoRestError), ("+15005550107", PlivoRestError),
     ("4155550123", PlivoRestError)],
)  # fmt: skip
async def test_a_refused_dial_is_an_error_of_the_sdk(asks: Sdk, shop: Customer, to: str, error: type[Exception]):
    with pytest.raises(error):
        await asks(lambda c: c.calls.create(OURS, to, f"{shop.url}/answer", "POST"))


async def test_a_dial_that_waits_is_cancelled_by_its_request(asks: Sdk, sandbox: PlivoSandbox, shop: Customer):
    sandbox.ring_seconds = 30
    urls = {"hangup_url": f"{shop.url}/over"}
    fired = await asks(lambda c: c.calls.create(OURS, THEIRS, f"{shop.url}/answer", "POST", **urls))
    with pytest.raises(ResourceNotFoundError):
        await asks(lambda c: c.calls.hangup(fired.request_uuid))
    await asks(lambda c: c.calls.cancel(fired.request_uuid))
    assert (await shop.wait("Hangup"))["CallStatus"] == "cancel"


async def test_why_the_adapter_does_without_the_sdk(asks: Sdk, sandbox: PlivoSandbox, shop: Customer):
    """A dial that was answered 500 may have rung: the SDK sends it three times."""
    with pytest.raises(PlivoRestError):
        await asks(lambda c: c.calls.create(OURS, "+15005550108", f"{shop.url}/answer", "POST"))
    assert [request.status for request in sandbox.requests] == [500, 500, 500]
