"""One live call's sound, over any transport: what a handler iterates, speaks into and hangs up.

The session turns frames into events in one common format, keeps what a slow handler has not taken yet within bounds,
and knows how much of what was sent has been heard.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder
from anycarrier.calls import Call, EndReason
from anycarrier.errors import MalformedMessage, StreamNotOpen, UnreadableAudio
from anycarrier.event_queue import EventQueue
from anycarrier.events import (
    AudioReceived,
    CallEvent,
    MarkReached,
    MediaEvent,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier.listener import MediaTransport, PushTransport
from anycarrier.outlet import RELAYED_MARK_EVERY, Outlet
from anycarrier.position import Playback, PlaybackPosition
from anycarrier.serializer import Frame, MediaSerializer

log = logging.getLogger("anycarrier")

MARK_EVERY = 0.5
"""Seconds of audio between marks of our own: two extra frames a second buy a proven position."""

HIGHEST_RATE = 192_000
"""Samples a second; a stream that claims more would only make the resampler's tables large."""

MAX_FRAME = 256 * 1024
"""Bytes; the longest frame either carrier sends is a few kilobytes."""


class CallControl(Protocol):
    """What a session asks of the exchange."""

    async def hang_up(self, call: Call | str, reason: EndReason = ...) -> None: ...

    async def transfer(self, call: Call | str, to: str) -> None: ...

    async def send_digits(self, call: Call | str, digits: str) -> None: ...


class Tap(Protocol):
    """Hears along on a session: a recorder. Told of every sound of either side, whoever handles the call."""

    def caller(self, payload: bytes) -> None:
        """Sound from the caller, just arrived."""
        ...

    def agent(self, payload: bytes, starts_in: float) -> None:
        """Sound sent to the caller, to be heard in ``starts_in`` seconds."""
        ...

    def cut(self) -> None:
        """What was not heard yet never will be."""
        ...


class GuardedTap:
    """Whoever hears along must not cost the call its sound: one that raises hears no more, and the log says so."""

    def __init__(self, tap: Tap) -> None:
        self.tap: Tap | None = tap

    def caller(self, payload: bytes) -> None:
        if self.tap is not None:
            try:
                self.tap.caller(payload)
            except Exception:  # noqa: BLE001 whatever it is, the call goes on
                self._give_up()

    def agent(self, payload: bytes, starts_in: float) -> None:
        if self.tap is not None:
            try:
                self.tap.agent(payload, starts_in)
            except Exception:  # noqa: BLE001 likewise
                self._give_up()

    def cut(self) -> None:
        if self.tap is not None:
            try:
                self.tap.cut()
            except Exception:  # noqa: BLE001 likewise
                self._give_up()

    def _give_up(self) -> None:
        log.exception("%s failed and hears no more of its call", type(self.tap).__name__)
        self.tap = None


