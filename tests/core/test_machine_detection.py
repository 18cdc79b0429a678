"""Who picked up, by the sound alone: each rule at its edge, on voices, tones and noises made here."""

from __future__ import annotations

import math
import random
from array import array
from functools import cache
from itertools import accumulate

import pytest

from anycarrier.audio import L16_16K, PCM16_8K, PCMA_8K, PCMU_8K, AudioFormat, Transcoder, dtmf_tones
from anycarrier.calls import MachineDetection
from anycarrier.machine_detection import (
    GREETING,
    LISTEN,
    LONG_PAUSE,
    NOBODY,
    PAUSE,
    UNDECIDED,
    MachineDetector,
    Verdict,
)

Sound = array
HUMAN, MACHINE, UNKNOWN = Verdict("human"), Verdict("machine"), Verdict("unknown")
BEEP, SILENT = Verdict("machine", True, True), Verdict("machine", True)
WAIT = MachineDetection.WAIT_FOR_BEEP


def quiet(seconds: float) -> Sound[float]:
    return array("d", bytes(8 * round(seconds * 8000)))


@cache
def voice(seconds: float, level: float = -22.0) -> Sound[float]:
    """Syllables, four a second: a gliding pitch of 100 to 160 Hz and its harmonics below 3 kHz."""
    count = round(seconds * 8000)
    pitches = (130 + 30 * math.sin(2 * math.pi * 0.7 * n / 8000) for n in range(count))
    phases = list(accumulate(2 * math.pi * pitch / 8000 for pitch in pitches))
    loudness = [0.25 + 0.75 * abs(math.sin(math.pi * 4 * n / 8000)) for n in range(count)]
    tones = (sum(math.sin(k * phase) / k for k in range(1, 20)) for phase in phases)
    return at_level(array("d", (loud * tone for loud, tone in zip(loudness, tones, strict=True))), level)


def tone(hertz: float, seconds: float, level: float = -20.0) -> Sound[float]:
    step = 2 * math.pi * hertz / 8000
    return at_level(array("d", (math.sin(step * n) for n in range(round(seconds * 8000)))), level)


def at_level(sound: Sound[float], level: float) -> Sound[float]:
    """``sound`` at so many decibels of full scale."""
    loud = math.sqrt(sum(s * s for s in sound) / len(sound))
    scale = 10 ** (level / 20) * 32768 / loud
    return array("d", (s * scale for s in sound))


def noisy(sound: Sound[float], level: float) -> Sound[float]:
    """``sound`` with white noise at ``level``."""
    rolls, scale = random.Random(14), 10 ** (level / 20) * 32768
    return array("d", (s + rolls.gauss(0.0, scale) for s in sound))


def coded(sound: Sound[float], format: AudioFormat = PCMU_8K) -> bytes:
    pcm = array("h", (max(-32768, min(32767, round(s))) for s in sound)).tobytes()
    to = Transcoder(PCM16_8K, format)
    return to.convert(pcm) + to.flush()


def verdicts(
    *parts: Sound[float], wanted: MachineDetection = WAIT, format: AudioFormat = PCMU_8K, piece: float = 0.02
) -> list[tuple[float, Verdict]]:
    """What is said of a line with these sounds, and after how many seconds of it."""
    line: Sound[float] = array("d")
    for part in parts:
        line.extend(part)
    audio, size = coded(line, format), format.size(piece)
    detector, found = MachineDetector(wanted, format), list[tuple[float, Verdict]]()
    for at in range(0, len(audio), size):
        found += ((format.seconds(at + size), verdict) for verdict in detector.hear(audio[at : at + size]))
    return found


def said(*parts: Sound[float], wanted: MachineDetection = WAIT, format: AudioFormat = PCMU_8K) -> list[Verdict]:
    return [verdict for _, verdict in verdicts(*parts, wanted=wanted, format=format)]


# --- a person --------------------------------------------------------------------------------------------------------


