"""Whole calls: every carrier's sandbox at one end, the stand-in for the Realtime API at the other."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
from realtime_fake import Conversation, serve_realtime

from anycarrier import EndReason
from anycarrier.testing.far_end import FarEnd
from frameworks.openai.doors import Door
from frameworks.openai.sounds import LOUD, SPEECH
from whole.conftest import House, until

Begin = Callable[[House], Awaitable[FarEnd]]


async def inbound(house: House) -> FarEnd:
    return await house.ring()


async def outbound(house: House) -> FarEnd:
    _, far_end = await house.dial()
    return far_end


directions = pytest.mark.parametrize("begin", [inbound, outbound])


def without_silence(audio: bytes) -> bytes:
    return audio.replace(b"\xff", b"")


@directions
async def test_the_models_words_are_heard_and_the_callers_reach_it(house: House, door: Door, begin: Begin) -> None:
    async def greet(conversation: Conversation) -> None:
        await conversation.say(SPEECH)

    async with serve_realtime(on_start=greet) as realtime:
        house.answer_with(door(realtime, turns=None))
        far_end = await begin(house)
        await far_end.wait_for("streaming")
        await far_end.wait_heard(3.0)
        await until(lambda: SPEECH in far_end.heard)
        model = await realtime.conversation()
        await far_end.say(LOUD)
        await until(lambda: LOUD in model.heard)
        assert model.session["audio"]["output"]["format"] == {"type": "audio/pcmu"}
        await far_end.hang_up()
        assert (await house.over(far_end)).reason is EndReason.USER_HANGUP


@directions
async def test_bytes_are_the_same_both_ways(house: House, door: Door, begin: Begin) -> None:
    """Five seconds of random bytes go out, are echoed by the model, and come back."""
    said = random.Random(7).randbytes(40_000).replace(b"\xff", b"\xfe")
    async with serve_realtime(echoes=True) as realtime:
        house.answer_with(door(realtime, turns=None))
        house.sandbox.quirks.add("quiet")
        far_end = await begin(house)
        await far_end.wait_for("streaming")
        model = await realtime.conversation()
        await far_end.say(said)
        await until(lambda: bytes(model.heard) == said)
        await until(lambda: without_silence(far_end.heard) == said)
        assert model.appends <= 40_000 / 320 + 1, "two frames of 20 ms a message"
        await far_end.hang_up()
        await house.over(far_end)
