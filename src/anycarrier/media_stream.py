"""One media stream: the carrier's frames in, events out, from its start frame to its end.

There is one way in, with a fast path: a frame of plain audio may be relayed as the base64 it carries, without being
decoded, while nothing that came before it waits. Every other frame becomes events, which wait until they are taken:
audio within bounds, everything else in full. Below the session that a handler holds; for the exchange and for bridges.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from pybase64 import b64encode_as_string

from anycarrier.audio import AudioFormat, Transcoder
from anycarrier.audio_output import AudioOutput
from anycarrier.errors import ConfigurationError, MalformedMessage, UnreadableAudio
from anycarrier.events import (
    AudioReceived,
    CallEvent,
    DigitPressed,
    DigitReported,
    MarkReached,
    MediaEvent,
    StreamStarted,
    StreamStopped,
    UnknownEvent,
)
from anycarrier.listener import MediaTransport, PushTransport
from anycarrier.serializer import Frame, MediaSerializer
from anycarrier.tap import GuardedTap, Tap

QUEUE_FRAMES = 500
"""Audio events kept for a slow handler (10 s of 20 ms frames); beyond that the oldest audio is dropped."""

LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000
"""Samples a second: fewer would make hours of a frame, and more only the resampler's tables large."""

KEYS = frozenset("0123456789ABCD*#")

MAX_FRAME = 256 * 1024
"""Bytes; the longest frame any carrier sends is a few kilobytes."""

PAIRED_WITHIN = 30.0
"""Seconds between the stream's and the webhook's report of one key press; webhooks may be retried."""

Relay = Callable[[str], Awaitable[object] | None]
"""Takes base64 audio. What it returns, if anything, is awaited; on a transport that pushes it must return None."""


class EventQueue:
    """What a handler has not taken yet. One producer that never waits, one consumer that does."""

    def __init__(self) -> None:
        self.dropped = 0
        self.waiting: deque[MediaEvent | CallEvent] = deque()
        self._audio = 0
        self._closed = False
        self._failure: Exception | None = None
        self._wake: asyncio.Future[None] | None = None

    def put(self, event: MediaEvent | CallEvent) -> None:
        """Add an event; after :meth:`close` it is too late."""
        if self._closed:
            return
        if isinstance(event, AudioReceived):
            if self._audio >= QUEUE_FRAMES:
                self._drop_oldest_audio()
            self._audio += 1
        self.waiting.append(event)
        self._rouse()

    async def get(self) -> MediaEvent | CallEvent:
        """The next event; ``StopAsyncIteration`` once closed and empty. Raises what :meth:`fail` was given, once."""
        while not self.waiting or self._failure is not None:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            if self._closed:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        event = self.waiting.popleft()
        if isinstance(event, AudioReceived):
            self._audio -= 1
        return event

    def take_audio(self) -> list[AudioReceived]:
        """The audio that waits; the other events stay."""
        taken = [event for event in self.waiting if isinstance(event, AudioReceived)]
        if taken:
            others = [event for event in self.waiting if not isinstance(event, AudioReceived)]
            self.waiting.clear()  # the same object: AudioInput looks at it
            self.waiting.extend(others)
            self._audio = 0
        return taken

    def convert_audio(self, converter: Transcoder) -> None:
        """Convert the audio that waits, in its place."""
        last = None
        for index, event in enumerate(self.waiting):
            if isinstance(event, AudioReceived):
                self.waiting[index] = last = _with_payload(event, converter.convert(event.payload))
                at = index
        if last is not None:
            self.waiting[at] = _with_payload(last, last.payload + converter.flush())

    def fail(self, failure: Exception) -> None:
        """Have :meth:`get` raise this next: what took events in the handler's place has failed."""
        self._failure = failure
        self._rouse()

    def close(self) -> None:
        """No more events; those at hand may still be taken."""
        self._closed = True
        self._rouse()

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _drop_oldest_audio(self) -> None:
        for index, queued in enumerate(self.waiting):
            if isinstance(queued, AudioReceived):
                del self.waiting[index]
                self._audio -= 1
                self.dropped += 1
                return


def _with_payload(event: AudioReceived, payload: bytes) -> AudioReceived:
    return AudioReceived(payload, event.track, event.sequence, event.timestamp, event.raw)


class KeyPresses:
    """Tells new key presses from repeats: a press that the other path, stream or webhook, has already reported.

    A report is paired with the first unpaired report of the same key on the other path. Keys that only one path reports
    all count. A press is missed only if each path loses a different one of two presses of the same key.
    """

    def __init__(self) -> None:
        self._unpaired: dict[str, deque[tuple[str, float]]] = {"stream": deque(), "webhook": deque()}

    def is_new(self, digit: str, path: str, now: float) -> bool:
        """Whether this report, by ``path`` at ``now``, is the first one of its key press."""
        other = self._unpaired["webhook" if path == "stream" else "stream"]
        while other and now - other[0][1] > PAIRED_WITHIN:
            other.popleft()
        for index, (reported, _) in enumerate(other):
            if reported == digit:
                del other[index]
                return False
        self._unpaired[path].append((digit, now))
        return True