def test_a_word_and_silence_is_a_person_who_waits() -> None:
    [(at, verdict)] = verdicts(quiet(0.5), voice(0.6), quiet(20))
    assert verdict == HUMAN
    assert at == pytest.approx(0.5 + 0.6 + PAUSE, abs=0.15)


def test_a_person_who_speaks_at_once_is_heard_from_the_first_word() -> None:
    assert said(voice(0.5), quiet(4)) == [HUMAN]


def test_a_second_hello_before_the_pause_is_over_belongs_to_the_first() -> None:
    [(at, verdict)] = verdicts(quiet(0.5), voice(0.4), quiet(PAUSE - 0.3), voice(0.4), quiet(20))
    assert verdict == HUMAN
    assert at > 0.5 + 0.8 + (PAUSE - 0.3) + PAUSE - 0.15


def test_speech_just_short_of_a_greeting_is_a_persons_and_just_beyond_a_machines() -> None:
    assert said(quiet(0.5), voice(GREETING - 0.3), quiet(4)) == [HUMAN]
    assert said(quiet(0.5), voice(GREETING + 0.3), quiet(2)) == [MACHINE]


def test_nothing_is_said_after_a_person_whatever_comes() -> None:
    assert said(voice(0.6), quiet(2), voice(20), tone(1000, 0.5), quiet(20)) == [HUMAN]


# --- a machine -------------------------------------------------------------------------------------------------------


def test_a_greeting_is_known_before_it_is_over() -> None:
    [(at, verdict), *_] = verdicts(quiet(0.5), voice(12), quiet(10))
    assert verdict == MACHINE
    assert at == pytest.approx(0.5 + GREETING, abs=0.4)


def test_pauses_in_a_greeting_do_not_count_as_speech() -> None:
    [(at, verdict), *_] = verdicts(*(part for _ in range(6) for part in (voice(1.0), quiet(0.8))), quiet(10))
    assert verdict == MACHINE
    assert at == pytest.approx(2 * (1.0 + 0.8) + GREETING - 2.0, abs=0.15)


@pytest.mark.parametrize("hertz", [400, 440, 620, 800, 1000, 1400, 1850, 2000])
@pytest.mark.parametrize("seconds", [0.16, 0.5, 1.5])
def test_the_greeting_is_over_when_the_beep_is(hertz: float, seconds: float) -> None:
    found = verdicts(quiet(0.4), voice(5), quiet(1.0), tone(hertz, seconds), quiet(10))
    assert [verdict for _, verdict in found] == [MACHINE, BEEP]
    assert found[1][0] == pytest.approx(0.4 + 5 + 1.0 + seconds, abs=0.12)
    assert found[1][0] >= 0.4 + 5 + 1.0 + seconds, "the message would begin under the beep"


def test_without_a_beep_the_greeting_is_over_after_a_long_silence() -> None:
    found = verdicts(quiet(0.4), voice(5), quiet(10))
    assert [verdict for _, verdict in found] == [MACHINE, SILENT]
    assert found[1][0] == pytest.approx(0.4 + 5 + LONG_PAUSE, abs=0.2)


def test_a_beep_right_after_a_short_greeting_makes_it_a_machines() -> None:
    assert said(quiet(0.4), voice(1.5), quiet(0.3), tone(1000, 0.4), quiet(10)) == [BEEP]


def test_detection_alone_is_over_with_the_first_verdict() -> None:
    machine = (voice(5), quiet(1), tone(1000, 0.4), quiet(10))
    assert said(*machine, wanted=MachineDetection.DETECT) == [MACHINE]
    short = (voice(1.5), quiet(0.3), tone(1000, 0.4), quiet(10))
    assert said(*short, wanted=MachineDetection.DETECT) == [MACHINE]
    assert said(*machine, wanted=MachineDetection.OFF) == []


def test_a_machine_that_never_stops_is_listened_to_for_a_minute() -> None:
    detector = MachineDetector(WAIT)
    assert detector.hear(coded(voice(5))) == [MACHINE]
    tens = coded(voice(10))
    for _ in range(6):
        assert detector.hear(tens) == []
    assert detector.done
    assert detector.seconds == pytest.approx(LISTEN, abs=0.2)


