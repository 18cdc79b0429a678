"""What the adapter asks and what the sandbox answers and tells is held against the document that Asterisk ships."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from anycarrier import CallStatus, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import create_app
from anycarrier.errors import AnycarrierError
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox_numbers import OUTCOMES
from anycarrier_asterisk.sandbox import AsteriskSandbox
from ari_document import AriDocument


class Held:
    """Every request and answer between an exchange and its sandbox."""

    def __init__(self, document: AriDocument) -> None:
        self.document = document
        self.problems: list[str] = []
        self.seen: set[str] = set()

    async def look(self, response: httpx.Response) -> None:
        await response.aread()
        request, path = response.request, response.request.url.path
        body = json.loads(request.content) if request.content else None
        name = f"{request.method} {path}"
        self.problems += [f"{name}: {each}" for each in self.document.request_problems(
            request.method, path, dict(request.url.params), body)]  # fmt: skip
        answer = response.json() if "json" in response.headers.get("content-type", "") else None
        found = self.document.answer_problems(request.method, path, response.status_code, answer)
        self.problems += [f"{name}: {each}" for each in found]
        operation = self.document.operation(request.method, path)
        self.seen.add(operation["nickname"] if operation else name)


@pytest.fixture
async def scene(tools: Any) -> AsyncIterator[tuple[Exchange, AsteriskSandbox, Held]]:
    held = Held(AriDocument.load())
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve_sandbox(AsteriskSandbox))
        server.add_number(tools.OURS)
        http = await stack.enter_async_context(httpx.AsyncClient(event_hooks={"response": [held.look]}))
        port = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(), credentials={"main": server.credential()}, public_url=url_of(port),
            secret="x" * 40, policy=Policy(allow=["US"]), http=http,
        )  # fmt: skip
        server.point_webhooks(exchange.switchboard.webhook_url("asterisk", "main"))

        async def listen(session: MediaSession) -> None:
            async for _ in session:
                pass

        exchange.switchboard.agents = listen
        await stack.enter_async_context(serve(create_app(exchange), port))
        await exchange.assign(tools.OURS, agent_id="desk", credential_id="main")
        yield exchange, server, held


async def test_a_whole_life_is_asked_answered_and_told_as_documented(scene: Any, tools: Any) -> None:
    exchange, server, held = scene
    provider = await exchange.switchboard.provider("main")
    await provider.check_credential()
    far_end = await server.ring(tools.OURS, tools.THEIRS)
    await far_end.wait_for("streaming")
    recording = await provider.start_recording(far_end.call_id)
    await exchange.send_digits(far_end.call_id, "1w2")
    await far_end.press("5")
    await provider.stop_recording(far_end.call_id, recording)
    await provider.fetch_recording(recording)
    await provider.fetch_call(far_end.call_id)
    await exchange.transfer(far_end.call_id, "+12125550120", headers={"X-Order": "7"})
    await exchange.wait_for_transfer(far_end.call_id, 20)
    await far_end.hang_up()
    await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 20)
    for number in (*OUTCOMES, "+12125550120"):
        if OUTCOMES.get(number) == "timeout":
            continue
        with contextlib.suppress(AnycarrierError):
            call = await exchange.dial(from_=tools.OURS, to=number, timeout=1, time_limit=5, headers={"X-Order": "7"})
            if OUTCOMES.get(number) is None:
                await (await server.far_end(call.id)).wait_for("streaming")
                await exchange.hang_up(call)
            await exchange.wait_for(call, CallStatus.ENDED, 20)
    await exchange.stop()
    events = [f"{each['type']}: {problem}" for each in server.told for problem in held.document.event_problems(each)]
    assert held.problems == [] and events == []
    assert held.seen >= {
        "list", "originate", "externalMedia", "hangup", "answer", "sendDTMF", "setChannelVar", "create", "addChannel",
        "destroy", "record", "stop", "getStoredFile", "getInfo", "get",
    }  # fmt: skip
    told = {each["type"] for each in server.told}
    assert told >= {"StasisStart", "StasisEnd", "ChannelStateChange", "ChannelDestroyed", "ChannelHangupRequest",
                    "Dial", "ChannelDtmfReceived", "ChannelEnteredBridge", "ChannelLeftBridge", "BridgeDestroyed",
                    "RecordingStarted", "RecordingFinished"}  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "status"),
    [
        ("GET", "/ari/channels/none", {}, None, 404),
        ("DELETE", "/ari/channels/none", {}, None, 404),
        ("DELETE", "/ari/channels/none", {"reason": "tired"}, None, 400),
        ("POST", "/ari/channels", {}, {"app": "x"}, 400),
        ("POST", "/ari/channels", {"endpoint": "DAHDI/1"}, None, 500),
        ("POST", "/ari/channels/none/dtmf", {}, None, 400),
        ("POST", "/ari/bridges/none/addChannel", {"channel": "a"}, None, 404),
        ("GET", "/ari/applications/none", {}, None, 404),
        ("GET", "/ari/recordings/stored/none/file", {}, None, 404),
        ("POST", "/ari/channels/externalMedia", {"app": "x", "format": "ulaw", "transport": "websocket"}, None, 400),
    ],
)  # fmt: skip
async def test_the_sandboxs_refusals_are_documented_ones(
    method: str, path: str, query: dict[str, str], body: Any, status: int
) -> None:
    document = AriDocument.load()
    sandbox = AsteriskSandbox(base_url="http://sandbox")
    async with sandbox, httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), auth=("us", "any")) as http:
        answer = await http.request(method, f"http://sandbox{path}", params=query, json=body)
    assert answer.status_code == status
    assert document.answer_problems(method, path, status, answer.json()) == []


def test_the_checker_refuses_what_is_wrong() -> None:
    document = AriDocument.load()
    good = {"channelId": "a", "endpoint": "PJSIP/1", "timeout": 5, "variables": {"a": "b"}}
    assert document.request_problems("POST", "/ari/channels", {}, good) == []
    wrong = {**good, "timeout": "soon"}
    assert document.request_problems("POST", "/ari/channels", {}, wrong) == ["timeout is a str, no int"]
    assert document.request_problems("POST", "/ari/channels", {}, {"channelId": "a"}) == ["endpoint is missing"]
    assert document.request_problems("POST", "/ari/channels", {"ring": "1"}, good) == ["ring is no parameter"]
    assert document.request_problems("PUT", "/ari/channels", {}, {}) == ["there is no PUT /ari/channels"]
    assert document.request_problems("GET", "/ari/asterisk/info", {"only": "all"}, None) != []
    assert document.answer_problems("GET", "/ari/channels/x", 409, {"message": "no"}) == ["409 is not documented"]
    assert document.answer_problems("GET", "/ari/channels/x", 200, {"id": "x"}) != []
    event = {"type": "StasisStart", "application": "x", "timestamp": "2026-11-28T17:10:18.466+0000"}
    lacking = ["StasisStart.args is missing", "StasisStart.channel is missing"]
    assert document.event_problems(event) == lacking
