"""One call in the Acme sandbox, and its media socket."""

import asyncio
import base64
import json
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import DROPS_AFTER, HANGS_UP_AFTER, RINGS_FOR, Outcome

if TYPE_CHECKING:
    from anycarrier_acme.sandbox import AcmeSandbox


class Leg:
    """Where a call stands, and how it got there."""

    def __init__(self, sandbox: "AcmeSandbox", direction: str, from_: str, to: str, asked: dict[str, Any]) -> None:
        self.sandbox = sandbox
        self.id = f"call_{uuid.uuid4().hex}"
        self.direction = direction
        self.status = "ringing" if direction == "inbound" else "queued"
        self.cause: str | None = None
        self.asked = asked
        self.out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.over = asyncio.Event()
        self.far_end = FarEnd(
            self.id, from_, to, press=self.press, hang_up=self.hung_up, silent="quiet" in sandbox.quirks
        )

    def told(self) -> dict[str, Any]:
        """The call in Acme's JSON."""
        return {
            "id": self.id,
            "direction": self.direction,
            "from": self.far_end.from_,
            "to": self.far_end.to,
            "status": self.status,
            "cause": self.cause,
            "reference": self.asked.get("reference", ""),
        }

    def progress(self, status: str) -> None:
        """Move on, and tell."""
        if self.status != "ended":
            self.status = status
            self.sandbox.progress(self)

    def end(self, cause: str) -> None:
        """The call is over; a second time nothing happens."""
        if self.status != "ended":
            self.cause = cause
            self.progress("ended")
            self.far_end.ended(cause)
            self.say_goodbye("call ended")
            self.over.set()

    async def missed_after(self, seconds: float) -> None:
        """Ring until the caller's patience is at its end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.over.wait()
        self.end("missed")

    async def pick_up(self, outcome: Outcome) -> None:
        """The callee answers, in the way their number stands for."""
        if outcome is Outcome.RINGS:
            await asyncio.sleep(RINGS_FOR)
        if self.status != "ended":
            self.far_end.digits += (self.asked.get("digits") or "").strip("wW")
            self.answer(self.asked["stream"], drops=outcome is Outcome.MEDIA_DROP)
        if outcome is Outcome.HANGS_UP:
            await asyncio.sleep(HANGS_UP_AFTER)
            await self.far_end.hang_up()

    def answer(self, stream: dict[str, Any], *, drops: bool = False) -> None:
        """The receiver is up: connect the media socket, and watch the time."""
        self.far_end.answered()
        self.progress("answered")
        self.sandbox.start(self.stream(stream, drops))
        if limit := self.asked.get("time_limit"):
            self.sandbox.start(self.limit(float(limit)))

    async def limit(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.end("time_limit")

    def transfer(self, to: str) -> None:
        """Somebody else takes the call; our stream is over, the call is not."""
        self.far_end.transferred_to = to
        self.say_goodbye("transferred")

    async def hung_up(self) -> None:
        self.end("hung_up")

    async def press(self, digit: str) -> None:
        self.out.put_nowait({"type": "digit", "name": digit})

    # --- the media socket -----------------------------------------------------------------------------------------

    def say_goodbye(self, why: str) -> None:
        self.out.put_nowait({"type": "stop", "name": why})
        self.out.put_nowait(None)

    async def stream(self, target: dict[str, Any], drops: bool) -> None:
        """Dial the platform's socket and carry audio until either side closes."""
        try:
            socket = await connect(target["url"], proxy=None, compression=None, close_timeout=1)
        except (OSError, WebSocketException):
            self.end("no_stream")
            return
        self.far_end.stream_opened(socket.send, target["url"])
        await socket.send(json.dumps({"type": "start", "call": self.id, "custom": target.get("custom", {})}))
        helpers = [self.sandbox.start(self.write(socket)), self.sandbox.start(self.far_end.voice.speak(self.speak))]
        if drops:
            helpers.append(self.sandbox.start(self.drop(socket)))
        try:
            with suppress(WebSocketException):
                async for message in socket:
                    self.take(json.loads(message))
        finally:
            for helper in helpers:
                helper.cancel()
            self.far_end.stream_closed()

    async def write(self, socket: ClientConnection) -> None:
        with suppress(WebSocketException):
            while (frame := await self.out.get()) is not None:
                await socket.send(json.dumps(frame))
            await socket.close()

    async def drop(self, socket: ClientConnection) -> None:
        await asyncio.sleep(DROPS_AFTER)
        socket.transport.abort()

    def speak(self, mulaw: bytes) -> None:
        self.out.put_nowait({"type": "audio", "data": base64.b64encode(mulaw).decode()})

    def take(self, frame: dict[str, Any]) -> None:
        """A frame of the platform's: play it, answer it, or complain."""
        match frame:
            case {"type": "audio", "data": str(data)}:
                if not self.far_end.playback.play(base64.b64decode(data)):
                    self.out.put_nowait({"type": "error", "name": "too_much_audio"})
            case {"type": "mark", "name": str(name)}:
                self.far_end.playback.mark(lambda: self.out.put_nowait({"type": "mark", "name": name}))
            case {"type": "clear"}:
                self.far_end.playback.clear()
            case _:
                self.out.put_nowait({"type": "error", "name": "unknown_frame"})
