"""What a telephone line makes of a recording, and the sounds without words that come over one. Needs numpy.

Recordings are 8 kHz. A line adds background at a ratio to the active speech, loses frames in bursts, and codes the rest
as mu-law; everything random is drawn from a seed, so each run hears the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anycarrier.audio import pcm16_to_pcmu, pcmu_to_pcm16
from anycarrier.testing.far_end_audio import key_tone, tone
from anycarrier.wav import read_wav

Sound = npt.NDArray[np.float32]

RATE = 8000
FRAME = 160
BURST = 2.0
"""Frames that a burst of loss lasts on average."""
ACTIVE = -20.0
"""dB below a recording's loudest frames, above which a frame counts as speech."""
NIGH_SILENT = -25.0
"""dB below the active level, below which a recording's end counts as silence."""


@dataclass(frozen=True)
class Clip:
    """A recording of a person: ``text`` is what was said, or else ``slots`` are values that were."""

    name: str
    sound: Sound
    text: str = ""
    slots: tuple[str, ...] = ()

    @property
    def end(self) -> float:
        """Seconds at which the speech ends."""
        loudness = frames_db(self.sound)
        return float((np.flatnonzero(loudness > active_db(self.sound) + NIGH_SILENT)[-1] + 1) * FRAME / RATE)


def read_clips(folder: Path) -> list[Clip]:
    """The clips that ``clips.json`` in the folder lists."""
    listed: list[dict[str, Any]] = json.loads((folder / "clips.json").read_text())
    return [
        Clip(one["id"], read(folder / f"{one['id']}.wav"), one.get("text") or "", tuple(one.get("slots") or ()))
        for one in listed
    ]


def read(path: Path) -> Sound:
    """A WAV file of 8 kHz as samples from -1 to 1."""
    format, pcm = read_wav(path)
    assert (format.encoding, format.rate) == ("PCM16", RATE), f"{path} is not PCM16 of {RATE} Hz"
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768


