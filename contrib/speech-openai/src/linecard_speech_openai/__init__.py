"""The OpenAI audio API for linecard: transcriptions of utterances, speech as a stream."""

from linecard_speech_openai.engine import OpenAIEngine, OpenAISettings

__all__ = ["OpenAIEngine", "OpenAISettings"]
