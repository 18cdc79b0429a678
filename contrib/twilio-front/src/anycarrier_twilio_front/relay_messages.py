"""What a ``<ConversationRelay>`` asks for, and what its bot sends: read, with Twilio's defaults. Pure.

https://www.twilio.com/docs/voice/twiml/connect/conversationrelay
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from anycarrier_twilio.carrier_side.twiml import Verb

INPUTS = {"none": frozenset[str](), "dtmf": frozenset({"dtmf"}), "speech": frozenset({"speech"})}
ANY = frozenset({"dtmf", "speech"})
"""What a caller's input can be; ``true`` is an older spelling of ``any``, ``false`` of ``none``."""

RELAY_ATTRIBUTES = frozenset(
    "url welcomeGreeting welcomeGreetingInterruptible interruptible preemptible dtmfDetection partialPrompts hints "
    "voice language ttsLanguage transcriptionLanguage reportInputDuringAgentSpeech".split()
)
"""Attributes that are obeyed. The others choose among Twilio's engines and services, and change nothing here."""


def inputs(word: object, otherwise: frozenset[str] = ANY) -> frozenset[str]:
    """Which input an attribute or a message's field means; ``otherwise`` where it says nothing we know."""
    text = str(word).lower()
    return ANY if text in ("any", "true") else frozenset[str]() if text == "false" else INPUTS.get(text, otherwise)


def flag(word: object, otherwise: bool = False) -> bool:
    """A yes or no, as XML and JSON write it."""
    return {"true": True, "false": False}.get(str(word).lower(), otherwise)


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """What a ``<ConversationRelay>`` asks for: its attributes, ``<Parameter>`` and ``<Language>`` children."""

    attributes: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)
    languages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def get(self, name: str, otherwise: str = "") -> str:
        """An attribute, or ``otherwise``."""
        return self.attributes.get(name) or otherwise

    @property
    def listening(self) -> str:
        """The caller's language, "" where none is named; ``multi`` (several at once) is no language of ours."""
        return self._language("transcriptionLanguage")

    @property
    def speaking(self) -> str:
        """The bot's language, "" where none is named."""
        return self._language("ttsLanguage")

    def _language(self, name: str) -> str:
        language = self.get(name) or self.get("language")
        return "" if language == "multi" else language

    def voice(self, language: str) -> str | None:
        """The voice asked for in a language. One that the engine does not have is replaced by the engine's own."""
        return self.languages.get(language, {}).get("voice") or self.get("voice") or None

    @classmethod
    def of(cls, noun: Verb) -> RelaySettings:
        """As a document has them."""
        parameters = {child.get("name"): child.get("value") for child in noun.nouns if child.name == "Parameter"}
        languages = {child.get("code"): child.attributes for child in noun.nouns if child.name == "Language"}
        return cls(noun.attributes, parameters, languages)


# --- messages of the bot ----------------------------------------------------------------------------------------------


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text", rename="camel"):
    """A token to speak; a *talk cycle* is all tokens up to one with ``last``."""

    token: str
    last: bool = False
    lang: str | None = None
    interruptible: bool | str | None = None
    preemptible: bool | None = None


class Play(msgspec.Struct, frozen=True, tag_field="type", tag="play", rename="camel"):
    """Audio to play: a URL."""

    source: str
    loop: int = 1
    interruptible: bool | str | None = None
    preemptible: bool | None = None


class SendDigits(msgspec.Struct, frozen=True, tag_field="type", tag="sendDigits", rename="camel"):
    """Keys to press."""

    digits: str


class Language(msgspec.Struct, frozen=True, tag_field="type", tag="language", rename="camel"):
    """Speak or listen in another language from now on."""

    tts_language: str | None = None
    transcription_language: str | None = None


class End(msgspec.Struct, frozen=True, tag_field="type", tag="end", rename="camel"):
    """The session is over; the call goes on with the ``action`` document."""

    handoff_data: Any = None

    @property
    def handed_over(self) -> str | None:
        """For the ``action`` URL: as it came where it is text, else its JSON."""
        data = self.handoff_data
        return data if data is None or isinstance(data, str) else json.dumps(data)


BotMessage = Text | Play | SendDigits | Language | End
_decode = msgspec.json.Decoder(BotMessage, strict=False).decode


def read(frame: str | bytes) -> BotMessage:
    """One message of the bot; ``ValueError`` with the reason for what is none."""
    try:
        message: BotMessage = _decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise ValueError(str(problem)) from None
    return message
