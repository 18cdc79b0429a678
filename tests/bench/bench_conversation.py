"""How long a caller waits, and how soon an interruption is silence: a spoken conversation through a sandbox.

Every turn is an interruption of the turn before. Times are taken at the carrier: when the caller's sound went out, when
the agent's arrived, when the carrier was told to clear. Onset and end of speech are those of the sound itself (above
1 % of full scale), not of the clip. Measured twice: by a grammar, with recorded sentences (flite) and the engines of
``speech-local``; and freely, with the best installed recognizer and voice, which also speaks for the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import statistics
from array import array
from dataclasses import dataclass, field
from typing import Any

from result import Result, parser, percentile

from anycarrier import Exchange, MemoryNumberRegistry, Policy
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.agents import Agents
from anycarrier.agent.shared_engines import Engines
from anycarrier.asgi import create_app
from anycarrier.audio import pcmu_to_pcm16
from anycarrier.demo.appointment import GRAMMAR, OFFER
from anycarrier.demo.callers import CLIPS, installed_speech, spoken
from anycarrier.demo.calls import clip
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import sandbox_type
from anycarrier.testing.word_errors import normalized, word_errors

OURS, CALLER = "+14155550101", "+12125550123"

FINAL, FIRST_AUDIO, CLEAR = "end of speech -> final transcript", "text -> first audio", "onset of speech -> clear"
WHOLE = "end of speech -> first audio"

SENTENCES = (
    "I would like to book an appointment with the doctor.",
    "Could you book a zeppelin for Friday afternoon?",
    "Do you have anything on Thursday after four o'clock?",
    "My name is Emily Carter, and I live in Boston.",
    "How much does the first visit cost?",
    "I need to move my appointment to next Tuesday.",
    "Please tell the doctor that I am running late.",
    "Where can I park my car near the practice?",
)


@dataclass(frozen=True)
class Speech:
    """One way to hold the conversation: the agent's settings, what the caller says, and what is to be reached."""

    name: str
    settings: dict[str, Any]
    sound: dict[str, bytes]
    """What the caller says, and its mu-law audio."""
    targets: dict[str, float]
    """Milliseconds at the 95th percentile."""
    errors: float
    """Share of the words that may be wrong."""


def by_grammar() -> Speech:
    """Recorded sentences that a grammar allows."""
    settings = {"grammar": GRAMMAR, "recognizer": "pocketsphinx", "synthesizer": "espeak"}
    sound = {text: clip(name) for text, name in CLIPS.items()}
    return Speech("grammar", settings, sound, {FINAL: 900, FIRST_AUDIO: 40, CLEAR: 250}, 0.0)


async def freely() -> Speech:
    """Free sentences, spoken by the best installed voice."""
    engines = Engines()
    speech = installed_speech(engines)
    if speech is None or not speech.free:
        raise SystemExit("free speech needs a recognizer and a voice for it: docs/speech.md lists them")
    try:
        sound = dict(zip(SENTENCES, await spoken(engines.engine(speech.voice), SENTENCES), strict=True))
    finally:
        await engines.aclose()
    return Speech("free", {}, sound, {FINAL: 800, FIRST_AUDIO: 200, CLEAR: 250}, 0.05)


def sounding(mulaw: bytes) -> tuple[float, float]:
    """Seconds from the clip's start to where its sound begins and ends."""
    loud = [n for n, sample in enumerate(array("h", pcmu_to_pcm16(mulaw))) if abs(sample) > 327]
    return loud[0] / 8000, loud[-1] / 8000


@dataclass
class Clock:
    """What happened when, in the loop's seconds."""

    said: list[tuple[str, float]] = field(default_factory=list)
    finals: list[tuple[str, float]] = field(default_factory=list)
    texts: list[float] = field(default_factory=list)
    sounds: list[float] = field(default_factory=list)
    clears: list[float] = field(default_factory=list)

    def watch(self, far_end: FarEnd) -> None:
        """Note what reaches the carrier from now on."""
        loop, playback = asyncio.get_running_loop(), far_end.playback
        play, clear = playback.play, playback.clear

        def played(payload: bytes) -> bool:
            self.sounds.append(loop.time())
            return play(payload)

        def cleared() -> None:
            self.clears.append(loop.time())
            clear()

        playback.play, playback.clear = played, cleared  # type: ignore[method-assign]


async def converse(carrier: str, turns: int, clock: Clock, speech: Speech) -> None:
    """``turns`` times: the caller speaks, is answered at length, and interrupts that with the next turn."""
    loop = asyncio.get_running_loop()
    agents = Agents(analyzers=[])

    async def desk(call: AgentCall) -> None:
        async for turn in call.turns():
            clock.finals.append((turn.text, loop.time()))
            clock.texts.append(loop.time())
            await call.say(OFFER)

    agents.add("desk", handler=desk, settings={**speech.settings, "max_duration_seconds": 3600})
    async with serve_sandbox(sandbox_type(carrier)) as sandbox:
        sandbox.add_number(OURS)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": sandbox.credential()},
            public_url=url_of(sock),
            secret=secrets.token_bytes(32),
            agents=agents,
            router=agents.router,
            policy=Policy(allow=["US"]),
        )
        sandbox.point_webhooks(exchange.switchboard.webhook_url(carrier, "main"))
        async with serve(create_app(exchange), sock):
            await exchange.assign(OURS, agent_id="desk", credential_id="main")
            far_end = await sandbox.ring(OURS, CALLER)
            await far_end.wait_for("streaming", 10)
            clock.watch(far_end)
            await asyncio.sleep(1.0)
            for number in range(turns):
                text, sound = list(speech.sound.items())[number % len(speech.sound)]
                began: list[float] = []
                far_end.microphone.taps = [lambda due, _, began=began: began.append(due)]  # type: ignore[misc]
                await far_end.say(sound)
                clock.said.append((text, began[0]))
                heard = len(clock.texts)
                async with asyncio.timeout(5):
                    while len(clock.texts) == heard:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(0.9 + 0.01 * (number % 20))  # in the middle of the answer, never at the same place
            await far_end.hang_up()
            await asyncio.sleep(0.2)


