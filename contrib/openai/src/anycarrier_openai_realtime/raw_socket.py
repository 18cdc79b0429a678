"""A call under a realtime socket of your own: the API's events, and base64 as it comes, without the SDK."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

from anycarrier import MediaSession
from anycarrier_openai_realtime.realtime_call import BATCH, RealtimeCall, done, until_over

_TO = {"type": "string", "description": "in international form, such as +14155550100"}
CALL_TOOLS = [
    {"type": "function", "name": "end_call", "description": "End the phone call. Say goodbye first.",
     "parameters": {"type": "object", "properties": {}}},
    {"type": "function", "name": "transfer_call",
     "description": "Transfer the caller to another phone number. Tell the caller first.",
     "parameters": {"type": "object", "properties": {"to": _TO}, "required": ["to"]}},
]  # fmt: skip
"""For ``tools`` in your ``session.update``; :func:`run_raw` carries them out."""


class RealtimeSocket(Protocol):
    """A connection of ``websockets``, or anything with these two methods."""

    async def send(self, message: str) -> None: ...

    def __aiter__(self) -> AsyncIterator[str | bytes]: ...


async def run_raw(
    session: MediaSession, ws: RealtimeSocket, *, on_event: Callable[[dict[str, Any]], object] | None = None,
    on_digit: Callable[[str], object] | None = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call over ``ws``, connected and configured by you, until either side ends it; then close ``ws``.

    The model's audio formats must be the session's. ``on_event`` gets each event of the model but audio, after it was
    acted on: for tools of your own; ``on_digit`` each key pressed. What they return is awaited where it can be.
    ``batch`` is seconds of the caller's audio in one message to the model; up to 0.02 each piece goes on as it came.
    Raises ``ModelFailed`` when the model reports an error, and what ``ws`` raises when it breaks.
    """
    call = RealtimeCall(session, lambda event: ws.send(json.dumps(event)))
    tools: set[asyncio.Task[None]] = set()

    async def append(pieces: list[str]) -> None:
        for piece in [b64encode(b"".join(map(b64decode, pieces))).decode()] if batch > 0.02 else pieces:
            await ws.send('{"type":"input_audio_buffer.append","audio":' + json.dumps(piece) + "}")

    async def speak() -> None:
        while await call.spoke.wait():
            await call.send_waiting()

    async def read_model() -> None:
        model_cancels = True
        async for message in ws:
            event, response = json.loads(message), call.response
            await call.act_on(event)
            match event["type"]:
                case "response.output_audio.delta" | "response.audio.delta":
                    continue
                case "session.created" | "session.updated":
                    model_cancels = _cancels(event["session"])
                case "input_audio_buffer.speech_started" if response and not model_cancels:
                    await call.send({"type": "response.cancel"})
                case "response.output_item.done" if event["item"].get("name") in ("end_call", "transfer_call"):
                    tools.add(asyncio.ensure_future(_carry_out(call, event["item"])))
            if on_event is not None:
                await done(on_event(event))
        await call.send_waiting()

    try:
        await until_over(call, call.listen(append, batch, on_digit), read_model(), speak())
    finally:
        for tool in tools:
            tool.cancel()
        await asyncio.gather(*tools, return_exceptions=True)


async def _carry_out(call: RealtimeCall, item: Mapping[str, Any]) -> None:
    output = await getattr(call, item["name"])(**json.loads(item["arguments"] or "{}"))
    answer = {"type": "function_call_output", "call_id": item["call_id"], "output": output}
    await call.send({"type": "conversation.item.create", "item": answer})
    await call.send({"type": "response.create"})


def _cancels(session: Mapping[str, Any]) -> bool:
    """Whether the model itself cancels its response when the caller speaks: a setting that is on by default."""
    turns: Mapping[str, Any] | None = ((session.get("audio") or {}).get("input") or session).get("turn_detection")
    return turns is not None and turns.get("interrupt_response") is not False
