"""pocketsphinx as a speech engine: commands and forms in English, by phrases or a grammar. Not dictation.

Decoders run in worker processes. The engine keeps what a worker has not answered yet, so the death of a worker only
delays an utterance.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from pydantic import Field

from anycarrier.audio import AudioFormat
from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import EngineSettings, Heard, Hearing, Recognizer, ResultQueue, SpeechEngine, primary_language
from anycarrier_speech_local import messages as m
from anycarrier_speech_local.messages import Journal, Recent
from anycarrier_speech_local.pool import WorkerPool

PRE_ROLL = 0.5
"""Seconds before the cue that belong to an utterance: the detector's delay and the consonant it did not hear."""
KEPT = 20.0
"""Seconds of unanswered audio kept for another worker."""


class PocketsphinxSettings(EngineSettings):
    """``workers``: processes, by default one for each core but one. ``pronunciations``: word -> ARPABET phones, for
    names the dictionary lacks. ``second_pass``: search again at the end, which costs a final some 50 ms and gains next
    to nothing with phrases or a grammar; worth it without them.
    """

    workers: int | None = Field(default=None, ge=1, le=64)
    pronunciations: dict[str, str] = Field(default_factory=dict)
    second_pass: bool = False


class PocketsphinxEngine(SpeechEngine):
    """A pool of worker processes, started by the first call or by ``start``."""

    name = "pocketsphinx"
    settings_type = PocketsphinxSettings
    free_speech = False
    obeys_grammar = True

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, PocketsphinxSettings)
        size = self.settings.workers or max(1, (os.cpu_count() or 2) - 1)
        self.pool = WorkerPool(self.name, "listen", ("listen",), size)

    async def start(self) -> None:
        """Have the processes running."""
        await self.pool.start()

    async def aclose(self) -> None:
        """End the processes."""
        await self.pool.aclose()

    def knows_language(self, ability: str, language: str) -> bool:
        """English only."""
        return primary_language(language) == "en"

    async def recognizer(self, hearing: Hearing | None = None) -> Recognizer:
        """An ear for one call, its decoder built. ``ConfigurationError`` for words or a grammar it cannot use."""
        hearing = hearing or Hearing()
        assert isinstance(self.settings, PocketsphinxSettings)
        if not self.knows_language("listen", hearing.language):
            raise ConfigurationError(
                f"pocketsphinx listens to English only, not {hearing.language!r}. Choose another engine for this agent"
            )
        config = m.HearingConfig(
            hearing.phrases, hearing.grammar, dict(self.settings.pronunciations), self.settings.second_pass
        )
        ear = PocketsphinxRecognizer(self.pool, hearing, config)
        try:
            await self.pool.add(ear)
            await ear.opened
        except BaseException:
            await ear.aclose()
            raise
        return ear


class PocketsphinxRecognizer:
    """One call's ear."""

    def __init__(self, pool: WorkerPool, hearing: Hearing, config: m.HearingConfig) -> None:
        self.format: AudioFormat = hearing.format
        self.opening = m.Open(pool.number(), hearing.format.encoding, hearing.format.rate, config)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool = pool
        self._cued = hearing.cued
        self._listening = not hearing.cued
        self._before = Recent(hearing.format, PRE_ROLL)
        self._journal = Journal(int(KEPT * hearing.format.bytes_per_second))
        self._results: ResultQueue[Heard] = ResultQueue()

    def feed(self, audio: bytes) -> None:
        """The next audio. Outside a cued utterance it is only kept for a moment."""
        if self._listening:
            self._say(m.Feed(self.opening.stream, audio))
            return
        self._before.add(audio)

    def begin(self) -> None:
        """An utterance began: the moment before it is part of it."""
        if self._listening:
            return
        self._listening = True
        self._say(m.Begin(self.opening.stream))
        self._say(m.Feed(self.opening.stream, self._before.take()))

    def pause(self) -> None:
        """Ignored: audio is decoded as it comes."""

    def resume(self) -> None:
        """Ignored: audio is decoded as it comes."""

    def finish(self, *, discard: bool = False) -> None:
        """The utterance is over; its words follow as one complete Heard."""
        if discard:
            self._say(m.Begin(self.opening.stream))
        self._say(m.Finish(self.opening.stream))
        self._listening = not self._cued

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Stop listening; the decoder goes to the next call."""
        self._results.close()
        self._pool.remove(self.opening.stream)

    def _say(self, message: m.Feed | m.Begin | m.Finish) -> None:
        if not self._results.closed:
            self._journal.add(message)
            self._pool.send(message)

    # --- told by the pool -----------------------------------------------------------------------------------------

    def told(self, message: m.FromWorker) -> None:
        """What the worker says."""
        if isinstance(message, m.Opened):
            if not self.opened.done():
                self.opened.set_result(None)
        elif isinstance(message, m.Refused):
            if not self.opened.done():
                self.opened.set_exception(ConfigurationError(f"pocketsphinx cannot listen for that: {message.why}"))
        elif isinstance(message, m.Words):
            if message.final:
                self._journal.answered()
            self._results.put(Heard(message.text, final=message.final, complete=message.final))

    def moved(self) -> list[m.ToWorker]:
        """What another worker needs to hear again."""
        return list(self._journal.entries())

    def lost(self, failure: SpeechFailed) -> None:
        """No worker can be had."""
        if not self.opened.done():
            self.opened.set_exception(failure)
        self._results.close(failure)