class AudioInput:
    """Audio from the caller: relayed as it came, or decoded into events. A small object: see docs/benchmarks.md."""

    __slots__ = ("_events", "_serializer", "_waiting", "decoder", "monitor", "receiver", "relay", "tap")

    def __init__(self, serializer: MediaSerializer, events: EventQueue) -> None:
        self._serializer = serializer
        self._events = events
        self._waiting = events.waiting
        self.decoder: Transcoder | None = None
        self.relay: Relay | None = None
        self.receiver: Callable[[str], None] | None = None
        """Takes all audio, in base64, in place of the events. It may be the relay too, which takes what came so."""
        self.tap: GuardedTap | None = None
        self.monitor: Callable[[bytes], object] | None = None
        """Gets all audio too, as the carrier sent it."""

    def pass_on(self, frame: Frame) -> Awaitable[object] | bool | None:
        """Relay a frame of plain audio. False: it has to be received; anything else may have to be awaited."""
        relay = self.relay
        if relay is None or self._waiting or len(frame) > MAX_FRAME:
            return False
        audio = self._serializer.relay(frame)
        if audio is None:
            return False
        if self.tap is not None or self.monitor is not None:
            try:
                payload = b64decode(audio)
            except ValueError:
                return False  # not base64: the serializer says what that is
            if self.monitor is not None:
                self.monitor(payload)
            if self.tap is not None:
                self.tap.caller(payload)
        return relay(audio)

    def deliver(self, event: AudioReceived) -> None:
        """Queue audio for the handler, in the session's format."""
        if self.monitor is not None and event.track != "outbound":
            self.monitor(event.payload)
        if self.decoder is not None:
            event = _with_payload(event, self.decoder.convert(event.payload))
        if self.tap is not None:
            self.tap.caller(event.payload)
        if self.receiver is not None:
            self.receiver(b64encode_as_string(event.payload))
        else:
            self._events.put(event)


