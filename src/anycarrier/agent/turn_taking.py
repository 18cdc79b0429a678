"""Who has the turn_taking: turn-taking with a clock and hands.

The state machine is pure (:mod:`anycarrier.speech.turns`); here it is told things from several tasks, ticked when it is
due, and what it asks for is carried out in order by one task.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from anycarrier.speech import Output, Turns, TurnSettings

STREAM_GAP = 0.3
"""Seconds without any frame after which a voice counts as gone: carriers that suppress silence stop sending."""


class TurnTaking:
    """``act`` is awaited for each output. Times are :attr:`clock`'s seconds."""

    def __init__(
        self,
        settings: TurnSettings,
        act: Callable[[Output], Awaitable[None]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.turns = Turns(settings, at=clock())
        self._act = act
        self._interruption = settings.interruption
        self._outputs: deque[Output] = deque()
        self._news = asyncio.Event()
        self._audio_at = clock()
        self._voiced = False

    def follow(self, outputs: Iterable[Output]) -> None:
        """Have these carried out. To be called after every input to :attr:`turns`: its deadline has moved."""
        self._outputs.extend(outputs)
        self._news.set()

    def audio_came(self) -> None:
        """A frame of caller audio is here."""
        self._audio_at = self.clock()

    def voice_started(self, began: float) -> None:
        """A voice is heard, since ``began``."""
        self._voiced = True
        self.follow(self.turns.speech_started(self.clock(), began))

    def voice_continues(self, until: float) -> None:
        """It is confirmed up to ``until``."""
        self._voiced = True
        self.follow(self.turns.speech_continues(self.clock(), until))

    def voice_ended(self, ended: float) -> None:
        """It ended at ``ended``."""
        self._voiced = False
        self.follow(self.turns.speech_ended(self.clock(), ended))

    def interruptible(self, yes: bool) -> None:
        """Whether the caller may cut what is being said now."""
        self.turns.settings = replace(self.turns.settings, interruption=self._interruption if yes else None)

    async def run(self) -> None:
        """Carry out what follows, until cancelled."""
        while True:
            while self._outputs:
                await self._act(self._outputs.popleft())
            due = self.turns.deadline
            if self._voiced:
                due = min(self._audio_at + STREAM_GAP, due if due is not None else float("inf"))
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - self.clock())):
                    await self._news.wait()
            except TimeoutError:
                if self._voiced and self.clock() >= self._audio_at + STREAM_GAP:
                    self.voice_ended(self._audio_at)
                else:
                    self._outputs.extend(self.turns.tick(self.clock()))
            self._news.clear()

    async def close(self) -> None:
        """The call is over: carry out what was still due, and close what the caller was saying."""
        self._outputs.extend(self.turns.hang_up(self.clock()))
        while self._outputs:
            await self._act(self._outputs.popleft())


class Timings:
    """``eou_delay`` from the end of the caller's voice to the final transcript, ``llm_ttft`` from there to the agent's
    first words, ``tts_ttfb`` from a sentence to its first sound, ``perceived`` from the end of the caller's voice to
    the first sound of the answer.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._ended: float | None = None
        self._final: float | None = None
        self._asked: float | None = None

    def final(self, ended: float, now: float) -> None:
        """The caller's words are known; the voice ended at ``ended``."""
        self.seconds["eou_delay"].append(now - ended)
        self._ended, self._final = ended, now

    def words(self, now: float) -> None:
        """The agent has words to say."""
        if self._final is not None:
            self.seconds["llm_ttft"].append(now - self._final)
            self._final = None

    def sentence(self, now: float) -> None:
        """One is given to the voice."""
        self._asked = now

    def sound(self, now: float) -> None:
        """Its sound was sent; only the first counts."""
        if self._asked is not None:
            self.seconds["tts_ttfb"].append(now - self._asked)
            self._asked = None
        if self._ended is not None:
            self.seconds["perceived"].append(now - self._ended)
            self._ended = self._final = None

    def milliseconds(self) -> dict[str, list[float]]:
        """All of them, by kind."""
        return {kind: [round(1000 * s, 1) for s in spans] for kind, spans in self.seconds.items()}
