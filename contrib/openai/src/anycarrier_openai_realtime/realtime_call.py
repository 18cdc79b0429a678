"""One call with a realtime model: its events acted on, its audio sent, and what depends on how much of that was heard.

Acts on the API's own events, as both :mod:`~anycarrier_openai_realtime.agents_sdk` and
:mod:`~anycarrier_openai_realtime.raw_socket` get them, by the names of the present API and those of its beta.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from anycarrier import DigitPressed, MediaSession
from anycarrier.errors import AnycarrierError, ModelFailed, StreamNotOpen
from anycarrier_openai_realtime.spoken_items import SpokenItems, Truncation

log = logging.getLogger("anycarrier")

BATCH = 0.04
"""Seconds of the caller's audio in one message to the model by default: CPU against latency."""

MOST_WAITING = 500
"""Pieces of the caller's audio kept while the model takes none: 10 s. Beyond that the oldest are dropped."""

RESPONSE_TIMEOUT = 2.0
"""Seconds in which a response ends once it has called a tool: its audio comes before that."""

HARMLESS = ("response_cancel_not_active", "conversation_already_has_active_response")
"""Errors of races: both sides did the same at the same moment, and nothing is lost."""

INTERRUPTED = "Not done: the caller spoke before they had heard everything. Answer them first."


