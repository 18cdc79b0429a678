"""Settings as other generations of this contract spell them, nested by engine, and what of them we have a use for."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from linecard.server.oneinbox.shapes import Sent, Text

USED = {("tts", "voice_id"): "voice", ("tts", "speed"): "speed", ("transcriber", "language"): "language",
        ("llm", "system_prompt"): "system_prompt"}  # fmt: skip
"""Where a setting of ours hides in theirs."""


class Nested(Sent):
    """An engine's settings; those we do not know are kept with a call, and named as ignored on an agent."""

    model_config = ConfigDict(extra="allow")


class TtsSent(Nested):
    """How the agent speaks: ``voice_id`` and ``speed`` are used."""

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


def settings_in(body: BaseModel) -> dict[str, Any]:
    """Settings of ours that ``body`` holds under other names; nulls say nothing."""
    found = {}
    for (group, name), ours in USED.items():
        value = getattr(getattr(body, group, None), name, None)
        if value is not None:
            found[ours] = value
    return found


def unused_in(body: BaseModel) -> list[str]:
    """What ``body`` holds that we have no use for, as ``tts.stability``."""
    unused = list(body.model_extra or {})
    for group in ("tts", "transcriber", "llm"):
        given = getattr(body, group, None)
        if given is not None:
            names = given.model_fields_set - {name for theirs, name in USED if theirs == group}
            unused += [f"{group}.{name}" for name in sorted(names)]
    return unused
