"""Bots that mean harm: where they lead a front, and what they have it hold and compute."""

from __future__ import annotations

import asyncio
import gzip
import struct

import pytest
from starlette.responses import Response
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_sockets
from websockets.datastructures import Headers
from websockets.http11 import Request as Handshake
from websockets.http11 import Response as Refusal

from anycarrier import AudioFormat, EndReason
from anycarrier.errors import ConfigurationError
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from anycarrier_twilio_front import TwilioFront
from anycarrier_twilio_front import account as account_module
from anycarrier_twilio_front import front as front_module
from anycarrier_twilio_front.callbacks import BotError, Reply
from anycarrier_twilio_front.sounds import _decoded
from contrib.twilio_front.fronted import ACCOUNT, DESK, open_fronted, stream, twiml
from sandbox_platform import Webhook

NUMBERS = {outcome: number for number, outcome in OUTCOMES.items()}


async def test_a_socket_that_redirects_is_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    reached: list[ServerConnection] = []

    async def inside(connection: ServerConnection) -> None:
        reached.append(connection)

    async with serve_sockets(inside, "127.0.0.1", 0) as hidden:
        there = f"ws://127.0.0.1:{next(iter(hidden.sockets)).getsockname()[1]}/"

        def elsewhere(connection: ServerConnection, request: Handshake) -> Refusal:
            return Refusal(302, "Found", Headers({"Location": there}))

        async with serve_sockets(inside, "127.0.0.1", 0, process_request=elsewhere) as bot:
            address = f"127.0.0.1:{next(iter(bot.sockets)).getsockname()[1]}"
            async with open_fronted("telnyx", hosts=[address]) as house:
                house.bot.replies["/voice"] = twiml(stream(f"ws://{address}/media"))
                assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
    assert "31920: Stream - WebSocket - Handshake Error" in caplog.text
    assert reached == []


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        ("<Redirect>http://[::1</Redirect>", 11100),
        ("<Redirect>/a&#127;b</Redirect>", 11100),
        ("<Play>//[</Play>", 11100),
        ('<Dial action="http://[">+13105550130</Dial>', 11100),
        ('<Connect><Stream url="ws://["/></Connect>', 11100),
        ('<Gather timeout="0" actionOnEmptyResult="true" action="//["/>', 11100),
        ('<Pause length="\u00b2"/>', 12200),
        (f'<Pause length="{"9" * 5000}"/>', 12200),
        ('<Gather timeout="\u00b2"/>', 12200),
        ('<Play digits="call me"/>', 12200),
    ],
    ids=lambda value: None if isinstance(value, int) else value[:24],
)
async def test_what_cannot_be_read_in_a_document_is_the_bots_mistake(
    verb: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(verb)
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
    assert f": {code}: " in caplog.text
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("count", ["\u00b2", "9" * 5000, "-1", ""])
async def test_counts_that_are_none_count_as_their_defaults(count: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("acme") as house:
        house.bot.replies["/a"] = Response(b"\x55" * 80, media_type="audio/basic")
        house.bot.replies["/voice"] = twiml(
            f'<Play loop="{count}">/a</Play><Gather timeout="0" numDigits="{count}" speechTimeout="{count}"/>'
        )
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_HANGUP
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("carrier", ["telnyx", "acme"])
async def test_keys_that_a_carrier_does_not_take_are_a_complaint_and_the_bot_goes_on(
    carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml(f'<Play digits="{"1" * 5000}"/>', "<Redirect>/next</Redirect>")
        house.bot.replies["/next"] = twiml("<Hangup/>")
        far_end = await house.ring()
        if carrier == "telnyx":
            assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
            assert house.bot.told("/next")
        else:  # takes them all
            await far_end.wait_for("streaming")
            await far_end.hang_up()
            await house.over(far_end)
    assert "Traceback" not in caplog.text


async def test_a_compressed_answer_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        document = gzip.compress(gzip.compress(twiml("<Hangup/>").encode()))
        house.bot.replies["/voice"] = Response(
            document, media_type="text/xml", headers={"content-encoding": "gzip, gzip"}
        )
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
        assert house.bot.told("/voice")[0].headers["accept-encoding"] == "identity"
    assert "11200: the answer is compressed ('gzip, gzip')" in caplog.text


@pytest.mark.parametrize("where", ["http://[::1", "//[", "file:///etc/passwd", "http://127.0.0.1:1@evil.example/"])
async def test_a_redirect_leads_nowhere_else(where: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = Response("", status_code=302, headers={"location": where})
        assert (await house.over(await house.ring())).reason is EndReason.AGENT_ERROR
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("rate", [1, 100, 22051, 0xFFFFFFFF])
def test_a_file_of_an_odd_rate_is_not_played(rate: int) -> None:
    form = struct.pack("<HHIIHH", 1, 1, rate, 0, 2, 16)
    audio = bytes(2000)
    file = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", len(audio)) + audio
    with pytest.raises(BotError, match=f"{rate} samples a second"):
        _decoded(Reply("http://bot.example/", "audio/wav", file), AudioFormat("PCMU", 8000))


# --- what is kept -----------------------------------------------------------------------------------------------------


async def test_of_calls_that_are_over_the_last_are_kept_without_their_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(front_module, "REMEMBERED", 2)
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml('<Reject reason="busy"/>')
        for _ in range(5):
            await house.over(await house.ring())
        assert len(house.front.calls) == 3, "the newest was open when it came"
        left = asyncio.Event()

        async def slow(_: Webhook) -> str:
            await left.wait()
            return twiml('<Pause length="1"/>')

        house.bot.replies["/voice"] = slow
        far_end = await house.ring()
        await house.until(lambda: len(house.bot.told("/voice")) == 6)
        await far_end.hang_up()
        await house.over(far_end)
        left.set()
        await asyncio.sleep(1)
        assert house.front.calls[-1].document is None


async def test_requests_that_wait_for_a_bot_are_bounded_and_none_is_made_by_a_front_that_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(account_module, "WAITING", 3)
    async with open_fronted("telnyx") as house:

        async def hangs(_: Webhook) -> Response:
            await asyncio.Event().wait()
            return Response()

        house.bot.replies["/voice"] = twiml('<Reject reason="busy"/>')
        house.bot.replies["/told"] = hangs
        await house.over(await house.ring())
        [call] = house.front.calls
        for _ in range(4):
            house.front.post(call, f"{house.bot.url}/told", {})
        assert caplog.text.count("11205: 3 requests wait") == 1
        await house.front.aclose()
        house.front.post(call, f"{house.bot.url}/late", {})
        await asyncio.sleep(1)
        assert not house.bot.told("/late")
        assert len(house.bot.told("/told")) <= 1, "one after the other"


# --- several bots -----------------------------------------------------------------------------------------------------


async def test_two_fronts_have_two_agents() -> None:
    async with open_fronted("telnyx") as house:
        options = {"account_sid": ACCOUNT, "auth_token": "t", "voice_url": "https://bot.example/"}
        TwilioFront(house.exchange, agent_id="second", **options)
        for agent_id in ("second", house.front.agent_id):
            with pytest.raises(ConfigurationError, match="another front"):
                TwilioFront(house.exchange, agent_id=agent_id, **options)


# --- Dial -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", ["telnyx", "twilio"])  # the example's carrier does not tell
@pytest.mark.parametrize(("outcome", "word"), [(Outcome.BUSY, "busy"), (Outcome.NO_ANSWER, "no-answer")])
async def test_the_action_of_a_dial_is_told_how_it_failed_on_every_carrier(
    carrier: str, outcome: Outcome, word: str
) -> None:
    async with open_fronted(carrier) as house:
        house.bot.replies["/voice"] = twiml(f'<Dial action="/dialled">{NUMBERS[outcome]}</Dial>')
        house.bot.replies["/dialled"] = twiml("<Hangup/>")
        far_end = await house.ring()
        [asked] = await house.bot.wait_told("/dialled", timeout=120)
        await house.over(far_end)
        assert asked.genuine
        assert (asked.params["DialCallStatus"], asked.params["DialBridged"]) == (word, "false")
        await asyncio.sleep(1)
        assert len(house.bot.told("/dialled")) == 1


async def test_a_target_that_rings_for_ever_ends_the_bots_part(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("telnyx") as house:


        async def ringing(*_: object, **__: object) -> None:
            raise TimeoutError

        monkeypatch.setattr(house.exchange._commands, "wait_for_transfer", ringing)
        house.bot.replies["/voice"] = twiml(f'<Dial action="/dialled">{DESK}</Dial>')
        far_end = await house.ring()
        await house.until(lambda: far_end.transferred_to == DESK)
        await house.until(lambda: not house.exchange.switchboard.sessions)
        await far_end.hang_up()
        await house.over(far_end)
    assert "Traceback" not in caplog.text