def mulaw(sound: Sound) -> bytes:
    """``sound`` as it travels."""
    return pcm16_to_pcmu((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def frames_db(sound: Sound) -> Sound:
    """The level of each 20 ms."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    return np.asarray(10 * np.log10((frames.astype(np.float64) ** 2).mean(axis=1) + 1e-12), np.float32)


def active_db(sound: Sound) -> float:
    """The level of the speech in a recording, its pauses left out."""
    levels = frames_db(sound)
    levels = levels[levels > np.quantile(levels, 0.95) + ACTIVE]
    return float(10 * np.log10((10 ** (levels / 10)).mean()))


def line(clip: Clip, clips: list[Clip], *, noise: float | None = None, loss: float = 0.0, after: float = 1.5,
         seed: int = 0) -> bytes:  # fmt: skip
    """``clip`` as the called side receives it: half a second of silence, the speech, ``after`` seconds of silence.

    ``noise``: decibels by which the speech is louder than babble and pink noise; ``loss``: percent of the frames.
    """
    rng = np.random.default_rng(seed)
    sound = np.concatenate([np.zeros(RATE // 2, np.float32), clip.sound, np.zeros(round(after * RATE), np.float32)])
    if noise is not None:
        background = unit(babble(clips, len(sound), rng)) + unit(pink(len(sound), rng))
        sound = sound + unit(background) * 10 ** ((active_db(clip.sound) - noise) / 20)
    coded = bytearray(mulaw(sound))
    for at in lost_frames(len(coded) // FRAME, loss, rng):
        coded[at * FRAME : (at + 1) * FRAME] = b"\xff" * FRAME
    return bytes(coded)


def lost_frames(frames: int, percent: float, rng: np.random.Generator) -> Iterator[int]:
    """Which frames a line loses: a chain of two states, whose bursts last two frames on average."""
    begin = percent / 100 / BURST / (1 - percent / 100)
    lost = False
    for at in range(frames):
        lost = bool(rng.random() < (1 - 1 / BURST if lost else begin))
        if lost:
            yield at


def unit(sound: Sound) -> Sound:
    """``sound`` at a root mean square of 1."""
    return np.asarray(sound / np.sqrt((sound.astype(np.float64) ** 2).mean() + 1e-12), np.float32)


def pink(length: int, rng: np.random.Generator) -> Sound:
    """Noise whose power falls by 3 dB an octave."""
    spectrum = np.fft.rfft(rng.normal(size=length))
    return np.asarray(np.fft.irfft(spectrum / np.sqrt(np.arange(1, len(spectrum) + 1)), length), np.float32)


def babble(clips: list[Clip], length: int, rng: np.random.Generator) -> Sound:
    """Six people at once, backwards, so that there is a voice and no word."""
    voices = [clips[at] for at in rng.choice(len(clips), min(6, len(clips)), replace=False)]
    turned = (np.roll(unit(voice.sound[::-1]), int(rng.integers(len(voice.sound)))) for voice in voices)
    return np.asarray(sum(np.resize(voice, length) for voice in turned), np.float32)


# --- sounds without words ---------------------------------------------------------------------------------------------

SECONDS = (1.0, 2.0, 4.0)


def wordless(clips: list[Clip]) -> dict[str, Sound]:
    """54 sounds without words, by name: 18 kinds of 1, 2 and 4 seconds."""
    found: dict[str, Sound] = {}
    for kind, make in _KINDS.items():
        for seconds in SECONDS:
            rng = np.random.default_rng(len(found))
            found[f"{kind} {seconds:g} s"] = make(round(seconds * RATE), rng, clips)
    return found


Maker = Callable[[int, np.random.Generator, list[Clip]], Sound]


def _level(db: float, sound: Sound) -> Sound:
    return np.asarray(unit(sound) * 10 ** (db / 20), np.float32)


def _tones(*frequencies: float, on: float = 9.0, off: float = 0.0) -> Maker:
    def make(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
        times = np.arange(length) / RATE
        sound = sum(np.sin(2 * np.pi * frequency * times) for frequency in frequencies)
        return np.asarray(0.1 * sound * (times % (on + off) < on), np.float32)

    return make


def _noise(db: float, color: Callable[[int, np.random.Generator], Sound]) -> Maker:
    return lambda length, rng, clips: _level(db, color(length, rng))


def _white(length: int, rng: np.random.Generator) -> Sound:
    return rng.normal(size=length).astype(np.float32)


def _keys(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    """Keys, ten a second by turns on and off."""
    keys = b"".join(key_tone(digit) + tone(0.1) for digit in "5550132*8#")
    return np.resize(np.frombuffer(pcmu_to_pcm16(keys), "<i2").astype(np.float32) / 32768, length)


def _music(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    """Four chords in turn, each note with five harmonics that die away."""
    beat, sound = RATE // 2, np.zeros(length + RATE, np.float32)
    times = np.arange(beat) / RATE
    for number, start in enumerate(range(0, length, beat)):
        root = (261.6, 220.0, 349.2, 392.0)[number % 4]
        for note in (1.0, 1.26, 1.5):
            partials = sum(np.sin(2 * np.pi * root * note * k * times) / k for k in range(1, 6))
            sound[start : start + beat] += partials * np.exp(-3 * times)
    return _level(-22, sound[:length])


def _guitar(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    """Plucked strings (Karplus and Strong): a delay line of noise that is averaged as it goes round."""
    sound = np.zeros(length + 2 * RATE, np.float32)
    for number, start in enumerate(range(0, length, RATE // 4)):
        period = round(RATE / (82.4 * 2 ** ((0, 7, 12, 16, 19, 12)[number % 6] / 12)))
        string = rng.uniform(-1, 1, period)
        for at in range(start, min(start + RATE, length), period):
            sound[at : at + period] += string
            string = 0.996 * 0.5 * (string + np.roll(string, 1))
    return _level(-22, sound[:length])


def _cough(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    """Bursts of noise that rise in 10 ms and die away in 100, low like a throat."""
    sound = np.zeros(length + RATE, np.float32)
    times = np.arange(RATE // 2) / RATE
    shape = np.minimum(times / 0.01, 1.0) * np.exp(-times / 0.1)
    for start in range(RATE // 5, length, round(RATE * 0.7)):
        burst = np.convolve(rng.normal(size=len(times)), np.ones(6) / 6, "same")
        sound[start : start + len(times)] += burst * shape
    return _level(-25, sound[:length])


def _crowd(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    return _level(-25, babble(clips, length, rng))


def _backwards(length: int, rng: np.random.Generator, clips: list[Clip]) -> Sound:
    """One person, backwards: a voice without words, and the hardest of all."""
    return np.resize(clips[int(rng.integers(len(clips)))].sound[::-1], length)


_KINDS: dict[str, Maker] = {
    "silence": lambda length, rng, clips: np.zeros(length, np.float32),
    **{f"pink noise {db} dB": _noise(db, pink) for db in (-50, -40, -30)},
    **{f"white noise {db} dB": _noise(db, _white) for db in (-50, -40, -30)},
    "hum": _tones(60.0, 120.0, 180.0),
    "ringback": _tones(440.0, 480.0, on=2.0, off=4.0),
    "dial tone": _tones(350.0, 440.0),
    "busy tone": _tones(480.0, 620.0, on=0.5, off=0.5),
    "1 kHz": _tones(1000.0),
    "keys": _keys,
    "music": _music,
    "guitar": _guitar,
    "cough": _cough,
    "crowd backwards": _crowd,
    "voice backwards": _backwards,
}
