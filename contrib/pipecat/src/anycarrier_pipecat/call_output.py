"""From the pipeline to the call: audio a little ahead of the ear, interruption, keys, transfer, and the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipecat.frames import frames
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.utils import obj_id

from anycarrier import AnycarrierError, AudioFormat, EndReason
from anycarrier.audio import Transcoder
from anycarrier.errors import StoreUnavailable, StreamNotOpen
from anycarrier_pipecat.call_input import log

if TYPE_CHECKING:
    from anycarrier_pipecat.transport import CallTransport

LEAD = 0.2
"""Seconds that audio is sent before it is heard. pipecat takes what was written for heard, so it must not be much."""

CHUNK = 0.02
"""Seconds: how early "heard" may be told, so that speech which goes on has no gap; and how often we look."""


@dataclass
class TransferCallFrame(frames.DataFrame):
    """Hands the caller to another number or ``sip:`` address, once the speech before it has been heard.

    An interruption does not drop it. A transfer that is refused comes back as an ``ErrorFrame``; the call goes on.
    """

    to: str
    interruptible: bool = field(default=False, init=False)


class CallOutput(BaseOutputTransport):
    """The only one who speaks into the session."""

    def __init__(self, transport: CallTransport, params: TransportParams, lead: float) -> None:
        # Frames go straight to pipecat's queue of audio, not through two queues before it, each with a task of its own:
        # that is a tenth of the CPU, and an interruption comes sooner. Nothing here is slow but keys and the end.
        super().__init__(params, enable_direct_mode=True)
        self._transport = transport
        self._session = transport.session
        self._lead = lead
        self._ending: asyncio.Task[None] | None = None
        """Once cancelled: hanging up."""
        self._fresh_from = 0
        """Interruptible audio of a frame with a lower id is stale."""
        self._interrupting = False
        """While an interruption is handled."""
        self._kept_until = 0.0
        """When, by the loop's clock, all that may not be interrupted has been heard."""

    async def start(self, frame: frames.StartFrame) -> None:
        """The call is connected already."""
        await super().start(frame)
        self._encode = Transcoder(AudioFormat("PCM16", self.sample_rate), self._session.format).convert
        await self.set_transport_ready(frame)

    async def stop(self, frame: frames.EndFrame) -> None:
        """Let all be heard that is queued, then hang up."""
        await super().stop(frame)
        with contextlib.suppress(StreamNotOpen):
            await self._session.drain()
        await self._hang_up()

    async def cancel(self, frame: frames.CancelFrame) -> None:
        """Be silent and hang up at once."""
        ending = self.end_now()
        await super().cancel(frame)
        await asyncio.shield(ending)

    def end_now(self) -> asyncio.Task[None]:
        """What ``cancel`` does, for the input, which gets the frame though a processor between may never pass it on."""
        if self._ending is None:
            with contextlib.suppress(StreamNotOpen):
                self._session.clear_now()
            self._ending = asyncio.create_task(self._hang_up(), name="hang up")
        return self._ending

    async def process_frame(self, frame: frames.Frame, direction: FrameDirection) -> None:
        """An interruption silences the carrier before anything else."""
        if not isinstance(frame, frames.InterruptionFrame):
            await super().process_frame(frame, direction)
            return
        self._fresh_from, self._interrupting = obj_id(), True
        if asyncio.get_running_loop().time() >= self._kept_until:
            with contextlib.suppress(StreamNotOpen):
                self._session.clear_now()
        try:
            await super().process_frame(frame, direction)
        finally:
            self._interrupting = False

    async def push_frame(self, frame: frames.Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """The bot has stopped speaking when the ear says so."""
        if isinstance(frame, frames.BotStoppedSpeakingFrame) and not self._interrupting:
            await self._heard()
        await super().push_frame(frame, direction)

    async def write_audio_frame(self, frame: frames.OutputAudioRawFrame) -> bool:
        """Send one chunk, and return when the next one is wanted."""
        # When an interruption empties pipecat's queue, the task that writes may have one more chunk in hand.
        if self._ending or (frame.interruptible and frame.id < self._fresh_from):
            return False
        if not frame.interruptible:
            self._keep(len(frame.audio) / (2 * self.sample_rate))
        try:
            await self._session.send_audio(self._encode(frame.audio))
        except StreamNotOpen:
            return False
        # pipecat cancels a write that lasts too long and takes the peer for gone: no state may be changed from here on.
        early = self._session.ahead - self._lead
        if early > 0:  # and a quarter of the lead at a time: a timer for each chunk costs a tenth of the CPU
            await asyncio.sleep(min(early + self._lead / 4, self._params.audio_out_write_timeout_secs / 2))
        return True

    async def write_transport_frame(self, frame: frames.Frame) -> None:
        """A transfer, when it is its turn."""
        if isinstance(frame, TransferCallFrame):
            await self._attempt(self._transport.transfer(frame.to))

    def _supports_native_dtmf(self) -> bool:
        return True

    async def _write_dtmf_native(self, frame: frames.OutputDTMFFrame | frames.OutputDTMFUrgentFrame) -> None:
        await self._attempt(self._press(frame))

    async def _press(self, frame: frames.OutputDTMFFrame | frames.OutputDTMFUrgentFrame) -> None:
        if isinstance(frame, frames.OutputDTMFFrame):
            await self._heard()
        await self._session.send_digits("".join(frame.buttons or ()))
        self._keep(0.0)  # where the carrier takes no keys they are tones: whoever answers them must not cut them off

    async def _attempt(self, work: Awaitable[None]) -> None:
        """What fails here must not end the task that speaks."""
        try:
            await work
        except (AnycarrierError, StoreUnavailable, ValueError) as failure:
            # Without a category pipecat may take a carrier's refusal for the end of this transport.
            await self.push_error(str(failure), exception=failure, category=ErrorCategory.UNKNOWN)

    def _keep(self, seconds: float) -> None:
        """What is sent already, and ``seconds`` more, may not be interrupted."""
        self._kept_until = asyncio.get_running_loop().time() + self._session.ahead + seconds

    async def _heard(self) -> None:
        """Wait until all that was sent has been heard, but for the last chunk; or cleared, or the call is over."""
        with contextlib.suppress(StreamNotOpen):
            await self._session.flush()
        while (unheard := self._session.ahead - CHUNK) > 0 and not self._session.ended:  # noqa: ASYNC110
            await asyncio.sleep(min(unheard, CHUNK))

    async def _hang_up(self) -> None:
        if self._session.ended or ((handler := self._transport.handler) and handler.cancelling()):
            return  # others know why it ends
        try:
            await self._session.hang_up(EndReason.AGENT_HANGUP)  # which does not end a call that was transferred
        except (AnycarrierError, StoreUnavailable) as failure:
            # An exception would keep the frame from the rest of the pipeline. The exchange asks once more.
            log.warning("call %s was not hung up: %s", self._session.call.reference, failure)
