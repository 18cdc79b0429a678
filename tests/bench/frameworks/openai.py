"""An echo by way of a realtime model: the adapter's two ways, beside the way that the Agents SDK's own example takes.

The model is the stand-in of docs/examples/openai, in a process of its own, so that its CPU is not counted.
``sdk_alone`` is a re-statement, not a copy: it does for each frame what ``examples/realtime/twilio`` of
openai-agents-python does, with its sizes: media in JSON both ways, base64, 50 ms of audio to a message and a look every
50 ms for audio that was left, a mark behind each piece of the model's audio, the SDK's playback tracker moved by the
marks that come back and a line printed for each.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.frameworks.subject import APART, Calls, Row, Serve, app, interrupting, run, session

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
sys.path.append(str(Path(__file__).parents[3] / "docs/examples/openai"))

PIECE = 400
"""Bytes of the caller's audio in a message of the example: 50 ms, so three frames of 20 ms."""


async def model_alone(interrupts: bool) -> None:
    """The stand-in, until standard input ends. It echoes, or says two seconds of something over and over, and hears the
    caller each time."""
    from realtime_fake import Conversation, serve_realtime

    async def talk(conversation: Conversation) -> None:
        while True:
            await conversation.say(bytes(16000))
            await asyncio.sleep(random.uniform(*APART))
            await conversation.speech_started()
            await asyncio.sleep(0.1)  # the caller speaks

    async with serve_realtime(echoes=not interrupts, on_start=talk if interrupts else None) as realtime:
        print(realtime.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def model_url(*words: str) -> str:
    command = [sys.executable, "-m", "bench.frameworks.openai", "model", *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    kept.append(process)
    return process.stdout.readline().decode().strip()


kept: list[subprocess.Popen[bytes]] = []
"""It ends with this process, which holds its standard input."""


def config(url: str) -> Any:
    settings = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw", "turn_detection": None}
    return {"url": url, "api_key": "sk-fake", "initial_model_settings": settings}


def by_sdk(*model: str, fast: bool = False, **options: Any) -> Serve:
    async def serve(port: int) -> Calls:
        from agents.realtime import OpenAIRealtimeWebSocketModel, RealtimeAgent, RealtimeModelListener, RealtimeRunner

        from anycarrier_openai_realtime import openai_agent

        class Notes(RealtimeModelListener):
            def __init__(self, call_id: str) -> None:
                self.call_id = call_id

            async def on_event(self, event: Any) -> None:
                if event.type == "raw_server_event":
                    note(self.call_id, event.data["type"])

        def runner(call: Any) -> RealtimeRunner:
            made = OpenAIRealtimeWebSocketModel()
            if model:
                made.add_listener(Notes(call.call.id))
            return RealtimeRunner(RealtimeAgent(name="echo"), model=made)

        return await session(openai_agent(runner, config(model_url(*model)), **options), fast=fast)(port)

    return serve


def note(call_id: str, event: str) -> None:
    """An event of the model has come, and nobody has acted on it yet."""
    if event == "input_audio_buffer.speech_started":
        interrupting(call_id)


def by_socket(*model: str, fast: bool = False, **options: Any) -> Serve:
    async def serve(port: int) -> Calls:
        import websockets

        from anycarrier_openai_realtime import run_raw

        class Noted:
            def __init__(self, ws: Any, call_id: str) -> None:
                self.send, self.close, self._ws, self._call_id = ws.send, ws.close, ws, call_id

            async def __aiter__(self) -> AsyncIterator[Any]:
                async for message in self._ws:
                    note(self._call_id, json.loads(message)["type"])
                    yield message

        url = model_url(*model)
        pcmu = {"format": {"type": "audio/pcmu"}}
        settings = {"type": "realtime", "audio": {"input": {**pcmu, "turn_detection": None}, "output": pcmu}}

        async def agent(call: Any) -> None:
            async with websockets.connect(url) as ws:
                await ws.send(json.dumps({"type": "session.update", "session": settings}))
                await run_raw(call, Noted(ws, call.call.id) if model else ws, **options)

        return await session(agent, fast=fast)(port)

    return serve


def sdk_alone() -> Any:
    from agents.realtime import RealtimeAgent, RealtimePlaybackTracker, RealtimeRunner
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket, WebSocketDisconnect

    url, nowhere = model_url(), open(os.devnull, "w")  # noqa: SIM115 for as long as the process lives

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        tracker = RealtimePlaybackTracker()
        runner = RealtimeRunner(RealtimeAgent(name="echo"))
        realtime = await runner.run(model_config={**config(url), "playback_tracker": tracker})
        marks: dict[str, tuple[str, int, int]] = {}
        stream = ""

        async def speak() -> None:
            async for event in realtime:
                if event.type == "audio":
                    audio = event.audio
                    payload = base64.b64encode(audio.data).decode()
                    media = {"event": "media", "streamSid": stream, "media": {"payload": payload}}
                    await websocket.send_text(json.dumps(media))
                    name = str(next(numbers))
                    marks[name] = (audio.item_id, audio.content_index, len(audio.data))
                    mark = {"event": "mark", "streamSid": stream, "mark": {"name": name}}
                    await websocket.send_text(json.dumps(mark))
                elif event.type == "audio_interrupted":
                    await websocket.send_text(json.dumps({"event": "clear", "streamSid": stream}))

        async def flush() -> None:
            while True:
                await asyncio.sleep(0.05)
                if waiting and time.time() - flushed > 0.1:
                    await realtime.send_audio(bytes(waiting))
                    waiting.clear()

        numbers, waiting, flushed = itertools.count(), bytearray(), time.time()
        async with realtime:
            working = [asyncio.create_task(speak()), asyncio.create_task(flush())]
            try:
                while True:
                    message = json.loads(await websocket.receive_text())
                    match message["event"]:
                        case "start":
                            stream = message["start"]["streamSid"]
                        case "media":
                            waiting += base64.b64decode(message["media"]["payload"])
                            if len(waiting) >= PIECE:
                                flushed = time.time()
                                await realtime.send_audio(bytes(waiting))
                                waiting.clear()
                        case "mark" if mark := marks.pop(message["mark"]["name"], None):
                            tracker.on_play_bytes(mark[0], mark[1], bytes(mark[2]))
                            print(f"played {mark[0]}, part {mark[1]}, {mark[2]} bytes", file=nowhere)
            except WebSocketDisconnect:
                for task in working:
                    task.cancel()

    return Starlette(routes=[WebSocketRoute("/media-stream", talk)])


EXAMPLE = "the SDK's way, re-stated"
SUBJECTS = {
    "openai": by_sdk(),
    "openai, a message for each frame": by_sdk(batch=0.02),
    "openai, raw": by_socket(),
    "openai, raw, a message for each frame": by_socket(batch=0.02),
    "openai, as many messages": by_sdk(batch=0.06),
    "openai, raw, as many messages": by_socket(batch=0.06),
    "openai, extra fast": by_sdk(fast=True),
    "openai, raw, extra fast": by_socket(fast=True),
    "openai, interrupted": by_sdk("interrupts"),
    "openai, raw, interrupted": by_socket("interrupts"),
    EXAMPLE: app(sdk_alone, "/media-stream"),
}
ROWS = [
    Row("OpenAI by the SDK, 40 ms a message", "openai", beside=EXAMPLE, most=1.0),
    Row("OpenAI by a socket, 40 ms a message", "openai, raw", beside=EXAMPLE, most=0.9),
    Row("OpenAI by the SDK, 40 ms a message, extra fast", "openai, extra fast", beside=EXAMPLE, most=1.0),
    Row("OpenAI by a socket, 40 ms a message, extra fast", "openai, raw, extra fast", beside=EXAMPLE, most=0.9),
    Row("OpenAI by the SDK, 20 ms a message", "openai, a message for each frame", beside=EXAMPLE),
    Row("OpenAI by a socket, 20 ms a message", "openai, raw, a message for each frame", beside=EXAMPLE),
    Row("OpenAI by the SDK, 60 ms as the example", "openai, as many messages", beside=EXAMPLE, most=1.0),
    Row("OpenAI by a socket, 60 ms as the example", "openai, raw, as many messages", beside=EXAMPLE, most=0.9),
    Row("OpenAI by the SDK, no marks come back", "openai", marks=False),
    Row("OpenAI by the SDK, interrupted", "openai, interrupted", most=20, interruptions=True),
    Row("OpenAI by a socket, interrupted", "openai, raw, interrupted", most=20, interruptions=True),
]

if __name__ == "__main__":
    if sys.argv[1:2] == ["model"]:
        asyncio.run(model_alone(sys.argv[2:] == ["interrupts"]))
    else:
        run(ROWS, SUBJECTS)
