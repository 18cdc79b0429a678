"""The OpenAI audio API for anycarrier: transcriptions of utterances, speech as a stream."""

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_openai.engine import OpenAIEngine, OpenAISettings

__all__ = ["OpenAIEngine", "OpenAISettings"]


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``openai`` listens and speaks."""
    return [OpenAIEngine]
