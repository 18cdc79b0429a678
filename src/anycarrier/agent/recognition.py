"""Recognition on one call: a voice detector and a recognizer feed turn-taking.

When an engine fails, a fallback engine replaces it and receives the audio that was not answered yet.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.errors import AnycarrierError, ConfigurationError, SpeechFailed
from anycarrier.speech import (
    PRECEDING_LIMIT,
    BeginUtterance,
    FinishUtterance,
    Hearing,
    Output,
    PauseUtterance,
    Recognizer,
    ResumeUtterance,
    SpeechEngine,
    Voice,
    VoiceActivityDetector,
    primary_language,
)
from anycarrier.speech.workers import Begin, Feed, Finish, Journal, Pause, RecentAudio, Resume

KEPT = 20.0
"""Seconds of an unanswered utterance kept for a fallback recognizer."""

OVERLAP = 0.5
"""Seconds that a fallback recognizer hears of a stream without announced utterances."""

LEAD, TAIL = 0.4, 0.4
"""Seconds of audio before a voice began and after it ended that belong to the utterance: soft sounds at both ends."""

DETECTOR_DELAY = 0.1
"""Seconds of audio by which a detector may be behind; one on a busy machine is more."""


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
        self._detected_from = 0
        self._reported = (turn_taking.clock(), 0)  # when the detector reported last, and what was fed by then
        self._recent = RecentAudio(format, PRECEDING_LIMIT if detectors else OVERLAP)
        self._journal = Journal(int(KEPT * format.bytes_per_second))
        self._inside = False
        self._pausing = False

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
        self._fed += len(audio)
        self._recent.add(audio)
        if self._inside:
            self._journal.add(Feed(0, audio))
        if self._detector is not None:
            self._detector.feed(audio)
        if self._recognizer is not None:
            self._recognizer.feed(audio)

    def act(self, output: Output) -> None:
        """Carry out what turn-taking has for the recognizer; other outputs are ignored."""
        match output:
            case BeginUtterance(_, began):
                self.begin(began)
            case PauseUtterance(_, ended):
                self.pause(ended)
            case ResumeUtterance():
                self.resume()
            case FinishUtterance(_, discard, ended):
                self.finish(ended, discard=discard)

    def begin(self, began: float | None = None) -> None:
        """An utterance has begun, at ``began`` on the clock of turn-taking (default: just now)."""
        preceding = LEAD if began is None else min(PRECEDING_LIMIT, max(0.0, self._since(began)) + LEAD)
        self._inside, self._pausing = True, False
        self._journal.add(Begin(0))
        self._journal.add(Feed(0, self._recent.read(preceding)))
        if self._recognizer is not None:
            self._recognizer.begin(preceding)

    def pause(self, ended: float | None = None) -> None:
        """The utterance may be over; its voice ended at ``ended``."""
        self._pausing, following = True, self._following(ended)
        self._recent.keep(following)
        self._journal.add(Pause(0, following))
        if self._recognizer is not None:
            self._recognizer.pause(following=following)

    def resume(self) -> None:
        """The utterance goes on."""
        self._pausing = False
        self._journal.add(Resume(0))
        if self._recognizer is not None:
            self._recognizer.resume()

    def finish(self, ended: float | None = None, *, discard: bool = False) -> None:
        """The utterance is over; the recognizer has to answer with its final, or with nothing to a noise."""
        following = self._following(ended)
        if not self._inside:
            self._journal.add(Feed(0, self._recent.read()))  # its words were heard, and no detector announced it
        if not self._pausing:
            self._recent.keep(following)
        self._inside = self._pausing = False
        self._journal.add(Resume(0))
        if not self._recognizers:
            self._journal.clear()
            self._turn_taking.follow(self._turn_taking.turns.final(self._turn_taking.clock(), "", wordless=True))
            return
        self._journal.add(Finish(0, discard, following))
        if self._recognizer is not None:  # else the next one is told soon
            self._recognizer.finish(discard=discard, following=following)

    def _since(self, moment: float) -> float:
        """Seconds of audio fed since ``moment``. Counted from the detector's last report, since the audio that a busy
        process has still to read when the report comes keeps its place."""
        at, fed = self._reported
        return self._format.seconds(self._fed - fed) + at - moment

    def _following(self, ended: float | None) -> float:
        return 0.0 if ended is None else max(0.0, self._since(ended) - TAIL)

    async def change(self, recognizers: list[SpeechEngine], language: str) -> None:
        """Go on in another language, with these engines, which get the audio that was not answered yet.

        Raises what opening the last of them raises; then everything is as before.
        """
        old, before = self._recognizer, (self._recognizer, self._recognizers, self._hearing)
        self._recognizer, self._recognizers = None, recognizers
        self._hearing = replace(self._hearing, language=language)
        try:
            await self._open_recognizer()
        except BaseException:
            self._recognizer, self._recognizers, self._hearing = before
            raise
        self._retell()
        if old is not None:
            await old.aclose()

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
                    if heard.complete and self._journal.owed:
                        self._journal.answered()
                    elif heard.complete:
                        self._recent.keep(0.0)  # it ends utterances by itself
                    now = self._turn_taking.clock()
                    self._turn_taking.follow(turns.final(now, heard.text, complete=heard.complete))
                if self._recognizer is recognizer:
                    return
            except SpeechFailed as failure:
                await recognizer.aclose()
                self._recognizer = None
                if not self._replaced(self._recognizers, "listen", failure):
                    raise
                await self._open_recognizer()
                self._retell()

    def _retell(self) -> None:
        """Feed the new recognizer what the old one has not answered."""
        if self._recognizer is None:
            return
        for entry in self._journal.entries():
            match entry:
                case Begin():
                    self._recognizer.begin(0.0)
                case Pause(following=following):
                    self._recognizer.pause(following=following)
                case Finish(discard=discard, following=following):
                    self._recognizer.finish(discard=discard, following=following)
                case Feed(audio=audio):
                    self._recognizer.feed(audio)
        if not self._inside:
            self._recognizer.feed(self._recent.read())  # the next utterance may have begun

    # --- voice -------------------------------------------------------------------------------------------------------

    async def _open_detector(self) -> None:
        while self._detectors and self._detector is None:
            try:
                self._detector = await self._detectors[0].voice_activity_detector(self._format)
                self._detected_from = self._fed
            except SpeechFailed as failure:
                if not self._replaced(self._detectors, "detect", failure):
                    self._by_words_alone()

    async def _detect(self) -> None:
        while (detector := self._detector) is not None:
            try:
                async for activity in detector:
                    now = self._turn_taking.clock()
                    behind = self._format.seconds(self._fed - self._detected_from) - activity.at
                    self._reported, at = (now, self._fed), now - behind
                    match activity.voice:
                        case Voice.STARTED:
                            self._turn_taking.voice_started(at)
                        case Voice.CONTINUES:
                            self._turn_taking.voice_continues(at)
                        case Voice.ENDED:
                            self._turn_taking.voice_ended(at, delay=max(0.0, behind - DETECTOR_DELAY))
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
