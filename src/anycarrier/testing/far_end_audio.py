"""Audio at the far end of a sandbox call: what is played there, what is spoken there, and tones made and recognised.

``PlaybackBuffer`` queues audio sent to the carrier, plays it in real time and reports marks. Positions come from a
clock, not from counted sleeps: audio queued at t has byte n played at t + n / rate, however late a timer fires.
``clear`` drops the unplayed rest and reports all pending marks at once, as carriers do. ``Microphone`` sends a frame
every 20 ms, silence when nobody speaks, as a carrier's stream does.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

from anycarrier.audio import pcm16_to_pcmu, pcmu_to_pcm16


class Timer(Protocol):
    """A pending call, as ``loop.call_at`` returns it."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The two methods of an event loop that a playback needs; tests bring a clock of their own."""

    def time(self) -> float: ...

    def call_at(self, when: float, callback: Callable[[], None], /) -> Timer: ...


class PlaybackBuffer:
    """The buffer between our side's audio frames and the far end's ear, for one call.

    ``rate`` is in bytes a second, and ``sample`` the bytes that are played together. ``limit`` is how many seconds may
    wait unplayed; more is refused by :meth:`play`.
    """

    def __init__(
        self, *, rate: int = 8000, sample: int = 1, limit: float = 600.0, clock: Clock | None = None
    ) -> None:
        self.rate = rate
        self.sample = sample
        self.limit = limit
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._heard = bytearray()
        self._waiting = bytearray()
        self._epoch = 0.0
        self._marks: deque[tuple[int, Callable[[], None]]] = deque()  # (place in all audio ever accepted, told)
        self._timer: Timer | None = None
        self._changed = asyncio.Event()
        self.taps: list[Callable[[float, bytes], None]] = []
        """Told of every piece played: when its first byte sounded (clock time), and the piece."""
        self.cleared = 0
        """Bytes dropped unplayed by :meth:`clear` so far."""

    # --- the carrier's side ---------------------------------------------------------------------------------------

    def play(self, payload: bytes) -> bool:
        """Queue audio; False when the buffer is full and it was dropped."""
        self._settle()
        if len(self._waiting) + len(payload) > self.limit * self.rate:
            return False
        if not self._waiting:
            self._epoch = self._clock.time()
        self._waiting += payload
        self._tell()
        self._arm()
        return True

    def mark(self, reached: Callable[[], None]) -> None:
        """Call ``reached`` once everything queued so far was played: at once when nothing waits."""
        self._settle()
        if not self._waiting:
            reached()
            return
        self._marks.append((len(self._heard) + len(self._waiting), reached))
        self._arm()

    def clear(self) -> None:
        """Drop what was not played; every pending mark is told now, in order."""
        self._settle()
        self.cleared += len(self._waiting)
        self._waiting.clear()
        self._tell()
        marks, self._marks = self._marks, deque()
        self._arm()
        for _, reached in marks:
            reached()

    def cut(self) -> None:
        """The stream is cut: what was not played never will be, and marks are told no more."""
        self._settle()
        self._waiting.clear()
        self._marks.clear()
        self._arm()
        self._tell()

    # --- the far end's side ---------------------------------------------------------------------------------------

    @property
    def heard(self) -> bytes:
        """All audio played so far; the silence in between is left out."""
        self._settle()
        return bytes(self._heard)

    @property
    def seconds(self) -> float:
        """How much was played so far."""
        self._settle()
        return len(self._heard) / self.rate

    @property
    def waiting(self) -> float:
        """Seconds queued and not played yet."""
        self._settle()
        return len(self._waiting) / self.rate

    async def drained(self) -> None:
        """Wait until nothing waits to be played (played or cleared)."""
        while self.waiting:
            await self._news(len(self._waiting))

    async def played(self, seconds: float) -> None:
        """Wait until ``seconds`` in all were played."""
        need = round(seconds * self.rate)
        while (missing := need - len(self.heard)) > 0:
            await self._news(missing)

    async def _news(self, missing: int) -> None:
        """Wait until ``missing`` more bytes should have been played, or something else happened."""
        self._changed.clear()
        due = self._epoch + missing / self.rate - self._clock.time()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), due if missing <= len(self._waiting) else None)

    # --- the clock ------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Move what was played by now from waiting to heard."""
        if not self._waiting:
            return
        # A timer may fire a hair early; a microsecond's grace keeps the mark it was set for from being missed.
        played = min(int((self._clock.time() - self._epoch) * self.rate + 1e-3), len(self._waiting))
        played -= played % self.sample
        if played > 0:
            piece = bytes(self._waiting[:played])
            self._heard += piece
            for tap in self.taps:
                tap(self._epoch, piece)
            del self._waiting[:played]
            self._epoch += played / self.rate

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._marks:
            away = self._marks[0][0] - len(self._heard)
            self._timer = self._clock.call_at(self._epoch + away / self.rate, self._due)

    def _due(self) -> None:
        self._timer = None
        self._settle()
        due = []
        while self._marks and self._marks[0][0] <= len(self._heard):
            due.append(self._marks.popleft()[1])
        self._arm()
        for reached in due:
            reached()

    def _tell(self) -> None:
        self._changed.set()


FRAME = 160
"""Bytes of mu-law in 20 ms."""

