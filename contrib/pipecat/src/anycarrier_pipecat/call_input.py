"""From the call into the pipeline: audio and keys as frames, everything else as events of the transport."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames import frames
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import TransportParams

from anycarrier import AudioFormat, AudioReceived, DigitPressed, MachineDetected, TransferProgress
from anycarrier.audio import Transcoder

if TYPE_CHECKING:
    from anycarrier_pipecat.transport import CallTransport

log = logging.getLogger("anycarrier_pipecat")

KEYS = "0123456789*#"
EVENTS: dict[type, str] = {MachineDetected: "on_machine_detected", TransferProgress: "on_transfer"}
"""The transport's events for the session's."""


class CallInput(BaseInputTransport):
    """The only reader of the session."""

    def __init__(self, transport: CallTransport, params: TransportParams) -> None:
        super().__init__(params)
        self._transport = transport
        self._session = transport.session
        self._reader: asyncio.Task[None] | None = None

    async def start(self, frame: frames.StartFrame) -> None:
        """Tell that the caller is there, then begin to read."""
        await super().start(frame)
        if self._reader is not None:  # again, after a StopFrame
            return
        # This is the first processor to start: one further down may still hang.
        self.pipeline_worker.add_event_handler("on_pipeline_started", lambda *_: self._transport.started.set())
        await self._transport._call_event_handler("on_client_connected", self._session)
        await self.push_frame(frames.ClientConnectedFrame())
        await self.set_transport_ready(frame)
        self._reader = self.create_task(self._read())

    async def push_audio_frame(self, frame: frames.InputAudioRawFrame) -> None:
        """Straight on where nothing filters it: pipecat's queue for filters costs a task and a timer for each frame."""
        plain = self._params.audio_in_enabled and self._params.audio_in_passthrough and not self._params.audio_in_filter
        await (self.push_frame(frame) if plain and not self._paused else super().push_audio_frame(frame))

    async def process_frame(self, frame: frames.Frame, direction: FrameDirection) -> None:
        """The end begins here: nothing more is read, for it is the bot that ends the call."""
        if isinstance(frame, frames.CancelFrame):
            self._transport.output().end_now()
        if isinstance(frame, frames.EndFrame | frames.CancelFrame):
            await self._stop_reading()
        await super().process_frame(frame, direction)

    async def cleanup(self) -> None:
        """Also without ``stop``: a pipeline that did not start is only cleaned up."""
        await self._stop_reading()
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._transport.cleanup()  # type: ignore[no-untyped-call]

    async def _stop_reading(self) -> None:
        if self._reader is not None:
            await self.cancel_task(self._reader)

    async def _read(self) -> None:
        rate = self.sample_rate
        # Not pipecat's resampler: it holds 110 ms of the caller back, this one 2 ms.
        decode = Transcoder(self._session.format, AudioFormat("PCM16", rate)).convert
        async for event in self._session:
            if isinstance(event, AudioReceived):
                if audio := decode(event.payload):
                    await self.push_audio_frame(frames.InputAudioRawFrame(audio, rate, 1))
            elif isinstance(event, DigitPressed) and event.digit in KEYS:
                await self.push_frame(frames.InputDTMFFrame(KeypadEntry(event.digit)))
            elif isinstance(event, DigitPressed):
                log.warning("key %s dropped: pipecat has no keys but 0-9, * and #", event.digit)
            elif name := EVENTS.get(type(event)):
                await self._transport._call_event_handler(name, event)
        await self._transport._call_event_handler("on_client_disconnected", self._session)
        if not self._transport._event_handlers["on_client_disconnected"].handlers:
            await self.push_frame(frames.CancelWorkerFrame(reason="the far end is gone"), FrameDirection.UPSTREAM)
