"""A model of the SDK that is not OpenAI's, which has no events of the API to pass on; and the SDK's guardrails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import GuardrailFunctionOutput, OutputGuardrail
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.realtime.model_events import (
    RealtimeModelAudioDoneEvent,
    RealtimeModelAudioEvent,
    RealtimeModelAudioInterruptedEvent,
    RealtimeModelErrorEvent,
    RealtimeModelEvent,
    RealtimeModelToolCallEvent,
)
from agents.realtime.testing import ScriptedRealtimeModel
from realtime_fake import Conversation, serve_realtime

from anycarrier.errors import ModelFailed
from anycarrier.testing.session import open_session
from anycarrier_openai_realtime import end_call, run_call
from frameworks.openai.sounds import ANSWER, SPEECH
from whole.conftest import until


def scripted(*events: RealtimeModelEvent) -> tuple[ScriptedRealtimeModel, RealtimeRunner]:
    model = ScriptedRealtimeModel(connect_events=events, strict=False)
    return model, RealtimeRunner(RealtimeAgent(name="Clerk"), model=model)


SPOKEN = (
    RealtimeModelAudioEvent(data=SPEECH, response_id="r", item_id="a", content_index=0),
    RealtimeModelAudioDoneEvent(item_id="a", content_index=0),
    RealtimeModelAudioEvent(data=SPEECH, response_id="r", item_id="b", content_index=0),
)


async def test_its_audio_is_heard_and_the_callers_reaches_it() -> None:
    model, runner = scripted(*SPOKEN[:2])
    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(run_call(session, runner))
        await until(lambda: far_end.heard == SPEECH)
        await far_end.say(SPEECH[:320])
        await until(lambda: bool(model.sent_events))
        assert model.sent_events[0].audio == SPEECH[:320]  # type: ignore[union-attr]
        await far_end.hang_up()
        await running


async def test_its_interruption_clears_and_truncates_what_it_does_not_itself() -> None:
    model, runner = scripted(*SPOKEN)
    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(run_call(session, runner))
        await far_end.wait_heard(1.0)
        for listener in model.listeners:
            await listener.on_event(RealtimeModelAudioInterruptedEvent(item_id="a", content_index=0))
        await asyncio.sleep(1)
        assert len(far_end.cleared) == 1 and len(far_end.heard) < 9000
        [truncation] = model.sent_events
        told: Any = truncation.message["other_data"]  # type: ignore[union-attr]
        assert (told["item_id"], told["audio_end_ms"]) == ("b", 0)
        await far_end.hang_up()
        await running


async def test_one_that_names_no_response_is_heard_after_an_interruption_too() -> None:
    model, runner = scripted(RealtimeModelAudioEvent(data=SPEECH, response_id="", item_id="a", content_index=0))
    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(run_call(session, runner))
        await far_end.wait_heard(0.5)
        for listener in model.listeners:
            await listener.on_event(RealtimeModelAudioInterruptedEvent(item_id="a", content_index=0))
            await listener.on_event(RealtimeModelAudioEvent(data=ANSWER, response_id="", item_id="b", content_index=0))
        await until(lambda: far_end.heard.endswith(ANSWER))
        await far_end.hang_up()
        await running


async def test_one_that_names_no_response_ends_the_call_at_once() -> None:
    called = RealtimeModelToolCallEvent(name="end_call", call_id="1", arguments="{}")
    runner = RealtimeRunner(
        RealtimeAgent(name="Clerk", tools=[end_call]),
        model=ScriptedRealtimeModel(connect_events=(called,), strict=False),
    )
    async with open_session() as (session, _):
        began = asyncio.get_running_loop().time()
        await run_call(session, runner)
        assert asyncio.get_running_loop().time() - began < 1


async def test_its_error_ends_the_call() -> None:
    _, runner = scripted(RealtimeModelErrorEvent(error="out of order"))
    async with open_session() as (session, _):
        with pytest.raises(ModelFailed, match="out of order"):
            await run_call(session, runner)


async def test_a_guardrail_that_trips_clears_and_truncates() -> None:
    async def never(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    async def talk(conversation: Conversation) -> None:
        response = await conversation.begin()
        for n in range(0, len(SPEECH), 800):
            await conversation.delta(response, "item_told", SPEECH[n : n + 800])
        await asyncio.sleep(1)
        await conversation.send("response.output_audio_transcript.delta", response_id=response, item_id="item_told",
                                output_index=0, content_index=0, delta="what must not be said " * 10)  # fmt: skip

    async with serve_realtime(on_start=talk) as realtime, open_session() as (session, far_end):
        agent: Any = RealtimeAgent(name="Clerk", output_guardrails=[OutputGuardrail(never)])
        config: Any = {"url": realtime.url, "api_key": "sk-fake"}
        running = asyncio.ensure_future(run_call(session, RealtimeRunner(agent), config))
        model = await realtime.conversation()
        await until(lambda: bool(model.truncated))
        await asyncio.sleep(1)
        assert len(far_end.cleared) == 1
        assert abs(model.truncated["item_told"] - len(far_end.heard) / 8) <= 2 and len(far_end.heard) < 9000
        assert len(model.got("conversation.item.truncate")) == 1 and "invalid_value" not in model.refused
        await far_end.hang_up()
        await running
