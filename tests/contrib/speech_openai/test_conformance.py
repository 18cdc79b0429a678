"""The OpenAI engine passes the conformance kit that every speech engine passes, with the stand-in as its server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from anycarrier.testing.conformance import EngineConformance
from contrib.speech_openai.conftest import KEY, FakeOpenAI

pytest.importorskip("anycarrier_speech_openai")
from anycarrier_speech_openai import OpenAIEngine


class Listener(FakeOpenAI):
    """Hears the same words in every utterance."""

    async def transcriptions(self, request: Request) -> Response:
        await request.body()
        return self.refusal(request) or JSONResponse({"text": "hello there"})


class TestOpenAI(EngineConformance):
    engine = OpenAIEngine
    settings = {"api_key": KEY, "timeout": 30.0}
    broken_settings: Mapping[str, Any] = {}  # the kit's own key, which the stand-in refuses

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        async with Listener().served() as url:
            yield {"base_url": url}
