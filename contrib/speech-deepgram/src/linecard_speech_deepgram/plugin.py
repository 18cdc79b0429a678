"""The hook: one engine, ``deepgram``."""

from __future__ import annotations

from linecard.hookspecs import hookimpl
from linecard.speech import SpeechEngine
from linecard_speech_deepgram.engine import DeepgramEngine


@hookimpl
def linecard_speech_engines() -> list[type[SpeechEngine]]:
    """``deepgram`` listens and speaks."""
    return [DeepgramEngine]
