"""Deepgram passes the conformance kit that every speech engine passes, with the stand-in in Deepgram's place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from anycarrier.testing.conformance import EngineConformance
from contrib.speech_deepgram.conftest import PATIENT, FakeDeepgram, results

pytest.importorskip("anycarrier_speech_deepgram")
from anycarrier_speech_deepgram import DeepgramEngine


class Listener(FakeDeepgram):
    """Hears words where there was audio, and none where there was not."""

    async def listen(self, socket: ServerConnection) -> None:
        heard = 0
        async for frame in socket:
            if isinstance(frame, bytes):
                if not heard:
                    await socket.send(results("hello"))
                heard += len(frame)
                continue
            if json.loads(frame)["type"] == "Finalize":
                await socket.send(results("hello there" if heard else "", is_final=True, from_finalize=True))
                heard = 0
            if json.loads(frame)["type"] == "CloseStream":
                return

    async def sound_out(self, socket: ServerConnection) -> None:
        asked = dict(self.queries[self.sockets.index(socket)])
        second = int(asked["sample_rate"]) * (2 if asked["encoding"] == "linear16" else 1)
        self.sound = [b"\x11" * (second // 10), b"\x22" * (second // 5)]
        await super().sound_out(socket)


class TestDeepgram(EngineConformance):
    engine = DeepgramEngine
    settings = PATIENT
    broken_settings: Mapping[str, Any] = {}  # the kit's own key, which the stand-in refuses

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Mapping[str, Any]]:
        async with Listener().served() as url:
            yield {"base_url": url}
