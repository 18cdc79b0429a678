"""What a handler has not taken yet: bounded for sound, complete for everything else."""

from __future__ import annotations

import asyncio
from collections import deque

from anycarrier.events import AudioReceived, CallEvent, MediaEvent

QUEUE_FRAMES = 500
"""Audio events kept for a slow handler (10 s of 20 ms frames); beyond that the oldest sound is dropped."""


class EventQueue:
    """One producer that never waits, one consumer that does."""

    def __init__(self) -> None:
        self.dropped = 0
        self._events: deque[MediaEvent | CallEvent] = deque()
        self._audio = 0
        self._closed = False
        self._wake: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._events)

    def put(self, event: MediaEvent | CallEvent) -> None:
        """Add an event; after :meth:`close` it is too late."""
        if self._closed:
            return
        if isinstance(event, AudioReceived):
            if self._audio >= QUEUE_FRAMES:
                self._drop_oldest_audio()
            self._audio += 1
        self._events.append(event)
        self._rouse()

    async def get(self) -> MediaEvent | CallEvent:
        """The next event; ``StopAsyncIteration`` once closed and empty."""
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        event = self._events.popleft()
        if isinstance(event, AudioReceived):
            self._audio -= 1
        return event

    def close(self) -> None:
        """No more events; those at hand may still be taken."""
        self._closed = True
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _drop_oldest_audio(self) -> None:
        for index, queued in enumerate(self._events):
            if isinstance(queued, AudioReceived):
                del self._events[index]
                self._audio -= 1
                self.dropped += 1
                return
