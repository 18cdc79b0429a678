"""Who picked up: a person or an answering machine, by the sound alone, for carriers that do not tell.

No clock and no socket: audio in, verdicts out, and time is that of the audio. The rules are the trade's own:

- *A person* says a word or two and waits: speech, then :data:`PAUSE` of silence.
- *A machine* goes on: :data:`GREETING` of speech without such a silence. Or a beep follows the first words at once.
- *The greeting is over* when the beep is, or after :data:`LONG_PAUSE` of silence without one.
- *Unknown* is a line on which nobody speaks for :data:`NOBODY`, or nothing of the above for :data:`UNDECIDED`.

Sound is speech where it is louder than the line: the level that nine tenths of what came so far exceed, and
:data:`ABOVE_LINE` decibels on top. A steady noise is therefore no speech, however loud. The first seconds are judged
anew as more is known of the line. A *beep* is one frequency, steady for at least 120 ms: two at once are a key press
or a ringing tone. How often this is wrong on synthetic greetings: docs/benchmarks.md.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from math import acos, cos, pi, sin, sqrt
from operator import mul
from typing import NamedTuple

from anycarrier.audio import PCM16_8K, PCMU_8K, AudioFormat, Transcoder
from anycarrier.calls import MachineDetection

PAUSE = 1.2
"""Seconds of silence after speech that are a person's wait for an answer."""
GREETING = 2.8
"""Seconds of speech that no person says before an answer; pauses do not count."""
LONG_PAUSE = 3.0
"""Seconds of silence after which a machine has no beep to give: its beep may come two seconds after its words."""
NOBODY = 4.0
"""Seconds without speech after which nobody is there to be told apart."""
UNDECIDED = 10.0
"""Seconds after which it stays unknown who answered."""
LISTEN = 60.0
"""Seconds from the answer for which the end of a machine's greeting is waited for."""

ABOVE_LINE = 8.0
"""Decibels by which speech exceeds the level of the line."""
QUIETEST = -46.0
"""Decibels below full scale under which nothing is speech."""
BRIDGE = 0.3
"""Seconds of silence within a word or between two."""
CLICK = 0.06
"""Seconds that a sound has to last to be speech."""

LOWEST, HIGHEST = 380.0, 2050.0
"""Hertz between which a tone is a beep."""
STEADY = 25.0
"""Hertz by which a beep may waver."""
PURE = 0.6
"""The part of the energy that is in the tone's own frequency."""
HOLE = 0.04
"""Seconds for which noise may hide a beep."""
SHORTEST_BEEP, LONGEST_BEEP = 0.12, 2.0
"""Seconds that a beep lasts; a longer tone is a signal of the network."""

BLOCK = 0.02
"""Seconds that are judged at a time."""
_SAMPLES = 160
_SIZE = 2 * _SAMPLES
_JUDGED_EACH = 5
"""Blocks between two looks at all that was heard."""
_FULL_SCALE = _SAMPLES * 32768.0**2


def _blocks(seconds: float) -> int:
    return round(seconds / BLOCK)


class Verdict(NamedTuple):
    """What a :class:`anycarrier.events.MachineDetected` says."""

    answered_by: str
    greeting_ended: bool = False
    beep: bool = False


