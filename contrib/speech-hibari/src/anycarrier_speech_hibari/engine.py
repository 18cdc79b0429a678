"""The engine ``hibari``: a natural English voice, made sentence by sentence in a thread of this process.

Speech is made about a hundred times faster than it plays, so one thread serves many calls. Sentences wait in one queue;
the first of a text goes before those that are made ahead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from queue import Empty, PriorityQueue
from typing import Any, ClassVar

from pydantic import Field

from anycarrier.audio import AudioFormat
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import EngineSettings, SpeakingStyle, SpeechEngine, Synthesizer, primary_language
from anycarrier_speech_hibari import voices
from anycarrier_speech_hibari.sound import speech

log = logging.getLogger("anycarrier")

CHUNK = 0.2
"""Seconds of audio in a chunk."""


class HibariSettings(EngineSettings):
    """Settings of ``hibari``."""

    voice: str = Field(default=voices.DEFAULT, description="voice of an agent that names none")
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="multiplies every agent's own speed")
    threads: int = Field(default=1, ge=1, le=2, description="sentences made at the same time")
    voices: Path | None = Field(
        default=None, description="folder with the files of other voices; by default hibari's own cache folder"
    )


class HibariEngine(SpeechEngine):
    """English only. The models are loaded once per process, by :meth:`start` or by the first use."""

    name = "hibari"
    settings_type = HibariSettings
    rank: ClassVar[int] = 10

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, HibariSettings)
        self._queue = SentenceQueue(self.settings.threads)

    def knows_language(self, ability: str, language: str) -> bool:
        """English, in any of its variants."""
        return primary_language(language) == "en"

    def knows_voice(self, voice: str) -> bool:
        """The voices whose file is there."""
        assert isinstance(self.settings, HibariSettings)
        return voices.has(voice.lower(), self.settings.voices)

    async def start(self) -> None:
        """Load the default voice, and the others whose file is there, so that no call waits for a model."""
        assert isinstance(self.settings, HibariSettings)
        default, folder = self.settings.voice.lower(), self.settings.voices
        await asyncio.to_thread(voices.load, default, folder)
        for voice in voices.voices_here(folder):
            try:
                await asyncio.to_thread(voices.load, voice, folder)
            except SpeechFailed as failure:
                log.warning("a voice cannot be used: %s", failure)

    async def aclose(self) -> None:
        """Make no more sentences. The models stay loaded."""
        self._queue.close()

    async def synthesizer(self, style: SpeakingStyle | None = None) -> Synthesizer:
        """A voice for one call; ``UnknownVoice`` if the voice's file is not there, or the language is not English."""
        style = style or SpeakingStyle()
        assert isinstance(self.settings, HibariSettings)
        if not self.knows_language("speak", style.language):
            raise UnknownVoice("hibari", style.language, "It speaks English only; use another engine")
        voice = (style.voice or self.settings.voice).lower()
        model = await asyncio.to_thread(voices.load, voice, self.settings.voices)
        speed = min(2.0, max(0.5, style.speed * self.settings.speed))
        return HibariSynthesizer(self._queue, model, style.language, speed, style.format)


class HibariSynthesizer:
    """One call's voice. A sentence is made while the one before is being taken, and no earlier."""

    def __init__(self, queue: SentenceQueue, model: Any, language: str, speed: float, format: AudioFormat) -> None:
        self.format = format
        self._queue = queue
        self._model = model
        self._language = language
        self._speed = speed
        self._closed = asyncio.Event()

    async def speak(self, text: str) -> AsyncGenerator[bytes, None]:
        """``text`` in :attr:`format`. Closing the generator leaves at most the sentence that is being made."""
        size = self.format.size(CHUNK)
        if self._closed.is_set():
            return
        sentences = speech(self._model, text, self._language, self._speed, self.format)
        job = self._queue.put(sentences, first=True)
        try:
            while not self._closed.is_set() and (sound := await asyncio.wrap_future(job)) is not None:
                job = self._queue.put(sentences)
                for at in range(0, len(sound), size):
                    if self._closed.is_set():
                        return
                    yield sound[at : at + size]
        finally:
            job.cancel()

    async def aclose(self) -> None:
        """Stop speaking; nothing is said afterwards."""
        self._closed.set()


class SentenceQueue:
    """Sentences of all calls, made by ``threads`` threads: first ones before those made ahead, otherwise in order."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="hibari")
        self._waiting: PriorityQueue[tuple[bool, int, Future[bytes | None], Callable[[], bytes | None]]] = (
            PriorityQueue()
        )
        self._numbers = count()

    def put(self, sentences: Iterator[bytes], *, first: bool = False) -> Future[bytes | None]:
        """Make the next of ``sentences``; None if there are no more. Cancel what is not needed any more."""
        made: Future[bytes | None] = Future()
        self._waiting.put((not first, next(self._numbers), made, lambda: next(sentences, None)))
        try:
            self._threads.submit(self._make)
        except RuntimeError as failure:
            raise SpeechFailed("hibari", "speak", "the engine is closed") from failure
        return made

    def close(self) -> None:
        """Fail what waits; what is being made ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while True:
            try:
                _, _, made, _ = self._waiting.get_nowait()
            except Empty:
                return
            if made.set_running_or_notify_cancel():
                made.set_exception(SpeechFailed("hibari", "speak", "the engine is closed"))

    def _make(self) -> None:
        try:
            _, _, made, make = self._waiting.get_nowait()
        except Empty:
            return
        if not made.set_running_or_notify_cancel():
            return
        try:
            made.set_result(make())
        except BaseException as failure:  # noqa: BLE001 - the call that waits for it gets it
            made.set_exception(failure)