# --- nobody, and what is no speech and no beep ----------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, -50.0, -35.0, -20.0])
def test_a_line_without_speech_is_nobodys_however_loud_its_noise(level: float | None) -> None:
    line = quiet(8) if level is None else noisy(quiet(8), level)
    [(at, verdict)] = verdicts(line)
    assert (verdict, at) == (UNKNOWN, pytest.approx(NOBODY, abs=0.15))


def test_words_that_neither_end_nor_add_up_stay_unknown() -> None:
    murmurs = [part for _ in range(12) for part in (voice(0.12), quiet(1.0))]
    [(at, verdict)] = verdicts(*murmurs)
    assert (verdict, at) == (UNKNOWN, pytest.approx(UNDECIDED, abs=0.15))


def test_clicks_are_no_speech() -> None:
    clicks = [part for _ in range(6) for part in (tone(300, 0.02, -6.0), quiet(0.98))]
    assert said(*clicks) == [UNKNOWN]


def test_a_tone_before_anybody_speaks_is_the_networks() -> None:
    ringing = [part for _ in range(2) for part in (tone(425, 1.0), quiet(0.5))]
    assert said(*ringing, quiet(0.2), voice(0.6), quiet(3)) == [HUMAN]


@pytest.mark.parametrize(
    "sound",
    [
        array("d", (a + b for a, b in zip(tone(440, 1.0), tone(480, 1.0), strict=True))),
        tone(1000, 2.5),
        tone(300, 0.5),
        tone(2300, 0.5),
        tone(1000, 0.06),
    ],
    ids=["two tones", "too long", "too low", "too high", "too short"],
)
def test_what_is_no_beep_does_not_end_a_greeting_as_one(sound: Sound[float]) -> None:
    assert said(voice(5), quiet(0.5), sound, quiet(10)) == [MACHINE, SILENT]


def test_a_key_press_of_a_person_is_no_beep() -> None:
    pressed = array("d", array("h", dtmf_tones("5", PCM16_8K, tone=0.4)))
    assert said(voice(0.6), quiet(0.3), pressed, quiet(4)) == [HUMAN]


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-12.0, -36.0])
@pytest.mark.parametrize("beneath", [None, -28.0, -15.0])
def test_neither_level_nor_steady_noise_changes_the_verdicts(level: float, beneath: float | None) -> None:
    def line(*parts: Sound[float]) -> list[Verdict]:
        whole: Sound[float] = array("d")
        for part in parts:
            whole.extend(part)
        return said(whole if beneath is None else noisy(whole, level + beneath))

    assert line(quiet(0.4), voice(0.6, level), quiet(4)) == [HUMAN]
    assert line(quiet(0.4), voice(5, level), quiet(1), tone(1000, 0.4, level), quiet(5)) == [MACHINE, BEEP]


@pytest.mark.parametrize("format", [PCMU_8K, PCMA_8K, PCM16_8K, L16_16K], ids=lambda f: f"{f.encoding}-{f.rate}")
def test_any_format_that_we_can_decode_will_do(format: AudioFormat) -> None:
    assert said(voice(5), quiet(1), tone(1000, 0.4), quiet(5), format=format) == [MACHINE, BEEP]


def test_the_length_of_the_pieces_makes_no_difference() -> None:
    line = (quiet(0.4), voice(5), quiet(1), tone(1000, 0.4), quiet(5))
    assert [verdict for _, verdict in verdicts(*line, piece=0.0125)] == [MACHINE, BEEP]
    assert [verdict for _, verdict in verdicts(*line, piece=15.0)] == [MACHINE, BEEP]


def test_whether_it_is_decided_and_whether_it_is_done_are_two_things() -> None:
    detector = MachineDetector(WAIT)
    assert (detector.decided, detector.done) == (False, False)
    detector.hear(coded(voice(5)))
    assert (detector.decided, detector.done) == (True, False)
    detector.hear(coded(quiet(5)))
    assert (detector.decided, detector.done) == (True, True)
