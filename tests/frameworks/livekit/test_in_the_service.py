"""Agents of LiveKit as agents of the service."""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent, AgentSession

from anycarrier import AudioFormat, MediaSession
from anycarrier_livekit import end_call, livekit_agent, transfer_call
from frameworks.livekit.agents import Greeter, deaf
from frameworks.service_calls import *  # noqa: F403 the scenarios
from frameworks.service_calls import DESK


def talk(text: str) -> tuple[Agent, AgentSession[Any]]:
    return Greeter(text, tools=[end_call, transfer_call]), deaf()


def desk_of(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
    return talk("hello there")


def pressed(agent_session: AgentSession[Any], digit: str) -> None:
    """``#`` ends the call, ``0`` hands it on, as the model's script then says."""
    script: Any = agent_session.llm
    script.script = [("end_call", {}), "good bye"] if digit == "#" else [("transfer_call", {"to": DESK})]
    agent_session.generate_reply(user_input=digit)


desk = livekit_agent(desk_of, audio=AudioFormat("PCM16", 24000), on_digit=pressed)


@livekit_agent
def chatterbox(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
    return talk("well " * 600)


@livekit_agent
def broken(call: MediaSession) -> tuple[Agent, AgentSession[Any]]:
    raise ValueError("no such agent")
