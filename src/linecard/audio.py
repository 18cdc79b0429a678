"""Telephone audio: formats, G.711 and linear PCM conversion, streaming resampling."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """An audio format by its RTP encoding name (RFC 3551), e.g. ``AudioFormat("PCMU", 8000)``.

    ``L16`` is big-endian, as on the wire; ``PCM16`` is our name for native little-endian 16-bit samples,
    the form speech engines and WAV files use.
    """

    encoding: str = "PCMU"
    rate: int = 8000
    channels: int = 1

    @property
    def sample_width(self) -> int:
        """Bytes per sample of one channel."""
        return 2 if self.encoding in ("L16", "PCM16") else 1

    @property
    def bytes_per_second(self) -> int:
        """Bytes in one second of audio."""
        return self.rate * self.channels * self.sample_width

    def seconds(self, size: int) -> float:
        """How long ``size`` bytes sound."""
        return size / self.bytes_per_second


PCMU_8K = AudioFormat("PCMU", 8000)
PCMA_8K = AudioFormat("PCMA", 8000)
L16_8K = AudioFormat("L16", 8000)
L16_16K = AudioFormat("L16", 16000)
PCM16_8K = AudioFormat("PCM16", 8000)
PCM16_16K = AudioFormat("PCM16", 16000)
