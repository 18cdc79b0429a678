"""How often the local answering-machine detection is wrong, on synthetic greetings: by kind, by level and by noise.

The voices are flite's and espeak's, the lines telephone audio (PCMU) at levels from -16 to -34 dB of full scale, with
white noise from none to 12 dB below the voice. People say a word or a sentence and wait; machines play a greeting, then
most of them a beep. What this says of real people and machines is not known: nobody real was recorded.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import tempfile
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from result import Result, parser, percentile

from anycarrier.audio import PCM16_8K, PCMU_8K, AudioFormat, Transcoder, pcm16_to_pcmu
from anycarrier.calls import MachineDetection
from anycarrier.machine_detection import MachineDetector, Verdict
from anycarrier.wav import read_wav

PEOPLE = {
    "a word": ["Hello?", "Hi!", "Yes?", "Hello, hello?", "Good morning."],
    "a name": ["Hello, this is Anna.", "Miller speaking.", "Jones residence.", "Yes, Robert here."],
    "a sentence": [
        "Good morning, this is Anna speaking.", "Hello, who is calling please?",
        "Smith and sons, how can I help?", "This is the front desk, Robert speaking.",
    ],
    "two sentences": [
        "Good afternoon, thank you for calling Miller and sons. My name is Anna, how may I help you?",
        "Welcome to the grand hotel, this is the front desk, Robert speaking. What can I do for you?",
    ],
}  # fmt: skip
MACHINES = {
    "short": ["This is Anna. Leave a message.", "You have reached Robert. Speak after the tone."],
    "usual": [
        "Hi, this is Anna. I can't come to the phone right now. Please leave a message after the tone.",
        "You have reached the voice mailbox of five five five, zero one four seven. "
        "The person you are calling is not available. Please record your message after the beep.",
        "Hello. You've reached the Millers. We are not at home. Leave your name and number, and we will call you back.",
    ],
    "long": [
        "Thank you for calling Miller and sons. Our office hours are Monday to Friday, nine to five. "
        "Our office is closed at the moment. If this is an emergency, please hang up and call our hotline. "
        "Otherwise, please leave your name, your telephone number and a short message after the tone. "
        "We will return your call on the next working day. Thank you, and have a nice day.",
    ],
}
PLAIN_PEOPLE, PLAIN_MACHINES = ("a word", "a name", "a sentence"), ("usual", "long")
"""Those whose length tells them apart."""
LEVELS = (-16.0, -22.0, -28.0, -34.0)
NOISES: tuple[float | None, ...] = (None, -30.0, -20.0, -12.0)
"""Decibels below the voice."""
TONES = (440.0, 620.0, 800.0, 1000.0, 1330.0, 1400.0, 1850.0, 2000.0)
LISTENED = 50.0
"""Seconds that each line is listened to, by which all is decided."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line to listen to. Times are seconds from the answer; ``beep_ends`` is None where there is no beep."""

    sound: bytes
    speech_ends: float
    beep_ends: float | None


def voices() -> list[str]:
    """``flite:NAME`` and ``espeak:NAME``, whichever are installed."""
    found = [f"flite:{name}" for name in ("awb", "rms", "slt", "kal")] if shutil.which("flite") else []
    try:
        import anycarrier_speech_local.espeak  # noqa: F401
    except ImportError:
        return found
    return [*found, "espeak:en-us", "espeak:en-us+f2", "espeak:en-us+m3"]


@cache
def spoken(voice: str, text: str) -> array[float]:
    """The text in that voice, without the silence around it, at a level of 0 dB of full scale."""
    engine, _, name = voice.partition(":")
    if engine == "flite":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "speech.wav")
            subprocess.run(["flite", "-voice", name, "-t", text, "-o", str(path)], check=True)
            format, pcm = read_wav(path)
    else:
        from anycarrier_speech_local.espeak import espeak_library

        library, pieces = espeak_library(), list[bytes]()
        library.synthesize(text, name, 1.0, lambda samples: pieces.append(samples) or True)
        format, pcm = AudioFormat("PCM16", library.rate), b"".join(pieces)
    telephone = Transcoder(format, PCM16_8K)
    samples = array("h", telephone.convert(pcm) + telephone.flush())
    loud = [at for at, sample in enumerate(samples) if abs(sample) > 300]
    samples = samples[loud[0] : loud[-1] + 1]
    level = math.sqrt(sum(s * s for s in samples) / len(samples))
    return array("d", (s / level for s in samples))


@cache
def noise() -> array[float]:
    """Ten seconds of white noise at 0 dB."""
    rolls = random.Random(8)
    return array("d", (rolls.gauss(0.0, 1.0) for _ in range(80_000)))


