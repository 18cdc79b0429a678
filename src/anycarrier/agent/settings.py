"""Settings of an agent: speech, time limits, interruption, voicemail; and how placeholders are filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from anycarrier.calls import EndReason

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*\}\}")


class AgentSettings(BaseModel):
    """Settings of an agent. The defaults suit a phone conversation in English; times are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_message: str = Field(default="", description="spoken first; {{variables}} are filled in")
    system_prompt: str = Field(default="", description="for agents with a model; {{variables}} are filled in")
    language: str = Field(default="en", description="such as en or pt-BR; the engines used must know it")
    voice: str | None = None
    speed: float = Field(default=1.0, gt=0.25, le=4)
    synthesizer: str | None = Field(default=None, description="engine name; null: the best installed for the language")
    recognizer: str | None = Field(
        default=None, description="engine name; null: the best installed for the grammar and the language"
    )
    fallback_synthesizer: str | None = None
    fallback_recognizer: str | None = None
    phrases: tuple[str, ...] = Field(default=(), description="what callers are expected to say")
    grammar: str | None = Field(default=None, description="JSGF, for recognizers that take one")
    max_duration_seconds: float = Field(default=600, gt=0)
    silence_timeout_seconds: float | None = Field(
        default=None, gt=0, description="neither side heard for this long ends the call; null: never"
    )
    end_call_phrases: tuple[str, ...] = ()
    interruption_sensitivity: float = Field(default=0.5, ge=0, le=1, description="0 never yields, 1 yields to a word")
    enable_recording: bool = False
    voicemail_detection: bool = False
    on_voicemail: str = Field(default="hang_up", pattern="^(hang_up|leave_message|ignore)$")
    voicemail_message: str = ""
    fallback_agent_id: str | None = None
    dynamic_variables: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    metadata: Mapping[str, Any] = Field(default_factory=dict)

    def ends_call(self, said: str) -> EndReason | None:
        """``END_CALL_PHRASE`` if ``said`` contains one of the phrases, comparing words without case and punctuation."""
        heard = f" {' '.join(_words(said))} "
        for phrase in self.end_call_phrases:
            words = _words(phrase)
            if words and f" {' '.join(words)} " in heard:
                return EndReason.END_CALL_PHRASE
        return None


RAW_AUDIO_HAS_NO: Mapping[str, str] = {
    "system_prompt": "its function brings its own",
    "recognizer": "it recognizes speech itself",
    "fallback_recognizer": "it recognizes speech itself",
    "phrases": "it recognizes speech itself",
    "grammar": "it recognizes speech itself",
    "end_call_phrases": "what is said is not known here",
    "silence_timeout_seconds": "only its function knows when somebody speaks",
    "interruption_sensitivity": "its function decides when to stop speaking",
    "on_voicemail": "its function gets MachineDetected, and decides",
}
"""Settings without an effect on a raw audio agent, and why."""


def misfits_of_raw_audio(settings: AgentSettings) -> dict[str, str]:
    """What is set and can have no effect on a raw audio agent: why, by the setting's name."""
    default = AgentSettings()
    found = [name for name in RAW_AUDIO_HAS_NO if getattr(settings, name) != getattr(default, name)]
    if settings.on_voicemail == "ignore":
        found.remove("on_voicemail")  # so it is
    ending = "Leave it out, or set it to its default"
    return {name: f"has no effect on a raw audio agent: {RAW_AUDIO_HAS_NO[name]}. {ending}" for name in found}


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", text.lower())


def fill(template: str, variables: Mapping[str, Any]) -> tuple[str, list[str]]:
    """``template`` with each ``{{name}}`` filled in, and the names without a value.

    A missing value becomes an empty string, so braces are never spoken. Values are inserted once, as they are: a
    placeholder inside a value is not filled.
    """
    missing: list[str] = []

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match.group(1))
        if value is None:
            missing.append(match.group(1))
            return ""
        return str(value).lower() if isinstance(value, bool) else str(value)

    return PLACEHOLDER.sub(value_of, template), missing
