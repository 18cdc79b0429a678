"""Keys by either path: the caller's arrive once, ours go where the carrier takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from anycarrier import DigitPressed, Exchange, MediaSession, UnknownEvent
from anycarrier.call_watch import MOST_EARLY_KEYS
from anycarrier.errors import StreamNotOpen
from anycarrier.media_stream import PAIRED_WITHIN, KeyPresses
from core.conftest import OURS, connect, logged, post, ring, ticket_in
from fake_carriers import CommandProvider, FakeFrames, InlineProvider


class Line:
    """A call with a session here; ``pressed`` are the keys it yielded."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.pressed: list[DigitPressed] = []

    async def talk(self, session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, DigitPressed):
                self.pressed.append(event)

    async def keys(self, count: int) -> str:
        async with asyncio.timeout(2):
            while len(self.pressed) < count:
                await asyncio.sleep(0)
        return "".join(key.digit for key in self.pressed)


async def test_a_key_told_by_webhook_reaches_the_session_and_one_told_twice_counts_once(exchange: Exchange) -> None:
    line = Line(exchange)
    exchange.switchboard.agents = line.talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    async with asyncio.timeout(2):
        while not exchange.switchboard.sessions:
            await asyncio.sleep(0)
    await post(exchange, event="digit", id="in-1", digit="7", event_id="e-1")
    assert await line.keys(1) == "7"
    assert line.pressed[0].raw["event_id"] == "e-1", "the carrier's own words, whichever way they came"
    transport.say(event="dtmf", digit="7")  # the same key, by the stream
    transport.say(event="dtmf", digit="8")
    assert await line.keys(2) == "78"
    await post(exchange, event="digit", id="in-1", digit="8", event_id="e-2")
    await post(exchange, event="digit", id="in-1", digit="88", event_id="e-3")  # several keys in one webhook
    assert await line.keys(4) == "7888"
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    await post(exchange, event="digit", id="in-1", digit="9", event_id="e-4")  # too late, and no error


async def test_keys_told_before_the_media_socket_connects_are_kept_for_the_session(exchange: Exchange) -> None:
    line = Line(exchange)
    exchange.switchboard.agents = line.talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    ticket = ticket_in(await ring(exchange))
    for at, digit in enumerate("47"):
        await post(exchange, event="digit", id="in-1", digit=digit, event_id=f"e-{at}")
    for at in range(2 * MOST_EARLY_KEYS):  # somebody leans on a key
        await post(exchange, event="digit", id="in-1", digit="0", event_id=f"more-{at}")
    transport, serving = await connect(exchange, ticket, "in-1")
    assert await line.keys(MOST_EARLY_KEYS) == "47" + "0" * (MOST_EARLY_KEYS - 2)
    transport.say(event="dtmf", digit="8")
    assert (await line.keys(MOST_EARLY_KEYS + 1))[-1] == "8", "the bounded number, and then those of the stream"
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)


async def test_what_is_no_key_reaches_nobody_as_one(exchange: Exchange) -> None:
    line, unknown = Line(exchange), []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, DigitPressed):
                line.pressed.append(event)
            elif isinstance(event, UnknownEvent):
                unknown.append(event)

    exchange.switchboard.agents = talk
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    transport, serving = await connect(exchange, ticket_in(await ring(exchange)), "in-1")
    for at, text in enumerate(("hello", "", "12", "<", "x" * 100)):
        transport.say(event="dtmf", digit=text)
        await post(exchange, event="digit", id="in-1", digit="1;" if text == "12" else text, event_id=f"e-{at}")
    transport.say(event="dtmf", digit="c")
    assert await line.keys(1) == "C"
    transport.say(event="stop")
    await asyncio.wait_for(serving, 2)
    assert [key.digit for key in line.pressed] == ["C"]
    assert {event.kind for event in unknown} == {"digit"} and max(len(event.raw["digit"]) for event in unknown) == 40


STREAM, WEBHOOK = "stream", "webhook"


@pytest.mark.parametrize(
    ("reports", "counted"),
    [
        ([(STREAM, "1"), (WEBHOOK, "1")], "1"),
        ([(WEBHOOK, "1"), (STREAM, "1")], "1"),
        ([(STREAM, "1"), (STREAM, "1"), (WEBHOOK, "1"), (WEBHOOK, "1")], "11"),
        ([(STREAM, "1"), (WEBHOOK, "1"), (STREAM, "1"), (WEBHOOK, "1")], "11"),
        ([(STREAM, "1"), (STREAM, "2"), (WEBHOOK, "2"), (WEBHOOK, "1")], "12"),  # webhooks in no order
        ([(STREAM, "1"), (STREAM, "1"), (STREAM, "1")], "111"),  # a carrier with one path
        ([(WEBHOOK, "1"), (WEBHOOK, "1")], "11"),
        ([(STREAM, "1"), (WEBHOOK, "1"), (WEBHOOK, "1")], "11"),  # the stream lost one
    ],
)
def test_each_key_press_counts_once(reports: Sequence[tuple[str, str]], counted: str) -> None:
    keys = KeyPresses()
    new = [digit for at, (path, digit) in enumerate(reports) if keys.is_new(digit, path, float(at))]
    assert "".join(new) == counted


def test_a_key_long_after_another_is_no_second_report_of_it() -> None:
    keys = KeyPresses()
    assert keys.is_new("1", STREAM, 0.0)
    assert not keys.is_new("1", WEBHOOK, PAIRED_WITHIN)
    assert keys.is_new("1", STREAM, 100.0) and keys.is_new("1", WEBHOOK, 100.1 + PAIRED_WITHIN)


class SocketKeys(FakeFrames):
    """Takes digits on the media socket, but no pauses."""

    def encode_digits(self, digits: str) -> list[str] | None:
        return None if "w" in digits else [frame for digit in digits for frame in self._frame(event="key", digit=digit)]


@pytest.mark.parametrize(("credential", "provider"), [("main", InlineProvider), ("other", CommandProvider)])
@pytest.mark.parametrize("digits", ["5#", "5w#"])
async def test_keys_of_ours_go_over_the_media_socket_where_the_carrier_takes_them_there(
    exchange: Exchange,
    monkeypatch: pytest.MonkeyPatch,
    credential: str,
    provider: type[InlineProvider],
    digits: str,
) -> None:
    async def press(session: MediaSession) -> None:
        await session.send_digits(digits)

    monkeypatch.setattr(provider, "serializer", lambda self: SocketKeys())
    exchange.switchboard.agents = press
    await exchange.assign(OURS, agent_id="a", credential_id=credential)
    await ring(exchange, credential=credential, provider=provider.name)
    async with asyncio.timeout(2):
        while not (answers := logged("answer", provider)):
            await asyncio.sleep(0)
    transport, serving = await connect(exchange, answers[0][2].url.rpartition("/")[2], "in-1")
    await asyncio.wait_for(serving, 2)
    keys = [message["digit"] for message in transport.sent if message["event"] == "key"]
    tones = [message for message in transport.sent if message["event"] == "media"]
    commands = logged("digits", provider)
    if digits == "5#":
        assert (keys, tones, commands) == (["5", "#"], [], [])
    elif provider is CommandProvider:
        assert (keys, tones, commands) == ([], [], [("digits", "in-1", "5w#")])
    else:
        assert (keys, commands) == ([], []) and len(tones) == 1


async def test_keys_for_a_stream_that_is_not_open_are_our_error() -> None:
    with pytest.raises(StreamNotOpen):
        SocketKeys().encode_digits("1")
