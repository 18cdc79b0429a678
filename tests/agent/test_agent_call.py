"""A call as a Python agent has it, over a line and engines in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from anycarrier import EndReason, plugins
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.agent_turn import Said
from anycarrier.agent.agents import Agents
from anycarrier.agent.budget import BACKLOG
from anycarrier.agent.conversation import CallerTurn
from anycarrier.agent.shared_engines import Engines
from anycarrier.audio import PCM16_8K, PCMU_8K, Transcoder
from anycarrier.errors import SpeechNotReady, StreamNotOpen
from anycarrier.events import DigitReported
from anycarrier.wav import wav_bytes
from fake_speech import REFERENCE, Desk, Line, notes, told


async def stay(line: Line) -> None:
    await line.until(lambda: line.session.ended, timeout=10)


@pytest.mark.parametrize("pause", [0.0, 0.3], ids=["before the next question", "after it"])
async def test_the_key_that_finishes_a_complete_answer_is_no_answer_to_the_next_question(pause: float) -> None:
    answers: list[str] = []

    async def agent(call: AgentCall) -> None:
        answers.append(await call.gather(4, timeout=2))
        if not pause:
            await call.say("Thank you.")
        answers.append(await call.gather(timeout=2))
        answers.append(await call.gather(timeout=2))

    async def caller(line: Line) -> None:
        await line.breathe(0.1)
        line.press("1984")
        await line.breathe(pause)
        line.press("#")
        await line.breathe(0.3)
        line.press("12##")
        await stay(line)

    await Desk().call(agent, caller)
    assert answers == ["1984", "12", ""], "a second finishing key is an empty answer"


async def test_who_has_spoken_is_heard_out_however_long_the_words_take() -> None:
    heard: list[CallerTurn | None] = []

    async def agent(call: AgentCall) -> None:
        heard.append(await call.listen(timeout=0.8))  # the voice is gone by then, its words are not there yet

    async def caller(line: Line) -> None:
        await line.utter(0.2)
        await line.until(lambda: line.session.ended)

    desk = Desk("in a moment")
    desk.engine.thinks = 0.6
    _, finished = await desk.call(agent, caller)
    assert [turn.text for turn in heard if turn] == ["in a moment"]


async def test_what_is_said_is_heard_and_written_down_and_returning_hangs_up() -> None:
    desk = Desk()
    said: list[Said] = []

    async def agent(call: AgentCall) -> None:
        said.append(await call.say("One two three."))

    line, finished = await desk.call(agent, stay)
    assert said == [Said("One two three.", False, pytest.approx(0.18))]
    assert line.heard() == b"\x01" * 480 + b"\x02" * 480 + b"\x03" * 480
    assert line.hang_ups == [EndReason.AGENT_HANGUP] and finished.reason is EndReason.AGENT_HANGUP
    assert told(finished) == [("local", "One two three.")]


async def test_an_agent_that_returns_at_once_is_heard_out() -> None:
    desk = Desk()

    async def agent(call: AgentCall) -> None:
        pass

    _, finished = await desk.call(agent, stay, {"first_message": "Nobody is here now."})
    assert told(finished) == [("local", "Nobody is here now.")]


async def test_the_caller_is_understood_and_answered() -> None:
    desk = Desk("a table please", "for two")

    async def agent(call: AgentCall) -> None:
        async for turn in call.turns():
            await call.say(f"You said {turn.text}.")

    async def caller(line: Line) -> None:
        await line.utter()
        await line.until(lambda: len(desk.engine.spoken) == 1)
        await line.breathe(0.5)
        await line.utter()
        await line.until(lambda: len(desk.engine.spoken) == 2)
        await line.breathe(0.5)
        line.end()

    _, finished = await desk.call(agent, caller)
    assert told(finished) == [
        ("remote", "a table please"),
        ("local", "You said a table please."),
        ("remote", "for two"),
        ("local", "You said for two."),
    ]
    assert finished.reason is EndReason.USER_HANGUP
    times = [segment.at_ms for segment in finished.segments]
    assert times == sorted(times) and times[0] < 200
    assert 480 < finished.latency_ms["eou_delay"][0] < 800


async def test_an_interruption_cuts_what_is_said_to_what_was_heard() -> None:
    desk = Desk("stop stop")
    said: list[Said] = []
    turns: list[CallerTurn | None] = []

    async def agent(call: AgentCall) -> None:
        said.append(await call.say(" ".join(f"word{n}" for n in range(50)) + "."))
        turns.append(await call.listen(2))

    async def caller(line: Line) -> None:
        await line.breathe(0.6)
        await line.utter(0.4)
        await stay(line)

    line, finished = await desk.call(agent, caller)
    assert said[0].interrupted and 0.6 < said[0].seconds < 1.2
    heard = said[0].text.split()
    assert heard == [f"word{n}" for n in range(len(heard))] and 10 <= len(heard) <= 20
    assert turns[0] is not None and (turns[0].text, turns[0].interrupted) == ("stop stop", True)
    assert told(finished) == [("local", said[0].text), ("remote", "stop stop")]
    assert finished.barge_ins == 1 and len(line.frames("clear")) == 1


async def test_what_is_not_to_be_interrupted_is_not_and_the_caller_is_heard_all_the_same() -> None:
    desk = Desk("excuse me")
    said: list[Said] = []
    turns: list[CallerTurn | None] = []

    async def agent(call: AgentCall) -> None:
        said.append(await call.say(" ".join(["law"] * 25), interruptible=False))
        turns.append(await call.listen(2))

    async def caller(line: Line) -> None:
        await line.breathe(0.2)
        await line.utter(0.4)
        await stay(line)

    line, finished = await desk.call(agent, caller)
    assert not said[0].interrupted and said[0].seconds == pytest.approx(1.5)
    assert turns[0] is not None and turns[0].text == "excuse me"
    assert line.frames("clear") == [] and finished.barge_ins == 0


async def test_what_waits_and_is_not_to_be_interrupted_outlives_an_interruption_of_what_is_said_before_it() -> None:
    desk = Desk("excuse me")
    said: list[Said] = []

    async def agent(call: AgentCall) -> None:
        said.append(await call.say(" ".join(["law"] * 10), interruptible=False))
        await call.listen(2)

    async def caller(line: Line) -> None:
        await line.breathe(0.4)
        await line.utter(0.4)
        await stay(line)

    line, finished = await desk.call(agent, caller, {"first_message": " ".join(["hello"] * 50)})
    greeting, law = [text for who, text in told(finished) if who == "local"]
    assert 5 <= len(greeting.split()) <= 20, "the greeting is cut"
    assert law == " ".join(["law"] * 10)
    assert (said[0].text, said[0].interrupted) == (law, False)
    assert ("remote", "excuse me") in told(finished)
    assert finished.barge_ins == 1 and len(line.frames("clear")) == 1


async def test_words_from_an_iterator_are_spoken_as_they_come_and_cutting_closes_it() -> None:
    desk = Desk("enough")
    said: list[Said] = []
    closed = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        try:
            for n in range(1000):
                yield f"Sentence {n}. "
                await asyncio.sleep(0.02)
        finally:
            closed.set()

    async def agent(call: AgentCall) -> None:
        said.append(await call.say(words()))
        await call.listen(2)

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        await line.utter(0.4)
        await stay(line)

    await desk.call(agent, caller)
    assert closed.is_set() and said[0].interrupted and said[0].text.startswith("Sentence 0. Sentence 1.")
    assert len(desk.engine.spoken) < 60


async def test_words_that_never_end_are_read_as_fast_as_they_are_heard_and_stop_nobody_else() -> None:
    given = 0

    async def ramble() -> AsyncIterator[str]:
        nonlocal given
        while True:  # never waits for anything
            given += 1
            yield "and so on "

    async def agent(call: AgentCall) -> None:
        await call.say(ramble())

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        line.end()

    await Desk().call(agent, caller)
    assert BACKLOG / 10 <= given <= 2 * BACKLOG / 10


async def test_a_very_long_text_is_spoken_from_its_beginning_and_cut_like_any_other() -> None:
    async def agent(call: AgentCall) -> None:
        await call.say("one two three " * 80_000)

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        line.end()

    _, finished = await Desk().call(agent, caller)
    assert 3 <= len(told(finished)[0][1].split()) < 30


async def test_what_the_iterator_raises_reaches_the_agent() -> None:
    desk = Desk()
    caught: list[str] = []

    async def words() -> AsyncIterator[str]:
        yield "Well. "
        raise RuntimeError("the model is gone")

    async def agent(call: AgentCall) -> None:
        try:
            await call.say(words())
        except RuntimeError as failure:
            caught.append(str(failure))

    await desk.call(agent, stay)
    assert caught == ["the model is gone"]


async def test_keys_are_gathered_by_count_by_finish_and_by_time() -> None:
    desk = Desk()
    got: list[str] = []

    async def agent(call: AgentCall) -> None:
        got.append(await call.gather(4))
        got.append(await call.gather())
        got.append(await call.gather(timeout=0.2))
        got.append(await call.gather(timeout=0.2))

    async def caller(line: Line) -> None:
        line.press("1234")
        await line.breathe(0.1)
        line.press("99#7")
        await stay(line)

    _, finished = await desk.call(agent, caller)
    assert got == ["1234", "99", "7", ""]
    assert [n["digit"] for n in notes(finished, "digit")] == list("123499#7")


async def test_waiting_for_the_caller_ends_with_the_time_or_the_call() -> None:
    desk = Desk("late")
    got: list[object] = []

    async def agent(call: AgentCall) -> None:
        got.append(await call.listen(0.1))
        got.append(await call.listen(0.3))  # has begun by then, and is heard out
        got.append(await call.listen())
        with pytest.raises(StreamNotOpen):
            await call.say("Hello?")
        got.append([turn async for turn in call.turns()])

    async def caller(line: Line) -> None:
        await line.breathe(0.2)
        await line.utter(0.5)
        line.end()

    await desk.call(agent, caller)
    assert got[0] is None and isinstance(got[1], CallerTurn) and got[1].text == "late"
    assert got[2:] == [None, []]


async def test_a_recording_is_played_and_can_be_interrupted(tmp_path: Path) -> None:
    desk = Desk("stop")
    tone = bytes(range(40, 80)) * 400  # two seconds
    linear = Transcoder(PCMU_8K, PCM16_8K)
    file = tmp_path / "jingle.wav"
    file.write_bytes(wav_bytes(linear.convert(tone) + linear.flush(), PCM16_8K))
    said: list[Said] = []

    async def agent(call: AgentCall) -> None:
        said.append(await call.play(tone[:1600]))
        said.append(await call.play(file))

    async def caller(line: Line) -> None:
        await line.breathe(0.6)
        await line.say(0.4)
        await stay(line)

    line, finished = await desk.call(agent, caller)
    assert said[0] == Said("", False, 0.2)
    assert said[1].interrupted and 0.3 < said[1].seconds < 1.2
    assert line.heard().startswith(tone[:1600] + tone[:4000])
    assert [party for party, _ in told(finished)] == ["remote"]


async def test_keys_told_by_webhook_count_as_those_on_the_stream_do_and_once() -> None:
    desk = Desk()

    async def agent(call: AgentCall) -> None:
        assert await call.gather(3, timeout=5) == "123"

    async def caller(line: Line) -> None:
        for path, digit in (("both", "1"), ("webhook", "2"), ("stream", "3")):
            if path != "stream":
                line.session.stream.deliver(DigitReported(call_id="leg-1", digit=digit))
            if path != "webhook":
                line.press(digit)
        await stay(line)

    _, finished = await desk.call(agent, caller)
    assert [facts["digit"] for kind, facts in finished.notes if kind == "digit"] == ["1", "2", "3"]


async def test_digits_and_transfers_go_to_the_line_and_hanging_up_cuts() -> None:
    desk = Desk()

    async def agent(call: AgentCall) -> None:
        await call.send_digits("12#")
        asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(call.hang_up()))
        said = await call.say(" ".join(["long"] * 100))
        assert said.interrupted and said.seconds < 1

    line, finished = await desk.call(agent, stay)
    assert line.asked == [("digits", "12#")] and line.hang_ups == [EndReason.AGENT_HANGUP]

    async def passing_on(call: AgentCall) -> None:
        await call.transfer("+14155550102")

    line, finished = await desk.call(passing_on, stay)
    assert line.asked == [("transfer", "+14155550102")]
    assert line.hang_ups == [] and finished.reason is EndReason.TRANSFERRED


async def test_variables_fill_the_greeting_and_are_the_agents_to_read() -> None:
    desk = Desk()
    seen: list[object] = []

    async def agent(call: AgentCall) -> None:
        seen.extend([call.variables["name"], call.system_prompt, call.call.to, call.id])

    settings = {
        "first_message": "Hello {{name}}, {{unknown}}welcome.",
        "system_prompt": "Be kind to {{name}}.",
        "dynamic_variables": {"name": "Sama"},
    }
    _, finished = await desk.call(agent, stay, settings)
    assert seen == ["Sama", "Be kind to Sama.", "+14155550101", REFERENCE]
    assert told(finished) == [("local", "Hello Sama, welcome.")]


async def test_an_agent_that_fails_is_the_exchanges_to_hang_up_on_and_leaves_its_transcript() -> None:
    desk = Desk()

    async def agent(call: AgentCall) -> None:
        await call.say("Let me see.")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await desk.call(agent, stay)
    assert told(desk.finished[-1]) == [("local", "Let me see.")]


async def test_without_an_engine_that_listens_the_agent_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = Agents(engines=Engines(), analyzers=[])
    line = Line()
    await line.session.stream.wait_started(2)

    async def agent(call: AgentCall) -> None:
        async for _ in call.turns():
            pass

    bare.add("desk", handler=agent)
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    try:
        with pytest.raises(SpeechNotReady, match=r"docs/speech\.md lists the engines and how to install them"):
            await bare["desk"](line.session)
    finally:
        monkeypatch.undo()
        plugins.reset()
        await line.aclose()
