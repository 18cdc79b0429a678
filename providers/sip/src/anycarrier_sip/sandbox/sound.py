"""The sound of one call: RTP from and to a loopback port, PCMU or PCMA in 20 ms frames, keys as RFC 4733 events."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from anycarrier.audio import pcma_to_pcmu, pcmu_to_pcma
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.far_end_audio import FRAME, FRAME_SECONDS
from anycarrier_sip.sandbox.datagrams import Datagrams
from anycarrier_sip.sandbox.formats import Session

HEADER = struct.Struct(">BBHII")
EVENT = struct.Struct(">BBH")
KEYS = "0123456789*#ABCD"
KEY_FRAMES, KEY_ENDS, KEY_PAUSE = 5, 3, 0.06
"""Frames that a key lasts, how often its end is told (RFC 4733, section 2.5.1.4), and seconds before the next."""

PCMA = 8


class Sound:
    """Between the far end's ear and mouth and a socket. What is pure silence there counts as nothing heard."""

    def __init__(self, far_end: FarEnd, quirks: set[str]) -> None:
        self.far_end = far_end
        self.datagrams = Datagrams(self._received, quirks)
        self.remote: Session | None = None
        self.muted = False
        """We are on hold, or hold the other side: nothing is sent."""
        self.cut = False
        """Nothing is sent or heard any more, and nobody was told."""
        self._sequence, self._ssrc = secrets.randbits(15), secrets.randbits(32)
        self._clock = asyncio.get_running_loop().time
        self._began: float | None = None
        """When the first frame was due."""
        self._timestamp = self._first = secrets.randbits(31)
        self._due: float | None = None
        self._event_heard: int | None = None
        self._key = asyncio.Lock()
        self._speaking: asyncio.Task[None] | None = None
        far_end.microphone.taps.append(self._spoken)

    def connect(self, remote: Session, start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        """Exchange sound with ``remote`` from now on, for the first time or anew."""
        self.remote = remote
        self.muted = remote.direction in ("sendonly", "inactive")
        if self._speaking is None:
            self._speaking = start(self.far_end.microphone.speak(self._speak))
            self.far_end.stream_opened(self._inject)

    def close(self) -> None:
        """No more of it; closing twice is harmless."""
        self.remote = None
        if self._speaking is not None:
            self._speaking.cancel()
            self._speaking = None
            self.far_end.stream_closed()
        self.datagrams.close()

    def move(self) -> None:
        """Take another port; the other side has to be told."""
        self.datagrams.close()
        self.datagrams = Datagrams(self._received, self.datagrams.quirks)

    async def press(self, digit: str) -> None:
        """Press a key; returns a moment after it was let go. Meanwhile nothing else is sent."""
        async with self._key:
            timestamp = self._timestamp_at(self._clock())
            for frame in range(1, KEY_FRAMES + 1):
                self._send_event(digit, frame, timestamp, frame * FRAME)
                await asyncio.sleep(FRAME_SECONDS)
            for _ in range(KEY_ENDS):
                self._send_event(digit, 0, timestamp, (KEY_FRAMES + 1) * FRAME)
            await asyncio.sleep(KEY_PAUSE)

    async def _inject(self, message: str | bytes) -> None:
        if self.remote is not None:
            data = message.encode() if isinstance(message, str) else message
            self.datagrams.send(data[:60_000], (self.remote.host, self.remote.port))

    # --- out ----------------------------------------------------------------------------------------------------------

    def _spoken(self, due: float, frame: bytes) -> None:
        self._due = due

    def _speak(self, frame: bytes) -> None:
        """Every 20 ms, but for pauses of a far end that sends no silence; the timestamp counts those too."""
        before, due, self._due = self._timestamp, self._due, None
        if self._began is None:
            due = self._clock()
        self._timestamp = before + FRAME if due is None else self._timestamp_at(due)
        if self.remote is not None and not self._key.locked():
            payload = pcmu_to_pcma(frame) if self.remote.payload_type == PCMA else frame
            self._send(self.remote.payload_type, self._timestamp, payload, self._timestamp - before >= 2 * FRAME)

    def _timestamp_at(self, when: float) -> int:
        if self._began is None:
            self._began = when - FRAME_SECONDS
        return self._first + round((when - self._began) * 8000)

    def _send_event(self, digit: str, frame: int, timestamp: int, duration: int) -> None:
        if self.remote is not None and self.remote.events >= 0:
            told = EVENT.pack(KEYS.index(digit.upper()), 10 if frame else 0x80 | 10, duration)
            self._send(self.remote.events, timestamp, told, frame == 1)

    def _send(self, payload_type: int, timestamp: int, payload: bytes, marker: bool) -> None:
        if self.remote is None or self.muted or self.cut:
            return
        self._sequence += 1
        second = payload_type | (0x80 if marker else 0)
        header = HEADER.pack(0x80, second, self._sequence & 0xFFFF, timestamp & 0xFFFFFFFF, self._ssrc)
        self.datagrams.send(header + payload, (self.remote.host, self.remote.port))

    # --- in -----------------------------------------------------------------------------------------------------------

    def _received(self, data: bytes, source: tuple[str, int]) -> None:
        remote = self.remote
        if remote is None or self.cut or len(data) < HEADER.size or source != (remote.host, remote.port):
            return
        first, second, _, timestamp, _ = HEADER.unpack_from(data)
        payload = data[HEADER.size + 4 * (first & 0x0F) :]
        if first >> 6 != 2 or 200 <= second <= 204:  # RTCP, on the same port (RFC 5761)
            return
        if second & 0x7F == remote.payload_type:
            mulaw = pcma_to_pcmu(payload) if remote.payload_type == PCMA else payload
            if mulaw.strip(b"\xff"):
                self.far_end.playback.play(mulaw)
        elif second & 0x7F == remote.events and len(payload) >= EVENT.size and timestamp != self._event_heard:
            self._event_heard = timestamp
            self.far_end.digits += KEYS[payload[0]]
