"""Speech to text on this machine: Whisper models, run by CTranslate2."""

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_whisper.engine import WhisperEngine, WhisperSettings

__all__ = ["WhisperEngine", "WhisperSettings"]


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``whisper`` listens."""
    return [WhisperEngine]
