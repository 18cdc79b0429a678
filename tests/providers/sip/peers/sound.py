"""Tones to say, and how much of a tone is in what was heard."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

RATE = 8000


def tone(frequency: float, seconds: float, level: float = 0.3) -> bytes:
    """A sine as linear PCM, 16 bits, 8 kHz."""
    times = np.arange(int(RATE * seconds)) / RATE
    return bytes((np.sin(2 * np.pi * frequency * times) * level * 32767).astype("<i2"))


def write_wav(path: Path, pcm: bytes) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)


@dataclass
class Sound:
    samples: Any

    @classmethod
    def of(cls, source: Path | bytes) -> Sound:
        if isinstance(source, Path):
            with wave.open(str(source)) as file:
                assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
                source = file.readframes(file.getnframes())
        return cls(np.frombuffer(source, "<i2").astype(float))

    @classmethod
    def both(cls, path: Path) -> tuple[Sound, Sound]:
        """The two sides of a stereo recording."""
        with wave.open(str(path)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, RATE)
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(float)
        return cls(samples[0::2]), cls(samples[1::2])

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE

    def between(self, start: float, end: float) -> Sound:
        return Sound(self.samples[int(start * RATE) : int(end * RATE)])

    def loud(self, level: float = 300) -> Sound:
        """From the first to the last 20 ms that are not silence."""
        frames = self.samples[: len(self.samples) // 160 * 160].reshape(-1, 160)
        found = np.nonzero(np.sqrt((frames**2).mean(axis=1)) > level)[0] if len(frames) else []
        return Sound(self.samples[found[0] * 160 : (found[-1] + 1) * 160]) if len(found) else Sound(self.samples[:0])

    def silence_before(self, level: float = 300) -> float:
        """Seconds until something is heard."""
        loud = np.nonzero(np.abs(self.samples) > level)[0]
        return float(loud[0]) / RATE if len(loud) else self.seconds

    def share(self, frequency: float) -> float:
        """How much of its energy is this tone's, from 0 to 1, judged 100 ms by 100 ms, whatever the phase."""
        ours = whole = 0.0
        times = np.arange(800) / RATE
        waves = np.array([np.sin(2 * np.pi * frequency * times), np.cos(2 * np.pi * frequency * times)])
        for start in range(0, len(self.samples) - 799, 800):
            part = self.samples[start : start + 800]
            ours += float(((waves @ part) ** 2).sum() / 400)
            whole += float((part**2).sum())
        return ours / whole if whole else 0.0
