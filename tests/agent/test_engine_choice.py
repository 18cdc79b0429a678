"""Which engine an agent's calls use: by what is installed, the agent's grammar and its language."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from anycarrier import Exchange, MemoryNumberRegistry, hookimpl, plugins
from anycarrier.agent import AgentCall, Agents, AgentSettings, Engines
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import (
    EngineSettings,
    Hearing,
    Recognizer,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    VoiceActivityDetector,
)
from fake_speech import Desk, FakeEngine, Line, notes, told


class Speaks(SpeechEngine):
    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        raise SpeechFailed(self.name, "speak", "out of order")


class Listens(SpeechEngine):
    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        raise SpeechFailed(self.name, "listen", "out of order")


class Polyglot(Speaks):
    name = "a-polyglot"


class Natural(Speaks):
    name = "natural"
    rank = 10

    def knows_language(self, ability: str, language: str) -> bool:
        return ability == "speak" and language.startswith("en")

    def knows_voice(self, voice: str) -> bool:
        return voice == "heart"


class Voices(Speaks):
    name = "of-many-voices"

    def knows_voice(self, voice: str) -> bool:
        return voice == "zoe"


class ByGrammar(Listens):
    name = "by-grammar"
    free_speech = False
    obeys_grammar = True

    def knows_language(self, ability: str, language: str) -> bool:
        return language.startswith("en")


class Dictation(Listens):
    name = "dictation"
    rank = 10
    broken = False

    async def start(self) -> None:
        if self.broken:
            raise SpeechFailed(self.name, "listen", "model.bin is cut", next_step="pip install --force-reinstall it")

    def knows_language(self, ability: str, language: str) -> bool:
        return language.startswith("en")

    def language_advice(self, ability: str, language: str) -> str:
        return "dictation hears German with its large model" if language == "de" else ""


class CloudSettings(EngineSettings):
    key: str


class Cloud(Speaks, Listens):
    name = "cloud"
    remote = True
    settings_type = CloudSettings


Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Have these engines installed, and no others."""
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")

    def install(*kinds: type[SpeechEngine]) -> None:
        class Plugin:
            @hookimpl
            def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
                return list(kinds)

        plugins.reset()
        plugins.register(Plugin(), "engines")

    yield install
    plugins.reset()


def used(engines: Engines, ability: str, **settings: object) -> list[str]:
    """The engine of an agent with these settings, and its fallbacks."""
    choice = next(c for c in engines.explain(AgentSettings.model_validate(settings)) if c.ability == ability)
    return [*([choice.engine] if choice.engine else []), *choice.fallbacks]


def test_installing_better_engines_changes_what_answers(install: Install) -> None:
    install(Polyglot, ByGrammar)
    engines = Engines()
    assert (engines.default("speak"), engines.default("listen")) == ("a-polyglot", "by-grammar")
    install(Polyglot, ByGrammar, Natural, Dictation)
    assert (engines.default("speak"), engines.default("listen")) == ("natural", "dictation")
    assert engines.needed(AgentSettings()) == ["natural", "dictation"], "nothing else is started"


def test_an_agent_with_a_grammar_gets_the_engine_that_obeys_it(install: Install) -> None:
    install(Dictation, ByGrammar)
    engines = Engines()
    grammar = AgentSettings(grammar="#JSGF V1.0; grammar a; public <a> = yes | no;")
    assert engines.default("listen", grammar) == "by-grammar" and engines.needed(grammar) == ["by-grammar"]
    assert used(engines, "listen", grammar=grammar.grammar) == ["by-grammar", "dictation"]
    assert used(engines, "listen", phrases=["yes"]) == ["dictation", "by-grammar"]
    assert used(engines, "listen") == ["dictation"], "never one that needs phrases, for an agent that has none"


def test_a_language_is_spoken_by_an_engine_that_knows_it(install: Install) -> None:
    install(Polyglot, Natural, Dictation, ByGrammar)
    engines = Engines()
    assert used(engines, "speak", language="en-GB") == ["natural", "a-polyglot"]
    assert used(engines, "speak", language="de") == ["a-polyglot"]
    assert used(engines, "listen", language="de") == []
    lacks = engines.lacks(AgentSettings(language="de"), ["speak", "listen"]) or ""
    assert "no speech engine here listens in 'de' (asked: by-grammar, dictation)" in lacks and "speaks" not in lacks
    assert "setting language" in lacks and lacks.endswith(". dictation hears German with its large model")
    named = engines.lacks(AgentSettings(language="de", recognizer="dictation"), ["listen"]) or ""
    assert named.endswith("in recognizer. dictation hears German with its large model")
    with pytest.raises(ConfigurationError, match="listens in 'de'"):
        engines.candidates("listen", AgentSettings(language="de"))


