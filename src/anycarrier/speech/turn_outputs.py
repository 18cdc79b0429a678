"""What turn-taking asks for. Carry the outputs out in the order in which they are returned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmitInterim:
    """The words of an utterance so far; the next interim replaces them."""

    turn_id: str
    text: str


@dataclass(frozen=True, slots=True)
class EmitFinal:
    """What the caller said, once for each utterance, with when its voice ``began`` and ``ended``."""

    turn_id: str
    text: str
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class StopSpeaking:
    """Stop playing this agent turn now: stop the synthesis and clear the carrier's buffer."""

    agent_turn_id: str


@dataclass(frozen=True, slots=True)
class DropTurn:
    """Discard the rest of this agent turn, including words that arrive later."""

    agent_turn_id: str


@dataclass(frozen=True, slots=True)
class BargeIn:
    """The caller interrupted the agent; playback has been stopped already.

    ``turn_id`` is the caller's utterance, ``agent_turn_id`` the turn that was cut, ``heard`` an estimate of how many
    seconds of it were played (the session's ``clear`` knows exactly). ``trigger`` is ``caller_speech``, or
    ``caller_words`` when a trusted recognizer found words before the detector found a voice.
    """

    turn_id: str
    agent_turn_id: str
    trigger: str
    heard: float
    text: str | None


@dataclass(frozen=True, slots=True)
class BeginUtterance:
    """A voice was detected: tell the recognizer that the latest audio may contain words."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class FinishUtterance:
    """Ask the recognizer for the final of all audio fed so far. Each one is answered once, in order."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class SilenceTimeout:
    """Nobody has spoken for ``seconds``."""

    seconds: float


Output = (
    BeginUtterance | EmitInterim | EmitFinal | StopSpeaking | DropTurn | BargeIn | FinishUtterance | SilenceTimeout
)
