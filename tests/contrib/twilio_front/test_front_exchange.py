"""How a front is given to an exchange: as its agents, one of several, or as an agent of ``Agents``; in any format."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping

import httpx
import pytest
from starlette.responses import Response

from anycarrier import (
    AudioFormat,
    Call,
    CallStatus,
    DigitPressed,
    Direction,
    EndReason,
    IncomingCall,
    MediaSession,
    Reject,
)
from anycarrier.agent import Agents
from anycarrier.asgi import create_app
from anycarrier.testing.live_server import serve
from anycarrier_twilio.carrier_side.twiml import Instructions, Verb
from anycarrier_twilio_front import FrontCall, TwilioFront
from anycarrier_twilio_front.document import Document
from anycarrier_twilio_front.stream import BotStream
from contrib.twilio_front.fronted import ACCOUNT, CALLER, OTHERS, OURS, Fronted, open_fronted, stream, twiml
from fake_speech import SPEECH, FakeEngine


async def echoed(house: Fronted, audio: bytes) -> bytes:
    """What a caller hears of a bot that says back what it hears."""
    house.bot.echo = True
    house.bot.replies["/voice"] = twiml(stream(house.bot.socket_url))
    far_end = await house.ring()
    await house.bot.socket()
    await far_end.say(audio)
    await far_end.wait_heard(len(audio) / 8000)
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
    return far_end.heard


async def test_an_exchange_in_another_format_gives_the_bot_mu_law_all_the_same() -> None:
    audio = random.Random(5).randbytes(8000)
    async with open_fronted("telnyx") as house:
        house.exchange.switchboard.audio = AudioFormat("L16", 16000)
        assert audio in await echoed(house, audio)


async def test_a_front_is_an_agent_of_agents() -> None:
    audio = random.Random(6).randbytes(8000)
    async with open_fronted("telnyx") as house:
        agents = Agents()
        agents.add(house.front.agent_id, handler=house.front.handler)
        await agents.open(house.exchange.switchboard)
        house.exchange.switchboard.agents = agents
        assert audio in await echoed(house, audio)
        await agents.aclose()


async def test_its_engines_start_and_end_with_an_exchange_whose_agents_it_is() -> None:
    class Engine(FakeEngine):
        started = 0

        async def start(self) -> None:
            self.started += 1

    engine = Engine()
    async with open_fronted("telnyx") as house:
        other = TwilioFront(
            house.exchange, account_sid=ACCOUNT, auth_token="t", voice_url="https://bot.example/", agent_id="x",
            speech=engine,
        )  # fmt: skip
        await house.exchange.stop()
        async with serve(create_app(house.exchange, other)):
            assert engine.started == 1
        assert engine.closed == ["engine"]


async def test_lines_of_other_agents_are_none_of_its_business() -> None:
    async with open_fronted("telnyx", status_callback="{bot}/status") as house:
        heard: list[str] = []

        async def talk(session: MediaSession) -> None:
            heard.append(session.agent_id)

        agents = house.exchange.switchboard.agents
        assert isinstance(agents, Mapping)
        house.exchange.switchboard.agents = {**agents, "others": talk}
        far_end = await house.sandbox.ring(OTHERS, CALLER)
        await house.over(far_end)
        assert heard == ["others"]
        assert not house.bot.webhooks
        assert not house.front.calls


async def test_a_connection_that_cannot_be_made_is_tried_once_more_and_nothing_that_was_delivered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml("<Reject/>")
        send, failures = httpx.AsyncClient.send, [httpx.ConnectError("down")]

        async def failing(self: httpx.AsyncClient, request: httpx.Request, **options: object) -> httpx.Response:
            if request.url.path == "/voice" and failures:
                raise failures.pop()
            return await send(self, request, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(httpx.AsyncClient, "send", failing)
        assert (await house.over(await house.ring())).reason is EndReason.REJECTED
        failures.append(httpx.ReadError("lost"))  # type: ignore[arg-type]
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
        assert len(house.bot.told("/voice")) == 1
        assert isinstance(await house.front._other_router(None, None), Reject)  # type: ignore[arg-type]


def test_audio_in_pieces_of_any_size_goes_out_in_pieces_of_20_ms() -> None:
    call = Call(id="1", provider="acme", direction=Direction.INBOUND, from_="", to="", status=CallStatus.ANSWERED)
    stream = BotStream(None, FrontCall("AC", call, Instructions()), None, Verb("Stream"), "")  # type: ignore[arg-type]
    audio = random.Random(8).randbytes(160 * 12)
    sizes = iter((160, 1, 158, 162, 159, 320, 480, 40, 440))
    at = 0
    for size in sizes:
        stream._hear_audio(base64.b64encode(audio[at : at + size]).decode())
        at += size
    assert at == len(audio)
    pieces = [base64.b64decode(json.loads(frame)["media"]["payload"]) for frame in stream._outbox]
    assert [len(piece) for piece in pieces] == [160] * 12
    assert b"".join(pieces) == audio


def test_an_update_takes_the_place_of_the_document_that_was_fetched_while_the_call_rang() -> None:
    call = Call(id="1", provider="acme", direction=Direction.INBOUND, from_="", to="", status=CallStatus.ANSWERED)
    known = FrontCall("AC", call, Instructions("https://bot.example/voice"))
    known.document = Document(())
    known.redirect(other := Instructions("https://bot.example/other"))
    assert (known.instructions, known.document) == (other, None)


async def test_a_document_is_not_kept_for_a_call_that_ends_before_it_is_connected() -> None:
    async with open_fronted("telnyx") as house:
        call = Call(
            id="1", provider="telnyx", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING
        )
        known = house.front.enter(call, Instructions("https://bot.example/voice"))
        known.document = Document(())
        house.front._changed(call.model_copy(update={"status": CallStatus.ENDED}))
        assert known.document is None


async def test_what_a_carrier_says_of_an_incoming_call_is_told_also_to_the_fallback() -> None:
    async with open_fronted("telnyx", fallback_url="{bot}/fallback") as house:
        call = Call(
            id="1", provider="telnyx", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=CallStatus.RINGING,
            reference="0" * 32,
        )  # fmt: skip
        event = IncomingCall(call=call, verified="A", forwarded_from=OTHERS, headers={"X-Case": "7"})
        house.bot.replies["/voice"] = Response("no", status_code=500)
        house.bot.replies["/fallback"] = twiml("<Reject/>")
        await house.front.router(event, await house.exchange.switchboard.registry.lookup(OURS))
        for path in ("/voice", "/fallback"):
            [asked] = house.bot.told(path)
            said = {"StirVerstat": "TN-Validation-Passed-A", "ForwardedFrom": OTHERS, "SipHeader_X-Case": "7"}
            assert said.items() <= asked.params.items()


def test_keys_before_the_bots_socket_is_open_go_nowhere() -> None:
    call = Call(id="1", provider="acme", direction=Direction.INBOUND, from_="", to="", status=CallStatus.ANSWERED)
    stream = BotStream(None, FrontCall("AC", call, Instructions()), None, Verb("Stream"), "")  # type: ignore[arg-type]
    stream.hear(DigitPressed("1"))
    assert not stream._outbox
    stream._started = True
    stream.hear(DigitPressed("2"))
    assert len(stream._outbox) == 1


async def test_the_callers_audio_is_the_next_verbs_again_when_a_stream_is_over() -> None:
    engine = FakeEngine("a table for two")
    async with open_fronted("telnyx", speech=engine) as house:
        gather = '<Gather input="speech" speechTimeout="auto" action="/words"/>'
        house.bot.replies["/voice"] = twiml(stream(house.bot.socket_url), gather)
        house.bot.replies["/words"] = twiml("<Hangup/>")
        far_end = await house.ring()
        await (await house.bot.socket()).connection.close()
        await house.until(lambda: bool(engine.hearings))
        await far_end.say(SPEECH * 8000)
        await house.over(far_end)
        assert house.bot.told("/words")[0].params["SpeechResult"] == "a table for two"
