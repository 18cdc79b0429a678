"""Speaks the agent's turns in order: text to audio, audio to the caller, and what the caller heard of it.

Audio is sent as fast as the engine makes it, up to :data:`AHEAD` seconds before it is heard; the carrier paces it.
Playback is therefore followed on the session's timeline of heard audio, and an interruption drops turns and clears the
carrier's buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable

from anycarrier.agent.agent_turn import AgentTurn, Said
from anycarrier.agent.synthesis import Synthesis
from anycarrier.agent.turn_taking import Timings, TurnTaking
from anycarrier.errors import StreamNotOpen
from anycarrier.paced_voice import PacedVoice
from anycarrier.session import MediaSession

IDLE = 1.0
"""Seconds without new words after which an incomplete turn is spoken as it is."""

AHEAD = 20.0
"""Seconds of audio sent before it is heard: enough to cover a stall of ours, little to discard."""

LATE = 3.0
"""Seconds to wait for the carrier to report the end of a turn before it counts as played."""

CHUNK = 4000
"""Bytes of an audio file sent at once: half a second, so that an interruption has little to drop."""


class Speaker:
    """Turns are spoken in the order of :meth:`begin`; ``finished`` is called when one was heard or cut."""

    def __init__(
        self,
        session: MediaSession,
        synthesis: Synthesis,
        turn_taking: TurnTaking,
        finished: Callable[[AgentTurn, Said], None],
        timings: Timings,
    ) -> None:
        self._session = session
        self._voice = PacedVoice(session, lead=AHEAD)
        self._synthesis = synthesis
        self._turn_taking = turn_taking
        self._finished = finished
        self._timings = timings
        self._names = (f"a{number}" for number in itertools.count(1))
        self._waiting: OrderedDict[str, AgentTurn] = OrderedDict()
        self._audible: OrderedDict[str, AgentTurn] = OrderedDict()
        self._speaking: AgentTurn | None = None
        self.backlog = 0
        """Characters waiting to be spoken."""
        self.interrupted = 0
        """How many turns were cut so far."""
        self._taken = asyncio.Event()
        self._synthesis_task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.muted = False
        """True while only privileged turns are spoken."""

    # --- adding turns ------------------------------------------------------------------------------------------------

    def begin(
        self,
        *,
        interruptible: bool = True,
        patient: bool = False,
        privileged: bool = False,
        synthesis: Synthesis | None = None,
    ) -> AgentTurn:
        """Start a turn, to be given words or audio; it is spoken after the turns before it. ``synthesis``: in another
        voice than the conversation's."""
        now = self._turn_taking.clock()
        turn = AgentTurn(next(self._names), interruptible, patient, privileged, synthesis, touched=now)
        if self._session.ended or (self.muted and not privileged):
            turn.drop()
            turn.over.set_result(Said("", True, 0.0))
            return turn
        self._waiting[turn.id] = turn
        self._quiet.clear()
        if interruptible:  # a turn that is not interruptible is announced only when it is its turn to be spoken
            self._queued(turn)
        self._arrived.set()
        return turn

    def add(self, turn: AgentTurn, words: str | bytes, *, complete: bool = False) -> None:
        """Add words, or audio in the session's format; ignored if the turn was dropped."""
        if turn.complete:
            return
        turn.touched = self._turn_taking.clock()
        self._timings.words(turn.touched)
        if isinstance(words, bytes):
            turn.pieces.extend(words[at : at + CHUNK] for at in range(0, len(words), CHUNK))
        else:
            turn.add(words)
            self.backlog += len(words)
        if complete:
            turn.finish()
        turn.news.set()

    async def room(self, turn: AgentTurn, most: int) -> None:
        """Wait until at most ``most`` characters are waiting, or the turn is complete."""
        while self.backlog > most and not turn.complete:
            self._taken.clear()
            await self._taken.wait()

    async def idle(self) -> None:
        """Wait until everything has been spoken and heard."""
        await self._quiet.wait()

    @property
    def unheard(self) -> list[AgentTurn]:
        """Turns that have not ended, in order."""
        now = [self._speaking] if self._speaking else []
        return list(dict.fromkeys([*self._audible.values(), *now, *self._waiting.values()]))

    @property
    def last(self) -> AgentTurn | None:
        """The last turn of :attr:`unheard`."""
        if self._waiting:
            return next(reversed(self._waiting.values()))
        return self._speaking or next(reversed(self._audible.values()), None)

    @property
    def turns(self) -> int:
        """How many turns are queued."""
        return len(self._waiting)

    # --- interrupting ------------------------------------------------------------------------------------------------

    def drop(self, turn_id: str) -> None:
        """Stop speaking this turn."""
        turn = self._waiting.get(turn_id) or self._audible.get(turn_id)
        if turn is None and self._speaking is not None and self._speaking.id == turn_id:
            turn = self._speaking
        if turn is None or turn.dropped:
            return
        self._drop(turn)
        if turn is self._speaking and self._synthesis_task is not None:
            self._synthesis_task.cancel()
        if turn.starts is None:
            self._end(turn)

    async def interrupt(self) -> None:
        """The caller interrupts: :meth:`cut`, except queued turns that are not interruptible."""
        await self._silence([turn for turn in self.unheard if turn.interruptible or turn.starts is not None])

    async def cut(self) -> None:
        """Stop at once: drop every turn and clear the carrier's buffer."""
        await self._silence(self.unheard)

    async def _silence(self, turns: list[AgentTurn]) -> None:
        for turn in turns:
            self.drop(turn.id)
        self._voice.cut()
        for turn in [t for t in self._audible.values() if t.dropped]:
            self._end(turn)
        self._moved.set()

    def close(self) -> None:
        """The call is over: end every turn with what was heard of it."""
        for turn in self.unheard:
            self._drop(turn)
            self._end(turn)

    def _drop(self, turn: AgentTurn) -> None:
        self.backlog -= turn.waiting
        turn.drop()
        self._taken.set()

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Speak the turns until cancelled; raises the failure of the last engine."""
        watching = asyncio.ensure_future(self._watch())
        try:
            while True:
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
                self._speaking = turn = self._waiting.popitem(last=False)[1]
                self._synthesis_task = asyncio.ensure_future(self._speak(turn))
                try:
                    await asyncio.wait({self._synthesis_task, watching}, return_when=asyncio.FIRST_COMPLETED)
                    for task in (watching, self._synthesis_task):
                        if task.done() and not task.cancelled():
                            task.result()
                finally:
                    self._synthesis_task.cancel()
                if turn.starts is not None and not turn.dropped:
                    await self._session.flush()
                turn.sent, self._speaking = True, None
                if turn.starts is None:
                    self._end(turn)
                self._moved.set()
        except StreamNotOpen:
            await self._session.wait_stopped()
        finally:
            watching.cancel()

    async def _speak(self, turn: AgentTurn) -> None:
        if not turn.interruptible:
            # Not sent ahead: an interruption of the turn before it clears the carrier's buffer.
            while self._audible:
                await asyncio.wait([self._head.over])
            self._queued(turn)
        while not turn.dropped:
            waiting = turn.waiting
            piece = turn.take()
            self.backlog += turn.waiting - waiting
            self._taken.set()
            if piece is not None:
                await self._say(turn, piece)
            elif turn.complete:
                return
            else:
                turn.news.clear()
                wait = None if turn.patient else max(0.0, turn.touched + IDLE - self._turn_taking.clock())
                try:
                    async with asyncio.timeout(wait):
                        await turn.news.wait()
                except TimeoutError:
                    turn.finish()

    async def _say(self, turn: AgentTurn, piece: str | bytes) -> None:
        if isinstance(piece, bytes):
            await self._send(turn, piece)
            return
        begun = False
        self._timings.sentence(self._turn_taking.clock())
        async with contextlib.aclosing((turn.synthesis or self._synthesis).speak(piece)) as sound:
            async for audio in sound:
                if not begun:
                    turn.spoken.begin(piece, self._session.queued)
                    begun = True
                await self._send(turn, audio)
                turn.spoken.extend(self._session.queued)

    async def _send(self, turn: AgentTurn, audio: bytes) -> None:
        starts = self._session.queued
        await self._voice.say(audio)
        now = self._turn_taking.clock()
        if turn.starts is None:
            turn.starts = starts
            self._audible[turn.id] = turn
        self._timings.sound(now)
        turn.ends = self._session.queued
        turn.due = now + self._session.remaining + LATE
        self._moved.set()

    def _queued(self, turn: AgentTurn) -> None:
        self._turn_taking.follow(self._turn_taking.turns.speech_queued(self._turn_taking.clock(), turn.id))

    # --- following playback ------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow playback: report when a turn begins and ends to be heard."""
        while True:
            wait: float | None = None
            if self._audible:
                wait = self._step(self._head)
                if wait == 0:
                    continue
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._moved.wait()

    @property
    def _head(self) -> AgentTurn:
        return next(iter(self._audible.values()))

    def _step(self, turn: AgentTurn) -> float | None:
        """Seconds until something is due for the first turn; 0 if it was done, None if it waits for more audio."""
        heard, now, turns = self._session.heard, self._turn_taking.clock(), self._turn_taking.turns
        assert turn.starts is not None
        if turn.began is None:
            if heard < turn.starts - 0.005 and now < turn.due:
                return max(0.005, turn.starts - heard)
            turn.began = now
            self._turn_taking.interruptible(turn.interruptible)
            self._turn_taking.follow(turns.playback_started(now, turn.id))
        if not turn.sent:
            return None
        if heard < turn.ends - 0.01 and now < turn.due:
            return max(0.01, turn.ends - heard)
        self._end(turn)
        return 0

    def _end(self, turn: AgentTurn) -> None:
        if turn.over.done():
            return
        self._audible.pop(turn.id, None)
        self._waiting.pop(turn.id, None)
        said = turn.heard(self._session.heard)
        self.interrupted += said.interrupted
        turn.over.set_result(said)
        self._turn_taking.follow(self._turn_taking.turns.playback_ended(self._turn_taking.clock(), turn.id))
        if not turn.interruptible:
            self._turn_taking.interruptible(True)
        if not self._waiting and not self._audible and self._speaking in (None, turn):
            self._quiet.set()
        self._finished(turn, said)
