"""The speech engines of a front: who speaks a bot's ``<Say>``, and who listens in its ``<Gather input="speech">``."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace

from anycarrier import AudioFormat
from anycarrier.agent import AgentSettings, Engines
from anycarrier.errors import ConfigurationError, UnknownVoice
from anycarrier.speech import Hearing, SpeakingStyle, SpeechEngine, Synthesizer, open_speech_engine
from anycarrier_twilio.twiml import TwimlError, Verb
from anycarrier_twilio_front.gather import Ears

log = logging.getLogger("anycarrier.twilio_front")

SpeechEngines = SpeechEngine | str | Sequence[SpeechEngine | str]
"""One engine or several, each given or by its name; the first that can do a thing does it."""


class Speech:
    """A front's engines. Without any, documents that speak or listen to words are refused."""

    def __init__(self, named: SpeechEngines | None) -> None:
        several = [] if named is None else [named] if isinstance(named, SpeechEngine | str) else list(named)
        self._engines = [open_speech_engine(one) if isinstance(one, str) else one for one in several]
        if self._engines and self._able("speak") is None:
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
            if one.name == "Say" and self._able("speak") is None:
                raise TwimlError(12200, "<Say> needs a speech engine: give TwilioFront(speech=...) one")
        if verb.name == "Gather" and verb.get("input") == "speech" and self._able("listen") is None:
            raise TwimlError(12200, '<Gather input="speech"> needs a speech engine that listens')

    async def synthesizer(self, verb: Verb, format: AudioFormat) -> tuple[Synthesizer, SpeakingStyle]:
        """Who speaks a ``<Say>``, and how. Voices and languages that the engine lacks become its default ones."""
        engine = self._able("speak")
        assert engine is not None  # check() came before
        plain = style = SpeakingStyle(format=format)
        if (voice := verb.get("voice")) and engine.knows_voice(voice):
            style = replace(style, voice=voice)
        if (language := verb.get("language")) and engine.knows_language("speak", language):
            style = replace(style, language=language)
        try:
            return await engine.synthesizer(style), style
        except UnknownVoice as unknown:
            log.warning("a bot's <Say> is spoken in the default voice: %s", unknown)
            return await engine.synthesizer(plain), plain

    def ears_for(self, verb: Verb, format: AudioFormat) -> Ears | None:
        """What listens to the words of a ``<Gather>``; None where it wants keys alone, or nothing here listens."""
        recognizer = self._able("listen")
        if "speech" not in verb.get("input", "dtmf").split():
            return None
        if recognizer is None:
            log.warning("<Gather input=%r>: no speech engine listens, only keys count", verb.get("input"))
            return None
        detector = self._able("detect")
        hints = tuple(hint.strip() for hint in verb.get("hints").split(",") if hint.strip())
        language = verb.get("language", "en-US")
        hearing = Hearing(language=language, phrases=hints, cued=detector is not None, format=format)
        return Ears(recognizer, detector, hearing)

    def _able(self, ability: str) -> SpeechEngine | None:
        return next((engine for engine in self._engines if ability in engine.abilities), None)
