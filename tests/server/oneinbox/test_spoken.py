"""Calls on which the service itself speaks: what is filled in, what is warned of, and what is measured."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from house import CALLER, OURS, House

from anycarrier.agent import AgentSettings, Engines
from anycarrier.speech import speech_engine_names

pytestmark = pytest.mark.skipif("espeak" not in speech_engine_names(), reason="needs a speech engine")

MACHINE = "+15005550105"


@pytest.fixture(params=["twilio", "telnyx"])
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def hosted(house: House, provider: str, **settings: Any) -> str:
    """An agent without a server of its own, and a number."""
    made = await house.ask("POST", "/v1/agents", 201, json={"name": "Aria", **settings})
    await house.number(provider, made["id"])
    return str(made["id"])


async def greeted(house: House, call: dict[str, Any], seconds: float = 0.3) -> None:
    async with asyncio.timeout(30):
        while (await house.ask("GET", f"/sandbox/calls/{call['id']}"))["heard_seconds"] < seconds:
            await asyncio.sleep(0.05)


async def over(house: House, call: dict[str, Any]) -> dict[str, Any]:
    """The call, ended by us and filed."""
    await house.ask("POST", f"/v1/calls/{call['id']}/stop")
    async with asyncio.timeout(30):
        while not (found := await house.ask("GET", f"/v1/calls/{call['id']}"))["analysis"]:
            await asyncio.sleep(0.05)
    return dict(found)


async def test_variables_defaults_and_built_ins_are_spoken_and_braces_never_are(house: House, provider: str) -> None:
    agent = await hosted(
        house,
        provider,
        first_message="{{direction}} {{name}} {{firm}} {{from_number}} {{to_number}} {{call_id}} {{now}} {{nobody}}.",
        dynamic_variables={"name": "there", "firm": "Acme"},
        system_prompt="Sell to {{name}} and {{nobody_else}}.",
    )
    call = await house.call(agent, variables={"name": "Sama", "direction": "sideways"})
    assert call["warnings"] == []
    await greeted(house, call, 6)  # what is not heard is not in the transcript
    done = await over(house, call)
    said = done["messages"][0]["content"]
    assert "{" not in said
    assert said.startswith(f"outbound Sama Acme {OURS} {call['to_number']} {call['id']}"[: len(said)])
    assert [re.findall(r"\{\{(\w+)\}\}", one) for one in done["warnings"]] == [["nobody"], ["nobody_else"]]


async def test_what_an_override_changes_is_heard_and_what_it_cannot_change_is_warned_of(
    house: House, provider: str
) -> None:
    agent = await hosted(house, provider, first_message="Never said.")
    overrides = {
        "first_message": "Hi {{name}}.",
        "llm": {"model": "m", "temperature": 0.2, "system_prompt": "Sell."},
        "transcriber": {"model": "nova", "language": "en"},
        "tts": {"speed": 1.5, "stability": 0.4},
        "max_duration_seconds": 5,
    }
    call = await house.call(agent, variables={"name": "Sama"}, overrides=overrides)
    assert call["overrides"] == overrides
    unused = ["tts.stability", "transcriber.model", "llm.model", "llm.temperature", "max_duration_seconds"]
    assert call["warnings"] == [f"overrides.{name} has no use here" for name in unused]
    await house.said(call["id"])
    done = await over(house, call)
    assert done["messages"][0] == {"role": "agent", "content": "Hi Sama."}
    assert done["warnings"] == call["warnings"]


@pytest.mark.skipif("espeak" not in speech_engine_names(), reason="needs the local speech engines")
async def test_a_call_whose_voice_nobody_knows_is_spoken_with_another_and_says_so(house: House, provider: str) -> None:
    agent = await hosted(house, provider, first_message="Hello there.", language="en-US")
    speaks = Engines().default("speak", AgentSettings(language="en-US", voice="21m00Tcm4TlvDq8ikWAM"))
    call = await house.call(agent, overrides={"tts": {"voice_id": "21m00Tcm4TlvDq8ikWAM"}})
    await house.said(call["id"])
    done = await over(house, call)
    assert done["messages"][0] == {"role": "agent", "content": "Hello there."}
    assert done["warnings"] == [f"{speaks} has no voice '21m00Tcm4TlvDq8ikWAM': its own for 'en-US' spoke"]


async def test_nobody_speaking_ends_the_call_with_silence_timeout(house: House, provider: str) -> None:
    agent = await hosted(house, provider, silence_timeout_seconds=1)
    call = await house.call(agent)
    done = await house.until(call["id"], "completed")
    assert done["end_reason"] == "silence_timeout"
    assert done["duration_seconds"] >= 1


async def test_a_machine_that_answers_is_left_the_message_and_the_outcome_is_voicemail(
    house: House, provider: str
) -> None:
    agent = await hosted(
        house, provider, voicemail_detection=True, voicemail_message="Please call Acme back.", first_message="Hello?"
    )
    call = await house.call(agent, MACHINE)
    done = await house.until(call["id"], "completed", timeout=60)
    assert (done["end_reason"], done["answered_by"], done["outcome"]) == ("voicemail", "machine", "Voicemail")
    assert done["messages"][-1] == {"role": "agent", "content": "Please call Acme back."}


async def test_a_caller_nobody_takes_hears_the_numbers_voicemail_message(house: House, provider: str) -> None:
    nobody = await house.ask("POST", "/v1/agents", 201, json={"name": "N", "websocket_url": "ws://127.0.0.1:9/nobody"})
    routing = {"voicemail_message": "Leave it for {{to_number}}."}
    await house.number(provider, nobody["id"], inbound_routing=routing)
    rung = await house.ask("POST", "/sandbox/calls", 201, json={"to": OURS, "from": CALLER})
    done = await house.until(rung["call_id"], "failed")
    assert done["end_reason"] == "agent_error"
    assert done["messages"] == [{"role": "agent", "content": f"Leave it for {OURS}."}]


async def test_waiting_times_are_told_by_kind_and_those_never_measured_are_null(house: House) -> None:
    agent = await hosted(house, "telnyx", first_message="Hello.")
    call = await house.call(agent)
    assert call["latency"] is None
    await greeted(house, call)
    await asyncio.sleep(1)
    latency = (await over(house, call))["latency"]
    assert set(latency) == {"llm_ttft", "tts_ttfb", "eou_delay", "perceived"}
    assert set(latency["tts_ttfb"]) == {"avg_ms", "p50_ms", "min_ms", "max_ms", "samples"}
    assert latency["tts_ttfb"]["samples"] == 1
    assert latency["eou_delay"] is None  # nobody said anything
