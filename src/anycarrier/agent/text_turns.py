"""Which words belong to which turn, for agents that stream text: with turn ids, without them, and after being cut."""

from __future__ import annotations

from anycarrier.agent.agent_turn import AgentTurn
from anycarrier.agent.protocol import Text
from anycarrier.agent.speaker import Speaker

OPEN = 64
"""Turns an agent may leave without ``done``; the oldest are forgotten."""


class TextTurns:
    """A turn is over for the agent at its ``done``; words that come afterwards under the same id are a new one.

    What still arrives of a turn that was cut is dropped: by its id for as long as it has no ``done``, and without an
    id until its ``done`` or until the caller has said something, since the next words answer that.
    """

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._open: dict[str | None, AgentTurn] = {}

    def text(self, message: Text) -> AgentTurn | None:
        """Words of the agent's; the turn they are of, None when they are dropped."""
        turn = self._open.get(message.turn_id)
        if turn is not None and turn.complete and not turn.dropped:
            turn = None  # taken for complete because nothing came: what comes now is said after it
        if turn is None:
            if not message.delta:
                return None
            turn = self._open[message.turn_id] = self._speaker.begin()
            if len(self._open) > OPEN:
                del self._open[next(iter(self._open))]
        if message.done:
            self._open.pop(message.turn_id, None)
        if turn.dropped:
            return None
        self._speaker.add(turn, message.delta, complete=message.done)
        return turn

    def caller_spoke(self) -> None:
        """Words without an id that come now are an answer, not the rest of what was cut."""
        if (turn := self._open.get(None)) is not None and turn.dropped:
            del self._open[None]
