"""Recognition on one call: a voice detector and a recognizer feed turn-taking.

When an engine fails, a fallback engine replaces it and receives the audio that was not answered yet.
"""

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
from anycarrier.speech import (
    Hearing,
    Recognizer,
    SpeechEngine,
    Voice,
    VoiceActivityDetector,
    primary_language,
)

KEPT = 20.0
"""Seconds of an unanswered utterance kept for a fallback recognizer."""

BEFORE = 0.5
"""Seconds kept while nobody speaks; they may contain the start of the next utterance."""


class Cue(Enum):
    BEGIN = "begin"
    PAUSE = "pause"
    FINISH = "finish"
    DISCARD = "discard"


ENDS = (Cue.FINISH, Cue.DISCARD)
"""The cues that are answered."""


class Recognition:
    """``recognizers`` and ``detectors`` in the order to try; either may be empty. ``note`` gets each failure."""

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
        """False for a call without recognizer and detector."""
        return bool(self._recognizers or self._detectors)

    async def open(self) -> None:
        """Open both; raises ``SpeechFailed`` if no recognizer can be opened."""
        await asyncio.gather(self._open_recognizer(), self._open_detector())

    def feed(self, audio: bytes) -> None:
        """Audio from the caller."""
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
            self._forget_pause()  # of an utterance that the recognizer ended by itself
            self._journal.append(Cue.BEGIN)
            self._recognizer.begin()

    def pause(self) -> None:
        """The utterance may be over."""
        if self._recognizer is not None:
            self._journal.append(Cue.PAUSE)
            self._recognizer.pause()

    def resume(self) -> None:
        """The utterance goes on."""
        if self._recognizer is not None:
            self._forget_pause()
            self._recognizer.resume()

    def finish(self, *, discard: bool = False) -> None:
        """The utterance is over; the recognizer has to answer with its final, or with nothing to a noise."""
        self._inside = False
        if self._recognizer is None:
            self._turn_taking.follow(self._turn_taking.turns.final(self._turn_taking.clock(), "", wordless=True))
            return
        self._forget_pause()
        self._journal.append(Cue.DISCARD if discard else Cue.FINISH)
        self._recognizer.finish(discard=discard)

    async def run(self) -> None:
        """Feed turn-taking until cancelled; raises ``SpeechFailed`` when no recognizer is left."""
        await asyncio.gather(self._detect(), self._listen())

    async def aclose(self) -> None:
        """Close both."""
        for engine in (self._recognizer, self._detector):
            if engine is not None:
                await engine.aclose()
        self._recognizer = self._detector = None

    # --- words -------------------------------------------------------------------------------------------------------

    async def _open_recognizer(self) -> None:
        while self._recognizers and self._recognizer is None:
            try:
                self._recognizer = await self._recognizers[0].recognizer(self._hearing)
                # The rule for the end of a turn knows English words, and was measured with no other language.
                english = primary_language(self._hearing.language) == "en"
                self._turn_taking.change(punctuated=self._recognizers[0].punctuates and english)
            except (SpeechFailed, ConfigurationError) as failure:  # the latter: unsupported language or grammar
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

    def _forget_pause(self) -> None:
        """A fallback recognizer is told of a pause only while it lasts."""
        with contextlib.suppress(ValueError):
            self._journal.remove(Cue.PAUSE)

    def _retell(self) -> None:
        """Feed the new recognizer what the old one has not answered."""
        if self._recognizer is None:
            return
        for entry in list(self._journal):
            match entry:
                case Cue.BEGIN:
                    self._recognizer.begin()
                case Cue.PAUSE:
                    self._recognizer.pause()
                case Cue.FINISH | Cue.DISCARD:
                    self._recognizer.finish(discard=entry is Cue.DISCARD)
                case bytes():
                    self._recognizer.feed(entry)

    def _keep(self, audio: bytes) -> None:
        self._journal.append(audio)
        self._kept += len(audio)
        limit = (KEPT if self._inside or self._owes else BEFORE) * self._format.bytes_per_second
        while self._kept > limit:
            oldest = next(i for i, entry in enumerate(self._journal) if isinstance(entry, bytes))
            self._kept -= len(self._journal[oldest])  # type: ignore[arg-type]
            del self._journal[oldest]

    @property
    def _owes(self) -> bool:
        """Whether the recognizer has an answer to give."""
        return any(cue in self._journal for cue in ENDS)

    def _answered(self) -> None:
        """The first utterance in the journal was answered; drop it and what came before."""
        if not self._owes:
            return  # the recognizer ended it by itself; the journal is bounded by its own limit
        while (entry := self._journal.popleft()) not in ENDS:
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
        """No detector is left: from now on recognized words alone count as speech."""
        self._hearing = replace(self._hearing, cued=False)
        self._turn_taking.change(trust_words=True)

    def _replaced(self, engines: list[SpeechEngine], ability: str, failure: AnycarrierError) -> bool:
        """Drop the first engine; returns whether another is left."""
        failed = engines.pop(0)
        left = engines[0].name if engines else None
        self._note("engine_failed", engine=failed.name, ability=ability, why=str(failure), fallback=left)
        return bool(engines)
