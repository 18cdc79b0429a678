"""Deepgram for anycarrier: listens and speaks over WebSockets."""

from anycarrier_speech_deepgram.engine import DeepgramEngine, DeepgramSettings

__all__ = ["DeepgramEngine", "DeepgramSettings"]
