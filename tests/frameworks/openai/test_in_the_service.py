"""Agents of the Agents SDK as agents of the service."""

from __future__ import annotations

import json

from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession
from agents.realtime.model_events import RealtimeModelAudioEvent, RealtimeModelEvent, RealtimeModelToolCallEvent
from agents.realtime.testing import ScriptedRealtimeModel

from anycarrier import MediaSession
from anycarrier_openai_realtime import end_call, openai_agent, transfer_call
from frameworks.openai.sounds import SPEECH
from frameworks.service_calls import *  # noqa: F403 the scenarios
from frameworks.service_calls import DESK


def saying(audio: bytes) -> RealtimeModelEvent:
    return RealtimeModelAudioEvent(data=audio, response_id="response", item_id=f"item_{len(audio)}", content_index=0)


def talk(audio: bytes) -> RealtimeRunner:
    model = ScriptedRealtimeModel(connect_events=[saying(audio)], strict=False)
    return RealtimeRunner(RealtimeAgent(name="Desk", tools=[end_call, transfer_call]), model=model)


def desk_of(call: MediaSession) -> RealtimeRunner:
    return talk(SPEECH[:4800])


async def pressed(realtime: RealtimeSession, digit: str) -> None:
    """``#`` ends the call, ``0`` hands it on, as a model would."""
    name, arguments = ("end_call", {}) if digit == "#" else ("transfer_call", {"to": DESK})
    model = realtime.model
    assert isinstance(model, ScriptedRealtimeModel)
    for listener in model.listeners:
        if digit == "#":
            await listener.on_event(saying(SPEECH[:4801]))
        await listener.on_event(RealtimeModelToolCallEvent(name=name, call_id="1", arguments=json.dumps(arguments)))


desk = openai_agent(desk_of, on_digit=pressed)


@openai_agent
def chatterbox(call: MediaSession) -> RealtimeRunner:
    return talk(SPEECH * 60)


@openai_agent
def broken(call: MediaSession) -> RealtimeRunner:
    raise ValueError("no such agent")
