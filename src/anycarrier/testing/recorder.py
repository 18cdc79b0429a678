"""A carrier's recording of one call: both sides laid on one time line, as WAV."""

from __future__ import annotations

import asyncio
import io
import wave
from array import array

from anycarrier.audio import pcmu_to_pcm16
from anycarrier.testing.far_end import FarEnd

RATE = 8000


class Recorder:
    """Records a far end from now until :meth:`stop`: what it says (left) and what it hears (right)."""

    def __init__(self, far_end: FarEnd) -> None:
        self._far_end = far_end
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._ended: float | None = None
        self.paused = False
        """While True, silence is laid down instead of sound."""
        self._pieces: tuple[list[tuple[float, bytes]], list[tuple[float, bytes]]] = ([], [])
        far_end.playback.waiting  # noqa: B018  what was played before now is settled, and not recorded
        far_end.voice.taps.append(self._said)
        far_end.playback.taps.append(self._heard)

    def _said(self, when: float, piece: bytes) -> None:
        if not self.paused:
            self._pieces[0].append((when, piece))

    def _heard(self, when: float, piece: bytes) -> None:
        if not self.paused:
            self._pieces[1].append((when, piece))

    def stop(self) -> None:
        """Record no more; a second time changes nothing."""
        if self._ended is None:
            self._far_end.playback.waiting  # noqa: B018  settles what was played up to now
            self._ended = self._clock()
            self._far_end.voice.taps.remove(self._said)
            self._far_end.playback.taps.remove(self._heard)

    @property
    def seconds(self) -> float:
        """Length of the recording so far."""
        return (self._ended if self._ended is not None else self._clock()) - self._began

    def wav(self, channels: int = 2) -> bytes:
        """16-bit 8 kHz WAV: two channels (said, heard), or one with both mixed."""
        size = max(0, round(self.seconds * RATE))
        left, right = (self._lay(pieces, size) for pieces in self._pieces)
        if channels == 2:
            samples = array("h", bytes(4 * size))
            samples[0::2], samples[1::2] = left, right
        else:
            samples = array("h", (max(-32768, min(32767, a + b)) for a, b in zip(left, right, strict=True)))
        out = io.BytesIO()
        with wave.open(out, "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples.tobytes())
        return out.getvalue()

    def _lay(self, pieces: list[tuple[float, bytes]], size: int) -> array[int]:
        track = array("h", bytes(2 * size))
        for when, piece in pieces:
            start = round((when - self._began) * RATE)
            sound = array("h", pcmu_to_pcm16(piece))
            if start < 0:
                sound, start = sound[-start:], 0
            sound = sound[: max(0, size - start)]
            track[start : start + len(sound)] = sound
        return track
