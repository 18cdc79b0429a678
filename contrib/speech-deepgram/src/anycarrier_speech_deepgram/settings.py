"""What can be set about Deepgram."""

from __future__ import annotations

from pydantic import Field, SecretStr

from anycarrier.speech import EngineSettings


class DeepgramSettings(EngineSettings):
    """``base_url`` may point at a self-hosted Deepgram, or at a regional address.

    ``endpointing_ms`` is how much silence makes Deepgram fix the words of a segment. ``ends_utterances`` lets it end
    the caller's turn as well, which is quicker than anycarrier's silence rule and cuts off people who pause.
    """

    for_workspaces = frozenset({"listen_model", "speak_model", "endpointing_ms", "ends_utterances"})

    api_key: SecretStr
    base_url: str = Field(default="wss://api.deepgram.com", pattern=r"^wss?://[^?#]+$")
    listen_model: str = "nova-3"
    speak_model: str = "aura-2-thalia-en"
    endpointing_ms: int = Field(default=300, ge=0, le=5000, description="0 turns it off")
    ends_utterances: bool = False
    connect_timeout: float = Field(default=5.0, gt=0)
    answer_timeout: float = Field(default=0.8, gt=0, description="seconds for the answer to Finalize")
    speech_timeout: float = Field(default=10.0, gt=0, description="seconds without a sound: synthesis failed")
