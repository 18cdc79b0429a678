"""A bot wherever a handler is, and what becomes of a call whose pipeline does not start."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
from pipecat.frames.frames import FilterControlFrame, Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from anycarrier import AudioFormat, Call, EndReason, MachineDetected
from anycarrier.agent import Agents, RawAgent
from anycarrier.errors import ConfigurationError
from anycarrier.testing.session import open_session
from anycarrier_pipecat import CallTransport, default_params, pipecat_agent
from frameworks.pipecat.bots import Passing, echo, echo_worker, run, running, worker_of

agent = pipecat_agent(echo)


async def hangs(transport: CallTransport) -> None:
    await asyncio.Event().wait()


def test_it_is_a_raw_agent_by_itself_and_by_its_path() -> None:
    agents = Agents()
    wideband = AudioFormat("L16", 16000)
    for name, handler in {"itself": agent, "path": f"{__name__}:agent"}.items():
        assert isinstance(agents.add(name, handler=handler).raw, RawAgent)
    added = agents.add("wideband", handler=pipecat_agent(echo, audio=wideband)).raw
    assert added is not None and added.audio == wideband


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((None, default_params), "None cannot be called for each call. Give a coroutine function"),
     (("bot", default_params), "str cannot be called for each call. Give a coroutine function"),
     ((echo, None), "None cannot be called for each call. Give a function that makes the TransportParams"),
     ((echo, default_params()), "TransportParams cannot be called for each call. Give a function")],
    ids=["no bot", "its name", "no params", "the params themselves"],
)  # fmt: skip
def test_what_cannot_be_called_for_each_call_is_refused_at_once(given: tuple[Any, Any], wanted: str) -> None:
    bot, params = given
    with pytest.raises(ConfigurationError, match=wanted):
        pipecat_agent(bot, params=params)


def says_hello(transport: CallTransport) -> None:
    """Not a coroutine function."""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [((says_hello, default_params), "says_hello returned None, not an awaitable.*Give a coroutine function"),
     ((echo, dict), "dict returned dict, where TransportParams is wanted. Give a function that makes")],
    ids=["bot", "params"],
)  # fmt: skip
async def test_what_a_bot_or_params_should_not_return_is_said_in_the_call(given: tuple[Any, Any], wanted: str) -> None:
    bot, params = given
    async with open_session() as (session, _):
        with pytest.raises(ConfigurationError, match=wanted):
            async with asyncio.timeout(60):
                await pipecat_agent(bot, params=params)(session)


def test_names_that_pipecat_would_ignore_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"no audio_in_filtre\. Its fields: .*audio_in_filter"):
        default_params(audio_in_filtre=None)
    assert default_params(audio_in_filter=None)


async def test_params_are_made_for_each_call() -> None:
    made = []

    async def bot(transport: CallTransport) -> None:
        made.append(transport.input()._params)
        await transport.session.hang_up(EndReason.AGENT_HANGUP)

    handler = pipecat_agent(bot, params=lambda: default_params(audio_out_10ms_chunks=4))
    for _ in range(2):
        async with open_session() as (session, _):
            await handler(session)
    assert made[0] is not made[1]
    assert made[0].audio_out_10ms_chunks == 4


class HangsAtItsStart(FrameProcessor):
    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await asyncio.Event().wait()


async def hangs_further_down(transport: CallTransport) -> None:
    await run(worker_of([transport.input(), HangsAtItsStart(), transport.output()]))


@pytest.mark.parametrize("hangs", [hangs, hangs_further_down])
async def test_a_pipeline_that_has_not_started_after_ten_seconds_ends_the_call(hangs: Any) -> None:
    async with open_session() as (session, far_end):
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = asyncio.create_task(pipecat_agent(hangs)(session))
        async with asyncio.timeout(60):
            await session.wait_stopped()
        assert 10 <= loop.time() - began < 10.5
        assert far_end.control.hang_ups == [EndReason.AGENT_ERROR]
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def test_a_bot_that_returns_before_its_pipeline_has_started_ends_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def bot(transport: CallTransport) -> None:
        pass

    async with open_session() as (session, far_end):
        await pipecat_agent(bot)(session)
        assert far_end.control.hang_ups == [EndReason.AGENT_ERROR]
    [told] = [record for record in caplog.records if record.name == "anycarrier_pipecat"]
    assert told.levelno == logging.ERROR
    for cause in ("ran no worker", "transport.input() is not in the pipeline", "a processor hangs at its start"):
        assert cause in told.getMessage()


@pytest.mark.parametrize("does", ["nothing, for the caller is gone", "hangs up", "hangs up, and the carrier has yet to",
                                  "transfers"])  # fmt: skip
async def test_a_bot_may_do_without_a_pipeline(does: str) -> None:
    async def bot(transport: CallTransport) -> None:
        if does.startswith("hangs up"):
            await transport.session.hang_up(EndReason.AGENT_HANGUP)
        elif does == "transfers":
            await transport.transfer("+14155550199")
        else:
            await transport.session.wait_stopped()

    async def asked(call: Call | str, reason: EndReason = EndReason.API_STOP) -> None:
        far_end.control.hang_ups.append(reason)
        far_end.change_call(intent=reason)

    async with open_session() as (session, far_end):
        if does.startswith("nothing"):
            await far_end.hang_up()
        if does.endswith("has yet to"):
            far_end.control.hang_up = asked  # type: ignore[method-assign]
        await pipecat_agent(bot)(session)
        assert EndReason.AGENT_ERROR not in far_end.control.hang_ups


async def test_whoever_cancels_a_bot_says_why_the_call_ends() -> None:
    """Such as ``max_duration``. pipecat's runner ends the pipeline, and returns as if nothing were the matter."""
    async with open_session() as (session, far_end):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await agent(session)
        assert far_end.control.hang_ups == []