def line(text: str, rolls: random.Random, *, machine: bool) -> Line:
    """One line with this text; the voice, the level, the noise, the pauses and the beep are ``rolls``' to choose."""
    level = 10 ** (rolls.choice(LEVELS) / 20) * 32768
    beneath = rolls.choice(NOISES)
    before = rolls.uniform(0.05, 1.5)
    sound = array("d", bytes(8 * int(before * 8000)))
    sound.extend(s * level for s in spoken(rolls.choice(voices()), text))
    speech_ends, beep_ends = len(sound) / 8000, None
    if machine and rolls.random() < 0.85:
        sound.extend(array("d", bytes(8 * int(rolls.uniform(0.05, 1.8) * 8000))))
        step = 2 * math.pi * rolls.choice(TONES) / 8000
        peak = level * 10 ** (rolls.uniform(-6.0, 3.0) / 20) * math.sqrt(2)
        sound.extend(peak * math.sin(step * n) for n in range(int(rolls.uniform(0.16, 0.9) * 8000)))
        beep_ends = len(sound) / 8000
    sound.extend(array("d", bytes(8 * (int(LISTENED * 8000) - len(sound)))))
    if beneath is not None:
        hiss, scale, begin = noise(), level * 10 ** (beneath / 20), rolls.randrange(80_000)
        sound = array("d", (s + scale * hiss[(n + begin) % 80_000] for n, s in enumerate(sound)))
    clipped = array("h", (max(-32768, min(32767, round(s))) for s in sound))
    return Line(pcm16_to_pcmu(clipped.tobytes()), speech_ends, beep_ends)


def judged(heard: Line) -> list[tuple[float, Verdict]]:
    """The verdicts on a line, each with its time."""
    detector, found = MachineDetector(MachineDetection.WAIT_FOR_BEEP, PCMU_8K), list[tuple[float, Verdict]]()
    for at in range(0, len(heard.sound), 160):
        found += ((at / 8000 + 0.02, verdict) for verdict in detector.hear(heard.sound[at : at + 160]))
        if detector.done:
            break
    return found


class Tally:
    """What was said of the lines of one kind."""

    def __init__(self) -> None:
        self.said: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.times = list[float]()
        self.late = list[float]()
        """Seconds from the end of a beep to its verdict."""

    def note(self, heard: Line, found: list[tuple[float, Verdict]]) -> None:
        """Count the verdicts on one line."""
        self.said[found[0][1].answered_by if found else "nothing"] += 1
        self.times += [found[0][0]] if found else []
        at, last = found[-1]
        if not last.greeting_ended:
            return
        expected = heard.beep_ends is not None
        if at < (heard.beep_ends or heard.speech_ends):
            self.ends["early"] += 1
        else:
            self.ends["right" if last.beep == expected else "wrong"] += 1
            self.late += [at - heard.beep_ends] if heard.beep_ends is not None and last.beep else []

    def row(self, kind: str, right: str) -> list[str]:
        lines = self.said.total()
        wrong = self.said[{"human": "machine", "machine": "human"}[right]]
        told = [self.said[right], wrong, lines - self.said[right] - wrong]
        ends = self.ends.total()
        shares = [f"{self.ends['right'] / ends:.1%}", f"{self.ends['early'] / ends:.1%}"] if ends else ["-", "-"]
        if right == "human":
            shares = ["-", "-"]
        who = (f"{count / lines:.1%}" for count in told)
        return [kind, str(lines), *who, f"{percentile(self.times, 0.5):.1f}", *shares]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--each", type=int, default=150, help="lines of each kind")
    chosen = options.parse_args()
    if not voices():
        raise SystemExit("no voice: apt-get install flite, or pip install anycarrier-speech-local")
    rolls = random.Random(14)
    rows, tallies, spent = list[list[str]](), dict[str, Tally](), 0.0
    for who, right, kinds in (("person", "human", PEOPLE), ("machine", "machine", MACHINES)):
        for kind, texts in kinds.items():
            tally = tallies[kind] = Tally()
            for number in range(chosen.each):
                heard = line(texts[number % len(texts)], rolls, machine=who == "machine")
                begin = time.process_time()
                found = judged(heard)
                if found:
                    spent = max(spent, (time.process_time() - begin) / found[-1][0])
                tally.note(heard, found)
            rows.append(tally.row(f"{who}: {kind}", right))
    people = [tallies[kind].said["human"] / chosen.each for kind in PLAIN_PEOPLE]
    machines = [tallies[kind].said["machine"] / chosen.each for kind in PLAIN_MACHINES]
    ends = [tallies[kind].ends["right"] / max(1, tallies[kind].ends.total()) for kind in PLAIN_MACHINES]
    late = [each for tally in tallies.values() for each in tally.late]
    Result(
        name="machines",
        bound="people of one sentence at most, machines of the usual length, and its end: right in 95 % of the lines",
        kept=min(people + machines + ends) >= 0.95,
        columns=["who: what is said", "lines", "right", "wrong", "unknown", "median s", "end right", "end early"],
        rows=rows,
        figures={"people": min(people), "machines": min(machines), "ends": min(ends), "late": max(late, default=0.0)},
        notes=[
            "Synthetic voices on synthetic lines: of people and of real machines it says nothing. A person who greets",
            "in two sentences talks as long as a machine, and a machine of four words as long as a person: length does",
            f"not tell them apart. A beep's end was told at most {max(late, default=0.0):.2f} s late. Listening took",
            f"at most {spent:.2%} of a core, until the end of the greeting.",
        ],
    ).report(chosen)


if __name__ == "__main__":
    main()
