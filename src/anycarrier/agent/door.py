"""The door: what a conversation tells the agent behind it. A Python handler, a WebSocket and raw audio are three."""

from __future__ import annotations

from dataclasses import dataclass

from anycarrier.calls import EndReason
from anycarrier.speech import BargeIn


@dataclass(frozen=True, slots=True)
class CallerTurn:
    """One thing the caller said. ``began`` and ``ended`` are seconds from the start of the call's audio.

    ``interrupted``: it cut what the agent was saying.
    """

    text: str
    turn_id: str
    began: float
    ended: float
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What became of something the agent said: the words and seconds the caller heard of it.

    ``interrupted``: not all of it, because the caller spoke, the agent cleared it, or the call ended.
    """

    text: str
    interrupted: bool
    seconds: float


class Door:
    """Told in the order in which things happen; nothing here may wait for the agent. All of it is optional."""

    leaving: float = 0.0
    """Seconds the agent's side has to return by itself once the call is over."""

    async def interim(self, turn_id: str, text: str) -> None:
        """The caller's words so far."""

    async def final(self, turn: CallerTurn) -> None:
        """What the caller said, once for each utterance."""

    async def interrupted(self, barge_in: BargeIn) -> None:
        """The caller spoke over us; told before the transcript that caused it."""

    async def digit(self, digit: str) -> None:
        """The caller pressed a key."""

    async def mark(self, name: str) -> None:
        """Playback reached a mark."""

    async def audio(self, payload: bytes) -> None:
        """Sound from the caller."""

    async def over(self, reason: EndReason) -> None:
        """The call has ended, and all words of it are kept. Told once, last."""
