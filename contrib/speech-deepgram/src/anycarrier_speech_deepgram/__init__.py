"""Deepgram for anycarrier: listens and speaks over WebSockets."""

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_deepgram.engine import DeepgramEngine, DeepgramSettings

__all__ = ["DeepgramEngine", "DeepgramSettings"]


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``deepgram`` listens and speaks."""
    return [DeepgramEngine]
