"""Twilio's calls API, asked by Twilio's own SDK, and by somebody who does not know how."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from twilio.base.exceptions import TwilioRestException

from anycarrier import CallStatus, EndReason, MachineDetected, MachineDetection, MediaSession, Policy
from anycarrier.calls import TransferStatus
from anycarrier.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ProviderUnavailable,
    RateLimited,
    StoreUnavailable,
)
from anycarrier.testing.live_server import serve
from anycarrier_twilio_front import TwilioFront
from anycarrier_twilio_front.calls import Detection
from contrib.twilio_front.fronted import ACCOUNT, CALLEE, CALLER, DESK, OTHERS, OURS, TOKEN, Fronted, open_fronted

STAY = "<Response><Pause length='100'/></Response>"


@pytest.fixture(params=["telnyx", "acme", "twilio"])
async def here(request: pytest.FixtureRequest) -> AsyncIterator[Fronted]:
    async with open_fronted(request.param) as opened:
        yield opened


@pytest.fixture
async def one() -> AsyncIterator[Fronted]:
    """What no carrier has a part in is tested on one."""
    async with open_fronted("acme") as opened:
        yield opened


async def test_a_call_created_by_url_asks_the_bot_once_answered_and_is_read_and_hung_up(here: Fronted) -> None:
    here.bot.replies["/out"] = STAY
    client = here.client()
    made = await asyncio.to_thread(
        client.calls.create,
        to=CALLEE,
        from_=OURS,
        url=f"{here.bot.url}/out?case=7",
        status_callback=f"{here.bot.url}/status",
        status_callback_event=["answered", "completed"],
        timeout=20,
    )
    assert made.sid == f"CA{made.sid[2:]}" and len(made.sid) == 34 and made.status in ("queued", "ringing")
    assert (made.to, made._from, made.direction, made.account_sid) == (CALLEE, OURS, "outbound-api", ACCOUNT)
    far_end = await here.far_end(made.sid)
    [asked] = await here.bot.wait_told("/out", CallSid=made.sid)
    assert asked.genuine and asked.params["CallStatus"] == "in-progress"
    assert (asked.params["Direction"], asked.params["To"]) == ("outbound-api", CALLEE)
    read = await asyncio.to_thread(client.calls(made.sid).fetch)
    assert (read.status, read.sid, read.duration) == ("in-progress", made.sid, None)
    assert read.start_time is not None and abs(read.start_time - datetime.now(UTC)) < timedelta(minutes=5)
    ended = await asyncio.to_thread(client.calls(made.sid).update, status="completed")
    assert ended.sid == made.sid
    await far_end.wait_for("ended")
    call = await here.exchange.wait_for(made.sid[2:], CallStatus.ENDED, 30)
    assert call.reason is EndReason.API_STOP
    read = await asyncio.to_thread(client.calls(made.sid).fetch)
    assert read.status == "completed" and read.duration is not None and read.end_time is not None
    told = await here.bot.wait_told("/status", 2)
    assert [one.params["CallStatus"] for one in told] == ["in-progress", "completed"] and all(w.genuine for w in told)


async def test_a_call_created_by_twiml_is_transferred_by_an_update_and_the_callee_stays_on(here: Fronted) -> None:
    client = here.client()
    made = await asyncio.to_thread(client.calls.create, to=CALLEE, from_=OURS, twiml=STAY)
    far_end = await here.far_end(made.sid)
    await here.exchange.wait_for(made.sid[2:], CallStatus.ANSWERED, 30)
    await here.until(lambda: bool(here.exchange.switchboard.sessions))
    await asyncio.to_thread(
        client.calls(made.sid).update, twiml=f"<Response><Dial>{DESK}</Dial></Response>"
    )
    call = await here.exchange.wait_until(made.sid[2:], lambda c: c.transfer is TransferStatus.ANSWERED, 30)
    await here.until(lambda: not here.exchange.switchboard.sessions)
    assert far_end.state != "ended" and far_end.transferred_to == DESK and not call.ended
    with pytest.raises(TwilioRestException) as refused:  # it is with somebody else now
        await asyncio.to_thread(client.calls(made.sid).update, twiml=STAY)
    assert (refused.value.status, refused.value.code) == (400, 21220)


async def test_an_update_interrupts_what_runs_with_the_document_of_another_url(one: Fronted) -> None:
    one.bot.replies["/voice"] = "<Response><Play>/long</Play></Response>"
    one.bot.replies["/long"] = Response(b"\x55" * 80_000, media_type="audio/basic")
    one.bot.replies["/other"] = "<Response><Pause length='1'/></Response>"
    far_end = await one.sandbox.ring(OURS, CALLER)
    await far_end.wait_heard(0.1)
    [known] = one.front.calls
    client = one.client()
    read = await asyncio.to_thread(client.calls(known.sid).fetch)
    assert (read.direction, read._from, read.to) == ("inbound", CALLER, OURS)
    await asyncio.to_thread(client.calls(known.sid).update, url=f"{one.bot.url}/other", method="GET")
    [asked] = await one.bot.wait_told("/other", CallSid=known.sid)
    assert asked.method == "GET" and asked.genuine
    await far_end.wait_for("ended")
    assert far_end.heard_seconds() < 5, "what was sent of ten seconds is not played out"


async def test_calls_are_listed_newest_first_in_pages_and_by_what_they_are(one: Fronted) -> None:
    client = one.client()
    sids = []
    for number in range(5):
        made = await asyncio.to_thread(client.calls.create, to=f"+1212555012{number}", from_=OURS, twiml=STAY)
        sids.insert(0, made.sid)
    await one.exchange.wait_for(sids[0][2:], CallStatus.ANSWERED, 30)
    await asyncio.to_thread(client.calls(sids[1]).update, status="completed")
    await one.exchange.wait_for(sids[1][2:], CallStatus.ENDED, 30)
    listed = await asyncio.to_thread(client.calls.list)
    assert [call.sid for call in listed] == sids
    listed = await asyncio.to_thread(client.calls.list, page_size=2)
    assert [call.sid for call in listed] == sids, "all pages"
    assert [c.sid for c in await asyncio.to_thread(client.calls.list, limit=3)] == sids[:3]
    assert (await ask(one, method="GET", params={"PageSize": "5"})).json()["next_page_uri"] is None
    assert [c.sid for c in await asyncio.to_thread(client.calls.list, to="+12125550122")] == [sids[2]]
    assert [c.sid for c in await asyncio.to_thread(client.calls.list, status="completed")] == [sids[1]]
    today = datetime.now(UTC)
    assert await asyncio.to_thread(client.calls.list, start_time_after=today + timedelta(days=2)) == []
    assert await asyncio.to_thread(client.calls.list, parent_call_sid=sids[0]) == []
    assert len(await asyncio.to_thread(client.calls.list, end_time_before=today + timedelta(days=2))) == 1


async def test_a_call_that_rings_is_canceled_and_one_that_was_answered_is_not(one: Fronted) -> None:
    client = one.client()
    made = await asyncio.to_thread(client.calls.create, to="+15005550102", from_=OURS, twiml=STAY, timeout=600)
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(client.calls(made.sid).update, twiml=STAY)
    assert (refused.value.status, refused.value.code) == (400, 21220), "it only rings"
    await asyncio.to_thread(client.calls(made.sid).update, status="canceled")
    await one.exchange.wait_for(made.sid[2:], CallStatus.ENDED, 30)
    assert (await asyncio.to_thread(client.calls(made.sid).fetch)).status == "canceled"
    with pytest.raises(TwilioRestException) as refused:
        await asyncio.to_thread(client.calls(made.sid).update, status="completed")
    assert (refused.value.status, refused.value.code) == (400, 21220)

    made = await asyncio.to_thread(client.calls.create, to=CALLEE, from_=OURS, twiml=STAY)
    await one.exchange.wait_for(made.sid[2:], CallStatus.ANSWERED, 30)
    await asyncio.to_thread(client.calls(made.sid).update, status="canceled")
    assert (await asyncio.to_thread(client.calls(made.sid).fetch)).status == "in-progress"


async def test_what_is_asked_for_reaches_the_exchange(one: Fronted, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    async def dial(**options: Any) -> None:
        asked.update(options)

    monkeypatch.setattr(one.exchange, "dial", dial)
    create = one.client().calls.create
    made = await asyncio.to_thread(
        create, to=CALLEE, from_=OURS, caller_id=OURS, twiml=STAY, timeout=33, time_limit=90, send_digits="ww12#"
    )
    assert asked == {
        "from_": OURS, "to": CALLEE, "reference": made.sid[2:], "caller_id": OURS, "timeout": 33.0,
        "time_limit": 90.0, "digits": "ww12#",
    }  # fmt: skip
    for word, meant in (("Enable", MachineDetection.DETECT), ("DetectMessageEnd", MachineDetection.WAIT_FOR_BEEP)):
        await asyncio.to_thread(create, to=CALLEE, from_=OURS, twiml=STAY, machine_detection=word, async_amd="true")
        assert asked["machine_detection"] is meant
    asked.clear()
    await asyncio.to_thread(create, to=CALLEE, from_=OURS, twiml=STAY, send_digits="1", machine_detection="Enable")
    assert "machine_detection" not in asked, "Twilio ignores it together with digits"


async def test_of_a_call_that_the_carrier_refuses_the_bot_is_told_once_by_the_answer(one: Fronted) -> None:
    bad = {**GOOD, "To": "+15005550104", "StatusCallback": f"{one.bot.url}/status"}
    assert code(await ask(one, data=bad)) == (400, 21211)
    good = {**GOOD, "StatusCallback": f"{one.bot.url}/status"}
    answer = await ask(one, data={**good, "StatusCallbackEvent": "initiated ringing answered completed"})
    sid = answer.json()["sid"]
    await one.exchange.wait_for(sid[2:], CallStatus.ANSWERED, 30)
    await one.exchange.hang_up(sid[2:])
    told = await one.bot.wait_told("/status", CallStatus="completed")
    assert one.bot.told("/status")[0].params["CallStatus"] == "initiated"
    assert {w.params["CallSid"] for w in one.bot.told("/status")} == {sid} and told[0].params["CallSid"] == sid


MACHINE = "+15005550105"


async def test_a_document_waits_for_the_machine_detection_and_is_told_who_has_picked_up() -> None:
    async with open_fronted("telnyx") as here:
        here.bot.replies["/out"] = STAY
        wanted = {"To": MACHINE, "From": OURS, "Url": f"{here.bot.url}/out", "MachineDetection": "DetectMessageEnd"}
        callback = {"AsyncAmdStatusCallback": f"{here.bot.url}/amd"}
        sid = (await ask(here, data={**wanted, **callback})).json()["sid"]
        [asked] = await here.bot.wait_told("/out", CallSid=sid)
        assert asked.params["AnsweredBy"] == "machine_end_beep"
        assert not here.bot.told("/amd"), "that is for AsyncAmd"
        answer = await ask(here, f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json", "GET")
        assert answer.json()["answered_by"] == "machine_end_beep"


async def test_an_update_while_the_document_waits_for_the_detection_is_run_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_fronted("telnyx") as here:
        here.bot.replies["/out"] = STAY
        wanted = {"To": MACHINE, "From": OURS, "Url": f"{here.bot.url}/out", "MachineDetection": "DetectMessageEnd"}
        sid = (await ask(here, data=wanted)).json()["sid"]
        await here.until(lambda: bool(here.exchange.switchboard.sessions))
        asked: list[str] = []

        async def transfer(call: Any, to: str, **_: Any) -> None:
            asked.append(to)
            raise ConfigurationError("scripted")

        monkeypatch.setattr(here.exchange, "transfer", transfer)
        [known] = here.front.calls
        assert known.detection is not None and not known.detection.known.is_set()
        path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json"
        dial = f"<Response><Dial>{DESK}</Dial></Response>"
        assert (await ask(here, path, data={"Twiml": dial})).status_code == 200
        await here.exchange.wait_for(sid[2:], CallStatus.ENDED, 30)
        assert asked == [DESK] and not here.bot.told("/out")


async def test_with_async_detection_the_document_runs_at_once_and_the_callback_is_told() -> None:
    async with open_fronted("telnyx") as here:
        here.bot.replies["/out"] = STAY
        callback = {"AsyncAmd": "true", "AsyncAmdStatusCallback": f"{here.bot.url}/amd", "MachineDetection": "Enable"}
        wanted = {"To": MACHINE, "From": OURS, "Url": f"{here.bot.url}/out", **callback}
        sid = (await ask(here, data=wanted)).json()["sid"]
        [told] = await here.bot.wait_told("/amd", CallSid=sid)
        assert told.params["AnsweredBy"] == "machine_start" and told.genuine
        [asked] = await here.bot.wait_told("/out", CallSid=sid)
        assert "AnsweredBy" not in asked.params and len(here.bot.told("/amd")) == 1


def test_who_has_picked_up_is_told_once_and_of_a_machine_at_the_time_that_was_asked_for() -> None:
    starts = MachineDetected(answered_by="machine")
    ends = MachineDetected(answered_by="machine", greeting_ended=True, beep=True)
    detection = Detection()
    assert detection.found(starts) and not detection.found(ends) and detection.answered_by == "machine_start"
    detection = Detection(to_the_end=True)
    assert not detection.found(starts) and detection.found(ends) and detection.answered_by == "machine_end_beep"
    assert not detection.found(ends) and detection.known.is_set()


# --- wrong requests ---------------------------------------------------------------------------------------------------

GOOD = {"To": CALLEE, "From": OURS, "Twiml": STAY}
WRONG: list[tuple[dict[str, str], int, int]] = [
    ({"To": ""}, 400, 21201),
    ({"From": ""}, 400, 21213),
    ({"To": "hello"}, 400, 21211),
    ({"To": "+1"}, 400, 21211),
    ({"To": "client:anna"}, 400, 21211),
    ({"From": "hello"}, 400, 21212),
    ({"From": "+12025550143"}, 400, 21210),
    ({"From": OTHERS}, 400, 21210),
    ({"CallerId": OTHERS}, 400, 21210),
    ({"To": "+442079460000"}, 400, 21215),
    ({"To": "+19005550100"}, 400, 21215),
    ({"To": "+911"}, 400, 21211),
    ({"Twiml": ""}, 400, 21205),
    ({"Twiml": "", "Url": "ftp://bot.example.com/x"}, 400, 21205),
    ({"Twiml": "", "Url": "ws://{host}/x"}, 400, 21205),
    ({"Twiml": "", "Url": "http://169.254.169.254/latest"}, 400, 21205),
    ({"Twiml": "<Response>"}, 400, 12100),
    ({"Twiml": "<Response><Enqueue>x</Enqueue></Response>"}, 400, 12200),
    ({"Twiml": f"<Response>{' ' * 4000}</Response>"}, 400, 20001),
    ({"StatusCallback": "https://elsewhere.example.com/x"}, 400, 21205),
    ({"StatusCallback": "{bot}/status", "StatusCallbackEvent": "answered hello"}, 400, 21626),
    ({"FallbackUrl": "nonsense"}, 400, 21205),
    ({"ApplicationSid": "AP0123"}, 400, 21218),
    ({"Record": "true"}, 400, 20001),
    ({"Timeout": "0"}, 400, 20001),
    ({"Timeout": "soon"}, 400, 20001),
    ({"TimeLimit": "100000"}, 400, 20001),
    ({"SendDigits": "call me"}, 400, 20001),
    ({"MachineDetection": "Maybe"}, 400, 20001),
    ({"Twiml": "", "Url": "{bot}/x", "Method": "PUT"}, 400, 20001),
]


def login(account: str = ACCOUNT, token: str = TOKEN) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(f'{account}:{token}'.encode()).decode()}"}


async def ask(here: Fronted, path: str = "", method: str = "POST", **request: Any) -> httpx.Response:
    path = path or f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(method, here.url + path, **{"headers": login(), **request})


def code(answer: httpx.Response) -> tuple[int, int]:
    body = answer.json()
    assert body["status"] == answer.status_code and body["message"]
    assert body["more_info"] == f"https://www.twilio.com/docs/errors/{body['code']}"
    return answer.status_code, body["code"]


async def test_a_wrong_request_gets_twilios_code_and_nobody_is_rung(one: Fronted) -> None:
    for wrong, status, expected in WRONG:
        places = {"bot": one.bot.url, "host": one.bot.url.removeprefix("http://")}
        form = {name: value.format(**places) for name, value in {**GOOD, **wrong}.items()}
        answer = await ask(one, data=form)
        assert code(answer) == (status, expected), (wrong, answer.text)
        for number in (form["To"], form["From"], form.get("CallerId", "")):
            assert len(number) < 7 or number[0] != "+" or number[1:] not in answer.text, "numbers are masked"
    assert one.front.calls == [] and one.sandbox.far_ends == {}
    assert await one.exchange.calls_in_progress() == []


async def test_only_the_fronts_own_login_is_let_in_and_it_is_told_nothing_of_others(one: Fronted) -> None:
    for headers in (
        {}, login(token="wrong"), login(account="AC" + "1" * 32), {"authorization": f"Bearer {TOKEN}"},
        {"authorization": "Basic ???"}, login(token=""), login(token="é"),
    ):  # fmt: skip
        answer = await ask(one, data=GOOD, headers=headers)
        assert code(answer) == (401, 20003)
    accounts = "/2010-04-01/Accounts"
    for path in (
        f"{accounts}/AC{'1' * 32}/Calls.json", f"{accounts}/{ACCOUNT}/Calls/CA{'0' * 32}.json",
        f"{accounts}/{ACCOUNT}/Calls/x.json", f"{accounts}/{ACCOUNT}/Messages.json", f"{accounts}.json",
    ):  # fmt: skip
        assert code(await ask(one, path, "GET")) == (404, 20404)
    assert code(await ask(one, method="DELETE")) == (405, 20004)
    assert code(await ask(one, json=GOOD)) == (415, 20415)
    form = {**login(), "content-type": "application/x-www-form-urlencoded"}
    for body in (b"To=\xff", "&".join(f"To={n}" for n in range(300)).encode()):
        assert code(await ask(one, content=body, headers=form)) == (400, 20001)
    assert code(await ask(one, content=b"a" * 100_000)) == (413, 20413)
    assert code(await ask(one, method="GET", params={"PageSize": "0"})) == (400, 20007)
    assert code(await ask(one, method="GET", params={"PageSize": "x"})) == (400, 20001)


async def test_an_api_key_logs_in_like_the_account() -> None:
    key, secret = f"SK{'0e' * 16}", "the key's secret"
    async with open_fronted("acme", api_keys={key: secret}) as one:
        assert (await ask(one, method="GET", headers=login(key, secret))).status_code == 200
        for wrong in (login(key, TOKEN), login(ACCOUNT, secret), login(key, "")):
            assert code(await ask(one, method="GET", headers=wrong)) == (401, 20003)


async def test_an_empty_password_is_never_let_in_whatever_the_front_holds(one: Fronted) -> None:
    one.front.auth_token = ""
    one.front.api_keys[""] = ""
    for headers in (login(token=""), login("", ""), {}):
        assert code(await ask(one, method="GET", headers=headers)) == (401, 20003)


async def test_a_call_of_somebody_elses_line_does_not_exist_for_the_bot(one: Fronted) -> None:
    async def stay(session: Any) -> None:
        async for _ in session:
            pass

    one.exchange.switchboard.agents = {one.front.agent_id: one.front, "others": stay}
    far_end = await one.sandbox.ring(OTHERS, CALLER)
    await one.until(lambda: bool(one.exchange.switchboard.sessions))
    [reference] = one.exchange.switchboard.sessions
    client = one.client()
    for change in ({}, {"status": "completed"}):
        resource = client.calls(f"CA{reference}")
        with pytest.raises(TwilioRestException) as refused:
            await asyncio.to_thread(resource.update if change else resource.fetch, **change)
        assert (refused.value.status, refused.value.code) == (404, 20404)
    assert await asyncio.to_thread(client.calls.list) == [] and far_end.state != "ended"
    await far_end.hang_up()
    await one.until(lambda: not one.exchange.switchboard.sessions)


async def test_an_update_that_makes_no_sense_changes_nothing(one: Fronted) -> None:
    made = await asyncio.to_thread(one.client().calls.create, to=CALLEE, from_=OURS, twiml=STAY)
    await one.exchange.wait_for(made.sid[2:], CallStatus.ANSWERED, 30)
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{made.sid}.json"
    for form, expected in (
        ({"Status": "busy"}, 20001), ({"Twiml": "<Response>"}, 12100), ({"Url": "http://10.0.0.1/"}, 21205),
        ({"StatusCallback": "http://10.0.0.1/"}, 21205), ({"TimeLimit": "60"}, 20001),
    ):  # fmt: skip
        assert code(await ask(one, path, data=form)) == (400, expected)
    assert (await ask(one, path, "GET")).json()["status"] == "in-progress"
    [known] = one.front.calls
    talking, known.call = known.call, known.call.model_copy(update={"transfer": TransferStatus.REQUESTED})
    assert code(await ask(one, path, data={"Twiml": STAY})) == (400, 21220), "somebody else is rung for it"
    known.call = talking
    board = one.exchange.switchboard
    await one.until(lambda: bool(board.sessions))
    for sessions in ({}, {made.sid[2:]: SimpleNamespace(ended=True)}):  # in another process, or not any more
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(board, "sessions", sessions)
            assert code(await ask(one, path, data={"Twiml": STAY})) == (400, 21220)
    callback = {"StatusCallback": f"{one.bot.url}/status", "Status": "completed"}
    assert (await ask(one, path, data=callback)).status_code == 200
    assert (await one.bot.wait_told("/status"))[0].params["CallStatus"] == "completed"


@pytest.mark.parametrize(
    ("problem", "answered"),
    [
        (RateLimited("acme", "dial", retry_after=7), (429, 20429)),
        (AuthenticationFailed("acme", "dial"), (500, 20500)),
        (ProviderUnavailable("acme", "dial", sent=False), (503, 20503)),
        (StoreUnavailable("down"), (503, 20503)),
        (ConfigurationError("there is no way to +14155550123"), (400, 20001)),
    ],
)
async def test_what_a_carrier_refuses_is_said_in_twilios_words(
    one: Fronted, monkeypatch: pytest.MonkeyPatch, problem: Exception, answered: tuple[int, int]
) -> None:
    async def dial(**options: Any) -> None:
        raise problem

    monkeypatch.setattr(one.exchange, "dial", dial)
    answer = await ask(one, data=GOOD)
    assert code(answer) == answered and one.front.calls == [] and "5550123" not in answer.text
    assert answer.headers.get("retry-after") == ("7" if answered[0] == 429 else None)


@pytest.mark.parametrize("sent", [True, False])
async def test_a_call_whose_dialling_broke_off_is_the_bots_if_it_may_ring_and_forgotten_if_not(
    one: Fronted, monkeypatch: pytest.MonkeyPatch, sent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    provider = await one.exchange.switchboard.provider("main")

    async def breaks(_: object) -> None:
        raise RuntimeError("a fault of a plugin's, with +14155550123 in it")

    if sent:
        monkeypatch.setattr(provider, "dial", breaks)
    else:
        monkeypatch.setattr(one.exchange, "dial", lambda **_: breaks(None))
    events = {"StatusCallback": f"{one.bot.url}/status", "StatusCallbackEvent": "initiated answered completed"}
    answer = await ask(one, data={**GOOD, **events})
    assert code(answer) == ((503, 20503) if sent else (500, 20500))
    assert "RuntimeError" in caplog.text and "5550123" not in answer.text
    assert len(one.front.calls) == sent
    if sent:
        [known] = one.front.calls
        await one.exchange.switchboard.end_locally(known.call, EndReason.UNREACHABLE)  # later, by the watch
        [told] = await one.bot.wait_told("/status")
        assert (told.params["CallSid"], told.params["CallStatus"]) == (known.sid, "failed"), "nothing is held back"


async def test_a_call_of_which_nothing_can_be_read_may_ring(one: Fronted, monkeypatch: pytest.MonkeyPatch) -> None:
    async def down(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(one.exchange, "dial", down)
    monkeypatch.setattr(one.exchange.switchboard.calls, "get", down)
    assert code(await ask(one, data=GOOD)) == (503, 20503) and len(one.front.calls) == 1


async def test_a_dial_that_is_cancelled_holds_nothing_back(one: Fronted, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(**_: Any) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(one.exchange, "dial", cancelled)
    assert (await ask(one, data=GOOD)).status_code == 500
    assert [known.unplaced for known in one.front.calls] == [None]


async def test_an_update_keeps_the_calls_fallback_unless_it_has_its_own(one: Fronted) -> None:
    one.bot.replies.update(dict.fromkeys(("/out", "/first", "/second"), STAY))
    one.bot.replies["/broken"] = Response("no", status_code=500)
    wanted = {"To": CALLEE, "From": OURS, "Url": f"{one.bot.url}/out", "FallbackUrl": f"{one.bot.url}/first"}
    sid = (await ask(one, data=wanted)).json()["sid"]
    await one.bot.wait_told("/out", CallSid=sid)
    path = f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{sid}.json"
    assert (await ask(one, path, data={"Url": f"{one.bot.url}/broken"})).status_code == 200
    [asked] = await one.bot.wait_told("/first", CallSid=sid)
    assert asked.params["ErrorUrl"] == f"{one.bot.url}/broken" and asked.params["ErrorCode"] == "11200"
    again = {"Url": f"{one.bot.url}/broken", "FallbackUrl": f"{one.bot.url}/second", "FallbackMethod": "GET"}
    assert (await ask(one, path, data=again)).status_code == 200
    [asked] = await one.bot.wait_told("/second", CallSid=sid)
    assert asked.method == "GET" and asked.genuine and len(one.bot.told("/first")) == 1


async def test_a_registry_that_cannot_be_reached_is_said_in_twilios_words(
    one: Fronted, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(_: str) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(one.exchange.switchboard.registry, "lookup", down)
    assert code(await ask(one, data=GOOD)) == (503, 20503)


async def test_limits_of_the_exchange_hold_for_bots() -> None:
    async with open_fronted("acme", policy=Policy(allow=["US"], max_concurrent=1)) as one:
        assert (await ask(one, data=GOOD)).status_code == 201
        assert code(await ask(one, data=GOOD)) == (429, 20429)


async def test_a_login_that_is_no_ascii_is_a_wrong_one(one: Fronted) -> None:
    answer = await ask(one, data=GOOD, headers={"authorization": b"Basic \xe9\xe9"})  # type: ignore[dict-item]
    assert code(answer) == (401, 20003)


async def test_each_fronts_bot_logs_in_though_one_app_serves_them_all(one: Fronted) -> None:
    account, token = f"AC{'2e' * 16}", "the second bot's"
    second = TwilioFront(
        one.exchange, account_sid=account, auth_token=token, voice_url=f"{one.bot.url}/voice", agent_id="others"
    )
    path = "/2010-04-01/Accounts/{}/Calls.json"
    async with serve(Starlette(routes=[*one.front.routes(), *second.routes()])) as url:
        async with httpx.AsyncClient(trust_env=False, base_url=url) as http:
            first, other = login(), login(account, token)
            for sid, own, wrong in ((ACCOUNT, first, other), (account, other, first)):
                assert (await http.get(path.format(sid), headers=own)).status_code == 200
                assert code(await http.get(path.format(sid), headers=wrong)) == (401, 20003)
                assert code(await http.get(f"/2010-04-01/Accounts/{sid}/Messages.json", headers=own)) == (404, 20404)
            assert code(await http.get(path.format("AC0"), headers=login())) == (404, 20404)
            assert code(await http.get(path.format("AC0"), headers=login("AC0", "x"))) == (401, 20003)
    await second.aclose()


async def test_of_several_updates_the_last_one_runs(one: Fronted) -> None:
    one.bot.replies["/voice"] = STAY
    for path in ("/first", "/last"):
        one.bot.replies[path] = STAY
    await one.sandbox.ring(OURS, CALLER)
    await one.until(lambda: bool(one.exchange.switchboard.sessions))
    [known] = one.front.calls
    held = asyncio.Event()
    clear = MediaSession.clear

    async def slow(session: MediaSession) -> object:
        await held.wait()
        return await clear(session)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MediaSession, "clear", slow)
        for path in ("/first", "/last"):
            updated = await ask(
                one, f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{known.sid}.json", data={"Url": f"{one.bot.url}{path}"}
            )
            assert updated.status_code == 200
            await asyncio.sleep(0.1)
        held.set()
        await one.bot.wait_told("/last")
