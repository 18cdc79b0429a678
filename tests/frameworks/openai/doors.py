"""Two ways to the same stand-in for the Realtime API: the Agents SDK, and a raw socket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import websockets
from agents.realtime import RealtimeAgent, RealtimeRunner
from realtime_fake import Realtime

from anycarrier import MediaSession
from anycarrier_openai_realtime import CALL_TOOLS, end_call, run_call, run_raw, transfer_call

Handler = Callable[[MediaSession], Awaitable[None]]
Door = Callable[..., Handler]

VAD = {"type": "server_vad", "interrupt_response": True, "create_response": True}


def sdk(realtime: Realtime, *, turns: Any = VAD, **options: Any) -> Handler:
    """A handler by :func:`run_call`."""

    async def handler(session: MediaSession) -> None:
        agent: Any = RealtimeAgent(name="Clerk", instructions="Be brief.", tools=[end_call, transfer_call])
        config: Any = {"url": realtime.url, "api_key": "sk-fake",
                       "initial_model_settings": {"turn_detection": turns}}  # fmt: skip
        await run_call(session, RealtimeRunner(agent), config, **options)

    return handler


def raw(realtime: Realtime, *, turns: Any = VAD, **options: Any) -> Handler:
    """The same by :func:`run_raw`."""

    async def handler(session: MediaSession) -> None:
        async with websockets.connect(realtime.url, close_timeout=1) as ws:
            pcmu = {"type": "audio/pcmu"}
            audio = {"input": {"format": pcmu, "turn_detection": turns}, "output": {"format": pcmu}}
            update = {"type": "realtime", "audio": audio, "tools": CALL_TOOLS}
            await ws.send(json.dumps({"type": "session.update", "session": update}))
            await run_raw(session, ws, **options)

    return handler


DOORS: dict[str, Door] = {"sdk": sdk, "raw": raw}
