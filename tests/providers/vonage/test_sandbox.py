"""The sandbox as a carrier: regions, sockets that end over a wrong size, webhooks that are tried again, and answers
that Vonage's documents allow."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import wave
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from anycarrier import (
    AudioReceived,
    Call,
    CallStatus,
    EndReason,
    Exchange,
    MachineDetected,
    MachineDetection,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
    RecordingProgress,
)
from anycarrier.asgi import create_app
from anycarrier.audio import AudioFormat
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier_vonage import VonageProvider, VonageSerializer
from anycarrier_vonage.sandbox import VonageSandbox
from anycarrier_vonage.sandbox.accounts import APPLICATION, webhook_token
from providers.vonage.conftest import Documents

OURS, CALLER, CALLEE = "+14155550101", "+12125550110", "+12125550120"
Handler = Callable[[MediaSession], Any]


async def listen(session: MediaSession) -> None:
    async for _ in session:
        pass


class Platform:
    """An exchange on a sandbox, and everything it was told."""

    def __init__(self, sandbox: VonageSandbox, exchange: Exchange, url: str) -> None:
        self.sandbox, self.exchange, self.url = sandbox, exchange, url
        self.events: list[tuple[Any, Call | None]] = []
        exchange.switchboard.observers.append(lambda event, call: self.events.append((event, call)))

    async def told(self, kind: type) -> tuple[Any, Call | None]:
        async with asyncio.timeout(10):
            while not (found := [each for each in self.events if isinstance(each[0], kind)]):
                await asyncio.sleep(0.005)
        return found[-1]

    @property
    def kinds(self) -> list[str]:
        return [delivery.kind for delivery in self.sandbox.deliveries]


@contextlib.asynccontextmanager
async def platform(talk: Handler = listen, **options: Any) -> AsyncIterator[Platform]:
    async with serve_sandbox(VonageSandbox) as sandbox:
        sandbox.add_number(OURS)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(), credentials={"main": sandbox.credential()}, public_url=url_of(sock),
            secret="a secret that is long enough, in tests", agents=talk, policy=Policy(allow=["US"]), **options,
        )  # fmt: skip
        async with serve(create_app(exchange), sock):
            await exchange.assign(OURS, agent_id="a", credential_id="main")
            yield Platform(sandbox, exchange, url_of(sock))


async def test_a_call_that_came_in_is_known_in_its_region_only() -> None:
    async with platform() as house:
        caller = await house.sandbox.ring(OURS, CALLER)
        await caller.wait_for("streaming")
        provider = await house.exchange.switchboard.provider("main")
        assert isinstance(provider, VonageProvider)
        async with httpx.AsyncClient(headers=provider.headers()) as http:
            for host, status in (("", 404), ("/us-3", 200)):
                answer = await http.get(f"{house.sandbox.base_url}{host}/v1/calls/{caller.call_id}")
                assert answer.status_code == status
        await house.exchange.hang_up(caller.call_id)
        await caller.wait_for("ended")
        assert caller.hangup_cause == "hung up by API"


async def test_a_call_that_we_placed_lives_at_the_apis_own_host() -> None:
    async with platform() as house:
        call = await house.exchange.dial(from_=OURS, to=CALLEE)
        callee = await house.sandbox.far_end(call.id)
        await callee.wait_for("streaming")
        await house.exchange.hang_up(call)
        await callee.wait_for("ended")
        assert house.sandbox.requests[-1].path == f"/v1/calls/{call.id}"


@pytest.mark.parametrize("size", [318, 322, 160, 640])
async def test_a_message_of_another_size_ends_the_stream_and_the_call(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wrong(session: MediaSession) -> None:
        await session.send_audio(b"\x42" * 160)
        await listen(session)

    monkeypatch.setattr(VonageSerializer, "encode_audio", lambda self, payload: [bytes(size)])

    async with platform(wrong) as house:
        caller = await house.sandbox.ring(OURS, CALLER)
        await caller.wait_for("ended")
        complaint = f"unexpected frame size {size // 2}, when required 160"
        assert complaint in [what for _, what in caller.log]


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_audio_goes_both_ways_at_each_rate(rate: int) -> None:
    async def echo(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, AudioReceived):
                await session.send_audio(event.payload)

    async with platform(echo, carrier_audio=AudioFormat("L16", rate)) as house:
        caller = await house.sandbox.ring(OURS, CALLER)
        await caller.wait_for("streaming")
        await caller.say(b"\x20\xa0" * 2400)
        await caller.wait_heard(0.5)
        (answer,) = [d for d in house.sandbox.deliveries if d.kind == "answer"]
        assert f"rate={rate}" in answer.reply.decode()
        if rate == 8000:
            assert b"\x20\xa0" * 400 in caller.heard


async def test_a_webhook_that_fails_in_passing_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with platform() as house:
        failed: list[str] = []
        good = house.exchange.handle_webhook

        async def once(provider: str, credential_id: str, request: Any) -> Any:
            status = json.loads(request.body).get("status", "answer")
            if status not in failed:
                failed.append(status)
                from anycarrier import WebhookReply

                return WebhookReply(status=503)
            return await good(provider, credential_id, request)

        monkeypatch.setattr(house.exchange, "handle_webhook", once)
        caller = await house.sandbox.ring(OURS, CALLER)
        await caller.wait_for("streaming")
        await caller.hang_up()
        call = await house.exchange.wait_for(caller.call_id, CallStatus.ENDED, 10)
        assert call.reason is EndReason.USER_HANGUP
        async with asyncio.timeout(10):
            while house.kinds.count("completed") < 2:
                await asyncio.sleep(0.005)
        assert house.kinds.count("answer") == 2


async def test_an_answer_webhook_without_a_reply_ends_the_call() -> None:
    async with serve_sandbox(VonageSandbox) as sandbox:
        sandbox.add_number(OURS)
        number = sandbox.accounts.by_key["a1b2c3d4"].numbers[OURS[1:]]
        number["app_id"] = APPLICATION
        hook = {"address": "http://127.0.0.1:9/answer", "http_method": "POST"}
        back = {"address": "http://127.0.0.1:9/fallback", "http_method": "GET"}
        application = sandbox.accounts.applications[APPLICATION]
        webhooks = {"answer_url": hook, "fallback_answer_url": back}
        application.document["capabilities"] = {"voice": {"webhooks": webhooks}}
        caller = await sandbox.ring(OURS, CALLER)
        await caller.wait_for("ended")
        answers = [d.url.partition("?")[0] for d in sandbox.deliveries if d.kind == "answer"]
        assert answers == [hook["address"]] * 2 + [back["address"]] * 2


@pytest.mark.parametrize("reply", [b"", b"{}", b"not json", b'[{"action":"hangup"}]', b'[{"action":"connect"}]'])
async def test_a_reply_that_is_no_ncco_is_an_error_event_and_the_end(reply: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = json.loads((await receive())["body"])
        told.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": reply if "region_url" in body else b""})

    told: list[dict[str, Any]] = []
    sock = listening()
    async with serve_sandbox(VonageSandbox) as sandbox, serve(app, sock, lifespan="off"):
        sandbox.add_number(OURS)
        sandbox.accounts.by_key["a1b2c3d4"].numbers[OURS[1:]]["app_id"] = APPLICATION
        hook = {"address": url_of(sock), "http_method": "POST"}
        application = sandbox.accounts.applications[APPLICATION]
        application.document["capabilities"] = {"voice": {"webhooks": {"answer_url": hook, "event_url": hook}}}
        caller = await sandbox.ring(OURS, CALLER)
        await caller.wait_for("ended")
        async with asyncio.timeout(10):
            while not any("reason" in body for body in told):
                await asyncio.sleep(0.005)
        assert (caller.state, caller.streaming) == ("ended", False)


async def test_a_number_without_an_application_rings_nobody(sandbox: VonageSandbox) -> None:
    with pytest.raises(LookupError, match="nobody"):
        await sandbox.ring(OURS, CALLER)
    sandbox.add_number(OURS)
    with pytest.raises(LookupError, match="configure"):
        await sandbox.ring(OURS, CALLER)


@pytest.mark.parametrize(
    ("to", "who", "beep"),
    [(CALLEE, "human", False), ("+15005550105", "machine", True), ("+15005550106", "machine", False)],
)
async def test_who_picked_up(to: str, who: str, beep: bool) -> None:
    async with platform() as house:
        call = await house.exchange.dial(from_=OURS, to=to, machine_detection=MachineDetection.WAIT_FOR_BEEP)
        event, _ = await house.told(MachineDetected)
        assert event.answered_by == who
        if who == "machine":
            async with asyncio.timeout(10):
                while not (event := (await house.told(MachineDetected))[0]).greeting_ended:
                    await asyncio.sleep(0.005)
            assert event.beep is beep
        await house.exchange.hang_up(call)


async def test_a_recording_is_told_of_its_call_and_fetched() -> None:
    async def speak(session: MediaSession) -> None:
        await session.send_audio(b"\x20\xa0" * 1600)

    async with platform(speak) as house:
        call = await house.exchange.dial(from_=OURS, to=CALLEE, record=True)
        await house.exchange.wait_for(call, CallStatus.ENDED, 10)
        event, known = await house.told(RecordingProgress)
        assert known is not None and known.reference == call.reference
        provider = await house.exchange.switchboard.provider("main")
        with wave.open(io.BytesIO(await provider.fetch_recording(event.recording_id))) as file:
            assert (file.getnchannels(), file.getframerate()) == (2, 8000) and file.getnframes() >= 3200


async def test_a_time_limit_ends_the_call_at_vonage() -> None:
    async with platform() as house:
        call = await house.exchange.dial(from_=OURS, to=CALLEE, time_limit=1)
        over = await house.exchange.wait_for(call, CallStatus.ENDED, 10)
        assert over.reason is EndReason.MAX_DURATION


async def test_the_callee_sees_a_number_of_ours_or_unknown() -> None:
    async with platform() as house:
        shown = []
        for caller_id in (None, "+14155550199"):
            call = await house.exchange.dial(from_=OURS, to=CALLEE, caller_id=caller_id)
            shown.append((await house.sandbox.far_end(call.id)).from_)
            await house.exchange.hang_up(call)
        assert shown == [OURS, "unknown"]


async def test_a_transfer_leaves_the_socket_behind_and_rings_the_target() -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer("+13105550130")
        await listen(session)

    async with platform(hand_over) as house:
        caller = await house.sandbox.ring(OURS, CALLER)
        call = await house.exchange.wait_until(caller.call_id, lambda c: c.transfer == "answered", 10)
        assert caller.transferred_to == "+13105550130" and not call.ended
        target = next(leg for leg in house.sandbox.legs.values() if leg.to == "13105550130")
        assert target.from_ == OURS[1:] and "transfer" in house.kinds
        await target.far_end.hang_up()
        over = await house.exchange.wait_for(caller.call_id, CallStatus.ENDED, 10)
        assert over.reason is EndReason.TRANSFERRED


async def test_the_answers_are_those_of_vonages_documents() -> None:
    documents = Documents()
    problems: list[str] = []

    async def held(response: httpx.Response) -> None:
        await response.aread()
        if "/v1/files" not in response.request.url.path:
            body = json.loads(response.content) if response.content else None
            request = response.request
            problems.extend(documents.problems_of(request))
            problems.extend(documents.problems_in(request.method, request.url.path, response.status_code, body))

    async with httpx.AsyncClient(event_hooks={"response": [held]}) as http, platform(http=http) as house:
        exchange = house.exchange
        (offer, *_) = await exchange.search_numbers(area_code="415", limit=2, credential_id="main")
        await exchange.buy_number(offer.number, credential_id="main")
        assert len(await exchange.list_numbers("main")) == 2
        provider = await exchange.switchboard.provider("main")
        assert await provider.check_credential() == "Sandbox"
        call = await exchange.dial(from_=OURS, to=CALLEE)
        callee = await house.sandbox.far_end(call.id)
        await callee.wait_for("streaming")
        await exchange.send_digits(call, "12#")
        await exchange.fetch_call(call)
        await exchange.transfer(call, "+13105550130")
        await exchange.hang_up(call)
        await exchange.fetch_call(call)
        await exchange.unassign(OURS)
        await exchange.release_number(offer.number, credential_id="main")
    # A webhook's start_time may be null; the document of 2021 has the answer of a call without one.
    assert problems == []
    seen = documents.voice.seen | documents.numbers.seen | documents.applications.seen
    assert len(seen) >= 12


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer a.b.c", "Basic eDp5", "Bearer " + webhook_token.__name__]
)
async def test_calls_want_a_token(sandbox: VonageSandbox, authorization: str) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{sandbox.base_url}/v1/calls", headers={"authorization": authorization})
    assert answer.status_code == 401 and answer.json()["title"] == "Unauthorized"