class MediaStream:
    """The carrier's end of a session."""

    def __init__(
        self,
        provider: str,
        serializer: MediaSerializer,
        transport: MediaTransport,
        *,
        format: AudioFormat,
        clock: Callable[[], float],
    ) -> None:
        self.format = format
        self.custom: Mapping[str, str] = {}
        self.id = ""
        self.malformed_frames = 0
        self.unreadable: UnreadableAudio | None = None
        self.stop_reason: str | None = None
        self.transport = transport
        self.push = transport if isinstance(transport, PushTransport) else None
        """The transport, where it pushes."""
        self.relay_stopped: Callable[[], None] | None = None
        """Called when relaying has to end, in both directions."""
        self.events = EventQueue()
        self._key_presses = KeyPresses()
        self._clock = clock
        self.input = AudioInput(serializer, self.events)
        self._serializer = serializer
        self._provider = provider
        self._started: asyncio.Future[StreamStarted] = asyncio.get_running_loop().create_future()
        self._stopped = asyncio.Event()
        self.output = AudioOutput(
            serializer,
            transport,
            format=format,
            clock=clock,
            stopped=self._stopped,
            lost=lambda: self.stop("connection lost"),
            returned=self.events.put,
        )

    # --- frames and events --------------------------------------------------------------------------------------------

    async def read(self) -> None:
        """Take frames from the transport until it closes; then the stream is over."""
        try:
            if self.push is not None:
                await self.push.push_to(self.receive)
                return
            pass_on = self.input.pass_on
            async for frame in self.transport:
                passed = pass_on(frame)
                if passed is False:
                    self.receive(frame)
                elif passed is not None:
                    await passed  # type: ignore[misc]  # True is never returned
                if self._stopped.is_set():
                    return
        finally:
            self.stop("connection lost" if self._serializer.stop_frame else "closed by the carrier")

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
        """Hand one event to the handler (or act on it, for those that concern the stream itself)."""
        if isinstance(event, AudioReceived):
            if self.unreadable is None:
                self.input.deliver(event)
        elif isinstance(event, MarkReached):
            self.output.mark_returned(event)
        elif isinstance(event, DigitPressed | DigitReported):
            self._press(event)
        elif isinstance(event, StreamStarted):
            self._start(event)
        elif isinstance(event, StreamStopped):
            self.stop(event.reason or "stopped by the carrier")
        else:
            self.events.put(event)

    def _press(self, event: DigitPressed | DigitReported) -> None:
        """Hand over keys, and only keys: agents act on them, and what a carrier calls one may be any text."""
        of_stream, keys = isinstance(event, DigitPressed), event.digit.upper()
        if not keys or not KEYS.issuperset(keys) or (of_stream and len(keys) > 1):
            self.events.put(UnknownEvent(kind="digit", raw={"digit": event.digit[:40]}))
            return
        for digit in keys:
            if self._key_presses.is_new(digit, "stream" if of_stream else "webhook", self._clock()):
                self.events.put(DigitPressed(digit, event.raw))

    # --- relaying -----------------------------------------------------------------------------------------------------

    @property
    def relaying(self) -> bool:
        """Whether plain audio is relayed."""
        return self.input.relay is not None

    def relay_to(self, relay: Relay) -> None:
        """From now on give plain audio frames to ``relay``; the rest still come as events.

        Nothing changes where the carrier's audio is not in the session's format: it has to be decoded.
        """
        if self.relaying or not self._started.done() or self.input.decoder is not None or self.unreadable is not None:
            return
        self.input.relay = relay
        if self.push is not None:
            self.push.look_first(self.input.pass_on)

    def stop_relaying(self) -> None:
        """Caller audio comes as events again."""
        self.input.relay = None
        if self.push is not None:
            self.push.look_first(None)
        if self.relay_stopped is not None:
            self.relay_stopped()

    @property
    def tap(self) -> Tap | None:
        """Listens in. What it raises ends that, never the call."""
        return self.input.tap

    @tap.setter
    def tap(self, tap: Tap | None) -> None:
        self.input.tap = self.output.tap = None if tap is None else GuardedTap(tap)
        self.output.changed()

    def monitor(self, callback: Callable[[bytes], object] | None) -> None:
        """Have the caller's audio given to ``callback`` too, in the carrier's format, whoever gets it besides.

        ``callback`` does not wait and does not raise. None ends it.
        """
        self.input.monitor = callback

    @property
    def carrier_format(self) -> AudioFormat | None:
        """The format of the carrier's audio; None before the start."""
        known = self._started.done() and not self._started.cancelled()
        return self._started.result().format if known else None

    def receive_base64(self, callback: Callable[[str], None] | None) -> None:
        """Give all caller audio to ``callback`` in base64, that which waits first; None: it comes as events again."""
        if self.input.receiver is not None:
            self.input.receiver = None
            self.stop_relaying()
        if callback is None:
            return

        def give(base64_audio: str) -> None:
            try:
                callback(base64_audio)
            except Exception as failure:  # noqa: BLE001 it is the handler's, which gets it where it iterates
                if self.input.receiver is give:
                    self.receive_base64(None)
                self.events.fail(failure)

        self.input.receiver = give
        for event in self.events.take_audio():
            if self.input.receiver is give:
                give(b64encode_as_string(event.payload))
            else:  # the callback has failed
                self.events.put(event)
        if self.input.receiver is give:
            self.relay_to(give)

    def set_format(self, format: AudioFormat) -> None:
        """Both directions are in ``format`` from now on, and so is the audio that waits.

        ``ValueError``, and nothing changed, for a format that we cannot convert to.
        """
        if format == self.format:
            return
        if self.tap is not None:
            how = "give its agent's format as audio=, to raw_agent, Agents.add or what made the agent"
            raise ConfigurationError(f"the call is recorded, and its format stays {self.format.encoding}: {how}")
        decoder = None
        if self._started.done() and not self._started.cancelled() and self._started.result().format != format:
            decoder = _decoder(self._started.result().format, format)
        converter = Transcoder(source=self.format, target=format)
        self.output.set_format(format)
        self.events.convert_audio(converter)
        self.format = format
        self.input.decoder = decoder
        receiver = self.input.receiver
        if self.relaying:
            self.stop_relaying()  # what came so far was untouched, and may not be any more
        if receiver is not None:
            self.relay_to(receiver)

    # --- start and end ------------------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """True once the stream is over."""
        return self._stopped.is_set()

    async def wait_started(self, timeout: float) -> StreamStarted | None:
        """The stream's start, None when it does not come within ``timeout`` seconds."""
        await asyncio.wait({self._started}, timeout=timeout)
        return self._started.result() if self._started.done() and not self._started.cancelled() else None

    async def wait_stopped(self) -> None:
        """Wait until the stream is over."""
        await self._stopped.wait()

    def stop(self, reason: str) -> None:
        """The stream is over: iteration ends once the events at hand are taken."""
        if self._stopped.is_set():
            return
        self.stop_reason = reason
        self._stopped.set()
        self.output.closed(f"the stream is over: {reason}")
        if not self._started.done():
            self._started.cancel()
        self.events.close()

    async def close(self, code: int = 1000) -> None:
        """Close the transport; the stream is over."""
        self.stop("closed by us")
        await self.transport.close(code)

    def _start(self, event: StreamStarted) -> None:
        if self._started.done():
            return
        self.id = event.stream_id
        self.custom = event.custom
        self._started.set_result(event)
        wrong = event.format
        try:
            if event.format != self.format:
                self.input.decoder = _decoder(event.format, self.format)
            wrong = self._serializer.audio_out
            self.output.opened()
        except ValueError:
            self.unreadable = UnreadableAudio(self._provider, wrong.encoding, wrong.rate, wrong.channels)
            self.stop(str(self.unreadable))


def _decoder(sent: AudioFormat, format: AudioFormat) -> Transcoder:
    """From what the carrier sends to our format; ``ValueError`` for what cannot be decoded."""
    if not LOWEST_RATE <= sent.rate <= HIGHEST_RATE:
        raise ValueError(f"no telephone audio has {sent.rate} samples a second")
    return Transcoder(source=sent, target=format)
