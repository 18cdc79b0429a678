"""The OpenAI audio API for anycarrier: transcriptions of utterances, speech as a stream."""

from anycarrier_speech_openai.engine import OpenAIEngine, OpenAISettings

__all__ = ["OpenAIEngine", "OpenAISettings"]
