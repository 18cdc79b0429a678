"""The OpenAI engine passes the conformance kit that every speech engine passes, with the stand-in as its server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from anycarrier.testing.conformance import EngineConformance
from anycarrier.testing.live_server import serve
from contrib.speech_openai.test_openai_speech import KEY, FakeOpenAI

pytest.importorskip("anycarrier_speech_openai")
from anycarrier_speech_openai import OpenAIEngine


class Listener(FakeOpenAI):
    """Hears the same words in every utterance."""

    async def transcriptions(self, request: Request) -> Response:
        await request.body()
        return self.refusal(request) or JSONResponse({"text": "hello there"})


class TestOpenAI(EngineConformance):
    engine = OpenAIEngine
    settings = {"api_key": KEY}
    broken_settings: Mapping[str, Any] = {}  # the kit's own key, which the stand-in refuses

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        fake = Listener()
        app = Starlette(
            routes=[
                Route("/v1/models", fake.models),
                Route("/v1/audio/speech", fake.speech, methods=["POST"]),
                Route("/v1/audio/transcriptions", fake.transcriptions, methods=["POST"]),
            ]
        )
        async with serve(app, lifespan="off", ws="none") as url:
            yield {"base_url": f"{url}/v1"}
