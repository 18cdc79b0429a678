"""How long a caller waits, and how soon an interruption is silence: a spoken conversation through a sandbox.

Every turn is an interruption of the turn before. Times are taken at the carrier: when the caller's sound went out, when
the agent's arrived, when the carrier was told to clear. Onset and end of speech are those of the sound itself (above
1 % of full scale), not of the clip. The voice is flite's, the ears and the agent's voice are the local engines.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import statistics
from array import array
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from result import Result, parser

from anycarrier import Exchange, MemoryNumberRegistry, Policy
from anycarrier.agent.agent_call import AgentCall
from anycarrier.agent.agents import Agents
from anycarrier.asgi import create_app
from anycarrier.audio import pcmu_to_pcm16
from anycarrier.demo import calls
from anycarrier.demo.calls import clip
from anycarrier.plugins import get_provider
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of

OURS, CALLER = "+14155550101", "+12125550123"
PHRASES = {"appointment": "i would like to book an appointment", "tomorrow": "tomorrow morning please"}
TARGETS = {"end of speech -> final transcript": 900.0, "text -> first audio": 40.0, "onset of speech -> clear": 250.0}
WHOLE = "end of speech -> first audio"


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


async def converse(carrier: str, turns: int, clock: Clock) -> None:
    """``turns`` times: the caller speaks, is answered at length, and interrupts that with the next turn."""
    loop = asyncio.get_running_loop()
    module, _, kind = get_provider(carrier).sandbox.partition(":")
    agents = Agents(analyzers=[])

    async def desk(call: AgentCall) -> None:
        async for turn in call.turns():
            clock.finals.append((turn.text, loop.time()))
            clock.texts.append(loop.time())
            await call.say(calls.OFFER)

    agents.add("desk", handler=desk, settings={"grammar": calls.GRAMMAR, "max_duration_seconds": 3600})
    async with serve_sandbox(getattr(import_module(module), kind)) as sandbox:
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
                name = list(PHRASES)[number % len(PHRASES)]
                began: list[float] = []
                far_end.microphone.taps = [lambda due, _, began=began: began.append(due)]  # type: ignore[misc]
                await far_end.say(clip(name))
                clock.said.append((name, began[0]))
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


def spans(clock: Clock) -> tuple[dict[str, list[float]], int, int]:
    """Milliseconds of each wait; how many turns were understood word for word; how many interruptions did not cut."""
    waits: dict[str, list[float]] = {name: [] for name in (*TARGETS, WHOLE)}
    understood = missed = 0
    for number, (name, began) in enumerate(clock.said):
        onset, end = (began + at for at in sounding(clip(name)))
        final = next(((text, at) for text, at in clock.finals if at > end), None)
        if final is None:
            continue
        understood += final[0] == PHRASES[name]
        waits["end of speech -> final transcript"].append(1000 * (final[1] - end))
        text = first(clock.texts, final[1])
        sound = first(clock.sounds, final[1])
        if text is not None and sound is not None:
            waits["text -> first audio"].append(1000 * (sound - text))
            waits[WHOLE].append(1000 * (sound - end))
        if number:
            clear = first(clock.clears, onset, end + 1)
            missed += clear is None
            if clear is not None:
                waits["onset of speech -> clear"].append(1000 * (clear - onset))
    return waits, understood, missed


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--turns", type=int, default=50)
    options.add_argument("--carrier", default="twilio")
    chosen = options.parse_args()
    logging.basicConfig(level=logging.ERROR)
    clock = Clock()
    asyncio.run(converse(chosen.carrier, chosen.turns, clock))
    waits, understood, missed = spans(clock)
    rows: list[list[str]] = []
    figures: dict[str, Any] = {}
    kept = [missed == 0, len(clock.said) == chosen.turns]
    for name, ms in waits.items():
        target = TARGETS.get(name)
        p50, p95 = statistics.median(ms), percentile(ms, 0.95)
        figures[name] = {"n": len(ms), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "max_ms": round(max(ms), 1)}
        if target is not None:
            kept.append(p95 <= target)
        measured = [f"{value:.1f}" for value in (p50, p95, max(ms))]
        rows.append([name, f"{len(ms)}", *measured, "-" if target is None else f"{target:g}"])
    Result(
        name="conversation",
        bound="p95 at most the target, and every interruption cuts",
        kept=all(kept),
        columns=["wait", "n", "p50 ms", "p95 ms", "max ms", "target p95"],
        rows=rows,
        figures={"waits": figures, "understood": understood, "turns": len(clock.said), "missed_cuts": missed},
        notes=[
            f"{len(clock.said)} turns through the sandbox of {chosen.carrier}; {understood} understood word for word, "
            f"{missed} interruptions that did not cut.",
            "The final transcript waits out 500 ms of silence: that is the rule, not the engine.",
        ],
    ).report(chosen)


if __name__ == "__main__":
    main()
