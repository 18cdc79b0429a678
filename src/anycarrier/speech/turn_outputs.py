"""What turn-taking asks to be done, in the order in which it says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmitInterim:
    """The words of an utterance so far; the next one replaces them."""

    turn_id: str
    text: str


@dataclass(frozen=True, slots=True)
class EmitFinal:
    """What the caller said, once for each utterance. ``began`` and ``ended`` are when it sounded."""

    turn_id: str
    text: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class StopSpeaking:
    """Cut playback of this turn of the agent's now: stop the synthesis, clear the carrier."""

    agent_turn_id: str


@dataclass(frozen=True, slots=True)
class DropTurn:
    """Throw away what is left of this turn of the agent's, also what still arrives of it."""

    agent_turn_id: str


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller spoke over us; playback is cut already.

    ``turn_id`` is the caller's utterance, ``agent_turn_id`` the turn that was cut, ``heard`` how many seconds of it
    were played as far as known here (the session's ``clear`` knows better). ``trigger`` is ``caller_speech``, or
    ``caller_words`` when a trusted recogniser heard words before the detector heard a voice.
    """

    turn_id: str
    agent_turn_id: str
    trigger: str
    heard: float
    text: str | None


@dataclass(frozen=True, slots=True)
class BeginUtterance:
    """A voice was heard: tell the recogniser that what it was fed lately may be words."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class FinishUtterance:
    """Ask the recogniser for its final of all it was fed. One answer is owed for each, in order."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class SilenceTimeout:
    """Nobody has said anything for ``seconds``."""

    seconds: float


Output = (
    BeginUtterance | EmitInterim | EmitFinal | StopSpeaking | DropTurn | BargeIn | FinishUtterance | SilenceTimeout
)
