"""A stand-in for Deepgram on loopback, written from its public documents; it was never compared with the real one.

Messages are those of the AsyncAPI document in github.com/deepgram/deepgram-api-specs and of developers.deepgram.com.
"""

from __future__ import annotations

import asyncio
import http
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

pytest.importorskip("anycarrier_speech_deepgram")
from anycarrier_speech_deepgram import DeepgramEngine, DeepgramSettings, listening, speaking

KEY = "dg-test-key"


class FakeDeepgram:
    """What it was sent, and what it is to answer."""

    def __init__(self) -> None:
        self.queries: list[list[tuple[str, str]]] = []
        self.audio: list[bytes] = []  # by connection
        self.messages: list[str] = []
        self.answers_finalize = True
        self.refuse: list[int] = []
        self.unknown_models: set[str] = set()
        self.says_why_in_a_header = True
        self.sound = [b"\x11" * 800, b"\x22" * 800]
        self.hang_up_after_text = 0
        self.warns = False
        self.clears = True
        self.pause = 0.0
        self.sockets: list[ServerConnection] = []
        self.received = asyncio.Condition()
        self.server: Server | None = None

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"ws://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serve it while the block runs; gives its URL."""
        async with serve(self.handle, "127.0.0.1", 0, process_request=self.check, compression=None) as self.server:
            yield self.url

    async def check(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse:
            status = http.HTTPStatus(self.refuse.pop(0))
            return connection.respond(status, "no")
        if request.headers.get("Authorization") != f"Token {KEY}":
            response = connection.respond(http.HTTPStatus.UNAUTHORIZED, "")
            response.headers["dg-error"] = "Invalid credentials."
            return response
        if dict(parse_qsl(urlsplit(request.path).query)).get("model") in self.unknown_models:
            why = "No such model/version combination found."
            body = {"err_code": "Bad Request", "err_msg": why, "request_id": "x"}
            response = connection.respond(http.HTTPStatus.BAD_REQUEST, json.dumps(body))
            if self.says_why_in_a_header:
                response.headers["dg-error"] = why
            return response
        return None

    async def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        parts = urlsplit(socket.request.path)
        self.queries.append(parse_qsl(parts.query))
        self.sockets.append(socket)
        try:
            await (self.listen if parts.path == "/v1/listen" else self.speak)(socket)
        except ConnectionClosed:
            pass

    async def note(self, message: str) -> None:
        async with self.received:
            self.messages.append(message)
            self.received.notify_all()

    async def listen(self, socket: ServerConnection) -> None:
        number = len(self.audio)
        self.audio.append(b"")
        async for frame in socket:
            if isinstance(frame, bytes):
                async with self.received:
                    self.audio[number] += frame
                    self.received.notify_all()
                continue
            kind = json.loads(frame)["type"]
            await self.note(kind)
            if kind == "Finalize" and self.answers_finalize:
                await socket.send(results("the answer", is_final=True, from_finalize=True))
            if kind == "CloseStream":
                return

    async def speak(self, socket: ServerConnection) -> None:
        sounding: asyncio.Task[None] | None = None
        async for frame in socket:
            message = json.loads(frame)
            await self.note(message["type"] if message["type"] != "Speak" else f"Speak {message['text']}")
            if message["type"] == "Flush":
                if self.hang_up_after_text:
                    self.hang_up_after_text -= 1
                    socket.transport.abort()
                    return
                sounding = asyncio.create_task(self.sound_out(socket))
            if message["type"] == "Clear":
                if sounding is not None:
                    sounding.cancel()
                if self.clears:
                    await socket.send('{"type":"Cleared","sequence_id":0}')
            if message["type"] == "Close":
                return

    async def sound_out(self, socket: ServerConnection) -> None:
        await socket.send(
            '{"type":"Metadata","request_id":"x","model_name":"aura","model_version":"1","model_uuid":"y"}'
        )
        for piece in self.sound:
            await socket.send(piece)
            await asyncio.sleep(self.pause)
        if self.warns:
            await socket.send('{"type":"Warning","description":"Too many flushes","code":"FLUSH"}')
        else:
            await socket.send('{"type":"Flushed","sequence_id":0}')

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self.received:
            await self.received.wait_for(happened)


def results(text: str, start: float = 0.0, duration: float = 0.0, **flags: bool) -> str:
    """A Results message as the listen socket sends it."""
    return json.dumps(
        {
            "type": "Results",
            "channel_index": [0, 1],
            "start": start,
            "duration": duration,
            "is_final": False,
            "speech_final": False,
            **flags,
            "channel": {"alternatives": [{"transcript": text, "confidence": 0.9, "words": []}]},
            "metadata": {
                "request_id": "r",
                "model_info": {"name": "n", "version": "v", "arch": "a"},
                "model_uuid": "u",
            },
        }
    )


@pytest.fixture
async def deepgram() -> AsyncIterator[FakeDeepgram]:
    fake = FakeDeepgram()
    async with fake.served():
        yield fake


PATIENT = {"api_key": KEY, "connect_timeout": 30.0, "answer_timeout": 30.0, "speech_timeout": 30.0}
"""Settings with which nothing is given up because the machine was busy."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stand-in answers is waited for; tests of what happens without an answer shorten it."""
    monkeypatch.setattr(listening, "SETTLED", 30.0)
    monkeypatch.setattr(speaking, "CLEARING", 30.0)


@pytest.fixture
def engine(deepgram: FakeDeepgram) -> Callable[..., DeepgramEngine]:
    def made(**settings: Any) -> DeepgramEngine:
        return DeepgramEngine(DeepgramSettings(**{**PATIENT, "base_url": deepgram.url, **settings}))

    return made
