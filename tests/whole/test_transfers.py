"""A call is handed to somebody else on every carrier that can: nobody cuts it off, and its record is right."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from anycarrier import Call, EndReason, MediaSession, plugins
from anycarrier.calls import TransferStatus
from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from whole.conftest import CARRIERS, House, listen, open_house, until

DESK = "+13105550130"
NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}


@pytest.fixture(params=[name for name in CARRIERS if plugins.get_provider(name).reports_transfers])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """Carriers that tell what becomes of a transfer; the others are believed when they take one."""
    async with open_house(request.param) as opened:
        yield opened


async def handed_on(house: House, far_end: FarEnd) -> Call:
    """The call, once the target has it."""
    await house.known(far_end.call_id)
    return await house.exchange.wait_until(far_end.call_id, lambda c: c.transfer is TransferStatus.ANSWERED, 30)


async def still_talking(house: House, far_end: FarEnd) -> None:
    """What our side does because the agent has left is done, and the caller is still there."""
    await until(lambda: not house.exchange.switchboard.sessions)
    assert far_end.state != "ended" and far_end.transferred_to == DESK
    call = await house.call_of(far_end)
    assert (call.ended, call.transfer) == (False, TransferStatus.ANSWERED)


async def test_the_agent_stays_until_the_target_answers_and_the_caller_ends_it(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)
        await listen(session)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await handed_on(house, far_end)
    await still_talking(house, far_end)
    await far_end.hang_up()
    over = await house.over(far_end)
    assert (over.reason, over.carrier_status is not None) == (EndReason.TRANSFERRED, True)
    assert over.answered_at is not None and over.duration > 0


async def test_a_handler_that_returns_at_once_does_not_cut_the_caller_off(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await handed_on(house, far_end)
    await still_talking(house, far_end)
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.TRANSFERRED


@pytest.mark.parametrize("reason", [EndReason.AGENT_HANGUP, EndReason.END_CALL_PHRASE, EndReason.MEDIA_ERROR])
async def test_an_agent_that_hangs_up_after_its_transfer_does_not_cut_the_caller_off(
    house: House, reason: EndReason
) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)
        await session.hang_up(reason)
        await listen(session)
        await session.hang_up(reason)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await handed_on(house, far_end)
    await still_talking(house, far_end)
    await house.exchange.hang_up(far_end.call_id, reason)
    await still_talking(house, far_end)
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.TRANSFERRED


async def test_an_agent_that_fails_after_its_transfer_does_not_cut_the_caller_off(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)
        raise RuntimeError("a bug after the transfer")

    house.answer_with(hand_over)
    far_end = await house.ring()
    await handed_on(house, far_end)
    await still_talking(house, far_end)
    await far_end.hang_up()
    assert (await house.over(far_end)).reason is EndReason.TRANSFERRED


async def test_a_stop_ends_a_transferred_call(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await handed_on(house, far_end)
    await house.exchange.hang_up(far_end.call_id)
    assert (await house.over(far_end)).reason is EndReason.TRANSFERRED
    # Where the call is between the far end and us, it is over with us out of it, and theirs is their own.
    assert (far_end.state == "ended") is not house.direct


async def test_a_caller_who_leaves_while_the_target_rings_was_not_transferred(house: House) -> None:
    rung = asyncio.Event()

    async def hand_over(session: MediaSession) -> None:
        await session.transfer(NUMBER[Outcome.NO_ANSWER])
        rung.set()
        await listen(session)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await asyncio.wait_for(rung.wait(), 30)
    await far_end.hang_up()
    over = await house.over(far_end)
    assert (over.reason, far_end.state) == (EndReason.USER_HANGUP, "ended")


async def test_a_target_that_is_busy_gives_the_call_back_or_ends_it(house: House) -> None:
    asked = asyncio.Event()

    async def hand_over(session: MediaSession) -> None:
        await session.transfer(NUMBER[Outcome.BUSY])
        asked.set()
        await listen(session)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await house.known(far_end.call_id)
    if house.provider.answers_in_reply:  # the stream ended when the target was rung: there is nobody to give it back to
        assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
        return
    session = await house.live()
    await asyncio.wait_for(asked.wait(), 30)
    await house.exchange.wait_until(far_end.call_id, lambda c: c.transfer is None, 30)
    assert (session.ended, far_end.state == "ended") == (False, False)
    await session.hang_up()
    assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP


async def test_a_target_that_is_busy_after_the_agent_has_left_leaves_nobody_in_silence(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(NUMBER[Outcome.BUSY])

    house.answer_with(hand_over)
    far_end = await house.ring()
    assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP
    await far_end.wait_for("ended")


async def test_a_call_that_was_dialled_is_transferred_as_well(house: House) -> None:
    async def hand_over(session: MediaSession) -> None:
        await session.transfer(DESK)

    house.answer_with(hand_over)
    call, far_end = await house.dial()
    await handed_on(house, far_end)
    await far_end.hang_up()
    assert (await house.over(call)).reason is EndReason.TRANSFERRED
