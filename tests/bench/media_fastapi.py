"""A bridge as one writes it by hand: FastAPI towards the carrier, ``websockets`` towards the agent, ``json``."""

import asyncio
import contextlib
import json

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


def bridge(agent_url: str) -> FastAPI:
    """An app with one WebSocket route."""
    app = FastAPI()

    @app.websocket("/media/{number}")
    async def media(carrier: WebSocket, number: str) -> None:
        await carrier.accept()
        async with connect(agent_url, compression=None) as agent:
            await Call(carrier, agent).run()

    return app


class Call:
    """One call's two directions."""

    def __init__(self, carrier: WebSocket, agent: ClientConnection) -> None:
        self.carrier = carrier
        self.agent = agent
        self.stream = ""

    async def run(self) -> None:
        """Until either side is done."""
        tasks = [asyncio.create_task(self.to_agent()), asyncio.create_task(self.to_carrier())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, ConnectionClosed, RuntimeError):
                await task

    async def to_agent(self) -> None:
        async for text in self.carrier.iter_text():
            message = json.loads(text)
            if message["event"] == "start":
                self.stream = message["start"]["streamSid"]
            elif message["event"] == "media":
                audio = message["media"]["payload"]
                await self.agent.send(json.dumps({"event": "media", "media": {"payload": audio}}))

    async def to_carrier(self) -> None:
        async for text in self.agent:
            message = json.loads(text)
            if message["event"] == "media":
                audio = message["media"]["payload"]
                sound = {"event": "media", "streamSid": self.stream, "media": {"payload": audio}}
                await self.carrier.send_text(json.dumps(sound))
