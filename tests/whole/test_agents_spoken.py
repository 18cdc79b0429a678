"""Spoken conversations with the local engines: a plain ``websockets`` agent, a caller with a voice, no fakes between.

The caller asks for an appointment, is understood, is answered aloud, interrupts, presses keys and hangs up: once in the
words of a grammar, once freely.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from array import array
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_server import Conversation, agent_server
from anycarrier import EndReason
from anycarrier.agent.agents import Agents
from anycarrier.agent.analysis import FinishedCall
from anycarrier.agent.shared_engines import Engines
from anycarrier.demo.appointment import GRAMMAR, OFFER
from anycarrier.demo.callers import CALLERS, spoken
from anycarrier.demo.calls import clip
from anycarrier.demo.conversation import listen
from anycarrier.speech import TurnSettings, speech_engine_names
from anycarrier.testing.word_errors import word_error_rate
from anycarrier.wav import read_wav
from fake_speech import notes, told
from whole.conftest import House

pytest.importorskip("anycarrier_speech_local")

ASKED, CHOSE = "i would like to book an appointment", "tomorrow morning please"


@contextlib.asynccontextmanager
async def speaking(
    house: House, folder: Path, url: str, *, grammar: str | None = GRAMMAR
) -> AsyncIterator[asyncio.Queue[FinishedCall]]:
    done: asyncio.Queue[FinishedCall] = asyncio.Queue()
    agents = Agents(finished=done.put, recordings=folder)
    settings = {"grammar": grammar, "first_message": "Good morning {{who}}.", "enable_recording": True}
    agents.add("front-desk", websocket_url=url, settings={**settings, "dynamic_variables": {"who": "caller"}})
    house.exchange.switchboard.agents, house.exchange.switchboard.router = agents, agents.router
    await agents.open(house.exchange.switchboard)
    try:
        yield done
    finally:
        await agents.aclose()


def final(c: Conversation) -> list[str]:
    return [m["text"] for m in c.of("transcript") if m["is_final"]]


@pytest.mark.parametrize("house", ["twilio", "telnyx"], indirect=True)
async def test_an_appointment_by_voice(house: House, tmp_path: Path) -> None:
    async def talk(c: Conversation) -> None:
        await c.until(lambda: final(c))
        for word in OFFER.split(" "):  # as a model streams them
            await c.send(event="text", delta=word + " ", turn_id="offer")
        await c.until(lambda: len(final(c)) == 2)
        await c.send(event="text", delta="never heard", turn_id="offer")
        await c.say("Tomorrow it is. Your year of birth, please.", "ask")
        await c.until(lambda: len(c.of("dtmf")) == 4)
        await c.say("You are booked for tomorrow morning. Goodbye.", "bye")
        await c.closed.wait()

    async with agent_server(talk) as server, speaking(house, tmp_path, server.url) as done:
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.wait_heard(0.8)
        await far_end.playback.drained()
        await far_end.say(clip("appointment"))
        await far_end.wait_heard(far_end.heard_seconds() + 2.5)
        await far_end.say(clip("tomorrow"))
        c = await server.conversation()
        await c.until(lambda: len(final(c)) == 2)
        await far_end.wait_heard(far_end.heard_seconds() + 1.5)
        await far_end.playback.drained()
        await far_end.press("1984")
        await far_end.wait_heard(far_end.heard_seconds() + 2.0)
        await far_end.playback.drained()
        await asyncio.sleep(0.2)
        await far_end.hang_up()
        async with asyncio.timeout(30):
            finished = await done.get()
    assert final(c) == [ASKED, CHOSE]
    events = [m["event"] for m in c.received]
    assert events[0] == "start" and events[-1] == "stop" and events.count("barge_in") == 1
    cut = c.of("barge_in")[0]
    told_of = [m["turn_id"] for m in c.of("transcript") if m["is_final"]]
    assert cut["turn_id"] == told_of[1] and cut["tts_interrupted"] is True
    assert events.index("barge_in") < next(
        n for n, m in enumerate(c.received) if m["event"] == "transcript" and m["turn_id"] == told_of[1]
    )
    said = told(finished)
    assert said[0] == ("local", "Good morning caller.") and said[1] == ("remote", ASKED)
    heard = said[2][1]
    assert OFFER.startswith(heard) and 5 <= len(heard.split()) < len(OFFER.split()) - 5
    assert said[3:] == [
        ("remote", CHOSE),
        ("local", "Tomorrow it is. Your year of birth, please."),
        ("local", "You are booked for tomorrow morning. Goodbye."),
    ]
    assert "".join(n["digit"] for n in notes(finished, "digit")) == "1984"
    assert finished.reason is EndReason.USER_HANGUP and c.of("stop")[0]["reason"] == "carrier_hangup"
    assert finished.analysis is not None
    assert (finished.analysis.outcome, finished.analysis.source) == ("Appointment Booked", "heuristic")
    _recorded_as_it_sounded(finished)


@pytest.mark.skipif(not {"whisper", "hibari"} <= set(speech_engine_names()), reason="needs the engines for free speech")
@pytest.mark.parametrize("house", ["twilio", "telnyx"], indirect=True)
async def test_a_free_conversation_by_voice(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy machine the words of a hesitating caller may come a second late, and then they have no say.
    patient = functools.partial(TurnSettings, endpointing=1.5, incomplete_endpointing=4.0)
    monkeypatch.setattr("anycarrier.agent.conversation.TurnSettings", patient)
    caller = CALLERS[0]
    engines = Engines()
    voice = engines.engine("hibari")
    request, choice, reason = [await spoken(voice, parts) for parts in (caller.request, caller.choice, caller.reason)]

    async def talk(c: Conversation) -> None:
        await c.until(lambda: final(c))
        await c.say(OFFER, "offer")
        await c.until(lambda: len(final(c)) == 2)
        await c.say("And what is it about?", "why")
        await c.until(lambda: len(final(c)) == 3)
        await c.say("I have noted that. Goodbye.", "bye")
        await c.closed.wait()

    async with (
        agent_server(talk) as server,
        speaking(house, tmp_path, server.url, grammar=None) as done,
    ):
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await listen(far_end, 0.8)
        await far_end.say(request[0])
        await far_end.wait_heard(far_end.heard_seconds() + 2.5)
        await far_end.say(choice[0])
        await listen(far_end, 0.5)
        stopped, rest = reason
        await far_end.say(stopped)
        await asyncio.sleep(2.0)  # longer than ``endpointing``
        await far_end.say(rest)
        await listen(far_end, 1.0)
        await far_end.hang_up()
        c = await server.conversation()
        async with asyncio.timeout(30):
            finished = await done.get()
    await engines.aclose()
    heard = final(c)
    assert len(heard) == 3, f"a hesitation does not end the caller's turn: {heard}"
    assert word_error_rate(zip(caller.utterances, heard, strict=True)) <= 0.1, heard
    assert [m["event"] for m in c.received].count("barge_in") == 1
    cut = told(finished)[2][1]
    assert told(finished) == [
        ("local", "Good morning caller."),
        ("remote", heard[0]),
        ("local", cut),
        ("remote", heard[1]),
        ("local", "And what is it about?"),
        ("remote", heard[2]),
        ("local", "I have noted that. Goodbye."),
    ]
    assert OFFER.startswith(cut) and 5 <= len(cut.split()) < len(OFFER.split()) - 5
    assert finished.reason is EndReason.USER_HANGUP
    _recorded_as_it_sounded(finished)


def _recorded_as_it_sounded(finished: FinishedCall) -> None:
    """Each utterance of the transcript sounds in the recording, on its speaker's side, when the transcript says."""
    assert finished.recording is not None
    format, audio = read_wav(finished.recording)
    assert format.channels == 2 and abs(format.seconds(len(audio)) - finished.seconds) < 1.0
    samples = array("h", audio)
    sides = {"remote": samples[0::2], "local": samples[1::2]}
    for segment in finished.segments:
        at = segment.at_ms * 8
        window = sides[segment.party][at : at + 6400]
        assert sum(abs(sample) > 500 for sample in window) > 800, f"no sound of {segment} in the recording"
    began = finished.segments[0].at_ms * 8
    assert not any(abs(sample) > 500 for sample in sides["remote"][began : began + 4000]), "the sides are mixed"
