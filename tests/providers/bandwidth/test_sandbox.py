"""The sandbox by its own: Bandwidth's client drives it, Bandwidth's documents judge it, and it plays BXML strictly."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from anycarrier.testing.live_server import listening, serve, url_of
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from anycarrier_bandwidth import BandwidthProvider
from anycarrier_bandwidth.sandbox import BandwidthSandbox
from anycarrier_bandwidth.sandbox.bxml import BxmlError, parse
from openapi import Spec

NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}
LOGIN = {"username": "hook", "password": "hook-password"}


class Platform:
    """Somebody's application: it answers with what ``replies`` has for an event, and keeps all that it was told."""

    def __init__(self) -> None:
        self.replies: dict[str, str] = {}
        self.told: list[dict[str, Any]] = []
        self.logins: list[str | None] = []
        self.status = 200
        self.news = asyncio.Event()

    async def hook(self, request: Request) -> Response:
        told = json.loads(await request.body()) if request.method == "POST" else dict(request.query_params)
        self.told.append(told)
        self.logins.append(request.headers.get("authorization"))
        self.news.set()
        reply = self.replies.get(told["eventType"], "")
        return Response(reply, self.status if reply else 204, media_type="application/xml")

    async def until(self, kind: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while not (found := [told for told in self.told if told["eventType"] == kind]):
                self.news.clear()
                await self.news.wait()
        return found[-1]


@pytest.fixture
async def platform() -> Any:
    made, sock = Platform(), listening()
    app = Starlette(routes=[Route("/hook", made.hook, methods=["GET", "POST"])])
    async with serve(app, sock):
        made.url = f"{url_of(sock)}/hook"  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def client(sandbox: BandwidthSandbox) -> Any:
    """Bandwidth's own client, which blocks: its calls run in threads."""
    bandwidth = pytest.importorskip("bandwidth")
    configuration = bandwidth.Configuration(
        client_id="sdk", client_secret="sdk-secret", access_token_url=f"{sandbox.base_url}/api/v1/oauth2/token",
        host=f"{sandbox.base_url}/api/v2", retries=False,
    )  # fmt: skip
    return bandwidth.ApiClient(configuration)


@pytest.fixture  # its operations name their host themselves
def api(sandbox: BandwidthSandbox, client: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    from bandwidth import rest
    from bandwidth.api.calls_api import CallsApi
    from bandwidth.api.recordings_api import RecordingsApi

    real = rest.RESTClientObject.request

    def here(self: Any, method: str, url: str, *arguments: Any, **more: Any) -> Any:
        return real(self, method, url.replace("https://voice.bandwidth.com", sandbox.base_url), *arguments, **more)

    monkeypatch.setattr(rest.RESTClientObject, "request", here)
    return CallsApi(client), RecordingsApi(client)


async def test_bandwidths_own_client_dials_changes_and_ends_a_call(
    sandbox: BandwidthSandbox, platform: Any, api: Any, kit: Any
) -> None:
    from bandwidth.models import CallStateEnum, CreateCall, UpdateCall, UpdateCallRecording
    from bandwidth.models.bxml import Pause, PhoneNumber, SendDtmf, StartGather, StartRecording, Transfer
    from bandwidth.models.bxml import Response as Bxml

    calls, recordings = api
    account = sandbox.account.id
    wait = '<Response><StartGather dtmfUrl="/hook"/><Pause duration="600"/></Response>'
    platform.replies = {"answer": wait, "transferComplete": "<Response><Hangup/></Response>"}
    asked = CreateCall(
        to=kit.THEIRS, var_from=kit.OURS, application_id=next(iter(sandbox.account.applications)),
        answer_url=platform.url, disconnect_url=platform.url, **LOGIN,
    )  # fmt: skip
    made = await asyncio.to_thread(calls.create_call, account, asked)
    assert made.password == LOGIN["password"], "the carrier repeats it"
    answered = await platform.until("answer")
    assert (answered["callId"], answered["direction"]) == (made.call_id, "outbound")
    assert platform.logins[-1] == httpx.BasicAuth("hook", "hook-password")._auth_header
    far_end = await sandbox.far_end(made.call_id)
    state = await asyncio.to_thread(calls.get_call_state, account, made.call_id)
    assert (state.state, state.direction.value) == ("answered", "outbound")
    await far_end.press("7")
    assert (await platform.until("dtmf"))["digit"] == "7"
    verbs = [StartRecording(recording_available_url=platform.url), StartGather(dtmf_url="/hook"), Pause(600)]
    await asyncio.to_thread(calls.update_call_bxml, account, made.call_id, Bxml(verbs).to_bxml())
    while sandbox.account.calls[made.call_id].recording is None:
        await asyncio.sleep(0.01)
    for word in ("paused", "recording"):
        change = UpdateCallRecording(state=word)
        await asyncio.to_thread(recordings.update_call_recording_state, account, made.call_id, change)
    keys = Bxml([SendDtmf("12#"), Transfer([PhoneNumber("+13105550130")], transfer_complete_url=platform.url)])
    await asyncio.to_thread(calls.update_call_bxml, account, made.call_id, keys.to_bxml())
    while far_end.transferred_to is None:
        await asyncio.sleep(0.01)
    assert far_end.digits == "12#"
    await asyncio.to_thread(calls.update_call, account, made.call_id, UpdateCall(state=CallStateEnum.COMPLETED))
    assert (await platform.until("disconnect"))["cause"] == "hangup"
    told = await platform.until("recordingAvailable")
    [kept] = await asyncio.to_thread(recordings.list_call_recordings, account, made.call_id)
    assert (kept.recording_id, kept.status) == (told["recordingId"], "complete")
    sound = await asyncio.to_thread(recordings.download_call_recording, account, made.call_id, kept.recording_id)
    assert bytes(sound)[:4] == b"RIFF"
    listed = await asyncio.to_thread(calls.list_calls, account)
    assert made.call_id in {call.call_id for call in listed}


async def test_bandwidths_own_client_is_refused_in_its_own_words(sandbox: BandwidthSandbox, api: Any, kit: Any) -> None:
    from bandwidth import exceptions
    from bandwidth.models import CallStateEnum, CreateCall, UpdateCall

    calls, _ = api
    fields = {"var_from": kit.OURS, "answer_url": "https://x.example/hook", "application_id": "no-such"}
    expected = {
        NUMBER[Outcome.INVALID_NUMBER]: exceptions.BadRequestException,
        NUMBER[Outcome.FORBIDDEN]: exceptions.ForbiddenException,
        NUMBER[Outcome.SERVER_ERROR]: exceptions.ServiceException,
        kit.THEIRS: exceptions.BadRequestException,
    }
    for to, kind in expected.items():
        with pytest.raises(kind):
            await asyncio.to_thread(calls.create_call, sandbox.account.id, CreateCall(to=to, **fields))
    with pytest.raises(exceptions.NotFoundException):
        await asyncio.to_thread(calls.get_call_state, sandbox.account.id, "c-none")
    completed = UpdateCall(state=CallStateEnum.COMPLETED)
    with pytest.raises(exceptions.NotFoundException):
        await asyncio.to_thread(calls.update_call, sandbox.account.id, "c-none", completed)


async def test_requests_and_answers_are_as_bandwidths_documents_say(
    sandbox: BandwidthSandbox, kit: Any, platform: Any
) -> None:
    """Voice to the letter. Numbers by path and query: their bodies are XML, which the document describes too freely."""
    voice, numbers = Spec.load("bandwidth_voice_v2.trimmed.json"), Spec.load("bandwidth_numbers.trimmed.json")
    numbers.prefix = ""
    numbers.paths = [(numbers._pattern(template), template) for _, template in numbers.paths]
    problems: list[str] = []
    newer = {"status", "fullNumber"}  # of /tns, as Bandwidth's own client of 2026 asks

    async def check(response: httpx.Response) -> None:
        request, path = response.request, response.request.url.path.removeprefix("/api/v2")
        if "/calls" in path:
            await response.aread()
            there = httpx.Request(request.method, f"https://x{path}", headers=request.headers, content=request.content)
            if not path.endswith("/bxml"):
                problems.extend(voice.request_problems(there))
            xml = "json" in response.headers.get("content-type", "")
            body = json.loads(response.content) if response.content and xml else None
            if not path.endswith("/media"):
                problems.extend(voice.response_problems(request.method, path, response.status_code, body))
        elif path.startswith(("/accounts", "/tns")) and "serviceActivation" not in path:
            found = numbers.find(request.method, path)
            if found is None:
                problems.append(f"no operation {request.method} {path}")
                return
            known = {p["name"] for _, p in numbers._parameters(["paths", found[0], request.method.lower()])}
            problems.extend(f"{path}: {name}" for name in request.url.params if name not in known | newer)

    async with httpx.AsyncClient(trust_env=False, event_hooks={"response": [check]}) as http:
        provider = BandwidthProvider(sandbox.credential(), http)  # type: ignore[arg-type]
        provider.order_poll = 0.02  # type: ignore[misc]
        from anycarrier import DialRequest, MachineDetection, NumberQuery, StreamTarget

        [offer] = await provider.search_numbers(NumberQuery(area_code="212", limit=1))
        await provider.buy_number(offer.number)
        await provider.configure_number(offer.number, webhook_url=platform.url)
        await provider.release_number(offer.number)
        platform.replies = {"answer": '<Response><Pause duration="600"/></Response>'}
        call = await provider.dial(
            DialRequest(from_=kit.OURS, to=kit.THEIRS, stream=StreamTarget(url="wss://x/media"), reference="0" * 32,
                        status_url=platform.url, machine_detection=MachineDetection.DETECT)
        )  # fmt: skip
        await platform.until("answer")
        await provider.fetch_call(call.id)
        await provider.start_recording(call.id, status_url=platform.url)
        await provider.send_digits(call.id, "1")
        await provider.hang_up(call.id)
        await provider.hang_up(call.id)
        told = await platform.until("recordingAvailable")
        await provider.fetch_recording(f"{call.id}:{told['recordingId']}")
    assert problems == []
    assert ("POST", "/accounts/{accountId}/calls") in voice.seen
    schemas = voice.document["components"]["schemas"]
    for event in platform.told:
        name = f"{event['eventType']}Callback"
        if name in schemas:
            known = set(schemas[name]["properties"])
            extra = set(event) - known - {"parentCallId", "recordingName"}
            assert not extra, f"{name} has {extra}"
            assert voice._problems(["components", "schemas", name], event, name) == []


async def test_a_document_that_cannot_be_had_or_read_ends_the_call_with_its_own_word(
    sandbox: BandwidthSandbox, platform: Any, provider: BandwidthProvider, kit: Any
) -> None:
    await provider.configure_number(kit.OURS, webhook_url=platform.url)
    for status, reply, cause in (
        (500, "<Response/>", "callback-error"),
        (200, "<Response>", "invalid-bxml"),
        (200, "<Response><Gather/></Response>", "invalid-bxml"),
        (200, "<Response/>", "hangup"),
    ):
        platform.status, platform.replies = status, {"initiate": reply}
        far_end = await sandbox.ring(kit.OURS, kit.THEIRS)
        await far_end.wait_for("ended")
        assert far_end.hangup_cause == cause
        assert "answered" not in [what for _, what in far_end.log]


async def test_a_stream_that_is_the_last_verb_ends_the_call_at_once(
    sandbox: BandwidthSandbox, platform: Any, provider: BandwidthProvider, kit: Any
) -> None:
    """The first thing that bites everybody: the verb does not wait."""
    await provider.configure_number(kit.OURS, webhook_url=platform.url)
    platform.replies = {"initiate": '<Response><StartStream destination="wss://127.0.0.1:9/x"/></Response>'}
    far_end = await sandbox.ring(kit.OURS, kit.THEIRS)
    await far_end.wait_for("ended")
    assert (far_end.hangup_cause, far_end.state) == ("hangup", "ended")


@pytest.mark.parametrize(
    "document",
    [
        b"<Other/>",
        b"<Response><StartStream/></Response>",
        b'<Response><StartStream destination="x" mode="both-ways"/></Response>',
        b'<Response><StartStream destination="x" colour="red"/></Response>',
        b'<Response><StartGather dtmfUrl="x" username="half"/></Response>',
        b"<Response><SendDtmf>x</SendDtmf></Response>",
        b"<Response><SendDtmf>" + b"1" * 51 + b"</SendDtmf></Response>",
        b"<Response><Hangup>now</Hangup></Response>",
        b"<Response><Transfer/></Response>",
        b"<Response><Conference>x</Conference></Response>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><Response/>',
        b"<Response>" + b" " * 70_000 + b"</Response>",
        b"\xff\xfe",
    ],
)
def test_what_is_no_bxml_is_refused(document: bytes) -> None:
    with pytest.raises(BxmlError):
        parse(document)


async def test_without_a_token_or_with_another_accounts_nothing_is_answered(
    sandbox: BandwidthSandbox, http: httpx.AsyncClient
) -> None:
    url = f"{sandbox.base_url}/api/v2/accounts/9900000/calls/c-1"
    for headers in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic eDp5"}):
        answer = await http.get(url, headers=headers)
        assert (answer.status_code, answer.json()["type"]) == (401, "authentication-error")
    login = ("one", "one-secret")
    form = {"grant_type": "client_credentials"}
    token = (await http.post(f"{sandbox.base_url}/api/v1/oauth2/token", data=form, auth=login)).json()["access_token"]
    sandbox.clients["one"] = {"1"}
    answer = await http.get(url, headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["type"]) == (403, "authorization-error")


async def test_news_whose_connection_fails_is_sent_once_more_and_a_question_is_not(
    sandbox: BandwidthSandbox, provider: BandwidthProvider, kit: Any
) -> None:
    with listening() as nobody:
        url = url_of(nobody)
    await provider.configure_number(kit.OURS, webhook_url=url)
    far_end = await sandbox.ring(kit.OURS, kit.THEIRS)
    await far_end.wait_for("ended")
    await sandbox.webhooks.wait_for("disconnect", count=2)
    kinds = [delivery.kind for delivery in sandbox.deliveries]
    assert (kinds.count("initiate"), kinds.count("disconnect"), far_end.hangup_cause) == (1, 2, "callback-error")
