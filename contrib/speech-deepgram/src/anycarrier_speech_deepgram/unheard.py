"""Audio that was sent and not turned into final words yet: what a new connection has to hear again. Pure."""

from __future__ import annotations

from anycarrier.audio import AudioFormat


class Unheard:
    """At most ``seconds`` of the latest audio. Positions are seconds of the current connection's audio."""

    def __init__(self, format: AudioFormat, seconds: float) -> None:
        self._format = format
        self._frame = format.sample_width * format.channels
        self._limit = round(seconds * format.rate) * self._frame
        self._audio = bytearray()
        self._begins = 0  # bytes of this connection before what is kept

    def __len__(self) -> int:
        return len(self._audio)

    def sent(self, audio: bytes) -> None:
        """More was sent."""
        self._audio += audio
        self._drop(len(self._audio) - self._limit)

    def heard(self, until: float) -> None:
        """Everything before ``until`` is in final words."""
        self._drop(round(until * self._format.rate) * self._frame - self._begins)

    def take(self) -> bytes:
        """What a new connection must be sent first; it counts as not sent, and positions begin anew."""
        audio = bytes(self._audio)
        self._audio.clear()
        self._begins = 0
        return audio

    def _drop(self, size: int) -> None:
        if size > 0:
            size = min(size + -size % self._frame, len(self._audio))
            del self._audio[:size]
            self._begins += size
