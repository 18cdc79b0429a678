"""The wire of a scripted far end: a carrier's frames, and its media socket, in memory."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable

from anycarrier.audio import AudioFormat
from anycarrier.errors import MalformedMessage, StreamNotOpen
from anycarrier.events import (
    AudioReceived,
    DigitPressed,
    MarkReached,
    MediaEvent,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier.serializer import Frame, MediaSerializer


class ScriptedFrames(MediaSerializer):
    """JSON, with audio in base64 as most carriers have it."""

    def __init__(self, format: AudioFormat, *, marks: bool) -> None:
        self.audio_out = format
        self.marks = marks
        self._open = False

    def decode(self, frame: Frame) -> list[MediaEvent]:
        """The events in one frame."""
        try:
            message = json.loads(frame)
            match message["event"]:
                case "start":
                    self._open = True
                    return [StreamStarted(message["id"], "scripted", self.audio_out)]
                case "audio":
                    return [AudioReceived(base64.b64decode(message["audio"]))]
                case "key":
                    return [DigitPressed(message["digit"])]
                case "mark":
                    return [MarkReached(message["name"])]
                case "stop":
                    self._open = False
                    return [StreamStopped(message["reason"])]
            return [UnknownEvent(kind=str(message["event"]), raw=message)]
        except (ValueError, KeyError, TypeError):
            raise MalformedMessage("not a frame", frame) from None

    def encode_audio(self, payload: bytes) -> list[Frame]:
        """One frame."""
        return self._frame(event="audio", audio=base64.b64encode(payload).decode())

    def encode_clear(self) -> list[Frame]:
        """One frame."""
        return self._frame(event="clear")

    def encode_mark(self, name: str) -> list[Frame]:
        """One frame."""
        return self._frame(event="mark", name=name)

    def relay(self, frame: Frame) -> str | None:
        """The base64 of an audio frame."""
        message = json.loads(frame)
        return str(message["audio"]) if message["event"] == "audio" else None

    def encode_relayed(self, base64_audio: str) -> Frame | None:
        """One frame around it."""
        return self._frame(event="audio", audio=base64_audio)[0]

    def _frame(self, **message: str) -> list[Frame]:
        if not self._open:
            raise StreamNotOpen("no stream")
        return [json.dumps(message)]


class AwaitedLine:
    """A media transport in memory whose frames are asked for, as those of an ASGI server's WebSocket."""

    def __init__(self, take: Callable[[Frame], None]) -> None:
        self._take = take
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._over = False

    async def send(self, frame: Frame) -> None:
        """To the far end."""
        await asyncio.sleep(0)
        self._to_far_end(frame)

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    async def close(self, code: int = 1000) -> None:
        """By us."""
        self.end()

    def bring(self, frame: Frame) -> None:
        """From the far end; too late once the line has ended."""
        if not self._over:
            self._frames.put_nowait(frame)

    def end(self) -> None:
        """By either side: frames on their way still come."""
        if not self._over:
            self._over = True
            self._frames.put_nowait(None)

    def _to_far_end(self, frame: Frame) -> None:
        if self._over:
            raise ConnectionError("the line is closed")
        self._take(frame)


class PushingLine(AwaitedLine):
    """The same where frames are pushed, and written without waiting."""

    paused = False
    resumed: Callable[[], None] | None = None

    def __init__(self, take: Callable[[Frame], None]) -> None:
        super().__init__(take)
        self._look: Callable[[Frame], object] | None = None
        self._receive: Callable[[Frame], object] | None = None

    def look_first(self, look: Callable[[Frame], object] | None) -> None:
        """Show ``look`` each frame before it is pushed."""
        self._look = look

    async def push_to(self, receive: Callable[[Frame], object]) -> None:
        """Until the line ends; what came before is pushed first."""
        while not self._frames.empty():
            frame = self._frames.get_nowait()
            if frame is None:
                return
            receive(frame)
        self._receive = receive
        await self._frames.get()

    def write(self, frame: Frame) -> None:
        """To the far end, at once."""
        self._to_far_end(frame)

    async def send(self, frame: Frame) -> None:
        """The same."""
        self._to_far_end(frame)

    def bring(self, frame: Frame) -> None:
        """From the far end."""
        if self._receive is None:
            super().bring(frame)
        elif not self._over and (self._look is None or self._look(frame) is False):
            self._receive(frame)
