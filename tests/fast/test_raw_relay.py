"""Raw audio between a carrier and an agent, on the portable path and on the fast one: the same, whatever happens."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from anycarrier.agent.agent_socket import Address, AgentSocket, connect_portable
from anycarrier.agent.agents import Agents
from anycarrier.agent.shared_engines import Engines
from anycarrier.fast.websocket import FastWebSocket
from anycarrier.media_stream import MAX_FRAME
from anycarrier.session import MediaSession
from fake_carriers import InlineProvider
from media_sockets import Media, RawAgent, RelayFrames, raw_agent, sound


@dataclass
class Line:
    """A call with a raw agent on it, seen from both ends."""

    media: Media
    carrier: ClientConnection
    agent: RawAgent
    session: MediaSession
    socket: AgentSocket

    async def caller_says(self, *numbers: int, plain: bool = True) -> None:
        for number in numbers:
            frame: dict[str, Any] = {"event": "media", "audio": sound(number)}
            await self.carrier.send(json.dumps({**frame, "plain": 1} if plain else frame))

    async def heard(self) -> dict[str, Any]:
        """What the carrier is sent next, but for marks of our own, which it echoes as carriers do."""
        while True:
            frame: dict[str, Any] = json.loads(await asyncio.wait_for(self.carrier.recv(), 30))
            if frame["event"] != "mark":
                return frame
            await self.carrier.send(json.dumps(frame))


@pytest.fixture
async def line(media: Media, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.setattr(InlineProvider, "serializer", lambda self: RelayFrames())
    async with raw_agent() as (agent, url):
        agents = Agents(engines=Engines())
        if not media.fast:
            agents.admission.connect = connect_portable
        opened: list[AgentSocket] = []
        connect = agents.admission.connect

        async def connecting(url: str, headers: Mapping[str, str], address: Address | None) -> AgentSocket:
            opened.append(await connect(url, headers, address))
            return opened[-1]

        agents.admission.connect = connecting
        agents.add("a", websocket_url=url)
        media.exchange.switchboard.agents = agents
        await agents.open(media.exchange.switchboard)
        carrier = await media.join(compression=None, sock=small_socket(media.base))
        await agent.told(lambda said: bool(said))
        (session,) = media.exchange.switchboard.sessions.values()
        yield Line(media, carrier, agent, session, opened[0])
        await carrier.close()
        await agents.aclose()


def small_socket(base: str) -> socket.socket:
    """One whose kernel keeps little for us, so that a peer that does not read is soon felt."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = base.removeprefix("ws://").partition("/")[0].partition(":")
    made.connect((host, int(port)))
    made.setblocking(False)
    return made


def audio(said: list[dict[str, Any]]) -> list[str]:
    return [message["media"]["payload"] for message in said if message["event"] == "media"]


async def relaying(line: Line) -> None:
    """Until plain sound passes untouched."""
    await line.caller_says(0)
    await line.agent.told(lambda said: len(audio(said)) == 1)
    assert line.session.stream.relaying, "the fast path was not taken"


async def test_sound_passes_both_ways_untouched_and_in_order(line: Line) -> None:
    await relaying(line)
    await line.caller_says(*range(1, 200))
    said = await line.agent.told(lambda said: len(audio(said)) == 200)
    assert audio(said) == [sound(number) for number in range(200)]
    stamps = [int(message["media"]["timestamp"]) for message in said if message["event"] == "media"]
    assert stamps == [20 * number for number in range(200)]
    await line.agent.say(*({"event": "media", "media": {"payload": sound(number)}} for number in range(200)))
    back = [await line.heard() for _ in range(200)]
    assert [frame["audio"] for frame in back] == [sound(number) for number in range(200)]
    assert all(frame.get("relayed") for frame in back)


async def test_frames_that_cannot_be_relayed_keep_their_place(line: Line) -> None:
    await relaying(line)
    for number in range(1, 50):
        await line.caller_says(number, plain=number % 3 != 0)
    said = await line.agent.told(lambda said: len(audio(said)) == 50)
    assert audio(said) == [sound(number) for number in range(50)]


