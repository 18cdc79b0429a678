"""The hook: three engines, found by anycarrier under their names."""

from __future__ import annotations

from anycarrier.hookspecs import hookimpl
from anycarrier.speech import SpeechEngine
from anycarrier_speech_local.espeak import EspeakEngine
from anycarrier_speech_local.pocketsphinx_engine import PocketsphinxEngine
from anycarrier_speech_local.silero import SileroEngine


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``espeak`` speaks, ``pocketsphinx`` listens, ``silero`` detects."""
    return [EspeakEngine, PocketsphinxEngine, SileroEngine]