class MachineDetector:
    """Listens to the far end of one call from its answer on.

    ``wanted``: ``DETECT`` is over with the first verdict, ``WAIT_FOR_BEEP`` also waits for the end of a machine's
    greeting. ``format`` is that of the audio; ``ValueError`` for one that cannot be decoded.
    """

    def __init__(self, wanted: MachineDetection, format: AudioFormat = PCMU_8K) -> None:
        self.done = wanted is MachineDetection.OFF
        """Nothing more will be said: stop listening."""
        self._waits = wanted is MachineDetection.WAIT_FOR_BEEP
        self._decode = Transcoder(format, PCM16_8K).convert
        self._rest = b""
        self._machine = False
        self._before = array("h", bytes(_SIZE))
        """The block before, in which a tone has to sound too: over 40 ms two tones are told from one that wavers."""
        self._energy_before = 0.0
        self._levels: list[float] = []
        """Energy of each block; a block of a tone counts as silence."""
        self._sorted: list[float] = []
        self._tone = 0
        """Blocks of one tone up to now."""
        self._missed = 0
        """Blocks since then in which it was not heard."""
        self._frequency = 0.0

    @property
    def seconds(self) -> float:
        """How much was heard."""
        return len(self._levels) * BLOCK

    def hear(self, payload: bytes) -> list[Verdict]:
        """The next of the far end's audio, any length; what follows from it, mostly nothing."""
        if self.done:
            return []
        sound = self._rest + self._decode(payload)
        whole = len(sound) - len(sound) % _SIZE
        self._rest = sound[whole:]
        said = list[Verdict]()
        for start in range(0, whole, _SIZE):
            if not self.done and (verdict := self._block(array("h", sound[start : start + _SIZE]))) is not None:
                said.append(verdict)
        return said

    @property
    def decided(self) -> bool:
        """Whether it was said who answered."""
        return self.done or self._machine

    def _block(self, samples: array[int]) -> Verdict | None:
        energy = float(sum(map(mul, samples, samples)))
        frequency = None
        if energy > _energy(QUIETEST):
            frequency = self._heard_tone(self._before + samples, self._energy_before + energy)
        self._before, self._energy_before = samples, energy
        if frequency is not None:
            self._tone += 1 + self._missed
            self._missed = 0
            self._frequency = frequency
            self._levels.append(0.0)
        else:
            self._levels.append(energy)
            insort(self._sorted, energy)
            if self._tone and self._missed < _blocks(HOLE):
                self._missed += 1
            elif self._tone:
                lasted = self._tone
                self._tone, self._missed, self._frequency = 0, 0, 0.0
                if _blocks(SHORTEST_BEEP) <= lasted <= _blocks(LONGEST_BEEP):
                    return self._beeped()
        return self._judge() if len(self._levels) % _JUDGED_EACH == 0 else None

    def _heard_tone(self, samples: array[int], energy: float) -> float | None:
        """The frequency of the tone that these two blocks are, or go on with: the mean of what was measured."""
        measured = _frequency(samples, energy)
        if not self._tone:
            return measured if measured is not None and _pure(samples, energy, measured) else None
        mean = self._frequency
        if measured is not None and abs(measured - mean) <= STEADY:
            mean += (measured - mean) / (self._tone + 1)
        return mean if _pure(samples, energy, mean) else None

    def _beeped(self) -> Verdict | None:
        if not self._machine and not any(self._speech()):
            return None  # a tone before anybody speaks: the network's
        self.done = True
        return Verdict("machine", greeting_ended=self._waits, beep=self._waits)

    def _judge(self) -> Verdict | None:
        heard = len(self._levels)
        speech = list(self._speech())
        silent = heard - speech[-1][1] if speech else heard
        if self._machine:
            self.done = silent >= _blocks(LONG_PAUSE) and not self._tone
            if self.done:
                return Verdict("machine", greeting_ended=True)
            self.done = heard >= _blocks(LISTEN)
            return None
        if sum(end - start for start, end in speech) >= _blocks(GREETING):
            self._machine, self.done = True, not self._waits
            return Verdict("machine")
        if speech and silent >= _blocks(PAUSE) and not self._tone:
            self.done = True
            return Verdict("human")
        if heard >= _blocks(UNDECIDED if speech else NOBODY):
            self.done = True
            return Verdict("unknown")
        return None

    def _speech(self) -> Iterator[tuple[int, int]]:
        """Where speech was, as blocks from and to. Of a long greeting only the latest seconds are looked at."""
        line = self._sorted[len(self._sorted) // 10] if self._sorted else 0.0
        loud = max(_energy(QUIETEST), line * 10 ** (ABOVE_LINE / 10))
        first = max(0, len(self._levels) - _blocks(UNDECIDED + 1))
        begin, end = -1, -1
        at = first
        for is_loud, run in groupby(self._levels[first:], loud.__lt__):
            length = len(list(run))
            if is_loud and length >= _blocks(CLICK):
                if begin < 0:
                    begin = at
                elif at - end > _blocks(BRIDGE):
                    yield begin, end
                    begin = at
                end = at + length
            at += length
        if begin >= 0:
            yield begin, end


def _energy(decibels: float) -> float:
    """The energy of a block of that level, in decibels of full scale."""
    return float(_FULL_SCALE * 10 ** (decibels / 10))


def _frequency(samples: array[int], energy: float) -> float | None:
    """The frequency in hertz of what may be one tone; None where it is none for certain, or out of range.

    Pisarenko's method: from the correlations at one and two samples' distance, which white noise does not shift.
    """
    one = sum(map(mul, samples, samples[1:]))
    two = sum(map(mul, samples, samples[2:]))
    cosine = (two + sqrt(two * two + 8.0 * one * one)) / (4.0 * one) if one else 0.0
    if not -1.0 < cosine < 1.0 or abs(two / energy - (2.0 * (one / energy) ** 2 - 1.0)) > 0.5:
        return None
    frequency = acos(cosine) * 8000 / (2 * pi)
    return frequency if LOWEST <= frequency <= HIGHEST else None


def _pure(samples: array[int], energy: float, frequency: float) -> bool:
    """Whether enough of the energy is at that frequency."""
    cosines, sines = _waves(round(frequency / 5))
    inside = float(sum(map(mul, samples, cosines)) ** 2 + sum(map(mul, samples, sines)) ** 2)
    return inside / _SAMPLES >= PURE * energy


@lru_cache(maxsize=512)
def _waves(fives: int) -> tuple[array[float], array[float]]:
    """Cosine and sine of a frequency, in steps of 5 Hz, for the length of two blocks."""
    steps = [2 * pi * 5 * fives / 8000 * n for n in range(2 * _SAMPLES)]
    return array("d", map(cos, steps)), array("d", map(sin, steps))
