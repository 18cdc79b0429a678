"""Engines by name: found through the hook, refused with advice when they are not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest
from pydantic import SecretStr

from anycarrier import plugins
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError, PluginError, SpeechFailed, UnknownSpeechEngine
from anycarrier.hookspecs import hookimpl
from anycarrier.speech.engines import (
    EngineSettings,
    ResultQueue,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    Voice,
    VoiceActivity,
    VoiceGate,
)
from anycarrier.speech.installed_engines import get_speech_engine, open_speech_engine, speech_engine_names


class HummingSettings(EngineSettings):
    key: SecretStr
    pitch: int = 440


class Hum:
    format: AudioFormat = PCMU_8K

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        yield bytes(len(text))

    async def aclose(self) -> None:
        pass


class Humming(SpeechEngine):
    name = "humming"
    settings_type = HummingSettings

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        return Hum()


class Plugin:
    __name__ = "humming-plugin"

    @hookimpl
    def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
        return [Humming]


@pytest.fixture(autouse=True)
def no_installed_plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ANYCARRIER_PLUGINS", "")
    plugins.reset()
    yield
    plugins.reset()


def test_an_unknown_engine_says_what_to_install() -> None:
    with pytest.raises(UnknownSpeechEngine, match="ships it, by convention anycarrier-speech-acme"):
        get_speech_engine("acme")


async def test_an_engine_arrives_by_hook_and_is_opened_by_name() -> None:
    plugins.register(Plugin())
    assert speech_engine_names() == ["humming"]
    engine = open_speech_engine("humming", {"key": "s3cret"})
    assert engine.abilities == {"speak"}
    voice = await engine.synthesizer()
    assert isinstance(voice, Synthesizer)
    assert [piece async for piece in voice.speak("abc")] == [bytes(3)]


async def test_what_an_engine_cannot_do_is_refused_with_what_it_can() -> None:
    plugins.register(Plugin())
    engine = open_speech_engine("humming", {"key": "s3cret"})
    with pytest.raises(ConfigurationError, match=r"'humming' cannot listen \(it can: speak\)"):
        await engine.recognizer()
    with pytest.raises(ConfigurationError, match="cannot detect"):
        await engine.voice_activity_detector()


def test_wrong_settings_are_named_and_their_values_are_not() -> None:
    plugins.register(Plugin())
    with pytest.raises(ConfigurationError, match="pitch") as refused:
        open_speech_engine("humming", {"key": "s3cret", "pitch": "s3cret-too"})
    assert "s3cret" not in str(refused.value)
    with pytest.raises(ConfigurationError, match="key: Field required"):
        open_speech_engine("humming")


def test_two_plugins_with_one_engine_name_are_refused() -> None:
    class Other(SpeechEngine):
        name = "humming"

    class Rival:
        __name__ = "rival"

        @hookimpl
        def anycarrier_speech_engines(self) -> list[type[SpeechEngine]]:
            return [Other]

    plugins.register(Plugin())
    plugins.register(Rival())
    with pytest.raises(PluginError, match="claimed by"):
        speech_engine_names()


def test_failures_name_engine_and_operation_and_hide_numbers() -> None:
    failure = SpeechFailed("humming", "speak", "no line to +14155550123", next_step="Use another.")
    assert str(failure) == "humming failed to speak: no line to +1415…23. Use another."


# --- the result queue -------------------------------------------------------------------------------------------------


async def test_an_inbox_gives_all_that_was_put_then_ends() -> None:
    results: ResultQueue[int] = ResultQueue()
    reader = asyncio.create_task(_all(results))
    await asyncio.sleep(0)
    results.put(1)
    results.put(2)
    results.close()
    results.put(3)
    assert await reader == [1, 2]


async def test_an_inbox_tells_a_failure_after_what_was_put_before() -> None:
    results: ResultQueue[int] = ResultQueue()
    results.put(1)
    results.close(SpeechFailed("humming", "listen"))
    assert await anext(results) == 1
    with pytest.raises(SpeechFailed):
        await anext(results)


async def _all(results: ResultQueue[int]) -> list[int]:
    return [item async for item in results]


# --- the gate --------------------------------------------------------------------------------------------------------


def test_the_gate_says_when_a_voice_began_goes_on_and_ended() -> None:
    gate = VoiceGate(window=0.5)
    told = [activity for p in (0.1, 0.6, 0.4, 0.9, 0.2, 0.4) for activity in gate.feed(p)]
    assert told == [
        VoiceActivity(Voice.STARTED, 0.5),
        VoiceActivity(Voice.CONTINUES, 1.0),
        VoiceActivity(Voice.CONTINUES, 1.5),
        VoiceActivity(Voice.CONTINUES, 2.0),
        VoiceActivity(Voice.ENDED, 2.0),
    ]


class KeyedSettings(EngineSettings):
    api_key: SecretStr | None = None


@pytest.mark.parametrize("key", ["schlüssel-1", "key\nX-Header: 1", "key\x00", "two words"])
def test_a_key_that_fits_no_header_is_refused_without_showing_it(key: str) -> None:
    """HTTP libraries quote such a header in their errors."""
    with pytest.raises(ValueError, match="holds a character that no key has") as refused:
        KeyedSettings.model_validate({"api_key": key})
    assert key not in str(refused.value)


def test_the_line_break_after_a_key_in_a_file_is_dropped() -> None:
    for key, kept in (("sk-1\n", "sk-1"), (" sk-1\r\n", "sk-1"), ("", "")):
        secret = KeyedSettings.model_validate({"api_key": key}).api_key
        assert secret is not None and secret.get_secret_value() == kept
    assert KeyedSettings().api_key is None
