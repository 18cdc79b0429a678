"""A call at its own pace: Silero finds the utterances, turn-taking gives the hints, whisper has the words ready."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier.agent import Engines
from anycarrier.demo.calls import clip
from anycarrier.testing.word_errors import word_errors
from fake_speech import Desk, Line, told

pytest.importorskip("anycarrier_speech_whisper")
pytest.importorskip("anycarrier_speech_local")
from anycarrier_speech_local import SileroEngine
from anycarrier_speech_whisper import WhisperEngine, WhisperSettings


async def test_what_a_caller_says_freely_is_transcribed() -> None:
    desk = Desk()
    whisper, engines = WhisperEngine(WhisperSettings(workers=1)), Engines()
    for engine in (SileroEngine(), whisper, desk.engine):
        engines.add(engine)
    desk.agents.engines = engines
    heard: list[str] = []

    async def listen(call: Any) -> None:
        async for turn in call.turns():
            heard.append(turn.text)

    async def caller(line: Line) -> None:
        await line.breathe(1.0)  # the detector's first windows are slow
        for number, name in enumerate(("appointment", "tomorrow"), 1):
            await line.play(clip(name))
            await line.until(lambda number=number: len(heard) == number, timeout=60)  # type: ignore[misc]
        await line.breathe(0.5)
        line.end()

    try:
        await engines.start(["silero", "whisper"])
        _, finished = await desk.call(listen, caller, {"recognizer": "whisper"})
    finally:
        await engines.aclose()
    said = ("i would like to book an appointment", "tomorrow morning please")
    assert [word_errors(*pair) for pair in zip(said, heard, strict=True)] == [0, 0], heard
    assert told(finished) == [("remote", text) for text in heard]
