"""The speech engines of a front: who speaks a bot's ``<Say>``, and who listens in its ``<Gather input="speech">``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

from anycarrier import AudioFormat
from anycarrier.agent import AgentSettings, Engines
from anycarrier.agent.synthesis import Synthesis
from anycarrier.errors import ConfigurationError
from anycarrier.speech import SpeechEngine, open_speech_engine
from anycarrier_twilio.carrier_side.twiml import TwimlError, Verb

log = logging.getLogger("anycarrier.twilio_front")

SpeechEngines = SpeechEngine | str | Sequence[SpeechEngine | str]
"""One engine or several, each given or by its name; the first that can do a thing does it."""


class Speech:
    """A front's engines. Without any, documents that speak or listen to words are refused."""

    def __init__(self, named: SpeechEngines | None) -> None:
        several = [] if named is None else [named] if isinstance(named, SpeechEngine | str) else list(named)
        self._engines = [open_speech_engine(one) if isinstance(one, str) else one for one in several]
        if self._engines and not self._able("speak"):
            names = ", ".join(engine.name for engine in self._engines)
            raise ConfigurationError(f"no <Say> could be spoken: {names} cannot speak. Name an engine that can")

    async def start(self) -> None:
        """Load what the first call would else wait for."""
        for engine in self._engines:
            await engine.start()

    async def aclose(self) -> None:
        """Stop the engines."""
        for engine in self._engines:
            await engine.aclose()

    @functools.cached_property
    def engines(self) -> Engines:
        """For a ``<ConversationRelay>``: these, and for what they cannot do, the ones that are installed."""
        engines = Engines()
        for engine in self._engines:
            engines.add(engine)
        return engines

    def check(self, verb: Verb) -> None:
        """Raise ``TwimlError`` if ``verb`` needs an engine that is not there."""
        if verb.name == "Connect" and verb.nouns[0].name == "ConversationRelay":
            lacks = self.engines.lacks(AgentSettings(), ("speak", "listen"))
            if lacks is not None:
                raise TwimlError(12200, f"<ConversationRelay> needs engines that speak and listen: {lacks}")
        for one in (verb, *verb.nouns):
            if one.name == "Say" and not self._able("speak"):
                raise TwimlError(12200, "<Say> needs a speech engine: give TwilioFront(speech=...) one")
        if verb.name == "Gather" and verb.get("input") == "speech" and not self._able("listen"):
            raise TwimlError(12200, '<Gather input="speech"> needs a speech engine that listens')

    def synthesis(self, verb: Verb, format: AudioFormat) -> Synthesis:
        """What speaks a ``<Say>``. A voice that the engine lacks becomes its own, a language that none has English."""
        language, voice = verb.get("language", "en-US"), verb.get("voice")
        engines = self._able("speak", language)
        if not engines:
            engines, language = self._able("speak"), "en-US"
        settings = AgentSettings(language=language, voice=voice if engines[0].knows_voice(voice) else None)
        return Synthesis(engines, settings, noted, format=format)

    def listeners(self, verb: Verb) -> tuple[list[SpeechEngine], list[SpeechEngine]]:
        """What recognizes the words of a ``<Gather>`` and detects a voice for it, in the order to try. Neither where it
        wants keys alone, or nothing here listens."""
        if "speech" not in verb.get("input", "dtmf").split():
            return [], []
        if recognizers := self._able("listen", verb.get("language", "en-US")):
            return recognizers, self._able("detect")
        log.warning("<Gather input=%r>: no speech engine listens, only keys count", verb.get("input"))
        return [], []

    def _able(self, ability: str, language: str = "") -> list[SpeechEngine]:
        return [
            engine
            for engine in self._engines
            if ability in engine.abilities and (not language or engine.knows_language(ability, language))
        ]


def noted(kind: str, **facts: Any) -> None:
    """What went wrong with an engine, for the log."""
    log.warning("%s: %s", kind, ", ".join(f"{name}: {fact}" for name, fact in facts.items()))