class MediaSession:
    """A call, answered and connected. Made by the exchange, handed to your handler, which iterates it.

    Iteration ends when the stream does. Besides media events it yields the call events that concern a conversation
    (``MachineDetected``, ``TransferProgress``). ``format`` is the audio format of both directions, whatever the
    carrier uses; ``custom`` the values that travelled with the stream.
    """

    def __init__(
        self,
        call: Call,
        agent_id: str,
        serializer: MediaSerializer,
        transport: MediaTransport,
        control: CallControl,
        *,
        format: AudioFormat = PCMU_8K,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.call = call
        self.agent_id = agent_id
        self.format = format
        self.custom: Mapping[str, str] = {}
        self.stream_id = ""
        self.malformed_frames = 0
        """Frames from the carrier that could not be read; each was delivered as an UnknownEvent."""
        self.unreadable: UnreadableAudio | None = None
        """What is wrong with a stream whose sound cannot be decoded; such a stream is over as it starts."""
        self.stop_reason: str | None = None
        """Why the stream ended, None while it runs."""
        self.relay: Callable[[str], Awaitable[None]] | None = None
        """Takes the base64 of plain audio frames as it came, instead of events; see :meth:`relays`."""
        self.relay_stopped: Callable[[], None] | None = None
        """Told when relaying has to end."""
        self._serializer = serializer
        self._transport = transport
        self._push = transport if isinstance(transport, PushTransport) else None
        self._control = control
        self._clock = clock
        self._position = PlaybackPosition()
        self._tap: GuardedTap | None = None
        self._relay_now: Callable[[str], None] | None = None
        self._relay_frame: Callable[[Frame], object] | None = None
        self._marks: dict[str, str] = {}
        self._waiting_marks: dict[str, asyncio.Future[None]] = {}
        self._events = EventQueue()
        self._started: asyncio.Future[StreamStarted] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self._decode_to: Transcoder | None = None
        self._encode_from = (
            None if serializer.audio_out == format else Transcoder(source=format, target=serializer.audio_out)
        )
        self.outlet: Outlet | None = None
        """For sound that is base64 already, where the transport pushes."""
        if self._push is not None:
            self.outlet = Outlet(
                self._push,
                serializer,
                self._position,
                bytes_per_second=format.bytes_per_second,
                clock=clock,
                otherwise=self._send_now,
                mark=self._mark_now,
            )
        self._divert()

    # --- for the handler ------------------------------------------------------------------------------------------

    @property
    def line_number(self) -> str:
        """Our own number on this call."""
        return self.call.line_number

    @property
    def ended(self) -> bool:
        """True once the stream is over."""
        return self._stopped.is_set()

    @property
    def sent(self) -> float:
        """Seconds of audio sent so far, cleared ones included."""
        return self._position.sent

    @property
    def heard(self) -> float:
        """Seconds of it the far end has heard so far; stays right across :meth:`clear`."""
        return self._position.heard(self._clock())

    @property
    def queued(self) -> float:
        """Where, in seconds of :attr:`heard`, audio sent now would begin to be heard."""
        return self._position.queued

    @property
    def remaining(self) -> float:
        """Seconds of audio sent that are, by our best knowledge, still to be heard."""
        return self._position.remaining(self._clock())

    @property
    def silent_for(self) -> float:
        """Seconds since all that was sent had been played, by the clock; negative while it plays."""
        return self._clock() - self._position.ends_at

    async def wait_stopped(self) -> None:
        """Wait until the stream is over."""
        await self._stopped.wait()

    def __aiter__(self) -> MediaSession:
        return self

    async def __anext__(self) -> MediaEvent | CallEvent:
        return await self._events.get()

    @property
    def dropped_frames(self) -> int:
        """Audio frames thrown away because the handler did not take them in time."""
        return self._events.dropped

    async def send_audio(self, payload: bytes) -> None:
        """Speak: ``payload`` in :attr:`format`, any length, as fast as you like; the carrier buffers and paces it.

        Raises ``StreamNotOpen`` once the stream is over.
        """
        if not payload:
            return
        self._check_open()
        seconds = self.format.seconds(len(payload))
        if self._tap is not None:
            self._tap.agent(payload, self._position.remaining(self._clock()))
        if self._encode_from is not None:
            payload = self._encode_from.convert(payload)
        for frame in self._serializer.encode_audio(payload):
            await self._send(frame)
        await self._queued(seconds)

    async def send_relayed(self, base64_audio: str, size: int) -> bool:
        """Speak audio that is base64 already, ``size`` bytes when decoded; False: it must go by :meth:`send_audio`."""
        self._check_open()
        frame = None if self._encode_from is not None else self._serializer.encode_relayed(base64_audio)
        if frame is None:
            return False
        await self._send(frame)
        await self._queued(self.format.seconds(size))
        return True

    def _send_now(self, payload: bytes, base64_audio: str, most: float) -> bool:
        """What an :class:`Outlet` does, for any sound and with whoever hears along."""
        self._check_open()
        now = self._clock()
        if self._position.ends_at - now > most:
            return False
        if self._tap is not None:
            self._tap.agent(payload, self.remaining)
        seconds = self.format.seconds(len(payload))
        frame = None if self._encode_from is not None else self._serializer.encode_relayed(base64_audio)
        if self._encode_from is not None:
            payload = self._encode_from.convert(payload)
        self._write([frame] if frame is not None else self._serializer.encode_audio(payload))
        if self._position.queue(seconds, now) >= RELAYED_MARK_EVERY:
            self._mark_now()
        return True

    def _mark_now(self) -> None:
        if self._serializer.marks:
            self._write(self._serializer.encode_mark(self._position.mark()))

    def _write(self, frames: Sequence[Frame]) -> None:
        assert self._push is not None
        try:
            for frame in frames:
                self._push.write(frame)
        except ConnectionError as lost:
            self.stop("connection lost")
            raise StreamNotOpen("the media connection is gone") from lost

    @property
    def waiting(self) -> int:
        """Events the handler has not taken yet."""
        return len(self._events)

    async def flush(self) -> None:
        """Send what the carrier's frames keep back of an unfinished 20 ms: one utterance is complete."""
        if not self.ended:
            for frame in self._serializer.flush():
                await self._send(frame)

    def stop_relaying(self) -> None:
        """Caller audio comes as events again."""
        self.relay = self._relay_now = self._relay_frame = None
        self._divert()
        if self.relay_stopped is not None:
            self.relay_stopped()

    def relay_pushed(self, audio: Callable[[str], None], frame: Callable[[Frame], object]) -> None:
        """:attr:`relay` where the transport pushes: all caller audio to ``audio`` as base64, at once.

        ``frame`` is shown what the transport brings before anybody else, and answers True where it has passed on the
        sound in it. It is not while somebody hears along, who has to be told of each sound.
        """
        self._relay_now, self._relay_frame = audio, frame
        self._divert()

    @property
    def relays_now(self) -> bool:
        """Whether :meth:`relay_pushed` has begun."""
        return self._relay_now is not None

    @property
    def tap(self) -> Tap | None:
        """Hears along; set by whoever records the call. What it raises ends the hearing, never the call."""
        return self._tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self._tap = None if tap is None else GuardedTap(tap)
        self._divert()

    def _divert(self) -> None:
        """Let sound past us where nobody here has to look at it."""
        if self._push is not None and self.outlet is not None:
            alone = self._tap is None
            self._push.look_first(self._relay_frame if alone else None)
            self.outlet.plain = alone and self._encode_from is None and self.stop_reason is None

    @property
    def transport(self) -> MediaTransport:
        """What carries the frames."""
        return self._transport

    @property
    def serializer(self) -> MediaSerializer:
        """What reads and writes them."""
        return self._serializer

    @property
    def relays(self) -> bool:
        """Whether caller audio is in :attr:`format` on the wire, so that :attr:`relay` may have it untouched."""
        return self._started.done() and self._decode_to is None and self.unreadable is None

    async def _queued(self, seconds: float) -> None:
        self._position.queue(seconds, self._clock())
        if self._serializer.marks and self._position.since_mark >= MARK_EVERY:
            await self._send_mark(self._position.mark())

    async def mark(self, name: str) -> None:
        """Ask for ``MarkReached(name)`` once everything sent so far has been heard.

        A mark that a ``clear`` overtakes never comes back: what it stood for was not heard.
        """
        self._check_open()
        for frame in self._serializer.flush():
            await self._send(frame)
        wire_name = self._position.mark()
        self._marks[wire_name] = name
        if self._serializer.marks:
            await self._send_mark(wire_name)
        else:
            delay = self._position.remaining(self._clock())
            asyncio.get_running_loop().call_later(delay, self._played_until, wire_name)

    async def clear(self) -> Playback:
        """Stop speaking now: what the carrier has buffered is dropped. Returns seconds heard and dropped."""
        self._check_open()
        result = self._position.clear(self._clock())
        if self._tap is not None:
            self._tap.cut()
        self._marks.clear()
        for waiter in self._waiting_marks.values():
            if not waiter.done():
                waiter.set_result(None)
        self._waiting_marks.clear()
        for frame in self._serializer.encode_clear():
            await self._send(frame)
        return result

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until all that was sent has been heard, cleared, or the stream has ended.

        Without ``timeout`` (seconds) it waits as long as the audio lasts, and two seconds for the carrier's word.
        """
        if self.ended or (self._position.proven if self._serializer.marks else self.remaining <= 0):
            return
        for frame in self._serializer.flush():
            await self._send(frame)
        remaining = self._position.remaining(self._clock())
        if not self._serializer.marks:
            await self._wait_stopped(min(remaining, timeout) if timeout is not None else remaining)
            return
        name = self._position.mark()
        waiter = self._waiting_marks[name] = asyncio.get_running_loop().create_future()
        await self._send_mark(name)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait(
                {waiter, stopped},
                timeout=timeout if timeout is not None else remaining + 2.0,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopped.cancel()
            self._waiting_marks.pop(name, None)

    async def hang_up(self, reason: EndReason = EndReason.AGENT_HANGUP) -> None:
        """End the call. One that is over already is success."""
        await self._control.hang_up(self.call, reason)

    async def transfer(self, to: str) -> None:
        """Hand the far end to another number or ``sip:`` address; this stream ends, perhaps at once.

        What is still to be heard may be cut: ``drain`` first.
        """
        await self._control.transfer(self.call, to)

    async def send_digits(self, digits: str) -> None:
        """Press keys for the far end: 0-9 A-D * #, ``w`` waits half a second."""
        await self._control.send_digits(self.call, digits)

    # --- for the exchange and other transports -----------------------------------------------------------------------

    async def read(self) -> None:
        """Take frames from the transport until it closes; then the stream is over."""
        try:
            if self._push is not None:
                await self._push.push_to(self.receive)
                return
            async for frame in self._transport:
                # What is on the wire now must not overtake what the handler has not taken yet.
                if self.relay is None or len(self._events) or not await self._relayed(frame, self.relay):
                    self.receive(frame)
                if self._stopped.is_set():
                    return
        finally:
            self.stop("connection lost")

    async def _relayed(self, frame: Frame, relay: Callable[[str], Awaitable[None]]) -> bool:
        if len(frame) > MAX_FRAME:
            return False  # refused where it is read
        audio = self._serializer.relay(frame)
        if audio is None:
            return False
        await relay(audio)
        return True

    def receive(self, frame: Frame) -> None:
        """Take in one frame. Never raises for what a carrier sends: unreadable frames become events too."""
        try:
            if len(frame) > MAX_FRAME:
                raise MalformedMessage(f"frame of {len(frame)} bytes")
            events = self._serializer.decode(frame)
        except MalformedMessage as problem:
            self.malformed_frames += 1
            self.deliver(UnknownEvent(kind="malformed", raw={"error": str(problem), "frame": problem.raw}))
            return
        for event in events:
            self.deliver(event)

    def deliver(self, event: MediaEvent | CallEvent) -> None:
        """Hand one event to the handler (or act on it, for those that concern the session itself)."""
        if isinstance(event, AudioReceived):
            self._deliver_audio(event)
        elif isinstance(event, MarkReached):
            self._mark_returned(event)
        elif isinstance(event, StreamStarted):
            self._start(event)
        elif isinstance(event, StreamStopped):
            self.stop(event.reason or "stopped by the carrier")
        else:
            self._events.put(event)

    async def wait_started(self, timeout: float) -> StreamStarted | None:
        """The stream's start, None when it does not come within ``timeout`` seconds."""
        await asyncio.wait({self._started}, timeout=timeout)
        return self._started.result() if self._started.done() and not self._started.cancelled() else None

    def stop(self, reason: str) -> None:
        """The stream is over: iteration ends once the events at hand are taken."""
        if self._stopped.is_set():
            return
        self.stop_reason = reason
        self._stopped.set()
        self._divert()
        if not self._started.done():
            self._started.cancel()
        self._events.close()

    async def close(self, code: int = 1000) -> None:
        """Close the transport; the stream is over."""
        self.stop("closed by us")
        await self._transport.close(code)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _start(self, event: StreamStarted) -> None:
        if self._started.done():
            return
        self.stream_id = event.stream_id
        self.custom = event.custom
        self._started.set_result(event)
        if event.format != self.format:
            try:
                self._decode_to = _decoder(event.format, self.format)
            except ValueError:
                sent = event.format
                self.unreadable = UnreadableAudio(self.call.provider, sent.encoding, sent.rate, sent.channels)
                self.stop(str(self.unreadable))

    def _deliver_audio(self, event: AudioReceived) -> None:
        if self.unreadable is not None:
            return
        if self._decode_to is not None:
            payload = self._decode_to.convert(event.payload)
            event = AudioReceived(payload, event.track, event.sequence, event.timestamp, event.raw)
        if self._tap is not None:
            self._tap.caller(event.payload)
        if self._relay_now is not None:
            self._relay_now(b64encode(event.payload).decode())
            return
        self._events.put(event)

    def _played_until(self, wire_name: str) -> None:
        # Timers that a busy loop has set may be due in another order than the sound: what comes before was heard too.
        if wire_name in self._marks:
            due = itertools.takewhile(lambda name: name != wire_name, self._marks)
            for name in (*due, wire_name):
                self._mark_returned(MarkReached(name))

    def _mark_returned(self, event: MarkReached) -> None:
        proven = self._position.reached(event.name, self._clock())
        waiter = self._waiting_marks.pop(event.name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        name = self._marks.pop(event.name, None)
        if name is not None and proven:
            self._events.put(MarkReached(name, event.raw))

    async def _send_mark(self, wire_name: str) -> None:
        for frame in self._serializer.encode_mark(wire_name):
            await self._send(frame)

    async def _send(self, frame: Frame) -> None:
        try:
            await self._transport.send(frame)
        except (ConnectionError, RuntimeError, OSError) as lost:
            self.stop("connection lost")
            raise StreamNotOpen("the media connection is gone") from lost

    def _check_open(self) -> None:
        if self._stopped.is_set():
            raise StreamNotOpen(f"the stream is over: {self.stop_reason}")
        if not self._started.done():
            raise StreamNotOpen("the stream has not started")

    async def _wait_stopped(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return


def _decoder(sent: AudioFormat, format: AudioFormat) -> Transcoder:
    """From what the carrier sends to our format; ``ValueError`` for what cannot be decoded."""
    if not 0 < sent.rate <= HIGHEST_RATE:
        raise ValueError(f"no telephone audio has {sent.rate} samples a second")
    return Transcoder(source=sent, target=format)
