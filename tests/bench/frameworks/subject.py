"""What is measured in ``./dev bench frameworks``: a process that answers calls with audio.

``tests/bench/frameworks/NAME.py`` says what there is to measure, and runs in the environment of the framework of that
name. It ends with ``run(ROWS, SUBJECTS)``: a row holds one subject against another, both measured in the same round.

    SUBJECTS = {"adapter": session(pipecat_agent(bot)), "its own": app(their_app, "/ws")}
    ROWS = [Row("echo at 8 kHz", "adapter", beside="its own", most=0.9)]

A subject is what serves on a port: ``session`` for a handler of ours, ``app`` for any ASGI app that answers Twilio's
stream at a path, or a function of your own like them. Started as ``python -m bench.frameworks.NAME SUBJECT PORT``, it
prints ``ready``; then each line on standard input, ``calls COUNT`` or ``cpu``, is answered with one of JSON.
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
from typing import Any

HOST = "127.0.0.1"

Calls = Callable[[int], Awaitable[list[str]]]
"""Begins that many calls; the path of each one's stream."""
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


def session(agents: Any, *, fast: bool = False, **exchange_options: Any) -> Serve:
    """Calls of an exchange, answered by ``agents``: a handler, or ``Agents`` with one of the id ``bench``."""

    async def serve(port: int) -> Calls:
        from anycarrier import Call, CallStatus, Direction, Exchange, MemoryNumberRegistry
        from anycarrier.asgi import create_app
        from anycarrier.plugins import get_provider

        carrier = get_provider("twilio")
        # Nobody is at this address: not a call of this bench is known to a carrier, and none is asked about.
        secrets = {"account_sid": "AC" + "0" * 32, "auth_token": "0" * 32, "base_url": f"http://{HOST}:9"}
        exchange = Exchange(
            registry=MemoryNumberRegistry(),
            credentials={"main": carrier.credential_type.model_validate(secrets)},
            public_url=f"http://{HOST}:{port}",
            secret="b" * 32,
            agents=agents,
            settle=600,
            **exchange_options,
        )
        options = {}
        if fast:
            from anycarrier.fast.server import websockets

            options["ws"] = websockets(exchange)
        await serve_app(create_app(exchange), port, **options)

        async def calls(count: int) -> list[str]:
            paths = []
            for number in range(count):
                call = await exchange.switchboard.calls.open(
                    Call(
                        id=f"CA{number:032d}",
                        provider="twilio",
                        direction=Direction.OUTBOUND,
                        from_="+14155550100",
                        to="+12125550123",
                        status=CallStatus.RINGING,
                        reference=f"{number:032x}",
                        credential_id="main",
                        agent_id="bench",
                    )
                )
                url = exchange.switchboard.stream_target(call, {}, ttl=600).url
                paths.append("/media/" + url.rpartition("/")[2])
            return paths

        return calls

    return serve


def app(make: Callable[[], Any], path: str) -> Serve:
    """An ASGI app, made in the process, that answers Twilio's stream at ``path``."""

    async def serve(port: int) -> Calls:
        await serve_app(make(), port)

        async def calls(count: int) -> list[str]:
            return [path] * count

        return calls

    return serve


async def serve_app(app: Any, port: int, **options: Any) -> None:
    """The server, serving in the background, as people run it: no deflate, no access log."""
    import uvicorn

    settings: dict[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False, **options}
    config = uvicorn.Config(app, host=HOST, port=port, log_level="warning", access_log=False, **settings)
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    while not server.started:
        if running.done():
            raise SystemExit(f"the subject did not start: {running}")
        await asyncio.sleep(0.01)


def run(rows: Sequence[Row], subjects: Mapping[str, Serve]) -> None:
    """What the script does: print its rows, or be one of its subjects."""
    if sys.argv[1:] == ["rows"]:
        print(json.dumps([asdict(row) for row in rows]))
        return
    name, port = sys.argv[1], int(sys.argv[2])
    with asyncio.Runner(loop_factory=_uvloop()) as runner:
        runner.run(_answer(subjects[name], port))


async def _answer(serve: Serve, port: int) -> None:
    calls = await serve(port)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    gc.collect()
    print("ready", flush=True)
    while line := (await commands.readline()).decode().split():
        answer: Any = time.process_time()
        if line[0] == "calls":
            answer = await calls(int(line[1]))
        print(json.dumps(answer), flush=True)
    os._exit(0)  # whatever a framework has left running


def _uvloop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
