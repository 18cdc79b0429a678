"""The engines of one process: which is taken, opened once, closed together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from anycarrier import Exchange, MemoryNumberRegistry, hookimpl, plugins
from anycarrier.agent import AgentCall, Agents
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.shared_engines import Engines
from anycarrier.errors import ConfigurationError, SpeechFailed, UnknownSpeechEngine
from anycarrier.speech import EngineSettings, SpeakingStyle, SpeechEngine
from fake_speech import FakeEngine


class KeyedSettings(EngineSettings):
    api_key: str


class Afar(FakeEngine):
    """Needs an account, and sends voices there."""

    name = "afar"
    remote = True
    settings_type = KeyedSettings

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(name="afar", settings=settings)


class Here(SpeechEngine):
    """Speaks only."""

    name = "here"
    started = 0

    async def start(self) -> None:
        type(self).started += 1

    async def synthesizer(self, style: SpeakingStyle | None = None) -> object:  # type: ignore[override]
        raise SpeechFailed("here", "speak")


class Plugin:
    @hookimpl
    def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
        return [Afar, Here]


@pytest.fixture(autouse=True)
def only_these(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    plugins.register(Plugin(), "engines")
    Here.started = 0
    yield
    plugins.reset()


def test_nobodys_voice_leaves_the_machine_by_default() -> None:
    engines = Engines()
    assert engines.default("speak") == "here"
    assert engines.default("listen") is None and engines.candidates("listen") == []
    assert Engines({"afar": {"api_key": "k"}}).default("listen") == "afar"
    assert Engines({"afar": {"api_key": "k"}}).default("speak") == "afar", "configured goes before installed"


def test_what_was_added_goes_first_and_is_the_same_for_every_call() -> None:
    engines, mine = Engines(), FakeEngine()
    engines.add(mine)
    assert engines.candidates("speak") == [mine]
    assert engines.candidates("speak", AgentSettings(fallback_synthesizer="here")) == [mine, engines.engine("here")]
    assert engines.engine("here") is engines.engine("here")
    assert engines.candidates("speak", AgentSettings(synthesizer="here", fallback_synthesizer="here")) == [
        engines.engine("here")
    ]


def test_what_is_wrong_with_an_engine_is_told_with_its_name_before_a_call_needs_it() -> None:
    engines = Engines()
    assert "no speech engine that listens" in (engines.lacks(AgentSettings(), ["listen"]) or "")
    assert "'nowhere' is installed" in (engines.problem("speak", "nowhere") or "")
    assert "'afar' do not fit: api_key" in (engines.problem("speak", "afar") or "")
    assert "'here' cannot listen" in (engines.problem("listen", "here") or "")
    backed = AgentSettings(synthesizer="nowhere", fallback_synthesizer="here")
    assert engines.problem("speak", "here") is None and engines.lacks(backed, ["speak"]) is None
    assert [engine.name for engine in engines.candidates("speak", backed)] == ["here"]
    needed = AgentSettings(synthesizer="afar", recognizer="afar")
    told = engines.lacks(needed, ["speak", "listen"]) or ""
    assert told.count("api_key") == 1, "said once"
    assert engines.lacks(needed, []) is None


async def test_an_engine_that_did_not_start_is_a_problem_until_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: SpeechEngine) -> None:
        raise SpeechFailed("here", "speak", "no library")

    working = Here.start
    monkeypatch.setattr(Here, "start", fails)
    engines = Engines()
    await engines.start(["here"])
    assert "'here' does not start: here failed to speak: no library" in (engines.problem("speak", "here") or "")
    monkeypatch.setattr(Here, "start", working)
    monkeypatch.setattr("anycarrier.agent.shared_engines.RETRY", -1.0)
    engines.problem("speak", "here")  # asks for another start
    async with asyncio.timeout(5):
        while engines.problem("speak", "here") is not None:
            await asyncio.sleep(0)


async def test_an_engine_that_a_check_finds_working_is_no_problem_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: SpeechEngine) -> None:
        raise SpeechFailed("here", "speak", "no library")

    async def works(self: SpeechEngine) -> None: ...

    monkeypatch.setattr(Here, "start", fails)
    engines = Engines()
    await engines.start(["here"])
    (speak, *_) = engines.explain()
    assert speak.problem is not None and "does not start" in speak.problem
    with pytest.raises(SpeechFailed):
        await engines.check("here")
    assert engines.problem("speak", "here") is not None
    monkeypatch.setattr(Here, "check", works)
    await engines.within({}).check("here")
    assert engines.problem("speak", "here") is None and engines.explain()[0].problem is None


def test_a_misspelt_setting_is_named_with_the_near_one() -> None:
    told = Engines({"afar": {"api_kay": "k"}}).problem("speak", "afar") or ""
    assert "there is no setting 'api_kay'; did you mean 'api_key'?" in told


def test_engines_with_settings_of_ones_own_share_all_others() -> None:
    engines = Engines({"afar": {"api_key": "ours"}})
    theirs = engines.within({"afar": {"api_key": "theirs"}})
    assert theirs.engine("here") is engines.engine("here")
    assert theirs.engine("afar") is not engines.engine("afar")
    assert (theirs.default("listen"), engines.within({}).default("listen"), Engines().default("listen")) == (
        "afar", "afar", None,
    )  # fmt: skip


def test_an_engine_that_cannot_or_is_not_there_says_so_before_a_call_needs_it() -> None:
    with pytest.raises(ConfigurationError, match="cannot listen"):
        Engines().candidates("listen", AgentSettings(recognizer="here"))
    with pytest.raises(UnknownSpeechEngine, match="Install the plugin that ships it"):
        Engines().candidates("speak", AgentSettings(synthesizer="nowhere"))
    with pytest.raises(ConfigurationError, match="api_key"):
        Engines().candidates("speak", AgentSettings(synthesizer="afar"))


async def test_loading_in_the_background_is_once_for_each_and_over_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = asyncio.Event()
    started: list[str] = []

    async def start(self: Here) -> None:
        await slow.wait()
        started.append(self.name)

    monkeypatch.setattr(Here, "start", start)
    engines = Engines()
    assert engines.needed(AgentSettings()) == ["here"]
    assert engines.needed(AgentSettings(recognizer="afar")) == ["here", "afar"]
    for _ in range(2):
        engines.start_soon(engines.needed(AgentSettings()))
    closing = asyncio.ensure_future(engines.aclose())
    await asyncio.sleep(0)
    assert not closing.done() and started == []
    slow.set()
    await closing
    assert started == ["here"]


async def test_starting_is_once_for_each_and_a_failure_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    engines = Engines()
    await engines.start(["here", None, "here", "afar"])
    assert Here.started == 1 and "afar is not ready" in caplog.text
    mine = FakeEngine()
    engines.add(mine)
    await engines.aclose()
    assert mine.closed == ["engine"] and engines.default("speak") == "here"


async def test_an_agent_that_lacks_an_engine_is_named_when_the_exchange_starts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(call: AgentCall) -> None: ...

    agents = Agents()
    agents.add("desk", handler=talk)  # the only engine here speaks
    agents.add("outside", websocket_url="ws://127.0.0.1:1/")
    agents.add("own-speech", raw=lambda session: session.drain())
    exchange = Exchange(
        registry=MemoryNumberRegistry(), credentials={}, public_url="http://127.0.0.1", secret="x" * 32, agents=agents
    )
    await exchange.start()
    await exchange.stop()
    said = [record.getMessage() for record in caplog.records if "will take no calls" in record.getMessage()]
    assert len(said) == 2 and all("no speech engine that listens" in line for line in said)
    assert said[0].startswith("agent 'desk' will take no calls:")
    assert said[1].startswith("agent 'outside' will take no calls, unless its WebSocket does speech itself:")
