"""Recordings through the real engines in less time than they last, on the sound's own clock.

The detector hears the whole recording first. Then its reports, the frames and the turn machine's deadlines are played
in the order and with the hints that a call would have; only waiting is left out, but for the recognizer's answers and
the words it decodes ahead. Its interims while somebody speaks follow the wall clock, so they have to be off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from speech_line import FRAME, RATE

from anycarrier.audio import PCMU_8K, silence
from anycarrier.demo.calls import clip
from anycarrier.speech import (
    BeginUtterance,
    EmitFinal,
    FinishUtterance,
    Hearing,
    Output,
    PauseUtterance,
    Recognizer,
    ResumeUtterance,
    SpeechEngine,
    Turns,
    TurnSettings,
    Voice,
    VoiceActivity,
)

WINDOW = 0.032
"""Seconds that a detector needs to hear before it can report a start or an end."""
PATIENCE = 60.0
AHEAD = 5.0
"""Seconds that words decoded ahead may take; if there are none, nothing is reported."""
FRAME_SECONDS = FRAME / RATE


@dataclass
class Answer:
    """What one recording gave."""

    finals: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.finals)


async def voices(detector: SpeechEngine, mulaw: bytes) -> list[VoiceActivity]:
    """All that the detector reports of a recording. A greeting after it shows when it has heard everything."""
    stream = await detector.voice_activity_detector()
    found: list[VoiceActivity] = []
    try:
        stream.feed(mulaw + silence(PCMU_8K, 2.0) + clip("hello") + silence(PCMU_8K, 1.0))
        async with asyncio.timeout(PATIENCE):
            async for activity in stream:
                if activity.at > len(mulaw) / RATE + 1.5:
                    return found
                found.append(activity)
    finally:
        await stream.aclose()
    raise RuntimeError("the detector ended before the recording")


async def listen(engine: SpeechEngine, detector: SpeechEngine, mulaw: bytes, *, phrases: Iterable[str] = ()) -> Answer:
    """One recording as one call."""
    heard = sorted(((_arrival(activity), n, activity) for n, activity in enumerate(await voices(detector, mulaw))))
    recognizer = await engine.recognizer(Hearing(phrases=tuple(phrases), cued=True))
    settings = TurnSettings(silence_timeout=None, punctuated=engine.punctuates)
    call = _Call(settings, recognizer)
    try:
        for start in range(0, len(mulaw), FRAME):
            now = (start + FRAME) / RATE
            recognizer.feed(mulaw[start : start + FRAME])
            while heard and heard[0][0] <= now:
                await call.voice(now, heard.pop(0)[2])
            await call.follow(now, call.turns.tick(now))
        end = len(mulaw) / RATE + 2.0
        await call.follow(end, call.turns.tick(end))
    finally:
        await recognizer.aclose()
    return call.answer


def _arrival(activity: VoiceActivity) -> float:
    return activity.at + (0.0 if activity.voice is Voice.CONTINUES else WINDOW)


class _Call:
    def __init__(self, settings: TurnSettings, recognizer: Recognizer) -> None:
        self.turns = Turns(settings)
        self.answer = Answer()
        self._recognizer = recognizer
        self._results = aiter(recognizer)

    async def voice(self, now: float, activity: VoiceActivity) -> None:
        match activity.voice:
            case Voice.STARTED:
                await self.follow(now, self.turns.speech_started(now, activity.at))
            case Voice.CONTINUES:
                await self.follow(now, self.turns.speech_continues(now, activity.at))
            case Voice.ENDED:
                await self.follow(now, self.turns.speech_ended(now, activity.at))

    async def follow(self, now: float, outputs: Iterable[Output]) -> None:
        for output in outputs:
            match output:
                case BeginUtterance():
                    self._recognizer.begin()
                case PauseUtterance():
                    self._recognizer.pause()
                    await self.follow(now, self.turns.interim(now, await self._ahead()))
                case ResumeUtterance():
                    self._recognizer.resume()
                case FinishUtterance(_, discard):
                    self._recognizer.finish(discard=discard)
                    text = await self._final()
                    await self.follow(now, self.turns.final(now, text))
                case EmitFinal(_, text) if text:
                    self.answer.finals.append(text)
                case _:
                    pass

    async def _ahead(self) -> str:
        try:
            async with asyncio.timeout(AHEAD):
                return (await anext(self._results)).text
        except TimeoutError:
            return ""

    async def _final(self) -> str:
        async with asyncio.timeout(PATIENCE):
            async for heard in self._results:
                if heard.complete:
                    return heard.text
        raise RuntimeError("the recognizer ended before its answer")


async def final(engine: SpeechEngine, mulaw: bytes, *, phrases: Iterable[str] = ()) -> str:
    """The words of a recording that is one utterance from its first to its last byte."""
    recognizer = await engine.recognizer(Hearing(phrases=tuple(phrases), cued=True))
    try:
        recognizer.begin()
        recognizer.feed(mulaw)
        recognizer.finish()
        async with asyncio.timeout(PATIENCE):
            async for heard in recognizer:
                if heard.complete:
                    return heard.text
    finally:
        await recognizer.aclose()
    raise RuntimeError("the recognizer ended before its answer")


# --- processes --------------------------------------------------------------------------------------------------------


def workers(module: str) -> list[int]:
    """This process's children that run ``module``."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if module in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                found.append(child)
    return found


def cpu_seconds(process: int) -> float:
    """CPU time of all threads of a process so far."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def resident_mb(process: int | str = "self") -> float:
    """Memory of a process that is in RAM."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
