"""A live session with a scripted far end, and nothing between: no HTTP, no socket, no exchange. For an adapter's tests.

The far end plays what it is sent in real time by the event loop's clock, as a carrier does, so that under a loop with
virtual time a minute of talk takes no time and every position is exact.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from anycarrier.audio import PCMU_8K, AudioFormat
from anycarrier.calls import Call, CallStatus, Direction, EndReason, TransferStatus
from anycarrier.events import TransferProgress
from anycarrier.serializer import Frame
from anycarrier.session import MediaSession
from anycarrier.testing.far_end_audio import PlaybackBuffer
from anycarrier.testing.scripted_line import AwaitedLine, PushingLine, ScriptedFrames

Marks = Literal["echo", "lost", "none"]
"""What becomes of playback marks: they come back, they get lost, or the carrier has none."""

FRAME_SECONDS = 0.02
TOLD_AFTER = 0.05
"""Seconds from the end of the stream to the carrier's word that the call is over, which comes by another way."""

OURS, THEIRS = "+14155550100", "+12125550123"


class Piece(NamedTuple):
    """Audio with its time, in seconds of the event loop's clock."""

    at: float
    audio: bytes


@contextlib.asynccontextmanager
async def open_session(
    *,
    format: AudioFormat = PCMU_8K,
    carrier_format: AudioFormat | None = None,
    pushes: bool = True,
    marks: Marks = "echo",
    direction: Direction = Direction.INBOUND,
    agent_id: str = "agent",
) -> AsyncIterator[tuple[MediaSession, ScriptedFarEnd]]:
    """A session whose stream has started, and the far end of its call; both are over when the block is left.

    ``format`` is the session's, ``carrier_format`` what the far end says and hears (None: the same, so that bytes pass
    untouched). ``pushes`` says whether the transport can write at once, as that of the extra ``fast``, or has to be
    awaited, as on any ASGI server: an adapter has to work with both.
    """
    if marks not in ("echo", "lost", "none"):
        raise ValueError(f"marks are echo, lost or none, not {marks!r}")
    call = Call(
        id="scripted-1",
        provider="scripted",
        direction=direction,
        from_=THEIRS if direction is Direction.INBOUND else OURS,
        to=OURS if direction is Direction.INBOUND else THEIRS,
        status=CallStatus.ANSWERED,
        reference=uuid.uuid4().hex,
        agent_id=agent_id,
        answered_at=datetime.now(UTC),
    )
    far_end = ScriptedFarEnd(carrier_format or format, marks)
    transport = PushingLine(far_end.take) if pushes else AwaitedLine(far_end.take)
    serializer = ScriptedFrames(far_end.format, marks=marks != "none")
    loop = asyncio.get_running_loop()
    session = MediaSession(call, agent_id, serializer, transport, far_end.control, format=format, clock=loop.time)
    far_end.connect(session, transport)
    reading = asyncio.create_task(session.stream.read(), name="read the scripted far end")
    try:
        await session.stream.wait_started(30)
        yield session, far_end
    finally:
        far_end.disconnect()
        await session.stream.close()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class ScriptedControl:
    """What the session asked of the exchange, in order; it is done at once."""

    def __init__(self) -> None:
        self.hang_ups: list[EndReason] = []
        self.transfers: list[str] = []
        self.digits = ""
        self._far_end: ScriptedFarEnd | None = None

    def connect(self, far_end: ScriptedFarEnd) -> None:
        """The call is this far end's."""
        self._far_end = far_end

    async def hang_up(self, call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        """End the call, unless it was transferred: then only ``API_STOP`` does."""
        self.hang_ups.append(reason)
        if self._far_end is not None and (self._far_end.call.transfer is None or reason is EndReason.API_STOP):
            self._far_end.change_call(intent=reason)
            self._far_end.end(reason)

    async def transfer(self, call: Call | str, to: str = "", *, replaces: Call | str | None = None) -> None:
        """The target rings; see :meth:`ScriptedFarEnd.answer_transfer`."""
        self.transfers.append(to or (replaces.remote_number if isinstance(replaces, Call) else str(replaces)))
        if self._far_end is not None:
            self._far_end.change_call(transfer=TransferStatus.REQUESTED)

    async def wait_for_transfer(self, call: Call | str, timeout: float = 60.0) -> TransferStatus | None:
        """What the script makes of it."""
        assert self._far_end is not None
        async with asyncio.timeout(timeout):
            while self._far_end.call.transfer is TransferStatus.REQUESTED and not self._far_end.call.ended:
                await self._far_end.changed()
        return self._far_end.call.transfer if self._far_end.call.transfer is TransferStatus.ANSWERED else None

    async def send_digits(self, call: Call | str, digits: str) -> None:
        """Keys, and the letters for pauses between them."""
        self.digits += digits


class ScriptedFarEnd:
    """The other party and its carrier. Audio is in ``format``; times are seconds of the event loop's clock."""

    def __init__(self, format: AudioFormat, marks: Marks) -> None:
        self.format = format
        self.control = ScriptedControl()
        self.control.connect(self)
        self.received: list[Piece] = []
        """Audio as it arrived at the carrier, whether or not it was heard in the end."""
        self.cleared: list[float] = []
        """When the carrier was told to drop what it had not played."""
        self._marks = marks
        self._loop = asyncio.get_running_loop()
        sample = format.sample_width * format.channels
        self._playback = PlaybackBuffer(rate=format.bytes_per_second, sample=sample, clock=self._loop)
        self._played: list[Piece] = []
        self._playback.taps.append(lambda at, audio: self._played.append(Piece(at, audio)))
        self._speaking = asyncio.Lock()
        self._over = False
        self._news = asyncio.Event()

    # --- what a test does ---------------------------------------------------------------------------------------------

    async def say(self, audio: bytes) -> None:
        """Speak in frames of 20 ms at real-time pace; returns when all is said, or the stream is over."""
        size = self.format.size(FRAME_SECONDS)
        async with self._speaking:
            due = self._loop.time()
            for start in range(0, len(audio), size):
                if self.session.ended:
                    return
                self.send(audio[start : start + size])
                due += FRAME_SECONDS
                await asyncio.sleep(due - self._loop.time())

    def send(self, audio: bytes) -> None:
        """One frame with ``audio``, now, however long it is."""
        self._tell(event="audio", audio=base64.b64encode(audio).decode())

    async def press(self, digits: str) -> None:
        """Press keys, one after the other."""
        for digit in digits:
            self._tell(event="key", digit=digit)

    async def hang_up(self) -> None:
        """The other party hangs up; nothing happens when the call is over already."""
        self.end(EndReason.USER_HANGUP)

    def end(self, reason: EndReason) -> None:
        """The call is over, for this reason: its stream at once, and a moment later the carrier reports its end."""
        if not self._over:
            self._over = True
            self._tell(event="stop", reason="")
            self.disconnect()
            over = {"status": CallStatus.ENDED, "reason": reason, "ended_at": datetime.now(UTC)}
            self._loop.call_later(TOLD_AFTER, lambda: self.change_call(**over))

    def lose_connection(self) -> None:
        """The media connection breaks; the call itself goes on."""
        self.disconnect()

    def answer_transfer(self) -> None:
        """The target of a transfer takes the call: it is over for us, and the stream ends."""
        self.change_call(transfer=TransferStatus.ANSWERED)
        self.session.stream.deliver(self._transfer("answered"))
        self._tell(event="stop", reason="transferred")
        self.disconnect()

    def fail_transfer(self) -> None:
        """The target of a transfer does not take it: the call is the agent's again."""
        self.change_call(transfer=None)
        self.session.stream.deliver(self._transfer("failed"))

    async def wait_heard(self, seconds: float, timeout: float = 30) -> None:
        """Wait until ``seconds`` of our side's audio were heard."""
        async with asyncio.timeout(timeout):
            await self._playback.played(seconds)

    @property
    def heard(self) -> bytes:
        """What the other party has heard so far: what a ``clear`` dropped is not in it, nor the silence in between."""
        return self._playback.heard

    @property
    def heard_at(self) -> list[Piece]:
        """The same, as pieces with the times at which each began to be heard; in one piece it went on unbroken."""
        self._playback.seconds  # noqa: B018  settles what was played up to now
        joined: list[Piece] = []
        for piece in self._played:
            if joined and abs(joined[-1].at + self.format.seconds(len(joined[-1].audio)) - piece.at) < 1e-6:
                joined[-1] = Piece(joined[-1].at, joined[-1].audio + piece.audio)
            else:
                joined.append(piece)
        return joined

    @property
    def heard_seconds(self) -> float:
        """Length of :attr:`heard`."""
        return self._playback.seconds

    @property
    def waiting(self) -> float:
        """Seconds that the carrier holds and has not played yet."""
        return self._playback.waiting

    @property
    def call(self) -> Call:
        """The call as the session has it."""
        return self.session.call

    # --- what the carrier does ----------------------------------------------------------------------------------------

    def connect(self, session: MediaSession, line: AwaitedLine) -> None:
        """The stream is connected: it starts."""
        self.session, self._line = session, line
        self._tell(event="start", id=session.call.id)

    def disconnect(self) -> None:
        """The media connection is gone, and with it what was still to be played."""
        self._playback.cut()
        self._line.end()

    def take(self, frame: Frame) -> None:
        """One frame from our side."""
        message = json.loads(frame)
        match message["event"]:
            case "audio":
                audio = base64.b64decode(message["audio"])
                self.received.append(Piece(self._loop.time(), audio))
                self._playback.play(audio)
            case "mark" if self._marks == "echo":
                self._playback.mark(lambda: self._tell(**message))
            case "clear":
                self.cleared.append(self._loop.time())
                self._playback.clear()

    def change_call(self, **changes: object) -> None:
        """The call is like this now."""
        self.session.call = self.call.model_copy(update=changes)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def changed(self) -> None:
        """Wait until the call changes."""
        await self._news.wait()

    def _tell(self, **message: object) -> None:
        self._line.bring(json.dumps(message))

    def _transfer(self, status: str) -> TransferProgress:
        return TransferProgress(call_id=self.call.id, reference=self.call.reference, status=status)
