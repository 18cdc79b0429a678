"""Agents on their own WebSocket: the four modes, and what becomes of those that misbehave."""

from __future__ import annotations

import asyncio
import json

import pytest

from agent_server import AgentServer, Conversation, agent_server
from anycarrier import EndReason
from anycarrier.agent import admission, agent_socket, bridge, budget
from anycarrier.agent.agent import CallSetup
from anycarrier.agent.protocol import signature
from anycarrier.agent.transcript import MemoryTranscript
from anycarrier.errors import UnsupportedOperation
from fake_speech import FRAME, REFERENCE, SPEECH, Desk, Line, notes, told


@pytest.fixture(params=["portable", "fast"], autouse=True)
def opener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to connect to an agent behave alike."""
    if request.param == "fast":
        pytest.importorskip("picows")
    connect = agent_socket.connect_portable if request.param == "portable" else agent_socket.connect_fast
    monkeypatch.setattr(admission, "best_connect", lambda: connect)


async def stay(line: Line) -> None:
    await line.until(lambda: line.session.ended, timeout=10)


def desk_for(server: AgentServer, *words: str, **settings: object) -> Desk:
    desk = Desk(*words)
    desk.agents.add("desk", websocket_url=server.url, settings=settings, signing_key="whsec_k", headers={"X-Mine": "1"})
    return desk


async def test_the_handshake_carries_the_call_and_is_signed_and_the_first_frame_is_start() -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: c.received)
        await c.hang_up()

    async with agent_server(talk) as server:
        await desk_for(server).call(None, stay)
    c = server.conversations[0]
    context = json.loads(c.headers["X-Call-Context"])
    assert context["phone_number"] == "+14155550101" and context["remote_phone_number"] == "+12125550123"
    assert (context["call_id"], context["direction"]) == (REFERENCE, "inbound")
    signed = signature(
        "whsec_k",
        c.headers["X-Inkbox-Request-ID"],
        int(c.headers["X-Inkbox-Timestamp"]),
        c.headers["X-Call-Context"].encode(),
    )
    assert c.headers["X-Inkbox-Signature"] == signed
    assert c.path == "/agent?token=t-1" and c.headers["X-Mine"] == "1"
    assert c.received[0]["event"] == "start" and c.received[0]["start"]["call_control_id"] == "leg-1"
    assert c.received[-1]["event"] == "stop"
    assert [m["event"] for m in c.received].count("start") == 1


async def test_text_both_ways_with_a_barge_in_before_the_words_that_caused_it() -> None:
    async def talk(c: Conversation) -> None:
        await c.send(event="text", delta="word. " * 60, turn_id="g1", done=False)
        await c.until(lambda: [m for m in c.of("transcript") if m["is_final"]])
        await c.send(event="text", delta="too late. ", turn_id="g1")  # of the turn that was cut
        await c.say("Of course.", "g2")
        await c.until(lambda: c.of("dtmf"))
        await c.hang_up()

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        await line.utter(0.4)
        await line.breathe(0.4)
        line.press("5")
        await stay(line)

    async with agent_server(talk) as server:
        desk = desk_for(server, "wait a second")
        line, finished = await desk.call(None, caller)
    c = server.conversations[0]
    events = [m["event"] for m in c.received]
    assert events.index("barge_in") < events.index("transcript")
    cut = c.of("barge_in")[0]
    finals = [m for m in c.of("transcript") if m["is_final"]]
    assert (cut["trigger"], cut["tts_interrupted"], cut["turn_id"]) == ("caller_speech", True, finals[0]["turn_id"])
    assert [m["text"] for m in finals] == ["wait a second"] and finals[0]["party"] == "remote"
    assert any(not m["is_final"] and m["turn_id"] == finals[0]["turn_id"] for m in c.of("transcript"))
    assert c.of("dtmf")[0]["dtmf"] == {"digit": "5"} and c.of("media") == []
    assert "too late." not in desk.engine.spoken
    heard = told(finished)
    assert heard[0][0] == "local" and 5 <= len(heard[0][1].split()) <= 25
    assert heard[1:] == [("remote", "wait a second"), ("local", "Of course.")]
    assert finished.reason is EndReason.AGENT_HANGUP and line.hang_ups == [EndReason.AGENT_HANGUP]
    assert notes(finished, "mode")[0]["tts"] is True and notes(finished, "mode")[0]["stt"] is True


async def test_with_its_own_ears_the_agent_gets_sound_and_its_transcript_is_kept() -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: len(c.audio()) >= 8000)
        await c.send(event="transcript", party="remote", text="half", is_final=False)
        await c.send(event="transcript", party="remote", text="half a second", is_final=True)
        await c.send(event="transcript", party="local", text="a second copy", is_final=True)
        await c.say("I heard you.")
        await c.send(event="mark", mark={"name": "done"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async def caller(line: Line) -> None:
        await line.say(1.0)
        await stay(line)

    async with agent_server(talk, stt=False) as server:
        _, finished = await desk_for(server, "never asked").call(None, caller)
    c = server.conversations[0]
    assert c.audio().startswith(SPEECH * 8000) and c.of("transcript") == [] and c.of("barge_in") == []
    assert [m["media"]["timestamp"] for m in c.of("media")][:3] == ["0", "20", "40"]
    assert c.of("mark")[0]["mark"]["name"] == "done"
    assert told(finished) == [("remote", "half a second"), ("local", "I heard you.")]


async def test_with_its_own_voice_the_agents_audio_is_played_and_clearing_is_its_own() -> None:
    tone = bytes(range(50, 90)) * 400

    async def talk(c: Conversation) -> None:
        await c.send(event="text", delta="not mine to speak", done=True)
        await c.play(tone)
        await c.send(event="transcript", party="local", text="tone", is_final=True)
        await c.until(lambda: c.of("barge_in"))
        await c.send(event="clear")
        await c.until(lambda: [m for m in c.of("transcript") if m["is_final"]])
        await c.hang_up()

    async def caller(line: Line) -> None:
        await line.breathe(0.3)
        await line.utter(0.5)
        await stay(line)

    async with agent_server(talk, tts=False) as server:
        desk = desk_for(server, "stop it")
        line, finished = await desk.call(None, caller)
    c = server.conversations[0]
    assert line.heard() == tone and desk.engine.spoken == []
    assert [m["tts_interrupted"] for m in c.of("barge_in")] == [False]
    assert len(line.frames("clear")) == 1 and c.of("media") == []
    assert told(finished) == [("local", "tone"), ("remote", "stop it")]


async def test_raw_audio_passes_both_ways_and_none_of_it_is_lost_while_the_agent_picks_up() -> None:
    tone = bytes(range(50, 90)) * 100

    async def talk(c: Conversation) -> None:
        await c.play(tone, 320)
        await c.until(lambda: len(c.audio()) >= 16000)
        await c.send(event="transcript", party="local", text="tone", is_final=True)
        await c.send(event="transcript", text="from the caller", is_final=True)
        await c.hang_up()

    async def caller(line: Line) -> None:
        for n in range(100):
            line.transport.say(event="media", audio=(bytes((n,)) * FRAME).decode("latin-1"))
            await asyncio.sleep(0.005)
        await stay(line)

    async with agent_server(talk, tts=False, stt=False, delay=0.3) as server:
        line, finished = await desk_for(server).call(None, caller)
    c = server.conversations[0]
    assert c.audio() == b"".join(bytes((n,)) * FRAME for n in range(100))
    assert line.heard() == tone
    assert told(finished) == [("local", "tone"), ("remote", "from the caller")]
    assert {m["event"] for m in c.received} == {"start", "media", "stop"}


async def test_clearing_in_text_mode_stops_the_voice_and_forgets_what_waits() -> None:
    async def talk(c: Conversation) -> None:
        await c.say("word " * 60, "g1")
        await c.say("this waits behind it", "g2")
        await asyncio.sleep(0.3)
        await c.send(event="clear")
        await c.say("And now this.", "g3")
        await c.send(event="mark", mark={"name": "heard"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server:
        line, finished = await desk_for(server).call(None, stay)
    heard = told(finished)
    assert 1 <= len(heard[0][1].split()) <= 12 and heard[1:] == [("local", "And now this.")]
    assert len(line.frames("clear")) == 1


async def test_of_a_mark_that_the_agent_clears_itself_nothing_is_told() -> None:
    async def talk(c: Conversation) -> None:
        await c.play(bytes(range(50, 90)) * 400, 1600)
        await c.send(event="mark", mark={"name": "cut"})
        await c.send(event="clear")
        await c.send(event="mark", mark={"name": "after"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk, tts=False, stt=False) as server:
        await desk_for(server).call(None, stay)
    assert [m["mark"]["name"] for m in server.conversations[0].of("mark")] == ["after"]
    assert {m["event"] for m in server.conversations[0].received} <= {"start", "media", "mark", "stop"}


async def test_a_turn_without_done_is_spoken_after_a_moment() -> None:
    async def talk(c: Conversation) -> None:
        await c.send(event="text", delta="no full stop and no done")
        await c.until(lambda: False, timeout=2.5)

    async with agent_server(talk) as server:
        desk = desk_for(server)

        async def caller(line: Line) -> None:
            await line.until(lambda: bool(desk.engine.spoken))
            await line.breathe(0.5)
            line.end()

        _, finished = await desk.call(None, caller)
    assert told(finished) == [("local", "no full stop and no done")] and finished.seconds > 1


async def test_the_settings_of_an_agent_on_its_own_socket_are_honoured() -> None:
    async with agent_server() as server:
        desk = desk_for(server, first_message="Hello {{who}}.", silence_timeout_seconds=0.6)
        desk.agents.prepare(REFERENCE, setup := CallSetup(variables={"who": "you"}, call_id="call_9"))
        _, finished = await desk.call(None, stay)
    assert told(finished) == [("local", "Hello you.")] and finished.reason is EndReason.SILENCE_TIMEOUT
    stop = server.conversations[0].received[-1]
    assert (stop["event"], stop["reason"], stop.get("hangup_reason")) == ("stop", "silence_timeout", "local")
    assert json.loads(server.conversations[0].headers["X-Call-Context"])["call_id"] == "call_9"
    assert isinstance(setup.transcript, MemoryTranscript)
    assert [s.text for s in setup.transcript.segments] == ["Hello you."]


async def test_who_talks_to_an_agent_with_ears_of_its_own_is_not_silent() -> None:
    async def caller(line: Line) -> None:
        await line.say(1.2)
        await line.breathe(0.1)
        await stay(line)

    async with agent_server(tts=False, stt=False) as server:
        _, finished = await desk_for(server, silence_timeout_seconds=0.4).call(None, caller)
    assert finished.reason is EndReason.SILENCE_TIMEOUT
    # The voice, the pause that ends an utterance, and most of the silence: before, it ended with the pause.
    assert finished.seconds > 1.2 + 0.5 + 0.2


async def test_where_no_engine_hears_the_caller_nobody_is_hung_up_on_for_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def caller(line: Line) -> None:
        await line.breathe(1.0)
        assert not line.session.ended
        line.end()

    async with agent_server(tts=False, stt=False) as server:
        desk = desk_for(server, silence_timeout_seconds=0.3)
        monkeypatch.setattr(desk.agents.engines, "candidates", lambda *_: [])
        _, finished = await desk.call(None, caller)
    assert finished.reason is EndReason.USER_HANGUP


async def test_a_placeholder_without_a_value_is_noted_by_name() -> None:
    async with agent_server() as server:
        desk = desk_for(server, first_message="Hi {{who}} of {{firm}}.", dynamic_variables={"firm": "Acme"})
        _, finished = await desk.call(None, _hang_up_once_greeted)
    assert told(finished) == [("local", "Hi  of Acme.")]
    assert notes(finished, "variables_missing") == [{"names": ["who"]}]


async def _hang_up_once_greeted(line: Line) -> None:
    await line.breathe(1.0)
    line.end()


@pytest.mark.parametrize(
    ("end", "reason", "hangup_reason"),
    [
        (EndReason.USER_HANGUP, "carrier_hangup", "remote"),
        (EndReason.MAX_DURATION, "max_duration", "max_duration"),
        (EndReason.API_STOP, "api_stop", "local"),
        (EndReason.MEDIA_ERROR, "media_error", None),
    ],
)
async def test_the_agent_is_told_why_the_call_ended_after_all_words_of_it_are_kept(
    end: EndReason, reason: str, hangup_reason: str | None
) -> None:
    async with agent_server() as server:
        desk = desk_for(server, "one last word")
        order: list[str] = []
        desk.agents.prepare(REFERENCE, CallSetup(transcript=Flushed(order, server)))

        async def caller(line: Line) -> None:
            await line.utter()
            line.end(end)

        await desk.call(None, caller)
        c = await server.conversation()
        await c.until(lambda: c.of("stop"))
    stop = c.received[-1]
    assert (stop["event"], stop["reason"], stop.get("hangup_reason")) == ("stop", reason, hangup_reason)
    assert order[:2] == ["said one last word", "flush before stop"]
    assert c.connection.close_code == 1000


class Flushed:
    """A record that looks whether ``stop`` has been sent when it is asked to keep everything."""

    def __init__(self, order: list[str], server: AgentServer) -> None:
        self.order = order
        self.server = server

    def said(self, party: str, text: str, at_ms: int) -> None:
        self.order.append(f"said {text}")

    def note(self, kind: str, **facts: object) -> None:
        pass

    async def flush(self) -> None:
        await asyncio.sleep(0.05)
        stopped = self.server.conversations[0].of("stop")
        self.order.append("flush after stop" if stopped else "flush before stop")


# --- agents that misbehave ------------------------------------------------------------------------------------------


async def test_an_agent_that_closes_without_a_word_hangs_up() -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: c.received)

    async with agent_server(talk) as server:
        line, finished = await desk_for(server).call(None, stay)
    assert line.hang_ups == [EndReason.AGENT_HANGUP] and finished.reason is EndReason.AGENT_HANGUP


async def test_an_agent_whose_connection_breaks_hangs_up() -> None:
    async def talk(c: Conversation) -> None:
        await c.say("word " * 60)
        await asyncio.sleep(0.1)
        c.connection.transport.abort()

    async with agent_server(talk) as server:
        line, finished = await desk_for(server).call(None, stay)
    assert line.hang_ups == [EndReason.AGENT_HANGUP] and finished.seconds < 2


async def test_junk_is_dropped_and_the_call_goes_on() -> None:
    async def talk(c: Conversation) -> None:
        for junk in (b"\x00\xff", "nonsense", '{"event":"novelty"}', '{"event":"hangup"}', "[]", '{"event":"media"}'):
            await c.connection.send(junk)
        await c.say("Still here.")
        await c.send(event="mark", mark={"name": "m"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server:
        _, finished = await desk_for(server).call(None, stay)
    assert told(finished) == [("local", "Still here.")]


async def test_a_message_beyond_all_measure_ends_the_call() -> None:
    async def talk(c: Conversation) -> None:
        await c.connection.send("x" * (1024 * 1024 + 1))
        await c.closed.wait()

    async with agent_server(talk) as server:
        _, finished = await desk_for(server).call(None, stay)
    assert finished.reason is EndReason.AGENT_HANGUP


async def test_a_flood_of_text_is_bounded_and_said_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "BACKLOG", 500)

    async def talk(c: Conversation) -> None:
        for _ in range(100):
            await c.send(event="text", delta="blah " * 20, turn_id="g")
        await c.until(lambda: c.of("error"))
        await c.hang_up()

    async with agent_server(talk) as server:
        _, finished = await desk_for(server).call(None, stay)
    errors = server.conversations[0].of("error")
    assert [e["error"]["code"] for e in errors] == ["flooding"]
    assert notes(finished, "agent_flooding")[0]["what"] == "text" and len(notes(finished, "agent_flooding")) == 1


async def test_a_text_that_does_not_fit_into_the_backlog_is_refused_before_it_is_taken_in() -> None:
    async def talk(c: Conversation) -> None:
        await c.send(event="text", delta="a " * 500_000, turn_id="g1")
        await c.send(event="text", delta="b " * 9_000, turn_id="g2", done=True)
        await c.until(lambda: c.of("error"))
        await c.send(event="clear")
        await c.say("Still here.", "g3")
        await c.send(event="mark", mark={"name": "m"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server:
        desk = desk_for(server)
        _, finished = await desk.call(None, stay)
    assert len(server.conversations[0].of("error")) == 1
    assert not any(text.startswith("a") for text in desk.engine.spoken)
    assert told(finished)[-1] == ("local", "Still here.")


async def test_no_more_turns_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "TURNS", 20)

    async def talk(c: Conversation) -> None:
        for n in range(200):
            await c.send(event="text", delta="x", turn_id=str(n))
        await c.until(lambda: c.of("error"))
        await c.hang_up()

    async with agent_server(talk) as server:
        desk = desk_for(server)
        _, finished = await desk.call(None, stay)
    assert notes(finished, "agent_flooding")[0]["what"] == "text"


FLOODS: dict[str, dict[str, object]] = {
    "transcript": {"text": "so they said"},
    "interims": {"event": "transcript", "text": "so", "is_final": False},
    "dtmf": {"dtmf": {"digits": "1"}},
    "mark": {"mark": {"name": "m"}},
    "clear": {},
    "transfer": {"to": "+14155550102"},
    "audio_done": {},
    "media": {"media": {"payload": "fw=="}},
    "novelty": {},
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_a_flood_of_any_kind_is_told_and_then_ends_the_call_as_an_agents_failure(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = dict.fromkeys(budget.MESSAGES, budget.Rate(1, 30))
    for name, rate in (("MESSAGES", rates), ("ROWS", budget.Rate(1, 10)), ("DROPPED", budget.Rate(1, 50))):
        monkeypatch.setattr(budget, name, rate)

    async def talk(c: Conversation) -> None:
        for _ in range(1000):
            await c.send(**{"event": kind, **FLOODS[kind]})
        await c.closed.wait()

    async def caller(line: Line) -> None:
        async def refuse(call: object, to: str) -> None:
            raise UnsupportedOperation("trunk", "transfer")

        line.transfer = refuse  # type: ignore[assignment,method-assign]
        await stay(line)

    async with agent_server(talk, tts=False, stt=False) as server:
        line, finished = await desk_for(server).call(None, caller)
    c = server.conversations[0]
    assert [e["error"]["code"] for e in c.of("error") if e["error"]["code"] != "transfer_failed"] == ["flooding"]
    assert [bool(note.get("given_up")) for note in notes(finished, "agent_flooding")] == [False, True]
    assert finished.reason is EndReason.AGENT_ERROR and line.hang_ups == [EndReason.AGENT_ERROR]
    assert c.received[-1] == {"event": "stop", "reason": "agent_error", "stream_id": c.received[0]["stream_id"]}
    assert c.connection.close_code == 1008
    assert len(told(finished)) <= 1 + 1 + 10 and len(line.asked) <= 1 + 1 + 30


async def test_a_transcript_of_a_megabyte_is_not_kept() -> None:
    async def talk(c: Conversation) -> None:
        await c.send(event="transcript", text="word " * 200_000)
        await c.send(event="transcript", text="a sentence")
        await c.until(lambda: c.of("error"))
        await c.hang_up()

    async with agent_server(talk, tts=False, stt=False) as server:
        _, finished = await desk_for(server).call(None, stay)
    assert told(finished) == [("remote", "a sentence")]


async def test_what_an_honest_agent_sends_at_once_is_all_taken() -> None:
    tone = bytes(range(50, 90)) * 400  # two seconds

    async def talk(c: Conversation) -> None:
        for at in range(0, len(tone), 80):  # frames of 10 ms, each with a mark, as fast as they are made
            await c.play(tone[at : at + 80], 80)
            await c.send(event="mark", mark={"name": str(at)})
            await c.send(event="transcript", text="half", is_final=False)
        for n in range(20):
            await c.send(event="transcript", party="local", text=f"sentence {n}")
        await c.until(lambda: len(c.of("mark")) == len(tone) // 80)
        await c.hang_up()

    async with agent_server(talk, tts=False, stt=False) as server:
        line, finished = await desk_for(server).call(None, stay, marks=False)
    assert server.conversations[0].of("error") == [] and line.heard() == tone
    assert [m["mark"]["name"] for m in server.conversations[0].of("mark")] == [str(n) for n in range(0, len(tone), 80)]
    assert len(told(finished)) == 20


async def test_between_two_turns_of_the_loop_only_a_slice_of_an_agents_messages_is_dealt_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rounds, dealt = 0, dict[int, int]()
    take = budget.CallBudget.take

    def counted(self: budget.CallBudget, kind: str, count: float, rate: budget.Rate | None = None) -> bool:
        dealt[rounds] = dealt.get(rounds, 0) + 1
        return take(self, kind, count, rate)

    monkeypatch.setattr(budget.CallBudget, "take", counted)

    async def others() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def talk(c: Conversation) -> None:
        for n in range(3000):
            await c.send(event="text", delta="hello world. ", turn_id=str(n))
        await c.until(lambda: c.of("error"))
        await c.hang_up()

    async with agent_server(talk) as server:
        running = asyncio.ensure_future(others())
        await desk_for(server).call(None, stay)
        running.cancel()
    # A refused message is counted a second time, among those dropped.
    assert sum(dealt.values()) > 3000 and max(dealt.values()) <= 2 * budget.SLICE


async def test_a_mark_behind_words_that_were_cut_is_not_told_and_later_ones_are() -> None:
    async def talk(c: Conversation) -> None:
        await c.say("word " * 30, "g1")
        await c.send(event="mark", mark={"name": "cut"})
        await c.say("Behind it.", "g2")
        await c.send(event="mark", mark={"name": "cut too"})
        await asyncio.sleep(0.2)
        await c.send(event="clear")
        await c.say("And now this.", "g3")
        for name in ("heard", "heard too"):
            await c.send(event="mark", mark={"name": name})
        await c.until(lambda: len(c.of("mark")) == 2)
        await c.send(event="mark", mark={"name": "at once"})
        await c.until(lambda: len(c.of("mark")) == 3)
        await c.hang_up()

    async with agent_server(talk) as server:
        await desk_for(server).call(None, stay)
    names = [m["mark"]["name"] for m in server.conversations[0].of("mark")]
    assert names == ["heard", "heard too", "at once"]


@pytest.mark.parametrize("size", [0, 500], ids=["short", "long"])
async def test_a_binary_message_is_dropped_whatever_it_says(size: int) -> None:
    async def talk(c: Conversation) -> None:
        stop = json.dumps({"event": "stop", "reason": "x" * size}).encode()
        await c.connection.send(stop)
        await c.connection.send([stop[:10], stop[10:]])  # in two frames
        await c.say("Still here.")
        await c.send(event="mark", mark={"name": "m"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server:
        _, finished = await desk_for(server).call(None, stay)
    assert told(finished) == [("local", "Still here.")]


async def test_a_flood_of_audio_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "BUFFER", 2.0)

    async def talk(c: Conversation) -> None:
        await c.play(SPEECH * 80000, 4000)
        await c.until(lambda: c.of("error"))
        await c.hang_up()

    async with agent_server(talk, tts=False, stt=False) as server:
        line, finished = await desk_for(server).call(None, stay)
    assert 2 * 8000 <= len(line.heard()) <= 3 * 8000
    assert len(server.conversations[0].of("error")) == 1


async def test_an_agent_that_stops_reading_is_given_up_and_the_line_never_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agent_socket, "SLOW", 100_000)
    monkeypatch.setattr(agent_socket, "STALLED", 0.3)

    async def talk(c: Conversation) -> None:
        c.connection.transport.pause_reading()
        await c.closed.wait()

    async def caller(line: Line) -> None:
        while not line.session.ended:
            for _ in range(200):  # more than the sockets between us swallow
                line.transport.say(event="media", audio=(SPEECH * 16000).decode("latin-1"))
            await asyncio.sleep(0.02)

    async with agent_server(talk, tts=False, stt=False) as server:
        line, finished = await desk_for(server).call(None, caller)
        server.conversations[0].connection.transport.abort()
        assert line.hang_ups == [EndReason.AGENT_HANGUP]
        assert notes(finished, "agent_slow")[0]["dropped_frames"] > 0


async def test_what_cannot_be_done_is_answered_with_an_error_and_the_call_goes_on() -> None:
    async def talk(c: Conversation) -> None:
        await c.send(event="dtmf", dtmf={"digits": "12#"})
        await c.send(event="transfer", transfer={"to": "+14155550102"})
        await c.until(lambda: c.of("error"))
        await c.say("Then not.")
        await c.send(event="mark", mark={"name": "m"})
        await c.until(lambda: c.of("mark"))
        await c.hang_up()

    async with agent_server(talk) as server:
        desk = desk_for(server)

        async def caller(line: Line) -> None:
            async def refuse(call: object, to: str) -> None:
                raise UnsupportedOperation("trunk", "transfer")

            line.transfer = refuse  # type: ignore[assignment,method-assign]
            await stay(line)

        line, finished = await desk.call(None, caller)
    assert line.asked == [("digits", "12#")]
    assert server.conversations[0].of("error")[0]["error"]["code"] == "transfer_failed"
    assert told(finished) == [("local", "Then not.")]
