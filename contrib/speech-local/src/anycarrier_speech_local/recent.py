"""The last moment of a stream of audio. Pure."""

from __future__ import annotations

from anycarrier.audio import AudioFormat


class Recent:
    """At most ``seconds`` of what was added last, cut at whole samples."""

    def __init__(self, format: AudioFormat, seconds: float) -> None:
        self._sample = format.sample_width * format.channels
        self._limit = round(seconds * format.rate) * self._sample
        self._audio = bytearray()

    def __len__(self) -> int:
        return len(self._audio)

    def add(self, audio: bytes) -> None:
        """The next audio."""
        self._audio += audio
        excess = len(self._audio) - self._limit
        if excess > 0:
            # Rounded up to whole samples: what is kept begins where a sample does.
            del self._audio[: excess + -excess % self._sample]

    def read(self) -> bytes:
        """What is kept."""
        return bytes(self._audio)

    def take(self) -> bytes:
        """What is kept, which is then kept no more."""
        audio = bytes(self._audio)
        self._audio.clear()
        return audio