FRAME_SECONDS = 0.02

SILENCE = b"\xff" * FRAME
"""20 ms of mu-law silence."""


class Microphone:
    """What one far end says. Speech waits for a listener (the media stream) and then goes out in real time."""

    def __init__(self, *, silent: bool = False) -> None:
        """``silent`` sends nothing between speech, for carriers or tests that want no background."""
        self.silent = silent
        self.said = bytearray()
        """What was spoken into an open stream so far, without silence."""
        self.taps: list[Callable[[float, bytes], None]] = []
        """Told of every frame spoken: when it was due (loop time), and the frame."""
        self._frames: deque[tuple[bytes, asyncio.Future[None] | None]] = deque()
        self._queued = asyncio.Event()
        self._over = False

    async def say(self, mulaw: bytes) -> None:
        """Speak ``mulaw``; returns when the last frame went out, or when the call is over."""
        if self._over:
            raise RuntimeError("the call is over: nobody hears this")
        if not mulaw:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        starts = range(0, len(mulaw), FRAME)
        for start in starts:
            frame = mulaw[start : start + FRAME].ljust(FRAME, b"\xff")
            self._frames.append((frame, done if start == starts[-1] else None))
        self._queued.set()
        await done

    def hush(self) -> None:
        """Stop speaking: what was not said stays unsaid."""
        while self._frames:
            _, done = self._frames.popleft()
            if done is not None and not done.done():
                done.set_result(None)

    def end(self) -> None:
        """The call is over."""
        self._over = True
        self.hush()
        self._queued.set()

    async def speak(self, send: Callable[[bytes], None]) -> None:
        """Hand a frame to ``send`` every 20 ms until cancelled. Deadlines are absolute: lateness does not add up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time()
        while not self._over:
            if self.silent and not self._frames:
                self._queued.clear()
                await self._queued.wait()
                deadline = loop.time()
                continue
            if self._frames:
                frame, done = self._frames.popleft()
                self.said += frame
                for tap in self.taps:
                    tap(deadline, frame)
                send(frame)
                if done is not None and not done.done():
                    done.set_result(None)
            else:
                send(SILENCE)
            deadline += FRAME_SECONDS
            await asyncio.sleep(deadline - loop.time())


RATE = 8000


def tone(seconds: float, *frequencies: float, level: float = 0.3) -> bytes:
    """Mu-law of the frequencies (Hz) sounding together; ``level`` is their peak together, 0 to 1."""
    peak = level * 32767 / max(1, len(frequencies))
    turns = [2 * math.pi * frequency / RATE for frequency in frequencies]
    instants = range(round(seconds * RATE))
    samples = array("h", (round(sum(peak * math.sin(turn * n) for turn in turns)) for n in instants))
    return pcm16_to_pcmu(samples.tobytes())


def greeting() -> bytes:
    """One second that a machine speaks: a voice-like buzz in syllables. :func:`beep` follows it."""
    syllable = tone(0.15, 140, 280, 420, 700) + tone(0.05)
    return syllable * 5


def beep() -> bytes:
    """The machine's beep, 0.4 s of 1 kHz."""
    return tone(0.4, 1000)


def fax() -> bytes:
    """A fax machine's answer tone (CED), one second of 2100 Hz."""
    return tone(1.0, 2100)


LOW = (697, 770, 852, 941)
HIGH = (1209, 1336, 1477, 1633)
KEYS = ("123A", "456B", "789C", "*0#D")
WINDOW = 160
"""Samples judged at a time: 20 ms."""

SHARE = 0.7
"""Part of a window's energy that its two tones must hold; speech and noise spread theirs."""

LOUD = 200_000.0
"""Mean square below which a window counts as silence."""


def key_tone(digit: str, seconds: float = 0.1) -> bytes:
    """Mu-law of one key."""
    row = next(index for index, keys in enumerate(KEYS) if digit.upper() in keys)
    return tone(seconds, LOW[row], HIGH[KEYS[row].index(digit.upper())], level=0.5)


def keys_heard(mulaw: bytes) -> str:
    """The keys in mu-law 8 kHz audio; one counts when two windows in a row hold it, and again after a pause."""
    samples = array("h", pcmu_to_pcm16(mulaw))
    found, before, counted = "", "", ""
    for start in range(0, len(samples) - WINDOW + 1, WINDOW):
        key = _key(samples[start : start + WINDOW])
        if key and key == before and key != counted:
            found += key
            counted = key
        elif not key and not before:
            counted = ""
        before = key
    return found


def _key(window: array[int]) -> str:
    energy = sum(sample * sample for sample in window)
    if energy < LOUD * WINDOW:
        return ""
    low, high = ([_power(window, frequency) for frequency in group] for group in (LOW, HIGH))
    if max(low) + max(high) < SHARE * energy or min(max(low), max(high)) < 0.1 * energy:
        return ""
    return KEYS[low.index(max(low))][high.index(max(high))]


def _power(window: array[int], frequency: float) -> float:
    """Energy of ``frequency`` in the window, on the scale of the sum of squares."""
    turn = 2 * math.cos(2 * math.pi * frequency / RATE)
    one = two = 0.0
    for sample in window:
        one, two = sample + turn * one - two, one
    return 2 * (one * one + two * two - turn * one * two) / len(window)
