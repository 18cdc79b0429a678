"""A stand-in for OpenAI's Realtime API on a loopback port: no account, no model, the documented events.

    async with serve_realtime(greets=audio) as realtime:
        ... connect to realtime.url ...

It plays what a script tells it to, in deltas faster than real time, hears the caller's speech by the energy of mu-law
audio, and refuses what the API refuses, in particular an ``audio_end_ms`` beyond an item's audio.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from anycarrier.audio import pcmu_to_pcm16

BYTES_PER_MS = 8
LOUD = 500
"""Mean level, of 32767, from which mu-law audio is speech."""

SPEECH_BEGINS, SPEECH_ENDS = 0.06, 0.3
"""Seconds of speech, and of silence after it, that begin and end a turn."""

Script = Callable[["Conversation"], Awaitable[None]]


class Realtime:
    """The API: each connection is a :class:`Conversation`. Scripts say what it does of its own accord.

    ``on_start`` runs once the client has configured the session, ``on_turn`` when the caller has spoken,
    ``on_response`` when the client asks for a response. With ``echoes`` it says each piece of the caller's audio back.
    ``beta`` uses the names of the beta's audio events.
    """

    def __init__(self, *, echoes: bool = False, beta: bool = False, on_start: Script | None = None,
                 on_turn: Script | None = None, on_response: Script | None = None) -> None:  # fmt: skip
        self.url = ""
        self.echoes, self.beta = echoes, beta
        self.on_start, self.on_turn, self.on_response = on_start, on_turn, on_response
        self.conversations: list[Conversation] = []

    async def serve(self, socket: ServerConnection) -> None:
        """One connection, to its end."""
        conversation = Conversation(self, socket)
        self.conversations.append(conversation)
        with contextlib.suppress(ConnectionClosed):
            await conversation.run()
        await conversation.stop()

    async def conversation(self, count: int = 1) -> Conversation:
        """The ``count``-th, once its client has configured it."""
        async with asyncio.timeout(30):
            while len(self.conversations) < count:  # noqa: ASYNC110 a stand-in may poll
                await asyncio.sleep(0.005)
            await self.conversations[count - 1].configured.wait()
        return self.conversations[count - 1]


@contextlib.asynccontextmanager
async def serve_realtime(**settings: Any) -> AsyncIterator[Realtime]:
    """A :class:`Realtime` on a port of its own."""
    realtime = Realtime(**settings)
    async with serve(realtime.serve, "127.0.0.1", 0, close_timeout=1, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        realtime.url = f"ws://127.0.0.1:{port}/v1/realtime?model=fake"
        yield realtime


class Conversation:
    """One session of the API."""

    def __init__(self, realtime: Realtime, socket: ServerConnection) -> None:
        self._realtime, self._socket = realtime, socket
        self._numbers = itertools.count(1)
        self.session: dict[str, Any] = {
            "type": "realtime", "object": "realtime.session", "id": "sess_fake", "model": "fake",
            "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24000},
                                "turn_detection": {"type": "server_vad", "interrupt_response": True}},
                      "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy"}},
        }  # fmt: skip
        self.configured = asyncio.Event()
        self.received: list[dict[str, Any]] = []
        """The client's events but for audio, in order."""
        self.heard = bytearray()
        """The caller's audio."""
        self.appends = 0
        self.audio: dict[str, int] = {}
        """ms of audio sent of each item."""
        self.truncated: dict[str, int] = {}
        """Where the client cut each item."""
        self.refused: list[str] = []
        """Codes of the errors it was sent."""
        self.speaking = False
        """Whether the caller is."""
        self._loud = self._quiet = 0.0
        self._response: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what a script does -------------------------------------------------------------------------------------------

    async def say(self, audio: bytes, *, items: int = 1, delta: float = 0.1, call: tuple[str, Any] | None = None,
                  pause: float = 0.0) -> list[str]:  # fmt: skip
        """One response with ``audio`` in so many items, in deltas of ``delta`` seconds, ``pause`` seconds apart; then a
        function call with its arguments. Returns the items' ids; cancelled, it says no more."""
        response = await self.begin()
        ids, size = [], max(1, -(-len(audio) // items))
        for start in range(0, len(audio), size):
            item = f"item_{next(self._numbers)}"
            ids.append(item)
            await self._item("added", response, {"id": item, "type": "message", "role": "assistant", "content": []})
            piece = int(delta * 1000) * BYTES_PER_MS
            mine = audio[start : start + size]
            for at in range(0, len(mine), piece):
                if self._response != response:
                    return ids
                await self.delta(response, item, mine[at : at + piece])
                await asyncio.sleep(pause)
            await self.audio_done(response, item)
        if call is not None:
            await self.call(*call)
        await self.finish()
        return ids

    async def begin(self) -> str:
        """A response begins."""
        self._response = f"resp_{next(self._numbers)}"
        await self.send("response.created", response=self._of_response("in_progress"))
        return self._response

    async def delta(self, response: str, item: str, audio: bytes) -> None:
        """A piece of an item's audio."""
        self.audio[item] = self.audio.get(item, 0) + len(audio)
        await self.send(self._audio_event("delta"), response_id=response, item_id=item, output_index=0, content_index=0,
                        delta=base64.b64encode(audio).decode())  # fmt: skip

    async def audio_done(self, response: str, item: str) -> None:
        """An item's audio is complete."""
        await self.send(self._audio_event("done"), response_id=response, item_id=item, output_index=0, content_index=0)
        await self._item("done", response, {"id": item, "type": "message", "role": "assistant", "content": []})

    async def call(self, name: str, arguments: Any) -> None:
        """The model calls a function."""
        item = {"id": f"item_{next(self._numbers)}", "type": "function_call", "status": "completed", "name": name,
                "call_id": f"call_{next(self._numbers)}", "arguments": json.dumps(arguments)}  # fmt: skip
        await self._item("done", self._response or "", item)

    async def finish(self, status: str = "completed") -> None:
        """The response is over."""
        if self._response is not None:
            done = self._of_response(status)
            self._response = None
            await self.send("response.done", response=done)

    async def error(self, code: str, message: str) -> None:
        """Refuse something."""
        self.refused.append(code)
        await self.send("error", error={"type": "invalid_request_error", "code": code, "message": message,
                                        "param": None, "event_id": None})  # fmt: skip

    async def speech_started(self) -> None:
        """The caller begins to speak: the response in progress is cancelled, if the session says so."""
        self.speaking = True
        turns = self.session["audio"]["input"].get("turn_detection") or {}
        if turns.get("interrupt_response") is not False:
            await self.finish("cancelled")
        await self.send("input_audio_buffer.speech_started", audio_start_ms=len(self.heard) // BYTES_PER_MS,
                        item_id=f"item_{next(self._numbers)}")  # fmt: skip

    async def send(self, kind: str, **fields: Any) -> None:
        """Any server event."""
        event = {"type": kind, "event_id": f"event_{next(self._numbers)}", **fields}
        await self._socket.send(json.dumps(event))

    async def close(self, code: int = 1000) -> None:
        """End the connection."""
        await self._socket.close(code)

    def break_off(self) -> None:
        """The connection breaks."""
        self._socket.transport.abort()

    def got(self, kind: str) -> list[dict[str, Any]]:
        """The client's events of one type."""
        return [event for event in self.received if event["type"] == kind]

    # --- what the API does --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the client closes."""
        await self.send("session.created", session=self.session)
        async for message in self._socket:
            await self._act_on(json.loads(message))

    async def stop(self) -> None:
        """Its scripts end with it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _act_on(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(event["audio"], validate=True))
            return
        self.received.append(event)
        if kind == "session.update":
            _merge(self.session, event["session"])
            await self.send("session.updated", session=self.session)
            if "audio" in event["session"] and not self.configured.is_set():
                self.configured.set()
                self._run(self._realtime.on_start)
        elif kind == "conversation.item.truncate":
            await self._truncate(event["item_id"], event["audio_end_ms"])
        elif kind == "response.cancel":
            if self._response is None:
                await self.error("response_cancel_not_active", "Cancellation failed: no active response found")
            await self.finish("cancelled")
        elif kind == "response.create":
            self._run(self._realtime.on_response)

    async def _truncate(self, item: str, end: int) -> None:
        if item not in self.audio:
            await self.error("item_truncate_invalid_item_id", f"Item with item_id {item} not found.")
        elif not 0 <= end <= self.audio[item] / BYTES_PER_MS:
            length = self.audio[item] // BYTES_PER_MS
            await self.error("invalid_value", f"Audio content of {length}ms is already shorter than {end}ms")
        else:
            self.truncated[item] = end
            await self.send("conversation.item.truncated", item_id=item, content_index=0, audio_end_ms=end)

    async def _hear(self, audio: bytes) -> None:
        self.heard += audio
        self.appends += 1
        if self._realtime.echoes:
            if self._response is None:
                await self.begin()
            await self.delta(self._response or "", "item_echo", audio)
        if self.session["audio"]["input"].get("turn_detection"):
            await self._detect(audio)

    async def _detect(self, audio: bytes) -> None:
        levels = array("h", pcmu_to_pcm16(audio))
        seconds = len(audio) / 1000 / BYTES_PER_MS
        loud = sum(map(abs, levels)) > LOUD * len(levels)
        self._loud, self._quiet = (self._loud + seconds, 0.0) if loud else (0.0, self._quiet + seconds)
        if not self.speaking and self._loud >= SPEECH_BEGINS:
            await self.speech_started()
        elif self.speaking and self._quiet >= SPEECH_ENDS:
            self.speaking = False
            await self.send("input_audio_buffer.speech_stopped", audio_end_ms=len(self.heard) // BYTES_PER_MS,
                            item_id=f"item_{next(self._numbers)}")  # fmt: skip
            self._run(self._realtime.on_turn)

    def _run(self, script: Script | None) -> None:
        async def guarded(script: Script) -> None:
            with contextlib.suppress(ConnectionClosed):
                await script(self)

        if script is not None:
            task = asyncio.ensure_future(guarded(script))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _audio_event(self, what: str) -> str:
        return f"response.audio.{what}" if self._realtime.beta else f"response.output_audio.{what}"

    def _of_response(self, status: str) -> dict[str, Any]:
        return {"id": self._response, "object": "realtime.response", "status": status, "output": []}

    async def _item(self, what: str, response: str, item: dict[str, Any]) -> None:
        item = {"object": "realtime.item", "status": "completed" if what == "done" else "in_progress", **item}
        await self.send(f"response.output_item.{what}", response_id=response, output_index=0, item=item)


def _merge(into: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict) and key in ("audio", "input", "output"):
            _merge(into[key], value)
        else:
            into[key] = value
