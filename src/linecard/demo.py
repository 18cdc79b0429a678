"""The main job, shown on real wires without an account: every installed carrier's sandbox, one exchange, one agent.

A caller with a real voice rings a number on each carrier; the number's agent echoes. Then the number is given to
another agent, who is reached the same way, and who rings out. What each end heard is compared with what the other
sent, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import secrets
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module, resources

from linecard import AudioReceived, Call, CallStatus, EndReason, Exchange, MediaSession, MemoryNumberRegistry, Policy
from linecard.asgi import create_app
from linecard.plugins import get_provider, provider_names
from linecard.testing.far_end import FarEnd
from linecard.testing.sandbox import Sandbox
from linecard.testing.serving import listening, serve, serve_sandbox, url_of

SOMEBODY = "+12125550123"


@dataclass
class Shown:
    """One call of the demo. Seconds of speech; ``*_intact`` say that what was heard is what was sent."""

    carrier: str
    direction: str
    agent: str
    status: str
    reason: str
    seconds: float
    said: float
    agent_heard: float
    agent_intact: bool
    far_end_heard: float
    far_end_intact: bool

    @property
    def ok(self) -> bool:
        return self.agent_intact and self.far_end_intact and self.status == "ended" and self.reason == "user_hangup"


class Echo:
    """An agent that says back what it hears, and remembers it."""

    def __init__(self) -> None:
        self.heard: dict[str, bytearray] = {}

    async def __call__(self, session: MediaSession) -> None:
        heard = self.heard.setdefault(session.call.reference, bytearray())
        async for event in session:
            if isinstance(event, AudioReceived):
                heard += event.payload
                await session.send_audio(event.payload)


def voice() -> bytes:
    """Three and a half seconds of a man's voice, mu-law 8 kHz; spoken by flite for this demo."""
    return (resources.files("linecard.testing") / "clips" / "hello.ulaw").read_bytes()


async def run(say: bool = True) -> list[Shown]:
    """All calls of the demo, carrier by carrier."""
    names = [name for name in provider_names() if get_provider(name).sandbox]
    async with contextlib.AsyncExitStack() as stack:
        sandboxes = {}
        for name in names:
            module, _, kind = get_provider(name).sandbox.partition(":")
            sandboxes[name] = await stack.enter_async_context(serve_sandbox(getattr(import_module(module), kind)))
        agents = {"front-desk": Echo(), "night-desk": Echo()}
        sock = listening()
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={name: sandbox.credential() for name, sandbox in sandboxes.items()},
            public_url=url_of(sock),
            secret=secrets.token_bytes(32),
            agents=agents,
            policy=Policy(allow=["US"]),
        )
        await stack.enter_async_context(serve(create_app(exchange), sock))
        shown = await asyncio.gather(
            *(_carrier(exchange, agents, n, s, i, say) for i, (n, s) in enumerate(sandboxes.items()))
        )
        return [call for calls in shown for call in calls]


async def _carrier(
    exchange: Exchange, agents: dict[str, Echo], name: str, sandbox: Sandbox, index: int, say: bool
) -> list[Shown]:
    number = f"+1415555010{index}"
    sandbox.add_number(number)
    shown = []
    sandbox.point_webhooks(exchange.webhook_url(name, name))
    sandbox.quirks.add("quiet")  # nobody sends silence, so that all that is heard was said
    for agent in ("front-desk", "night-desk"):
        await exchange.assign(number, agent_id=agent, credential_id=name)
        shown.append(await _converse(exchange, agents, name, await sandbox.ring(number, SOMEBODY)))
    call = await exchange.dial(from_=number, to=SOMEBODY)
    shown.append(await _converse(exchange, agents, name, await sandbox.far_end(call.id)))
    if say:
        print(f"  {get_provider(name).title}: {len(shown)} calls", file=sys.stderr)
    return shown


async def _converse(exchange: Exchange, agents: dict[str, Echo], carrier: str, far_end: FarEnd) -> Shown:
    """The far end says its sentence, waits to hear it come back, hangs up."""
    clip = voice()
    await far_end.wait_for("streaming", 10)
    await far_end.say(clip)
    with contextlib.suppress(TimeoutError):  # the comparison below tells what is missing
        await far_end.wait_heard(len(clip) / 8000, timeout=len(clip) / 8000 + 5)
    await far_end.hang_up()
    call: Call = await exchange.wait_for(far_end.call_id, CallStatus.ENDED, 10)
    heard = bytes(agents[call.agent_id or ""].heard.get(call.reference, b""))
    return Shown(
        carrier=carrier,
        direction=str(call.direction),
        agent=call.agent_id or "-",
        status=str(call.status),
        reason=str(call.reason or EndReason.UNKNOWN),
        seconds=round(call.duration, 2),
        said=round(len(clip) / 8000, 2),
        agent_heard=round(len(heard) / 8000, 2),
        agent_intact=clip == heard,
        far_end_heard=round(far_end.heard_seconds(), 2),
        far_end_intact=clip == far_end.heard,
    )


def table(calls: list[Shown]) -> str:
    """The calls, for people."""
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


def main(argv: list[str] | None = None) -> int:
    """``linecard demo``: exit 0 only when every comparison holds."""
    parser = argparse.ArgumentParser(prog="linecard demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="also print the result as one last line of JSON")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    names = [name for name in provider_names() if get_provider(name).sandbox]
    if not names:
        print("no carrier with a sandbox is installed: install a linecard-... provider first", file=sys.stderr)
        return 2
    print(f"calling over {', '.join(names)}, each on its own sandbox ...", file=sys.stderr)
    began = time.monotonic()
    calls = asyncio.run(run())
    ok = bool(calls) and all(call.ok for call in calls)
    print(table(calls))
    print(f"{len(calls)} calls in {time.monotonic() - began:.1f} s: {'all as they must be' if ok else 'NOT all right'}")
    if options.json:
        print(json.dumps({"ok": ok, "calls": [{**asdict(call), "ok": call.ok} for call in calls]}))
    return 0 if ok else 1
