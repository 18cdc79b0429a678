"""One call with a realtime model: what either says brought to the other, and what depends on how much was heard.

Acts on the API's own events, by the names of the present API and those of its beta. :func:`run_raw` has them from a
socket of your own; :mod:`~anycarrier_openai_realtime.agents_sdk` from the SDK, which is not imported here.
"""

import asyncio
import contextlib
import inspect
import json
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from anycarrier import DigitPressed, MediaSession
from anycarrier.errors import AnycarrierError, ModelFailed, StreamNotOpen
from anycarrier_openai_realtime.spoken_items import SpokenItems, Truncation

BATCH = 0.04
"""Seconds of the caller's audio in one message to the model by default: CPU against latency."""

MOST_WAITING = 10.0
"""Seconds of the caller's audio kept while the model takes none. Beyond that the oldest are dropped."""

RESPONSE_TIMEOUT = 2.0
"""Seconds in which a response ends once it has called a tool: it may speak after that."""

HARMLESS = ("response_cancel_not_active", "conversation_already_has_active_response")
"""Errors of races: both sides did the same at the same moment, and nothing is lost."""

_TO = {"type": "string", "description": "in international form, such as +14155550100"}
CALL_TOOLS = [
    {"type": "function", "name": "end_call", "description": "End the phone call. Say goodbye first.",
     "parameters": {"type": "object", "properties": {}}},
    {"type": "function", "name": "transfer_call",
     "description": "Transfer the caller to another phone number. Tell the caller first.",
     "parameters": {"type": "object", "properties": {"to": _TO}, "required": ["to"]}},
]  # fmt: skip
"""For ``tools`` in your ``session.update``; :func:`run_raw` carries them out."""

Event = Mapping[str, Any]


