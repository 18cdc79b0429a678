"""The hook: one engine, ``openai``."""

from __future__ import annotations

from linecard.hookspecs import hookimpl
from linecard.speech import SpeechEngine
from linecard_speech_openai.engine import OpenAIEngine


@hookimpl
def linecard_speech_engines() -> list[type[SpeechEngine]]:
    """``openai`` listens and speaks."""
    return [OpenAIEngine]
