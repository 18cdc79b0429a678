"""LiveKit: the audio input and output of the adapter alone, beside a bare session that echoes; and interruptions.

LiveKit has no way to a carrier of its own that could be run beside it: its SIP bridge is a service with a server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from livekit import rtc
from livekit.agents import Agent, AgentSession

from anycarrier import MediaSession
from anycarrier_livekit import CallAudioInput, CallAudioOutput, get_call, livekit_agent
from bench.frameworks.session import echo
from bench.frameworks.subject import APART, Row, interrupting, run, session


def through(rate: int):  # type: ignore[no-untyped-def]
    async def handler(session: MediaSession) -> None:
        output = CallAudioOutput(session, rate)
        async for frame in CallAudioInput(session, rate):
            await output.capture_frame(frame)

    return handler


class Interrupted(Agent):
    """Says two seconds of something, over and over, and is interrupted each time."""

    async def on_enter(self) -> None:
        while not get_call().ended:
            self.session.say("two seconds", audio=self.recorded())
            await asyncio.sleep(random.uniform(*APART))
            interrupting(get_call().call.id)
            await self.session.interrupt()

    async def recorded(self) -> AsyncIterator[rtc.AudioFrame]:
        for _ in range(20):
            yield rtc.AudioFrame(bytes(1600), 8000, 1, 800)


def interrupted(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
    turns = {"turn_detection": "manual"}
    return Interrupted(instructions=""), AgentSession(vad=None, turn_handling=turns, aec_warmup_duration=None)


SUBJECTS = {
    "session": session(echo),
    "input and output, 8 kHz": session(through(8000)),
    "input and output, 24 kHz": session(through(24000)),
    "agent session": session(livekit_agent(interrupted)),
}
ROWS = [
    Row("LiveKit echo, 8 kHz", "input and output, 8 kHz", beside="session", most=60, difference=True),
    Row("LiveKit echo, 24 kHz", "input and output, 24 kHz", beside="session"),
    Row("LiveKit echo, no marks come back", "input and output, 8 kHz", marks=False),
    Row("LiveKit interrupted", "agent session", most=20, interruptions=True),
]

if __name__ == "__main__":
    run(ROWS, SUBJECTS)
