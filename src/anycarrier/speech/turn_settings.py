"""How patient and how sensitive turn-taking is."""

from __future__ import annotations

from dataclasses import dataclass


def interruption_seconds(sensitivity: float) -> float | None:
    """Seconds of confirmed voice that interrupt us, for a sensitivity from 0 (never: None) to 1 (a syllable).

    0.5 asks for 0.15 s, which the detector has seen a quarter of a second after a real interruption began. Of a cough,
    which is noise, a good detector sees nothing; of a voice that breaks off after 0.15 s it sees 0.1 s.
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
    """All in seconds.

    ``trust_words``: words alone prove speech. True for recognisers that stay silent on noise; false for those that
    find a word in anything, as grammars do.
    """

    endpointing: float = 0.5
    interruption: float | None = 0.15
    minimum_speech: float = 0.09
    bridge: float = 0.2
    final_timeout: float = 1.0
    lost_after: float = 4.0
    silence_timeout: float | None = 10.0
    maximum_utterance: float = 30.0
    trust_words: bool = False
