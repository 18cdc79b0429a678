"""Whole calls on the sandbox through an exchange: what SignalWire has beside the scenarios that all carriers pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from anycarrier import AudioFormat, Call, CallStatus, EndReason, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.asgi import create_app
from anycarrier.audio import PCMU_8K
from anycarrier.testing.far_end_audio import tone
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier_signalwire.sandbox import SignalWireSandbox

OURS, THEIRS = "+14155550101", "+12125550120"
RINGS = "+15005550102"


@dataclass
class House:
    exchange: Exchange
    sandbox: SignalWireSandbox
    talk: Callable[[MediaSession], Awaitable[None]] | None = None
    sessions: list[MediaSession] = field(default_factory=list)

    async def handle(self, session: MediaSession) -> None:
        self.sessions.append(session)
        if self.talk is not None:
            await self.talk(session)

    async def over(self, call: Call) -> Call:
        return await self.exchange.wait_for(call.reference, CallStatus.ENDED, 30)


@pytest.fixture
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with serve_sandbox(SignalWireSandbox) as sandbox:
        sandbox.add_number(OURS)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret="a secret of this test, and long enough for it",
            policy=Policy(allow=["US"]),
            carrier_audio=getattr(request, "param", PCMU_8K),
        )
        house = House(exchange, sandbox)
        exchange.switchboard.agents = house.handle
        async with serve(create_app(exchange), sock):
            await exchange.assign(OURS, agent_id="a", credential_id="main")
            yield house


@pytest.mark.parametrize("house", [AudioFormat("L16", 16000), AudioFormat("PCM16", 24000)], indirect=True)
async def test_a_call_in_wideband_is_heard_both_ways(house: House) -> None:
    heard = bytearray()
    spoken = tone(0.4, 440)

    async def talk(session: MediaSession) -> None:
        await session.send_audio(spoken)
        async for event in session:
            heard.extend(getattr(event, "payload", b""))

    house.talk = talk
    call = await house.exchange.dial(from_=OURS, to=THEIRS)
    far_end = await house.sandbox.far_end(call.id)
    await far_end.wait_heard(0.35)
    await far_end.say(spoken)
    (asked,) = await house.sandbox.webhooks.wait_for("voice")
    rate = house.exchange.switchboard.carrier_audio.rate
    assert f'codec="L16@{rate}h"'.encode() in asked.reply
    async with asyncio.timeout(20):
        while crossings(bytes(heard)) < 300:
            await asyncio.sleep(0.01)
    await far_end.hang_up()
    assert (await house.over(call)).reason is EndReason.USER_HANGUP
    # 440 Hz for 0.4 s cross zero 352 times. Samples whose bytes were swapped on the way are noise: ten times as often.
    assert 300 < crossings(bytes(heard)) < 400 and 250 < crossings(far_end.heard) < 400


def crossings(mulaw: bytes) -> int:
    """How often the loud part of it changes its sign."""
    signs = [sample & 0x80 for sample in mulaw if sample & 0x7F < 0x60]
    return sum(one != next_ for one, next_ in pairwise(signs))


async def test_keys_are_pressed_in_the_middle_of_speech_and_a_pause_is_a_tone(house: House) -> None:
    async def talk(session: MediaSession) -> None:
        await session.send_audio(b"\x55" * 8000)
        await session.send_digits("7#")
        await session.send_digits("1w2")
        await session.drain()

    house.talk = talk
    call = await house.exchange.dial(from_=OURS, to=THEIRS)
    await house.over(call)
    far_end = await house.sandbox.far_end(call.id)
    assert far_end.digits == "7#" and far_end.keys_heard() == "12"


async def test_a_call_that_still_rings_is_hung_up_by_the_other_word(house: House) -> None:
    call = await house.exchange.dial(from_=OURS, to=RINGS)
    far_end = await house.sandbox.far_end(call.id)
    await house.exchange.wait_for(call.reference, CallStatus.RINGING, 20)
    await house.exchange.hang_up(call)
    ended = await house.over(call)
    assert (ended.reason, ended.carrier_status, far_end.hangup_cause) == (EndReason.CANCELED, "canceled", "canceled")
    words = [each.body["Status"] for each in house.sandbox.requests if each.method == "POST" and "Status" in each.body]
    assert words == [["completed"], ["canceled"]]


async def test_an_answer_that_is_told_twice_begins_one_conversation(house: House) -> None:
    async def talk(session: MediaSession) -> None:
        async for _ in session:
            pass

    house.talk = talk
    house.sandbox.quirks.add("duplicate")  # the question for instructions comes twice, too
    call = await house.exchange.dial(from_=OURS, to=THEIRS)
    far_end = await house.sandbox.far_end(call.id)
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    await house.over(call)
    assert len(house.sessions) == 1
    told = [each.params["CallStatus"] for each in house.sandbox.deliveries if each.kind == "status"]
    assert told.count("answered") == told.count("in-progress") == 2


async def test_a_question_about_a_call_nobody_knows_ends_it(house: House) -> None:
    """Dialled by hand, its questions come to our URL: there is nothing to connect it to."""
    provider = await house.exchange.switchboard.provider("main")
    url = house.exchange.switchboard.webhook_url("signalwire", "main")
    form = {"To": THEIRS, "From": OURS, "Url": f"{url}?ref={'0' * 32}&instruct=answered"}
    body = await provider.request("POST", f"{house.sandbox.project.path}/Calls", operation="dial", data=form)
    far_end = await house.sandbox.far_end(body["sid"])
    await far_end.wait_for("ended")
    assert far_end.hangup_cause == "completed" and not house.sessions and not house.sandbox.log


async def test_a_forged_question_learns_no_target_and_no_ticket(house: House) -> None:
    async def talk(session: MediaSession) -> None:
        async for _ in session:
            pass

    house.talk = talk
    call = await house.exchange.dial(from_=OURS, to=THEIRS)
    (asked,) = await house.sandbox.webhooks.wait_for("voice")
    far_end = await house.sandbox.far_end(call.id)
    await far_end.wait_for("streaming")
    for forged in (
        asked.again(url=asked.url.replace("answered", "transfer&target=%2B12125550199")),
        house.sandbox.forge(asked, CallSid="another"),
        asked.again(headers={name: text for name, text in asked.headers.items() if "signature" not in name}),
    ):
        refused = await house.sandbox.webhooks.post(forged)
        assert refused.status == 403 and b"wss" not in refused.reply and b"Dial" not in refused.reply
    replayed = await house.sandbox.webhooks.post(asked.again())
    assert replayed.status == 200, "who asks again gets the same answer, whose ticket is spent"
    assert len(house.sessions) == 1
    await far_end.hang_up()
    await house.over(call)
