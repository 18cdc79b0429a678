"""What an agent's settings do to a call, and one reason for its end."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import Call, Direction, EndReason, MachineDetected
from anycarrier.agent import speaker, voicemail
from anycarrier.agent.agent_call import AgentCall
from anycarrier.audio import PCMU_8K
from anycarrier.errors import ConfigurationError, SpeechFailed
from fake_speech import SPEECH, WORD, Desk, FakeEngine, Line, notes, told


async def stay(line: Line) -> None:
    await line.until(lambda: line.session.ended, timeout=10)


async def mute(call: AgentCall) -> None:
    """Has nothing to say, and listens until the end."""
    async for _ in call.turns():
        pass


async def say_goodbye(call: AgentCall) -> None:
    """And hang up."""
    await call.say("Goodbye.")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"silence_timeout_seconds": 0.3}, EndReason.SILENCE_TIMEOUT),
        ({"max_duration_seconds": 0.3}, EndReason.MAX_DURATION),
        ({"max_duration_seconds": 0.3, "silence_timeout_seconds": 5}, EndReason.MAX_DURATION),
        (
            {"first_message": "Well, good bye now.", "end_call_phrases": ["good bye"], "silence_timeout_seconds": 3},
            EndReason.END_CALL_PHRASE,
        ),
    ],
)
async def test_a_call_that_its_settings_end_has_their_reason_and_is_hung_up_once(
    settings: dict[str, object], reason: EndReason
) -> None:
    line, finished = await Desk().call(mute, stay, settings)
    assert line.hang_ups == [reason] and finished.reason is reason


async def test_the_agents_own_phrase_ends_the_call_only_once_it_was_heard() -> None:
    settings = {"first_message": "It was nice to talk to you, good bye.", "end_call_phrases": ["good bye"]}
    line, finished = await Desk().call(mute, stay, settings)
    assert told(finished) == [("local", "It was nice to talk to you, good bye.")]
    assert finished.seconds >= 9 * 0.06


async def test_after_the_agents_phrase_the_carriers_word_is_awaited_not_our_clock() -> None:
    async def caller(line: Line) -> None:
        line.transport.echo_marks = False  # a carrier that plays late
        await line.until(lambda: bool(line.frames("mark")))
        await line.breathe(0.3)
        assert line.session.remaining == 0 and line.hang_ups == []
        for mark in line.frames("mark"):
            line.transport.say(**mark)
        line.transport.echo_marks = True  # one may still be on its way
        await stay(line)

    settings = {"first_message": "So long, good bye.", "end_call_phrases": ["good bye"]}
    line, _ = await Desk().call(mute, caller, settings, marks=True)
    assert line.hang_ups == [EndReason.END_CALL_PHRASE]
    assert line.session.heard_is_measured, "the clock took over"


@pytest.mark.parametrize("ahead", [0.5, 1.5])
async def test_sound_is_sent_only_so_far_ahead_of_what_is_heard(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaker, "AHEAD", ahead)
    seen: list[float] = []

    async def agent(call: AgentCall) -> None:
        await call.say("word " * 60)

    async def caller(line: Line) -> None:
        while not line.session.ended:
            seen.append(line.session.remaining)
            await line.breathe(0.02)

    _, finished = await Desk().call(agent, caller)
    assert len(told(finished)[0][1].split()) == 60
    assert ahead - WORD <= max(seen) <= ahead + WORD + 0.01


async def test_the_callers_phrase_ends_the_call_at_its_final() -> None:
    async def caller(line: Line) -> None:
        await line.utter()
        await stay(line)

    line, finished = await Desk("okay goodbye then").call(mute, caller, {"end_call_phrases": ["goodbye"]})
    assert finished.reason is EndReason.END_CALL_PHRASE and told(finished) == [("remote", "okay goodbye then")]


async def test_after_the_phrase_nothing_new_is_said_however_long_the_carrier_takes_to_hang_up() -> None:
    answered: list[str] = []

    async def chatty(call: AgentCall) -> None:
        async for _ in call.turns():
            answered.append((await call.say("Wait, there is more to tell you.")).text)

    async def caller(line: Line) -> None:
        hang_up = line.hang_up

        async def slowly(call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
            await asyncio.sleep(0.7)
            await hang_up(call, reason)

        line.hang_up = slowly  # type: ignore[method-assign]
        await line.utter()
        await stay(line)

    _, finished = await Desk("okay goodbye then").call(chatty, caller, {"end_call_phrases": ["goodbye"]})
    assert answered == [""] and told(finished) == [("remote", "okay goodbye then")]


async def test_talking_puts_silence_off() -> None:
    async def caller(line: Line) -> None:
        for _ in range(4):
            await line.say(0.2)
            await line.breathe(0.6)
        await stay(line)

    desk = Desk("a", "b", "c", "d")
    _, finished = await desk.call(mute, caller, {"silence_timeout_seconds": 0.9})
    assert finished.reason is EndReason.SILENCE_TIMEOUT and finished.seconds > 3.2
    assert [text for _, text in told(finished)] == ["a", "b", "c", "d"]


async def test_a_caller_who_has_put_us_on_hold_is_waited_for_and_the_music_is_not_heard() -> None:
    async def caller(line: Line) -> None:
        await line.breathe(0.3)
        line.transport.say(event="hold", held=True)
        for _ in range(3):  # music
            await line.say(0.5)
            await line.breathe(0.6)
        line.transport.say(event="hold", held=False)
        await line.utter()
        await stay(line)

    desk = Desk("back again", "music", "music")
    _, finished = await desk.call(mute, caller, {"silence_timeout_seconds": 0.9})
    assert finished.reason is EndReason.SILENCE_TIMEOUT and finished.seconds > 3.6 + 0.9
    assert told(finished) == [("remote", "back again")]
    assert len(notes(finished, "hold")) == len(notes(finished, "resumed")) == 1


async def test_a_call_on_hold_still_has_its_longest_duration() -> None:
    async def caller(line: Line) -> None:
        line.transport.say(event="hold", held=True)
        await stay(line)

    settings = {"silence_timeout_seconds": 0.3, "max_duration_seconds": 2}
    line, finished = await Desk().call(mute, caller, settings)
    assert line.hang_ups == [EndReason.MAX_DURATION] and finished.seconds == pytest.approx(2, abs=0.5)


async def test_the_callers_last_words_are_kept_when_the_call_ends_in_the_middle_of_them() -> None:
    async def caller(line: Line) -> None:
        await line.say(0.4)
        line.end()

    _, finished = await Desk("wait I wanted").call(mute, caller)
    assert told(finished) == [("remote", "wait")]  # what was understood by then
    assert finished.reason is EndReason.USER_HANGUP


async def test_what_was_heard_counts_when_the_caller_hangs_up_on_the_agent() -> None:
    async def caller(line: Line) -> None:
        await line.breathe(0.35)
        line.end()

    _, finished = await Desk().call(mute, caller, {"first_message": "one two three four five six seven eight nine ten"})
    heard = told(finished)[0][1].split()
    assert heard == "one two three four five six seven eight nine ten".split()[: len(heard)] and 3 <= len(heard) <= 7


async def test_a_sensitivity_of_zero_never_yields() -> None:
    async def caller(line: Line) -> None:
        await line.breathe(0.1)
        await line.utter(0.5)
        await line.breathe(1)
        line.end()

    settings = {"first_message": " ".join(["much"] * 30), "interruption_sensitivity": 0}
    line, finished = await Desk("let me speak").call(mute, caller, settings)
    assert finished.barge_ins == 0 and ("remote", "let me speak") in told(finished)


async def test_keys_do_not_interrupt() -> None:
    async def caller(line: Line) -> None:
        await line.breathe(0.1)
        line.press("1")
        await stay(line)

    async def agent(call: AgentCall) -> None:
        assert not (await call.say("one two three four five six seven.")).interrupted

    _, finished = await Desk().call(agent, caller)
    assert finished.barge_ins == 0 and len(notes(finished, "digit")) == 1


# --- machines -----------------------------------------------------------------------------------------------------


def machine(line: Line, *, greeting_ended: bool = False, who: str = "machine") -> None:
    line.session.stream.deliver(MachineDetected(call_id="leg-1", answered_by=who, greeting_ended=greeting_ended))


async def test_a_machine_is_hung_up_on() -> None:
    async def callee(line: Line) -> None:
        await line.breathe(0.1)
        machine(line)
        await stay(line)

    settings = {"voicemail_detection": True, "first_message": "Hello, am I speaking to Sama?"}
    line, finished = await Desk().call(mute, callee, settings, direction=Direction.OUTBOUND)
    assert finished.reason is EndReason.VOICEMAIL and line.hang_ups == [EndReason.VOICEMAIL]


async def test_a_message_is_left_after_the_greeting_and_nothing_else_is_said_to_a_machine() -> None:
    desk = Desk("please leave a message")
    answers: list[object] = []

    async def agent(call: AgentCall) -> None:
        async for turn in call.turns():
            answers.append(turn)
            await call.say("This must not be heard.")

    async def callee(line: Line) -> None:
        await line.breathe(0.1)
        machine(line)
        await line.utter()
        assert len(line.frames("clear")) == 1
        before = len(line.heard())
        await line.breathe(0.3)
        assert len(line.heard()) == before
        machine(line, greeting_ended=True, who="unknown")
        await stay(line)

    settings = {
        "voicemail_detection": True,
        "on_voicemail": "leave_message",
        "voicemail_message": "Call us back, {{name}}.",
        "first_message": "Hello, am I speaking to Sama, or is this somebody else altogether?",
        "dynamic_variables": {"name": "Sama"},
    }
    line, finished = await desk.call(agent, callee, settings, direction=Direction.OUTBOUND)
    assert finished.reason is EndReason.VOICEMAIL and answers == []
    assert told(finished)[-1] == ("local", "Call us back, Sama.")
    assert line.heard().endswith(b"".join(bytes((n,)) * 480 for n in (1, 2, 3, 4)))


@pytest.mark.parametrize("told_late", [False, True], ids=["never", "after all"])
async def test_a_greeting_whose_end_is_not_told_is_taken_to_be_over_and_the_message_is_left_once(
    told_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voicemail, "GREETING", 0.5)
    desk = Desk()

    async def callee(line: Line) -> None:
        await line.breathe(0.1)
        machine(line)
        await line.breathe(0.2)
        assert line.heard() == b""
        await line.until(lambda: bool(line.heard()))
        if told_late:
            machine(line, greeting_ended=True)
        await stay(line)

    how = {"voicemail_detection": True, "on_voicemail": "leave_message", "voicemail_message": "Please call us back."}
    line, finished = await desk.call(mute, callee, how, direction=Direction.OUTBOUND)
    assert told(finished) == [("local", "Please call us back.")] and desk.engine.spoken == ["Please call us back."]
    assert finished.reason is EndReason.VOICEMAIL and line.hang_ups == [EndReason.VOICEMAIL]


@pytest.mark.parametrize(
    "settings", [{"voicemail_detection": True, "on_voicemail": "ignore"}, {"voicemail_detection": False}]
)
async def test_a_machine_may_be_ignored(settings: dict[str, object]) -> None:
    async def callee(line: Line) -> None:
        machine(line, greeting_ended=True)
        await line.breathe(0.3)
        line.end()

    _, finished = await Desk().call(mute, callee, settings, direction=Direction.OUTBOUND)
    assert finished.reason is EndReason.USER_HANGUP and notes(finished, "answered_by")[0]["who"] == "machine"


# --- engines that fail ----------------------------------------------------------------------------------------------


async def test_a_voice_that_fails_in_the_middle_is_replaced_and_the_sentence_said_again() -> None:
    desk = Desk()
    spare = FakeEngine(name="spare")
    desk.agents.engines.add(spare)

    async def agent(call: AgentCall) -> None:
        await call.say("One two.")
        desk.engine.speak_fails = True
        said = await call.say("Three four.")
        assert (said.text, said.interrupted) == ("Three four.", False)

    _, finished = await desk.call(agent, stay, {"fallback_synthesizer": "spare", "voice": "theirs"})
    assert told(finished) == [("local", "One two."), ("local", "Three four.")]
    assert spare.spoken == ["Three four."]
    assert notes(finished, "engine_failed")[0]["fallback"] == "spare"
    assert [style.voice for style in desk.engine.styles if style] == ["theirs"]
    assert [style.voice for style in spare.styles if style] == [""], "a voice's name is its engine's own"


async def test_a_voice_nobody_knows_is_replaced_by_its_languages_own_and_the_call_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk()
    desk.engine.unknown = {"klingon-9"}

    async def agent(call: AgentCall) -> None:
        assert (await call.say("Three four.")).text == "Three four."

    _, finished = await desk.call(agent, stay, {"first_message": "One two.", "voice": "klingon-9", "language": "de"})
    assert told(finished) == [("local", "One two."), ("local", "Three four.")]
    assert finished.reason is EndReason.AGENT_HANGUP
    (noted,) = notes(finished, "voice_unknown")
    assert (noted["engine"], noted["voice"], noted["instead"]) == ("fake", "klingon-9", "de")
    assert len([r for r in caplog.records if r.levelname == "WARNING" and "klingon-9" in r.message]) == 1


async def test_a_language_that_the_engine_does_not_speak_is_its_fallbacks_to_speak() -> None:
    desk = Desk()
    desk.engine.unknown = {"klingon-9", "tlh"}
    desk.agents.engines.add(FakeEngine(name="spare"))
    settings = {"first_message": "One two.", "voice": "klingon-9", "language": "tlh", "synthesizer": "fake"}
    _, finished = await desk.call(say_goodbye, stay, settings | {"fallback_synthesizer": "spare"})
    assert told(finished) == [("local", "One two."), ("local", "Goodbye.")]
    assert notes(finished, "engine_failed")[0]["fallback"] == "spare"


async def test_an_ear_that_fails_in_the_middle_is_replaced_and_the_utterance_not_lost() -> None:
    desk = Desk()
    desk.engine.listen_fails = True
    spare = FakeEngine("I am still here", name="spare")
    desk.agents.engines.add(spare)

    async def caller(line: Line) -> None:
        await line.breathe(0.1)
        await line.utter(0.4)
        await line.breathe(0.2)
        line.end()

    settings = {"recognizer": "fake", "fallback_recognizer": "spare"}
    _, finished = await desk.call(mute, caller, settings)
    assert told(finished) == [("remote", "I am still here")]
    assert spare.recognizers[0].cues[0] == "begin"
    assert spare.recognizers[0].fed.count(SPEECH) == round(0.4 * PCMU_8K.rate)
    assert notes(finished, "engine_failed")[0]["ability"] == "listen"


async def test_an_ear_for_another_language_gives_way_to_the_one_that_knows_it() -> None:
    desk = Desk()
    desk.engine.foreign = {"fr"}
    desk.agents.engines.add(FakeEngine("bonjour", name="spare"))

    async def caller(line: Line) -> None:
        await line.utter()
        line.end()

    settings = {"language": "fr", "recognizer": "fake", "fallback_recognizer": "spare"}
    _, finished = await desk.call(mute, caller, settings)
    assert told(finished) == [("remote", "bonjour")]
    assert notes(finished, "engine_failed")[0]["ability"] == "listen"


async def test_without_another_ear_the_call_fails_rather_than_going_on_deaf() -> None:
    desk = Desk()
    desk.engine.listen_fails = True

    async def caller(line: Line) -> None:
        await line.say(0.2)
        await asyncio.sleep(5)

    with pytest.raises(SpeechFailed):
        await desk.call(mute, caller)
    assert notes(desk.finished[-1], "engine_failed")[0]["fallback"] is None


async def test_what_the_caller_expects_to_be_asked_goes_to_the_recogniser() -> None:
    desk = Desk()
    await desk.call(mute, lambda line: _end(line), {"phrases": ["yes please"], "language": "en-GB"})
    hearing = desk.engine.hearings[0]
    assert hearing is not None
    assert (hearing.phrases, hearing.language, hearing.cued) == (("yes please",), "en-GB", True)


async def _end(line: Line) -> None:
    await line.breathe(0.1)
    line.end()


async def test_a_call_leaves_no_task_and_no_engine_of_its_own_behind() -> None:
    before = asyncio.all_tasks()
    desk = Desk("yes")

    async def caller(line: Line) -> None:
        await line.utter()
        line.end()

    await desk.call(mute, caller, {"first_message": "Hello there, who is this?"})
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert sorted(desk.engine.closed) == ["recognizer", "voice"]
    await desk.agents.aclose()
    assert desk.engine.closed[-1] == "engine"


async def test_a_turn_may_be_spoken_in_another_language_and_voice_than_the_conversations() -> None:
    async def agent(call: AgentCall) -> None:
        conversation = call.conversation
        german = conversation.synthesis_in("de", "anna")
        assert german is conversation.synthesis_in("de", "anna"), "one for all turns"
        assert conversation.synthesis_in("en") is conversation.synthesis, "the conversation's own"
        turn = conversation.speaker.begin(synthesis=german)
        conversation.speaker.add(turn, "Guten Tag.", complete=True)
        await turn.over

    desk = Desk()
    _, finished = await desk.call(agent, stay)
    assert told(finished) == [("local", "Guten Tag.")]
    assert [(style.language, style.voice) for style in desk.engine.styles if style] == [("en", ""), ("de", "anna")]
    assert desk.engine.closed.count("voice") == 2


async def test_the_caller_is_heard_in_another_language_from_now_on_and_what_is_being_said_is_told_again() -> None:
    heard: list[str] = []

    async def agent(call: AgentCall) -> None:
        async for turn in call.turns():
            heard.append(turn.text)

    async def caller(line: Line) -> None:
        await line.say(0.2)
        conversation = desk.calls[0].conversation
        await conversation.listen_in("es")
        await line.say(0.2)
        await line.breathe(0.8)
        await line.utter()
        line.end()

    class Kept(Desk):
        calls: list[AgentCall] = []

    async def keep(call: AgentCall) -> None:
        desk.calls.append(call)
        await agent(call)

    desk = Kept("buenos dias", "adios")
    await desk.call(keep, caller)
    assert heard == ["buenos dias", "adios"]
    assert [hearing.language for hearing in desk.engine.hearings if hearing] == ["en", "es"]
    english, spanish = desk.engine.recognizers
    assert spanish.cues == ["begin", "pause", "finish", "begin", "pause", "finish"] and english.cues == ["begin"]
    assert len(spanish.fed) >= 8000 * 0.4, "the beginning too"
    assert desk.engine.closed.count("recognizer") == 2


async def test_a_language_that_cannot_be_heard_leaves_the_conversation_as_it_was() -> None:
    async def agent(call: AgentCall) -> None:
        desk.engine.foreign.add("tlh")
        with pytest.raises(ConfigurationError, match="tlh"):
            await call.conversation.listen_in("tlh")
        turn = await call.listen(5)
        assert turn is not None and turn.text == "still here"

    desk = Desk("still here")
    line, _ = await desk.call(agent, Line.utter)
    assert line.hang_ups == [EndReason.AGENT_HANGUP]
