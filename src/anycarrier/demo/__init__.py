"""``anycarrier demo``: real calls through the sandbox of every installed carrier, without an account.

First come echo calls: each end compares what it heard with what the other sent, byte for byte. Then, if speech
engines are installed, a spoken call books an appointment: understood, answered, interrupted, transcribed, recorded.
The transcript is compared word by word with what the callers said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import secrets
import sys
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anycarrier import Exchange, MemoryNumberRegistry, Policy
from anycarrier.agent.agents import Agents
from anycarrier.agent.shared_engines import Engines
from anycarrier.asgi import create_app
from anycarrier.demo.callers import BY_GRAMMAR, CALLERS, Speech, installed_speech, missing
from anycarrier.demo.calls import DemoCall, Echo, echo_calls
from anycarrier.demo.conversation import MOST_ERRORS, AppointmentAgent, Conversation
from anycarrier.plugins import get_provider, provider_names
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox, sandbox_type

WAITS = (
    "\neou_delay: end of the caller's voice to their words; llm_ttft: to the agent's first words; tts_ttfb: a sentence "
    "to its\nfirst sound; perceived: end of the caller's voice to the first sound of the answer\n"
)

ABOUT = (
    "Makes real calls through the sandbox of every installed carrier, without an account: an echo, compared byte for "
    "byte at both ends, then spoken conversations over four of them, transcribed and recorded. With --carriers, there "
    "are no conversations, unless --talk asks for them: a quarter of a minute, however many carriers. Exits with 0 "
    "only if every check passes."
)


STAGGERED = 1.5
"""Seconds between the starts of the conversations, so that callers do not all wait for the recognizer at once."""

AT_ONCE = 5
"""Conversations at a time, so that two cores keep up with recognizer and synthesizer."""

TALKED = 4
"""Carriers that are talked over unless carriers are named: the last ones by name."""


async def run(names: list[str], *, talked: list[str]) -> list[DemoCall]:
    """Make all calls of the demo on these carriers; the spoken ones on those of them in ``talked``."""
    recordings = Path(tempfile.mkdtemp(prefix="anycarrier-demo-"))
    async with contextlib.AsyncExitStack() as stack:
        sandboxes: dict[str, Sandbox] = {}
        for name in names:
            sandboxes[name] = await stack.enter_async_context(serve_sandbox(sandbox_type(name)))
        booking, echoes = AppointmentAgent(), {"front-desk": Echo(), "night-desk": Echo()}
        agents = Agents(finished=booking.done, recordings=recordings)
        for name, agent in echoes.items():
            agents.add(name, raw=agent)
        speech = installed_speech(agents.engines) if talked else None
        if speech is not None:
            agents.add("appointments", handler=booking, settings=speech.settings)
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={name: sandbox.credential() for name, sandbox in sandboxes.items()},
            public_url=url_of(sock),
            secret=secrets.token_bytes(32),
            agents=agents,
            router=agents.router,
            policy=Policy(allow=["US"]),
        )
        await stack.enter_async_context(serve(create_app(exchange), sock))
        for index, (name, sandbox) in enumerate(sandboxes.items()):
            sandbox.point_webhooks(exchange.switchboard.webhook_url(name, name))
            for use in range(3):
                sandbox.add_number(_number(use, index))
            sandbox.quirks.add("quiet")  # no silence is sent, so everything heard was said
        for index, name in enumerate(names):  # each carrier's client and its SDK are loaded before anything is heard
            await exchange.assign(_number(0, index), agent_id="front-desk", credential_id=name)
        shown: list[DemoCall] = []
        for calls in await asyncio.gather(
            *(echo_calls(exchange, echoes, n, s, _number(0, i)) for i, (n, s) in enumerate(sandboxes.items()))
        ):
            shown += calls
        if speech is not None:
            for sandbox in sandboxes.values():
                sandbox.quirks.discard("quiet")
            on = [(name, sandboxes[name], index) for index, name in enumerate(names) if name in talked]
            shown += await _conversations(exchange, agents.engines, booking, speech, on)
        return shown


async def _conversations(
    exchange: Exchange, engines: Engines, agent: AppointmentAgent, speech: Speech, on: list[tuple[str, Sandbox, int]]
) -> list[DemoCall]:
    """One on each of these carriers; with free speech the last is the hard case, on the first of them."""
    voice = engines.engine(speech.voice) if speech.free else None
    callers = CALLERS if speech.free else (BY_GRAMMAR,)
    calls = [
        Conversation(exchange, agent, speech, callers[turn % len(callers)], voice).on(name, sandbox, _number(1, index))
        for turn, (name, sandbox, index) in enumerate(on)
    ]
    if speech.other_voice is not None:
        hard = Conversation(exchange, agent, speech, CALLERS[0], engines.engine(speech.other_voice), judged=False)
        name, sandbox, index = on[0]
        calls.append(hard.on(name, sandbox, _number(2, index)))
    places = asyncio.Semaphore(AT_ONCE)

    async def later(seconds: float, call: Coroutine[Any, Any, DemoCall]) -> DemoCall:
        await asyncio.sleep(seconds)
        async with places:
            return await call

    return await asyncio.gather(*(later(STAGGERED * i, call) for i, call in enumerate(calls)))


def _number(use: int, carrier: int) -> str:
    """A number of ours: for the echo calls (0), for the conversation (1), for its hard case (2)."""
    return f"+1415555{100 + 30 * use + carrier:04}"


def table(calls: list[DemoCall]) -> str:
    """The calls as a table to read."""
    head = ["carrier", "direction", "agent", "status", "reason", "seconds", "said", "agent heard", "far end heard", ""]
    rows = [
        [
            c.carrier,
            c.direction,
            c.agent,
            c.status,
            c.reason,
            f"{c.seconds:.2f}",
            f"{c.said:.2f} s",
            f"{c.agent_heard:.2f} s, " + ("intact" if c.agent_intact else "NOT WHAT WAS SAID"),
            f"{c.far_end_heard:.2f} s, " + ("intact" if c.far_end_intact else "NOT WHAT WAS SENT"),
            "ok" if c.ok else "FAILED",
        ]
        for c in calls
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]
    )


def report(call: DemoCall) -> str:
    """One spoken conversation as text to read."""
    speaks = f"the voice of {call.voice}" if call.voice else "recorded sentences"
    judged = "" if call.judged else "the hard case, "
    cuts = "1 interruption" if call.barge_ins == 1 else f"{call.barge_ins} interruptions"
    keys = f"keys {call.digits}, " if call.judged else ""  # pressed whether asked for or not
    happened = f"{judged}{speaks} heard by {call.recognizer}, {cuts}, {keys}{call.reason}"
    lines = [f"\n{call.carrier}: {call.seconds:.1f} s, {happened}"]
    for said in call.transcript:
        who = "caller" if said["party"] == "remote" else "agent"
        lines.append(f"  {int(str(said['at_ms'])) / 1000:6.2f}  {who:<6}  {said['text']}")
    lines.append(f"  words: {words([call])}")
    lines.append("  median ms: " + ", ".join(f"{kind} {ms:g}" for kind, ms in sorted(call.latency_ms.items())))
    lines.append(f"  recording: {call.recording}")
    lines += [f"  WRONG: {what}" for what in call.wrong]
    return "\n".join(lines)


def words(calls: list[DemoCall]) -> str:
    """How many of the words said are wrong in the transcripts."""
    wrong, said = sum(call.word_errors for call in calls), sum(call.words for call in calls)
    return f"{wrong} of {said} wrong ({wrong / max(1, said):.1%})"


def summary(calls: list[DemoCall], speech: Speech | None) -> list[str]:
    """The word error rates of all conversations, and what to install for more."""
    if speech is None:
        return []
    judged, hard = ([call for call in calls if call.words and call.judged is kind] for kind in (True, False))
    if not speech.free:
        return [
            f"words: {words(judged)}. Callers kept to a grammar: docs/speech.md says what to install for free speech"
        ]
    lines = [f"words, spoken freely: {words(judged)}; at most {MOST_ERRORS:.0%} in each conversation"]
    if hard:
        lines.append(f"words, hard case: {words(hard)}; not judged")
    return lines


def main(argv: list[str] | None = None) -> int:
    """``anycarrier demo``: exit with 0 only if every comparison holds."""
    parser = argparse.ArgumentParser(prog="anycarrier demo", description=ABOUT)
    parser.add_argument(
        "--json", action="store_true", help="print the result as one line of JSON; the table goes to standard error"
    )
    parser.add_argument(
        "--carriers",
        nargs="+",
        metavar="NAME",
        help="only these carriers, or all that are installed; without the conversations",
    )
    parser.add_argument("--talk", action="store_true", help="the conversations over all of these carriers")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    names = [name for name in provider_names() if get_provider(name).sandbox]
    asked = [name for word in options.carriers or ["all"] for name in word.split(",") if name]
    if unknown := sorted({*asked} - {*names, "all"}):
        print(f"no sandbox of {', '.join(unknown)} is installed; there are {', '.join(names) or 'none'}",
              file=sys.stderr)  # fmt: skip
        return 2
    if "all" not in asked:
        names = [name for name in names if name in asked]
    talked = names if options.talk else names[-TALKED:] if options.carriers is None else []
    if not names:
        print("no carrier with a sandbox is installed: install an anycarrier-... provider first", file=sys.stderr)
        return 2
    print(f"calling over {', '.join(names)}, each on its own sandbox ...", file=sys.stderr)
    began = time.monotonic()
    calls = asyncio.run(run(names, talked=talked))
    ok = bool(calls) and all(call.ok for call in calls)
    spoken = [call for call in calls if call.transcript or call.wrong]
    engines = Engines()
    lines = [table(calls), *map(report, spoken), *([WAITS] if spoken else [])]
    if spoken:
        lines += summary(calls, installed_speech(engines))
    if talked and (unable := missing(engines)):
        lines.append(f"no conversation: nothing installed can {', '.join(unable)}. Install anycarrier-speech-local")
    verdict = f"{'' if ok else 'NOT '}all {'' if all(call.judged for call in calls) else 'judged calls '}correct"
    lines.append(f"{len(calls)} calls in {time.monotonic() - began:.1f} s: {verdict}")
    # With --json, standard output holds nothing but the JSON.
    print("\n".join(lines), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"ok": ok, "calls": [_as_json(call) for call in calls]}))
    return 0 if ok else 1


def _as_json(call: DemoCall) -> dict[str, Any]:
    return {**asdict(call), "word_error_rate": call.word_error_rate, "ok": call.ok}
