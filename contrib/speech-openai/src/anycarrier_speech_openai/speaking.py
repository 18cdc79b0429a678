"""One call's synthesizer: ``POST /audio/speech``, with the answer passed on as it arrives."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator
from typing import Any

import httpx

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import SpeakingStyle
from anycarrier_speech_openai.api import OpenAISettings, no_answer, refusal, refused_voice

CHECK_URL = "Check the base URL."
LONGEST_TEXT = 4096
"""Characters the API takes in one request."""
SLOWEST, FASTEST = 0.25, 4.0
"""Speeds the API takes."""


class OpenAISynthesizer:
    """Every text is a request of its own; closing the generator closes it."""

    def __init__(self, settings: OpenAISettings, http: httpx.AsyncClient, style: SpeakingStyle) -> None:
        self.format: AudioFormat = style.format
        self._settings = settings
        self._http = http
        self._style = style
        self._closed = asyncio.Event()
        self._answer: httpx.Response | None = None

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`; ``UnknownVoice`` when the server has not the one that was asked for.

        Never tried twice: what was heard of the first try would be heard again.
        """
        text = text.strip()
        if not text or self._closed.is_set():
            return
        if len(text) > LONGEST_TEXT:
            raise SpeechFailed("openai", "speak", f"{len(text)} characters are too many at once", next_step="Cut it.")
        try:
            async with self._http.stream("POST", "/audio/speech", json=self._request(text)) as response:
                self._answer = response
                if not response.is_success:
                    await response.aread()
                    raise refused_voice(self._style.voice, response) or refusal("speak", response)
                if (kind := response.headers.get("content-type", "")).lower().startswith(("text/", "application/json")):
                    raise SpeechFailed("openai", "speak", f"the answer is {kind}, no sound", next_step=CHECK_URL)
                body = PcmBody(self._settings.speech_rate)
                transcoder: Transcoder | None = None
                async for data in response.aiter_bytes():
                    if self._closed.is_set():
                        return
                    if not (samples := body.feed(data)):
                        continue
                    transcoder = transcoder or Transcoder(body.format, self.format)
                    if audio := transcoder.convert(samples):
                        yield audio
                if transcoder is None:
                    raise SpeechFailed("openai", "speak", "the answer holds no sound")
                if rest := transcoder.flush():
                    yield rest
        except (httpx.HTTPError, httpx.StreamError) as failure:
            if self._closed.is_set():
                return  # aclose() closed the answer while it was being read
            raise no_answer("speak", failure) from failure
        except ValueError as failure:
            raise SpeechFailed("openai", "speak", str(failure)) from failure
        finally:
            self._answer = None

    def _request(self, text: str) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._settings.speak_model,
            "voice": self._style.voice or self._settings.voice,
            "input": text,
            "response_format": "pcm",
        }
        if self._style.speed != 1.0:
            request["speed"] = min(max(self._style.speed, SLOWEST), FASTEST)
        if self._settings.instructions:
            request["instructions"] = self._settings.instructions
        return request

    async def aclose(self) -> None:
        """Close the answer that is being read; nothing is said afterwards."""
        self._closed.set()
        if self._answer is not None:
            await self._answer.aclose()


_ENOUGH = 4096
"""Bytes in which a WAV header must be over."""


class PcmBody:
    """An answer's body: raw PCM, or PCM behind a WAV header.

    :attr:`format` is known once ``feed`` has given the first samples.
    """

    def __init__(self, rate: int) -> None:
        self.format = AudioFormat("PCM16", rate)
        self._head: bytearray | None = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The samples in it. ``ValueError`` for a WAV that is not 16-bit mono, or another container."""
        if self._head is None:
            return data
        self._head += data
        if len(self._head) < 12 and b"RIFF".startswith(bytes(self._head[:4])):
            return b""
        if not self._head.startswith(b"RIFF"):
            if self._head[:3] == b"ID3" or bytes(self._head[:4]) in (b"OggS", b"fLaC"):
                raise ValueError("the server answered with a compressed file instead of PCM")
            return self._rest(0)
        begins = self._after_header()
        return self._rest(begins) if begins is not None else b""

    def _after_header(self) -> int | None:
        head = bytes(self._head or b"")
        at = 12
        while at + 8 <= len(head):
            kind, size = struct.unpack_from("<4sI", head, at)
            if kind == b"data":
                return at + 8
            if kind == b"fmt " and at + 24 <= len(head):
                tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
                if (tag, channels, bits) != (1, 1, 16):
                    raise ValueError("the server answered with a WAV that is not 16-bit mono PCM")
                self.format = AudioFormat("PCM16", rate)
            at += 8 + size + size % 2
        if len(head) > _ENOUGH:
            raise ValueError("the server answered with a WAV without audio")
        return None

    def _rest(self, begins: int) -> bytes:
        rest = bytes((self._head or b"")[begins:])
        self._head = None
        return rest
