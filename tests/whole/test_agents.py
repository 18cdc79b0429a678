"""All four modes of the agent's WebSocket on every carrier's sandbox; the agent is plain ``websockets``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent_server import AgentServer, Conversation, agent_server
from anycarrier import Call, EndReason
from anycarrier.agent.agents import Agents
from anycarrier.agent.analysis import FinishedCall
from anycarrier.agent.shared_engines import Engines
from anycarrier.wav import read_wav
from fake_speech import FakeEngine, notes, told
from whole.conftest import OURS, House

TONE = bytes(range(40, 80)) * 200  # one second, every byte of it to be recognised


class Staffed:
    """A house whose line is answered by agents."""

    def __init__(self, house: House, folder: Path, *words: str) -> None:
        self.house = house
        self.engine = FakeEngine(*words)
        engines = Engines()
        engines.add(self.engine)
        self.done: asyncio.Queue[FinishedCall] = asyncio.Queue()
        self.agents = Agents(engines=engines, finished=self.done.put, analyzers=[], recordings=folder)

    async def finished(self) -> FinishedCall:
        async with asyncio.timeout(30):
            return await self.done.get()


@contextlib.asynccontextmanager
async def staffed(house: House, folder: Path, *words: str) -> AsyncIterator[Staffed]:
    staff = Staffed(house, folder, *words)
    house.exchange.switchboard.agents, house.exchange.switchboard.router = staff.agents, staff.agents.router
    await staff.agents.open(house.exchange.switchboard)
    try:
        yield staff
    finally:
        await staff.agents.aclose()


def put(staff: Staffed, server: AgentServer, **settings: object) -> None:
    staff.agents.add("front-desk", websocket_url=server.url, settings=settings)


def sentence(words: int) -> bytes:
    """What the engine makes of so many words."""
    return b"".join(bytes((n,)) * 480 for n in range(1, words + 1))


async def heard(far_end_heard: Callable[[], bytes], wanted: bytes, timeout: float = 30) -> None:
    async with asyncio.timeout(timeout):
        while wanted not in far_end_heard():
            await asyncio.sleep(0.02)


async def test_text_mode_from_ring_to_hang_up(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.say("One two three.", "g1")
        await c.until(lambda: [m for m in c.of("transcript") if m["is_final"]])
        await c.send(event="text", delta="word. " * 100, turn_id="g2")
        await c.until(lambda: c.of("barge_in"))
        await c.until(lambda: len([m for m in c.of("transcript") if m["is_final"]]) == 2)
        await c.say("Good bye.", "g3")
        await c.send(event="mark", mark={"name": "said"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server, staffed(house, tmp_path, "a table please", "wait") as staff:
        put(staff, server, enable_recording=True)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await heard(lambda: far_end.heard, sentence(3))
        await far_end.say(TONE[:4000])
        c = await server.conversation()
        await c.until(lambda: c.of("transcript"))
        await heard(lambda: far_end.heard, sentence(3) + b"\x01" * 4800)
        await far_end.say(TONE[:4000])
        await far_end.wait_for("ended")
        finished = await staff.finished()
    said = told(finished)
    assert said[:2] == [("local", "One two three."), ("remote", "a table please")]
    cut = said[2][1].split()
    assert 10 <= len(cut) <= 40 and set(cut) == {"word."}
    assert said[3:] == [("remote", "wait"), ("local", "Good bye.")]
    assert finished.reason is EndReason.AGENT_HANGUP and finished.barge_ins == 1
    played = far_end.heard
    assert played.startswith(sentence(3) + b"\x01" * 4800) and played.endswith(sentence(2))
    beyond = played[len(sentence(3)) : -len(sentence(2))]
    assert abs(len(beyond) / 480 - len(cut)) <= 3, "the transcript says what was heard, not what was sent"
    assert c.received[0]["start"]["call_control_id"] == far_end.call_id
    assert [m["event"] for m in c.received].index("barge_in") < next(
        n for n, m in enumerate(c.received) if m["event"] == "transcript" and m["text"] == "wait"
    )
    assert finished.recording is not None
    format, audio = read_wav(finished.recording)
    assert format.channels == 2 and abs(format.seconds(len(audio)) - finished.seconds) < 0.5


async def test_with_its_own_ears(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: TONE in c.audio())
        await c.send(event="transcript", party="remote", text="a tone", is_final=True)
        await c.say("One two.")
        await c.closed.wait()

    async with agent_server(talk, stt=False) as server, staffed(house, tmp_path) as staff:
        put(staff, server)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.say(TONE)
        await heard(lambda: far_end.heard, sentence(2))
        await far_end.press("7")
        c = await server.conversation()
        await c.until(lambda: c.of("dtmf"))
        await far_end.hang_up()
        finished = await staff.finished()
    assert told(finished) == [("remote", "a tone"), ("local", "One two.")]
    assert finished.reason is EndReason.USER_HANGUP
    await c.until(lambda: c.of("stop"))
    assert c.of("stop")[0]["reason"] == "carrier_hangup" and c.of("transcript") == []


async def test_with_its_own_voice(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.play(TONE, 1000)
        await c.send(event="transcript", party="local", text="a tone", is_final=True)
        await c.until(lambda: [m for m in c.of("transcript") if m["is_final"]])
        await c.play(TONE * 5, 1000)
        await c.until(lambda: c.of("barge_in"))
        await c.send(event="clear")
        await c.hang_up()

    async with agent_server(talk, tts=False) as server, staffed(house, tmp_path, "hello", "stop") as staff:
        put(staff, server)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await heard(lambda: far_end.heard, TONE)
        await asyncio.sleep(0.1)
        await far_end.say(TONE[:3200])
        await heard(lambda: far_end.heard, TONE + TONE[:2000])
        with contextlib.suppress(RuntimeError):  # the agent may hang up while we still speak
            await far_end.say(TONE)
        await far_end.wait_for("ended")
        finished = await staff.finished()
    c = server.conversations[0]
    assert told(finished)[:2] == [("local", "a tone"), ("remote", "hello")]
    assert [m["tts_interrupted"] for m in c.of("barge_in")] == [False] and c.of("media") == []
    assert len(far_end.heard) < 5 * len(TONE), "what was cleared was not played"


async def test_raw_audio_both_ways(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.play(TONE)
        await c.until(lambda: TONE in c.audio())
        await c.send(event="mark", mark={"name": "end"})
        await c.until(lambda: c.of("mark"))
        await c.send(event="transcript", party="local", text="a tone", is_final=True)
        await c.hang_up()

    async with agent_server(talk, tts=False, stt=False) as server, staffed(house, tmp_path) as staff:
        put(staff, server, enable_recording=True)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.say(TONE)
        await far_end.wait_for("ended")
        finished = await staff.finished()
    assert far_end.heard == TONE
    assert told(finished) == [("local", "a tone")] and finished.reason is EndReason.AGENT_HANGUP
    assert finished.recording is not None and notes(finished, "mode")[0]["tts"] is False
    _, audio = read_wav(finished.recording)
    left, right = audio[0::4] + audio[1::4], audio[2::4] + audio[3::4]
    assert any(left) and any(right)


async def test_our_call_reaches_the_agent_once_it_is_answered(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.say("One two.")
        await c.closed.wait()

    async with agent_server(talk) as server, staffed(house, tmp_path) as staff:
        put(staff, server, max_duration_seconds=1.5)
        call, far_end = await house.dial()
        await heard(lambda: far_end.heard, sentence(2))
        finished = await staff.finished()
        ended: Call = await house.over(call)
    c = server.conversations[0]
    assert ended.reason is EndReason.MAX_DURATION and finished.call.duration > 0
    assert c.of("stop")[0]["reason"] == "max_duration"
    assert f'"call_id":"{call.reference}"' in c.headers["X-Call-Context"]


async def test_a_call_is_answered_only_once_an_agent_has_accepted_it(house: House, tmp_path: Path) -> None:
    async with agent_server(refuse=503) as server, staffed(house, tmp_path) as staff:
        put(staff, server)
        far_end = await house.ring()
        await far_end.wait_for("ended")
        call = await house.over(far_end)
    assert call.answered_at is None and call.reason is EndReason.AGENT_ERROR, "503: it cannot be reached"
    assert len(server.requests) == 1 and house.sessions == []


async def test_the_fallback_takes_the_call_and_when_nobody_does_the_caller_is_told(
    house: House, tmp_path: Path
) -> None:
    async def talk(c: Conversation) -> None:
        await c.say("One.")
        await c.send(event="mark", mark={"name": "said"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(refuse=503) as away, agent_server(talk) as server:
        async with staffed(house, tmp_path) as staff:
            put(staff, away, fallback_agent_id="second", voicemail_message="Nobody is here.")
            staff.agents.add("second", websocket_url=server.url)
            far_end = await house.ring(to=OURS)
            await far_end.wait_for("ended")
            first = await staff.finished()
            assert (first.agent_id, first.call.agent_id, told(first)) == ("second", "second", [("local", "One.")])
            server.refuse = 500
            far_end = await house.ring(to=OURS)
            await far_end.wait_for("ended")
            finished = await staff.finished()
            assert len(away.requests) == 2 and len(server.requests) == 2, "once refused, nobody is asked again"
    assert told(finished) == [("local", "Nobody is here.")] and finished.reason is EndReason.AGENT_ERROR
    assert far_end.heard == sentence(3)


async def test_a_caller_who_gives_up_leaves_no_socket_behind(house: House, tmp_path: Path) -> None:
    async with agent_server() as server, staffed(house, tmp_path) as staff:
        put(staff, server)
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.hang_up()
        c = await server.conversation()
        await asyncio.wait_for(c.closed.wait(), 30)
        assert (await staff.finished()).reason is EndReason.USER_HANGUP
    assert [m["event"] for m in c.received if m["event"] != "transcript"] == ["start", "stop"]


@pytest.mark.parametrize("house", ["twilio", "telnyx"], indirect=True)
async def test_a_message_is_left_on_a_machine_after_its_greeting(house: House, tmp_path: Path) -> None:
    async with agent_server() as server, staffed(house, tmp_path) as staff:
        settings = {"on_voicemail": "leave_message", "voicemail_message": "Call us back please."}
        put(staff, server, voicemail_detection=True, max_duration_seconds=60, **settings)
        call, far_end = await house.dial("+15005550105")
        await far_end.wait_for("ended")
        finished = await staff.finished()
        assert (await house.over(call)).reason is EndReason.VOICEMAIL
    assert told(finished) == [("local", "Call us back please.")] and far_end.heard == sentence(4)
    c = server.conversations[0]
    assert c.of("stop")[0]["reason"] == "voicemail"


@pytest.mark.parametrize("house", ["twilio"], indirect=True)
async def test_a_dials_variables_reach_the_greeting_and_the_agents_socket(house: House, tmp_path: Path) -> None:
    async with agent_server() as server, staffed(house, tmp_path) as staff:
        put(staff, server, first_message="{{count}} two.", dynamic_variables={"count": "Three", "kept": "yes"})
        call, far_end = await house.dial(variables={"count": "One"})
        await far_end.wait_heard(0.1)
        await far_end.hang_up()
        finished = await staff.finished()
    assert told(finished)[0] == ("local", "One two.")
    assert finished.variables == {"count": "One", "kept": "yes"}
    assert finished.reference == call.reference and finished.call.id == call.id
    assert call.time_limit == 600, "the agent's own limit, since none was given"


@pytest.mark.parametrize("house", ["twilio"], indirect=True)
async def test_what_the_dial_names_stands_before_the_agents_settings(house: House, tmp_path: Path) -> None:
    async with agent_server() as server, staffed(house, tmp_path) as staff:
        put(staff, server, max_duration_seconds=60)
        call, far_end = await house.dial(time_limit=20)
        await far_end.hang_up()
    assert call.time_limit == 20


@pytest.mark.parametrize("house", ["twilio"], indirect=True)
async def test_an_agent_by_python_function_needs_no_socket(house: House, tmp_path: Path) -> None:
    async with staffed(house, tmp_path) as staff:
        staff.agents.add("front-desk", handler="whole.test_agents:greeter")
        far_end = await house.ring()
        await far_end.wait_for("ended")
        assert told(await staff.finished()) == [("local", "One two.")]
    assert far_end.heard == sentence(2)


@pytest.mark.parametrize("house", ["twilio"], indirect=True)
@pytest.mark.parametrize("opened", [True, False])
async def test_a_finished_callback_that_fails_is_called_that(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture, opened: bool
) -> None:
    done = asyncio.Event()

    async def mine(finished: FinishedCall) -> None:
        done.set()
        raise LookupError("no such row of mine")

    async with staffed(house, tmp_path) as staff:
        staff.agents.call_handler.finished = mine
        if not opened:  # agents in an exchange that was mounted and never started
            staff.agents.call_handler.switchboard = None
        staff.agents.add("front-desk", handler="whole.test_agents:greeter")
        far_end = await house.ring()
        await far_end.wait_for("ended")
        await asyncio.wait_for(done.wait(), 30)
        async with asyncio.timeout(30):
            while "no such row of mine" not in caplog.text:
                await asyncio.sleep(0)
    assert "the finished callback failed after call" in caplog.text
    assert "agent front-desk failed" not in caplog.text


async def greeter(call) -> None:  # type: ignore[no-untyped-def]
    """Registered by its dotted path above."""
    await call.say("One two.")
