"""Raw audio agents: functions of a session that stand wherever a handler does."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from anycarrier import AudioFormat, AudioReceived, MediaSession
from anycarrier.agent import (
    Agents,
    AgentSettings,
    RawAgent,
    factory_agent,
    misfits_of_raw_audio,
    raw_agent,
    speech_needs,
)
from anycarrier.errors import ConfigurationError, SpeechNotReady, StreamNotOpen
from anycarrier.testing.session import open_session
from fake_speech import Desk, Line


@raw_agent
async def echo(session: MediaSession) -> None:
    """Says back what it hears."""
    with contextlib.suppress(StreamNotOpen):
        async for event in session:
            if isinstance(event, AudioReceived):
                await session.send_audio(event.payload)


@pytest.mark.parametrize("given", [echo, f"{__name__}:echo"], ids=["itself", "its path"])
async def test_a_marked_function_is_raw_audio_as_a_handler(given: Any) -> None:
    desk = Desk()
    desk.agents.add("desk", handler=given)

    async def caller(line: Line) -> None:
        await line.say(0.2)
        line.end()

    line, finished = await desk.call(None, caller)
    assert line.heard() == b"\x20" * 160 * len(line.frames("media")) != b""
    assert finished.segments == ()


async def test_the_decorator_of_agents_takes_a_marked_function() -> None:
    agents = Agents()
    assert agents.agent("echo")(echo) is echo
    assert (await agents.find("echo")).raw is echo and (await agents.find("echo")).handler is None


async def test_a_marked_function_is_a_handler_of_an_exchange_as_it_is() -> None:
    assert isinstance(echo, RawAgent) and echo.__name__ == "echo" and echo.__doc__ == "Says back what it hears."  # type: ignore[attr-defined]
    async with open_session() as (session, far_end):
        talking = asyncio.ensure_future(echo(session))
        await far_end.say(b"a" * 160)
        await far_end.wait_heard(0.02)
        await far_end.hang_up()
        await talking
        assert far_end.heard == b"a" * 160


async def nothing(session: MediaSession) -> None: ...


@pytest.mark.parametrize("audio", ["PCM16", 16000, ("PCM16", 16000), AudioFormat, "", 0])
def test_an_audio_that_is_no_format_is_refused_at_once(audio: Any) -> None:
    for takes in (
        lambda: raw_agent(audio=audio),
        lambda: echo.with_audio(audio),
        lambda: Agents().add("desk", handler=echo, audio=audio),
        lambda: Agents().add("desk", raw=nothing, audio=audio),
        lambda: factory_agent(lambda session: 1, nothing, makes=int, instead="Give one.", audio=audio),
    ):
        with pytest.raises(ConfigurationError, match=r"^audio is of type .*, not an AudioFormat\. Give the format"):
            takes()


def test_it_needs_no_engine_but_for_a_first_message() -> None:
    assert speech_needs(echo, AgentSettings()) == set()
    assert speech_needs(echo, AgentSettings(first_message="Hello.")) == {"speak"}


async def test_a_first_message_without_an_engine_is_refused_before_anybody_is_called() -> None:
    agents = Agents()
    agents.add("echo", raw=echo, settings={"first_message": "Hello.", "synthesizer": "nowhere"})
    agents.add("silent", raw=echo, settings={"synthesizer": "nowhere"})
    with pytest.raises(SpeechNotReady):
        await agents.prepare_dial("echo", "r1", {})
    await agents.prepare_dial("silent", "r2", {})


@pytest.mark.parametrize(
    "settings",
    [
        {"system_prompt": "Be brief."},
        {"recognizer": "fake"},
        {"fallback_recognizer": "fake"},
        {"phrases": ["one"]},
        {"grammar": "#JSGF V1.0; grammar g; public <g> = yes;"},
        {"end_call_phrases": ["goodbye"]},
        {"silence_timeout_seconds": 5},
        {"interruption_sensitivity": 0.9},
        {"on_voicemail": "leave_message"},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_without_an_effect_are_refused_in_words(settings: dict[str, Any]) -> None:
    [name] = settings
    for given in ({"raw": echo}, {"handler": echo}):
        with pytest.raises(ConfigurationError, match=f"agent 'echo': {name} has no effect on a raw audio agent"):
            Agents().add("echo", settings=settings, **given)  # type: ignore[arg-type]


def test_settings_with_an_effect_are_not() -> None:
    good = AgentSettings(
        first_message="Hi.", voice="x", language="de", enable_recording=True, max_duration_seconds=5,
        voicemail_detection=True, on_voicemail="ignore", voicemail_message="Closed.", metadata={"a": 1},
    )  # fmt: skip
    assert misfits_of_raw_audio(good) == {}


def test_a_module_that_python_does_not_find_is_told_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"No module named 'my_bots'\. Install the package, or put its folder"):
        Agents().add("desk", handler="my_bots:desk")
    with pytest.raises(ConfigurationError, match=r"has no attribute 'desk'$"):
        Agents().add("desk", handler="json:desk")
