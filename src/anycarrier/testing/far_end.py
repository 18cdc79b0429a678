"""The telephone at the far end of a sandbox call: it speaks, hears, presses keys and hangs up.

A carrier's sandbox drives it (``answered``, ``ended``); a test holds it and acts. ``CallRecorder`` is the carrier's
recording of the call: both sides on one time line, as WAV.
"""

from __future__ import annotations

import asyncio
import io
import time
import wave
from array import array
from collections.abc import Awaitable, Callable

from anycarrier.audio import pcmu_to_pcm16
from anycarrier.testing.far_end_audio import RATE, Microphone, PlaybackBuffer, keys_heard

PATIENCE = 5.0
"""Seconds in which an agent that greets has begun to."""

QUIET = 0.8
"""Seconds without a sound after which a greeting is over; between two of its sentences there is less."""

STATES = ("ringing", "answered", "ended")


class FarEnd:
    """One leg as the other party has it. ``state`` goes ringing, answered, ended; ``log`` is (seconds, what)."""

    def __init__(
        self,
        call_id: str,
        from_: str,
        to: str,
        *,
        press: Callable[[str], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        silent: bool = False,
        buffer_seconds: float = 600.0,
    ) -> None:
        """``press`` and ``hang_up`` are how the carrier learns what this telephone does."""
        self.call_id = call_id
        self.from_ = from_
        self.to = to
        self.state = "ringing"
        self.hangup_cause: str | None = None
        self.transferred_to: str | None = None
        self.headers: dict[str, str] = {}
        """SIP and custom headers with which the carrier called this party."""
        self.digits = ""
        """Keys our side pressed that the carrier passed on as such (not tones inside the audio)."""
        self.playback = PlaybackBuffer(limit=buffer_seconds)
        self.microphone = Microphone(silent=silent)
        self.log: list[tuple[float, str]] = []
        self._began = time.monotonic()
        self._press = press
        self._hang_up = hang_up
        self._streaming = 0
        self._greeted = False
        self._turn = asyncio.Lock()
        self._past: set[str] = set()
        self._send: Callable[[str | bytes], Awaitable[None]] | None = None
        self.stream_url = ""
        """Where the last media stream was connected, ticket and all: as the password, where it travels in a header."""
        self._news = asyncio.Event()
        self.note("ringing")

    # --- what a test does -----------------------------------------------------------------------------------------

    async def say(self, mulaw: bytes) -> None:
        """Speak mu-law 8 kHz at real-time pace; what is said before the stream is open waits for it."""
        self.note(f"says {len(mulaw) / 8000:.2f} s")
        await self.microphone.say(mulaw)

    async def say_in_turn(self, mulaw: bytes) -> None:
        """Speak once the greeting is over, and after what was said in turn before; nothing when the call ends first."""
        async with self._turn:
            await self.wait_greeted()
            if self.state != "ended":
                await self.say(mulaw)

    async def wait_greeted(self, patience: float = PATIENCE, quiet: float = QUIET) -> None:
        """Wait until our side has greeted: something was played here, and then nothing for ``quiet`` seconds.

        Returns too when an open stream brings nothing for ``patience`` seconds, and when the call ends; at once when
        the greeting has been waited for before.
        """
        while "streaming" not in self._past and self.state != "ended":
            await self._news.wait()
        due = time.monotonic() + patience
        while not self._greeted and self.state != "ended":
            heard = self.playback.seconds
            await asyncio.sleep(quiet if heard else min(quiet, 0.05))
            silent = self.playback.seconds == heard and not self.playback.waiting
            self._greeted = silent and (heard > 0 or time.monotonic() > due)

    async def press(self, digits: str) -> None:
        """Press keys, one after the other."""
        for digit in digits:
            self.note(f"presses {digit}")
            await self._press(digit)

    async def hang_up(self) -> None:
        """Put the receiver down; nothing happens when the call is over already."""
        if self.state != "ended":
            self.note("hangs up")
            await self._hang_up()

    async def wait_for(self, state: str, timeout: float = 20) -> None:
        """Wait until the call is ``answered``, ``streaming`` (its media socket is open) or ``ended``.

        ``TimeoutError`` when it takes longer; ``RuntimeError`` at once when it ended without getting there.
        """

        def there() -> bool:
            if self.state == "ended":
                return True
            if state == "streaming":
                return self._streaming > 0
            return STATES.index(self.state) >= STATES.index(state)

        if state not in (*STATES, "streaming"):
            raise ValueError(f"a far end is never {state!r}")
        async with asyncio.timeout(timeout):
            while not there():
                await self._news.wait()
        if state in ("answered", "streaming") and state not in self._past:
            raise RuntimeError(f"the call ended ({self.hangup_cause}) before it was {state}")

    async def wait_heard(self, seconds: float, timeout: float = 20) -> None:
        """Wait until ``seconds`` of our side's audio were played here."""
        async with asyncio.timeout(timeout):
            await self.playback.played(seconds)

    async def inject(self, message: str | bytes) -> None:
        """Put a message of the test's own on the open media socket, as the carrier: nonsense, mostly."""
        if self._send is None:
            raise RuntimeError("there is no media socket to put it on")
        await self._send(message)

    @property
    def heard(self) -> bytes:
        """Mu-law 8 kHz played to this ear so far, without idle silence."""
        return self.playback.heard

    def heard_seconds(self) -> float:
        """Length of :attr:`heard`."""
        return self.playback.seconds

    def keys_heard(self) -> str:
        """Keys our side sent as tones within the audio played here."""
        return keys_heard(self.heard)

    @property
    def streaming(self) -> bool:
        """True while a media stream of ours is connected."""
        return self._streaming > 0

    # --- what the carrier does ------------------------------------------------------------------------------------

    def answered(self) -> None:
        """The receiver is up."""
        if self.state == "ringing":
            self.state = "answered"
            self.note("answered")

    def ended(self, cause: str) -> None:
        """The call is over, with the carrier's word for why."""
        if self.state == "ended":
            return
        self.state = "ended"
        self.hangup_cause = cause
        self.playback.cut()
        self.microphone.end()
        self.note("ended")

    def stream_opened(self, send: Callable[[str | bytes], Awaitable[None]] | None = None, url: str = "") -> None:
        """A media stream of ours is connected: at ``url``, where ``send`` puts a raw message on the socket."""
        self._streaming += 1
        self._send, self.stream_url = send, url
        self.note("streaming")

    def stream_closed(self) -> None:
        """It is gone, and with it what was still to be played."""
        self._streaming -= 1
        self.playback.cut()
        self.note("stream closed")

    def note(self, what: str) -> None:
        """Write into the log, and wake who waits."""
        self.log.append((time.monotonic() - self._began, what))
        self._past.add(what)
        news, self._news = self._news, asyncio.Event()
        news.set()


class CallRecorder:
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
        far_end.microphone.taps.append(self._said)
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
            self._far_end.microphone.taps.remove(self._said)
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