async def test_a_frame_too_long_to_be_taken_is_not_relayed_either(line: Line) -> None:
    await relaying(line)
    await line.carrier.send(json.dumps({"event": "media", "audio": "A" * MAX_FRAME, "plain": True}))
    await line.caller_says(1)
    said = await line.agent.told(lambda said: len(audio(said)) == 2)
    assert audio(said) == [sound(0), sound(1)]
    assert line.session.malformed_frames == 1


async def test_what_the_agent_says_and_clears_reaches_the_carrier_in_that_order(line: Line) -> None:
    await relaying(line)
    for number in range(20):
        await line.agent.say(
            {"event": "media", "media": {"payload": sound(number)}},
            {"event": "clear"},
            {"event": "media", "media": {"payload": sound(1000 + number)}},
        )
    for number in range(20):
        assert (await line.heard())["audio"] == sound(number)
        assert (await line.heard())["event"] == "clear"
        assert (await line.heard())["audio"] == sound(1000 + number)


async def test_a_mark_of_the_agents_comes_back_when_playback_gets_there(line: Line) -> None:
    await relaying(line)
    await line.agent.say({"event": "media", "media": {"payload": sound(1)}}, {"event": "mark", "mark": {"name": "m"}})
    assert (await line.heard())["audio"] == sound(1)
    await line.agent.say({"event": "media", "media": {"payload": sound(2)}})
    await line.heard()  # echoes the mark on its way
    said = await line.agent.told(lambda said: said[-1]["event"] == "mark")
    assert said[-1]["mark"] == {"name": "m"}


async def test_a_key_reaches_the_agent_while_sound_is_relayed(line: Line) -> None:
    await relaying(line)
    await line.carrier.send(json.dumps({"event": "dtmf", "digit": "5"}))
    said = await line.agent.told(lambda said: said[-1]["event"] == "dtmf")
    assert said[-1]["dtmf"] == {"digit": "5"}


@pytest.mark.parametrize("payload", ['!!"!', "A", "", "AAAA AAAA", "å" * 216, 7, None])
async def test_what_is_no_sound_never_reaches_the_carrier(line: Line, payload: object) -> None:
    await relaying(line)
    await line.agent.say(
        {"event": "media", "media": {"payload": payload}}, {"event": "media", "media": {"payload": sound(1)}}
    )
    assert (await line.heard())["audio"] == sound(1)


async def test_how_much_was_heard_is_right_while_relaying(line: Line) -> None:
    await relaying(line)
    await line.agent.say(*({"event": "media", "media": {"payload": sound(number)}} for number in range(250)))
    for _ in range(250):
        await line.heard()
    assert line.session.sent == pytest.approx(5.0)
    await line.agent.say({"event": "clear"})
    assert (await line.heard())["event"] == "clear"
    # This carrier plays at once what it is sent, and says so by its marks, the last of them at most two seconds back.
    assert 3.0 <= line.session.heard <= 5.0


async def test_a_recorder_that_fails_costs_neither_side_its_sound(line: Line) -> None:
    class Full:
        def fail(self, *_: object) -> None:
            raise OSError("No space left on device")

        caller = agent = cut = fail

    await relaying(line)
    line.session.tap = Full()
    await line.caller_says(*range(1, 20))
    await line.agent.told(lambda said: len(audio(said)) == 20)
    await line.agent.say(*({"event": "media", "media": {"payload": sound(number)}} for number in range(20)))
    for number in range(20):
        assert (await line.heard())["audio"] == sound(number)
    assert not line.session.ended


