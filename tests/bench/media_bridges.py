"""The bridges of ``./dev bench media``, each a process of its own: ``media_bridges.py NAME PORT AGENT_PORT``.

All do one job: take a carrier's media socket, open the agent's socket, pass sound both ways. Those that are not ours
are written the way one writes such a bridge by hand: they trust everybody and keep no account of anything. Ours are
what the library is: tickets, playback position, marks, time limit, the call's record.

Commands come on standard input, one a line: ``calls COUNT FILE`` writes a line for each call, its path and its id;
``end`` ends those calls. Each is answered with ``ok``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from serving import HOST, RingingCalls, UnknownCalls, commands, serve_app, uvloop_or_none

HEAD, TAIL = b'{"event":"media","streamSid":"%s","media":{"payload":"', b'"}}'


# --- anycarrier -------------------------------------------------------------------------------------------------------


def ringing(port: int, agent_port: int) -> RingingCalls:
    """Calls of an exchange whose agent is at the other end of a WebSocket."""
    from anycarrier.agent.agents import Agents

    agents = Agents()
    # Longer than any run: a soak of ten minutes is as long as calls may be by default.
    longest = {"max_duration_seconds": 7200}
    agents.add("bench", websocket_url=f"ws://{HOST}:{agent_port}/agent", settings=longest)
    return RingingCalls(port, agents)


async def anycarrier_fast(port: int, agent_port: int) -> Any:
    from anycarrier.asgi import create_app
    from anycarrier.fast.server import websockets

    calls = ringing(port, agent_port)
    calls.server = await serve_app(create_app(calls.exchange), port, ws=websockets(calls.exchange))
    return calls


async def anycarrier_portable(port: int, agent_port: int) -> Any:
    from anycarrier.asgi import create_app

    calls = ringing(port, agent_port)
    await serve_app(create_app(calls.exchange), port)
    return calls


async def anycarrier_in_fastapi(port: int, agent_port: int) -> Any:
    from fastapi import FastAPI

    from anycarrier.asgi import create_app

    calls = ringing(port, agent_port)
    inner = create_app(calls.exchange)
    app = FastAPI(lifespan=lambda _: inner.router.lifespan_context(inner))  # type: ignore[arg-type]
    app.mount("/", inner)
    await serve_app(app, port)
    return calls


# --- by hand ----------------------------------------------------------------------------------------------------------


async def fastapi_by_hand(port: int, agent_port: int) -> Any:
    from media_fastapi import bridge

    await serve_app(bridge(f"ws://{HOST}:{agent_port}/agent"), port)
    return UnknownCalls("/media/0")


async def websockets_both(port: int, agent_port: int) -> Any:
    from websockets.asyncio.client import connect
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.exceptions import ConnectionClosed

    async def media(carrier: ServerConnection) -> None:
        async with connect(f"ws://{HOST}:{agent_port}/agent", compression=None) as agent:
            stream = ""

            async def to_agent() -> None:
                nonlocal stream
                async for text in carrier:
                    message = json.loads(text)
                    if message["event"] == "start":
                        stream = message["start"]["streamSid"]
                    elif message["event"] == "media":
                        audio = message["media"]["payload"]
                        await agent.send(json.dumps({"event": "media", "media": {"payload": audio}}))

            async def to_carrier() -> None:
                async for text in agent:
                    message = json.loads(text)
                    if message["event"] == "media":
                        audio = message["media"]["payload"]
                        await carrier.send(
                            json.dumps({"event": "media", "streamSid": stream, "media": {"payload": audio}})
                        )

            await first_of(to_agent(), to_carrier(), ignoring=(ConnectionClosed,))

    await serve(media, HOST, port, compression=None)
    return UnknownCalls("/media/0")


async def picows_bare(port: int, agent_port: int) -> Any:
    """Near the limit of Python: a callback each side that cuts the sound out of the text and knows nothing else."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_connect, ws_create_server

    text = WSMsgType.TEXT
    key = b'"payload":"'
    waiting: set[asyncio.Task[None]] = set()

    class Agent(WSListener):  # type: ignore[misc,unused-ignore]
        socket: WSTransport | None = None

        def __init__(self, carrier: Carrier) -> None:
            self.carrier = carrier

        def on_ws_connected(self, transport: WSTransport) -> None:
            self.socket = transport

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            message = frame.get_payload_as_bytes()
            at = message.find(key)
            if at > 0 and self.carrier.socket is not None:
                audio = message[at + 11 : message.index(b'"', at + 11)]
                self.carrier.socket.send(text, b"".join((self.carrier.head, audio, TAIL)))

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            if self.carrier.socket is not None:
                self.carrier.socket.disconnect()

    class Carrier(WSListener):  # type: ignore[misc,unused-ignore]
        socket: WSTransport | None = None
        agent: Agent | None = None
        head = b""

        def on_ws_connected(self, transport: WSTransport) -> None:
            self.socket = transport
            task = asyncio.get_running_loop().create_task(self.dial())
            waiting.add(task)
            task.add_done_callback(waiting.discard)

        async def dial(self) -> None:
            _, agent = await ws_connect(lambda: Agent(self), f"ws://{HOST}:{agent_port}/agent")
            self.agent = agent  # type: ignore[assignment]

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            message = frame.get_payload_as_bytes()
            at = message.find(key)
            if at > 0:
                if self.agent is not None and self.agent.socket is not None:
                    audio = message[at + 11 : message.index(b'"', at + 11)]
                    self.agent.socket.send(text, b"".join((b'{"event":"media","media":{"payload":"', audio, TAIL)))
            elif b'"start"' in message:
                self.head = HEAD % json.loads(message)["streamSid"].encode()
            elif frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()

        def on_ws_disconnected(self, transport: WSTransport) -> None:
            if self.agent is not None and self.agent.socket is not None:
                self.agent.socket.disconnect()

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Carrier()

    await ws_create_server(listener, HOST, port)
    return UnknownCalls("/media/0")


