"""Audio to the caller: put into the carrier's frames, sent, and counted until it was heard.

There is one way out, in two forms: :meth:`AudioOutput.send` waits while the peer is slow, :meth:`AudioOutput.send_now`
writes at once on transports that can. Both encode, tell the tap and advance the position in the same order.

What is sent goes out in the order in which it was asked for, one thing at a time, frame by frame. Only a clear
overtakes: it stops what is being sent between two frames, and nothing that is asked for after it goes out before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence

from anycarrier.audio import PCMU_8K, AudioFormat, Transcoder, dtmf_tones
from anycarrier.errors import StreamNotOpen
from anycarrier.events import MarkDropped, MarkReached
from anycarrier.listener import MediaTransport, PushTransport
from anycarrier.position import Playback, PlaybackPosition
from anycarrier.serializer import Frame, MediaSerializer
from anycarrier.tap import GuardedTap

MARK_EVERY = 0.5
"""Seconds of audio between marks of our own: two extra frames a second buy a proven position."""

RELAYED_MARK_EVERY = 2.0
"""The same for relayed audio. Its position is needed only when it is cut, and the clock is nearly enough for that."""
ON_THE_WAY = 0.2
"""Seconds from us to the far end's ear: added by a drain where no marks tell, so that a hang-up cuts no last word."""


