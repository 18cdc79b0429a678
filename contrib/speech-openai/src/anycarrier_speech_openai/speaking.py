"""One call's voice: ``POST /audio/speech``, the answer played as it arrives."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import httpx

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import SpeakingStyle
from anycarrier_speech_openai.failure import no_answer, refusal, refused_voice
from anycarrier_speech_openai.pcm_body import PcmBody
from anycarrier_speech_openai.settings import OpenAISettings

LONGEST_TEXT = 4096
"""Characters the API takes in one request."""


class OpenAISynthesizer:
    """Every text is a request of its own; closing the generator closes it."""

    def __init__(self, settings: OpenAISettings, http: httpx.AsyncClient, style: SpeakingStyle) -> None:
        self.format: AudioFormat = style.format
        self._settings = settings
        self._http = http
        self._style = style

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`; ``UnknownVoice`` when the server has not the one that was asked for.

        Never tried twice: what was heard of the first try would be heard again.
        """
        text = text.strip()
        if not text:
            return
        if len(text) > LONGEST_TEXT:
            raise SpeechFailed("openai", "speak", f"{len(text)} characters are too many at once", next_step="Cut it.")
        try:
            async with self._http.stream("POST", "/audio/speech", json=self._request(text)) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise refused_voice(self._style.voice, response) or refusal("speak", response)
                body = PcmBody(self._settings.speech_rate)
                transcoder: Transcoder | None = None
                async for data in response.aiter_bytes():
                    if not (samples := body.feed(data)):
                        continue
                    transcoder = transcoder or Transcoder(body.format, self.format)
                    if audio := transcoder.convert(samples):
                        yield audio
                if transcoder is None:
                    raise SpeechFailed("openai", "speak", "the answer holds no sound")
                if rest := transcoder.flush():
                    yield rest
        except httpx.HTTPError as failure:
            raise no_answer("speak", failure) from failure
        except ValueError as failure:
            raise SpeechFailed("openai", "speak", str(failure)) from failure

    def _request(self, text: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._settings.speak_model,
            "voice": self._style.voice or self._settings.voice,
            "input": text,
            "response_format": "pcm",
        }
        if self._style.speed != 1.0:
            request["speed"] = self._style.speed
        if self._settings.instructions:
            request["instructions"] = self._settings.instructions
        return request

    async def aclose(self) -> None:
        """Nothing is held between texts."""
