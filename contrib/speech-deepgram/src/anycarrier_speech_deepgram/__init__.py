"""Deepgram for anycarrier: listens and speaks over WebSockets. Each call has connections of its own."""

from __future__ import annotations

from anycarrier.errors import ConfigurationError
from anycarrier.hookspecs import hookimpl
from anycarrier.speech import EngineSettings, Hearing, Recognizer, SpeakingStyle, SpeechEngine, Synthesizer
from anycarrier_speech_deepgram.connection import DeepgramSettings
from anycarrier_speech_deepgram.listening import DeepgramRecognizer
from anycarrier_speech_deepgram.speaking import DeepgramSynthesizer

__all__ = ["DeepgramEngine", "DeepgramSettings"]


class DeepgramEngine(SpeechEngine):
    """Listens with nova, speaks with aura, unless told otherwise."""

    name = "deepgram"
    remote = True
    settings_type = DeepgramSettings

    def __init__(self, settings: EngineSettings | None = None) -> None:
        if not isinstance(settings, DeepgramSettings):
            raise ConfigurationError("deepgram needs DeepgramSettings(api_key=...)")
        super().__init__(settings)
        self._set = settings

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """An ear for one call, connected. ``SpeechFailed`` when Deepgram cannot be had."""
        ear = DeepgramRecognizer(self._set, hearing or Hearing())
        await ear.connect()
        return ear

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A voice for one call, connected. ``SpeechFailed`` when Deepgram cannot be had, ``UnknownVoice`` when it has
        not the one that was asked for."""
        voice = DeepgramSynthesizer(self._set, style or SpeakingStyle())
        await voice.connect()
        return voice


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``deepgram`` listens and speaks."""
    return [DeepgramEngine]
