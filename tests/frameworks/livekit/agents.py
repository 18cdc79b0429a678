"""Agents and agent sessions for tests, and what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import wave
from collections.abc import Iterator
from typing import Any

from livekit.agents import Agent, AgentSession, CloseEvent, inference
from livekit.agents.testing import fake_job_context
from livekit.agents.voice.io import PlaybackFinishedEvent

from anycarrier import MediaSession
from anycarrier.audio import pcm16_to_pcmu
from anycarrier_livekit import CallRoom
from frameworks.livekit.fake_models import EvenVoice, OneText, ScriptedLLM
from shared_documents import shared_path

COUNTING = "one two three four five six seven eight nine ten eleven twelve"

Script = str | tuple[Any, ...]


class Greeter(Agent):
    """Says its greeting, and keeps what is told of its playback, with times."""

    def __init__(self, greeting: str = COUNTING, **more: Any) -> None:
        super().__init__(instructions="Be brief.", **more)
        self.greeting = greeting
        self.played: list[tuple[float, PlaybackFinishedEvent]] = []
        self.closed: list[tuple[float, CloseEvent]] = []

    async def on_enter(self) -> None:
        clock = asyncio.get_running_loop().time
        output = self.session.output.audio
        assert output is not None
        output.on("playback_finished", lambda event: self.played.append((clock(), event)))
        self.session.on("close", lambda event: self.closed.append((clock(), event)))
        self.output = output
        if self.greeting:
            self.session.say(self.greeting)


def deaf(*script: Script, **more: Any) -> AgentSession[Any]:
    """An agent session that hears nothing: no clock but the loop's matters to it."""
    settings: dict[str, Any] = {
        "llm": ScriptedLLM(*script), "tts": EvenVoice(), "vad": None, "turn_handling": {"turn_detection": "manual"},
        "aec_warmup_duration": None,
    }  # fmt: skip
    return AgentSession(**(settings | more))


def hearing(*script: Script, text: str = "stop please", **more: Any) -> AgentSession[Any]:
    """One with the framework's own voice activity detection; what it finds always says ``text``."""
    turns = {"turn_detection": "vad"}
    return deaf(*script, stt=OneText(text), vad=inference.VAD(model="silero"), turn_handling=turns, **more)


@contextlib.contextmanager
def job(session: MediaSession) -> Iterator[None]:
    """The framework's fake job around a call. Its folder would be left to the garbage collector, with a warning."""
    with fake_job_context(room=CallRoom(session)) as context:  # type: ignore[arg-type]
        yield
    context._tempdir.cleanup()


def said(session: AgentSession[Any]) -> list[str]:
    """What the agent said, by the history. Where in it others' words are, depends on a clock that is not virtual."""
    return [item.text_content or "" for item in session.history.messages() if item.role == "assistant"]


def clip(name: str) -> bytes:
    """Real speech as mu-law; skips the test without the house documents."""
    with wave.open(str(shared_path("speech_clips", name))) as read:
        return pcm16_to_pcmu(read.readframes(read.getnframes()))
