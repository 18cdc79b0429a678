"""The engine's side of one call's recognition on a worker: what was not answered is kept, so no utterance is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from anycarrier.audio import AudioFormat
from anycarrier.errors import SpeechFailed
from anycarrier.speech.engines import PRECEDING_LIMIT, Heard, Hearing, ResultQueue
from anycarrier.speech.workers import messages as m
from anycarrier.speech.workers.journal import Journal, RecentAudio
from anycarrier.speech.workers.pool import WorkerPool


class WorkerRecognizer:
    """A recognizer whose work is done by a worker of ``pool``. Make it with :meth:`open`."""

    def __init__(self, pool: WorkerPool, hearing: Hearing, configuration: Any, kept: float) -> None:
        self.format: AudioFormat = hearing.format
        self.opening = m.Open(pool.number(), hearing.format.encoding, hearing.format.rate, configuration)
        self._pool = pool
        self._cued = hearing.cued
        self._listening = not hearing.cued
        self._before = RecentAudio(hearing.format, PRECEDING_LIMIT)
        self._pausing = False
        self._journal = Journal(int(kept * hearing.format.bytes_per_second))
        self._results: ResultQueue[Heard] = ResultQueue()

    @classmethod
    async def open(
        cls, pool: WorkerPool, hearing: Hearing, configuration: Any = None, *, kept: float = 20.0
    ) -> WorkerRecognizer:
        """A recognizer for one call, opened on a worker.

        ``configuration`` goes to the worker as it is. ``kept``: seconds of unanswered audio kept for another worker.
        """
        recognizer = cls(pool, hearing, configuration, kept)
        await pool.open(recognizer)
        return recognizer

    def feed(self, audio: bytes) -> None:
        """The next audio. Outside a cued utterance it is only kept for some seconds."""
        self._before.add(audio)
        if self._listening:
            self._send(m.Feed(self.opening.stream, audio))

    def begin(self, preceding: float = 0.5) -> None:
        """An utterance began, ``preceding`` seconds ago."""
        if self._listening:
            return
        self._listening = True
        self._send(m.Begin(self.opening.stream))
        if audio := self._before.read(preceding):
            self._send(m.Feed(self.opening.stream, audio))

    def pause(self, *, following: float = 0.0) -> None:
        """The utterance may be over: the worker may decode ahead."""
        if self._listening:
            self._before.keep(following)  # with what comes now: silence, or the start of the next utterance
            self._pausing = True
            self._send(m.Pause(self.opening.stream, following))

    def resume(self) -> None:
        """The utterance is not over."""
        if self._listening:
            self._pausing = False
            self._send(m.Resume(self.opening.stream))

    def finish(self, *, discard: bool = False, following: float = 0.0) -> None:
        """The utterance is over; its words follow as one complete Heard, without words if ``discard``."""
        self._send(m.Finish(self.opening.stream, discard, following))
        if self._cued:
            self._listening = False
        elif audio := self._before.read(following):
            self._send(m.Feed(self.opening.stream, audio))
        if not self._pausing:
            self._before.keep(following)
        self._pausing = False

    def __aiter__(self) -> AsyncIterator[Heard]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Stop listening."""
        self._results.close()
        self._pool.remove(self.opening.stream)

    def _send(self, message: m.Feed | m.Begin | m.Pause | m.Resume | m.Finish) -> None:
        if not self._results.closed:
            self._journal.add(message)
            self._pool.send(message)

    # --- called by the pool ---------------------------------------------------------------------------------------

    def received(self, message: m.FromWorker) -> None:
        """Words from the worker."""
        if isinstance(message, m.Recognized):
            if message.final:
                self._journal.answered()
            self._results.put(Heard(message.text, final=message.final, complete=message.final))

    def replay(self) -> list[m.ToWorker]:
        """What another worker needs to hear again."""
        return list(self._journal.entries())

    def failed(self, failure: SpeechFailed) -> None:
        """No worker can go on."""
        self._results.close(failure)
