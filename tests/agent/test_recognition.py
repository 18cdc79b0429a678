"""What turn-taking tells a recognizer, the engine that replaces it, and how the words end a turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anycarrier import plugins
from anycarrier.agent import AgentCall, AgentSettings
from anycarrier.agent.recognition import Recognition
from anycarrier.agent.turn_taking import TurnTaking, end_of_turn_rule
from anycarrier.errors import SpeechFailed
from anycarrier.hookspecs import hookimpl
from anycarrier.speech import EndOfTurn, Output, TurnSettings, end_of_turn
from fake_speech import Desk, FakeDetector, FakeEngine, Line


async def mute(call: AgentCall) -> None:
    """Has nothing to say, and listens until the end."""
    async for _ in call.turns():
        pass


# --- the cues --------------------------------------------------------------------------------------------------------


async def test_a_pause_within_an_utterance_is_told_and_so_is_its_end() -> None:
    desk = Desk("I would like a table for two")

    async def caller(line: Line) -> None:
        await line.say(0.3)
        await line.breathe(0.34)
        await line.utter(0.3)
        await line.breathe(0.2)
        line.end()

    await desk.call(mute, caller)
    assert desk.engine.recognizers[0].cues == ["begin", "pause", "resume", "pause", "finish"]


async def test_a_noise_is_discarded_and_the_next_utterance_is_not() -> None:
    desk = Desk("hello")

    async def caller(line: Line) -> None:
        await line.utter(0.04)
        await line.utter(0.3)
        await line.breathe(0.2)
        line.end()

    _, finished = await desk.call(mute, caller)
    assert desk.engine.recognizers[0].cues == ["begin", "discard", "begin", "pause", "finish"]
    assert [segment.text for segment in finished.segments] == ["hello"]


# --- the engine that takes over --------------------------------------------------------------------------------------


@asynccontextmanager
async def recognizing(*engines: FakeEngine, **settings: Any) -> AsyncIterator[Recognition]:
    async def ignore(output: Output) -> None:
        raise AssertionError("nothing carries outputs out here")

    taking = TurnTaking(TurnSettings(), ignore)
    recognition = Recognition(taking, AgentSettings(**settings), list(engines), [], lambda *_, **__: None)
    await recognition.open()
    yield recognition
    await recognition.aclose()


async def replaced(recognition: Recognition, failing: FakeEngine, spare: FakeEngine) -> None:
    """The recognizer in use fails after its last answer, and the next one takes over."""
    failing.recognizers[0]._results.close(SpeechFailed(failing.name, "listen", "out of order"))
    listening = asyncio.create_task(recognition.run())
    async with asyncio.timeout(5):
        while not spare.recognizers:
            await asyncio.sleep(0)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.parametrize(
    ("cues", "retold"),
    [
        (["begin", "feed", "pause"], ["begin", "pause"]),
        (["begin", "feed", "pause", "feed", "resume"], ["begin"]),
        (["begin", "pause", "resume", "feed", "pause"], ["begin", "pause"]),
        (["begin", "feed", "pause", "finish"], ["begin", "finish"]),
        (["begin", "feed", "discard"], ["begin", "discard"]),
        (["begin", "discard", "begin", "pause", "resume", "finish"], ["begin", "discard", "begin", "finish"]),
        (["begin", "pause", "begin"], ["begin"]),
    ],
)
async def test_the_engine_that_takes_over_is_told_of_a_pause_only_while_it_lasts(
    cues: list[str], retold: list[str]
) -> None:
    first, spare = FakeEngine(name="first"), FakeEngine(name="spare")
    first.thinks = 60
    async with recognizing(first, spare) as recognition:
        for cue in cues:
            match cue:
                case "feed":
                    recognition.feed(b"\x20" * 160)
                case "discard":
                    recognition.finish(discard=True)
                case _:
                    getattr(recognition, cue)()
        assert first.recognizers[0].cues == [cue for cue in cues if cue != "feed"]
        await replaced(recognition, first, spare)
        assert spare.recognizers[0].cues == retold
        assert len(spare.recognizers[0].fed) == 160 * cues.count("feed")


async def test_an_answer_to_a_discarded_utterance_is_an_answer() -> None:
    """What came before it is not told to the engine that takes over."""
    first, spare = FakeEngine(name="first"), FakeEngine(name="spare")
    async with recognizing(first, spare) as recognition:
        recognition.begin()
        recognition.feed(b"\x20" * 160)
        recognition.finish(discard=True)  # the fake answers at once
        recognition.begin()
        await replaced(recognition, first, spare)
        assert (spare.recognizers[0].cues, bytes(spare.recognizers[0].fed)) == (["begin"], b"")


async def test_an_utterance_that_ends_while_the_next_engine_opens_is_told_to_it() -> None:
    first, spare = FakeEngine(name="first"), FakeEngine("hello", name="spare")
    opening = asyncio.Event()
    made = spare.recognizer

    async def slowly(hearing: Any = None) -> Any:
        await opening.wait()
        return await made(hearing)

    spare.recognizer = slowly  # type: ignore[method-assign]
    async with recognizing(first, spare) as recognition:
        recognition.begin()
        recognition.feed(b"\x20" * 160)
        first.recognizers[0]._results.close(SpeechFailed("first", "listen", "out of order"))
        listening = asyncio.create_task(recognition.run())
        async with asyncio.timeout(5):
            while recognition._recognizer is not None:
                await asyncio.sleep(0)
        recognition.feed(b"\x20" * 160)
        recognition.finish()
        recognition.begin()
        recognition.feed(b"\x20" * 80)
        opening.set()
        async with asyncio.timeout(5):
            while not spare.recognizers:
                await asyncio.sleep(0)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert spare.recognizers[0].cues == ["begin", "finish", "begin"]
        assert len(spare.recognizers[0].fed) == 400


# --- a detector that is behind ---------------------------------------------------------------------------------------


class LateDetector(FakeDetector):
    """Examines all audio a second and a half after it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()

    def feed(self, audio: bytes) -> None:
        self._waiting += audio
        while len(self._waiting) > 12000:
            super().feed(bytes(self._waiting[:160]))
            del self._waiting[:160]


