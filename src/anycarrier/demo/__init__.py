"""``anycarrier demo``: real calls through the sandbox of every installed carrier, without an account.

First come echo calls: each end compares what it heard with what the other sent, byte for byte. Then, if speech
engines are installed, a spoken call books an appointment: understood, answered, interrupted, transcribed, recorded.
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
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from anycarrier import Exchange, MemoryNumberRegistry, Policy
from anycarrier.agent.agents import Agents
from anycarrier.asgi import create_app
from anycarrier.demo.calls import SETTINGS, AppointmentAgent, DemoCall, Echo, appointment_call, echo_calls
from anycarrier.plugins import get_provider, provider_names
from anycarrier.testing.live_server import listening, serve, serve_sandbox, url_of
from anycarrier.testing.sandbox import Sandbox

ABILITIES = ("speak", "listen", "detect")

WAITS = (
    "\neou_delay: end of the caller's voice to their words; llm_ttft: to the agent's first words; tts_ttfb: a sentence "
    "to its\nfirst sound; perceived: end of the caller's voice to the first sound of the answer\n"
)

ABOUT = (
    "Makes real calls through the sandbox of every installed carrier, without an account: an echo, compared byte for "
    "byte at both ends, then a spoken conversation, transcribed and recorded. Exits with 0 only if every check passes."
)


async def run(say: bool = True) -> list[DemoCall]:
    """Make all calls of the demo, carrier by carrier."""
    names = [name for name in provider_names() if get_provider(name).sandbox]
    recordings = Path(tempfile.mkdtemp(prefix="anycarrier-demo-"))
    async with contextlib.AsyncExitStack() as stack:
        sandboxes: dict[str, Sandbox] = {}
        for name in names:
            module, _, kind = get_provider(name).sandbox.partition(":")
            sandboxes[name] = await stack.enter_async_context(serve_sandbox(getattr(import_module(module), kind)))
        booking, echoes = AppointmentAgent(), {"front-desk": Echo(), "night-desk": Echo()}
        agents = Agents(finished=booking.done, recordings=recordings)
        for name, agent in echoes.items():
            agents.add(name, raw=agent)
        if speaks := not missing(agents):
            agents.add("appointments", handler=booking, settings={**SETTINGS, "enable_recording": True})
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
        shown: list[DemoCall] = []
        for index, (name, sandbox) in enumerate(sandboxes.items()):
            sandbox.point_webhooks(exchange.switchboard.webhook_url(name, name))
            sandbox.add_number(f"+1415555010{index}")
            sandbox.add_number(f"+1415555011{index}")
            sandbox.quirks.add("quiet")  # no silence is sent, so everything heard was said
        for calls in await asyncio.gather(
            *(echo_calls(exchange, echoes, n, s, f"+1415555010{i}") for i, (n, s) in enumerate(sandboxes.items()))
        ):
            shown += calls
        if speaks:
            for sandbox in sandboxes.values():
                sandbox.quirks.discard("quiet")
            shown += await asyncio.gather(
                *(
                    appointment_call(exchange, booking, n, s, f"+1415555011{i}")
                    for i, (n, s) in enumerate(sandboxes.items())
                )
            )
        return shown


def missing(agents: Agents | None = None) -> list[str]:
    """The abilities that no installed speech engine has; a conversation needs all three."""
    engines = (agents or Agents()).engines
    return [ability for ability in ABILITIES if engines.default(ability) is None]


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


def conversation(call: DemoCall) -> str:
    """One spoken conversation as text to read."""
    happened = f"{call.barge_ins} interruption, keys {call.digits}, {call.reason}"
    lines = [f"\n{call.carrier}: {call.seconds:.1f} s, {happened}"]
    for said in call.transcript:
        who = "caller" if said["party"] == "remote" else "agent"
        lines.append(f"  {int(str(said['at_ms'])) / 1000:6.2f}  {who:<6}  {said['text']}")
    lines.append("  median ms: " + ", ".join(f"{kind} {ms:g}" for kind, ms in sorted(call.latency_ms.items())))
    lines.append(f"  recording: {call.recording}")
    lines += [f"  WRONG: {what}" for what in call.wrong]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """``anycarrier demo``: exit with 0 only if every comparison holds."""
    parser = argparse.ArgumentParser(prog="anycarrier demo", description=ABOUT)
    parser.add_argument(
        "--json", action="store_true", help="print the result as one line of JSON; the table goes to standard error"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    names = [name for name in provider_names() if get_provider(name).sandbox]
    if not names:
        print("no carrier with a sandbox is installed: install an anycarrier-... provider first", file=sys.stderr)
        return 2
    print(f"calling over {', '.join(names)}, each on its own sandbox ...", file=sys.stderr)
    began = time.monotonic()
    calls = asyncio.run(run())
    ok = bool(calls) and all(call.ok for call in calls)
    talked = [call for call in calls if call.transcript or call.wrong]
    lines = [table(calls), *map(conversation, talked), *([WAITS] if talked else [])]
    if unable := missing():
        lines.append(f"no conversation: nothing installed can {', '.join(unable)}. Install anycarrier-speech-local")
    verdict = "all correct" if ok else "NOT all correct"
    lines.append(f"{len(calls)} calls in {time.monotonic() - began:.1f} s: {verdict}")
    # With --json, standard output holds nothing but the JSON.
    print("\n".join(lines), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        print(json.dumps({"ok": ok, "calls": [{**asdict(call), "ok": call.ok} for call in calls]}))
    return 0 if ok else 1
