"""A bot that takes its time to accept its stream."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request

from contrib.twilio_front.fronted import open_fronted, stream, twiml


async def test_what_is_said_before_a_bot_has_accepted_its_stream_does_not_come_before_its_start() -> None:
    frames: list[str] = []

    async def slow(connection: ServerConnection, request: Request) -> None:
        await asyncio.sleep(1)

    async def bot(connection: ServerConnection) -> None:
        async for frame in connection:
            frames.append(json.loads(frame)["event"])
            if len(frames) == 10:
                await connection.close()

    async with serve(bot, "127.0.0.1", 0, process_request=slow) as server:
        place = f"127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        async with open_fronted("telnyx", hosts=[place]) as house:
            house.bot.replies["/voice"] = twiml(stream(f"ws://{place}/media"))
            far_end = await house.ring()
            await far_end.wait_for("streaming")
            await far_end.say(b"\x11" * 4000)  # over before anybody listens
            await house.over(far_end)
    assert frames[:2] == ["connected", "start"] and set(frames[2:10]) == {"media"}
