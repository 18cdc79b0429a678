"""pipecat: an echo through the adapter, beside pipecat's own WebSocket transport and serializer; and interruptions."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from bench.frameworks.subject import APART, Row, app, interrupting, run, session


async def converse(transport: Any, rate: int, interrupted: str = "") -> None:
    """The same pipeline for both: what is heard is said. In the call ``interrupted``, two seconds of something are said
    over and over, and interrupted each time."""
    from loguru import logger
    from pipecat.frames.frames import Frame, InputAudioRawFrame, InterruptionFrame, OutputAudioRawFrame
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
    from pipecat.workers.runner import WorkerRunner

    logger.remove()
    logger.add(sys.stderr, level="ERROR")

    class Echo(FrameProcessor):
        async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
            await super().process_frame(frame, direction)
            if isinstance(frame, InputAudioRawFrame) and interrupted:
                return
            if isinstance(frame, InputAudioRawFrame):
                frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
            await self.push_frame(frame, direction)

    worker = PipelineWorker(
        Pipeline([transport.input(), Echo(), transport.output()]),
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )

    @transport.event_handler("on_client_disconnected")
    async def gone(transport: Any, client: Any) -> None:
        await worker.cancel()

    async def talk() -> None:
        while interrupted:
            await worker.queue_frame(OutputAudioRawFrame(bytes(4 * rate), rate, 1))
            await asyncio.sleep(random.uniform(*APART))
            interrupting(interrupted)
            await worker.queue_frame(InterruptionFrame())

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    talking = asyncio.create_task(talk())
    await runner.run()
    talking.cancel()


def adapter(rate: int) -> Any:
    async def talk(called: Any) -> None:
        from anycarrier_pipecat import CallTransport

        await converse(CallTransport(called), rate)

    return talk


async def interrupted(called: Any) -> None:
    from anycarrier_pipecat import CallTransport

    await converse(CallTransport(called), 8000, called.call.id)


def its_own(rate: int) -> Any:
    def make() -> Any:
        from fastapi import FastAPI, WebSocket
        from pipecat.serializers.twilio import TwilioFrameSerializer
        from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport

        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            stream = ""
            while not stream:
                message = json.loads(await websocket.receive_text())
                stream = message["start"]["streamSid"] if message["event"] == "start" else ""
            twilio = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
            params = FastAPIWebsocketParams(
                serializer=twilio,
                audio_in_enabled=True,
                audio_out_enabled=True,
                audio_out_10ms_chunks=2,  # frames of 20 ms on both sides
                audio_out_end_silence_secs=0,
            )
            await converse(FastAPIWebsocketTransport(websocket, params), rate)

        talk.__annotations__["websocket"] = WebSocket  # FastAPI looks for the name among the module's, not here
        made = FastAPI()
        made.add_api_websocket_route("/ws", talk)
        return made

    return app(make, "/ws")


ITS_OWN = "FastAPIWebsocketTransport, 8 kHz"
SUBJECTS = {
    "CallTransport, 8 kHz": session(adapter(8000)),
    "CallTransport, 8 kHz, extra fast": session(adapter(8000), fast=True),
    ITS_OWN: its_own(8000),
    "interrupted": session(interrupted),
}
ROWS = [
    Row("pipecat echo at 8 kHz", "CallTransport, 8 kHz", beside=ITS_OWN, most=0.9),
    Row("pipecat echo at 8 kHz, extra fast", "CallTransport, 8 kHz, extra fast", beside=ITS_OWN, most=0.9),
    Row("pipecat echo at 8 kHz, no marks come back", "CallTransport, 8 kHz", marks=False),
    Row("pipecat interrupted", "interrupted", most=20, interruptions=True),
]

if __name__ == "__main__":
    run(ROWS, SUBJECTS)