def test_the_engine_that_has_the_agents_voice_speaks(install: Install) -> None:
    install(Natural, Voices, Cloud)
    engines = Engines()
    assert used(engines, "speak", voice="zoe") == ["of-many-voices", "natural"]
    assert used(engines, "speak", voice="heart") == ["natural", "of-many-voices"]
    assert used(engines, "speak", voice="klingon-9") == ["natural", "of-many-voices"], "no voice costs a call"
    assert used(engines, "speak", voice="zoe", language="de") == ["of-many-voices"]
    assert used(engines, "speak", voice="zoe", synthesizer="natural") == ["natural"]
    assert used(Engines({"cloud": {"key": "k"}}), "speak", voice="zoe") == ["cloud", "of-many-voices", "natural"]
    reasons = [engines.explain(AgentSettings(voice=voice))[0].reason for voice in ("zoe", "heart", "klingon-9")]
    assert reasons == ["has the agent's voice", "has the agent's voice", "highest rank: 10"]


def test_a_named_engine_stays_named_and_is_refused_for_a_language_it_does_not_know(install: Install) -> None:
    install(Polyglot, Natural, Dictation, ByGrammar)
    engines = Engines()
    assert used(engines, "listen", recognizer="by-grammar") == ["by-grammar"]
    assert used(engines, "speak", synthesizer="a-polyglot") == ["a-polyglot"]
    assert used(engines, "speak", fallback_synthesizer="a-polyglot") == ["natural", "a-polyglot"]
    german = AgentSettings(synthesizer="natural", language="de")
    assert "'natural' does not speak in 'de'" in (engines.lacks(german, ["speak"]) or "")
    assert "another engine in synthesizer" in (engines.lacks(german, ["speak"]) or "")
    backed = german.model_copy(update={"fallback_synthesizer": "a-polyglot"})
    assert engines.lacks(backed, ["speak"]) is None
    assert [engine.name for engine in engines.candidates("speak", backed)] == ["a-polyglot"]


def test_what_was_added_goes_first_then_remote_ones_with_settings_then_those_of_this_machine(install: Install) -> None:
    install(Polyglot, Natural, Cloud)
    assert used(Engines(), "speak") == ["natural", "a-polyglot"], "nothing leaves the machine unasked"
    engines = Engines({"cloud": {"key": "k"}, "a-polyglot": {}})
    assert used(engines, "speak") == ["cloud", "natural", "a-polyglot"]
    engines.add(FakeEngine())
    assert used(engines, "speak") == ["fake"], "whoever added it chose it"
    reasons = {c.ability: c.reason for c in Engines({"cloud": {"key": "k"}}).explain()}
    assert reasons == {"speak": "remote, and has settings", "listen": "remote, and has settings", "detect": "none fits"}


def test_a_workspaces_own_account_goes_before_the_shared_ones_and_shares_all_else(install: Install) -> None:
    install(Natural, Cloud, Dictation, ByGrammar)
    shared = Engines()
    assert used(shared.within({"cloud": {"key": "theirs"}}), "listen") == ["cloud", "dictation"]
    assert used(shared.within({}), "listen") == ["dictation"]
    assert shared.within({"natural": {}}).default("listen", AgentSettings(grammar="...")) == "by-grammar"


async def test_a_recognizer_that_is_installed_and_broken_is_told_of_rather_than_replaced_by_one_that_needs_phrases(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Dictation, ByGrammar)
    monkeypatch.setattr(Dictation, "broken", True)
    engines = Engines()
    await engines.start(["dictation"])
    assert engines.default("listen") == "dictation"
    lacks = engines.lacks(AgentSettings(), ["listen"]) or ""
    assert "model.bin is cut" in lacks and "force-reinstall" in lacks
    assert engines.lacks(AgentSettings(phrases=("yes",)), ["listen"]) is None, "the other one does for phrases"