async def test_a_bot_whose_pipeline_has_started_may_talk_for_longer() -> None:
    async with open_session() as (session, far_end):
        call = asyncio.create_task(agent(session))
        await far_end.say(b"\x20\xa0" * 8000 * 15)
        assert not session.ended
        await far_end.hang_up()
        await call
        assert far_end.control.hang_ups == [], "the far end has ended it"


async def test_a_handler_that_is_canceled_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with open_session() as (session, far_end):
        call = asyncio.create_task(agent(session))
        await far_end.say(bytes(1600))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_who_picked_up_is_an_event() -> None:
    told = []
    async with open_session() as (session, far_end):
        transport = CallTransport(session)

        @transport.event_handler("on_machine_detected")
        async def on_machine_detected(transport: CallTransport, event: MachineDetected) -> None:
            told.append(event)

        async with running(echo_worker(transport)):
            session.stream.deliver(event := MachineDetected(answered_by="machine", beep=True))
            await far_end.say(bytes(160))
            assert told == [event]


class Louder(BaseAudioFilter):
    """Marks what has passed it."""

    async def start(self, sample_rate: int) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def process_frame(self, frame: FilterControlFrame) -> None:
        pass

    async def filter(self, audio: bytes) -> bytes:
        return b"\x11\x22" * (len(audio) // 2)


@pytest.mark.parametrize(
    ("changes", "heard"),
    [({"audio_in_filter": Louder()}, b"\x11\x22" * 160), ({"audio_in_passthrough": False}, None),
     ({"audio_in_enabled": False}, None), ({}, bytes(320))],
    ids=["filter", "no passthrough", "not enabled", "as it comes"],
)  # fmt: skip
async def test_the_callers_audio_goes_through_pipecats_filter(changes: dict[str, object], heard: bytes | None) -> None:
    async with open_session() as (session, far_end):
        transport = CallTransport(session, default_params(**changes))
        audio = Passing(InputAudioRawFrame)
        async with running(worker_of([transport.input(), audio, transport.output()])):
            await far_end.say(b"\xff" * 160)
            await asyncio.sleep(0.1)
            assert [frame.audio for _, frame in audio.seen] == ([] if heard is None else [heard])  # type: ignore[attr-defined]


async def test_a_pipeline_that_ends_without_a_frame_hangs_up_with_the_handler() -> None:
    async def bot(transport: CallTransport) -> None:
        worker = worker_of([transport.input(), transport.output()])
        task = asyncio.create_task(run(worker))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with open_session() as (session, far_end):
        await pipecat_agent(bot)(session)
        assert far_end.control.hang_ups == [EndReason.AGENT_HANGUP]