class RealtimeCall:
    """``send`` takes a client event for the model, ``append`` the caller's audio for it, once ``ready`` is set."""

    def __init__(
        self, session: MediaSession, send: Callable[[Event], Awaitable[None]],
        append: Callable[[bytes], Awaitable[None]], batch: float, on_digit: Callable[[str], object] | None,
    ) -> None:  # fmt: skip
        self.session, self.items, self._send, self._append = session, SpokenItems(), send, append
        self._batch, self._on_digit = max(1, session.format.size(batch)), on_digit
        self.ready, self._over, self._responded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._responded.set()
        self.response = ""
        self._waiting: asyncio.Queue[Event] = asyncio.Queue()
        self._cut: set[str] = set()
        self._interruptions = 0

    async def run(self, model: Coroutine[Any, Any, None]) -> None:
        """Until ``model``, which calls :meth:`act_on`, ends, the stream is over, or the agent has ended the call."""

        async def converse() -> None:
            await model
            self.ready.clear()  # the model takes no more, but what it said is still to be sent
            await self._waiting.join()

        parts = converse(), self._speak(), self._listen(), self._keys(), self.session.wait_stopped(), self._over.wait()
        tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(part) for part in parts]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended if not self.session.ended else ():  # what fails as the call is over is not the agent's fault
            task.result()

    # --- the caller ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        kept, heard, most = bytearray(), asyncio.Event(), self.session.format.size(MOST_WAITING)

        def hear(audio: str) -> None:
            kept.extend(b64decode(audio))
            del kept[:-most]
            if len(kept) >= self._batch:
                heard.set()

        self.session.receive_base64(hear)
        try:
            while await self.ready.wait() and await heard.wait():
                heard.clear()
                piece = bytes(kept[: len(kept) // self._batch * self._batch])
                del kept[: len(piece)]
                await self._append(piece)
        finally:
            self.session.receive_base64(None)

    async def _keys(self) -> None:
        await self.ready.wait()
        async for event in self.session:
            if isinstance(event, DigitPressed) and self._on_digit is not None:
                await done(self._on_digit(event.digit))

    # --- the model ----------------------------------------------------------------------------------------------------

    async def act_on(self, event: Event) -> None:
        """One event of the model. ``ModelFailed`` is an error that ends the call."""
        match event["type"].replace("output_audio", "audio"):  # the beta has no "output"
            case "response.audio.delta" | "response.audio.done":
                item_id = event["item_id"]
                if self._cut.isdisjoint((event.get("response_id"), item_id)):
                    self._waiting.put_nowait(event)
                elif item_id not in self._cut:  # on its way when its response was interrupted
                    self._cut.add(item_id)
                    await self._truncate([Truncation(item_id, event["content_index"], 0)])
            case "input_audio_buffer.speech_started":
                await self.interrupt()
            case "response.created":
                self.response = event["response"]["id"]
                self._responded.clear()
            case "response.done":
                self.response = ""
                self._responded.set()
            case "error" if (code := event["error"].get("code")) not in HARMLESS:
                raise ModelFailed("OpenAI realtime", f"{code}: {event['error'].get('message')}")

    async def _speak(self) -> None:
        """Send what has come. It waits for a slow carrier, so not in the task that hears interruptions."""
        while True:
            event = await self._waiting.get()
            try:
                if event.get("delta"):
                    self._sending(event, self.session.queued)
                    await self.session.send_base64(event["delta"])
                else:
                    self.items.finished(event["item_id"], event["content_index"])
                    await self.session.flush()
            finally:
                self._waiting.task_done()

    def _sending(self, event: Event, begins: float) -> None:
        seconds = self.session.format.seconds(len(event["delta"]) * 3 // 4 - event["delta"][-2:].count("="))
        self.items.sent(event["item_id"], event["content_index"], begins, seconds)

    @property
    def speaking(self) -> bool:
        """Whether anything the model said is still to be heard."""
        return not self._waiting.empty() or self.items.audible(self.session.heard) is not None

    async def interrupt(self, theirs: tuple[str, int] | None = None) -> None:
        """Clear first of all. Then truncate the audible item to what was heard, unless it is ``theirs``, which the SDK
        truncates, and later ones to 0."""
        queued = self.session.queued
        with contextlib.suppress(StreamNotOpen):
            self.session.clear_now()
        while not self._waiting.empty():
            if (event := self._waiting.get_nowait()).get("delta"):
                self._sending(event, queued)
            self._waiting.task_done()
        cut = self.items.cut(self.session.heard)
        self._cut.update(filter(None, (self.response, *(each.item_id for each in cut))))
        self._interruptions += 1
        await self._truncate(cut[1:] if cut and cut[0][:2] == theirs else cut)

    async def _truncate(self, cut: list[Truncation]) -> None:
        for each in cut:
            await self._send({"type": "conversation.item.truncate", **each._asdict()})

    # --- tools --------------------------------------------------------------------------------------------------------

    async def carry_out(self, tool: str, arguments: str) -> str:
        """One of :data:`CALL_TOOLS`, once all that the model says was heard. Returns what to tell the model."""
        before = self._interruptions
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._responded.wait(), RESPONSE_TIMEOUT)
        await self._waiting.join()
        await self.session.drain()
        if self._interruptions != before:
            return "Not done: the caller spoke before they had heard everything. Answer them first."
        if tool == "transfer_call":
            try:
                await self.session.transfer(str(json.loads(arguments)["to"]))
                if await self.session.wait_for_transfer() is None and not self.session.ended:
                    return "The transfer failed: nobody took the call. The caller is still with you."
            except (AnycarrierError, TimeoutError, ValueError, LookupError, TypeError) as refused:
                return f"The transfer was refused: {refused}"
        else:
            self._over.set()
        await self.session.wait_stopped()
        return "Done."


async def done(result: object) -> None:
    """Wait for what a callback returned, where it can be awaited."""
    if inspect.isawaitable(result):
        await result


async def run_raw(
    session: MediaSession, ws: Any, *, on_event: Callable[[dict[str, Any]], object] | None = None,
    on_digit: Callable[[str], object] | None = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call over ``ws``, connected and configured by you, until either side ends it; then close ``ws``.

    ``ws`` is a connection of ``websockets``, or anything with its ``send`` and iteration. The model's audio formats
    must be the session's. ``on_event`` gets each event of the model but audio, after it was acted on: for tools of your
    own; ``on_digit`` each key pressed. What they return is awaited where it can be. ``batch`` is seconds of the
    caller's audio in one message to the model. Raises ``ModelFailed`` when the model reports an error, and what ``ws``
    raises when it breaks.
    """

    async def send(event: Event) -> None:
        await ws.send(json.dumps(event))

    async def append(audio: bytes) -> None:
        await ws.send(f'{{"type":"input_audio_buffer.append","audio":"{b64encode(audio).decode()}"}}')

    async def carry_out(item: Event) -> None:
        output = await call.carry_out(item["name"], item["arguments"])
        answer = {"type": "function_call_output", "call_id": item["call_id"], "output": output}
        await send({"type": "conversation.item.create", "item": answer})
        await send({"type": "response.create"})

    async def read_model() -> None:
        call.ready.set()
        async for message in ws:
            event, response = json.loads(message), call.response
            await call.act_on(event)
            if event["type"] == "input_audio_buffer.speech_started" and response:
                await send({"type": "response.cancel"})  # the model may have done so itself: a setting
            elif event["type"] == "response.output_item.done" and event["item"].get("name") in tools:
                running.append(asyncio.ensure_future(carry_out(event["item"])))
            if on_event is not None and "delta" not in event:
                await done(on_event(event))

    tools, running = [tool["name"] for tool in CALL_TOOLS], list[asyncio.Future[None]]()
    call = RealtimeCall(session, send, append, batch, on_digit)
    try:
        await call.run(read_model())
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
