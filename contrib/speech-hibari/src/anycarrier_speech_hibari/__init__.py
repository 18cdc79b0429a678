"""Text to speech on this machine: the hibari voice."""

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_hibari.engine import HibariEngine, HibariSettings

__all__ = ["HibariEngine", "HibariSettings"]


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``hibari`` speaks English."""
    return [HibariEngine]
