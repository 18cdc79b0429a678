"""Calls in real time: people's recordings on tracks, sent by a carrier in its own process, heard as an agent hears.

The carrier sends each call a frame every 20 ms and wants one back at once; a frame that comes back later than the next
one is due is late. This side returns each frame and feeds it to detector, turn machine and recognizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from speech_line import FRAME, RATE, Clip, mulaw

from anycarrier.agent.recognition import Recognition
from anycarrier.agent.settings import AgentSettings
from anycarrier.agent.turn_taking import TurnTaking
from anycarrier.audio import PCMU_8K, silence
from anycarrier.speech import (
    EmitFinal,
    FinishUtterance,
    Output,
    SpeechEngine,
    TurnSettings,
)

LATE = 0.02
"""Seconds after which a frame that comes back is late: the next one is due."""
LEAD = 1.0
"""Seconds of silence at a track's start."""


@dataclass
class Track:
    """What one caller sends, and when in it each clip's speech ends."""

    audio: bytearray = field(default_factory=lambda: bytearray(silence(PCMU_8K, LEAD)))
    ends: list[tuple[float, Clip]] = field(default_factory=list)

    def add(self, clip: Clip, *, every: float, pause: float = 1.5) -> None:
        """The next utterance: ``every`` seconds in all, but at least ``pause`` of silence after it."""
        self.ends.append((len(self.audio) / RATE + clip.end, clip))
        length = max(every, len(clip.sound) / RATE + pause)
        sound = mulaw(clip.sound)
        self.audio += sound + silence(PCMU_8K, length - len(sound) / RATE)

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE


def tracks(clips: list[Clip], count: int, *, seconds: float, every: float) -> list[Track]:
    """``count`` callers who speak in turn for some ``seconds``; no two begin together."""
    made = [Track(bytearray(silence(PCMU_8K, LEAD + every * number / count))) for number in range(count)]
    number = 0
    while short := [track for track in made if track.seconds < seconds]:
        min(short, key=lambda track: track.seconds).add(clips[number % len(clips)], every=every)
        number += 1
    return made


@dataclass
class Calls:
    """What the calls gave. ``waits``: seconds from the end of speech to the final, None where there was no final;
    ``asked``: those from the question for a final to it."""

    waits: list[float | None] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    texts: list[tuple[Clip, str]] = field(default_factory=list)
    frames: int = 0
    late: int = 0
    worst: float = 0.0

    @property
    def answered(self) -> list[float]:
        return [wait for wait in self.waits if wait is not None]


class Final(NamedTuple):
    """A final: when it was there, when its voice had ended by the detector, its words, and how long it was due."""

    at: float
    ended: float
    text: str
    due: float


class _Caller:
    """One call on this side."""

    def __init__(self, settings: TurnSettings, engine: SpeechEngine, detector: SpeechEngine) -> None:
        self.turn_taking = TurnTaking(settings, self._act)
        self.recognition = Recognition(self.turn_taking, AgentSettings(), [engine], [detector], self._note)
        self.finals: list[Final] = []
        self.asked: dict[str, float] = {}
        self.began = 0.0
        self.notes: list[dict[str, Any]] = []

    def _note(self, kind: str, **what: Any) -> None:
        self.notes.append({"kind": kind, **what})

    async def _act(self, output: Output) -> None:
        match output:
            case FinishUtterance(turn_id):
                self.asked[turn_id] = self.turn_taking.clock()
            case EmitFinal(turn_id, text, _, ended):
                now = self.turn_taking.clock()
                self.asked[turn_id] = now - self.asked[turn_id]
                self.finals.append(Final(now, ended, text, self.asked[turn_id]))
            case _:
                pass
        self.recognition.act(output)


async def converse(made: list[Track], engine: SpeechEngine, detector: SpeechEngine, settings: TurnSettings) -> Calls:
    """Play all tracks at once, in real time."""
    callers = [_Caller(settings, engine, detector) for _ in made]
    await asyncio.gather(*(caller.recognition.open() for caller in callers))
    tasks = [asyncio.ensure_future(work) for c in callers for work in (c.recognition.run(), c.turn_taking.run())]
    server = await asyncio.start_server(partial(_media, callers), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="anycarrier-bench-") as folder:
        await asyncio.to_thread(_write, Path(folder), made)
        carrier = await asyncio.create_subprocess_exec(
            sys.executable, __file__, str(port), folder, str(len(made)), stdout=subprocess.PIPE
        )
        report, _ = await carrier.communicate()
    await asyncio.sleep(1.0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(caller.recognition.aclose() for caller in callers))
    server.close()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    calls = Calls(**json.loads(report))
    for track, caller in zip(made, callers, strict=True):
        if caller.notes:
            raise RuntimeError(f"a call did not go well: {caller.notes[0]}")
        for (end, clip), found in zip(track.ends, answers(track, caller.began, caller.finals), strict=True):
            calls.texts.append((clip, " ".join(final.text for final in found)))
            calls.waits.append(found[-1].at - caller.began - end if found else None)
            calls.asked += [final.due for final in found]
    return calls


def _write(folder: Path, made: list[Track]) -> None:
    for number, track in enumerate(made):
        (folder / str(number)).write_bytes(bytes(track.audio))


def answers(track: Track, began: float, finals: list[Final]) -> list[list[Final]]:
    """The finals of each utterance of a track: those whose voice ended before the middle of the pause after it."""
    ends = [end for end, _ in track.ends]
    limits = [end + 1.0 for end in ends]
    return [
        [final for final in finals if before < final.ended - began <= limit]
        for before, limit in zip([0.0, *limits], limits, strict=False)
    ]


async def _media(callers: list[_Caller], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One call's media: every frame is heard, and another goes back."""
    caller = callers[int((await reader.readexactly(4)).decode())]
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            frame = await reader.readexactly(FRAME)
            caller.began = caller.began or caller.turn_taking.clock() - FRAME / RATE
            writer.write(frame)
            caller.recognition.feed(frame)
    writer.close()


# --- the carrier, a process of its own --------------------------------------------------------------------------------


async def carry(port: int, sent: list[bytes]) -> dict[str, float]:
    """Send all tracks; returns how many frames came back, how many late, and the worst of them."""
    spans: list[float] = []
    started = time.monotonic() + 0.5
    await asyncio.gather(*(_send(port, number, track, started, spans.append) for number, track in enumerate(sent)))
    return {"frames": len(spans), "late": sum(span > LATE for span in spans), "worst": max(spans, default=0.0)}


async def _send(port: int, number: int, audio: bytes, started: float, note: Callable[[float], None]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{number:04d}".encode())
    sent: list[float] = []

    async def returned() -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for at in range(len(audio) // FRAME):
                await reader.readexactly(FRAME)
                note(time.monotonic() - sent[at])

    listening: Awaitable[None] = asyncio.ensure_future(returned())
    for at in range(len(audio) // FRAME):
        await asyncio.sleep(max(0.0, started + at * FRAME / RATE - time.monotonic()))
        sent.append(time.monotonic())
        writer.write(audio[at * FRAME : (at + 1) * FRAME])
    await listening
    writer.close()


if __name__ == "__main__":
    audio = [Path(sys.argv[2], str(number)).read_bytes() for number in range(int(sys.argv[3]))]
    print(json.dumps(asyncio.run(carry(int(sys.argv[1]), audio))))
