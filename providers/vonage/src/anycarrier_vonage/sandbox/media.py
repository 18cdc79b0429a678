"""The media socket: a leg of its own, whose binary messages are 20 ms of sound and whose text is JSON."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
import wave
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder, pcmu_to_pcm16
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, Outcome, outcome_of
from anycarrier_vonage.sandbox.ncco import CONTENT_TYPES

if TYPE_CHECKING:
    from anycarrier_vonage.sandbox.legs import Leg

BUFFER = 3072
"""Messages that wait to be played, at most; what comes on top is dropped here."""


class SocketLeg:
    """It reports statuses like any leg, with ``to`` the socket's address."""

    def __init__(self, leg: Leg, endpoint: Mapping[str, Any], event_urls: list[str] | None) -> None:
        self.leg, self.endpoint, self.event_urls = leg, endpoint, event_urls
        self.uuid, self.conversation = str(uuid.uuid4()), leg.conversation
        self.headers: Mapping[str, Any] = endpoint.get("headers", {})
        rate = CONTENT_TYPES[endpoint["content-type"]]
        self.size = rate // 50 * 2
        self.format = AudioFormat("PCM16", rate)
        self.outward, self.inward = Transcoder(PCMU_8K, self.format), Transcoder(self.format, PCMU_8K)
        self.out: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self.pending = b""
        self.ours_closed = True
        self.lost = False

    def tell(self, status: str, **more: Any) -> None:
        said = {
            "from": self.leg.from_,
            "to": self.endpoint["uri"],
            "uuid": self.uuid,
            "conversation_uuid": self.conversation,
            "status": status,
            "direction": "outbound",
            "headers": self.headers,
            "timestamp": self.leg.sandbox.clock(),
        }
        self.leg.send_event(f"websocket {status}", {**said, **more}, self.event_urls)

    async def run(self) -> None:
        """Until the socket is closed, by either side."""
        self.tell("started")
        authorization = self.endpoint.get("authorization", {})
        headers = {"authorization": authorization["value"]} if authorization.get("type") == "custom" else None
        try:
            socket = await connect(
                self.endpoint["uri"], proxy=None, compression=None, close_timeout=1, additional_headers=headers
            )
        except (OSError, WebSocketException):
            self.tell("unanswered")
            return
        self.tell("answered", start_time=None, rate=None, network=None)
        self.leg.far_end.stream_opened(socket.send, self.endpoint["uri"])
        self.say({"event": "websocket:connected", "content-type": self.endpoint["content-type"], **self.headers})
        sandbox = self.leg.sandbox
        helpers = [sandbox.start(self.write(socket)), sandbox.start(self.leg.far_end.microphone.speak(self.speak))]
        if outcome_of(f"+{self.leg.to}") is Outcome.MEDIA_DROP:
            helpers.append(sandbox.start(self.drop(socket)))
        try:
            async for message in socket:
                self.take(socket, message)
        except ConnectionClosed:
            pass
        finally:
            for helper in helpers:
                helper.cancel()
            self.leg.far_end.stream_closed()
        if self.lost:
            await self.leg.over.wait()
        self.tell("disconnected" if self.ours_closed and not self.lost else "completed")

    def say(self, frame: Mapping[str, Any]) -> None:
        self.out.put_nowait(json.dumps(frame, separators=(",", ":")))

    def speak(self, mulaw: bytes) -> None:
        """Whole messages only, as the carrier's."""
        self.pending += self.outward.convert(mulaw)
        while len(self.pending) >= self.size:
            self.out.put_nowait(self.pending[: self.size])
            self.pending = self.pending[self.size :]

    def leave(self) -> None:
        """The call is over: what was said goes out, and the socket closes without a word."""
        self.ours_closed = False
        self.out.put_nowait(None)

    def abandoned(self) -> None:
        """The caller is gone to another conversation: silence, until somebody closes the socket."""
        self.leg.far_end.microphone.hush()

    async def write(self, socket: ClientConnection) -> None:
        with suppress(WebSocketException):
            while (frame := await self.out.get()) is not None:
                await socket.send(frame)
            await socket.close()

    async def drop(self, socket: ClientConnection) -> None:
        """The network in between is lost, which this side does not notice: the call goes on in silence."""
        await asyncio.sleep(DROPS_AFTER)
        self.lost = True
        socket.transport.abort()

    def take(self, socket: ClientConnection, message: bytes | str) -> None:
        far_end = self.leg.far_end
        if isinstance(message, bytes):
            if len(message) != self.size:
                far_end.note(f"unexpected frame size {len(message) // 2}, when required {self.size // 2}")
                socket.transport.abort()
            elif far_end.playback.waiting < BUFFER / 50:
                far_end.playback.play(self.inward.convert(message))
            else:
                far_end.note("buffer full: audio dropped")
            return
        try:
            asked = json.loads(message)
        except ValueError:
            asked = None
        match asked:
            case {"action": "clear"}:
                far_end.playback.clear()
                self.say({"event": "websocket:cleared"})
            case {"action": "notify", "payload": dict(payload)}:
                far_end.playback.mark(lambda: self.say({"event": "websocket:notify", "payload": payload}))
            case _:
                far_end.note("text that is no command")


def recording(far_end: FarEnd, channels: int) -> bytes:
    """Both sides, not in step with each other: on two channels, or one after the other on one."""
    theirs, ours = pcmu_to_pcm16(bytes(far_end.microphone.said)), pcmu_to_pcm16(bytes(far_end.heard))
    with io.BytesIO() as file:
        with wave.open(file, "wb") as wav:
            wav.setnchannels(2 if channels > 1 else 1)
            wav.setsampwidth(2)
            wav.setframerate(8000)
            if channels > 1:
                length = max(len(theirs), len(ours))
                pair = bytearray(2 * length)
                for at, side in ((0, theirs.ljust(length, b"\0")), (2, ours.ljust(length, b"\0"))):
                    pair[at::4], pair[at + 1 :: 4] = side[::2], side[1::2]
                wav.writeframes(bytes(pair))
            else:
                wav.writeframes(theirs + ours)
        return file.getvalue()