class RealtimeCall:
    """``send`` takes a client event for the model; ``over`` is set once the agent has ended the call."""

    def __init__(self, session: MediaSession, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
        self.session, self.items, self.send = session, SpokenItems(), send
        self.over, self.spoke = asyncio.Event(), asyncio.Event()
        self.response: str | None = None
        self._responded, self._all_sent = asyncio.Event(), asyncio.Event()
        self._responded.set()
        self._all_sent.set()
        self._waiting: deque[tuple[str, int, str]] = deque()
        self._cut: set[str] = set()
        self._interruptions = 0
        self._pieces: deque[str] = deque(maxlen=MOST_WAITING)
        self._held, self._heard = 0, asyncio.Event()

    # --- the caller ---------------------------------------------------------------------------------------------------

    async def listen(
        self, append: Callable[[list[str]], Awaitable[None]], batch: float, on_digit: Callable[[str], object] | None
    ) -> None:
        """Give the caller's audio to ``append``, ``batch`` seconds at a time as the pieces of base64 that came, and
        keys to ``on_digit``; until the stream is over."""
        size = self.session.format.size(batch)

        def hear(audio: str) -> None:
            self._pieces.append(audio)
            self._held += size_of(audio)
            if self._held >= size:
                self._heard.set()

        async def send() -> None:
            while await self._heard.wait():
                self._heard.clear()
                pieces, whole = [], self._held // size * size  # what is beyond waits for its batch
                while self._pieces and whole > 0:
                    pieces.append(self._pieces.popleft())
                    whole -= size_of(pieces[-1])
                self._held = sum(map(size_of, self._pieces))
                await append(pieces)

        async def read() -> None:
            async for event in self.session:
                if isinstance(event, DigitPressed) and on_digit is not None:
                    await done(on_digit(event.digit))

        self.session.receive_base64(hear)
        try:
            await first_of(send(), read())
        finally:
            self.session.receive_base64(None)

    # --- the model ----------------------------------------------------------------------------------------------------

    async def act_on(self, event: Mapping[str, Any]) -> None:
        """One event of the model. ``ModelFailed`` is an error that ends the call."""
        match event["type"]:
            case "response.output_audio.delta" | "response.audio.delta":
                await self._add(event.get("response_id", ""), event["item_id"], event["content_index"], event["delta"])
            case "response.output_audio.done" | "response.audio.done":
                await self._add(event.get("response_id", ""), event["item_id"], event["content_index"], "")
            case "input_audio_buffer.speech_started":
                await self.truncate(self.interrupt())
            case "response.created":
                self.response = event["response"]["id"]
                self._responded.clear()
            case "response.done":
                self.response = None
                self._responded.set()
            case "error" if event["error"].get("code") in HARMLESS:
                log.info("the realtime model reports %s", event["error"]["code"])
            case "error":
                raise ModelFailed("OpenAI realtime", "{code}: {message}".format_map({"code": None, **event["error"]}))

    async def _add(self, response_id: str, item_id: str, content_index: int, audio: str) -> None:
        if not self._cut.isdisjoint((response_id, item_id)):  # on its way when its response was interrupted
            if item_id not in self._cut:
                self._cut.add(item_id)
                await self.truncate([Truncation(item_id, content_index, 0)])
            return
        self._waiting.append((item_id, content_index, audio))
        self._all_sent.clear()
        self.spoke.set()

    async def send_waiting(self) -> None:
        """Send the audio that has come. It waits for a slow carrier: not for the task that hears interruptions."""
        self.spoke.clear()
        while self._waiting:
            item_id, content_index, audio = self._waiting.popleft()
            if not audio:
                self.items.finished(item_id, content_index)
                await self.session.flush()
                continue
            seconds = self.session.format.seconds(size_of(audio))
            self.items.sent(item_id, content_index, self.session.queued, seconds)
            await self.session.send_base64(audio)
        self._all_sent.set()

    @property
    def speaking(self) -> bool:
        """Whether anything the model said is still to be heard."""
        return bool(self._waiting) or self.items.audible(self.session.heard) is not None

    def interrupt(self) -> list[Truncation]:
        """Clear first of all. Returns where each item ends now: the audible one at what was heard, later ones at 0."""
        with contextlib.suppress(StreamNotOpen):
            self.session.clear_now()
        cut = self.items.cut(self.session.heard)
        sent = {(each.item_id, each.content_index) for each in cut}
        later = dict.fromkeys((item_id, index) for item_id, index, audio in self._waiting if audio)
        cut += [Truncation(*key, 0) for key in later if key not in sent]
        self._waiting.clear()
        self._cut.update(each.item_id for each in cut)
        if self.response:
            self._cut.add(self.response)
        self._interruptions += 1
        return cut

    async def truncate(self, cut: list[Truncation]) -> None:
        """Tell the model what of its items was heard."""
        for each in cut:
            await self.send({"type": "conversation.item.truncate", **each._asdict()})

    # --- tools --------------------------------------------------------------------------------------------------------

    async def end_call(self) -> str:
        """Returns only when the call goes on."""
        if not await self._said():
            return INTERRUPTED
        self.over.set()
        await self.session.wait_stopped()
        return "The call is over."

    async def transfer_call(self, to: str) -> str:
        """Returns what became of it."""
        if not await self._said():
            return INTERRUPTED
        try:
            await self.session.transfer(to)
            if await self.session.wait_for_transfer() is None and not self.session.ended:
                return "The transfer failed: nobody took the call. The caller is still with you."
        except AnycarrierError as refused:
            return f"The transfer was refused: {refused}"
        await self.session.wait_stopped()
        return "The caller was transferred."

    async def _said(self) -> bool:
        """Wait until all that the model says was heard; False if the caller interrupted it."""
        before = self._interruptions
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._responded.wait(), RESPONSE_TIMEOUT)
        await self._all_sent.wait()
        await self.session.drain()
        return self._interruptions == before


def size_of(audio: str) -> int:
    """Bytes in base64 text."""
    return len(audio) * 3 // 4 - audio[-2:].count("=")


async def done(result: object) -> None:
    """Wait for what a callback returned, where it can be awaited."""
    if inspect.isawaitable(result):
        await result


async def first_of(*parts: Coroutine[Any, Any, object]) -> None:
    """Run all until one of them ends; the others are cancelled. Raises what it raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in ended:
            task.result()


async def until_over(call: RealtimeCall, *parts: Coroutine[Any, Any, object]) -> None:
    """Run all until one of them ends, the stream is over, or the agent has ended the call."""
    try:
        await first_of(call.session.wait_stopped(), call.over.wait(), *parts)
    except Exception:
        if not call.session.ended:
            raise
        log.debug("the realtime connection of a call that is over failed", exc_info=True)
