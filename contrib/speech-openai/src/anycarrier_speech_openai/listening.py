"""One call's recognizer: each utterance is sent to ``POST /audio/transcriptions`` when it has ended.

There are no interim results: the API takes whole utterances.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import Heard, Hearing, ResultQueue
from anycarrier.wav import wav_bytes
from anycarrier_speech_openai.api import PASSING, OpenAISettings, no_answer, refusal

KEPT = 60.0
"""Seconds of one utterance that are kept, the latest."""
PRE_ROLL = 0.5
"""Seconds before a cue that belong to the utterance."""
SHORTEST = 0.1
"""Seconds; less than that is answered with nothing, as the API does with an error."""
AGAIN_AFTER = 0.3
"""Seconds before the one second attempt."""


class OpenAIRecognizer:
    """Questions are answered in order, one request at a time."""

    def __init__(self, settings: OpenAISettings, http: httpx.AsyncClient, hearing: Hearing) -> None:
        self.format: AudioFormat = hearing.format
        self._settings = settings
        self._http = http
        self._hearing = hearing
        self._pcm = AudioFormat("PCM16", hearing.format.rate)
        self._transcoder = Transcoder(hearing.format, self._pcm)
        self._audio = bytearray()
        self._begun = not hearing.cued
        self._questions: asyncio.Queue[bytes] = asyncio.Queue()
        self._results: ResultQueue[Heard] = ResultQueue()
        self._task = asyncio.create_task(self._answer())

    def feed(self, audio: bytes) -> None:
        """The next audio; a minute of it is kept, or half a second while no utterance was announced."""
        if self._results.closed:
            return
        self._audio += self._transcoder.convert(audio)
        self._keep(KEPT if self._begun else PRE_ROLL)

    def begin(self) -> None:
        """Forget what was before the utterance, but for half a second."""
        self._keep(PRE_ROLL)
        self._begun = True

    def pause(self) -> None:
        """Ignored: every request costs money, so a whole utterance is sent once."""

    def resume(self) -> None:
        """Ignored, as :meth:`pause` is."""

    def finish(self, *, discard: bool = False) -> None:
        """Send the utterance off; its words follow as one complete Heard. A noise is not sent."""
        if self._results.closed:
            return
        self._questions.put_nowait(b"" if discard else bytes(self._audio))
        self._audio.clear()
        self._begun = not self._hearing.cued

    def _keep(self, seconds: float) -> None:
        excess = len(self._audio) - round(seconds * self._pcm.rate) * 2
        if excess > 0:
            del self._audio[:excess]

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Let go; an answer that is under way is not waited for."""
        self._results.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _answer(self) -> None:
        try:
            while True:
                audio = await self._questions.get()
                text = await self._transcribe(audio) if self._pcm.seconds(len(audio)) >= SHORTEST else ""
                self._results.put(Heard(text, final=True, complete=True))
        except SpeechFailed as failure:
            self._results.close(failure)

    async def _transcribe(self, audio: bytes) -> str:
        """The words; asked a second time where that may help, for hearing twice does no harm."""
        fields = {"model": self._settings.listen_model, "response_format": "json"}
        fields["language"] = self._hearing.language.split("-")[0].lower()
        if self._hearing.phrases:
            fields["prompt"] = ", ".join(self._hearing.phrases)
        wav = wav_bytes(audio, self._pcm)
        for last in (False, True):
            try:
                response = await self._http.post(
                    "/audio/transcriptions", data=fields, files={"file": ("utterance.wav", wav, "audio/wav")}
                )
            except httpx.HTTPError as failure:
                if last:
                    raise no_answer("listen", failure) from failure
            else:
                if response.status_code < 400:
                    return _text(response)
                if last or response.status_code not in PASSING:
                    raise refusal("listen", response)
            await asyncio.sleep(AGAIN_AFTER)
        raise AssertionError("the second attempt returns or raises")


def _text(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise SpeechFailed("openai", "listen", "the answer has no text", next_step="Check the base URL.")
    return " ".join(body["text"].split())
