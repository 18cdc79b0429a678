"""A stand-in for the OpenAI audio API on loopback, written from its reference; never compared with the real service."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from anycarrier.testing.live_server import serve

pytest.importorskip("anycarrier_speech_openai")
from anycarrier_speech_openai import OpenAIEngine, OpenAISettings

KEY = "sk-test-key"
TONE = struct.pack("<2400h", *([8000] * 1200 + [-8000] * 1200))


class FakeOpenAI:
    """What it was asked, and what it is to answer."""

    def __init__(self) -> None:
        self.spoken: list[dict[str, Any]] = []
        self.transcribed: list[dict[str, Any]] = []
        self.texts = ["Hello  there.\n"]
        self.statuses: list[int] = []
        self.code: str | None = None
        self.headers: dict[str, str] = {}
        self.slow: asyncio.Event | None = None
        self.voice_refusal: Any = None
        self.body = TONE * 10
        self.kind = "audio/pcm"
        self.cut_off = False
        self.gate: asyncio.Event | None = None
        self.gone = asyncio.Event()
        self.url = ""

    def refusal(self, request: Request) -> Response | None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            message = f"Incorrect API key provided: {request.headers.get('authorization')}. Find yours in the console."
            return JSONResponse({"error": {"message": message, "code": "invalid_api_key"}}, 401)
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            error = {"message": "The server is busy. Sorry.", "code": self.code}
            return JSONResponse({"error": error}, status, headers=self.headers)
        return None

    async def models(self, request: Request) -> Response:
        return self.refusal(request) or JSONResponse({"object": "list", "data": []})

    async def speech(self, request: Request) -> Response:
        self.spoken.append(await request.json())
        if refusal := self.refusal(request):
            return refusal
        if self.voice_refusal is not None and self.spoken[-1]["voice"] == "sage":
            return JSONResponse(self.voice_refusal, 400)

        async def body() -> AsyncIterator[bytes]:
            try:
                yield self.body[:4801]
                if self.cut_off:
                    raise ConnectionResetError("the stand-in breaks off here")
                if self.gate is not None:
                    await self.gate.wait()
                yield self.body[4801:]
            finally:
                self.gone.set()

        return StreamingResponse(body(), media_type=self.kind)

    async def transcriptions(self, request: Request) -> Response:
        head = b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n"
        fields: dict[str, Any] = {}
        for part in message_from_bytes(head + await request.body(), policy=HTTP).iter_parts():
            name = part.get_param("name", header="content-disposition")
            if name == "file":
                assert part.get_filename() == "utterance.wav"
                fields["wav"] = part.get_payload(decode=True)
            elif str(name).endswith("[]"):
                fields.setdefault(str(name), []).append(part.get_content())
            else:
                fields[str(name)] = part.get_content()
        self.transcribed.append(fields)
        if refusal := self.refusal(request):
            return refusal
        if self.slow is not None:
            await self.slow.wait()
        return JSONResponse({"text": self.texts.pop(0)} if self.texts else {"words": []})

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Serve it while the block runs; gives the base URL."""
        app = Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/audio/speech", self.speech, methods=["POST"]),
                Route("/v1/audio/transcriptions", self.transcriptions, methods=["POST"]),
            ]
        )
        async with serve(app, log_level="critical", lifespan="off", ws="none") as url:
            self.url = f"{url}/v1"
            yield self.url


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    made = FakeOpenAI()
    async with made.served():
        yield made


@pytest.fixture
async def engine(fake: FakeOpenAI) -> AsyncIterator[Callable[..., OpenAIEngine]]:
    engines = []

    def made(**settings: Any) -> OpenAIEngine:
        given = {"api_key": KEY, "base_url": fake.url, "timeout": 30.0, **settings}
        engines.append(OpenAIEngine(OpenAISettings(**given)))
        return engines[-1]

    yield made
    for one in engines:
        await one.aclose()
