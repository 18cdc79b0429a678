"""The parts together, at the pace of a real line: detector, recogniser, turn-taking, and a caller who interrupts."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

from anycarrier.audio import PCMU_8K, dtmf_tones, silence
from anycarrier.speech import (
    BargeIn,
    BeginUtterance,
    EmitFinal,
    EmitInterim,
    FinishUtterance,
    Hearing,
    Output,
    Recognizer,
    StopSpeaking,
    Turns,
    Voice,
    VoiceActivityDetector,
)
from anycarrier_speech_local import PocketsphinxEngine, PocketsphinxSettings, SileroEngine

from .test_pocketsphinx import GRAMMAR
from .test_silero import cough, sounding

FRAME = 160


class Line:
    """A caller's audio at its own pace into detector, recogniser and turns; what came out, and when."""

    def __init__(self, turns: Turns, detector: VoiceActivityDetector, recognizer: Recognizer) -> None:
        self.turns, self.detector, self.recognizer = turns, detector, recognizer
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.out: list[tuple[float, Output]] = []

    @property
    def now(self) -> float:
        return self.loop.time() - self.began

    def do(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.out.append((self.now, output))
            if isinstance(output, BeginUtterance):
                self.recognizer.begin()
            if isinstance(output, FinishUtterance):
                self.recognizer.finish()

    async def watch(self) -> None:
        tell = {
            Voice.STARTED: self.turns.speech_started,
            Voice.CONTINUES: self.turns.speech_continues,
            Voice.ENDED: self.turns.speech_ended,
        }
        async for activity in self.detector:
            self.do(tell[activity.voice](self.now, activity.at))

    async def listen(self) -> None:
        async for heard in self.recognizer:
            if heard.final:
                self.do(self.turns.final(self.now, heard.text, complete=heard.complete))
            else:
                self.do(self.turns.interim(self.now, heard.text))

    async def hear(self, audio: bytes) -> None:
        tasks = [asyncio.create_task(self.watch()), asyncio.create_task(self.listen())]
        self.began = self.loop.time()
        for at in range(0, len(audio), FRAME):
            due = self.began + (at + FRAME) / 8000
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            self.detector.feed(audio[at : at + FRAME])
            self.recognizer.feed(audio[at : at + FRAME])
            self.do(self.turns.tick(self.now))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def first(self, kind: type[Any]) -> tuple[float, Any]:
        return next((at, output) for at, output in self.out if isinstance(output, kind))


async def line(opened: Any) -> Line:
    engine = opened(PocketsphinxEngine(PocketsphinxSettings(workers=1)))
    recognizer = await engine.recognizer(Hearing(grammar=GRAMMAR, cued=True))
    detector = await opened(SileroEngine()).voice_activity_detector()
    return Line(Turns(), detector, recognizer)


async def test_an_interruption_is_cut_then_told_then_transcribed(opened: Any, say: Any, record_property: Any) -> None:
    call = await line(opened)
    onsets, ends = [], []
    caller = silence(PCMU_8K, 0.3) + say("transfer me to an operator") + silence(PCMU_8K, 0.9)
    began, ended = sounding(caller)
    for _ in range(3):
        call.turns, call.out = Turns(), []
        call.detector = await opened(SileroEngine()).voice_activity_detector()
        call.turns.playback_started(0.0, "g1")
        await call.hear(caller)
        kinds = [type(o) for _, o in call.out]
        assert kinds[0] is BeginUtterance
        assert kinds.count(StopSpeaking) == kinds.count(BargeIn) == kinds.count(EmitFinal) == 1
        assert kinds.index(StopSpeaking) < kinds.index(BargeIn) < kinds.index(EmitFinal)
        assert all(kinds.index(BargeIn) < place for place, kind in enumerate(kinds) if kind is EmitInterim)
        assert call.first(EmitFinal)[1].text == "transfer me to an operator"
        onsets.append((call.first(StopSpeaking)[0] - began) * 1000)
        ends.append((call.first(EmitFinal)[0] - ended) * 1000)
    record_property("onset_to_stop_ms", round(statistics.median(onsets)))
    record_property("end_to_final_ms", round(statistics.median(ends)))
    print(f"onset to cut {[round(ms) for ms in onsets]} ms; end of speech to final {[round(ms) for ms in ends]} ms")


async def test_keys_and_coughs_over_our_speech_interrupt_nothing(opened: Any) -> None:
    call = await line(opened)
    call.turns.playback_started(0.0, "g1")
    coughs = silence(PCMU_8K, 0.3).join(cough(0.2, seed) for seed in range(3))
    await call.hear(silence(PCMU_8K, 0.3) + dtmf_tones("5#09") + coughs + silence(PCMU_8K, 0.5))
    assert call.out == []
    assert call.turns.speaking == "g1"


async def test_a_voice_that_breaks_off_at_once_does_not_interrupt(opened: Any, say: Any) -> None:
    call = await line(opened)
    call.turns.playback_started(0.0, "g1")
    voice = say("operator")
    began = int(sounding(voice)[0] * 8000)
    await call.hear(silence(PCMU_8K, 0.3) + voice[began : began + 1200] + silence(PCMU_8K, 0.9))
    assert not any(isinstance(o, StopSpeaking | EmitInterim | EmitFinal) for _, o in call.out)
    assert call.turns.speaking == "g1"
