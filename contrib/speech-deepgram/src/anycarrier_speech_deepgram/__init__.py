"""Deepgram for anycarrier: listens and speaks over WebSockets. Each call has connections of its own."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

from anycarrier.errors import ConfigurationError
from anycarrier.hookspecs import hookimpl
from anycarrier.speech import EngineSettings, Hearing, Recognizer, SpeakingStyle, SpeechEngine, Synthesizer
from anycarrier_speech_deepgram.connection import DeepgramSettings, voice_for
from anycarrier_speech_deepgram.listening import DeepgramRecognizer
from anycarrier_speech_deepgram.speaking import DeepgramSynthesizer

__all__ = ["DeepgramEngine", "DeepgramSettings"]


class DeepgramEngine(SpeechEngine):
    """Listens with nova, speaks with aura, unless told otherwise."""

    name = "deepgram"
    remote = True
    settings_type = DeepgramSettings
    punctuates = True

    def __init__(self, settings: EngineSettings | None = None) -> None:
        if not isinstance(settings, DeepgramSettings):
            raise ConfigurationError("deepgram needs DeepgramSettings(api_key=...)")
        super().__init__(settings)
        self._set = settings
        self._connected: WeakSet[DeepgramRecognizer | DeepgramSynthesizer] = WeakSet()

    def knows_language(self, ability: str, language: str) -> bool:
        """Deepgram decides what it listens to, model by model; each of its voices speaks one language."""
        return ability != "speak" or voice_for(self._set, SpeakingStyle(language=language)) is not None

    async def aclose(self) -> None:
        """Close the connections of calls in progress."""
        await asyncio.gather(*(each.aclose() for each in self._connected))

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """A recognizer for one call, connected. Raises ``SpeechFailed`` if Deepgram cannot be reached or refuses."""
        recognizer = DeepgramRecognizer(self._set, hearing or Hearing())
        await recognizer.connect()
        self._connected.add(recognizer)
        return recognizer

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A synthesizer for one call, connected. Raises ``SpeechFailed`` if Deepgram cannot be reached or refuses,
        ``UnknownVoice`` if it does not have the voice or the language."""
        synthesizer = DeepgramSynthesizer(self._set, style or SpeakingStyle())
        await synthesizer.connect()
        self._connected.add(synthesizer)
        return synthesizer


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``deepgram`` listens and speaks."""
    return [DeepgramEngine]