class Order(asyncio.Lock):
    """Lets one sender at a time through, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.senders = 0
        """Those inside and those who wait; the lock of asyncio counts as free between one of them and the next."""

    async def __aenter__(self) -> None:
        self.senders += 1
        try:
            await self.acquire()
        except BaseException:
            self.senders -= 1
            raise

    async def __aexit__(self, *raised: object) -> None:
        self.senders -= 1
        self.release()


class AudioOutput:
    """One stream's. ``refusal`` says why nothing can be sent, and is None while the stream is open.

    ``lost`` is called when the transport turns out to be gone, ``returned`` with each mark that was reached or dropped.
    Its slots are what a frame touches: see docs/benchmarks.md, under the media table.
    """

    __slots__ = ("_bytes_per_second", "_clear_frames", "_clearing", "_clock", "_format", "_in_flight", "_keys_end",
                 "_lost", "_marks", "_most", "_order", "_push", "_returned", "_roomy", "_serializer", "_stopped",
                 "_transcoder", "_transport", "_unpaused", "_waiters", "_write", "plain", "position", "refusal",
                 "resumed", "tap")  # fmt: skip

    def __init__(
        self,
        serializer: MediaSerializer,
        transport: MediaTransport,
        *,
        format: AudioFormat,
        clock: Callable[[], float],
        stopped: asyncio.Event,
        lost: Callable[[], None],
        returned: Callable[[MarkReached | MarkDropped], None],
    ) -> None:
        self._serializer = serializer
        self._transport = transport
        self._push = transport if isinstance(transport, PushTransport) else None
        self._write = None if self._push is None else self._push.write
        self._bytes_per_second = format.bytes_per_second
        self._clock = clock
        self._stopped = stopped
        self._lost = lost
        self._returned = returned
        self._format = format
        self._transcoder: Transcoder | None = None
        self._marks: dict[str, str] = {}
        self._most = serializer.buffer_seconds
        self._waiters: dict[str, asyncio.Future[None]] = {}
        self.position = PlaybackPosition(carrier_marks=serializer.marks)
        self.refusal: str | None = "the stream has not started"
        self.tap: GuardedTap | None = None
        self.plain = False
        """True while relayed audio need only be wrapped and written."""
        self.resumed: Callable[[], None] | None = None
        """Called when a transport that pushes is no longer ``paused``."""
        self._order = Order()
        """Held by what is being sent, so that everything goes out in the order in which it was asked for."""
        self._in_flight = 0.0
        """Seconds in the frame that the transport is sending: it can no longer be held back, nor has it been heard."""
        self._keys_end = 0.0
        """When, by the clock, the last of our keys in the stream has been sent."""
        self._clear_frames: deque[Frame] = deque()
        """A clear that has to wait for the transport; nothing goes out before it."""
        self._clearing: asyncio.Task[StreamNotOpen | None] | None = None
        self._unpaused: asyncio.Future[None] | None = None
        self._roomy = None if self._most is None else asyncio.Event()
        """Set when a clear, or the end, makes room in the carrier's buffer."""
        if self._push is not None:
            self._push.resumed = self._transport_resumed

    def opened(self) -> None:
        """The stream has started; its serializer knows what the carrier takes. ``ValueError``: we cannot encode it."""
        self.refusal = None
        self.set_format(self._format)

    def set_format(self, format: AudioFormat) -> None:
        """What is sent from now on is in ``format``. ``ValueError``, and nothing changed, when we cannot encode it."""
        if self.refusal is None:
            to = self._serializer.audio_out
            self._transcoder = None if to == format else Transcoder(source=format, target=to)
        self._format = format
        self._bytes_per_second = format.bytes_per_second
        self.changed()

    def closed(self, refusal: str) -> None:
        """The stream is over, and ``refusal`` says so."""
        self.refusal = refusal
        self.position.end(self._clock())
        if self._roomy is not None:
            self._roomy.set()
        self.changed()
        self._lost = _over  # it refers to what refers to us: both go when they are left, not with a garbage collection
        if self._clearing is not None and self._clearing is not asyncio.current_task():
            self._clearing.cancel()
        if self._push is not None:
            self._transport_resumed()
            self._push.resumed = None

    def changed(self) -> None:
        """``refusal`` or ``tap`` was set."""
        self.plain = self.refusal is None and self.tap is None and self._transcoder is None

    @property
    def remaining(self) -> float:
        """Seconds of audio sent that are, by our best knowledge, still to be heard."""
        return self.position.remaining(self._clock())

    @property
    def silent_for(self) -> float:
        """Seconds since all that was sent had been played, by the clock; negative while it plays."""
        return self._clock() - self.position.ends_at

    # --- the way out --------------------------------------------------------------------------------------------------

    async def send(self, payload: bytes, base64_audio: str | None = None, mark_every: float = MARK_EVERY) -> None:
        """Send ``payload``, which may also be given in base64 where it came so; waits while the peer is slow.

        A mark of our own follows after ``mark_every`` seconds of audio without one. Raises ``StreamNotOpen`` once the
        stream is over.
        """
        frames = None
        free = self._push is not None and not self._push.paused and not self._order.senders
        if free and (self._most is None or self.remaining < self._most):
            frames = self._frames(payload, base64_audio)
            if len(frames) == 1:
                self._write_all(frames)
                since_mark = self.position.queue(len(payload) / self._bytes_per_second, self._clock())
                if since_mark >= mark_every:
                    self._write_all(self._mark_frames())
                return
        self._check_open()
        generation, format = self.position.generation, self._format
        async with self._order:
            if self._clear_frames:
                await self._finish_clear()
            if self._overtaken(generation):
                return
            if frames is None:
                if format is not self._format:  # set while this has waited
                    payload, base64_audio = Transcoder(format, self._format).convert(payload), None
                frames = self._frames(payload, base64_audio)
            seconds = len(payload) / self._bytes_per_second
            size = sum(map(len, frames))
            if not size:
                self.position.queue(seconds, self._clock())
            for frame in frames:
                if not await self._put(frame, generation, seconds * len(frame) / size):
                    return
            if self.position.since_mark >= mark_every:
                for frame in self._mark_frames():
                    await self._put(frame, generation)

    def send_now(self, payload: bytes, base64_audio: str, most: float) -> bool:
        """The same without waiting, where the transport pushes. Mind the transport's ``paused``.

        False, and nothing sent, with more than ``most`` seconds still to be played.
        """
        write = self._write
        assert write is not None
        now = self._clock()
        position = self.position
        if position.ends_at - now > most:
            return False
        try:
            # Fifty times a second and call: audio that need only be wrapped, without another function call.
            frame = self._serializer.encode_relayed(base64_audio) if self.plain else None
            if frame is not None:
                write(frame)
            else:
                for frame in self._frames(payload, base64_audio):
                    write(frame)
            if position.queue(len(payload) / self._bytes_per_second, now) >= RELAYED_MARK_EVERY:
                for frame in self._mark_frames():
                    write(frame)
        except ConnectionError as lost:
            raise self._gone() from lost
        return True

    def _frames(self, payload: bytes, base64_audio: str | None) -> Sequence[Frame]:
        self._check_open()
        if self.tap is not None:
            self.tap.agent(payload, self.remaining)
        if self._transcoder is not None:
            return self._serializer.encode_audio(self._transcoder.convert(payload))
        frame = None if base64_audio is None else self._serializer.encode_relayed(base64_audio)
        return self._serializer.encode_audio(payload) if frame is None else (frame,)

    def _mark_frames(self) -> Sequence[Frame]:
        return self._serializer.encode_mark(self.position.mark()) if self._serializer.marks else ()

    def _write_all(self, frames: Sequence[Frame]) -> None:
        assert self._push is not None
        try:
            for frame in frames:
                self._push.write(frame)
        except (ConnectionError, RuntimeError, OSError) as lost:
            raise self._gone() from lost

    async def _put(self, frame: Frame, generation: int | None = None, seconds: float = 0.0) -> bool:
        """Send one frame with ``seconds`` of audio in it; :attr:`_order` is held.

        False once a clear has overtaken what is sent in this ``generation``; without one, nothing overtakes it.
        """
        if self._roomy is not None and seconds and not await self._has_room(self._roomy, generation):
            return False
        if self._push is not None:
            while self._push.paused and self.refusal is None:
                self._unpaused = asyncio.get_running_loop().create_future()
                await self._unpaused
            self._check_open()
            if self._overtaken(generation):
                return False
            self._write_all((frame,))
            if seconds:
                self.position.queue(seconds, self._clock())
            return True
        self._in_flight = seconds
        try:
            await self._transport.send(frame)
        except (ConnectionError, RuntimeError, OSError) as lost:
            seconds = 0.0
            raise self._gone() from lost
        finally:  # also of a frame whose sender was cancelled: it may well have been sent
            self._in_flight = 0.0
            if seconds and not self._overtaken(generation):
                self.position.queue(seconds, self._clock())
        return not self._overtaken(generation)

    async def _has_room(self, roomy: asyncio.Event, generation: int | None) -> bool:
        """Wait until the carrier's buffer takes more; False once a clear has overtaken what is sent."""
        assert self._most is not None
        while self.refusal is None and not self._overtaken(generation) and (ahead := self.remaining - self._most) > 0:
            roomy.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(ahead, 0.02)):
                    await roomy.wait()
        self._check_open()
        return not self._overtaken(generation)

    def _overtaken(self, generation: int | None) -> bool:
        return generation is not None and generation != self.position.generation

    def _transport_resumed(self) -> None:
        if self._unpaused is not None and not self._unpaused.done():
            self._unpaused.set_result(None)
        if self.resumed is not None:
            self.resumed()

    def _gone(self) -> StreamNotOpen:
        self._lost()
        return StreamNotOpen("the media connection is gone")

    def _check_open(self) -> None:
        if self.refusal is not None:
            raise StreamNotOpen(self.refusal)

    async def send_digits(self, digits: str) -> bool:
        """Send digits in frames of the carrier's; False, and nothing sent, where it takes none for them."""
        frames = self._serializer.encode_digits(digits)
        if frames is None:
            return False
        self._check_open()
        lasts = len(dtmf_tones(digits)) / PCMU_8K.bytes_per_second
        async with self._order:
            await self._finish_clear()
            for frame in frames:
                await self._put(frame)
            self._keys_end = max(self._clock(), self.position.ends_at, self._keys_end) + lasts
        return True

    # --- marks, clear and drain ---------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Send what the transcoder and the serializer keep back of an utterance that is complete."""
        generation = self.position.generation
        async with self._order:
            await self._flush(generation)

    async def _flush(self, generation: int, *, complete: bool = True) -> bool:
        """False once a clear has overtaken what was sent before; :attr:`_order` is held."""
        await self._finish_clear()
        if not self._overtaken(generation) and self.refusal is None:
            frames: list[Frame] = []
            if complete and self._transcoder is not None and (rest := self._transcoder.flush()):
                frames += self._serializer.encode_audio(rest)
            frames += self._serializer.flush()
            for frame in frames:
                if not await self._put(frame, generation):
                    break
        return not self._overtaken(generation)

    async def mark(self, name: str) -> None:
        """Have ``returned`` called with ``MarkReached(name)`` once everything sent so far has been heard.

        With ``MarkDropped(name)`` if it is cleared instead.
        """
        self._check_open()
        generation = self.position.generation
        async with self._order:
            if not await self._flush(generation, complete=False):  # speech may go on; a click would be heard in it
                self._returned(MarkDropped(name))
                return
            self._check_open()
            wire_name = self.position.mark()
            self._marks[wire_name] = name
            if self._serializer.marks:
                for frame in self._serializer.encode_mark(wire_name):
                    await self._put(frame, generation)
            else:
                asyncio.get_running_loop().call_later(self.remaining, self._played_until, wire_name)

    def clear_now(self) -> Playback:
        """Make the carrier drop what it has not played; what is being sent goes no further.

        On a transport that pushes, the carrier's frame is written at once. Elsewhere it is the next that goes out.
        """
        self._check_open()
        frames = self._serializer.encode_clear()
        now = self._clock()
        if self._in_flight:
            self.position.queue(self._in_flight, now)
            self._in_flight = 0.0
        result = self.position.clear(now)
        if self._roomy is not None:
            self._roomy.set()
        if self._transcoder is not None:
            self._transcoder.flush()  # half a sample kept of what is cleared would turn all that follows into noise
        if self.tap is not None:
            self.tap.cut()
        for name in self._marks.values():
            self._returned(MarkDropped(name))
        self._marks.clear()
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        if self._push is not None:
            self._write_all(frames)
        else:
            self._clear_frames.extend(frames)
            if self._clearing is None:
                self._clearing = asyncio.ensure_future(self._send_clear())
        return result

    async def clear(self) -> Playback:
        """:meth:`clear_now`, and wait until the carrier's frame is sent."""
        result = self.clear_now()
        if self._clearing is not None:
            sent = self._clearing
            await asyncio.wait({sent})
            if not sent.cancelled() and (lost := sent.result()) is not None:
                raise lost
        return result

    async def _send_clear(self) -> StreamNotOpen | None:
        try:
            async with self._order:
                await self._finish_clear()
        except StreamNotOpen as lost:
            return lost
        finally:
            self._clearing = None
        return None

    async def _finish_clear(self) -> None:
        """Send a clear that waits; :attr:`_order` is held. A cancelled sender leaves it to the next one."""
        while self._clear_frames:
            frame = self._clear_frames[0]
            await self._put(frame)
            if self._clear_frames and self._clear_frames[0] is frame:
                self._clear_frames.popleft()

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until all that was sent has been heard, cleared, or the stream has ended; keys, until they were sent."""
        began = self._clock()
        await self._drain_sound(timeout)
        # By a mark behind them, the keys were sent; else by the clock: a clear drops the mark, and no key.
        keys = self._keys_end - self._clock()
        if keys > 0.0:
            await self._wait_stopped(keys if timeout is None else min(keys, began + timeout - self._clock()))

    async def _drain_sound(self, timeout: float | None) -> None:
        if self._stopped.is_set():
            return
        has_marks = self._serializer.marks
        generation, keys_end = self.position.generation, self._keys_end
        async with self._order:
            if not await self._flush(generation):
                return
            keys = keys_end - self._clock()
            remaining = self.remaining
            if not has_marks and self.position.sent:
                remaining = self.position.ends_at + ON_THE_WAY - self._clock()
            if (self.position.proven and keys <= 0.0) if has_marks else remaining <= 0:
                return
            if has_marks:
                name = self.position.mark()
                waiter = self._waiters[name] = asyncio.get_running_loop().create_future()
                for frame in self._serializer.encode_mark(name):
                    await self._put(frame, generation)
        if not has_marks:
            await self._wait_stopped(min(remaining, timeout) if timeout is not None else remaining)
            return
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait(
                {waiter, stopped},
                timeout=timeout if timeout is not None else max(remaining, keys) + 2.0,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopped.cancel()
            self._waiters.pop(name, None)
        if waiter.done() and (generation, keys_end) == (self.position.generation, self._keys_end):
            self._keys_end = 0.0

    def mark_returned(self, event: MarkReached) -> None:
        """The carrier says that playback reached a mark, or dropped it at a clear."""
        proven = self.position.reached(event.name, self._clock())
        waiter = self._waiters.pop(event.name, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        name = self._marks.pop(event.name, None)
        if name is not None and proven:
            self._returned(MarkReached(name, event.raw))

    def _played_until(self, wire_name: str) -> None:
        # Timers that a busy loop has set may be due in another order than the audio: what comes before was heard too.
        if wire_name in self._marks:
            due = itertools.takewhile(lambda name: name != wire_name, self._marks)
            for name in (*due, wire_name):
                self.mark_returned(MarkReached(name))

    async def _wait_stopped(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return


def _over() -> None:
    """That a transport is lost means nothing once the stream is over."""
