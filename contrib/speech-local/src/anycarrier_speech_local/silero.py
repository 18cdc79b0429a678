"""Silero's voice detector as a speech engine, in a worker process of its own so that its milliseconds delay nobody.

It holds against noise, ringback and key tones, which energy and older detectors take for speech.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import Field

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import SpeechFailed
from anycarrier.speech import EngineSettings, ResultQueue, SpeechEngine, Voice, VoiceActivity, VoiceActivityDetector
from anycarrier.speech import workers as w

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
        self.pool = w.WorkerPool(
            self.name, "detect", "anycarrier_speech_local.worker", arguments, size=self.settings.workers
        )

    async def start(self) -> None:
        """Have the processes running and the model loaded."""
        await self.pool.start()

    async def aclose(self) -> None:
        """End the processes."""
        await self.pool.aclose()

    async def voice_activity_detector(self, format: AudioFormat = PCMU_8K) -> VoiceActivityDetector:
        """A detector for one call."""
        detector = SileroDetector(self.pool, format)
        await self.pool.open(detector)
        return detector


class SileroDetector:
    """One call's detector. Positions count from the first byte fed, also when the worker was replaced."""

    def __init__(self, pool: w.WorkerPool, format: AudioFormat) -> None:
        self.format = format
        self.opening = w.Open(pool.number(), format.encoding, format.rate)
        self._pool = pool
        self._fed = 0
        self._offset = 0.0  # of the worker's clock
        self._reached = 0.0
        self._voiced = False
        self._recent = w.RecentAudio(format, KEPT)
        self._results: ResultQueue[VoiceActivity] = ResultQueue()

    def feed(self, audio: bytes) -> None:
        """The next audio."""
        if self._results.closed:
            return
        self._fed += len(audio)
        self._recent.add(audio)
        self._pool.send(w.Feed(self.opening.stream, audio))

    def __aiter__(self) -> AsyncIterator[VoiceActivity]:
        return aiter(self._results)

    async def aclose(self) -> None:
        """Stop."""
        self._results.close()
        self._pool.remove(self.opening.stream)

    # --- called by the pool -----------------------------------------------------------------------------------------

    def received(self, message: w.FromWorker) -> None:
        """What the worker says."""
        if isinstance(message, w.Examined):
            self._reached = max(self._reached, self._offset + message.at)
        elif isinstance(message, w.VoiceReport):
            self._tell(Voice(message.voice), self._offset + message.at)

    def _tell(self, voice: Voice, at: float) -> None:
        if at < self._reached - 0.001 or (voice is Voice.ENDED and not self._voiced):
            return  # the run-up of a new worker, told already by the one before
        if voice is Voice.CONTINUES and not self._voiced:
            self._results.put(VoiceActivity(Voice.STARTED, self._reached))  # it began in the run-up
        self._reached, self._voiced = at, voice is not Voice.ENDED
        self._results.put(VoiceActivity(voice, at))

    def replay(self) -> list[w.ToWorker]:
        """Begin anew shortly before where the last one was; a voice that was on is off until the new one hears it."""
        if self._voiced:
            self._voiced = False
            self._results.put(VoiceActivity(Voice.ENDED, self._reached))
        audio = self._recent.read()
        known = round((self._reached - RUN_UP) * self.format.rate) * self.format.sample_width * self.format.channels
        skipped = max(0, known - (self._fed - len(audio)))
        self._offset = self.format.seconds(self._fed - len(audio) + skipped)
        return [w.Feed(self.opening.stream, audio[skipped:])]

    def failed(self, failure: SpeechFailed) -> None:
        """No worker can be had."""
        self._results.close(failure)
