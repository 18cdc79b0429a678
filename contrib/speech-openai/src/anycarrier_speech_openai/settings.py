"""What can be set about an OpenAI-compatible audio API."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

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
