"""Whose turn it is: what was heard and what was played go in, transcripts and interruptions come out.

Pure: no clock, no audio, no task. Every input carries ``at``, seconds on one clock that never runs backwards, and
returns what follows from it, in order. ``deadline`` is when :meth:`Turns.tick` is next due.

**The theory.** A conversation is two things that overlap: our *playback* (silent, or speaking one turn of the agent's)
and the caller's *utterance*. An utterance goes one way::

    (none) --voice--> talking <--voice-- pausing --endpointing--> asked --final, or too late--> closed
                         '-----silence-----^

*Talking* is what the voice detector says, moment by moment, without any smoothing of its own. *Pausing* lasts
``endpointing`` seconds from the end of the voice; a caller who goes on inside it has not finished. Then the
recogniser is *asked* for its final, the next utterance may begin, and the answer closes this one. A recogniser
that does not answer in ``final_timeout`` is not waited for: what it had guessed stands, and its late answer is thrown
away, being recognised by its place in the order. A recogniser with an endpointer of its own may close sooner.

*Announced* is what the agent has been told of: by an interim or by a barge-in. An announced utterance gets exactly one
final, even when the caller said no word in it (``text`` is then empty); one that was never announced gets one
if it has words, else it leaves no trace, as if nobody had coughed.

*Barge-in* asks for evidence: confirmed voice, in one run with gaps of at most ``bridge``, for ``interruption`` seconds.
Time that merely passes is no evidence, so a cough that is over before the detector says so counts as long as
it was. Until then nothing of the utterance is announced while we speak, so the barge-in is always told before
the words that caused it. What stays below that until it ends under our own voice is dropped as a noise. A key
press starts the evidence anew: its tone is no speech.

An interruption takes from the agent the turn being played and those that wait behind it; if their speech arrives all
the same, it is refused again. A new turn that begins while the caller is still talking is interrupted at once.

*Silence* is when neither side is heard. It is told once, after ``silence_timeout``, and counted from the last thing
either side said; noises that led to nothing do not prolong it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

from linecard.speech.turn_outputs import (
    BargeIn,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    SilenceTimeout,
    StopSpeaking,
)
from linecard.speech.turn_settings import TurnSettings, interruption_seconds

__all__ = [
    "BargeIn",
    "DropTurn",
    "EmitFinal",
    "EmitInterim",
    "FinishUtterance",
    "Output",
    "SilenceTimeout",
    "StopSpeaking",
    "TurnSettings",
    "Turns",
    "interruption_seconds",
]


@dataclass(slots=True)
class _Utterance:
    turn_id: str
    began: float
    until: float  # confirmed voice (or words) up to here
    talking: bool = True
    by_words: bool = False  # opened by a trusted recogniser, no voice heard
    voiced: float = 0.0  # confirmed voice while we were silent
    over: float = 0.0  # confirmed voice under our own
    run: float = 0.0  # evidence for a barge-in
    segments: list[str] = field(default_factory=list)
    guess: str = ""
    shown: str = ""
    announced: bool = False
    closed: bool = False
    asked: float = inf  # when the recogniser was asked for its final

    @property
    def text(self) -> str:
        return " ".join([*self.segments, self.guess] if self.guess else self.segments)


class Turns:
    """One call's turn-taking. Feed it everything that happens; do what it returns, in that order."""

    def __init__(self, settings: TurnSettings | None = None, *, at: float = 0.0, prefix: str = "t") -> None:
        self.settings = settings or TurnSettings()
        self._prefix = prefix
        self._count = 0
        self._now = at
        self._quiet_since = at
        self._silence_told = False
        self._utterance: _Utterance | None = None
        self._asked: deque[_Utterance] = deque()
        self._playing: str | None = None
        self._playing_since = at
        self._heard = (0.0, at)
        self._queued: dict[str, None] = {}
        self._dropped: deque[str] = deque(maxlen=64)

    @property
    def speaking(self) -> str | None:
        """The agent's turn being played."""
        return self._playing

    @property
    def listening_to(self) -> str | None:
        """The utterance the caller is in the middle of."""
        return self._utterance.turn_id if self._utterance else None

    @property
    def deadline(self) -> float | None:
        """When something happens by itself, None when nothing will."""
        s, due = self.settings, []
        u = self._utterance
        if u is not None:
            due.append(u.began + s.maximum_utterance if u.talking else u.until + s.endpointing)
        for asked in self._asked:
            due.append(asked.asked + (s.lost_after if asked.closed else s.final_timeout))
        if s.silence_timeout is not None and self._silent and not self._silence_told:
            due.append(self._quiet_since + s.silence_timeout)
        return min(due, default=None)

    # --- the voice detector --------------------------------------------------------------------------------------

    def speech_started(self, at: float, began: float | None = None) -> list[Output]:
        """A voice is heard, since ``began`` (``at`` unless told)."""
        out = self._advance(at)
        began = self._now if began is None else min(began, self._now)
        u = self._utterance
        if u is None:
            self._open(began)
        elif not u.talking:
            if began - u.until > self.settings.bridge:
                u.run = 0.0
            u.talking, u.by_words = True, False
            u.until = max(u.until, began)
        return out

    def speech_continues(self, at: float, until: float) -> list[Output]:
        """The voice is confirmed up to ``until``."""
        out = self._advance(at)
        if self._utterance is None or not self._utterance.talking:
            # Cut at its maximum length, or a detector that skipped its beginning.
            return out + self.speech_started(at, until)
        return out + self._confirm(self._utterance, until)

    def speech_ended(self, at: float, ended: float | None = None) -> list[Output]:
        """The voice is gone, since ``ended`` (``at`` unless told)."""
        out = self._advance(at)
        u = self._utterance
        if u is None or not u.talking:
            return out
        out += self._confirm(u, self._now if ended is None else ended)
        u.talking = False
        return out + self._advance(at)

    # --- the recogniser ------------------------------------------------------------------------------------------

    def interim(self, at: float, text: str) -> list[Output]:
        """The recogniser's guess at what it has not fixed yet; replaces its last guess."""
        out = self._advance(at)
        text = text.strip()
        u = self._addressee(text)
        if u is None or u.closed:
            return out
        u.guess = text
        return out + self._words(u)

    def final(self, at: float, text: str, *, complete: bool = True) -> list[Output]:
        """Fixed words. ``complete``: the answer to a ``FinishUtterance``, or the recogniser's own end of utterance."""
        out = self._advance(at)
        text = text.strip()
        u = self._addressee(text)
        if u is None:
            return out
        if complete and self._asked:
            self._asked.popleft()
        if u.closed:
            return out
        u.guess = ""
        if text:
            u.segments.append(text)
        if complete and not (u is self._utterance and u.talking):
            if u is self._utterance:
                self._utterance = None
            return out + self._close(u)
        return out + self._words(u)

    # --- our own voice -------------------------------------------------------------------------------------------

    def speech_queued(self, at: float, agent_turn_id: str) -> list[Output]:
        """The agent has words to say in this turn; they are not heard yet. Refused when the turn was dropped."""
        out = self._advance(at)
        if agent_turn_id in self._dropped:
            return [*out, DropTurn(agent_turn_id)]
        if agent_turn_id != self._playing:
            self._queued[agent_turn_id] = None
        return out

    def playback_started(self, at: float, agent_turn_id: str) -> list[Output]:
        """The caller begins to hear this turn of the agent's."""
        out = self._advance(at)
        if agent_turn_id in self._dropped:
            return [*out, StopSpeaking(agent_turn_id), DropTurn(agent_turn_id)]
        self._queued.pop(agent_turn_id, None)
        self._playing = agent_turn_id
        self._playing_since = self._now
        self._heard = (0.0, self._now)
        self._stir()
        if self._utterance is not None and self._utterance.talking:
            out += self._interrupt(self._utterance)
        return out

    def playback_position(self, at: float, agent_turn_id: str, heard: float) -> list[Output]:
        """``heard`` seconds of the turn have been played by now."""
        out = self._advance(at)
        if agent_turn_id == self._playing:
            self._heard = (heard, self._now)
        return out

    def playback_ended(self, at: float, agent_turn_id: str) -> list[Output]:
        """All of the turn has been played."""
        out = self._advance(at)
        self._queued.pop(agent_turn_id, None)
        if agent_turn_id != self._playing:
            return out
        self._playing = None
        self._stir()
        if self._utterance is not None:
            # Said into our last words: it interrupts nothing any more, and is an utterance like any other.
            self._utterance.voiced += self._utterance.over
            self._utterance.over = 0.0
            out += self._words(self._utterance)
        return out

    # --- the rest ------------------------------------------------------------------------------------------------

    def digit(self, at: float) -> list[Output]:
        """The caller pressed a key."""
        out = self._advance(at)
        self._stir()
        if self._utterance is not None:
            self._utterance.run = 0.0
        return out

    def tick(self, at: float) -> list[Output]:
        """Time has passed."""
        return self._advance(at)

    def hang_up(self, at: float) -> list[Output]:
        """The call is over: what was heard is closed with what is known of it. Nothing may follow."""
        out = self._advance(at)
        waiting = [u for u in self._asked if not u.closed]
        if self._utterance is not None:
            waiting.append(self._utterance)
        self._utterance, self._playing = None, None
        self._asked.clear()
        for u in waiting:
            out += self._close(u)
        self._silence_told = True
        return out

    # --- helpers -------------------------------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        return self._playing is None and self._utterance is None and all(u.closed for u in self._asked)

    def _stir(self) -> None:
        self._quiet_since = self._now
        self._silence_told = False

    def _open(self, began: float, *, talking: bool = True) -> _Utterance:
        self._count += 1
        self._utterance = _Utterance(f"{self._prefix}{self._count}", began, began, talking, not talking)
        return self._utterance

    def _addressee(self, text: str) -> _Utterance | None:
        """Whose words these are: answers come in order, so first those of who was asked first."""
        if self._asked:
            return self._asked[0]
        if self._utterance is None and self.settings.trust_words and text:
            return self._open(self._now, talking=False)
        return self._utterance

    def _confirm(self, u: _Utterance, until: float) -> list[Output]:
        gained = max(0.0, min(until, self._now) - u.until)
        u.until += gained
        u.run += gained
        if self._playing is None or self.settings.interruption is None:
            u.voiced += gained
        else:
            u.over += gained
        return self._words(u)

    def _words(self, u: _Utterance) -> list[Output]:
        """Announce what may be announced now."""
        out: list[Output] = []
        if u is self._utterance:
            if u.by_words and u.text != u.shown:
                u.until = self._now  # words still coming: the pause has not begun
            out += self._interrupt(u)
        if u.text and u.text != u.shown and self._credible(u):
            u.shown, u.announced = u.text, True
            out.append(EmitInterim(u.turn_id, u.text))
        return out

    def _credible(self, u: _Utterance) -> bool:
        """Whether this is speech, as far as can be said now."""
        if u.announced or u.asked < inf:
            return True
        if u.voiced >= self.settings.minimum_speech:
            return True
        return self.settings.trust_words and bool(u.text) and self._yielding

    @property
    def _yielding(self) -> bool:
        """Whether speech needs no barge-in to be announced."""
        return self._playing is None or self.settings.interruption is None

    def _interrupt(self, u: _Utterance) -> list[Output]:
        needed = self.settings.interruption
        if self._playing is None or needed is None:
            return []
        if u.talking and u.run >= needed:
            trigger = "caller_speech"
        elif self.settings.trust_words and u.text and u.began >= self._playing_since:
            trigger = "caller_words"
        else:
            return []
        cut = self._playing
        heard = self._heard[0] + (self._now - self._heard[1])
        dropped = [cut, *(turn for turn in self._queued if turn != cut)]
        self._dropped.extend(dropped)
        self._queued.clear()
        self._playing = None
        self._stir()
        u.announced = True
        out: list[Output] = [StopSpeaking(cut)]
        out += [DropTurn(turn) for turn in dropped]
        return [*out, BargeIn(u.turn_id, cut, trigger, heard, u.text or None)]

    def _advance(self, at: float) -> list[Output]:
        """Everything that fell due up to now."""
        self._now = max(self._now, at)
        s, out = self.settings, list[Output]()
        u = self._utterance
        if u is not None:
            due = u.began + s.maximum_utterance if u.talking else u.until + s.endpointing
            if self._now >= due:
                out += self._finish(u)
        for asked in self._asked:
            if not asked.closed and self._now >= asked.asked + s.final_timeout:
                out += self._close(asked)
        while self._asked and self._asked[0].closed and self._now >= self._asked[0].asked + s.lost_after:
            self._asked.popleft()
        if (
            s.silence_timeout is not None
            and self._silent
            and not self._silence_told
            and self._now >= self._quiet_since + s.silence_timeout
        ):
            self._silence_told = True
            out.append(SilenceTimeout(self._now - self._quiet_since))
        return out

    def _finish(self, u: _Utterance) -> list[Output]:
        self._utterance = None
        # A noise is asked about as well, so that the recogniser forgets it; nobody waits for the answer.
        u.closed = not self._credible(u)
        u.asked = self._now
        self._asked.append(u)
        return [FinishUtterance(u.turn_id)]

    def _close(self, u: _Utterance) -> list[Output]:
        u.closed = True
        text = u.text or u.shown
        if not u.announced and not (text and self._credible(u)):
            return []
        self._stir()
        return [EmitFinal(u.turn_id, text, u.began, u.until)]
