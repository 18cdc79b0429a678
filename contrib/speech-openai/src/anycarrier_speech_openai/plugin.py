"""The hook: one engine, ``openai``."""

from __future__ import annotations

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_openai.engine import OpenAIEngine


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``openai`` listens and speaks."""
    return [OpenAIEngine]
