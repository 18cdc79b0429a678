"""Runs the turn-taking of one call, and measures how long the caller waits.

The state machine itself is pure (:mod:`anycarrier.speech.turns`). Here several tasks feed it, a timer ticks it, and one
task carries out its outputs in order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from anycarrier.agent.settings import AgentSettings
from anycarrier.speech import EndOfTurn, Output, Turns, TurnSettings, end_of_turn

log = logging.getLogger("anycarrier")

STREAM_GAP = 0.3
"""Seconds without a frame after which a voice counts as ended; carriers that suppress silence stop sending."""


class TurnTaking:
    """``act`` is awaited for each output. Times are seconds of :attr:`clock`."""

    def __init__(
        self,
        settings: TurnSettings,
        act: Callable[[Output], Awaitable[None]],
        *,
        end_of_turn: EndOfTurn = end_of_turn,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.turns = Turns(settings, at=clock(), end_of_turn=end_of_turn)
        self._act = act
        self._interruption = settings.interruption
        self._outputs: deque[Output] = deque()
        self._news = asyncio.Event()
        self._audio_at = clock()
        self._voiced = False

    def follow(self, outputs: Iterable[Output]) -> None:
        """Carry these out. Call it after every input to :attr:`turns`, because its deadline has moved."""
        self._outputs.extend(outputs)
        self._news.set()

    def audio_came(self) -> None:
        """A frame of caller audio arrived."""
        self._audio_at = self.clock()

    def voice_started(self, began: float) -> None:
        """A voice started at ``began``."""
        self._voiced = True
        self.follow(self.turns.speech_started(self.clock(), began))

    def voice_continues(self, until: float) -> None:
        """The voice is confirmed up to ``until``."""
        self._voiced = True
        self.follow(self.turns.speech_continues(self.clock(), until))

    def voice_ended(self, ended: float, *, delay: float = 0.0) -> None:
        """The voice ended at ``ended``; the detector told it ``delay`` seconds later than usual."""
        self._voiced = False
        self.follow(self.turns.speech_ended(self.clock(), ended, delay=delay))

    def interruptible(self, yes: bool) -> None:
        """Set whether the caller may interrupt the turn that is playing."""
        self.change(interruption=self._interruption if yes else None)

    def change(self, **settings: Any) -> None:
        """Change settings of turn-taking from now on."""
        self.turns.settings = replace(self.turns.settings, **settings)

    async def run(self) -> None:
        """Carry out outputs until cancelled."""
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
        """The call is over: carry out what is due, and close the caller's open utterance."""
        self._outputs.extend(self.turns.hang_up(self.clock()))
        while self._outputs:
            await self._act(self._outputs.popleft())


def end_of_turn_rule(agent: AgentSettings) -> EndOfTurn:
    """The rule that a plugin gives for this agent, else :func:`~anycarrier.speech.end_of_turn`, which also replaces
    the plugin's when it fails."""
    from anycarrier import plugins

    try:
        rule = plugins.host().manager.hook.anycarrier_end_of_turn(settings=agent)
    except Exception as failure:  # noqa: BLE001 - third-party code
        log.error("a plugin's hook anycarrier_end_of_turn failed: %s", type(failure).__name__)
        rule = None
    if rule is None:
        return end_of_turn

    def guarded(text: str, settings: TurnSettings) -> float:
        try:
            return float(rule(text, settings))
        except Exception as failure:  # noqa: BLE001 - third-party code
            # No traceback: it could quote the words.
            log.error("a plugin's rule for the end of a turn failed: %s", type(failure).__name__)
            return end_of_turn(text, settings)

    return guarded


class Timings:
    """How long the caller waits for each answer, in seconds, by kind.

    ``eou_delay`` from the end of the caller's voice to the final transcript, ``llm_ttft`` from there to the agent's
    first words, ``tts_ttfb`` from a sentence to its first audio, ``perceived`` from the end of the caller's voice to
    the first audio of the answer.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._ended: float | None = None
        self._final: float | None = None
        self._asked: float | None = None

    def final(self, ended: float, now: float) -> None:
        """The final transcript is known; the voice ended at ``ended``."""
        self.seconds["eou_delay"].append(now - ended)
        self._ended, self._final = ended, now

    def words(self, now: float) -> None:
        """The agent sent words to speak."""
        if self._final is not None:
            self.seconds["llm_ttft"].append(now - self._final)
            self._final = None

    def sentence(self, now: float) -> None:
        """A sentence is sent to synthesis."""
        self._asked = now

    def sound(self, now: float) -> None:
        """Audio was sent; the first of a sentence counts."""
        if self._asked is not None:
            self.seconds["tts_ttfb"].append(now - self._asked)
            self._asked = None
        if self._ended is not None:
            self.seconds["perceived"].append(now - self._ended)
            self._ended = self._final = None

    def milliseconds(self) -> dict[str, list[float]]:
        """All measurements by kind."""
        return {kind: [round(1000 * s, 1) for s in spans] for kind, spans in self.seconds.items()}
