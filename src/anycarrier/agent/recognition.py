"""One call's ears: a voice detector and a recogniser, by another engine when one fails, telling the turn_taking."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import AnycarrierError, ConfigurationError, SpeechFailed
from anycarrier.speech import Hearing, Recognizer, SpeechEngine, Voice, VoiceActivityDetector

KEPT = 20.0
"""Seconds of an unanswered utterance kept for the next recogniser."""

BEFORE = 0.5
"""Seconds kept while nobody speaks: the beginning of the next utterance may already be in it."""


class Cue(Enum):
    BEGIN = "begin"
    FINISH = "finish"


class Recognition:
    """``recognizers`` and ``detectors`` in the order to try; either may be empty. ``note`` is told of failures."""

    def __init__(
        self,
        turn_taking: TurnTaking,
        settings: AgentSettings,
        recognizers: list[SpeechEngine],
        detectors: list[SpeechEngine],
        note: Callable[..., None],
        *,
        format: AudioFormat = PCMU_8K,
    ) -> None:
        self._turn_taking = turn_taking
        self._format = format
        self._note = note
        self._recognizers = recognizers
        self._detectors = detectors
        self._hearing = Hearing(
            language=settings.language,
            phrases=settings.phrases,
            grammar=settings.grammar,
            cued=bool(detectors),
            format=format,
        )
        self._recognizer: Recognizer | None = None
        self._detector: VoiceActivityDetector | None = None
        self._fed = 0
        self._journal: deque[bytes | Cue] = deque()
        self._kept = 0
        self._inside = False

    @property
    def exist(self) -> bool:
        """False for a call nobody listens to."""
        return bool(self._recognizers or self._detectors)

    async def open(self) -> None:
        """Have both at hand; raises ``SpeechFailed`` when no engine of a kind can be opened."""
        await asyncio.gather(self._open_recognizer(), self._open_detector())

    def feed(self, audio: bytes) -> None:
        """Sound from the caller."""
        self._turn_taking.audio_came()
        if self._detector is not None:
            self._fed += len(audio)
            self._detector.feed(audio)
        if self._recognizer is not None:
            self._keep(audio)
            self._recognizer.feed(audio)

    def begin(self) -> None:
        """An utterance has begun."""
        self._inside = True
        if self._recognizer is not None:
            self._journal.append(Cue.BEGIN)
            self._recognizer.begin()

    def finish(self) -> None:
        """It is over: the recogniser owes its final."""
        self._inside = False
        if self._recognizer is None:
            self._turn_taking.follow(self._turn_taking.turns.final(self._turn_taking.clock(), "", wordless=True))
            return
        self._journal.append(Cue.FINISH)
        self._recognizer.finish()

    async def run(self) -> None:
        """Tell the turn_taking what is heard, until cancelled; ``SpeechFailed`` when no recogniser is left."""
        await asyncio.gather(self._detect(), self._listen())

    async def aclose(self) -> None:
        """Let go of both."""
        for engine in (self._recognizer, self._detector):
            if engine is not None:
                await engine.aclose()
        self._recognizer = self._detector = None

    # --- words -------------------------------------------------------------------------------------------------------

    async def _open_recognizer(self) -> None:
        while self._recognizers and self._recognizer is None:
            try:
                self._recognizer = await self._recognizers[0].recognizer(self._hearing)
            except (SpeechFailed, ConfigurationError) as failure:  # the latter: not for this language, or grammar
                if not self._replaced(self._recognizers, "listen", failure):
                    raise

    async def _listen(self) -> None:
        while (recognizer := self._recognizer) is not None:
            turns = self._turn_taking.turns
            try:
                async for heard in recognizer:
                    if not heard.final:
                        self._turn_taking.follow(turns.interim(self._turn_taking.clock(), heard.text))
                        continue
                    if heard.complete:
                        self._answered()
                    now = self._turn_taking.clock()
                    self._turn_taking.follow(turns.final(now, heard.text, complete=heard.complete))
                return
            except SpeechFailed as failure:
                await recognizer.aclose()
                self._recognizer = None
                if not self._replaced(self._recognizers, "listen", failure):
                    raise
                await self._open_recognizer()
                self._retell()

    def _retell(self) -> None:
        """Let the new recogniser hear what the old one has not answered."""
        if self._recognizer is None:
            return
        for entry in list(self._journal):
            if entry is Cue.BEGIN:
                self._recognizer.begin()
            elif entry is Cue.FINISH:
                self._recognizer.finish()
            elif isinstance(entry, bytes):
                self._recognizer.feed(entry)

    def _keep(self, audio: bytes) -> None:
        self._journal.append(audio)
        self._kept += len(audio)
        limit = (KEPT if self._inside or Cue.FINISH in self._journal else BEFORE) * self._format.bytes_per_second
        while self._kept > limit:
            oldest = next(i for i, entry in enumerate(self._journal) if isinstance(entry, bytes))
            self._kept -= len(self._journal[oldest])  # type: ignore[arg-type]
            del self._journal[oldest]

    def _answered(self) -> None:
        """The first utterance in the journal was answered: what led to it is of no more use."""
        if Cue.FINISH not in self._journal:
            return  # ended by the recogniser itself: the journal's own limit is enough
        while (entry := self._journal.popleft()) is not Cue.FINISH:
            if isinstance(entry, bytes):
                self._kept -= len(entry)

    # --- voice -------------------------------------------------------------------------------------------------------

    async def _open_detector(self) -> None:
        while self._detectors and self._detector is None:
            try:
                self._detector = await self._detectors[0].voice_activity_detector(self._format)
                self._fed = 0
            except SpeechFailed as failure:
                if not self._replaced(self._detectors, "detect", failure):
                    self._by_words_alone()

    async def _detect(self) -> None:
        while (detector := self._detector) is not None:
            try:
                async for activity in detector:
                    at = self._turn_taking.clock() - (self._format.seconds(self._fed) - activity.at)
                    match activity.voice:
                        case Voice.STARTED:
                            self._turn_taking.voice_started(at)
                        case Voice.CONTINUES:
                            self._turn_taking.voice_continues(at)
                        case Voice.ENDED:
                            self._turn_taking.voice_ended(at)
                return
            except SpeechFailed as failure:
                await detector.aclose()
                self._detector = None
                if not self._replaced(self._detectors, "detect", failure):
                    self._by_words_alone()
                with contextlib.suppress(SpeechFailed):
                    await self._open_detector()

    def _by_words_alone(self) -> None:
        """No detector is left: the recogniser must say by itself when somebody speaks."""
        self._hearing = replace(self._hearing, cued=False)
        self._turn_taking.turns.settings = replace(self._turn_taking.turns.settings, trust_words=True)

    def _replaced(self, engines: list[SpeechEngine], ability: str, failure: AnycarrierError) -> bool:
        """Strike the first engine; whether another is left."""
        failed = engines.pop(0)
        left = engines[0].name if engines else None
        self._note("engine_failed", engine=failed.name, ability=ability, why=str(failure), fallback=left)
        return bool(engines)
