"""The caller's audio and the model's: untouched where both speak G.711, batched, in the model's format, on any line."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path
from typing import Any

import pytest
from agents.realtime import RealtimeAgent, RealtimeRunner
from realtime_fake import Conversation, serve_realtime

from anycarrier import PCMA_8K, PCMU_8K, AudioFormat, EndReason
from anycarrier.agent import Agents
from anycarrier.testing.session import Marks, ScriptedFarEnd, open_session
from anycarrier_openai_realtime import openai_agent, run_call
from frameworks.openai.doors import DOORS
from frameworks.openai.sounds import SPEECH
from whole.conftest import House, until

MINUTE = random.Random(13).randbytes(480_000)

doors = pytest.mark.parametrize("name", DOORS)


async def minute_echoed(name: str, *, far_end: ScriptedFarEnd, session: Any, **options: Any) -> Conversation:
    """A minute of random bytes, out to the model and back to the ear."""
    async with serve_realtime(echoes=True) as realtime:
        running = asyncio.ensure_future(DOORS[name](realtime, turns=None, **options)(session))
        model = await realtime.conversation()
        await far_end.say(MINUTE)
        await until(lambda: len(far_end.heard) == len(MINUTE))
        await far_end.hang_up()
        await running
    assert bytes(model.heard) == MINUTE and far_end.heard == MINUTE
    return model


@doors
@pytest.mark.parametrize("pushes", [True, False], ids=["pushed", "awaited"])
async def test_a_minute_of_g711_is_the_same_both_ways(name: str, pushes: bool) -> None:
    async with open_session(pushes=pushes) as (session, far_end):
        await minute_echoed(name, far_end=far_end, session=session)


@doors
@pytest.mark.parametrize("marks", ["lost", "none"])
async def test_a_far_end_that_echoes_no_marks_gets_all_audio_back(name: str, marks: Marks) -> None:
    async with open_session(marks=marks) as (session, far_end):
        await minute_echoed(name, far_end=far_end, session=session)


@doors
@pytest.mark.parametrize(("batch", "frames"), [(0.02, 1), (0.04, 2), (0.1, 5)])
async def test_the_batch_is_what_goes_in_one_message(name: str, batch: float, frames: int) -> None:
    async with open_session() as (session, far_end):
        model = await minute_echoed(name, far_end=far_end, session=session, batch=batch)
        assert abs(model.appends - 3000 / frames) <= 3


@doors
async def test_what_the_caller_says_last_is_a_message_too(name: str) -> None:
    async with serve_realtime() as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(DOORS[name](realtime, turns=None, batch=0.1)(session))
        model = await realtime.conversation()
        await far_end.say(SPEECH[:1120])
        await until(lambda: bytes(model.heard) == SPEECH[:800])
        await far_end.hang_up()
        await running
        await until(lambda: bytes(model.heard) == SPEECH[:1120])


async def test_base64_of_one_frame_goes_on_as_it_came() -> None:
    sent: list[str] = []

    class Socket:
        async def send(self, message: str) -> None:
            sent.append(message)

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> str:
            await asyncio.sleep(3600)
            raise StopAsyncIteration

    from anycarrier_openai_realtime import run_raw

    async with open_session() as (session, far_end):
        running = asyncio.ensure_future(run_raw(session, Socket(), batch=0.02))
        await asyncio.sleep(0)
        await far_end.say(SPEECH[:160])
        await until(lambda: bool(sent))
        await far_end.hang_up()
        await running
    audio = base64.b64encode(SPEECH[:160]).decode()
    assert sent == ['{"type":"input_audio_buffer.append","audio":"' + audio + '"}']


@pytest.mark.parametrize(
    ("format", "settings", "wire"),
    [
        (PCMU_8K, {}, {"type": "audio/pcmu"}),
        (PCMA_8K, {}, {"type": "audio/pcma"}),
        (AudioFormat("PCM16", 24000), {}, {"type": "audio/pcm", "rate": 24000}),
        (PCMU_8K, {"output_audio_format": "g711_alaw"}, {"type": "audio/pcma"}),
        (PCMU_8K, {"output_audio_format": "pcm16"}, {"type": "audio/pcm", "rate": 24000}),
        (PCMU_8K, {"audio": {"output": {"format": {"type": "audio/pcma"}, "voice": "cedar"}}}, {"type": "audio/pcma"}),
        (AudioFormat("PCM16", 16000), {}, {"type": "audio/pcm", "rate": 24000}),
    ],
)
async def test_both_ends_speak_the_same_format(format: AudioFormat, settings: Any, wire: Any) -> None:
    async with serve_realtime() as realtime, open_session(format=format, carrier_format=PCMU_8K) as (session, far_end):
        config: Any = {"url": realtime.url, "api_key": "sk-fake", "initial_model_settings": settings}
        running = asyncio.ensure_future(run_call(session, RealtimeRunner(RealtimeAgent(name="Clerk")), config))
        model = await realtime.conversation()
        audio = model.session["audio"]
        assert audio["input"]["format"] == audio["output"]["format"] == wire
        encoding = {"audio/pcmu": "PCMU", "audio/pcma": "PCMA", "audio/pcm": "PCM16"}[wire["type"]]
        assert (session.format.encoding, session.format.rate) == (encoding, wire.get("rate", 8000))
        assert settings.get("audio", {}).get("output", {}).get("voice") in (None, audio["output"]["voice"])
        await far_end.hang_up()
        await running


async def test_what_the_caller_says_while_the_model_connects_reaches_it() -> None:
    async with serve_realtime() as realtime, open_session() as (session, far_end):
        await far_end.say(SPEECH[:8000])
        running = asyncio.ensure_future(DOORS["sdk"](realtime, turns=None)(session))
        model = await realtime.conversation()
        await until(lambda: bytes(model.heard) == SPEECH[:8000])
        await far_end.hang_up()
        await running


@doors
async def test_a_slow_carrier_does_not_keep_an_interruption_waiting(name: str) -> None:
    """The line takes nothing while the model's audio waits to be sent; the clear goes first when it takes again."""

    async def talk(conversation: Conversation) -> None:
        await conversation.say(SPEECH, pause=0.01)
        await conversation.say(SPEECH, pause=0.01)
        await conversation.speech_started()

    async with serve_realtime(on_start=talk) as realtime, open_session() as (session, far_end):
        line = session.stream.transport
        running = asyncio.ensure_future(DOORS[name](realtime)(session))
        await far_end.wait_heard(0.1)
        line.paused = True  # type: ignore[attr-defined]
        model = await realtime.conversation()
        await until(lambda: len(model.truncated) == 2)
        assert len(far_end.cleared) == 1 and sorted(model.truncated.values())[0] == 0
        line.paused = False  # type: ignore[attr-defined]
        session.stream.push.resumed()  # type: ignore[union-attr,misc]
        heard = far_end.heard
        await asyncio.sleep(1)
        assert far_end.heard == heard, "nothing of what was interrupted"
        assert model.refused == []
        await far_end.hang_up()
        await running


@pytest.mark.parametrize("audio", [AudioFormat("PCM16", 24000), None])
async def test_a_recorded_call_is_in_the_format_of_its_agent(
    house: House, audio: AudioFormat | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What records it has to know the format before it begins; without ``audio`` the log says so."""

    async def talk(conversation: Conversation) -> None:
        await conversation.say(SPEECH * 6)

    async with serve_realtime(on_start=talk) as realtime:
        config: Any = {"url": realtime.url, "api_key": "sk-fake",
                       "initial_model_settings": {"output_audio_format": "pcm16", "turn_detection": None}}  # fmt: skip
        agents = Agents(recordings=tmp_path)
        agent = openai_agent(lambda _: RealtimeRunner(RealtimeAgent(name="Clerk")), config, audio=audio)
        agents.add("front-desk", handler=agent, settings={"enable_recording": True})
        house.exchange.switchboard.agents = agents
        far_end = await house.ring()
        if audio is None:
            assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR
            assert "give its agent's format as audio=" in caplog.text
        else:
            await far_end.wait_heard(1.0)
            await far_end.hang_up()
            assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
            await until(lambda: [file.stat().st_size > 16000 for file in tmp_path.iterdir()] == [True])
