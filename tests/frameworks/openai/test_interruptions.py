"""The caller speaks: the carrier is cleared first, each item ends where the ear was, and the model is heard again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from realtime_fake import Conversation, serve_realtime

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.session import open_session
from frameworks.openai.doors import DOORS, VAD, Door
from frameworks.openai.sounds import ANSWER, LOUD, QUIET, SPEECH
from whole.conftest import House, until

NEAR = 60
"""ms between where the model is told an item ended and what the far end has heard of it."""


async def answer(conversation: Conversation) -> None:
    await conversation.say(ANSWER)


def in_ear(far_end: FarEnd) -> float:
    """ms of SPEECH that the far end has heard."""
    return sum(map(far_end.heard.count, sorted(set(SPEECH)))) / 8 if far_end.heard else 0.0


async def interrupted(house: House, model: Conversation, far_end: FarEnd) -> None:
    """The caller hears a good second, speaks, and gets an answer."""
    await until(lambda: in_ear(far_end) > 1000)
    await far_end.say(LOUD + QUIET)
    await until(lambda: bool(model.truncated))
    await until(lambda: ANSWER in far_end.heard)
    await far_end.hang_up()
    await house.over(far_end)
    assert model.refused == [], "not beyond an item's audio, nor an item the API does not know"


@pytest.mark.parametrize("pause", [0.0, 0.05], ids=["all was sent", "still generating"])
async def test_an_item_ends_where_the_ear_was(house: House, door: Door, pause: float) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.say(SPEECH, pause=pause)

    async with serve_realtime(on_start=talk, on_turn=answer) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        model = await realtime.conversation()
        await interrupted(house, model, far_end)
        [(_, end)] = model.truncated.items()
        assert abs(end - in_ear(far_end)) < NEAR
        assert 1000 < end < 2000
        assert model.got("response.cancel") == [], "it cancels by itself"


async def test_the_audible_item_ends_at_the_ear_and_later_ones_at_0(house: House, door: Door) -> None:
    said: list[str] = []

    async def talk(conversation: Conversation) -> None:
        said.extend(await conversation.say(SPEECH, items=4))

    async with serve_realtime(on_start=talk, on_turn=answer) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        model = await realtime.conversation()
        await interrupted(house, model, far_end)
        first, second, third, fourth = said
        assert first not in model.truncated, "that one was heard"
        assert abs(750 + model.truncated[second] - in_ear(far_end)) < NEAR
        assert (model.truncated[third], model.truncated[fourth]) == (0, 0)


async def test_a_model_that_does_not_cancel_by_itself_is_told_to(house: House, door: Door) -> None:
    async def talk(conversation: Conversation) -> None:
        await conversation.say(SPEECH * 3, pause=0.09)

    turns: dict[str, Any] = {**VAD, "interrupt_response": False}
    async with serve_realtime(on_start=talk, on_turn=answer) as realtime:
        house.answer_with(door(realtime, turns=turns))
        far_end = await house.ring()
        model = await realtime.conversation()
        await interrupted(house, model, far_end)
        assert len(model.got("response.cancel")) == 1
        assert len(model.truncated) == 1, "what was on its way was not spoken"


async def test_a_second_interruption_is_like_the_first(house: House, door: Door) -> None:
    async def again(conversation: Conversation) -> None:
        await conversation.say(SPEECH)

    async with serve_realtime(on_start=again, on_turn=again) as realtime:
        house.answer_with(door(realtime))
        far_end = await house.ring()
        model = await realtime.conversation()
        await until(lambda: in_ear(far_end) > 500)
        await far_end.say(LOUD + QUIET)
        await until(lambda: len(model.truncated) == 1)
        before = in_ear(far_end)
        await until(lambda: in_ear(far_end) > before + 700)
        await far_end.say(LOUD + QUIET)
        await until(lambda: len(model.truncated) == 2)
        _, end = model.truncated.values()
        assert abs(end - (in_ear(far_end) - before)) < NEAR
        await far_end.hang_up()
        await house.over(far_end)
        assert model.refused == []


@pytest.mark.parametrize("name", DOORS)
async def test_the_carrier_is_cleared_within_20_ms_of_each_of_200_interruptions(name: str) -> None:
    """In virtual time, so that only waits of our own or of the SDK can be seen; and while more audio comes."""
    told: list[float] = []
    loop = asyncio.get_running_loop()

    async def talk(conversation: Conversation) -> None:
        for n in range(200):
            saying = asyncio.ensure_future(conversation.say(ANSWER, items=2, pause=n % 3 * 0.01))
            await asyncio.sleep(0.05 + n % 7 * 0.01)
            told.append(loop.time())
            await conversation.speech_started()
            await saying

    async with serve_realtime(on_start=talk) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(DOORS[name](realtime)(session))
        await until(lambda: len(far_end.cleared) == 200)
        late = sorted(cleared - begun for begun, cleared in zip(told, far_end.cleared, strict=True))
        assert late[0] >= 0 and late[197] < 0.02
        model = await realtime.conversation()
        assert model.refused == []
        await far_end.hang_up()
        await running


@pytest.mark.parametrize("name", DOORS)
async def test_ten_minutes_of_audio_in_a_second_are_cut_like_any(name: str) -> None:
    async def flood(conversation: Conversation) -> None:
        await conversation.say(SPEECH * 200, delta=1.0)

    async with serve_realtime(on_start=flood) as realtime, open_session() as (session, far_end):
        running = asyncio.ensure_future(DOORS[name](realtime)(session))
        model = await realtime.conversation()
        await until(lambda: session.ahead > 500)
        await model.speech_started()
        await until(lambda: bool(model.truncated))
        await asyncio.sleep(1)
        [(_, end)] = model.truncated.items()
        assert abs(end - len(far_end.heard) / 8) < NEAR and model.refused == []
        await far_end.hang_up()
        await running


@pytest.mark.parametrize("name", DOORS)
async def test_audio_that_is_no_base64_ends_the_call(name: str) -> None:
    async def garbage(conversation: Conversation) -> None:
        await conversation.send("response.output_audio.delta", response_id="r", item_id="i", output_index=0,
                                content_index=0, delta="abc$")  # fmt: skip

    async with serve_realtime(on_start=garbage) as realtime, open_session() as (session, _):
        with pytest.raises(ValueError, match=r"(?i)base64|padding|non-alphabet"):
            await DOORS[name](realtime)(session)
