"""From WAV to MP3, a second at a time."""

from __future__ import annotations

import wave
from pathlib import Path

KBPS = 32
"""Enough for two telephone channels."""


def wav_to_mp3(source: Path, target: Path) -> None:
    """Encode a PCM16 WAV. ``ImportError`` when no encoder is installed. Takes a while: not for the event loop."""
    import lameenc  # type: ignore[import-not-found]

    with wave.open(str(source), "rb") as wav, target.open("wb") as out:
        encoder = lameenc.Encoder()
        encoder.silence()
        encoder.set_bit_rate(KBPS)
        encoder.set_in_sample_rate(wav.getframerate())
        encoder.set_channels(wav.getnchannels())
        encoder.set_quality(5)
        frames = wav.readframes(wav.getframerate()) or bytes(wav.getnchannels() * wav.getsampwidth() * 1152)
        while frames:  # one frame of silence at least: the encoder has no word for nothing
            out.write(bytes(encoder.encode(frames)))
            frames = wav.readframes(wav.getframerate())
        out.write(bytes(encoder.flush()))
