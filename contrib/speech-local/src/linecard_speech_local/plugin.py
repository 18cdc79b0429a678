"""The hook: three engines, found by linecard under their names."""

from __future__ import annotations

from linecard.hookspecs import hookimpl
from linecard.speech import SpeechEngine
from linecard_speech_local.espeak import EspeakEngine
from linecard_speech_local.pocketsphinx_engine import PocketsphinxEngine
from linecard_speech_local.silero import SileroEngine


@hookimpl
def linecard_speech_engines() -> list[type[SpeechEngine]]:
    """``espeak`` speaks, ``pocketsphinx`` listens, ``silero`` detects."""
    return [EspeakEngine, PocketsphinxEngine, SileroEngine]
