"""Whose turn it is: what was heard and what was played go in, transcripts and interruptions come out.

Pure: no clock, no audio, no task. Every input carries ``at``, seconds on one clock that never runs backwards, and
returns what follows from it, in order. ``deadline`` is when :meth:`Turns.tick` is next due.

**The theory.** A conversation is two things that overlap: our *playback* (silent, or speaking one turn of the agent's)
and the caller's *utterance*. An utterance goes one way::

    (none) --voice--> talking <--voice-- pausing --endpointing--> asked --final, or too late--> closed
                         '-----silence-----^

*Talking* is what the voice detector says, moment by moment, unsmoothed; its beginning cues the recogniser. *Pausing*
lasts ``endpointing`` seconds from the end of the voice; a caller who goes on inside it has not finished. Then the
recogniser is *asked* for its final, the next utterance may begin, and the answer closes this one. If no answer comes in
``final_timeout``, what had been guessed stands, and the late answer, known by its place in the order, is thrown away.
A recogniser with an endpointer of its own may close sooner.

*Announced* is what the agent has been told of: by an interim or by a barge-in. An announced utterance gets exactly one
final, even when the caller said no word in it (``text`` is then empty); one that was never announced gets one
if it has words, else it leaves no trace, as if nobody had coughed.

*Barge-in* asks for evidence: confirmed voice, in one run with gaps of at most ``bridge``, for ``interruption`` seconds.
Time that merely passes is no evidence, so a cough counts for as long as it was. Until then nothing of the utterance
is announced while we speak, so the barge-in is always told before the words that caused it. What stays below that
until it ends under our own voice is dropped as a noise. A key press starts the evidence anew: its tone is no speech.

An interruption takes from the agent the turn being played and those that wait behind it; what still arrives of them
is refused again. A new turn that begins while the caller is talking is interrupted at once.

*Silence* is when neither side is heard. It is told once, after ``silence_timeout``, and counted from the last thing
either side said; noises that led to nothing do not prolong it.
"""

from __future__ import annotations

from collections import deque
from math import inf

from anycarrier.speech.our_speech import OurSpeech
from anycarrier.speech.quiet import Quiet
from anycarrier.speech.turn_outputs import (
    BargeIn,
    BeginUtterance,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    SilenceTimeout,
    StopSpeaking,
)
from anycarrier.speech.turn_settings import TurnSettings
from anycarrier.speech.utterance import Utterance


