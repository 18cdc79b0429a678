"""Media streams to the bot, over each carrier's sandbox, inbound and outbound."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from anycarrier import EndReason, MediaSession
from anycarrier_twilio_front import stream as stream_module
from contrib.twilio_front.fronted import ACCOUNT, TOKEN, open_fronted, stream, twiml

EVERY_CARRIER = pytest.mark.parametrize("carrier", ["telnyx", "acme", "twilio"])


@EVERY_CARRIER
@pytest.mark.parametrize("way", ["inbound", "outbound"])
async def test_a_bot_and_the_far_end_hear_each_other_byte_for_byte(carrier: str, way: str) -> None:
    async with open_fronted(carrier) as house:
        bot = house.bot
        parameter = '<Parameter name="first" value="Ada &amp; Bob"/>'
        bot.replies["/voice"] = twiml(stream(f"{bot.socket_url}/media?token=lost", parameter, name="mine"))
        far_end = await (house.ring() if way == "inbound" else house.dial())
        socket = await bot.socket()
        [asked] = bot.told("/voice")
        assert asked.genuine
        assert asked.params["AccountSid"] == ACCOUNT
        assert asked.params["CallStatus"] == ("ringing" if way == "inbound" else "in-progress")
        assert asked.params["Direction"] == ("inbound" if way == "inbound" else "outbound-api")
        assert (asked.params["From"], asked.params["To"]) == (far_end.from_, far_end.to)
        assert socket.path == "/media"
        url = f"{bot.socket_url}/media"
        assert RequestValidator(TOKEN).validate(url, {}, socket.headers["X-Twilio-Signature"])
        assert [frame["event"] for frame in socket.frames[:2]] == ["connected", "start"]
        start = socket.of("start")[0]
        assert start["start"]["callSid"] == asked.params["CallSid"]
        assert start["start"]["customParameters"] == {"first": "Ada & Bob"}
        rng = random.Random(7)
        spoken, played = rng.randbytes(160 * 25), rng.randbytes(160 * 25)
        await far_end.say(spoken)
        await socket.play(played)
        await socket.mark("end")
        await socket.wait_for("mark")
        await far_end.wait_heard(0.5)
        await house.until(lambda: spoken in socket.audio())
        assert far_end.heard == played
        media = socket.of("media")
        assert [int(frame["media"]["chunk"]) for frame in media] == list(range(1, len(media) + 1))
        numbers = [int(frame["sequenceNumber"]) for frame in socket.frames[1:]]
        assert numbers == list(range(1, len(numbers) + 1))
        await socket.connection.close()
        over = await house.over(far_end)
        assert over.reason is EndReason.AGENT_HANGUP


@EVERY_CARRIER
async def test_a_clear_returns_every_outstanding_mark_at_once_also_of_one_name(carrier: str) -> None:
    async with open_fronted(carrier) as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url))
        far_end = await house.ring()
        socket = await bot.socket()
        for _ in range(20):
            await socket.play(b"\x55" * 1600)
            await socket.mark("responsePart")
        await far_end.wait_heard(1.0)
        await socket.clear()
        marks = await socket.wait_for("mark", 20)
        assert [frame["mark"]["name"] for frame in marks] == ["responsePart"] * 20
        await socket.play(b"\x66" * 160)
        await socket.mark("after")
        assert (await socket.wait_for("mark", 21))[20]["mark"]["name"] == "after"
        assert 0.9 <= far_end.heard_seconds() <= 2.5, "most of the four seconds was dropped"


@EVERY_CARRIER
async def test_keys_come_to_the_bot_and_the_far_ends_hanging_up_stops_the_stream_with_1000(carrier: str) -> None:
    async with open_fronted(carrier) as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url), '<Pause length="60"/>')
        far_end = await house.ring()
        socket = await bot.socket()
        await far_end.press("1#")
        keys = await socket.wait_for("dtmf", 2)
        assert [frame["dtmf"] for frame in keys] == [
            {"track": "inbound_track", "digit": "1"},
            {"track": "inbound_track", "digit": "#"},
        ]
        await far_end.hang_up()
        [stop] = await socket.wait_for("stop")
        assert stop["stop"] == {"accountSid": ACCOUNT, "callSid": socket.of("start")[0]["start"]["callSid"]}
        await socket.connection.wait_closed()
        assert socket.connection.close_code == 1000
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


async def test_the_verb_after_a_stream_follows_when_the_bot_closes_it_and_what_it_left_unplayed_is_dropped() -> None:
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(f"{bot.socket_url}/one"), stream(f"{bot.socket_url}/two"))
        far_end = await house.ring()
        first = await bot.socket()
        await first.play(b"\x55" * 8000 * 20)
        await far_end.wait_heard(0.2)
        await first.connection.close()
        second = await bot.socket(1)
        assert second.path == "/two"
        await second.play(b"\x66" * 160)
        await second.mark("heard")
        await second.wait_for("mark")
        assert far_end.heard.endswith(b"\x66" * 160)
        assert far_end.heard_seconds() < 5
        await second.connection.close()
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP


async def test_the_action_of_a_connect_is_asked_when_its_stream_is_over() -> None:
    async with open_fronted("telnyx") as house:
        bot = house.bot
        inner = stream(bot.socket_url).replace("<Connect>", '<Connect action="/next" method="GET">')
        bot.replies["/voice"] = twiml(inner, "<Redirect>/never</Redirect>")
        bot.replies["/next"] = twiml("<Hangup/>")
        far_end = await house.ring()
        await (await bot.socket()).connection.close()
        await house.over(far_end)
        [asked] = bot.told("/next")
        assert (asked.method, asked.genuine, asked.params["CallStatus"]) == ("GET", True, "in-progress")
        assert not bot.told("/never")


async def test_a_streams_own_status_callback_tells_of_its_start_its_end_and_its_error() -> None:
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url, statusCallback=f"{bot.url}/stream", name="mine"))
        far_end = await house.ring()
        socket = await bot.socket()
        await socket.send({"event": "nonsense", "streamSid": socket.sid})
        await house.over(far_end)
        told = await bot.wait_told("/stream", 3)
        assert all(webhook.genuine for webhook in told)
        assert [webhook.params["StreamEvent"] for webhook in told] == [
            "stream-started",
            "stream-stopped",
            "stream-error",
        ]
        assert told[2].params["StreamError"].startswith("31951: ")
        assert {webhook.params["StreamName"] for webhook in told} == {"mine"}


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\x00\x01", 31950),
        ("not JSON", 31950),
        ('{"event":"media","streamSid":"MZother","media":{"payload":""}}', 31951),
        ('{"event":"media","media":{"payload":""}}', 31951),
        ('{"event":"media","streamSid":"SID","media":{"payload":"%%%"}}', 31951),
        ('{"event":"mark","streamSid":"SID"}', 31951),
        ('{"event":"mark","streamSid":"SID","mark":{"name":"' + 1001 * "x" + '"}}', 31951),
        ('{"event":"stop","streamSid":"SID"}', 31951),
    ],
)
async def test_nonsense_ends_the_stream_not_the_call(
    message: bytes | str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_fronted("acme") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url), "<Redirect>/next</Redirect>")
        bot.replies["/next"] = twiml("<Hangup/>")
        far_end = await house.ring()
        socket = await bot.socket()
        await socket.connection.send(message.replace("SID", socket.sid) if isinstance(message, str) else message)
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        assert bot.told("/next")
        assert f": {code}: Stream - " in caplog.text
        assert socket.connection.close_code == 1000


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> list[ClientConnection]:
    """Sockets to the bot, which does not read: after the start nothing more is taken."""
    open_socket = stream_module.open_socket
    opened: list[ClientConnection] = []

    async def to_a_bot_that_does_not_read(url: str, auth_token: str) -> ClientConnection:
        socket = await open_socket(url, auth_token)
        send, sent = socket.send, itertools.count()

        async def sends_twice(message: str) -> None:
            if next(sent) >= 2:
                await asyncio.Event().wait()
            await send(message)

        opened.append(socket)
        monkeypatch.setattr(socket, "send", sends_twice)
        return socket

    monkeypatch.setattr(stream_module, "open_socket", to_a_bot_that_does_not_read)
    return opened


async def test_a_bot_that_does_not_read_its_marks_is_disconnected_and_the_next_verb_follows(
    stuck: list[ClientConnection], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "CONGESTED", 20)
    monkeypatch.setattr(stream_module, "HOPELESS", 200)
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url), "<Redirect>/next</Redirect>")
        bot.replies["/next"] = twiml("<Hangup/>")
        far_end = await house.ring()
        socket = await bot.socket()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(10_000):
                await socket.mark("m")
                await asyncio.sleep(0.01)
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        assert bot.told("/next") and "31930: Stream - upstream congestion: the bot does not read" in caplog.text


async def test_what_fails_in_a_stream_and_is_no_fault_of_the_bots_ends_the_call_with_agent_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(session: MediaSession, name: str) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(MediaSession, "mark", broken)
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url), "<Redirect>/next</Redirect>")
        far_end = await house.ring()
        await (await bot.socket()).mark("m")
        assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR
        assert not bot.told("/next")


async def test_a_bot_that_does_not_read_loses_audio_and_is_cut_off_with_its_call(
    stuck: list[ClientConnection], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "CONGESTED", 20)
    async with open_fronted("telnyx") as house:
        house.bot.replies["/voice"] = twiml(stream(house.bot.socket_url))
        far_end = await house.ring()
        await house.until(lambda: "31930: " in caplog.text)
        await far_end.wait_for("answered")
        await asyncio.sleep(1)
        assert caplog.text.count("31930: ") == 1, "said once"
        assert far_end.state == "answered", "the call goes on"
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
        await house.until(lambda: not house.exchange.switchboard.sessions)
        await stuck[0].wait_closed()


async def test_marks_without_number_end_the_stream_and_as_many_as_are_taken_all_come_back_at_a_clear(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_module, "MARKS", 100)
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url))
        far_end = await house.ring()
        socket = await bot.socket()
        for _ in range(2):
            await socket.play(b"\x55" * 80_000)
            for _ in range(100):
                await socket.mark("m")
            await socket.clear()
        await socket.wait_for("mark", 200)
        await socket.play(b"\x55" * 80_000)
        for _ in range(101):
            await socket.mark("m")
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
    assert "31951: Stream - invalid message: more than 100 marks" in caplog.text


async def test_a_bot_that_sends_minutes_at_once_is_played_to_the_end_and_interrupted_at_once() -> None:
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url))
        far_end = await house.ring()
        socket = await bot.socket()
        for _ in range(60):
            await socket.play(b"\x55" * 8000 * 2)
        await far_end.wait_heard(0.5)
        await socket.clear()
        await socket.mark("cleared")
        await socket.wait_for("mark")
        assert far_end.heard_seconds() < 5
        await far_end.hang_up()
        await house.over(far_end)


async def test_more_than_ten_minutes_are_not_buffered_and_the_bot_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_fronted("telnyx") as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url))
        far_end = await house.ring()
        socket = await bot.socket()
        for _ in range(14):
            await socket.play(b"\x55" * 8000 * 60)
        await socket.clear()
        await socket.mark("cleared")
        await socket.wait_for("mark")
        assert caplog.text.count("31931: ") == 1
        await far_end.hang_up()
        await house.over(far_end)


@EVERY_CARRIER
async def test_ten_seconds_of_random_bytes_are_identical_both_ways(carrier: str) -> None:
    async with open_fronted(carrier) as house:
        bot = house.bot
        bot.replies["/voice"] = twiml(stream(bot.socket_url))
        far_end = await house.ring()
        socket = await bot.socket()
        spoken, played = random.Random(1).randbytes(80_000), random.Random(2).randbytes(80_000)
        said = asyncio.create_task(far_end.say(spoken))
        for start in range(0, len(played), 1600):
            await socket.play(played[start : start + 1600])
        await said
        await socket.mark("end")
        await socket.wait_for("mark", timeout=120)
        await house.until(lambda: spoken in socket.audio())
        assert far_end.heard == played
        assert {len(base64.b64decode(frame["media"]["payload"])) for frame in socket.of("media")} == {160}
        await far_end.hang_up()
        await house.over(far_end)
