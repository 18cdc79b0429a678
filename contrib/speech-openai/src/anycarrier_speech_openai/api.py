"""An OpenAI-compatible audio API: its settings, and what its errors mean."""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from pydantic import Field, SecretStr, model_validator

from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import EngineSettings


class OpenAISettings(EngineSettings):
    """``base_url`` ends where ``/audio/speech`` begins; local servers with the same API need no ``api_key``.

    ``speech_rate`` is the rate of raw PCM from the server: 24000 by OpenAI's documents. A WAV header, which some
    servers send in spite of being asked for PCM, is believed instead.

    ``decode_ahead`` sends an utterance at the caller's first pause. The answer comes up to 0.3 s earlier, and the words
    so far decide how long to wait for more; each pause in mid-sentence costs a request that is thrown away.
    """

    for_workspaces = frozenset({"listen_model", "speak_model", "voice", "instructions", "decode_ahead"})

    api_key: SecretStr | None = None
    base_url: str = Field(default="https://api.openai.com/v1", pattern=r"^https?://[^?#]+$")
    listen_model: str = "gpt-transcribe"
    speak_model: str = "gpt-4o-mini-tts"
    voice: str = "alloy"
    instructions: str = Field(default="", description="how to speak, for models that take it")
    speech_rate: int = Field(default=24000, ge=8000, le=48000)
    decode_ahead: bool = False
    timeout: float = Field(
        default=10.0, gt=0, description="seconds to connect, for a transcript, and between two pieces of speech"
    )

    @model_validator(mode="after")
    def _key(self) -> Self:
        if self.api_key is None and urlsplit(self.base_url).hostname == "api.openai.com":
            raise ValueError("api_key is needed at api.openai.com; a server of your own is named in base_url")
        return self


ADVICE = {
    401: "Check the API key.",
    403: "Check what the key may do.",
    404: "Check the base URL and the model: the README says which models OpenAI shuts down.",
    429: "Ask for a higher limit, or name a fallback engine.",
}
NO_CREDIT = "insufficient_quota"
"""The code of a 429 that no second attempt helps."""
UNKNOWN = {400, 404, 422}
"""Answers to a request that names what the server does not have."""
PASSING = {408, 409, 429, 500, 502, 503, 504}
"""Answers after which the same request may succeed."""
LONGEST_REASON = 300
"""Characters of what a server says of a refusal that are kept."""
AGAIN_AFTER = 0.3
"""Seconds before the one second attempt, if the server names no time."""
LONGEST_WAIT = 1.0
"""Seconds a caller can be kept waiting for a second attempt; a server that asks for more has refused."""


def english_only(model: str) -> bool:
    """Whether it is one of Whisper's models for English, which other servers offer: ``base.en``."""
    return model.lower().endswith(".en")


def again_after(response: httpx.Response) -> float | None:
    """Seconds until the same request may succeed; None if it will not, or not in time for a caller."""
    if response.status_code not in PASSING or response.headers.get("x-should-retry") == "false":
        return None
    if _error(response).get("code") == NO_CREDIT:
        return None
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(response.headers[header]) * unit
        except (KeyError, ValueError):  # the header may be a date, too
            continue
        return max(wait, 0.0) if wait <= LONGEST_WAIT else None
    return AGAIN_AFTER


def _error(response: httpx.Response) -> dict[str, Any]:
    """What the server says of a failure; OpenAI's is an object, those of other servers may be a string."""
    try:
        error = response.json().get("error")
    except (ValueError, AttributeError, RecursionError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


def no_answer(operation: str, failure: httpx.HTTPError | httpx.StreamError) -> SpeechFailed:
    """The server could not be reached, or did not finish."""
    return SpeechFailed("openai", operation, str(failure) or type(failure).__name__)


def refusal(operation: str, response: httpx.Response) -> SpeechFailed:
    """The server said no. The body must have been read."""
    error = _error(response)
    message = error.get("message")
    # The server may quote the key it refuses, partly masked; only its first sentence is kept.
    text = str(message).split(". ")[0].split(":")[0][:LONGEST_REASON] if message else f"HTTP {response.status_code}"
    advice = "Top up the account." if error.get("code") == NO_CREDIT else ADVICE.get(response.status_code, "")
    return SpeechFailed("openai", operation, text, next_step=advice)


def refused_voice(voice: str, response: httpx.Response) -> UnknownVoice | None:
    """The refusal of an agent's ``voice``; None when that is not what the server complains of. The body must be read.

    It has no code of its own: OpenAI answers 400 with ``'loc': ('body', 'voice')`` inside the message and a null
    ``param`` (github.com/openai/openai-node/issues/1284), other servers with a sentence.
    """
    if not voice or response.status_code not in UNKNOWN or "voice" not in response.text.lower():
        return None
    return UnknownVoice("openai", voice, "Name one that the server has for the model.")
