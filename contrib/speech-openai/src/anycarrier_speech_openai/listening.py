"""One call's recognizer: each utterance is sent to ``POST /audio/transcriptions`` when it has ended.

The API takes whole utterances, so there are no interim results, except for ``decode_ahead``: the utterance is then sent
at the caller's first pause, and that answer is the final one if the caller says no more.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.errors import SpeechFailed
from anycarrier.speech import PRECEDING_LIMIT, Heard, Hearing, ResultQueue, primary_language
from anycarrier.wav import wav_bytes
from anycarrier_speech_openai.api import AGAIN_AFTER, OpenAISettings, again_after, no_answer, refusal

log = logging.getLogger("anycarrier")

KEPT = 60.0
"""Seconds of one utterance that are kept, the latest."""
SHORTEST = 0.1
"""Seconds; less than that is answered with nothing, as the API does with an error."""
LONGEST_HINT = 800
"""Characters of phrases that are sent; Whisper reads the last 224 tokens of a prompt only."""


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
        self._hints = hints(settings.listen_model, hearing)
        self._questions: asyncio.Queue[bytes | asyncio.Task[str | SpeechFailed]] = asyncio.Queue()
        self._unanswered = 0
        self._ahead: asyncio.Task[str | SpeechFailed] | None = None
        self._requests: set[asyncio.Task[str | SpeechFailed]] = set()
        self._results: ResultQueue[Heard] = ResultQueue()
        self._task = asyncio.create_task(self._answer())

    def feed(self, audio: bytes) -> None:
        """The next audio; a minute of it is kept, or some seconds while no utterance was announced."""
        if self._results.closed:
            return
        self._audio += self._transcoder.convert(audio)
        self._keep(KEPT if self._begun else PRECEDING_LIMIT)

    def begin(self, preceding: float = 0.5) -> None:
        """Forget what was before the utterance."""
        self._keep(preceding)
        self._begun = True

    def pause(self, *, following: float = 0.0) -> None:
        """With ``decode_ahead``, send what the utterance has so far. Otherwise ignored: every request costs money."""
        if not self._settings.decode_ahead or self._results.closed or self._ahead is not None:
            return
        audio = self._without(following)
        if self._pcm.seconds(len(audio)) >= SHORTEST:
            self._ahead = asyncio.create_task(self._decode_ahead(audio))
            self._requests.add(self._ahead)
            self._ahead.add_done_callback(self._requests.discard)

    def resume(self) -> None:
        """Drop what was sent at the pause."""
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

    def finish(self, *, discard: bool = False, following: float = 0.0) -> None:
        """Send the utterance off; its words follow as one complete Heard. A noise is not sent."""
        if self._results.closed:
            return
        if discard:
            self.resume()
        audio = self._without(following)
        self._questions.put_nowait(self._ahead or (b"" if discard else audio))
        self._unanswered += 1
        self._ahead = None
        del self._audio[: len(audio)]
        self._begun = not self._hearing.cued

    def _without(self, following: float) -> bytes:
        """The audio without the last ``following`` seconds."""
        return bytes(self._audio[: max(0, len(self._audio) - self._pcm.size(following))])

    def _keep(self, seconds: float) -> None:
        excess = len(self._audio) - self._pcm.size(seconds)
        if excess > 0:
            del self._audio[:excess]

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Stop; an answer that is under way is not waited for."""
        self._results.close()
        for task in (self._task, *self._requests):
            task.cancel()
        await asyncio.gather(self._task, *self._requests, return_exceptions=True)

    async def _answer(self) -> None:
        try:
            while True:
                question = await self._questions.get()
                if isinstance(question, bytes):
                    long_enough = self._pcm.seconds(len(question)) >= SHORTEST
                    text: str | SpeechFailed = await self._transcribe(question) if long_enough else ""
                else:
                    text = await question
                if isinstance(text, SpeechFailed):
                    raise text
                self._unanswered -= 1
                self._results.put(Heard(text, final=True, complete=True))
        except SpeechFailed as failure:
            self._results.close(failure)
        except Exception as bug:
            log.exception("openai's recognizer failed")
            self._results.close(SpeechFailed("openai", "listen", f"an unexpected failure: {type(bug).__name__}"))

    async def _decode_ahead(self, audio: bytes) -> str | SpeechFailed:
        try:
            text = await self._transcribe(audio)
        except SpeechFailed as failure:
            return failure  # nobody may ask for it
        if text and not self._unanswered:
            self._results.put(Heard(text))
        return text

    async def _transcribe(self, audio: bytes) -> str:
        """The words; asked a second time where that may help, for hearing twice does no harm."""
        try:
            async with asyncio.timeout(self._settings.timeout):
                text = _text(await self._post(wav_bytes(audio, self._pcm)))
        except TimeoutError:
            message = f"no transcript within {self._settings.timeout:g} s"
            raise SpeechFailed("openai", "listen", message, next_step="Name a fallback engine.") from None
        # Some models answer a sound without words with their prompt.
        phrases = self._hearing.phrases
        return "" if len(phrases) > 1 and _letters(text) == _letters(" ".join(phrases)) else text

    async def _post(self, wav: bytes) -> httpx.Response:
        fields = {"model": self._settings.listen_model, "response_format": "json", **self._hints}
        for last in (False, True):
            try:
                response = await self._http.post(
                    "/audio/transcriptions", data=fields, files={"file": ("utterance.wav", wav, "audio/wav")}
                )
            except httpx.HTTPError as failure:
                if last:
                    raise no_answer("listen", failure) from failure
                await asyncio.sleep(AGAIN_AFTER)
                continue
            if response.is_success:
                return response
            wait = again_after(response)
            if last or wait is None:
                raise refusal("listen", response)
            await asyncio.sleep(wait)
        raise AssertionError("the second attempt returns or raises")


def hints(model: str, hearing: Hearing) -> dict[str, str | list[str]]:
    """Language and phrases, as the model takes them.

    ``gpt-transcribe`` takes lists, and refuses a request with ``language`` or with ``<``, ``>`` or a line break in a
    keyword (developers.openai.com/cookbook/examples/migrating_from_whisper_to_gpt_transcribe). Models before it, and
    other servers, take one language and a prompt.
    """
    language = primary_language(hearing.language)
    phrases, size = [], 0
    for phrase in hearing.phrases:
        phrase = " ".join(re.sub("[<>]", " ", phrase).split())
        size += len(phrase) + 2
        if phrase and size <= LONGEST_HINT:
            phrases.append(phrase)
    if model.startswith("gpt-transcribe"):
        lists: dict[str, str | list[str]] = {"languages[]": [language]}
        return {**lists, "keywords[]": phrases} if phrases else lists
    prompt = {"prompt": ", ".join(phrases)} if phrases else {}
    return {"language": language, **prompt}


def _letters(text: str) -> str:
    return "".join(re.findall(r"\w", text.lower()))


def _text(response: httpx.Response) -> str:
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("text"), str):
        raise SpeechFailed("openai", "listen", "the answer has no text", next_step="Check the base URL.")
    return " ".join(body["text"].split())
