"""What is measured in ``./dev bench frameworks``: a process that answers calls with audio.

``tests/bench/frameworks/NAME.py`` says what there is to measure, and runs in the environment of the framework of that
name. It ends with ``run(ROWS, SUBJECTS)``: a row holds one subject against another, both measured in the same round.

    SUBJECTS = {"adapter": session(pipecat_agent(bot)), "its own": app(their_app, "/ws")}
    ROWS = [Row("echo at 8 kHz", "adapter", beside="its own", most=0.9)]

A subject is what serves on a port: ``session`` for a handler of ours, ``app`` for any ASGI app that answers Twilio's
stream at a path, or a function of your own like them. Started as ``python -m bench.frameworks.NAME SUBJECT PORT``, it
prints ``ready``; then each line on standard input is answered with one of JSON: ``calls COUNT`` (path and id of each),
``cpu`` (seconds until now), ``interruptions`` (call id and time of each), ``end`` (of those calls).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from bench.serving import RingingCalls, UnknownCalls, commands, serve_app, uvloop_or_none


class Calls(Protocol):
    async def open(self, count: int) -> list[tuple[str, str]]:
        """The path of each one's stream, and its id."""

    async def end(self) -> None: ...


Serve = Callable[[int], Awaitable[Calls]]
"""Serves on a port, in the background."""


@dataclass(frozen=True)
class Row:
    """``subject`` is to cost at most ``most`` times what ``beside`` does, or with ``difference`` that many µs more."""

    name: str
    subject: str
    beside: str = ""
    most: float | None = None
    difference: bool = False
    marks: bool = True
    """Whether the far end sends marks back. Without them, too, all the audio has to come."""
    interruptions: bool = False
    """The subject speaks and interrupts itself, and ``most`` is ms from each :func:`interrupting` to the carrier's
    ``clear``, at the 99th percentile of all rounds."""


_interruptions: list[tuple[str, float]] = []

APART = (0.5, 1.0)
"""Seconds between interruptions of a call, at least and at most."""


def interrupting(call_id: str) -> None:
    """The framework interrupts the agent of this call now. The far end's process has the same monotonic clock."""
    _interruptions.append((call_id, time.monotonic()))


def session(agents: Any, *, fast: bool = False, **exchange_options: Any) -> Serve:
    """Calls of an exchange, answered by ``agents``: a handler, or ``Agents`` with one of the id ``bench``."""

    async def serve(port: int) -> Calls:
        from anycarrier.asgi import create_app

        calls = RingingCalls(port, agents, **exchange_options)
        options = {}
        if fast:
            from anycarrier.fast.server import websockets

            options["ws"] = websockets(calls.exchange)
        await serve_app(create_app(calls.exchange), port, **options)
        return calls

    return serve


def app(make: Callable[[], Any], path: str) -> Serve:
    """An ASGI app, made in the process, that answers Twilio's stream at ``path``."""

    async def serve(port: int) -> Calls:
        await serve_app(make(), port)
        return UnknownCalls(path)

    return serve


def run(rows: Sequence[Row], subjects: Mapping[str, Serve]) -> None:
    """What the script does: print its rows, or be one of its subjects."""
    if sys.argv[1:] == ["rows"]:
        print(json.dumps([asdict(row) for row in rows]))
        return
    name, port = sys.argv[1], int(sys.argv[2])
    with asyncio.Runner(loop_factory=uvloop_or_none()) as runner:
        runner.run(_answer(subjects[name], port))


async def _answer(serve: Serve, port: int) -> None:
    calls = await serve(port)
    print("ready", flush=True)
    async for words in commands():
        answer: Any = None
        match words:
            case ["calls", count]:
                gc.collect()  # what is left of the round before is not for this one to pay
                answer = await calls.open(int(count))
            case ["cpu"]:
                answer = time.process_time()
            case ["interruptions"]:
                answer = _interruptions
            case ["end"]:
                await calls.end()
        print(json.dumps(answer), flush=True)
    os._exit(0)  # whatever a framework has left running
