"""Turn-taking as a pure state machine: what was heard and played goes in, transcripts and interruptions come out.

There is no clock, audio or task here. Every input carries ``at``, in seconds on one clock that never runs backwards,
and returns what follows from it, in order. :meth:`Turns.tick` is due at ``deadline``.

**The theory.** A conversation is two things that overlap: the agent's *playback* (silent, or playing one agent turn)
and the caller's *utterance*. An utterance moves one way::

    (none) --voice--> talking <--voice-- pausing --end of turn--> asked --final, or too late--> closed
                         '-----silence-----^

*Talking* is what the voice detector reports, moment by moment, without smoothing; its start cues the recognizer.
*Pausing* begins with the end of the voice; a caller who continues within it has not finished. Then the recognizer is
*asked* for its final. The next utterance may begin meanwhile, and the answer closes this one. If no answer comes in
time, the last guess becomes the final; a late answer is recognized by its place in the order and discarded. The time is
``final_timeout`` if words came since the voice ended, and ``unheard_final_timeout`` if not: a guess from before is only
a part of what was said. A recognizer that detects the end of an utterance itself may close it sooner.

*The end of the turn.* A pause lasts ``endpointing`` seconds, unless words that come in it say otherwise: each time, the
rule (:func:`~anycarrier.speech.endpointing.end_of_turn`) decides anew how much silence ends the utterance, counted from
the end of the voice. Unfinished words lengthen the pause. Whole words that replace them shorten it again; if that much
silence has passed already, the utterance ends at once. Words that came before the voice returned do not count in the
next pause, words that come after the recognizer was asked change nothing, and no pause exceeds ``maximum_utterance``.

*Decoding ahead.* Words come during a pause only if the recognizer does not wait until it is asked. So it gets a
hint once, after ``decode_ahead`` seconds of silence, and another if the voice returns. A sound that does not count as
speech is no pause: at its end the recognizer is asked to discard it.

*Announced* means that the agent knows of it, by an interim or by a barge-in. An announced utterance gets exactly one
final, even if it had no words (``text`` is then empty). One that was not announced gets a final if it has words;
otherwise it leaves no trace, as with a cough.

*Barge-in* needs evidence: ``interruption`` seconds of confirmed voice in one run, with gaps of at most ``bridge``.
Passing time alone is no evidence, so a cough counts only for as long as it lasted. Until there is enough evidence,
nothing of the utterance is announced while the agent speaks; so the barge-in always comes before the words that caused
it. An utterance that ends before it has enough evidence, while the agent still speaks, is dropped as noise. A key press
resets the evidence: its tone is not speech.

An interruption drops the agent turn being played and the turns queued after it; words that arrive for them later are
refused. A new agent turn that begins while the caller is talking is interrupted at once.

*Silence* is when neither side is heard. It is reported once, after ``silence_timeout`` seconds since either side last
spoke; noise that led to nothing does not reset it. While the far end holds the call, nobody is there to be silent.
"""

from __future__ import annotations

from collections import deque
from math import inf

from anycarrier.speech.endpointing import EndOfTurn, end_of_turn
from anycarrier.speech.turn_state import (
    AgentSpeech,
    BargeIn,
    BeginUtterance,
    DropTurn,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Output,
    PauseUtterance,
    ResumeUtterance,
    Silence,
    SilenceTimeout,
    StopSpeaking,
    TurnSettings,
    Utterance,
)


