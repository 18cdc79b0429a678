"""The settings, state and outputs of turn-taking: pure data for :mod:`anycarrier.speech.turns`.

The state is the caller's utterance, the agent's speech, and how long it has been silent. Carry the outputs out in the
order in which they are returned. Times are seconds on the call's clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

REMEMBERED = 64
"""Dropped agent turns remembered, so that their late words are refused. A call has few at a time."""


LONG, LONG_SHARE = 10.0, 0.2
"""The recognizer of an utterance of more than 10 s may take 0.2 s more for each second beyond: there is more to decode
(30 s of speech without a pause took whisper 1 s on an idle core, and 5.3 s on a machine with three times the load)."""


def interruption_seconds(sensitivity: float) -> float | None:
    """Seconds of confirmed voice that interrupt the agent, for a sensitivity from 0 (never: None) to 1 (one syllable).

    0.5 asks for 0.15 s, which the detector confirms a quarter of a second after a real interruption began. A cough is
    noise: a good detector confirms none of it. Of a voice that breaks off after 0.15 s it confirms 0.1 s.
    """
    if not 0.0 <= sensitivity <= 1.0:
        raise ValueError("interruption sensitivity is between 0 and 1")
    if sensitivity == 0.0:
        return None
    if sensitivity <= 0.5:
        return 0.15 + (0.5 - sensitivity) * 2 * 0.6
    return 0.15 - (sensitivity - 0.5) * 2 * 0.09


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """How patient and how sensitive turn-taking is. All in seconds.

    ``final_timeout``: how long the recognizer may take for its final if words have come since the voice ended;
    ``unheard_final_timeout`` if none have, since those known from before are not the whole. ``decode_ahead``: silence
    after which the recognizer is told that the utterance may be over. ``punctuated``: the recognizer ends sentences
    with a mark; words without one are unfinished, and ``incomplete_endpointing`` applies. ``trust_words``: words alone
    prove speech. True for recognizers that stay silent on noise; False for recognizers that find a word in any sound,
    as grammars do.
    """

    endpointing: float = 0.5
    incomplete_endpointing: float = 1.0
    decode_ahead: float = 0.2
    interruption: float | None = 0.15
    minimum_speech: float = 0.09
    bridge: float = 0.2
    final_timeout: float = 2.5
    unheard_final_timeout: float = 4.0
    lost_after: float = 10.0
    silence_timeout: float | None = 10.0
    maximum_utterance: float = 30.0
    punctuated: bool = False
    trust_words: bool = False


@dataclass(slots=True)
class Utterance:
    """What is known of one thing the caller says, while it is being said.

    ``by_words``: a trusted recognizer opened it, and no voice has been detected yet. ``paused``: the recognizer knows
    of the pause. ``wait``: the silence that ends it, by the words that came since the voice ended; None without any.
    ``delay``: how far the detector was behind when it reported the end of the voice. ``heard``: whether words have come
    since the voice ended.
    """

    turn_id: str
    began: float
    until: float  # confirmed voice (or words) up to here
    talking: bool = True
    by_words: bool = False
    voiced: float = 0.0  # confirmed voice while the agent was silent
    over: float = 0.0  # confirmed voice while the agent spoke
    run: float = 0.0  # evidence for a barge-in
    segments: list[str] = field(default_factory=list)
    guess: str = ""
    shown: str = ""
    announced: bool = False
    closed: bool = False
    paused: bool = False
    wait: float | None = None
    delay: float = 0.0
    heard: bool = False
    asked: float = inf  # when the recognizer was asked for its final

    @property
    def text(self) -> str:
        """The final words, and the guess that follows them."""
        return " ".join([*self.segments, self.guess] if self.guess else self.segments)

    def due(self, settings: TurnSettings) -> float:
        """When it ends if nothing more is heard, or when it has to end."""
        longest = self.began + settings.maximum_utterance
        if self.talking:
            return longest
        return min(longest, self.until + self.delay + (settings.endpointing if self.wait is None else self.wait))

    def answer_due(self, settings: TurnSettings) -> float:
        """How long to wait for the recognizer's answer; once closed, how long a late answer can still come."""
        if self.closed:
            return self.asked + settings.lost_after
        timeout = settings.final_timeout if self.heard else settings.unheard_final_timeout
        return self.asked + timeout + LONG_SHARE * max(0.0, self.until - self.began - LONG)

    def resume(self, began: float, bridge: float) -> None:
        """The voice is back after a pause; a pause of more than ``bridge`` seconds resets the evidence."""
        if began - self.until > bridge:
            self.run = 0.0
        self.talking, self.by_words, self.paused, self.wait = True, False, False, None
        self.delay, self.heard = 0.0, False
        self.until = max(self.until, began)

    def confirm(self, until: float, *, under_us: bool) -> None:
        """The voice is certain up to ``until``; ``under_us`` while the agent's speech is being played."""
        gained = max(0.0, until - self.until)
        self.until += gained
        self.run += gained
        if under_us:
            self.over += gained
        else:
            self.voiced += gained

    def release(self) -> None:
        """The agent has finished: voice that overlapped its end interrupts nothing and counts like any other."""
        self.voiced += self.over
        self.over = 0.0


