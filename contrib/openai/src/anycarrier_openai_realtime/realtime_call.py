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
from anycarrier.errors import AnycarrierError, ConfigurationError, ModelFailed, StreamNotOpen
from anycarrier_openai_realtime.spoken_items import SpokenItems, Truncation

BATCH = 0.04
"""Seconds of the caller's audio in one message to the model by default: CPU against latency."""

MOST_WAITING = 10.0
"""Seconds of the caller's audio kept while the model takes none. Beyond that the oldest are dropped."""

RESPONSE_TIMEOUT = 2.0
"""Seconds in which a response ends once it has called a tool: it may speak after that."""

HARMLESS = ("response_cancel_not_active", "conversation_already_has_active_response")
"""Errors of races: both sides did the same at the same moment, and nothing is lost."""

Event = Mapping[str, Any]
Send = Callable[[Any], Awaitable[None]]
OnDigit = Callable[[str], object] | None


def _tool(name: str, description: str, **takes: Event) -> dict[str, Any]:
    parameters = {"type": "object", "properties": takes, "required": list(takes)}
    return {"type": "function", "name": name, "description": description, "parameters": parameters}


_TO = {"type": "string", "description": "in international form, such as +14155550100"}
_TELL_FIRST = "Transfer the caller to another phone number. Tell the caller first."
CALL_TOOLS = [_tool("end_call", "End the phone call. Say goodbye first."), _tool("transfer_call", _TELL_FIRST, to=_TO)]
"""For ``tools`` in your ``session.update``; :func:`run_raw` carries them out."""


def check_batch(batch: float) -> None:
    if batch <= 0:
        raise ConfigurationError(f"batch={batch}: give seconds of audio above 0, such as {BATCH}.")


async def result_of(given: Any) -> Any:
    """What a callback returned, once it is there."""
    return await given if inspect.isawaitable(given) else given


