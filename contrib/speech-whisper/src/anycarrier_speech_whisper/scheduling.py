"""What a worker decodes next, as pure code: messages and times go in, jobs and answers come out.

A stream collects the audio of its utterance, and nothing is decoded while nobody speaks. Three things make a *job*, in
this order of priority:

- a **final**, after Finish, unless a decode-ahead of the whole utterance has the answer already;
- a **decode-ahead**, after Pause: the utterance may be over. Its words are reported as an interim. Audio that follows
  is silence and does not outdate it; Resume does;
- an **interim** while the caller speaks, at most one a second for each stream, only when no other job waits, and after
  each of them a rest of three times as long as it took: a final may come behind an interim, so many talkers' interims
  take a quarter of the worker's time at most.

A job whose reason is gone (resumed, discarded, closed) is never started. When finals or decode-aheads had to wait,
there are no interims for some seconds; when finals waited longer, there is no decode-ahead either. A final that nobody
waits for any longer is decoded after those that somebody does wait for, so a queue that was too long once does not
delay all later ones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from anycarrier.audio import AudioFormat
from anycarrier.speech.workers import (
    Begin,
    Close,
    Feed,
    Finish,
    FromWorker,
    Open,
    Pause,
    Recognized,
    Resume,
    ToWorker,
)

KEPT = 36.0
"""Seconds of one utterance that are kept, the latest: the 30 that turn-taking allows, and what came before its cue."""
WAITING = 120.0
"""Seconds of audio in one stream's unanswered utterances; beyond that the oldest are answered without words."""
INTERIM_EVERY = 1.0
"""Seconds between two interims of a stream, and before its first."""
RESTS = 3.0
"""How many times as long as it took the worker rests after an interim."""
BUSY, SLOW, OFF_FOR = 0.2, 0.5, 5.0
"""A final or a decode-ahead that waited ``BUSY`` seconds turns interims off, for ``OFF_FOR`` seconds; a final that
waited ``SLOW`` seconds turns decode-ahead off too."""
LATE = 4.0
"""Seconds after which nobody waits for a final: by then turn-taking has gone on without it."""


class Vocabulary(msgspec.Struct, frozen=True):
    """What to expect on a stream: the configuration that the engine sends with Open."""

    language: str = "en"
    phrases: tuple[str, ...] = ()


class Kind(IntEnum):
    """Why something is decoded."""

    FINAL = 0
    AHEAD = 1
    INTERIM = 2


@dataclass(eq=False, slots=True)
class Utterance:
    """One thing that a caller says. ``end``: where its audio ended when it ``paused``. ``ahead``: its words, decoded
    since then. ``text``: the answer to Finish."""

    begun: float | None = None
    looked: float = 0.0  # when an interim was last considered
    audio: bytearray = field(default_factory=bytearray)
    paused: float | None = None
    end: int = 0
    ahead: str | None = None
    shown: str = ""
    finished: float = 0.0
    text: str | None = None


@dataclass(eq=False, slots=True)
class Stream:
    """One call: the utterance being said, and those whose answers are due, oldest first."""

    number: int
    format: AudioFormat
    vocabulary: Vocabulary
    current: Utterance = field(default_factory=Utterance)
    asked: deque[Utterance] = field(default_factory=deque)


@dataclass(eq=False, slots=True)
class Job:
    """Audio to decode. ``outdated``: the caller went on while it was being decoded ahead."""

    kind: Kind
    stream: Stream
    utterance: Utterance
    audio: bytes
    started: float
    outdated: bool = False


