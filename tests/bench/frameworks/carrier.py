"""The carrier's side of ``./dev bench frameworks``: Twilio's stream on plain ``websockets``, some calls at once.

Each call speaks 20 ms of mu-law every 20 ms and counts what comes back. A mark comes back when the audio before it
would have been heard, as at the carrier.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

FRAME, FRAME_SECONDS = 160, 0.02
WHOLE = 6
"""A call has a multiple of so many frames: what sends 40 or 60 ms at once keeps nothing back at the end."""
NEGATIVE_ZERO = 0x7F  # decoded and encoded again, it comes back as the other zero


@dataclass
class Line:
    """One call. ``behind`` has, for each piece that came back, seconds since its last byte was sent; ``cleared`` the
    times at which it was told to drop what it had not played."""

    marks: bool
    sent: list[float] = field(default_factory=list)
    back: int = 0
    behind: list[float] = field(default_factory=list)
    cleared: list[float] = field(default_factory=list)
    heard_until: float = 0.0

    async def speak(self, socket: ClientConnection, stream: str, begin: float, frames: int) -> None:
        loop = asyncio.get_running_loop()
        for number in range(frames):
            await asyncio.sleep(begin + number * FRAME_SECONDS - loop.time())
            audio = bytes(byte if byte != NEGATIVE_ZERO else 0 for byte in random.randbytes(FRAME))
            media = {"track": "inbound", "chunk": str(number + 1), "timestamp": str(20 * number),
                     "payload": base64.b64encode(audio).decode()}  # fmt: skip
            self.sent.append(loop.time())
            await socket.send(json.dumps({"event": "media", "sequenceNumber": str(number + 2), "media": media,
                                          "streamSid": stream}))  # fmt: skip

    async def listen(self, socket: ClientConnection, stream: str) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionClosed):
            async for text in socket:
                message = json.loads(text)
                if message["event"] == "media":
                    self.hear(len(base64.b64decode(message["media"]["payload"])), loop.time())
                elif message["event"] == "clear":
                    self.heard_until = loop.time()
                    self.cleared.append(loop.time())
                elif message["event"] == "mark" and self.marks:
                    mark = json.dumps({"event": "mark", "streamSid": stream, "mark": message["mark"]})
                    loop.call_at(self.heard_until, lambda mark=mark: asyncio.ensure_future(quietly(socket, mark)))

    def hear(self, size: int, now: float) -> None:
        self.back += size
        self.heard_until = max(now, self.heard_until) + size / 8000
        if 0 < (last := -(-self.back // FRAME)) <= len(self.sent):
            self.behind.append(now - self.sent[last - 1])


async def quietly(socket: ClientConnection, text: str) -> None:
    with contextlib.suppress(ConnectionClosed):
        await socket.send(text)


@dataclass(frozen=True)
class Heard:
    """Of all calls: CPU seconds of the subject, frames sent meanwhile, delays. ``back`` is the share of its audio that
    came back to the call with the least. ``cleared`` has each call's clears by its id, ``late`` how long after its
    interruption each came, of those between ``begun`` and ``ended``; times are of the machine's monotonic clock.
    """

    cpu: float
    frames: int
    back: float
    behind: list[float]
    begun: float = 0.0
    ended: float = 0.0
    cleared: dict[str, list[float]] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)


async def talk(
    port: int, calls: Sequence[tuple[str, str]], cpu: Callable[[], Awaitable[float]], *,
    started: Callable[[], Awaitable[None]], seconds: float, warm: float, marks: bool,
) -> Heard:  # fmt: skip
    """Path and id of each call. All begin together, spread over a frame's time, once ``started`` says so: what comes
    before a pipeline has started, it would echo late for the rest of the call. CPU is taken after ``warm`` seconds.
    """
    loop = asyncio.get_running_loop()
    lines = [Line(marks) for _ in calls]
    frames = WHOLE * -(-round((warm + seconds) / FRAME_SECONDS) // WHOLE)
    async with contextlib.AsyncExitStack() as stack:
        talking, listening, sockets = [], [], []
        for line, (path, call_id) in zip(lines, calls, strict=True):
            socket = await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}{path}", compression=None))
            stream = f"MZ{call_id[2:]}"
            await socket.send(json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}))
            await socket.send(json.dumps(start_frame(stream, call_id)))
            listening.append(asyncio.create_task(line.listen(socket, stream)))
            sockets.append((line, socket, stream))
        await started()
        begin = loop.time() + FRAME_SECONDS
        for number, (line, socket, stream) in enumerate(sockets):
            offset = number / len(calls) * FRAME_SECONDS
            talking.append(asyncio.create_task(line.speak(socket, stream, begin + offset, frames)))
        await asyncio.sleep(begin + warm - loop.time())
        before, sent_before = await cpu(), sum(len(line.sent) for line in lines)
        await asyncio.gather(*talking)
        spent, sent, ended = await cpu() - before, sum(len(line.sent) for line in lines), loop.time()
        await all_back(lines, FRAME * frames)
    await asyncio.gather(*listening)  # to the end: a socket that nobody reads does not close
    back = min(line.back for line in lines) / (FRAME * frames)
    behind = [each for line in lines for each in line.behind]
    cleared = {call_id: line.cleared for line, (_, call_id) in zip(lines, calls, strict=True)}
    return Heard(spent, sent - sent_before, back, behind, begin + warm, ended, cleared)


async def all_back(lines: Sequence[Line], wanted: int, patience: float = 1.5) -> None:
    """Wait until that many bytes came back on each, or nothing more comes."""
    loop = asyncio.get_running_loop()
    last, since = -1, loop.time()
    while any(line.back < wanted for line in lines) and loop.time() - since < patience:
        await asyncio.sleep(0.05)
        if (back := sum(line.back for line in lines)) != last:
            last, since = back, loop.time()


def start_frame(stream: str, call_id: str) -> dict[str, object]:
    start = {"accountSid": "AC" + "0" * 32, "streamSid": stream, "callSid": call_id, "tracks": ["inbound"],
             "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
             "customParameters": {}}  # fmt: skip
    return {"event": "start", "sequenceNumber": "1", "start": start, "streamSid": stream}