async def test_an_agent_whose_recognizer_needs_phrases_is_named_when_the_exchange_starts(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk(call: AgentCall) -> None: ...

    install(ByGrammar, Natural)
    agents = Agents()
    agents.add("desk", handler=talk)
    exchange = Exchange(
        registry=MemoryNumberRegistry(), credentials={}, public_url="http://127.0.0.1", secret="x" * 32, agents=agents
    )
    await exchange.start()
    await exchange.stop()
    assert "agent 'desk': the agent's recognizer 'by-grammar' gets most words wrong" in caplog.text


def test_the_only_recognizer_is_used_without_phrases_and_a_warning_says_what_it_is_worth(install: Install) -> None:
    install(ByGrammar)
    engines = Engines()
    (listen,) = [choice for choice in engines.explain() if choice.ability == "listen"]
    assert (listen.engine, listen.problem) == ("by-grammar", None)
    assert listen.warning is not None and "free speech" in listen.warning
    for settings in (AgentSettings(phrases=("yes",)), AgentSettings(recognizer="by-grammar")):
        assert [choice.warning for choice in engines.explain(settings)] == [None, None, None]


class Fails(FakeEngine):
    name = "natural"
    rank = 10

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(name="natural")
        self.speak_fails = True


class Works(FakeEngine):
    name = "works"

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(name="works")


async def test_the_next_engine_of_this_machine_takes_over_in_mid_call_though_no_fallback_is_named(
    install: Install,
) -> None:
    install(Fails, Works)
    desk = Desk()
    desk.agents.engines = Engines()

    async def talk(call) -> None:  # type: ignore[no-untyped-def]
        await call.say("Good morning.")

    async def far_end(line: Line) -> None:
        await line.until(lambda: len(line.heard()) > 0)

    _, finished = await desk.call(talk, far_end)
    assert ("local", "Good morning.") in told(finished)
    (failed,) = notes(finished, "engine_failed")
    assert (failed["engine"], failed["fallback"]) == ("natural", "works")


def test_an_engine_that_cannot_be_opened_is_said_together_with_the_one_that_does_its_work(install: Install) -> None:
    install(Polyglot, Cloud)
    engines = Engines({"cloud": {}})
    choice = next(c for c in engines.explain() if c.ability == "speak")
    assert (choice.engine, choice.problem) == ("cloud", None)
    assert choice.warning == (
        "settings of speech engine 'cloud' do not fit: key: Field required; 'a-polyglot' speaks instead"
    )
    assert [engine.name for engine in engines.candidates("speak")] == ["a-polyglot"]


def test_an_engine_that_fails_when_asked_for_a_language_is_passed_over(install: Install) -> None:
    class Faulty(Speaks):
        name = "faulty"
        rank = 20

        def knows_language(self, ability: str, language: str) -> bool:
            raise RuntimeError("a bug")

    install(Faulty, Polyglot)
    engines = Engines()
    assert used(engines, "speak") == ["a-polyglot"]
    assert [engine.name for engine in engines.candidates("speak")] == ["a-polyglot"]
    assert engines.lacks(AgentSettings(), ["speak"]) is None


def test_a_recognizer_that_was_added_is_used_even_if_it_needs_words(install: Install) -> None:
    install(Dictation)
    engines = Engines()
    engines.add(ByGrammar())
    assert used(engines, "listen") == ["by-grammar"]
    choice = next(c for c in engines.explain() if c.ability == "listen")
    assert choice.warning is not None and "gets most words wrong" in choice.warning


# --- a recognizer that needs a voice detector -----------------------------------------------------------------------


class Detects(SpeechEngine):
    name = "detects"

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> VoiceActivityDetector:
        raise SpeechFailed(self.name, "detect", "out of order")


class Utterances(Listens):
    name = "utterances"
    rank = 20
    needs_detector = True


def test_without_a_voice_detector_a_recognizer_that_needs_one_is_not_used(
    install: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    install(Utterances)
    engines = Engines()
    assert "'utterances' needs a voice detector" in (engines.lacks(AgentSettings(), ["listen"]) or "")
    with pytest.raises(ConfigurationError, match="needs a voice detector"):
        engines.candidates("listen")
    install(Utterances, Dictation)
    assert [engine.name for engine in Engines().candidates("listen")] == ["dictation"]
    assert Engines().lacks(AgentSettings(), ["listen"]) is None
    install(Utterances, Detects)
    assert [engine.name for engine in Engines().candidates("listen")] == ["utterances"]
    assert Engines().lacks(AgentSettings(), ["listen"]) is None
