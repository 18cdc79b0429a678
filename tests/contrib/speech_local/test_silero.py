"""Voice detection: voices are heard when they begin and end; keys, ringing, coughs and noise are not voices."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import struct
import time
from itertools import pairwise
from typing import Any

import numpy
import pytest

from anycarrier.audio import L16_16K, PCM16_8K, PCMU_8K, Transcoder, dtmf_tones, pcm16_to_pcmu, pcmu_to_pcm16, silence
from anycarrier.speech import Voice, VoiceActivity, VoiceActivityDetector
from anycarrier_speech_local import SileroEngine, SileroSettings
from anycarrier_speech_local.worker import QUIET_WINDOWS, Detector

LEAD = silence(PCMU_8K, 0.5)
END = LEAD + silence(PCMU_8K, 0.5)


def mulaw(samples: list[float]) -> bytes:
    return pcm16_to_pcmu(struct.pack(f"<{len(samples)}h", *(max(-32768, min(32767, round(s))) for s in samples)))


def sounding(audio: bytes) -> tuple[float, float]:
    """Seconds at which a sound begins and ends, by its loudness in 10 ms steps."""
    pcm = pcmu_to_pcm16(audio)
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    loud = [n for n in range(0, len(samples) - 80, 80) if max(map(abs, samples[n : n + 80])) > 700]
    return loud[0] / 8000, (loud[-1] + 80) / 8000


async def told(detector: VoiceActivityDetector, audio: bytes, beacon: bytes) -> list[VoiceActivity]:
    """All that is said of ``audio``; the ``beacon`` is a voice after it that says when to stop waiting."""
    for at in range(0, len(audio) + len(beacon), 160):
        detector.feed((audio + beacon)[at : at + 160])
    end = PCMU_8K.seconds(len(audio))
    found = []
    async with asyncio.timeout(30):
        async for activity in detector:
            if activity.at > end:
                return found
            found.append(activity)
    raise AssertionError("the detector closed")


@pytest.fixture
async def engine(opened: Any) -> SileroEngine:
    made: SileroEngine = opened(SileroEngine())
    return made


async def test_a_voice_is_told_when_it_begins_and_ends(engine: SileroEngine, say: Any, record_property: Any) -> None:
    detector = await engine.voice_activity_detector()
    assert isinstance(detector, VoiceActivityDetector)
    audio = LEAD + say("i would like to book an appointment") + END
    began, ended = sounding(audio)
    activity = await told(detector, audio, say("yes please"))
    started = next(a.at for a in activity if a.voice is Voice.STARTED)
    last = [a.at for a in activity if a.voice is Voice.ENDED][-1]
    record_property("onset_lag_ms", round((started - began) * 1000))
    print(f"onset {1000 * (started - began):+.0f} ms, end {1000 * (last - ended):+.0f} ms against the sound's own")
    assert abs(started - began) < 0.15
    assert abs(last - ended) < 0.25


async def test_confirmation_never_runs_ahead_of_the_audio(engine: SileroEngine, say: Any) -> None:
    detector = await engine.voice_activity_detector()
    activity = await told(detector, say("what are your opening hours") + END, say("yes please"))
    places = [a.at for a in activity]
    assert places == sorted(places)
    kinds = [a.voice for a in activity]
    for before, after in pairwise(kinds):
        assert (after is Voice.STARTED) == (before is Voice.ENDED)


def _ringback() -> bytes:
    tones = [math.tau * frequency / 8000 for frequency in (440, 480)]
    return mulaw([6000 * sum(math.sin(tone * n) for tone in tones) for n in range(16000)])


def _noise(seconds: float, level: float, seed: int = 1) -> bytes:
    noise = random.Random(seed)
    return mulaw([noise.gauss(0, level) for _ in range(int(8000 * seconds))])


def cough(seconds: float, seed: int) -> bytes:
    noise, count = random.Random(seed), int(8000 * seconds)
    return mulaw([noise.gauss(0, 8000) * math.exp(-3 * n / count) for n in range(count)])


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(dtmf_tones("1234567890*#"), id="keys"),
        pytest.param(dtmf_tones("5", tone=1.0), id="a key held down"),
        pytest.param(_ringback(), id="ringback"),
        pytest.param(_noise(3.0, 1500), id="loud noise"),
        pytest.param(_noise(3.0, 100), id="line noise"),
        pytest.param(END.join(cough(0.2, seed) for seed in range(6)), id="coughs"),
        pytest.param(silence(PCMU_8K, 2.0), id="silence"),
    ],
)
async def test_what_is_no_voice_is_not_taken_for_one(engine: SileroEngine, say: Any, sound: bytes) -> None:
    detector = await engine.voice_activity_detector()
    assert await told(detector, LEAD + sound + END, say("yes please")) == []


async def test_sixteen_kilohertz_is_looked_at_as_such(engine: SileroEngine, say: Any) -> None:
    wide = Transcoder(PCMU_8K, L16_16K)
    audio = wide.convert(LEAD + say("goodbye") + END)
    detector = await engine.voice_activity_detector(L16_16K)
    for at in range(0, len(audio), 640):
        detector.feed(audio[at : at + 640])
    async with asyncio.timeout(30):
        voices = [(await anext(aiter(detector))).voice for _ in range(3)]
    assert voices == [Voice.STARTED, Voice.CONTINUES, Voice.CONTINUES]


async def test_calls_share_a_model_and_not_a_state(engine: SileroEngine, say: Any) -> None:
    talking, quiet = [await engine.voice_activity_detector() for _ in range(2)]
    beacon = say("yes please")
    both = await asyncio.gather(
        told(talking, LEAD + say("cancel my appointment") + END, beacon),
        told(quiet, LEAD + _noise(2.0, 200) + END, beacon),
    )
    assert both[0] != []
    assert both[1] == []


async def test_a_killed_worker_costs_neither_the_call_nor_its_clock(engine: SileroEngine, say: Any) -> None:
    detector = await engine.voice_activity_detector()
    first = LEAD + say("i would like to book an appointment")
    cut = int(8000 * 1.6)  # in the middle of the voice
    for at in range(0, cut, 160):
        detector.feed(first[at : at + 160])
    voices = aiter(detector)
    async with asyncio.timeout(30):
        while (await anext(voices)).at < 1.3:
            pass
    os.kill(engine.pool.process_ids[0], signal.SIGKILL)
    rest = first[cut:] + END
    for at in range(0, len(rest), 160):
        detector.feed(rest[at : at + 160])
    _, really = sounding(first)
    async with asyncio.timeout(30):
        while not ((activity := await anext(voices)).voice is Voice.ENDED and activity.at > really - 0.25):
            pass
    assert abs(activity.at - really) < 0.3


async def test_the_cost_of_a_call_is_measured(opened: Any, say: Any, record_property: Any) -> None:
    engine = opened(SileroEngine(SileroSettings(workers=1)))
    detector = await engine.voice_activity_detector()
    (worker,) = engine.pool.process_ids
    before = _cpu(worker)
    audio = (say("what are your opening hours") + END) * 20
    began = time.perf_counter()
    await told(detector, audio, say("yes please"))
    spent = _cpu(worker) - before
    share = 100 * spent / PCMU_8K.seconds(len(audio))
    record_property("core_percent_per_call", round(share, 2))
    print(f"{share:.2f} % of a core for each call; {time.perf_counter() - began:.2f} s for {len(audio) / 8000:.0f} s")
    assert share < 25


def _cpu(process: int) -> float:
    """Seconds of processor time a process has used."""
    with open(f"/proc/{process}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_second_of_silence_makes_the_model_forget_the_last_utterance() -> None:
    """Otherwise the next one is noticed late, or never."""
    heard: list[bool] = []

    class Session:
        def run(self, _: None, given: dict[str, Any]) -> tuple[Any, Any]:
            heard.append(bool(given["state"].any()))
            return numpy.full((1, 1), 0.9 if given["input"][0, -1] else 0.1, "f4"), numpy.ones((2, 1, 128), "f4")

    detector = Detector(Session(), PCM16_8K, threshold=0.5)
    voice, quiet = struct.pack("<256h", *[9000] * 256), bytes(512)
    detector.feed(voice + quiet * (QUIET_WINDOWS - 1) + voice)
    assert heard == [False] + [True] * (QUIET_WINDOWS), "a pause within an utterance loses nothing"
    heard.clear()
    detector.feed(quiet * QUIET_WINDOWS + voice + voice)
    assert heard == [True] * QUIET_WINDOWS + [False, True]
