"""Each call ends once, with one reason, whoever ends it."""

import asyncio

import pytest

from anycarrier import CallStatus, EndReason, MediaSession
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from whole.conftest import CARRIERS, House, listen, open_house

NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}


async def test_the_agent_hangs_up(house: House) -> None:
    async def goodbye(session: MediaSession) -> None:
        await session.send_audio(b"\x55" * 1600)
        await session.drain()
        await session.hang_up()

    house.answer_with(goodbye)
    far_end = await house.ring()
    call = await house.over(far_end)
    assert call.reason is EndReason.AGENT_HANGUP
    await far_end.wait_for("ended")
    assert far_end.heard.count(b"\x55") == 1600, "all of the goodbye was heard"


async def test_an_agent_that_returns_is_heard_out_then_hung_up(house: House) -> None:
    async def say(session: MediaSession) -> None:
        await session.send_audio(b"\x55" * 4000)

    house.answer_with(say)
    far_end = await house.ring()
    assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
    assert far_end.heard.count(b"\x55") == 4000


async def test_an_agent_that_fails_does_not_leave_the_caller_in_silence(house: House) -> None:
    async def broken(session: MediaSession) -> None:
        raise RuntimeError("a bug")

    house.answer_with(broken)
    far_end = await house.ring()
    assert (await house.over(far_end)).reason is EndReason.AGENT_ERROR
    await far_end.wait_for("ended")


async def test_both_hang_up_at_once(house: House) -> None:
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    await asyncio.gather(far_end.hang_up(), house.exchange.hang_up(call, EndReason.AGENT_HANGUP))
    over = await house.over(call)
    assert over.status is CallStatus.ENDED
    assert over.reason in (EndReason.AGENT_HANGUP, EndReason.USER_HANGUP)
    await house.exchange.hang_up(over)


async def test_hanging_up_what_is_over_at_the_carrier_is_success(house: House) -> None:
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    await far_end.hang_up()
    await house.over(call)
    provider = await house.exchange.switchboard.provider("main")
    await provider.hang_up(call.id)


async def test_stopped_by_the_api(house: House) -> None:
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    await house.exchange.hang_up(call)
    assert (await house.over(call)).reason is EndReason.API_STOP


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_media_socket_that_drops_mid_call_ends_it(carrier: str) -> None:
    async with open_house(carrier, settle=1.0) as house:
        house.answer_with(listen)
        call, far_end = await house.dial(NUMBER[Outcome.MEDIA_DROP])
        over = await house.over(call, timeout=300)  # silence alone says little: a carrier that listens asks first
        assert over.reason is EndReason.MEDIA_ERROR
        await far_end.wait_for("ended")  # and the carrier does not go on billing
