"""The hook: one engine, ``deepgram``."""

from __future__ import annotations

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_deepgram.engine import DeepgramEngine


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``deepgram`` listens and speaks."""
    return [DeepgramEngine]
