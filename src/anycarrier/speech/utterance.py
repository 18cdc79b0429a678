"""What is known of one thing the caller says, while he says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

from anycarrier.speech.turn_settings import TurnSettings


@dataclass(slots=True)
class Utterance:
    """Times are on the call's clock. ``by_words``: opened by a trusted recogniser, no voice heard yet."""

    turn_id: str
    began: float
    until: float  # confirmed voice (or words) up to here
    talking: bool = True
    by_words: bool = False
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
        """Fixed words and the guess that follows them."""
        return " ".join([*self.segments, self.guess] if self.guess else self.segments)

    def due(self, settings: TurnSettings) -> float:
        """When it is over if nothing more is heard, or when it has to be over."""
        if self.talking:
            return self.began + settings.maximum_utterance
        return self.until + settings.endpointing

    def answer_due(self, settings: TurnSettings) -> float:
        """Until when the recogniser's answer is waited for; once closed, until when it is expected at all."""
        return self.asked + (settings.lost_after if self.closed else settings.final_timeout)

    def resume(self, began: float, bridge: float) -> None:
        """The voice is back after a pause; a pause of more than ``bridge`` seconds starts the evidence anew."""
        if began - self.until > bridge:
            self.run = 0.0
        self.talking, self.by_words = True, False
        self.until = max(self.until, began)

    def confirm(self, until: float, *, under_us: bool) -> None:
        """The voice is certain up to ``until``; ``under_us`` while our own speech is being played."""
        gained = max(0.0, until - self.until)
        self.until += gained
        self.run += gained
        if under_us:
            self.over += gained
        else:
            self.voiced += gained

    def release(self) -> None:
        """Our speech is over: what was said into its end interrupts nothing, and counts like any other speech."""
        self.voiced += self.over
        self.over = 0.0
