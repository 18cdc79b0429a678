"""Speech without a cloud: espeak-ng speaks, pocketsphinx listens, Silero detects a voice."""

from linecard_speech_local.espeak import EspeakEngine, EspeakSettings
from linecard_speech_local.pocketsphinx_engine import PocketsphinxEngine, PocketsphinxSettings
from linecard_speech_local.silero import SileroEngine, SileroSettings

__all__ = [
    "EspeakEngine",
    "EspeakSettings",
    "PocketsphinxEngine",
    "PocketsphinxSettings",
    "SileroEngine",
    "SileroSettings",
]
