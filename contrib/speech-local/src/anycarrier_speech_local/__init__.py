"""Speech without a cloud: espeak-ng speaks, pocketsphinx listens, Silero detects a voice."""

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_local.espeak import EspeakEngine, EspeakSettings
from anycarrier_speech_local.pocketsphinx import PocketsphinxEngine, PocketsphinxSettings
from anycarrier_speech_local.silero import SileroEngine, SileroSettings

__all__ = [
    "EspeakEngine",
    "EspeakSettings",
    "PocketsphinxEngine",
    "PocketsphinxSettings",
    "SileroEngine",
    "SileroSettings",
]


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``espeak`` speaks, ``pocketsphinx`` listens, ``silero`` detects."""
    return [EspeakEngine, PocketsphinxEngine, SileroEngine]
