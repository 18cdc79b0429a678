"""What the agent says, turn by turn: text to sound, sound to the caller, and what was heard of it.

Sound is sent as fast as the engine makes it, up to :data:`AHEAD` seconds before it is heard; the carrier paces it. So
speech is followed along the session's timeline of heard audio, and cut by dropping turns and clearing the carrier.
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
from anycarrier.session import MediaSession

IDLE = 1.0
"""Seconds without a word after which a turn nobody completed is spoken as it is."""

AHEAD = 20.0
"""Seconds of sound sent before it is heard: enough for any stall of ours, little to throw away."""

LATE = 3.0
"""Seconds a carrier may owe us the last mark of a turn before the turn counts as played."""

CHUNK = 4000
"""Bytes of a recording sent at once: half a second, so that an interruption finds little to drop."""


class Speaker:
    """Turns are spoken in the order they were begun; ``finished`` is told when one is over, heard or cut."""

    def __init__(
        self,
        session: MediaSession,
        synthesis: Synthesis,
        turn_taking: TurnTaking,
        finished: Callable[[AgentTurn, Said], None],
        timings: Timings,
    ) -> None:
        self._session = session
        self._synthesis = synthesis
        self._turn_taking = turn_taking
        self._finished = finished
        self._timings = timings
        self._names = (f"a{number}" for number in itertools.count(1))
        self._waiting: OrderedDict[str, AgentTurn] = OrderedDict()
        self._audible: OrderedDict[str, AgentTurn] = OrderedDict()
        self._speaking: AgentTurn | None = None
        self.backlog = 0
        """Characters waiting to be made sound."""
        self.interrupted = 0
        """Turns that were cut so far."""
        self._taken = asyncio.Event()
        self._synthesis_task: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.muted = False
        """True when nothing but privileged turns is to be said."""

    # --- for whoever has something to say ----------------------------------------------------------------------------

    def begin(self, *, interruptible: bool = True, patient: bool = False, privileged: bool = False) -> AgentTurn:
        """A turn, to be given words or sound; it is spoken when those before it were."""
        turn = AgentTurn(next(self._names), interruptible, patient, privileged, touched=self._turn_taking.clock())
        if self._session.ended or (self.muted and not privileged):
            turn.drop()
            turn.over.set_result(Said("", True, 0.0))
            return turn
        self._waiting[turn.id] = turn
        self._quiet.clear()
        if interruptible:  # of any other an interruption does not know, until its own time has come
            self._queued(turn)
        self._arrived.set()
        return turn

    def add(self, turn: AgentTurn, words: str | bytes, *, complete: bool = False) -> None:
        """Words, or sound in the session's format; ignored when the turn was dropped."""
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
        """Wait until at most ``most`` characters are waiting, or the turn was dropped."""
        while self.backlog > most and not turn.complete:
            self._taken.clear()
            await self._taken.wait()

    async def idle(self) -> None:
        """Wait until there is nothing left to say, and all of it was heard."""
        await self._quiet.wait()

    @property
    def unheard(self) -> list[AgentTurn]:
        """Turns that are not over, in order."""
        now = [self._speaking] if self._speaking else []
        return list(dict.fromkeys([*self._audible.values(), *now, *self._waiting.values()]))

    @property
    def last(self) -> AgentTurn | None:
        """The last of them."""
        if self._waiting:
            return next(reversed(self._waiting.values()))
        return self._speaking or next(reversed(self._audible.values()), None)

    @property
    def turns(self) -> int:
        """How many turns wait for those before them."""
        return len(self._waiting)

    # --- cutting -----------------------------------------------------------------------------------------------------

    def drop(self, turn_id: str) -> None:
        """Say nothing more of this turn."""
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
        """The caller cuts in: :meth:`cut`, but for turns that wait and are not to be interrupted."""
        await self._silence([turn for turn in self.unheard if turn.interruptible or turn.starts is not None])

    async def cut(self) -> None:
        """Silence, now: everything said and waiting is dropped, and the carrier's buffer emptied."""
        await self._silence(self.unheard)

    async def _silence(self, turns: list[AgentTurn]) -> None:
        for turn in turns:
            self.drop(turn.id)
        with contextlib.suppress(StreamNotOpen):
            await self._session.clear()
        for turn in [t for t in self._audible.values() if t.dropped]:
            self._end(turn)
        self._moved.set()

    def close(self) -> None:
        """The call is over: what is being said ends here, with what was heard of it."""
        for turn in self.unheard:
            self._drop(turn)
            self._end(turn)

    def _drop(self, turn: AgentTurn) -> None:
        self.backlog -= turn.waiting
        turn.drop()
        self._taken.set()

    # --- speaking ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Make sound of words until cancelled; raises what the last engine left failed with."""
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
            # Not sent ahead: whoever cuts what is heard before it empties the carrier's buffer.
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
        async with contextlib.aclosing(self._synthesis.speak(piece)) as sound:
            async for audio in sound:
                if not begun:
                    turn.spoken.begin(piece, self._session.queued)
                    begun = True
                await self._send(turn, audio)
                turn.spoken.extend(self._session.queued)

    async def _send(self, turn: AgentTurn, audio: bytes) -> None:
        if (ahead := self._session.remaining - AHEAD) > 0:
            await asyncio.sleep(ahead)
        starts = self._session.queued
        await self._session.send_audio(audio)
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

    # --- what the caller hears ---------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Follow playback: tell when a turn begins to be heard, and when it was."""
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
        """Seconds until something is due for the turn at the head, 0 when it was done, None when only news can tell."""
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
