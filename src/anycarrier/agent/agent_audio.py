"""What an agent says in its own voice: its audio goes straight to the caller, and turn-taking is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from anycarrier.agent import budget
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.errors import StreamNotOpen
from anycarrier.session import MediaSession

GAP = 0.1
"""Seconds of silence that end a stretch: an agent that speaks in real time is a little late with every other frame."""


class AgentAudio:
    """One stretch of sound without a gap is one turn. It is the agent who clears it when it is interrupted."""

    __slots__ = ("_loop", "_names", "_session", "_timer", "_turn_taking", "dropped_seconds", "turn")

    def __init__(self, session: MediaSession, turn_taking: TurnTaking) -> None:
        self._session = session
        self._turn_taking = turn_taking
        self._names = (f"m{number}" for number in itertools.count(1))
        self.turn: str | None = None
        """The stretch that is being heard."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.dropped_seconds = 0.0

    def room(self, size: int) -> bool:
        """Whether ``size`` bytes more may be sent; what may not is counted."""
        if self._session.remaining < budget.BUFFER:
            return True
        self.dropped_seconds += self._session.format.seconds(size)
        return False

    async def play(self, payload: bytes) -> bool:
        """Sound of the agent's; False when it sends too far ahead and this was dropped."""
        if not self.room(len(payload)):
            return False
        with contextlib.suppress(StreamNotOpen):
            await self._session.send_audio(payload)
            self.sent()
        return True

    def sent(self) -> None:
        """Sound was sent, here or by the relay."""
        if self.turn is None:
            self.turn = next(self._names)
            now, turns = self._turn_taking.clock(), self._turn_taking.turns
            self._turn_taking.follow([*turns.speech_queued(now, self.turn), *turns.playback_started(now, self.turn)])
            self._timer = self._loop.call_later(GAP, self._look)

    async def clear(self) -> None:
        """The agent wants silence, now."""
        with contextlib.suppress(StreamNotOpen):
            await self._session.clear()
        self._over()

    def close(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Whether the stretch has been heard, and if not, when to look again."""
        wait = max(self._session.remaining - 0.02, 0.0, GAP - self._session.silent_for)
        if wait > 0:
            self._timer = self._loop.call_later(min(wait + GAP / 10, 1.0), self._look)
        else:
            self._over()

    def _over(self) -> None:
        self.close()
        if self.turn is not None:
            turn, self.turn = self.turn, None
            self._turn_taking.follow(self._turn_taking.turns.playback_ended(self._turn_taking.clock(), turn))
