"""The bare session, beside which every adapter can be held: an echo, and the same written by hand on FastAPI."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from anycarrier import AudioReceived, MediaSession
from bench.frameworks.subject import APART, Row, app, interrupting, run, session


async def echo(session: MediaSession) -> None:
    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


async def interrupted(session: MediaSession) -> None:
    while not session.ended:
        await session.send_audio(bytes(16000))
        await asyncio.sleep(random.uniform(*APART))
        interrupting(session.call.id)
        await session.clear()


def by_hand() -> Any:
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            async for text in websocket.iter_text():
                message = json.loads(text)
                if message["event"] == "media":
                    media = {"payload": message["media"]["payload"]}
                    await websocket.send_text(
                        json.dumps({"event": "media", "streamSid": message["streamSid"], "media": media})
                    )
        except WebSocketDisconnect:
            return

    talk.__annotations__["websocket"] = WebSocket  # FastAPI looks for the name among the module's, not here
    made = FastAPI()
    made.add_api_websocket_route("/stream", talk)
    return made


SUBJECTS = {
    "session": session(echo),
    "session, extra fast": session(echo, fast=True),
    "session, interrupted": session(interrupted),
    "FastAPI by hand": app(by_hand, "/stream"),
}
ROWS = [
    Row("session echo", "session", beside="FastAPI by hand"),
    Row("session echo, extra fast", "session, extra fast", beside="FastAPI by hand"),
    Row("session echo, no marks come back", "session", marks=False),
    Row("session interrupted", "session, interrupted", most=20, interruptions=True),
]

if __name__ == "__main__":
    run(ROWS, SUBJECTS)
