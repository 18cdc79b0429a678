"""Silero's voice detector as a speech engine, in a worker process of its own so that its milliseconds delay nobody.

It holds against noise, ringback and key tones, which energy and older detectors take for speech.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import Field

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import SpeechFailed
from anycarrier.speech import EngineSettings, ResultQueue, SpeechEngine, Voice, VoiceActivity, VoiceActivityDetector
from anycarrier_speech_local import messages as m
from anycarrier_speech_local.messages import Recent
from anycarrier_speech_local.pool import WorkerPool

KEPT = 5.0
"""Seconds of audio kept for a new worker, which is there in well under one."""
RUN_UP = 0.5
"""Seconds a new worker hears again before what is new to it, to know what it has landed in."""


class SileroSettings(EngineSettings):
    """``workers``: one process carries some two hundred calls. ``threshold``: how sure it must be, 0 to 1."""

    workers: int = Field(default=1, ge=1, le=64)
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)


class SileroEngine(SpeechEngine):
    """A worker process or more with the model, started by the first call or by ``start``."""

    name = "silero"
    settings_type = SileroSettings

    def __init__(self, settings: EngineSettings | None = None) -> None:
        super().__init__(settings)
        assert isinstance(self.settings, SileroSettings)
        arguments = ("detect", str(self.settings.threshold))
        self.pool = WorkerPool(self.name, "detect", arguments, self.settings.workers)

    async def start(self) -> None:
        """Have the processes running and the model loaded."""
        detector = await self.voice_activity_detector()
        await detector.aclose()

    async def aclose(self) -> None:
        """End the processes."""
        await self.pool.aclose()

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> VoiceActivityDetector:
        """A detector for one call."""
        detector = SileroDetector(self.pool, format)
        try:
            await self.pool.add(detector)
            await detector.opened
        except BaseException:
            await detector.aclose()
            raise
        return detector


class SileroDetector:
    """One call's detector. Positions count from the first byte fed, also when the worker was replaced."""

    def __init__(self, pool: WorkerPool, format: AudioFormat) -> None:
        self.format = format
        self.opening = m.Open(pool.number(), format.encoding, format.rate)
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool = pool
        self._fed = 0
        self._offset = 0.0  # of the worker's clock
        self._reached = 0.0
        self._voiced = False
        self._recent = Recent(format, KEPT)
        self._results: ResultQueue[VoiceActivity] = ResultQueue()

    def feed(self, audio: bytes) -> None:
        """The next audio."""
        if self._results.closed:
            return
        self._fed += len(audio)
        self._recent.add(audio)
        self._pool.send(m.Feed(self.opening.stream, audio))

    def __aiter__(self) -> AsyncIterator[VoiceActivity]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Stop."""
        self._results.close()
        self._pool.remove(self.opening.stream)

    # --- told by the pool -----------------------------------------------------------------------------------------

    def told(self, message: m.FromWorker) -> None:
        """What the worker says."""
        if isinstance(message, m.Opened):
            if not self.opened.done():
                self.opened.set_result(None)
        elif isinstance(message, m.Reached):
            self._reached = max(self._reached, self._offset + message.at)
        elif isinstance(message, m.VoiceTold):
            self._tell(Voice(message.voice), self._offset + message.at)

    def _tell(self, voice: Voice, at: float) -> None:
        if at < self._reached - 0.001 or (voice is Voice.ENDED and not self._voiced):
            return  # the run-up of a new worker, told already by the one before
        if voice is Voice.CONTINUES and not self._voiced:
            self._results.put(VoiceActivity(Voice.STARTED, self._reached))  # it began in the run-up
        self._reached, self._voiced = at, voice is not Voice.ENDED
        self._results.put(VoiceActivity(voice, at))

    def moved(self) -> list[m.ToWorker]:
        """Begin anew shortly before where the last one was; a voice that was on is off until the new one hears it."""
        if self._voiced:
            self._voiced = False
            self._results.put(VoiceActivity(Voice.ENDED, self._reached))
        audio = self._recent.read()
        known = round((self._reached - RUN_UP) * self.format.rate) * self.format.sample_width * self.format.channels
        skipped = max(0, known - (self._fed - len(audio)))
        self._offset = self.format.seconds(self._fed - len(audio) + skipped)
        return [m.Feed(self.opening.stream, audio[skipped:])]

    def lost(self, failure: SpeechFailed) -> None:
        """No worker can be had."""
        if not self.opened.done():
            self.opened.set_exception(failure)
        self._results.close(failure)