async def test_a_recorder_hears_both_sides_of_relayed_sound(line: Line) -> None:
    class Tape:
        def __init__(self) -> None:
            self.heard: dict[str, bytes] = {"caller": b"", "agent": b""}

        def caller(self, payload: bytes) -> None:
            self.heard["caller"] += payload

        def agent(self, payload: bytes, starts_in: float) -> None:
            self.heard["agent"] += payload

        def cut(self) -> None:
            pass

    await relaying(line)
    tape = line.session.tap = Tape()
    await line.caller_says(*range(1, 20))
    await line.agent.told(lambda said: len(audio(said)) == 20)
    await line.agent.say(*({"event": "media", "media": {"payload": sound(number)}} for number in range(20)))
    for _ in range(20):
        await line.heard()
    assert tape.heard["caller"] == b"".join(base64.b64decode(sound(number)) for number in range(1, 20))
    assert tape.heard["agent"] == b"".join(base64.b64decode(sound(number)) for number in range(20))
    line.session.tap = None
    await line.caller_says(*range(20, 40))
    said = await line.agent.told(lambda said: len(audio(said)) == 40)
    assert audio(said) == [sound(number) for number in range(40)]
    assert len(tape.heard["caller"]) == sum(len(base64.b64decode(sound(number))) for number in range(1, 20))


async def test_an_agent_that_stops_reading_loses_sound_but_no_key_and_holds_nobody_up(line: Line) -> None:
    await relaying(line)
    assert line.agent.socket is not None
    line.agent.reading.clear()
    line.agent.socket.transport.pause_reading()  # type: ignore[attr-defined]
    for _ in range(500):
        await line.caller_says(*range(100))
        await line.carrier.send(json.dumps({"event": "dtmf", "digit": "1"}))
        await asyncio.wait_for(await line.carrier.ping(), 30)  # we are read, whatever the agent does
        if line.socket.dropped_frames:
            break
    assert line.socket.dropped_frames, "nothing was dropped: kept where, and until when?"
    assert not line.session.ended
    line.agent.reading.set()
    line.agent.socket.transport.resume_reading()  # type: ignore[attr-defined]
    await line.carrier.send(json.dumps({"event": "dtmf", "digit": "9"}))
    said = await line.agent.told(lambda said: said[-1].get("dtmf") == {"digit": "9"})
    keys = [message["dtmf"]["digit"] for message in said if message["event"] == "dtmf"]
    assert keys == ["1"] * (len(keys) - 1) + ["9"]
    assert len(audio(said)) + line.socket.dropped_frames == 1 + 100 * (len(keys) - 1)


async def test_a_carrier_that_stops_reading_piles_nothing_up_and_misses_nothing(line: Line) -> None:
    await relaying(line)
    line.carrier.transport.pause_reading()  # type: ignore[attr-defined]
    blocks = [base64.b64encode(number.to_bytes(4, "big") * 1500).decode() for number in range(300)]
    talking = asyncio.ensure_future(line.agent.say(*({"event": "media", "media": {"payload": b}} for b in blocks)))
    transport = line.session.stream.transport
    if isinstance(transport, FastWebSocket):
        async with asyncio.timeout(30):
            while not transport.paused:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)  # whatever is still on its way may come: none of it is to be piled up
        assert transport.behind < 300_000
    line.carrier.transport.resume_reading()  # type: ignore[attr-defined]
    for block in blocks:
        assert (await line.heard())["audio"] == block
    await talking


async def test_the_agent_hanging_up_ends_the_call_and_the_caller_hanging_up_tells_the_agent(line: Line) -> None:
    await relaying(line)
    await line.carrier.send(json.dumps({"event": "stop"}))
    said = await line.agent.told(lambda said: said[-1]["event"] == "stop")
    assert said[-1]["reason"] == "carrier_hangup"
    await asyncio.wait_for(line.agent.closed.wait(), 30)


async def test_stop_hangs_up_at_once(line: Line) -> None:
    await relaying(line)
    await line.agent.say({"event": "media", "media": {"payload": sound(1)}}, {"event": "stop"})
    async with asyncio.timeout(30):
        while ("hang_up", "in-1") not in InlineProvider.log:
            await asyncio.sleep(0.005)
