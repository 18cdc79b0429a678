"""The caller's audio in pieces of a length of one's own: fewer messages to an agent cost less, and come later."""

from __future__ import annotations

import asyncio

from pybase64 import b64decode

from anycarrier.errors import ConfigurationError
from anycarrier.session import MediaSession


class CallerAudio:
    """The caller's audio in pieces of ``batch`` seconds, or more where they were not taken in time.

        with CallerAudio(session, batch=0.04) as caller:
            async for audio in caller:
                await model.send(audio)

    Pieces are bytes in :attr:`MediaSession.format`, and begin with what waits in the session. What nobody takes waits,
    the last ``most`` seconds of it. The end of the stream ends them, after a shorter piece of what was left. All other
    events still come by iteration of the session, and after the ``with`` audio does, too. ``ConfigurationError`` for a
    ``batch`` that is not above 0, or above ``most``.
    """

    def __init__(self, session: MediaSession, batch: float, most: float = 10.0) -> None:
        if not 0 < batch <= most:
            raise ConfigurationError(f"batch={batch:g}: give seconds of audio above 0, at most {most:g}, such as 0.04.")
        self._session = session
        self._size = max(1, session.format.size(batch))
        self._most = session.format.size(most)
        self._waiting = bytearray()
        self._wake: asyncio.Future[None] | None = None

    def __enter__(self) -> CallerAudio:
        self._over = asyncio.ensure_future(self._session.wait_stopped())
        self._over.add_done_callback(lambda _: self._rouse())
        self._session.receive_base64(self._hear)
        return self

    def __exit__(self, *raised: object) -> None:
        self._session.receive_base64(None)
        self._over.cancel()

    def __aiter__(self) -> CallerAudio:
        return self

    async def __anext__(self) -> bytes:
        while len(self._waiting) < self._size and not self._session.ended:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if not self._waiting:
            raise StopAsyncIteration
        audio = bytes(self._waiting)
        self._waiting.clear()
        return audio

    def _hear(self, audio: str) -> None:
        self._waiting += b64decode(audio)
        if len(self._waiting) >= self._size:
            del self._waiting[: -self._most]
            self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
