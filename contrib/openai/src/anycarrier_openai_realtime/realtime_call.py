"""One call with a realtime model: what either says brought to the other, and what depends on how much was heard.

Acts on the API's own events, by the names of the present API and those of its beta. :func:`run_raw` has them from a
socket of your own; :mod:`~anycarrier_openai_realtime.agents_sdk` from the SDK, which is not imported here.
"""

import asyncio
import contextlib
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed

from anycarrier import CallerAudio, DigitPressed, MediaSession
from anycarrier.agent import SpokenItems, Truncation, call_back, first_done, try_transfer
from anycarrier.errors import ModelFailed, StreamNotOpen

BATCH = 0.04
"""Seconds of the caller's audio in one message to the model by default: CPU against latency."""

RESPONSE_TIMEOUT = 2.0
"""Seconds in which a response ends once it has called a tool: it may speak after that."""

LAST_WORDS = 0.2
"""Seconds that the model has to take what the caller said last, once they have hung up."""

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


class RealtimeCall:
    """``send`` takes a client event for the model, ``append`` the caller's audio for it, once ``ready`` is set.
    What the model says is ``waiting`` for :meth:`speak`."""

    def __init__(self, session: MediaSession, send: Send, append: Send, batch: float) -> None:
        self.session, self.items, self._send, self._append = session, SpokenItems(), send, append
        self._batch, self.waiting = batch, asyncio.Queue[Event]()
        self.ready, self._over, self._responded = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._responded.set()
        self.response, self._cut, self._interruptions = "", set[str](), 0

    async def run(self, model: Coroutine[Any, Any, None], *work: Awaitable[None], on_digit: OnDigit) -> None:
        """Until ``model``, which calls :meth:`act_on`, ends, the stream is over, the agent has ended the call, or any
        of ``work`` fails."""
        await first_done(self._converse(model), self._keys(on_digit), self._over.wait(), *work, during=self.session)

    async def _converse(self, model: Coroutine[Any, Any, None]) -> None:
        await first_done(model, self._listen())
        await self.waiting.join()  # the model takes no more, but what it said is still to be sent

    # --- the caller ---------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        await self.ready.wait()
        # A connection that closed (the SDK asserts that it is open) ends the call where it is read: there it says why,
        # after what the model said before.
        with CallerAudio(self.session, self._batch) as caller, contextlib.suppress(ConnectionClosed, AssertionError):
            async for audio in caller:
                await self._append(audio)
        await self.session.wait_stopped()

    async def _keys(self, on_digit: OnDigit) -> None:
        """Until the stream is over, and the model could take what the caller said last."""
        await first_done(self.ready.wait(), self.session.wait_stopped())
        if self.ready.is_set():
            async for event in self.session:
                if isinstance(event, DigitPressed):
                    await call_back(on_digit, event.digit)
            await asyncio.sleep(LAST_WORDS)

    # --- the model ----------------------------------------------------------------------------------------------------

    async def act_on(self, event: Event) -> None:
        """One event of the model. ``ModelFailed`` is an error that ends the call."""
        match event["type"].replace("output_audio", "audio"):  # the beta has no "output"
            case "response.audio.delta" | "response.audio.done":
                item_id, index = event["item_id"], event["content_index"]
                if self._cut.isdisjoint((event.get("response_id"), item_id)):
                    if event.get("delta"):
                        self.items.sent(item_id, index, self.session.queued, 0.0)  # nothing yet, but it is to be cut
                    self.waiting.put_nowait(event)
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

    async def speak(self, event: Event) -> None:
        """Send one of those ``waiting``. It waits for a slow carrier, so not in the task that hears interruptions."""
        item, delta = (event["item_id"], event["content_index"]), event.get("delta")
        if delta and item[0] not in self._cut:
            seconds = self.session.format.seconds(len(delta) * 3 // 4 - delta[-2:].count("="))
            self.items.sent(*item, self.session.queued, seconds)
            await self.session.send_base64(delta)
        elif not delta:
            self.items.finished(*item)
            await self.session.flush()
        self.waiting.task_done()

    async def interrupt(self, theirs: tuple[str, int] | None = None) -> None:
        """Clear first of all. Then truncate the audible item to what was heard, unless it is ``theirs``, which the SDK
        truncates, and later ones to 0."""
        with contextlib.suppress(StreamNotOpen):
            self.session.clear_now()
        self._interruptions += 1
        if self.response:  # a model that is not OpenAI's may name none, or ""
            self._cut.add(self.response)
        await self._truncate(self.items.cut(self.session.heard), theirs)

    async def _truncate(self, cut: list[Truncation], theirs: tuple[str, int] | None = None) -> None:
        self._cut.update(each.item_id for each in cut)
        await asyncio.sleep(0)  # the carrier's clear goes first: the SDK takes milliseconds for one of these
        for each in cut:
            if each[:2] != theirs or each != cut[0]:
                await self._send({"type": "conversation.item.truncate", **each._asdict()})

    # --- tools --------------------------------------------------------------------------------------------------------

    async def carry_out(self, tool: str, arguments: str) -> str:
        """One of :data:`CALL_TOOLS`, once all that the model says was heard. Returns what to tell the model."""
        before = self._interruptions
        await first_done(self._responded.wait(), asyncio.sleep(RESPONSE_TIMEOUT))
        await self.waiting.join()
        await self.session.drain()
        if self._interruptions != before:
            return "Not done: the caller spoke before they had heard everything. Answer them first."
        if tool == "end_call":
            self._over.set()
        else:
            try:
                if why_not := await try_transfer(self.session, str(json.loads(arguments)["to"])):
                    return why_not
            except (ValueError, LookupError, TypeError) as wrong:
                return f"The transfer was refused: {wrong!r} in its arguments."
        await self.session.wait_stopped()
        return "Done."


async def run_raw(
    session: MediaSession, ws: Any, *, on_event: Callable[[dict[str, Any]], object] | None = None,
    on_digit: OnDigit = None, batch: float = BATCH,
) -> None:  # fmt: skip
    """Carry one call over ``ws``, connected and configured by you, until either side ends it; then close ``ws``.

    ``ws`` is a connection of ``websockets``, or anything with its ``send`` and iteration. The model's audio formats
    must be the session's. ``on_event`` gets each event of the model but audio, after it was acted on: for tools of your
    own; ``on_digit`` each key pressed. What they return is awaited where it can be, and what they raise is logged.
    ``batch`` is seconds of the caller's audio in one message to the model. Raises ``ModelFailed`` when the model
    reports an error, and what ``ws`` raises when it breaks, ``ConfigurationError`` for a ``batch`` that is not above 0,
    or above 10.
    """

    async def send(event: Event) -> None:
        await ws.send(json.dumps(event))

    async def append(audio: bytes) -> None:
        await ws.send(f'{{"type":"input_audio_buffer.append","audio":"{b64encode(audio).decode()}"}}')

    async def speak() -> None:
        while event := await call.waiting.get():
            await call.speak(event)

    async def use_tools() -> None:
        while item := await tools.get():
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
                    tools.put_nowait(item)
            if "delta" not in event:
                await call_back(on_event, event)

    call, tools = RealtimeCall(session, send, append, batch), asyncio.Queue[Event]()
    await call.run(read_model(), speak(), use_tools(), on_digit=on_digit)