async def first_of(*work: Awaitable[None], ignoring: tuple[type[BaseException], ...]) -> None:
    """Until one of them is done; then the others are not needed."""
    tasks = [asyncio.ensure_future(one) for one in work]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception) and not isinstance(outcome, ignoring):
            raise outcome


# --- the process ------------------------------------------------------------------------------------------------------


BRIDGES: dict[str, Callable[[int, int], Awaitable[Any]]] = {
    "anycarrier-fast": anycarrier_fast,
    "anycarrier-portable": anycarrier_portable,
    "anycarrier-in-fastapi": anycarrier_in_fastapi,
    "fastapi-by-hand": fastapi_by_hand,
    "websockets": websockets_both,
    "picows-bare": picows_bare,
}


async def main(name: str, port: int, agent_port: int) -> None:
    if name == "pipecat":
        from media_pipecat import pipecat

        calls = await pipecat(port, agent_port)
    else:
        calls = await BRIDGES[name.partition("-gc-")[0]](port, agent_port)
    gc.collect()
    if name == "anycarrier-fast":  # as `anycarrier serve` has it; an application of one's own decides for itself
        from anycarrier_server.runtime import Coalescer, QuietCollector

        QuietCollector(lambda: len(calls.exchange.switchboard.sessions)).start()
        tasks, sessions = calls.server.server_state.tasks, calls.exchange.switchboard.sessions
        Coalescer(lambda: len(sessions), lambda: len(tasks) > len(sessions)).start()
    print("ready", flush=True)
    async for words in commands():
        match words:
            case ["calls", count, file]:
                lines = await calls.open(int(count))
                Path(file).write_text("".join(f"{path} {call_id}\n" for path, call_id in lines))  # noqa: ASYNC240
            case ["end"]:
                await calls.end()
        print("ok", flush=True)
    os._exit(0)


if __name__ == "__main__":
    words = sys.argv[1:]
    with asyncio.Runner(loop_factory=None if os.environ.get("BENCH_LOOP") == "asyncio" else uvloop_or_none()) as runner:
        runner.run(main(words[0], int(words[1]), int(words[2])))
