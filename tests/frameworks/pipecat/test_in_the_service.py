"""Bots of pipecat as agents of the service."""

from __future__ import annotations

from pipecat.frames.frames import EndWorkerFrame, Frame, InputDTMFFrame, TTSSpeakFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from anycarrier_pipecat import CallTransport, TransferCallFrame, pipecat_agent
from frameworks.pipecat.bots import Voice, run, worker_of
from frameworks.service_calls import *  # noqa: F403 the scenarios
from frameworks.service_calls import DESK


class Keys(FrameProcessor):
    """``#`` ends the call, ``0`` hands it on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, InputDTMFFrame) and frame.button.value == "#":
            await self.push_frame(TTSSpeakFrame("good bye"))
            await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)
        elif isinstance(frame, InputDTMFFrame) and frame.button.value == "0":
            await self.push_frame(TransferCallFrame(DESK))


async def talk(transport: CallTransport, text: str) -> None:
    worker = worker_of([transport.input(), Keys(), Voice(), transport.output()])
    await worker.queue_frame(TTSSpeakFrame(text))
    await run(worker)


@pipecat_agent
async def desk(transport: CallTransport) -> None:
    await talk(transport, "hello there")


@pipecat_agent
async def chatterbox(transport: CallTransport) -> None:
    await talk(transport, "well " * 600)


@pipecat_agent
async def broken(transport: CallTransport) -> None:
    raise ValueError("no such bot")
