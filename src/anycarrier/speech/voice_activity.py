"""Voice activity: from the probability that a window of audio is speech to when a voice starts and ends. Pure.

There is no smoothing over time here. Turn-taking (:mod:`anycarrier.speech.turns`) does the endpointing and collects the
evidence for a barge-in; each window of delay here would delay both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Voice(StrEnum):
    """What the detector reports about the caller's voice."""

    STARTED = "started"
    CONTINUES = "continues"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class VoiceActivity:
    """A voice began at ``at``, is confirmed up to ``at``, or ended at ``at``: seconds of the audio fed so far."""

    voice: Voice
    at: float


class VoiceGate:
    """Window probabilities in, :class:`VoiceActivity` out, ``window`` seconds a step.

    A voice starts at ``threshold`` and lasts until it falls below ``release``. The gap between the two keeps a soft
    syllable in one piece.
    """

    def __init__(self, *, window: float = 0.032, threshold: float = 0.5, release: float = 0.35) -> None:
        self.window = window
        self.threshold = threshold
        self.release = release
        self._windows = 0
        self._voiced = False

    def feed(self, probability: float) -> list[VoiceActivity]:
        """The next window."""
        began = self._windows * self.window
        self._windows += 1
        ended = self._windows * self.window
        if self._voiced:
            if probability < self.release:
                self._voiced = False
                return [VoiceActivity(Voice.ENDED, began)]
            return [VoiceActivity(Voice.CONTINUES, ended)]
        if probability >= self.threshold:
            self._voiced = True
            return [VoiceActivity(Voice.STARTED, began), VoiceActivity(Voice.CONTINUES, ended)]
        return []
