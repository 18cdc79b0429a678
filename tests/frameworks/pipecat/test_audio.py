"""The caller's audio as pipecat's frames, and back."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from array import array

import pytest
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame, StartFrame

from anycarrier import PCMA_8K, PCMU_8K, AudioFormat
from anycarrier.audio import L16_16K, Transcoder, pcm16_to_pcma, pcm16_to_pcmu, pcma_to_pcm16, pcmu_to_pcm16
from anycarrier.testing.session import Marks, open_session
from anycarrier_pipecat import CallTransport, default_params
from frameworks.pipecat.bots import Passing, echo_worker, running, worker_of

NEGATIVE_ZERO = 0x7F
"""Mu-law has two codes for 0. PCM has one, which is sent as 0xFF: the same silence."""


def test_g711_through_pcm_is_the_same_bytes_but_for_the_second_zero_of_mu_law() -> None:
    every = bytes(range(256))
    assert pcm16_to_pcma(pcma_to_pcm16(every)) == every
    back = pcm16_to_pcmu(pcmu_to_pcm16(every))
    assert [code for code in every if back[code] != code] == [NEGATIVE_ZERO]
    assert back[NEGATIVE_ZERO] == 0xFF
    assert pcmu_to_pcm16(bytes((NEGATIVE_ZERO, 0xFF))) == bytes(4)


@pytest.mark.parametrize("pushes", [True, False])
@pytest.mark.parametrize("format", [PCMU_8K, PCMA_8K], ids=["mu-law", "A-law"])
async def test_a_minute_comes_back_byte_for_byte(format: AudioFormat, pushes: bool) -> None:
    said = random.Random(1).randbytes(8000 * 60)
    async with (
        open_session(format=format, pushes=pushes) as (session, far_end),
        running(echo_worker(CallTransport(session))),
    ):
        await far_end.say(said)
        await far_end.wait_heard(60.0)
        expected = said.replace(bytes((NEGATIVE_ZERO,)), b"\xff") if format == PCMU_8K else said
        assert far_end.heard == expected


@pytest.mark.parametrize("marks", ["lost", "none"])
async def test_all_audio_comes_back_from_a_far_end_that_echoes_no_marks(marks: Marks) -> None:
    said = random.Random(2).randbytes(8000 * 30).replace(b"\x7f", b"\xff")
    async with open_session(marks=marks) as (session, far_end), running(echo_worker(CallTransport(session))):
        await far_end.say(said)
        await far_end.wait_heard(30.0)
        assert far_end.heard == said


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_the_pipeline_hears_and_speaks_at_its_own_rate(rate: int) -> None:
    said = tone_of(440, 2.0)
    async with open_session() as (session, far_end):
        transport = CallTransport(session)
        seen = Passing(InputAudioRawFrame)
        worker = worker_of([transport.input(), seen, transport.output()], rate=rate)
        async with running(worker):
            await far_end.say(b"\xff")  # too little to be resampled yet
            await far_end.say(pcm16_to_pcmu(said))
            frames = [frame for _, frame in seen.seen if isinstance(frame, InputAudioRawFrame)]
            assert {frame.sample_rate for frame in frames} == {rate}
            assert all(frame.audio for frame in frames)
            seconds = sum(len(frame.audio) for frame in frames) / 2 / rate
            assert 1.99 < seconds <= 2.0002  # what the resampler holds back
            assert transport.output().sample_rate == 8000, "pipecat resamples speech once, to what the call takes"
            assert 430 < pitch(b"".join(frame.audio for frame in frames), rate) < 450
            await worker.queue_frame(OutputAudioRawFrame(tone_of(660, 1.0, rate), rate, 1))
            await far_end.wait_heard(0.9)
            assert 650 < pitch(pcmu_to_pcm16(far_end.heard), 8000) < 670


async def test_a_wideband_call_is_heard_and_spoken_at_its_own_rate() -> None:
    said = tone_of(3000, 1.0, 16000)
    async with open_session(format=L16_16K) as (session, far_end):
        async with running(echo_worker(CallTransport(session), rate=16000)):
            wire = Transcoder(AudioFormat("PCM16", 16000), L16_16K).convert(said)
            await far_end.say(wire)
            await far_end.wait_heard(1.0)
            assert far_end.heard == wire


async def test_audio_of_another_rate_than_the_calls_is_resampled() -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, default_params(audio_out_sample_rate=16000))
        async with running(worker := worker_of([transport.input(), transport.output()], rate=16000)):
            assert transport.output().sample_rate == 16000, "as asked for"
            await worker.queue_frame(OutputAudioRawFrame(tone_of(660, 2.0, 16000), 16000, 1))
            await far_end.wait_heard(1.8)
            assert 650 < pitch(pcmu_to_pcm16(far_end.heard), 8000) < 670


@pytest.mark.parametrize("marks", ["echo", "lost"])
@pytest.mark.parametrize("lead", [0.1, 0.2, 1.0])
async def test_audio_is_sent_no_more_than_the_lead_ahead(lead: float, marks: Marks) -> None:
    async with open_session(marks=marks) as (session, far_end):
        transport = CallTransport(session, lead=lead)
        async with running(worker := worker_of([transport.input(), transport.output()])):
            await worker.queue_frame(OutputAudioRawFrame(tone_of(440, 5.0), 8000, 1))
            furthest = 0.0
            while far_end.heard_seconds < 4.9:
                furthest = max(furthest, far_end.waiting)
                await asyncio.sleep(0.005)
            assert lead - 0.021 <= furthest <= lead + 0.021
            assert len(far_end.heard_at) == 1, "and never too late"


async def test_the_caller_is_there_before_anything_is_heard() -> None:
    order: list[str] = []

    class Order(Passing):
        async def process_frame(self, frame, direction):  # type: ignore[no-untyped-def]
            if not isinstance(frame, StartFrame) and frame.name.split("#")[0] not in order:
                order.append(frame.name.split("#")[0])
            await super().process_frame(frame, direction)

    async with open_session() as (session, far_end):
        transport = CallTransport(session)

        @transport.event_handler("on_client_connected")
        async def on_client_connected(transport: CallTransport, client: object) -> None:
            assert client is session
            order.append("on_client_connected")

        async with running(worker_of([transport.input(), Order(), transport.output()])):
            await far_end.say(bytes(1600))
    assert order.index("on_client_connected") < order.index("InputAudioRawFrame")
    assert order.index("ClientConnectedFrame") < order.index("InputAudioRawFrame")


def tone_of(frequency: float, seconds: float, rate: int = 8000) -> bytes:
    """A sine wave in linear PCM."""
    count = round(seconds * rate)
    return array("h", [round(8000 * math.sin(2 * math.pi * frequency * n / rate)) for n in range(count)]).tobytes()


def pitch(audio: bytes, rate: int) -> float:
    """Of a tone: how often it crosses zero upwards, in the middle half."""
    samples = array("h", audio)
    samples = samples[len(samples) // 4 : len(samples) // 4 * 3]
    crossings = sum(1 for a, b in itertools.pairwise(samples) if a < 0 <= b)
    return crossings * rate / len(samples)