class Turns:
    """Turn-taking of one call. Feed it everything that happens, and carry out what it returns, in order.

    ``end_of_turn``: the rule that says how much silence ends an utterance with certain words.
    """

    def __init__(
        self,
        settings: TurnSettings | None = None,
        *,
        at: float = 0.0,
        prefix: str = "t",
        end_of_turn: EndOfTurn = end_of_turn,
    ) -> None:
        self.settings = settings or TurnSettings()
        self._end_of_turn = end_of_turn
        self._prefix = prefix
        self._count = 0
        self._now = at
        self._silence = Silence(self.settings.silence_timeout, at)
        self._utterance: Utterance | None = None
        self._asked: deque[Utterance] = deque()
        self._agent = AgentSpeech()
        self._held = False

    @property
    def speaking(self) -> str | None:
        """The agent turn being played."""
        return self._agent.playing

    @property
    def listening_to(self) -> str | None:
        """The utterance the caller is saying, or the first one that the recognizer has not answered yet."""
        return next((u.turn_id for u in (self._utterance, *self._asked) if u is not None and not u.closed), None)

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` is due; None while nothing will happen by itself."""
        due = [asked.answer_due(self.settings) for asked in self._asked]
        if self._utterance is not None:
            due += [self._utterance.due(self.settings), self._pause_due(self._utterance)]
        if self._silent and self._silence.due is not None:
            due.append(self._silence.due)
        return min(due, default=None)

    # --- the voice detector --------------------------------------------------------------------------------------

    def speech_started(self, at: float, began: float | None = None) -> list[Output]:
        """A voice started at ``began`` (default ``at``)."""
        out = self._advance(at)
        began = min(self._now, self._now if began is None else began)
        if self._utterance is None:
            out.append(BeginUtterance(self._open(began).turn_id, began))
        elif not self._utterance.talking:
            if self._utterance.paused:
                out.append(ResumeUtterance(self._utterance.turn_id))
            self._utterance.resume(began, self.settings.bridge)
        return out

    def speech_continues(self, at: float, until: float) -> list[Output]:
        """The voice is confirmed up to ``until``."""
        out = self._advance(at)
        if self._utterance is None or not self._utterance.talking:
            # Cut at its maximum length, or the detector skipped the start.
            return out + self.speech_started(at, until)
        return out + self._words(self._utterance, until)

    def speech_ended(self, at: float, ended: float | None = None, *, delay: float = 0.0) -> list[Output]:
        """The voice ended at ``ended`` (default ``at``). ``delay``: how many seconds the detector is behind the audio,
        by which it would also report late that the voice is back; the pause lasts as much longer."""
        out = self._advance(at)
        u = self._utterance
        if u is None or not u.talking:
            return out
        out += self._words(u, self._now if ended is None else ended)
        u.talking, u.delay = False, delay
        return out + self._advance(at)

    # --- the recognizer ------------------------------------------------------------------------------------------

    def interim(self, at: float, text: str) -> list[Output]:
        """The recognizer's guess at words that are not final yet; replaces its last guess."""
        out = self._advance(at)
        u = self._addressee(text := text.strip())
        if u is None or u.closed:
            return out
        u.guess, u.heard = text, u.heard or not u.talking
        return out + self._words(u) + self._consider(u)

    def final(self, at: float, text: str, *, complete: bool = True, wordless: bool = False) -> list[Output]:
        """Final words. ``complete``: the utterance is over. ``wordless``: the call has no recognizer."""
        out = self._advance(at)
        u = self._addressee(text := text.strip())
        if complete and self._asked:
            self._asked.popleft()
        if u is None or u.closed:
            return out
        u.guess, u.announced = "", u.announced or wordless
        if text:
            u.segments.append(text)
            u.heard = u.heard or not u.talking
        if complete and not (u is self._utterance and u.talking):
            if u is self._utterance:
                self._utterance = None
            return out + self._close(u)
        return out + self._words(u) + self._consider(u)

    # --- the agent's speech -------------------------------------------------------------------------------------------

    def speech_queued(self, at: float, agent_turn_id: str) -> list[Output]:
        """The agent has queued words in this turn. Refused if the turn was dropped."""
        out = self._advance(at)
        if self._agent.refuses(agent_turn_id):
            return [*out, DropTurn(agent_turn_id)]
        self._agent.queue(agent_turn_id)
        return out

    def playback_started(self, at: float, agent_turn_id: str) -> list[Output]:
        """Playback of this agent turn begins."""
        out = self._advance(at)
        if self._agent.refuses(agent_turn_id):
            return [*out, StopSpeaking(agent_turn_id), DropTurn(agent_turn_id)]
        self._agent.start(agent_turn_id, self._now)
        self._silence.interrupt(self._now)
        if self._utterance is not None and self._utterance.talking:
            out += self._interrupt(self._utterance)
        return out

    def playback_position(self, at: float, agent_turn_id: str, heard: float) -> list[Output]:
        """``heard`` seconds of the turn have been played."""
        out = self._advance(at)
        self._agent.position(agent_turn_id, heard, self._now)
        return out

    def playback_ended(self, at: float, agent_turn_id: str) -> list[Output]:
        """All of the turn has been played."""
        out = self._advance(at)
        if not self._agent.end(agent_turn_id):
            return out
        self._silence.interrupt(self._now)
        if self._utterance is not None:
            self._utterance.release()
            out += self._words(self._utterance)
        return out + self._advance(at)

    # --- the rest ------------------------------------------------------------------------------------------------

    def digit(self, at: float) -> list[Output]:
        """The caller pressed a key."""
        out = self._advance(at)
        self._silence.interrupt(self._now)
        if self._utterance is not None:
            self._utterance.run = 0.0
        return out

    def hold(self, at: float, held: bool) -> list[Output]:
        """The far end has put us on hold, or has come back. Silence is not counted while held, and starts over then."""
        out = self._advance(at)
        self._held = held
        self._silence.interrupt(self._now)
        return out

    def tick(self, at: float) -> list[Output]:
        """Time has passed."""
        return self._advance(at)

    def hang_up(self, at: float) -> list[Output]:
        """The call is over: close open utterances with the words known so far. Call nothing after this."""
        out = self._advance(at)
        waiting = [u for u in self._asked if not u.closed]
        if self._utterance is not None:
            waiting.append(self._utterance)
        self._utterance, self._agent.playing = None, None
        self._asked.clear()
        out += [output for u in waiting for output in self._close(u)]
        self._silence.report(self._now)
        return out

    # --- helpers -------------------------------------------------------------------------------------------------

    @property
    def _silent(self) -> bool:
        return self._agent.playing is None and self.listening_to is None and not self._held

    def _open(self, began: float, *, talking: bool = True) -> Utterance:
        self._count += 1
        self._utterance = Utterance(f"{self._prefix}{self._count}", began, began, talking, not talking)
        return self._utterance

    def _addressee(self, text: str) -> Utterance | None:
        """The utterance these words belong to. Answers come in order, so the one asked first comes first."""
        if self._asked:
            return self._asked[0]
        if self._utterance is None and self.settings.trust_words and text:
            return self._open(self._now, talking=False)
        return self._utterance

    def _words(self, u: Utterance, until: float | None = None) -> list[Output]:
        """Announce what can be announced now, with the voice confirmed up to ``until``."""
        if until is not None:
            u.confirm(min(until, self._now), under_us=not self._yielding)
        out: list[Output] = []
        if u is self._utterance:
            if u.by_words and u.text != u.shown:
                u.until = self._now  # words still arrive: the pause has not begun
            out += self._interrupt(u)
        if u.text and u.text != u.shown and self._credible(u):
            u.shown, u.announced = u.text, True
            out.append(EmitInterim(u.turn_id, u.text))
        return out

    def _consider(self, u: Utterance) -> list[Output]:
        """New words: let them decide how long the pause lasts."""
        if u is not self._utterance or u.talking:
            return []
        u.wait = max(0.0, self._end_of_turn(u.text, self.settings)) if u.text else None
        return self._advance(self._now)

    def _pause_due(self, u: Utterance) -> float:
        """When to tell the recognizer of a pause of the voice."""
        if u.talking or u.by_words or u.paused or not self._credible(u):
            return inf
        return u.until + u.delay + self.settings.decode_ahead

    def _credible(self, u: Utterance) -> bool:
        """Whether this counts as speech, on the evidence so far."""
        if u.announced or u.asked < inf or u.voiced >= self.settings.minimum_speech:
            return True
        return self.settings.trust_words and bool(u.text) and self._yielding

    @property
    def _yielding(self) -> bool:
        """Whether speech can be announced without a barge-in."""
        return self._agent.playing is None or self.settings.interruption is None

    def _interrupt(self, u: Utterance) -> list[Output]:
        needed, cut = self.settings.interruption, self._agent.playing
        if cut is None or needed is None:
            return []
        if u.talking and u.run >= needed:
            trigger = "caller_speech"
        elif self.settings.trust_words and u.text and u.began >= self._agent.since:
            trigger = "caller_words"
        else:
            return []
        heard = self._agent.heard(self._now)
        dropped = [DropTurn(turn) for turn in self._agent.cut()]
        self._silence.interrupt(self._now)
        u.announced = True
        return [StopSpeaking(cut), *dropped, BargeIn(u.turn_id, cut, trigger, heard, u.text or None)]

    def _advance(self, at: float) -> list[Output]:
        """Do everything that has become due."""
        self._now = max(self._now, at)
        s, out = self.settings, list[Output]()
        u = self._utterance
        if u is not None and self._now >= u.due(s):
            out += self._finish(u)
        elif u is not None and self._now >= self._pause_due(u):
            u.paused = True
            out.append(PauseUtterance(u.turn_id, u.until))
        for asked in self._asked:
            if not asked.closed and self._now >= asked.answer_due(s):
                out += self._close(asked)
        while self._asked and self._asked[0].closed and self._now >= self._asked[0].answer_due(s):
            self._asked.popleft()
        if self._silent and self._silence.due is not None and self._now >= self._silence.due:
            out.append(SilenceTimeout(self._silence.report(self._now)))
        return out

    def _finish(self, u: Utterance) -> list[Output]:
        self._utterance = None
        # Ask about noise too, so that the recognizer discards it; nobody waits for that answer.
        u.closed = not self._credible(u)
        u.asked = self._now
        self._asked.append(u)
        return [FinishUtterance(u.turn_id, u.closed, u.until)]

    def _close(self, u: Utterance) -> list[Output]:
        u.closed = True
        text = u.text or u.shown
        if not u.announced and not (text and self._credible(u)):
            return []
        self._silence.interrupt(self._now)
        return [EmitFinal(u.turn_id, text, u.began, u.until)]