class Scheduler:
    """The streams of one worker, which decodes one job at a time."""

    def __init__(self, *, interims: bool = True) -> None:
        self._interims = interims
        self._streams: dict[int, Stream] = {}
        self._running: Job | None = None
        self._busy_until = 0.0
        self._slow_until = 0.0
        self._rest_until = 0.0

    def take(self, message: ToWorker, now: float) -> list[FromWorker]:
        """Do what a message says; returns what can be answered at once."""
        if isinstance(message, Open):
            format = AudioFormat(message.encoding, message.rate)
            vocabulary = msgspec.convert(message.configuration or {}, Vocabulary)
            self._streams[message.stream] = Stream(message.stream, format, vocabulary)
            return []
        stream = self._streams.get(message.stream)
        if stream is None:
            return []
        match message:
            case Feed():
                self._feed(stream, message.audio)
            case Begin():
                stream.current = Utterance(begun=now, looked=now)
            case Pause():
                self._outdate(stream)
                stream.current.paused = now
                stream.current.end = len(_without(stream, message.following))
            case Resume():
                self._outdate(stream)
            case Finish():
                return self._finish(stream, now, message)
            case Close():
                del self._streams[message.stream]
        return []

    def next(self, now: float) -> Job | None:
        """The job to decode now; call :meth:`done` with its words before the next one. None: nothing to do yet."""
        job = self._final(now)
        if job is None and now >= self._slow_until:
            job = self._ahead(now) or self._interim(now)
        self._running = job
        return job

    def wake(self) -> float | None:
        """When :meth:`next` has to be asked again even if no message comes; None: never."""
        due = [
            self._interim_due(stream)
            for stream in self._streams.values()
            if self._interims and stream.current.begun is not None and stream.current.paused is None
        ]
        due += [self._slow_until for stream in self._streams.values() if self._wants_ahead(stream)]
        return max(self._slow_until, min(due)) if due else None

    def done(self, job: Job, text: str, now: float) -> list[FromWorker]:
        """The words of a job; returns what to send."""
        self._running = None
        if job.kind is Kind.INTERIM:
            self._rest_until = now + RESTS * (now - job.started)
        stream, utterance = job.stream, job.utterance
        if self._streams.get(stream.number) is not stream or job.outdated:
            return []
        if utterance in stream.asked:
            if job.kind is not Kind.INTERIM and utterance.text is None:
                utterance.text = text
            return self._answers(stream)
        if utterance is not stream.current:
            return []
        if job.kind is Kind.AHEAD:
            utterance.ahead = text
        elif utterance.paused is not None or text == utterance.shown:
            return []  # words of before the pause say nothing of it
        if not text:
            return []
        utterance.shown = text
        return [Recognized(stream.number, text, False)]

    # --- messages ---------------------------------------------------------------------------------------------------

    def _feed(self, stream: Stream, audio: bytes) -> None:
        kept = stream.current.audio
        kept += audio
        excess = len(kept) - stream.format.size(KEPT)
        if excess > 0:
            sample = stream.format.sample_width * stream.format.channels
            excess += -excess % sample
            del kept[:excess]
            stream.current.end = max(0, stream.current.end - excess)

    def _outdate(self, stream: Stream) -> None:
        stream.current.paused = stream.current.ahead = None
        job = self._running
        if job is not None and job.kind is Kind.AHEAD and job.utterance is stream.current:
            job.outdated = True

    def _finish(self, stream: Stream, now: float, message: Finish) -> list[FromWorker]:
        audio = _without(stream, message.following)
        utterance, stream.current = stream.current, Utterance()
        utterance.finished, utterance.audio = now, audio
        utterance.text = "" if message.discard or not audio else utterance.ahead
        stream.asked.append(utterance)
        waiting = sum(len(u.audio) for u in stream.asked if u.text is None)
        for oldest in stream.asked:
            if waiting <= stream.format.size(WAITING):
                break
            if oldest.text is None:
                oldest.text = ""
                waiting -= len(oldest.audio)
        return self._answers(stream)

    def _answers(self, stream: Stream) -> list[FromWorker]:
        """What is known of the answers that are due, in their order."""
        found: list[FromWorker] = []
        while stream.asked and (text := stream.asked[0].text) is not None:
            stream.asked.popleft()
            found.append(Recognized(stream.number, text, True))
        return found

    # --- jobs -------------------------------------------------------------------------------------------------------

    def _final(self, now: float) -> Job | None:
        waiting = [(s, u) for s in self._streams.values() for u in s.asked if u.text is None]
        if not waiting:
            return None
        stream, utterance = min(waiting, key=lambda each: (now - each[0].asked[0].finished > LATE, each[1].finished))
        if now - utterance.finished > BUSY:
            self._busy_until = now + OFF_FOR
        if now - utterance.finished > SLOW:
            self._slow_until = now + OFF_FOR
        return Job(Kind.FINAL, stream, utterance, bytes(utterance.audio), now)

    def _wants_ahead(self, stream: Stream) -> bool:
        current = stream.current
        return current.paused is not None and current.ahead is None and current.end > 0

    def _ahead(self, now: float) -> Job | None:
        wanting = [stream for stream in self._streams.values() if self._wants_ahead(stream)]
        if not wanting:
            return None
        stream = min(wanting, key=lambda each: each.current.paused or 0.0)
        if now - (stream.current.paused or now) > BUSY:
            self._busy_until = now + OFF_FOR
        return Job(Kind.AHEAD, stream, stream.current, bytes(stream.current.audio[: stream.current.end]), now)

    def _interim(self, now: float) -> Job | None:
        if not self._interims:
            return None
        speaking = [s for s in self._streams.values() if s.current.begun is not None and s.current.paused is None]
        for stream in sorted(speaking, key=lambda each: each.current.looked):
            if now < self._interim_due(stream):
                break
            stream.current.looked = now
            if stream.current.audio:
                return Job(Kind.INTERIM, stream, stream.current, bytes(stream.current.audio), now)
        return None

    def _interim_due(self, stream: Stream) -> float:
        return max(stream.current.looked + INTERIM_EVERY, self._rest_until, self._busy_until)


def _without(stream: Stream, following: float) -> bytearray:
    """The audio of the current utterance without the last ``following`` seconds."""
    audio = stream.current.audio
    return audio[: max(0, len(audio) - stream.format.size(following))]
