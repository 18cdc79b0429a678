"""An OpenAI-compatible audio API: its settings, and what its errors mean."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, model_validator

from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import EngineSettings


class OpenAISettings(EngineSettings):
    """``base_url`` ends where ``/audio/speech`` begins; local servers with the same API need no ``api_key``.

    ``speech_rate`` is the rate of raw PCM from the server: 24000 by OpenAI's documents. A WAV header, which some
    servers send in spite of being asked for PCM, is believed instead.
    """

    for_workspaces = frozenset({"listen_model", "speak_model", "voice", "instructions"})

    api_key: SecretStr | None = None
    base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://[^?#]+$")
    listen_model: str = "gpt-4o-mini-transcribe"
    speak_model: str = "gpt-4o-mini-tts"
    voice: str = "alloy"
    instructions: str = Field(default="", description="how to speak, for models that take it")
    speech_rate: int = Field(default=24000, ge=8000, le=48000)
    timeout: float = Field(default=10.0, gt=0, description="seconds to connect, and between two pieces of an answer")

    @model_validator(mode="after")
    def _key(self) -> Self:
        if self.api_key is None and urlsplit(self.base_url).hostname == "api.openai.com":
            raise ValueError("api_key is needed at api.openai.com; a server of your own is named in base_url")
        return self


ADVICE = {
    401: "Check the API key.",
    403: "Check what the key may do.",
    404: "Check the base URL and the model.",
    429: "Ask for a higher limit, or use another engine.",
}
UNKNOWN = {400, 404, 422}
"""Answers to a request that names what the server does not have."""
PASSING = {408, 409, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed."""


def no_answer(operation: str, failure: httpx.HTTPError | httpx.StreamError) -> SpeechFailed:
    """The server could not be reached, or did not finish."""
    return SpeechFailed("openai", operation, str(failure) or type(failure).__name__)


def refusal(operation: str, response: httpx.Response) -> SpeechFailed:
    """The server said no. The body must have been read."""
    try:
        error = response.json().get("error")
        message = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        message = None
    # The server may quote the key it refuses, partly masked; only its first sentence is kept.
    text = str(message).split(". ")[0].split(":")[0] if message else f"HTTP {response.status_code}"
    return SpeechFailed("openai", operation, text, next_step=ADVICE.get(response.status_code, ""))


def refused_voice(voice: str, response: httpx.Response) -> UnknownVoice | None:
    """The refusal of an agent's ``voice``; None when that is not what the server complains of. The body must be read.

    It has no code of its own: OpenAI answers 400 with ``'loc': ('body', 'voice')`` inside the message and a null
    ``param`` (github.com/openai/openai-node/issues/1284), other servers with a sentence.
    """
    if not voice or response.status_code not in UNKNOWN or "voice" not in response.text.lower():
        return None
    return UnknownVoice("openai", voice, "Name one that the server has for the model.")
