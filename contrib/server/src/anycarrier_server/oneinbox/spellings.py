"""Settings as other generations of this contract spell them, nested by engine.

What of them we have a use for: ``domain/overrides.py``.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from anycarrier_server.oneinbox.shapes import Sent, Text


class Nested(Sent):
    """An engine's settings; those we do not know are kept with a call, and named as ignored on an agent."""

    model_config = ConfigDict(extra="allow")


class TtsSent(Nested):
    """How the agent speaks: ``speed`` is used, and ``voice_id`` where the engine that speaks here knows it."""

    provider: str | None = None
    credential_id: str | None = None
    voice_id: str | None = Field(default=None, max_length=255)
    model: str | None = None
    speed: float | None = Field(default=None, gt=0.25, le=4)
    stability: float | None = None


class TranscriberSent(Nested):
    """How the agent listens: ``language`` is used."""

    provider: str | None = None
    model: str | None = None
    language: str | None = Field(default=None, max_length=35)


class LlmSent(Nested):
    """What the agent thinks with is its own business: ``system_prompt`` is handed to it."""

    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    system_prompt: Text | None = None


class OverridesSent(Nested):
    """Settings for one call only."""

    llm: LlmSent | None = None
    transcriber: TranscriberSent | None = None
    tts: TtsSent | None = None
    first_message: Text | None = None
