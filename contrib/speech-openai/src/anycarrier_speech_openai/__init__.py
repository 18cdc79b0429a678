"""The OpenAI audio API for anycarrier: transcribes whole utterances, streams speech. One HTTP client for all calls."""

from __future__ import annotations

import asyncio
from weakref import WeakSet

import httpx

from anycarrier.errors import ConfigurationError
from anycarrier.hookspecs import hookimpl
from anycarrier.speech import (
    EngineSettings,
    Hearing,
    Recognizer,
    SpeakingStyle,
    SpeechEngine,
    Synthesizer,
    primary_language,
)
from anycarrier_speech_openai.api import OpenAISettings, english_only, no_answer, refusal
from anycarrier_speech_openai.listening import OpenAIRecognizer
from anycarrier_speech_openai.speaking import OpenAISynthesizer

__all__ = ["OpenAIEngine", "OpenAISettings"]


class OpenAIEngine(SpeechEngine):
    """Any server with ``/audio/speech`` and ``/audio/transcriptions``."""

    name = "openai"
    remote = True
    settings_type = OpenAISettings
    punctuates = True
    needs_detector = True

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, OpenAISettings)
        self._set = self.settings
        self._http: httpx.AsyncClient | None = None
        self._made: WeakSet[OpenAIRecognizer | OpenAISynthesizer] = WeakSet()

    @property
    def http(self) -> httpx.AsyncClient:
        """The client, made by the first call: its connections are kept for the next."""
        if self._http is None:
            key = self._set.api_key
            self._http = httpx.AsyncClient(
                base_url=self._set.base_url,
                headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
                timeout=self._set.timeout,
            )
        return self._http

    async def aclose(self) -> None:
        """End the requests of calls in progress and close the connections."""
        await asyncio.gather(*(each.aclose() for each in self._made))
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def knows_language(self, ability: str, language: str) -> bool:
        """All of them, as far as can be told here, except for a model of Whisper's for English."""
        return ability != "listen" or primary_language(language) == "en" or not english_only(self._set.listen_model)

    async def check(self) -> None:
        """Ask for the models there are: free, and refused with a wrong key. Servers without that list pass."""
        try:
            response = await self.http.get("models")
        except httpx.HTTPError as failure:
            raise no_answer("speak", failure) from failure
        if response.status_code in (401, 403) or response.status_code >= 500:
            raise refusal("speak", response)

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """A recognizer for one call."""
        hearing = hearing or Hearing()
        if not self.knows_language("listen", hearing.language):
            raise ConfigurationError(
                f"openai's listen_model {self._set.listen_model!r} knows English only, not {hearing.language!r}. "
                "Set a model without '.en'"
            )
        recognizer = OpenAIRecognizer(self._set, self.http, hearing)
        self._made.add(recognizer)
        return recognizer

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A synthesizer for one call."""
        synthesizer = OpenAISynthesizer(self._set, self.http, style or SpeakingStyle())
        self._made.add(synthesizer)
        return synthesizer


@hookimpl
def anycarrier_speech_engines() -> list[type[SpeechEngine]]:
    """``openai`` listens and speaks."""
    return [OpenAIEngine]
