"""The caller's audio as a LiveKit audio input, and a LiveKit audio output that plays to the caller.

The framework takes *sent* for *heard* in several places, so audio is sent at most ``lead`` seconds ahead of the ear.
Positions come from the session's count of audio heard, never from what was sent.
"""

import asyncio
import math
import time
from collections.abc import Callable

from livekit import rtc
from livekit.agents.voice import io

from anycarrier import AudioFormat, AudioReceived, CallEvent, MediaEvent, MediaSession, PacedVoice
from anycarrier.audio import Transcoder
from anycarrier.errors import StreamNotOpen

EventCallback = Callable[[MediaEvent | CallEvent], object]


class CallAudioInput(io.AudioInput):
    """The caller, as 16-bit frames of ``rate`` samples a second (None: the session's); the end of the stream ends it.

    Reads the session, which must have no other reader: all that is not audio (keys, transfers, answering machines) goes
    to ``on_event``. Frames that the framework does not take wait in the session, the last ten seconds of them.
    """

    def __init__(self, session: MediaSession, rate: int | None = None, on_event: EventCallback | None = None) -> None:
        super().__init__(label="call")
        self._session, self._rate, self._on_event = session, rate or session.format.rate, on_event
        self._decode = Transcoder(session.format, AudioFormat("PCM16", self._rate)).convert

    async def __anext__(self) -> rtc.AudioFrame:
        while True:
            event = await anext(self._session)
            if not isinstance(event, AudioReceived):
                if self._on_event is not None:  # as a callback of its own: what it raises is logged, and no harm done
                    asyncio.get_running_loop().call_soon(self._on_event, event)
            elif audio := self._decode(event.payload):
                return rtc.AudioFrame(audio, self._rate, 1, len(audio) // 2)


class Segment:
    """What was captured between two flushes; ``begins`` is where it starts on the session's timeline of audio heard."""

    def __init__(self, transcoder: Transcoder) -> None:
        self.transcoder = transcoder  # its own: nothing of what was cleared is heard in the next
        self.waiting: list[bytes] = []
        self.samples = 0
        self.begins = math.inf


class CallAudioOutput(io.AudioOutput):
    """Plays to the caller at the pace of speech. Takes frames of ``rate`` samples a second (None: the session's).

    Each captured segment is reported finished exactly once: heard to its end, cleared, or cut by the end of the call.
    """

    def __init__(self, session: MediaSession, rate: int | None = None, lead: float = 0.2) -> None:
        self._session, self._rate, self._voice = session, rate or session.format.rate, PacedVoice(session, lead)
        super().__init__(label="call", capabilities=io.AudioOutputCapabilities(pause=True), sample_rate=self._rate)
        self._segments: list[Segment] = []
        self._capturing: Segment | None = None
        self._news = asyncio.Event()
        self._player: asyncio.Task[None] | None = None
        self.over = asyncio.ensure_future(session.wait_stopped())
        """Done once the call's audio is over."""
        self.over.add_done_callback(lambda _: self.clear_buffer())

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Queue a frame. Never waits: a capture that is cancelled half-way would be counted and never finished."""
        if (frame.sample_rate, frame.num_channels) != (self._rate, 1):
            raise ValueError(f"this call takes one channel of {self._rate} samples a second: resample first")
        await super().capture_frame(frame)
        if self._capturing is None:
            self._capturing = Segment(Transcoder(AudioFormat("PCM16", self._rate), self._session.format))
            self._segments.append(self._capturing)
            if self._player is None:
                self._player = asyncio.create_task(self._play(), name="play to the caller")
        self._capturing.waiting.append(bytes(frame.data))  # for nobody, until the flush, where it was cleared
        self._capturing.samples += frame.samples_per_channel
        self._news.set()

    def flush(self) -> None:
        """The segment is complete; it is reported finished once it was heard."""
        super().flush()
        self._capturing = None
        self._news.set()

    def clear_buffer(self) -> None:
        """Stop speaking now, at the carrier too; what was captured so far is reported as far as it was heard."""
        if self._segments:
            self._voice.cut()
        while self._segments:
            self._finish_first(interrupted=True)
        self._news.set()

    def pause(self) -> None:
        """Stop at once and keep what was not heard."""
        self._voice.pause()

    def resume(self) -> None:
        """Go on where :meth:`pause` stopped."""
        self._voice.resume()
        self._news.set()

    async def _play(self) -> None:
        try:
            while self._segments:
                segment = self._segments[0]
                self._news.clear()
                if segment.waiting and not self._voice.paused:
                    if segment.begins == math.inf:
                        segment.begins = self._session.queued
                        self.on_playback_started(created_at=time.time() + self._session.ahead)
                    audio, segment.waiting = segment.transcoder.convert(b"".join(segment.waiting)), []
                    await self._voice.say(audio)
                elif segment is not self._capturing and not segment.waiting:
                    await self._voice.say(segment.transcoder.flush())
                    await self._voice.done()
                    if segment in self._segments:
                        self._finish_first(interrupted=self._session.ended)
                else:
                    await self._news.wait()
        except StreamNotOpen:
            pass  # what was not heard is reported, as always
        finally:
            self._player = None
            self.clear_buffer()

    def _finish_first(self, *, interrupted: bool) -> None:
        segment = self._segments.pop(0)
        position = segment.samples / self._rate
        if interrupted:
            position = max(0.0, min(position, self._session.heard - segment.begins))
        # Later: the framework clears in the middle of its own clean-up, and takes the report after it.
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: self.on_playback_finished(playback_position=position, interrupted=interrupted))
