"""Frames from a stream to its session: pushed as they come, and kept while there is no session yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from anycarrier.serializer import Frame

EARLY = 100
"""Frames that are kept for a session that has not begun: an agent may need a moment, and the caller speaks already."""


class Delivery:
    """The half of a ``PushTransport`` that delivers."""

    def __init__(self) -> None:
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._receive: Callable[[Frame], object] | None = None
        self._look: Callable[[Frame], object] | None = None
        self._early: deque[Frame] = deque(maxlen=EARLY)

    def _beginning(self) -> list[Frame]:
        """What a session hears first; nothing before terms were agreed on."""
        raise NotImplementedError

    async def push_to(self, receive: Callable[[Frame], object]) -> None:
        """Call ``receive`` with every frame, the start first, until the stream is closed."""
        self._receive = receive
        if not self._over.done() and (beginning := self._beginning()):
            for frame in beginning:
                self._push(frame)
            while self._early:
                self._push(self._early.popleft())
        await asyncio.shield(self._over)

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each frame before it is pushed; one for which it returns False is delivered as usual."""
        self._look = look

    async def __aiter__(self) -> AsyncIterator[Frame]:
        frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        pushing = asyncio.create_task(self.push_to(frames.put_nowait))
        pushing.add_done_callback(lambda _: frames.put_nowait(None))
        try:
            while (frame := await frames.get()) is not None:
                yield frame
        finally:
            pushing.cancel()

    def _push(self, frame: Frame) -> None:
        if self._receive is None:
            if isinstance(frame, bytes) or '"digit"' in frame:
                self._early.append(frame)
        elif self._look is None or self._look(frame) is False:
            self._receive(frame)

    def _end(self) -> None:
        """Deliver nothing any more, and refer to nothing that refers to us."""
        self._receive = self._look = None
        self._early.clear()
        if not self._over.done():
            self._over.set_result(None)
