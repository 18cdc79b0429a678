"""Parts of bots: an echo, a voice with word timestamps, what passes by, and a pipeline around a transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pipecat.clocks.base_clock import BaseClock
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.workers.runner import WorkerRunner

from anycarrier_pipecat import CallTransport

WORD = 0.3
"""Seconds that a word of :class:`Voice` lasts."""


class LoopClock(BaseClock):
    """Goes by the event loop, so that a pipeline runs in virtual time, too."""

    def __init__(self) -> None:
        self._began: float | None = None

    def start(self) -> None:
        self._began = asyncio.get_running_loop().time()

    def get_time(self) -> int:
        return 0 if self._began is None else round((asyncio.get_running_loop().time() - self._began) * 1e9) + 1


class Echo(FrameProcessor):
    """Says back what it hears."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
        await self.push_frame(frame, direction)


class Voice(TTSService):
    """Every word lasts 0.3 s; the audio of a text comes at once, as from a fast engine."""

    def __init__(self, **settings: Any) -> None:
        made = TTSSettings(model=None, voice=None, language=None)
        super().__init__(push_stop_frames=True, push_text_frames=False, settings=made, **settings)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        words = text.split()
        if not self.audio_context_available(context_id):
            await self.create_audio_context(context_id)
        yield TTSStartedFrame(context_id=context_id)
        await self.add_word_timestamps([(word, WORD * index) for index, word in enumerate(words)], context_id)
        for index in range(len(words)):
            yield TTSAudioRawFrame(sound_of(index, self.sample_rate), self.sample_rate, 1, context_id=context_id)


def sound_of(index: int, rate: int) -> bytes:
    """A word's audio: a square wave, whose loudness says which word it is."""
    high = (1000 + 1000 * index).to_bytes(2, "little", signed=True)
    low = (-1000 - 1000 * index).to_bytes(2, "little", signed=True)
    return (high * 4 + low * 4) * round(WORD * rate / 8)


class Passing(FrameProcessor):
    """Notes what passes, with the loop's time."""

    def __init__(self, *kinds: type[Frame]) -> None:
        super().__init__()
        self._kinds = kinds
        self.seen: list[tuple[float, Frame]] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, self._kinds):
            self.seen.append((asyncio.get_running_loop().time(), frame))
        await self.push_frame(frame, direction)

    def times(self, kind: type[Frame]) -> list[float]:
        return [at for at, frame in self.seen if isinstance(frame, kind)]


def worker_of(processors: Sequence[FrameProcessor], *, rate: int = 8000, **settings: Any) -> PipelineWorker:
    """A worker without the extras of a conversation, in whose pipeline the session's clock counts."""
    return PipelineWorker(
        Pipeline(list(processors)),
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
        **{"clock": LoopClock(), "enable_rtvi": False, "enable_turn_tracking": False, "idle_timeout_secs": None,
           **settings},
    )  # fmt: skip


async def run(worker: PipelineWorker) -> None:
    """Until the pipeline has ended."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


@asynccontextmanager
async def running(worker: PipelineWorker) -> AsyncIterator[asyncio.Task[None]]:
    """A pipeline that has started; cancelled at the end of the block unless it has ended."""
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(worker: PipelineWorker, frame: Frame) -> None:
        started.set()

    task = asyncio.create_task(run(worker))
    try:
        async with asyncio.timeout(30):
            await started.wait()
        yield task
        if not task.done():
            await worker.cancel()
    finally:
        await asyncio.wait({task}, timeout=60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def cancelling_when_gone(transport: CallTransport, worker: PipelineWorker) -> list[tuple[object, float]]:
    """Has the pipeline cancelled once the far end is gone, as bots do; who was said to be gone, and when."""
    told: list[tuple[object, float]] = []

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport: CallTransport, client: object) -> None:
        told.append((client, asyncio.get_running_loop().time()))
        await worker.cancel()

    return told


def echo_worker(transport: CallTransport, **settings: Any) -> PipelineWorker:
    """What the caller says comes back; the pipeline ends with the call."""
    return worker_of([transport.input(), Echo(), transport.output()], **settings)


async def echo(transport: CallTransport) -> None:
    """A bot for any carrier."""
    await run(echo_worker(transport))