async def test_a_detector_that_is_behind_costs_no_audio_at_the_start_and_splits_nothing_in_a_pause() -> None:
    desk = Desk("all of it")

    async def late(format: Any = None) -> LateDetector:
        return LateDetector()

    desk.engine.voice_activity_detector = late  # type: ignore[method-assign]

    async def caller(line: Line) -> None:
        await line.breathe(0.5)
        await line.say(0.4)
        await line.breathe(0.3)
        await line.say(0.4)
        await line.breathe(2.8)
        line.end()

    await desk.call(mute, caller)
    (recognizer,) = desk.engine.recognizers
    assert [cue for cue in recognizer.cues if cue in ("begin", "finish")] == ["begin", "finish"]
    assert recognizer.preceding[0] >= 1.5, "the voice began a second and a half before that was known"
    assert recognizer.following[0] >= 0.9, "what came after the pause may belong to the next utterance"


# --- the end of a turn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "punctuates", "applies"),
    [("en", True, True), ("en-GB", True, True), ("en", False, False), ("de", True, False)],
)
async def test_the_rule_applies_while_an_engine_punctuates_english(
    language: str, punctuates: bool, applies: bool
) -> None:
    engine = FakeEngine()
    engine.punctuates = punctuates  # type: ignore[misc]
    async with recognizing(engine, language=language) as recognition:
        assert recognition._turn_taking.turns.settings.punctuated is applies


@pytest.mark.parametrize("spare_punctuates", [True, False])
async def test_the_engine_that_takes_over_decides_anew(spare_punctuates: bool) -> None:
    first, spare = FakeEngine(name="first"), FakeEngine(name="spare")
    first.punctuates, spare.punctuates = not spare_punctuates, spare_punctuates  # type: ignore[misc]
    async with recognizing(first, spare) as recognition:
        await replaced(recognition, first, spare)
        assert recognition._turn_taking.turns.settings.punctuated is spare_punctuates


class Rule:
    """A plugin whose rule takes every sentence for a whole one."""

    def __init__(self, rule: EndOfTurn | None) -> None:
        self.rule = rule
        self.asked: list[str] = []
        self.agents: list[AgentSettings] = []

    @hookimpl
    def anycarrier_end_of_turn(self, settings: AgentSettings) -> EndOfTurn | None:
        self.agents.append(settings)
        return self._asked if self.rule is not None else None

    def _asked(self, text: str, settings: TurnSettings) -> float:
        self.asked.append(text)
        assert self.rule is not None
        return self.rule(text, settings)


class Broken:
    @hookimpl
    def anycarrier_end_of_turn(self) -> EndOfTurn | None:
        raise RuntimeError("no such model")


@pytest.fixture(autouse=True)
def no_plugins_left() -> Iterator[None]:
    yield
    plugins.reset()


async def test_a_plugins_rule_is_asked_for_once_and_used_with_the_words_of_each_pause() -> None:
    plugins.register(plugin := Rule(lambda text, settings: settings.endpointing))
    desk = Desk("I'd like a table.", "Thanks.")
    desk.engine.guesses = ["I'd like a", "Thanks"]

    async def caller(line: Line) -> None:
        await line.utter(0.3)
        await line.utter(0.3)
        await line.breathe(0.2)
        line.end()

    await desk.call(mute, caller, {"language": "en-GB"})
    assert plugin.asked == ["I'd like a", "Thanks"]
    assert [agent.language for agent in plugin.agents] == ["en-GB"]


def test_without_a_plugins_rule_ours_applies() -> None:
    assert end_of_turn_rule(AgentSettings()) is end_of_turn
    plugins.register(Rule(None))
    assert end_of_turn_rule(AgentSettings()) is end_of_turn


def test_a_plugins_rule_that_fails_is_replaced_by_ours_and_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def rule(text: str, settings: TurnSettings) -> float:
        raise ValueError(text)

    plugins.register(Rule(rule))
    settings = TurnSettings(punctuated=True)
    with caplog.at_level(logging.ERROR):
        assert end_of_turn_rule(AgentSettings())("my password is", settings) == settings.incomplete_endpointing
    assert "ValueError" in caplog.text and "password" not in caplog.text


def test_a_plugin_without_a_number_for_an_answer_has_failed() -> None:
    plugins.register(Rule(lambda text, settings: None))  # type: ignore[arg-type,return-value]
    assert end_of_turn_rule(AgentSettings())("Yes.", TurnSettings()) == TurnSettings().endpointing


def test_a_plugins_hook_that_fails_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    plugins.register(Broken())
    with caplog.at_level(logging.ERROR):
        assert end_of_turn_rule(AgentSettings()) is end_of_turn
    assert "anycarrier_end_of_turn" in caplog.text