def first(times: list[float], after: float, before: float = float("inf")) -> float | None:
    """The first of ``times`` in between."""
    return next((t for t in times if after <= t < before), None)


@dataclass
class Waits:
    """What a conversation showed: milliseconds of each wait, words, and interruptions that did not cut."""

    ms: dict[str, list[float]] = field(
        default_factory=lambda: {name: [] for name in (FINAL, FIRST_AUDIO, CLEAR, WHOLE)}
    )
    words: int = 0
    word_errors: int = 0
    missed: int = 0


def waits(clock: Clock, sound: dict[str, bytes]) -> Waits:
    """The waits of every turn. A turn's words are all that was heard until the next began."""
    found = Waits()
    spans = [tuple(began + at for at in sounding(sound[text])) for text, began in clock.said]
    for number, ((said, _), (onset, end)) in enumerate(zip(clock.said, spans, strict=True)):
        until = spans[number + 1][0] if number + 1 < len(spans) else float("inf")
        heard = " ".join(text for text, at in clock.finals if onset < at < until)
        found.words += len(normalized(said))
        found.word_errors += word_errors(said, heard)
        final = first([at for _, at in clock.finals], end, until)
        if final is not None:
            found.ms[FINAL].append(1000 * (final - end))
            text, audio = first(clock.texts, final), first(clock.sounds, final)
            if text is not None and audio is not None:
                found.ms[FIRST_AUDIO].append(1000 * (audio - text))
                found.ms[WHOLE].append(1000 * (audio - end))
        if number:
            clear = first(clock.clears, onset, end + 1)
            found.missed += clear is None
            if clear is not None:
                found.ms[CLEAR].append(1000 * (clear - onset))
    return found


async def measured(chosen: argparse.Namespace) -> list[tuple[Speech, Waits]]:
    """Each way that was asked for, one after the other."""
    found = []
    for speech in ([by_grammar()] if not chosen.free else []) + ([await freely()] if not chosen.grammar else []):
        clock = Clock()
        await converse(chosen.carrier, chosen.turns, clock, speech)
        found.append((speech, waits(clock, speech.sound)))
    return found


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--turns", type=int, default=50, help="turns of each conversation")
    options.add_argument("--carrier", default="twilio")
    one = options.add_mutually_exclusive_group()
    one.add_argument("--grammar", action="store_true", help="only the conversation by a grammar")
    one.add_argument("--free", action="store_true", help="only the conversation with free speech")
    chosen = options.parse_args()
    logging.basicConfig(level=logging.ERROR)
    rows: list[list[str]] = []
    figures: dict[str, Any] = {"turns": chosen.turns}
    notes: list[str] = []
    kept: list[bool] = []
    for speech, found in asyncio.run(measured(chosen)):
        shown: dict[str, Any] = {}
        for name, ms in found.ms.items():
            target = speech.targets.get(name)
            kept.append(bool(ms))
            if not ms:
                continue
            p50, p95 = statistics.median(ms), percentile(ms, 0.95)
            shown[name] = {"n": len(ms), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "max_ms": round(max(ms), 1)}
            kept.append(target is None or p95 <= target)
            measures = [f"{value:.1f}" for value in (p50, p95, max(ms))]
            rows.append([f"{speech.name}: {name}", f"{len(ms)}", *measures, "-" if target is None else f"{target:g}"])
        rate = found.word_errors / found.words
        kept += [found.missed == 0, rate <= speech.errors, len(found.ms[FINAL]) == chosen.turns]
        figures[speech.name] = {"waits": shown, "words": found.words, "word_errors": found.word_errors,
                                "missed_cuts": found.missed}  # fmt: skip
        notes.append(
            f"{speech.name}: {len(found.ms[FINAL])} turns through the sandbox of {chosen.carrier}, {found.word_errors} "
            f"of {found.words} words wrong ({rate:.1%}; at most {speech.errors:.0%}), {found.missed} interruptions "
            "that did not cut."
        )
    Result(
        name="conversation",
        bound="p95 at most the target, words understood, and every interruption cuts",
        kept=all(kept),
        columns=["wait", "n", "p50 ms", "p95 ms", "max ms", "target p95"],
        rows=rows,
        figures=figures,
        notes=[*notes, "The final transcript waits out 500 ms of silence: that is the rule, not the engine."],
    ).report(chosen)


if __name__ == "__main__":
    main()
