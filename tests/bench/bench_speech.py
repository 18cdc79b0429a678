"""Free speech on this machine: what recordings of people become, what it costs, how long a caller waits for it.

The recordings are `../shared/speech_clips` (ANYCARRIER_SHARED, or ``--folder``), put through a simulated telephone
line: nobody in them was called. Whisper is heard through its engine and worker process, and where turns matter through
Silero and the turn machine too. CPU times are of one thread and hold on a busy machine; waits need a quiet one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from result import Result, parser, percentile
from speech_calls import converse, tracks
from speech_line import RATE, Clip, Sound, active_db, frames_db, line, mulaw, read_clips, wordless
from speech_listening import cpu_seconds, final, listen, resident_mb, workers

from anycarrier.audio import PCMU_8K, silence
from anycarrier.speech import SpeakingStyle, SpeechEngine, TurnSettings, end_of_turn, open_speech_engine
from anycarrier.testing.word_errors import heard_phrase, normalized, word_errors

SHARED = Path(os.environ.get("ANYCARRIER_SHARED") or Path(__file__).resolve().parents[2].parent / "shared")
WORKER = "anycarrier_speech_whisper.worker"
NOISE, LOSS = 15.0, 3.0
TALKERS = 12

BOUNDS: dict[str, float] = {
    "words wrong, clean": 0.09,
    "words wrong, noise at 15 dB": 0.23,
    "words wrong, 3 % of frames lost": 0.12,
    "command values heard with a phrase list, clean": 0.95,
    "command values heard with a phrase list, noise at 15 dB": 0.80,
    "sounds without words that become words": 6.0,
    "CPU of a final, p50 s": 0.20,
    "CPU of a final, p95 s": 0.30,
    "end of speech to final, p50 s": 0.60,
    "end of speech to final, p95 s": 0.80,
    "text to first audio, p50 s": 0.08,
    "text to first audio, p95 s": 0.20,
    "talkers on one worker, late frames": 0.0,
    "talkers on one worker, final after the silence rule, p95 s": 0.5,
}
"""What must be kept: values heard at least, all others at most."""

BY_THE_WORDS = TurnSettings(silence_timeout=None, punctuated=True)
ALWAYS_HALF_A_SECOND = replace(BY_THE_WORDS, incomplete_endpointing=BY_THE_WORDS.endpointing)

SENTENCES = (
    "Sure.",
    "Good morning, how can I help you?",
    "I can book you in for Tuesday at nine thirty.",
    "Please hold the line while I check that for you.",
    "Your order left our warehouse yesterday afternoon.",
    "Could you tell me the name on the account?",
    "The total comes to forty two dollars and fifty cents.",
    "We are open from eight in the morning until six in the evening.",
    "I am sorry, I did not catch the last part.",
    "Would you like to leave a message for the doctor?",
    "Your appointment was moved to the following week.",
    "There are two flights in the morning and one at night.",
    "Let me read that back to you.",
    "Is there anything else I can do for you today?",
    "A technician will call you before he comes.",
    "Thank you for calling, and have a good day.",
)
"""What an agent says."""


@dataclass
class Figure:
    """One row: ``value`` is held against the bound of that name, if there is one."""

    name: str
    value: float
    shown: str
    how: str = ""

    @property
    def kept(self) -> bool:
        bound = BOUNDS.get(self.name)
        if bound is None:
            return True
        return self.value >= bound if self.name.startswith("command values") else self.value <= bound


@dataclass
class World:
    """The engines, the recordings, and what was asked for."""

    clips: list[Clip]
    quick: bool
    whisper: SpeechEngine
    """Without interims while somebody speaks."""
    live: SpeechEngine
    """As it is by default."""
    silero: SpeechEngine
    cpu: list[float] = field(default_factory=list)
    """CPU seconds of each final of a clean recording so far."""

    @property
    def said(self) -> list[Clip]:
        """The clips whose words are known."""
        return self.some([clip for clip in self.clips if clip.text])

    @property
    def commands(self) -> list[Clip]:
        """The clips whose values are known."""
        return self.some([clip for clip in self.clips if clip.slots])

    def some(self, clips: list[Clip]) -> list[Clip]:
        return clips[::6] if self.quick else clips

    @property
    def worker(self) -> int:
        return workers(WORKER)[0]


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def seconds(value: float) -> str:
    return f"{value:.3f} s"


@dataclass
class Words:
    """How many words were said, and how many of them were recognized wrong."""

    said: int = 0
    wrong: int = 0

    def add(self, said: str, heard: str) -> None:
        self.said += len(normalized(said))
        self.wrong += word_errors(said, heard)

    @property
    def rate(self) -> float:
        return self.wrong / max(1, self.said)

    def figure(self, name: str, how: str = "") -> Figure:
        return Figure(name, self.rate, percent(self.rate), f"{self.wrong} of {self.said}{how}")


def spread(name: str, times: list[float], how: str) -> list[Figure]:
    """The median and the 95th percentile of ``times``."""
    found = (("p50", percentile(times, 0.5)), ("p95", percentile(times, 0.95)))
    return [Figure(f"{name}, {share} s", value, seconds(value), how) for share, value in found]


# --- words ------------------------------------------------------------------------------------------------------------


async def words(world: World, name: str, **conditions: float) -> list[Figure]:
    """Each recording as one utterance."""
    count = Words()
    for number, clip in enumerate(world.said):
        began = cpu_seconds(world.worker)
        text = await final(world.whisper, line(clip, world.clips, seed=number, **conditions))
        world.cpu += [] if conditions else [cpu_seconds(world.worker) - began]
        count.add(clip.text, text)
    return [count.figure(name)]


async def words_in_turns(world: World) -> list[Figure]:
    """Each recording as a call: the detector and the turn machine decide what an utterance is."""
    count, parts = Words(), 0
    for number, clip in enumerate(world.said):
        answer = await listen(world.whisper, world.silero, line(clip, world.clips, seed=number))
        count.add(clip.text, answer.text)
        parts += len(answer.finals)
    return [count.figure("words wrong, clean, cut into turns", f"; {len(world.said)} recordings in {parts} utterances")]


async def values(world: World, name: str, **conditions: float) -> list[Figure]:
    phrases = sorted({slot for clip in world.clips for slot in clip.slots})
    found = asked = 0
    for number, clip in enumerate(world.commands):
        sound = line(clip, world.clips, seed=number, **conditions)
        answer = await listen(world.whisper, world.silero, sound, phrases=phrases)
        found += sum(heard_phrase(slot, answer.text) for slot in clip.slots)
        asked += len(clip.slots)
    return [Figure(name, found / max(1, asked), percent(found / max(1, asked)), f"{found} of {asked}")]


async def no_words(world: World) -> list[Figure]:
    became: list[str] = []
    sounds = list(wordless(world.clips).items())
    for name, sound in sounds[:: 6 if world.quick else 1]:
        clip = Clip(name, sound)
        answer = await listen(world.whisper, world.silero, line(clip, world.clips))
        if answer.text:
            became.append(f"{name}: {answer.text!r}")
    shown = f"{len(became)} of {len(sounds)}"
    return [Figure("sounds without words that become words", len(became), shown, "; ".join(became))]


async def cpu(world: World) -> list[Figure]:
    if not world.cpu:
        await words(world, "")
    return spread("CPU of a final", world.cpu, f"{len(world.cpu)} finals of clean recordings")


async def pocketsphinx(world: World) -> list[Figure]:
    """What the engine for grammars makes of the same words when it has no grammar."""
    engine = open_speech_engine("pocketsphinx", {"workers": 1})
    count = Words()
    for number, clip in enumerate(world.said[:: 1 if world.quick else 4]):
        text = await final(engine, line(clip, world.clips, seed=number))
        count.add(clip.text, text)
    await engine.aclose()
    return [count.figure("words wrong, clean: pocketsphinx without a grammar")]


# --- waits ------------------------------------------------------------------------------------------------------------


async def waits(world: World) -> list[Figure]:
    """Few callers in real time: half a second of silence is the end; then the rule that looks at the words."""
    made = tracks(world.said, 1 if world.quick else 3, seconds=12 if world.quick else 40, every=5.0)
    await world.live.start()
    calls = await converse(made, world.live, world.silero, ALWAYS_HALF_A_SECOND)
    how = f"{len(calls.answered)} of {len(calls.waits)} utterances, {len(made)} callers"
    figures = spread("end of speech to final", calls.answered, how)
    patient = await converse(made, world.live, world.silero, BY_THE_WORDS)
    middle, late = percentile(patient.answered, 0.5), percentile(patient.answered, 0.95)
    longer = sum(after > before + 0.25 for before, after in zip(calls.waits, patient.waits, strict=True)
                 if before is not None and after is not None)  # fmt: skip
    figures.append(
        Figure("end of speech to final with end_of_turn, p50 / p95", middle, f"{middle:.3f} / {late:.3f} s",
               f"{longer} of {len(patient.answered)} waited longer")
    )  # fmt: skip
    return figures


async def talkers(world: World) -> list[Figure]:
    """Many callers on one worker, with the media of their calls."""
    count = 4 if world.quick else TALKERS
    made = tracks(world.said, count, seconds=12 if world.quick else 36, every=6.0)
    await world.live.start()
    calls = await converse(made, world.live, world.silero, ALWAYS_HALF_A_SECOND)
    late = percentile(calls.asked, 0.95)
    heard = Words()
    for clip, text in calls.texts:
        heard.add(clip.text, text)
    how = f"{count} talkers, {len(calls.answered)} of {len(calls.waits)} utterances, {percent(heard.rate)} wrong"
    worst = f"{calls.frames} frames back, the slowest in {1000 * calls.worst:.1f} ms"
    return [
        Figure("talkers on one worker, final after the silence rule, p95 s", late, seconds(late), how),
        Figure("talkers on one worker, late frames", calls.late, f"{calls.late}", worst),
    ]


async def speaking(world: World) -> list[Figure]:
    engine = open_speech_engine("hibari")
    await engine.start()
    voice = await engine.synthesizer(SpeakingStyle())
    spans: list[float] = []
    for sentence in SENTENCES * (1 if world.quick else 3):
        began = time.perf_counter()
        audio = voice.speak(sentence)
        await anext(audio)
        spans.append(time.perf_counter() - began)
        await audio.aclose()
        await asyncio.sleep(0.05)  # what was made ahead is dropped
    await voice.aclose()
    await engine.aclose()
    return spread("text to first audio", spans, f"{len(spans)} sentences of hibari")


# --- the rest ---------------------------------------------------------------------------------------------------------


async def understood(world: World) -> list[Figure]:
    """How well the recognizer hears our own voices: a test caller must not be what is measured."""
    figures = []
    for name in ("hibari", "espeak"):
        engine = open_speech_engine(name)
        await engine.start()
        voice = await engine.synthesizer(SpeakingStyle())
        count = Words()
        for sentence in SENTENCES[:: 6 if world.quick else 1]:
            audio = b"".join([piece async for piece in voice.speak(sentence)])
            count.add(sentence, await final(world.whisper, audio))
        await voice.aclose()
        await engine.aclose()
        figures.append(count.figure(f"words wrong, clean: spoken by {name}"))
    return figures


async def ends(world: World) -> list[Figure]:
    """What the rule for the end of a turn says of whole utterances, and of those that break off."""
    settings = TurnSettings(punctuated=True)
    found = {}
    for name, cut in (("whole", whole), ("cut at a pause", cut_at_pause), ("cut anywhere", cut_anywhere)):
        longer = 0
        clips = [clip for clip in world.said if len(clip.sound) > 1.5 * RATE]
        for clip in clips:
            text = await final(world.whisper, mulaw(cut(clip)) + silence(PCMU_8K, 0.2))
            longer += end_of_turn(text, settings) > settings.endpointing
        found[name] = Figure(f"end_of_turn waits longer: {name}", longer / len(clips), percent(longer / len(clips)),
                             f"{longer} of {len(clips)}")  # fmt: skip
    return list(found.values())


def whole(clip: Clip) -> Sound:
    return clip.sound


def cut_at_pause(clip: Clip) -> Sound:
    """Up to the quietest 60 ms in the middle of the recording."""
    levels = np.convolve(frames_db(clip.sound), np.ones(3) / 3, "valid")
    low, high = len(levels) * 3 // 10, len(levels) * 8 // 10
    return clip.sound[: (low + int(np.argmin(levels[low:high])) + 1) * 160]


def cut_anywhere(clip: Clip) -> Sound:
    """Up to a place that is drawn, where somebody speaks."""
    loud = np.flatnonzero(frames_db(clip.sound) > active_db(clip.sound) - 10)
    middle = [at for at in loud if 0.3 < at * 160 / len(clip.sound) < 0.8]
    rng = np.random.default_rng(len(clip.sound))
    return clip.sound[: int(rng.choice(middle or loud)) * 160]


async def memory(world: World) -> list[Figure]:
    """After use: a whisper worker, and what hibari adds to the process that speaks."""
    await final(world.whisper, line(max(world.clips, key=lambda clip: len(clip.sound)), world.clips))
    worker = resident_mb(world.worker)
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, "--hibari-memory", stdout=subprocess.PIPE)
    added = float((await process.communicate())[0])
    return [
        Figure("memory of a whisper worker, MB", worker, f"{worker:.0f} MB"),
        Figure("memory that hibari adds, MB", added, f"{added:.0f} MB"),
    ]


async def hibari_memory() -> float:
    before = resident_mb()
    engine = open_speech_engine("hibari")
    await engine.start()
    voice = await engine.synthesizer(SpeakingStyle())
    for sentence in SENTENCES:
        async for _ in voice.speak(sentence):
            pass
    return resident_mb() - before


ROWS: dict[str, Callable[[World], Awaitable[list[Figure]]]] = {
    "words-clean": lambda world: words(world, "words wrong, clean"),
    "words-noise": lambda world: words(world, "words wrong, noise at 15 dB", noise=NOISE),
    "words-loss": lambda world: words(world, "words wrong, 3 % of frames lost", loss=LOSS),
    "words-turns": words_in_turns,
    "values-clean": lambda world: values(world, "command values heard with a phrase list, clean"),
    "values-noise": lambda world: values(world, "command values heard with a phrase list, noise at 15 dB", noise=NOISE),
    "wordless": no_words,
    "cpu": cpu,
    "waits": waits,
    "talkers": talkers,
    "speaking": speaking,
    "memory": memory,
    "ends": ends,
    "voices": understood,
    "pocketsphinx": pocketsphinx,
}


async def measure(options: Namespace) -> list[Figure]:
    clips = read_clips(options.folder)
    # A worker that waits for the core on a busy machine is not to be taken for one that hangs.
    settings = {"model": options.model, "workers": 1, "decode_limit": 60}
    whisper = open_speech_engine("whisper", settings | {"interims": False})
    live = open_speech_engine("whisper", settings)
    silero = open_speech_engine("silero")
    await asyncio.gather(whisper.start(), silero.start())
    world = World(clips, options.quick, whisper, live, silero)
    try:
        figures = []
        for name in options.only or ROWS:
            began = time.monotonic()
            figures += await ROWS[name](world)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        return figures
    finally:
        await asyncio.gather(whisper.aclose(), live.aclose(), silero.aclose())


def table(figures: list[Figure]) -> list[list[str]]:
    rows = []
    for figure in figures:
        bound = BOUNDS.get(figure.name)
        limit = "-"
        if bound is not None:
            sign = "≥" if figure.name.startswith("command values") else "≤"
            limit = f"{sign} {percent(bound) if '%' in figure.shown else f'{bound:g}'}"
        mark = "" if figure.kept else " (not kept)"
        rows.append([figure.name, figure.shown + mark, limit, figure.how.replace("|", "/")])
    return rows


def main() -> None:
    if sys.argv[1:] == ["--hibari-memory"]:
        print(asyncio.run(hibari_memory()))
        return
    options = parser(__doc__ or "")
    options.add_argument("--folder", type=Path, default=SHARED / "speech_clips", help="recordings with clips.json")
    options.add_argument("--model", default="tiny.en", help="another model of whisper's")
    options.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    options.add_argument("--quick", action="store_true", help="a sixth of everything: to see that it runs")
    chosen = options.parse_args()
    if not (chosen.folder / "clips.json").is_file():
        sys.exit(f"no recordings in {chosen.folder}: --folder names a folder with clips.json, or set ANYCARRIER_SHARED")
    logging.basicConfig(level=logging.ERROR)
    figures = asyncio.run(measure(chosen))
    Result(
        name="speech",
        bound="each figure within the limit beside it",
        kept=all(figure.kept for figure in figures),
        columns=["", "measured", "limit", "of"],
        rows=table(figures),
        figures={"figures": {f.name: round(f.value, 4) for f in figures}, "model": chosen.model, "quick": chosen.quick},
        notes=[f"Whisper {chosen.model} on one worker, one thread."],
    ).report(chosen)


if __name__ == "__main__":
    main()