class RealtimeCall:
    """``send`` takes a client event for the model, ``append`` the caller's audio for it, once ``ready`` is set."""

    def __init__(self, session: MediaSession, send: Send, append: Send, batch: float) -> None:
        check_batch(batch)
        self.session, self.items, self._send, self._append = session, SpokenItems(), send, append
        self._batch, self.tasks = max(1, session.format.size(batch)), list[asyncio.Future[Any]]()
        self.ready, self._over, self._responded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._responded.set()
        self._waiting = asyncio.Queue[Event]()
        self.response, self._cut, self._interruptions = "", set[str](), 0

    async def run(self, model: Coroutine[Any, Any, None], on_digit: OnDigit) -> None:
        """Until ``model``, which calls :meth:`act_on`, ends, the stream is over, or the agent has ended the call."""
        parts = self._converse(model), self._speak(), self._listen(), self._keys(on_digit), self._over.wait()
        self.tasks += map(asyncio.ensure_future, (*parts, self.session.wait_stopped()))
        try:
            ended, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.session.receive_base64(None)
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
        for task in ended if not self.session.ended else ():  # what fails as the call is over is not the agent's fault
            task.result()

    async def _converse(self, model: Coroutine[Any, Any, None]) -> None:
        await model
        self.ready.clear()  # the model takes no more, but what it said is still to be sent
        await self._waiting.join()

    # --- the caller ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        kept, came, most = bytearray(), asyncio.Event(), self.session.format.size(MOST_WAITING)

        def hear(audio: str) -> None:
            kept.extend(b64decode(audio))
            del kept[:-most]
            if len(kept) >= self._batch:
                came.set()

        self.session.receive_base64(hear)
        while await self.ready.wait() and await came.wait():
            came.clear()
            piece = bytes(kept[: len(kept) // self._batch * self._batch])
            del kept[: len(piece)]
            await self._append(piece)

    async def _keys(self, on_digit: OnDigit) -> None:
        await self.ready.wait()
        async for event in self.session:
            if isinstance(event, DigitPressed) and on_digit is not None:
                await result_of(on_digit(event.digit))

    # --- the model ----------------------------------------------------------------------------------------------------

    async def act_on(self, event: Event) -> None:
        """One event of the model. ``ModelFailed`` is an error that ends the call."""
        match event["type"].replace("output_audio", "audio"):  # the beta has no "output"
            case "response.audio.delta" | "response.audio.done":
                item_id, index = event["item_id"], event["content_index"]
                if self._cut.isdisjoint((event.get("response_id"), item_id)):
                    if event.get("delta"):
                        self.items.sent(item_id, index, self.session.queued, 0.0)  # nothing yet, but it is to be cut
                    self._waiting.put_nowait(event)
                elif event.get("delta") and item_id not in self._cut:  # on its way when its response was interrupted
                    await self._truncate([Truncation(item_id, index, 0)])
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
        while event := await self._waiting.get():
            item = event["item_id"], event["content_index"]
            if delta := event.get("delta"):
                seconds = self.session.format.seconds(len(delta) * 3 // 4 - delta[-2:].count("="))
                self.items.sent(*item, self.session.queued, seconds)
                await self.session.send_base64(delta)
            else:
                self.items.finished(*item)
                await self.session.flush()
            self._waiting.task_done()

    @property
    def speaking(self) -> bool:
        """Whether anything the model said is still to be heard."""
        return self.items.audible(self.session.heard) is not None

    async def interrupt(self, theirs: tuple[str, int] | None = None) -> None:
        """Clear first of all. Then truncate the audible item to what was heard, unless it is ``theirs``, which the SDK
        truncates, and later ones to 0."""
        with contextlib.suppress(StreamNotOpen):
            self.session.clear_now()
        while not self._waiting.empty():
            self._waiting.get_nowait()
            self._waiting.task_done()
        self._interruptions += 1
        if self.response:  # a model that is not OpenAI's may name none, or ""
            self._cut.add(self.response)
        await self._truncate(self.items.cut(self.session.heard), theirs)

    async def _truncate(self, cut: list[Truncation], theirs: tuple[str, int] | None = None) -> None:
        self._cut.update(each.item_id for each in cut)
        for each in cut:
            if each[:2] != theirs or each != cut[0]:
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
        if tool == "end_call":
            self._over.set()
        else:
            try:
                await self.session.transfer(str(json.loads(arguments)["to"]))
                if await self.session.wait_for_transfer() is None and not self.session.ended:
                    return "The transfer failed: nobody took the call. The caller is still with you."
            except (AnycarrierError, TimeoutError, ValueError, LookupError, TypeError) as refused:
                return f"The transfer was refused: {refused}"
        await self.session.wait_stopped()
        return "Done."


async def run_raw(
    session: MediaSession, ws: Any, *, on_event: Callable[[dict[str, Any]], object] | None = None,
    on_digit: OnDigit = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call over ``ws``, connected and configured by you, until either side ends it; then close ``ws``.

    ``ws`` is a connection of ``websockets``, or anything with its ``send`` and iteration. The model's audio formats
    must be the session's. ``on_event`` gets each event of the model but audio, after it was acted on: for tools of your
    own; ``on_digit`` each key pressed. What they return is awaited where it can be. ``batch`` is seconds of the
    caller's audio in one message to the model. Raises ``ModelFailed`` when the model reports an error, and what ``ws``
    raises when it breaks, ``ConfigurationError`` for a ``batch`` of 0 or less.
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
            match event:
                case {"type": "input_audio_buffer.speech_started"} if response:
                    await send({"type": "response.cancel"})  # the model may have done so itself: a setting
                case {"type": "response.output_item.done", "item": {"name": "end_call" | "transfer_call"} as item}:
                    call.tasks.append(asyncio.ensure_future(carry_out(item)))
            if on_event is not None and "delta" not in event:
                await result_of(on_event(event))

    call = RealtimeCall(session, send, append, batch)
    await call.run(read_model(), on_digit)
