"""Deepgram for linecard: listens and speaks over WebSockets."""

from linecard_speech_deepgram.engine import DeepgramEngine, DeepgramSettings

__all__ = ["DeepgramEngine", "DeepgramSettings"]
