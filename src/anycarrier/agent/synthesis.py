"""Synthesis on one call: text in, audio out; a fallback engine takes over when one fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

from anycarrier.agent.engine_choice import missing
from anycarrier.agent.settings import AgentSettings
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle, SpeechEngine, Synthesizer

log = logging.getLogger("anycarrier")


class Synthesis:
    """``engines`` in the order to try; if there are none, ``lacks`` says why. ``note`` gets each failure. Opened by the
    first use, or by :meth:`open`.

    If the engine does not know the configured voice, its own voice for the language is used, so the call goes on.
    """

    def __init__(
        self,
        engines: list[SpeechEngine],
        settings: AgentSettings,
        note: Callable[..., None],
        *,
        format: AudioFormat = PCMU_8K,
        lacks: str | None = None,
    ) -> None:
        self._engines = engines
        self._settings = settings
        self._note = note
        self._format = format
        self._at = 0
        self._lacks = lacks
        # A voice name belongs to the first engine; other engines name their voices differently.
        self._name = settings.voice or ""
        self._synthesizer: Synthesizer | None = None

    async def open(self) -> None:
        """Open the engine, so that the first word does not wait for it. Failures surface when it has to speak."""
        if self._engines:
            with contextlib.suppress(SpeechFailed, UnknownVoice):
                await self._ready()

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` as audio. If an engine fails, the next one speaks the whole sentence again.

        Raises ``SpeechFailed`` when no engine is left, ``ConfigurationError`` if there never was one.
        """
        if not self._engines:
            raise ConfigurationError(self._lacks) if self._lacks else missing("speak")
        while True:
            try:
                synthesizer = await self._ready()
                async with contextlib.aclosing(synthesizer.speak(text)) as sound:
                    async for piece in sound:
                        yield piece
                return
            except (SpeechFailed, UnknownVoice) as failure:
                await self._next(failure)

    async def aclose(self) -> None:
        """Close the engine."""
        if self._synthesizer is not None:
            synthesizer, self._synthesizer = self._synthesizer, None
            await synthesizer.aclose()

    async def _ready(self) -> Synthesizer:
        if self._synthesizer is None:
            s = self._settings
            voice = self._name if self._at == 0 else ""
            style = SpeakingStyle(voice=voice, language=s.language, speed=s.speed, format=self._format)
            self._synthesizer = await self._engines[self._at].synthesizer(style)
        return self._synthesizer

    async def _next(self, failure: SpeechFailed | UnknownVoice) -> None:
        if isinstance(failure, UnknownVoice):
            if self._name and self._at == 0:
                log.warning("an agent speaks with its language's voice instead of its own: %s", failure)
                self._note("voice_unknown", engine=failure.engine, voice=self._name, instead=self._settings.language)
                self._name = ""
                await self.aclose()
                return
            # The engine does not know the language either; another one may.
            failure = SpeechFailed(failure.engine, "speak", str(failure))
        facts: dict[str, Any] = {"engine": self._engines[self._at].name, "ability": "speak", "why": str(failure)}
        await self.aclose()
        self._at += 1
        if self._at >= len(self._engines):
            self._at = 0  # it may work again for a later sentence
            self._note("engine_failed", **facts, fallback=None)
            raise failure
        self._note("engine_failed", **facts, fallback=self._engines[self._at].name)
