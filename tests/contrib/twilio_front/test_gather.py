"""``<Gather>`` alone, on a line in memory: words, pauses, noise, engines that fail, and keys beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from anycarrier.speech import Heard, SpeechEngine
from anycarrier_twilio.carrier_side.twiml import TwimlError, Verb
from anycarrier_twilio_front.gather import Gather
from anycarrier_twilio_front.speech import Speech
from fake_speech import FakeEngine, Line

Act = Callable[[Line], Awaitable[None]]


async def nothing() -> None:
    pass


async def gathered(
    far_end: Act,
    *recognizers: FakeEngine,
    detectors: list[FakeEngine] | None = None,
    prompt: Callable[[], Awaitable[None]] = nothing,
    **attributes: str,
) -> tuple[dict[str, str], float]:
    """What a ``<Gather input="dtmf speech">`` returns, and after how many seconds."""
    line = Line()
    await line.session.stream.wait_started(30)
    verb = Verb("Gather", {"input": "dtmf speech", **attributes})
    voices = list(recognizers[:1]) if detectors is None else detectors
    gather = Gather(verb, line.session, [*recognizers], [*voices])

    async def read() -> None:
        async for event in line.session:
            gather.hear(event)

    async def acts() -> None:
        await far_end(line)
        await line.breathe(100)

    others = [asyncio.ensure_future(read()), asyncio.ensure_future(acts())]
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.timeout(150):
        result = await gather.run(prompt)
    seconds = clock() - began
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await line.aclose()
    return result, seconds


async def test_a_pause_shorter_than_the_speech_timeout_does_not_end_what_is_said() -> None:
    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        await line.say(0.4)
        await line.breathe(1.2)
        await line.say(0.4)

    engine = FakeEngine("a table for two", "and a chair")
    result, seconds = await gathered(caller, engine, speechTimeout="2")
    assert result == {"SpeechResult": "a table for two", "Confidence": "1.0"}
    assert engine.recognizers[0].cues == ["begin", "pause", "resume", "pause", "finish"]
    assert 4.4 <= seconds <= 5, "two seconds after the last voice"


@pytest.mark.parametrize(("attributes", "silence"), [({"speechTimeout": "auto"}, 1), ({"timeout": "3"}, 3), ({}, 5)])
async def test_the_silence_that_ends_words_is_a_second_for_auto_and_else_the_timeout(
    attributes: dict[str, str], silence: float
) -> None:
    result, seconds = await gathered(lambda line: line.say(0.4), FakeEngine("yes"), **attributes)
    assert result["SpeechResult"] == "yes"
    assert silence + 0.3 <= seconds <= silence + 1


async def test_a_noise_without_words_ends_nothing_and_the_timeout_holds() -> None:
    async def caller(line: Line) -> None:
        await line.say(0.3)
        await line.breathe(2)
        await line.say(0.3)

    engine = FakeEngine()

    async def with_words(line: Line) -> None:
        await line.say(0.3)
        await line.breathe(2)
        engine.words.append("two")
        await line.say(0.3)

    result, _ = await gathered(with_words, engine, speechTimeout="auto", timeout="4")
    assert result["SpeechResult"] == "two"
    result, seconds = await gathered(caller, FakeEngine(), speechTimeout="auto", timeout="3")
    assert result == {} and 5 <= seconds <= 10


async def test_a_recognizer_that_takes_its_time_is_waited_for() -> None:
    engine = FakeEngine("two and three")  # "two" is known at once
    engine.thinks = 6.0
    result, _ = await gathered(lambda line: line.say(0.3), engine, speechTimeout="auto", timeout="1")
    assert result["SpeechResult"] == "two and three"


async def test_a_minute_may_be_said_at_once() -> None:
    _, seconds = await gathered(lambda line: line.say(45), FakeEngine("yes"), speechTimeout="1")
    assert 45.9 <= seconds <= 46.5
    _, seconds = await gathered(lambda line: line.say(80), FakeEngine("yes"), speechTimeout="1")
    assert 59.9 <= seconds <= 60.5


async def test_keys_count_more_than_words() -> None:
    async def caller(line: Line) -> None:
        await line.say(0.3)
        line.press("4")
        await line.breathe(1.5)
        line.press("2#")

    result, _ = await gathered(caller, FakeEngine("two"), speechTimeout="1")
    assert result == {"Digits": "42", "FinishedOnKey": "#"}


async def test_keys_do_not_count_where_words_alone_are_wanted() -> None:
    async def caller(line: Line) -> None:
        line.press("4#")
        await line.say(0.3)

    result, _ = await gathered(caller, FakeEngine("two"), input="speech", speechTimeout="1")
    assert result["SpeechResult"] == "two"


async def test_another_engine_takes_over_from_one_that_fails_and_without_one_keys_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def caller(line: Line) -> None:
        await line.say(0.4)
        await line.breathe(3)
        line.press("7#")

    broken, other = FakeEngine("lost"), FakeEngine("found", name="other")
    broken.listen_fails = True
    result, _ = await gathered(caller, broken, other, speechTimeout="auto")
    assert result["SpeechResult"] == "found" and "engine: fake, ability: listen" in caplog.text
    result, _ = await gathered(caller, broken, speechTimeout="auto")
    assert result == {"Digits": "7", "FinishedOnKey": "#"}
    assert "nothing listens to the words of a <Gather> any more" in caplog.text
    result, seconds = await gathered(lambda line: line.say(0.4), broken, speechTimeout="auto", timeout="4")
    assert result == {} and seconds < 10


async def test_a_recognizer_that_ends_what_is_said_itself_needs_no_detector() -> None:
    engine = FakeEngine()

    async def caller(line: Line) -> None:
        await line.breathe(1)
        [recognizer] = engine.recognizers
        recognizer._results.put(Heard("a table"))
        await line.breathe(3)
        recognizer._results.put(Heard("a table for two", final=True, complete=True))

    result, seconds = await gathered(caller, engine, detectors=[], timeout="4")
    assert result["SpeechResult"] == "a table for two" and 4 <= seconds <= 5


@pytest.mark.parametrize("by", ["voice", "words"])
async def test_the_first_voice_or_word_stops_the_prompt(by: str) -> None:
    stopped: list[float] = []
    clock = asyncio.get_running_loop().time
    began = clock()

    async def prompt() -> None:
        try:
            await asyncio.sleep(50)
        finally:
            stopped.append(clock() - began)

    engine = FakeEngine()

    async def caller(line: Line) -> None:
        await line.breathe(1)
        if by == "words":
            engine.recognizers[0]._results.put(Heard("yes"))
        else:
            await line.say(0.4)
            engine.words.append("yes")

    detectors = [] if by == "words" else None
    result, _ = await gathered(caller, engine, detectors=detectors, prompt=prompt, timeout="0", speechTimeout="2")
    assert result["SpeechResult"] == "yes" and 1 <= stopped[0] <= 1.3


async def test_a_prompt_that_fails_fails_the_verb() -> None:
    async def prompt() -> None:
        await asyncio.sleep(1)
        raise ValueError("no such file")

    with pytest.raises(ValueError, match="no such file"):
        await gathered(lambda line: line.breathe(1), FakeEngine("yes"), prompt=prompt)


def test_who_listens_knows_the_language_and_without_one_keys_alone_count(caplog: pytest.LogCaptureFixture) -> None:
    class Speaker(SpeechEngine):
        synthesizer = FakeEngine.synthesizer

    class German(FakeEngine):
        def knows_language(self, ability: str, language: str) -> bool:
            return language == "de-DE" or ability == "speak"

    german, english = German(name="german"), FakeEngine(name="english")
    german_words = {"input": "dtmf speech", "language": "de-DE"}
    speech = Speech([Speaker(), german, english])
    assert speech.listeners(Verb("Gather", german_words)) == ([german, english], [german, english])
    assert speech.listeners(Verb("Gather", {"input": "speech"})) == ([english], [german, english])
    assert speech.listeners(Verb("Gather")) == ([], []) and not caplog.text
    assert Speech([german]).listeners(Verb("Gather", {"input": "dtmf speech"})) == ([], [])
    assert "no speech engine listens" in caplog.text
    with pytest.raises(TwimlError, match='12200: <Gather input="speech"> needs a speech engine that listens'):
        Speech([Speaker()]).check(Verb("Gather", {"input": "speech"}))
    Speech([Speaker()]).check(Verb("Gather", {"input": "dtmf speech"}))