class AgentSpeech:
    """The agent's turns by id: the one being played, those queued, and those dropped."""

    def __init__(self) -> None:
        self.playing: str | None = None
        self.since = 0.0
        self._heard = (0.0, 0.0)
        self._queued: dict[str, None] = {}
        self._dropped: deque[str] = deque(maxlen=REMEMBERED)

    def refuses(self, turn: str) -> bool:
        """True for a turn that was dropped."""
        return turn in self._dropped

    def queue(self, turn: str) -> None:
        """Words of ``turn`` wait to be heard."""
        if turn != self.playing:
            self._queued[turn] = None

    def start(self, turn: str, at: float) -> None:
        """Playback of ``turn`` begins."""
        self._queued.pop(turn, None)
        self.playing, self.since, self._heard = turn, at, (0.0, at)

    def position(self, turn: str, heard: float, at: float) -> None:
        """``heard`` seconds of ``turn`` were played by ``at``."""
        if turn == self.playing:
            self._heard = (heard, at)

    def end(self, turn: str) -> bool:
        """Playback of ``turn`` has ended; returns whether it was the turn being played."""
        self._queued.pop(turn, None)
        if turn != self.playing:
            return False
        self.playing = None
        return True

    def heard(self, at: float) -> float:
        """Seconds of the current turn played by ``at``, extrapolated from the last known position."""
        seconds, known = self._heard
        return seconds + max(0.0, at - known)

    def cut(self) -> list[str]:
        """Drop everything, the turn being played first; from now on these turns are refused."""
        dropped = [turn for turn in (self.playing, *self._queued) if turn is not None]
        self._dropped.extend(dropped)
        self._queued.clear()
        self.playing = None
        return dropped


class Silence:
    """How long nobody has spoken. Reported once for each silence; ``limit`` in seconds, None for never."""

    def __init__(self, limit: float | None, at: float) -> None:
        self.limit = limit
        self._since = at
        self._reported = False

    @property
    def due(self) -> float | None:
        """When the limit is reached if nothing is heard until then; None when already reported, or without a limit."""
        return None if self.limit is None or self._reported else self._since + self.limit

    def interrupt(self, at: float) -> None:
        """Somebody spoke: the silence starts over."""
        self._since, self._reported = at, False

    def report(self, at: float) -> float:
        """Seconds of silence so far; the limit is not reached again until somebody speaks."""
        self._reported = True
        return at - self._since


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
    """A voice was detected, which ``began`` then: tell the recognizer that the latest audio may contain words.

    The moments in this and the next outputs do not count when outputs are compared.
    """

    turn_id: str
    began: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class PauseUtterance:
    """The caller is silent since ``ended`` and may have finished: tell the recognizer, which can decode ahead."""

    turn_id: str
    ended: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class ResumeUtterance:
    """The caller speaks again after a pause that the recognizer was told of."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class FinishUtterance:
    """Ask the recognizer for the final of the audio up to the voice's end. Each one is answered once, in order.

    ``discard``: it was a noise; nobody waits for words. ``ended``: when its voice ended.
    """

    turn_id: str
    discard: bool = False
    ended: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class SilenceTimeout:
    """Nobody has spoken for ``seconds``."""

    seconds: float


Output = (
    BeginUtterance
    | PauseUtterance
    | ResumeUtterance
    | FinishUtterance
    | EmitInterim
    | EmitFinal
    | StopSpeaking
    | DropTurn
    | BargeIn
    | SilenceTimeout
)