class Turns:
    """One call's turn-taking. Feed it everything that happens; do what it returns, in that order."""

    def __init__(self, settings: TurnSettings | None = None, *, at: float = 0.0, prefix: str = "t") -> None:
        self.settings = settings or TurnSettings()
        self._prefix = prefix
        self._count = 0
        self._now = at
        self._quiet = Quiet(self.settings.silence_timeout, at)
        self._utterance: Utterance | None = None
        self._asked: deque[Utterance] = deque()
        self._ours = OurSpeech()

    @property
    def speaking(self) -> str | None:
        """The agent's turn being played."""
        return self._ours.playing

    @property
    def listening_to(self) -> str | None:
        """What the caller is saying; else what he has said and the recogniser has not answered yet."""
        return next((u.turn_id for u in (self._utterance, *self._asked) if u is not None and not u.closed), None)

    @property
    def deadline(self) -> float | None:
        """When something happens by itself, None when nothing will."""
        due = [asked.answer_due(self.settings) for asked in self._asked]
        if self._utterance is not None:
            due.append(self._utterance.due(self.settings))
        if self._silent and self._quiet.due is not None:
            due.append(self._quiet.due)
        return min(due, default=None)

    # --- the voice detector --------------------------------------------------------------------------------------

    def speech_started(self, at: float, began: float | None = None) -> list[Output]:
        """A voice is heard, since ``began`` (``at`` unless told)."""
        out = self._advance(at)
        began = min(self._now, self._now if began is None else began)
        if self._utterance is None:
            out.append(BeginUtterance(self._open(began).turn_id))
        elif not self._utterance.talking:
            self._utterance.resume(began, self.settings.bridge)
        return out

    def speech_continues(self, at: float, until: float) -> list[Output]:
        """The voice is confirmed up to ``until``."""
        out = self._advance(at)
        if self._utterance is None or not self._utterance.talking:
            # Cut at its maximum length, or a detector that skipped its beginning.
            return out + self.speech_started(at, until)
        return out + self._words(self._utterance, until)

    def speech_ended(self, at: float, ended: float | None = None) -> list[Output]:
        """The voice is gone, since ``ended`` (``at`` unless told)."""
        out = self._advance(at)
        u = self._utterance
        if u is None or not u.talking:
            return out
        out += self._words(u, self._now if ended is None else ended)
        u.talking = False
        return out + self._advance(at)

    # --- the recogniser ------------------------------------------------------------------------------------------

    def interim(self, at: float, text: str) -> list[Output]:
        """The recogniser's guess at what it has not fixed yet; replaces its last guess."""
        out = self._advance(at)
        u = self._addressee(text := text.strip())
        if u is None or u.closed:
            return out
        u.guess = text
        return out + self._words(u)

    def final(self, at: float, text: str, *, complete: bool = True, wordless: bool = False) -> list[Output]:
        """Fixed words. ``complete``: the utterance is over with them. ``wordless``: nobody listens for any words."""
        out = self._advance(at)
        u = self._addressee(text := text.strip())
        if complete and self._asked:
            self._asked.popleft()
        if u is None or u.closed:
            return out
        u.guess, u.announced = "", u.announced or wordless
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
        if self._ours.refuses(agent_turn_id):
            return [*out, DropTurn(agent_turn_id)]
        self._ours.queue(agent_turn_id)
        return out

    def playback_started(self, at: float, agent_turn_id: str) -> list[Output]:
        """The caller begins to hear this turn of the agent's."""
        out = self._advance(at)
        if self._ours.refuses(agent_turn_id):
            return [*out, StopSpeaking(agent_turn_id), DropTurn(agent_turn_id)]
        self._ours.start(agent_turn_id, self._now)
        self._quiet.stir(self._now)
        if self._utterance is not None and self._utterance.talking:
            out += self._interrupt(self._utterance)
        return out

    def playback_position(self, at: float, agent_turn_id: str, heard: float) -> list[Output]:
        """``heard`` seconds of the turn have been played by now."""
        out = self._advance(at)
        self._ours.position(agent_turn_id, heard, self._now)
        return out

    def playback_ended(self, at: float, agent_turn_id: str) -> list[Output]:
        """All of the turn has been played."""
        out = self._advance(at)
        if not self._ours.end(agent_turn_id):
            return out
        self._quiet.stir(self._now)
        if self._utterance is not None:
            self._utterance.release()
            out += self._words(self._utterance)
        return out

    # --- the rest ------------------------------------------------------------------------------------------------

    def digit(self, at: float) -> list[Output]:
        """The caller pressed a key."""
        out = self._advance(at)
        self._quiet.stir(self._now)
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
        self._utterance, self._ours.playing = None, None
        self._asked.clear()
        out += [output for u in waiting for output in self._close(u)]
        self._quiet.tell(self._now)
        return out

    # --- helpers -------------------------------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        return self._ours.playing is None and self.listening_to is None

    def _open(self, began: float, *, talking: bool = True) -> Utterance:
        self._count += 1
        self._utterance = Utterance(f"{self._prefix}{self._count}", began, began, talking, not talking)
        return self._utterance

    def _addressee(self, text: str) -> Utterance | None:
        """Whose words these are: answers come in order, so first those of who was asked first."""
        if self._asked:
            return self._asked[0]
        if self._utterance is None and self.settings.trust_words and text:
            return self._open(self._now, talking=False)
        return self._utterance

    def _words(self, u: Utterance, until: float | None = None) -> list[Output]:
        """Announce what may be announced now, with the voice confirmed up to ``until``."""
        if until is not None:
            u.confirm(min(until, self._now), under_us=not self._yielding)
        out: list[Output] = []
        if u is self._utterance:
            if u.by_words and u.text != u.shown:
                u.until = self._now  # words still coming: the pause has not begun
            out += self._interrupt(u)
        if u.text and u.text != u.shown and self._credible(u):
            u.shown, u.announced = u.text, True
            out.append(EmitInterim(u.turn_id, u.text))
        return out

    def _credible(self, u: Utterance) -> bool:
        """Whether this is speech, as far as can be said now."""
        if u.announced or u.asked < inf or u.voiced >= self.settings.minimum_speech:
            return True
        return self.settings.trust_words and bool(u.text) and self._yielding

    @property
    def _yielding(self) -> bool:
        """Whether speech needs no barge-in to be announced."""
        return self._ours.playing is None or self.settings.interruption is None

    def _interrupt(self, u: Utterance) -> list[Output]:
        needed, cut = self.settings.interruption, self._ours.playing
        if cut is None or needed is None:
            return []
        if u.talking and u.run >= needed:
            trigger = "caller_speech"
        elif self.settings.trust_words and u.text and u.began >= self._ours.since:
            trigger = "caller_words"
        else:
            return []
        heard = self._ours.heard(self._now)
        dropped = [DropTurn(turn) for turn in self._ours.cut()]
        self._quiet.stir(self._now)
        u.announced = True
        return [StopSpeaking(cut), *dropped, BargeIn(u.turn_id, cut, trigger, heard, u.text or None)]

    def _advance(self, at: float) -> list[Output]:
        """Everything that fell due up to now."""
        self._now = max(self._now, at)
        s, out = self.settings, list[Output]()
        if self._utterance is not None and self._now >= self._utterance.due(s):
            out += self._finish(self._utterance)
        for asked in self._asked:
            if not asked.closed and self._now >= asked.answer_due(s):
                out += self._close(asked)
        while self._asked and self._asked[0].closed and self._now >= self._asked[0].answer_due(s):
            self._asked.popleft()
        if self._silent and self._quiet.due is not None and self._now >= self._quiet.due:
            out.append(SilenceTimeout(self._quiet.tell(self._now)))
        return out

    def _finish(self, u: Utterance) -> list[Output]:
        self._utterance = None
        # A noise is asked about as well, so that the recogniser forgets it; nobody waits for the answer.
        u.closed = not self._credible(u)
        u.asked = self._now
        self._asked.append(u)
        return [FinishUtterance(u.turn_id)]

    def _close(self, u: Utterance) -> list[Output]:
        u.closed = True
        text = u.text or u.shown
        if not u.announced and not (text and self._credible(u)):
            return []
        self._quiet.stir(self._now)
        return [EmitFinal(u.turn_id, text, u.began, u.until)]
