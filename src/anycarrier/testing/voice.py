"""A mouth at the far end: 20 ms frames at an even pace, silence when nobody speaks, as a carrier's stream has them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

FRAME = 160
"""Bytes of mu-law in 20 ms."""

FRAME_SECONDS = 0.02

SILENCE = b"\xff" * FRAME
"""20 ms of mu-law silence."""


class Voice:
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
