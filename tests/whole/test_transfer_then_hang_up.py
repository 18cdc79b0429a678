"""What comes after a transfer does not end it: however an agent leaves then, the call lives on with its target."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from anycarrier import CallStatus, EndReason, MediaSession
from anycarrier.calls import TransferStatus
from anycarrier.errors import StreamNotOpen
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from whole.conftest import CARRIERS, House, open_house, until

DESK = "+13105550130"
NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}
BUSY, NOBODY_ANSWERS = NUMBER[Outcome.BUSY], NUMBER[Outcome.NO_ANSWER]
CALLS, AT_ONCE = 200, 20


@pytest.fixture(params=CARRIERS)
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    async with open_house(request.param) as opened:
        yield opened


async def return_at_once(session: MediaSession) -> None:
    await session.transfer(DESK)


async def hang_up_twice(session: MediaSession) -> None:
    await session.transfer(DESK)
    await session.hang_up()
    await session.hang_up()


async def stop_a_pipeline(session: MediaSession) -> None:
    """As a framework's transport that is cancelled: it clears, and hangs up in its clean-up."""

    async def pipeline() -> None:
        try:
            await session.send_audio(b"\x20" * 1600)
            await session.transfer(DESK)
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(StreamNotOpen):
                await session.clear()
            await session.hang_up()

    running = asyncio.ensure_future(pipeline())
    async with asyncio.timeout(30):
        while not session.transferred:
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def fail(session: MediaSession) -> None:
    await session.transfer(DESK)
    raise RuntimeError("a bug after the transfer")


async def hang_up_meanwhile(session: MediaSession) -> None:
    asking = asyncio.ensure_future(session.transfer(DESK))
    async with asyncio.timeout(30):
        while not session.transferred:
            await asyncio.sleep(0)
    await session.hang_up()
    await asking


async def listen_to_the_end(session: MediaSession) -> None:
    await session.transfer(DESK)
    async for _ in session:
        pass
    await session.hang_up()


async def leave_while_it_is_asked(session: MediaSession) -> None:
    ASKING.add(asyncio.ensure_future(session.transfer(DESK)))
    async with asyncio.timeout(30):
        while not session.transferred:
            await asyncio.sleep(0)


ASKING: set[asyncio.Future[None]] = set()

WAYS: list[Callable[[MediaSession], Awaitable[None]]] = [
    return_at_once, hang_up_twice, stop_a_pipeline, fail, hang_up_meanwhile, listen_to_the_end, leave_while_it_is_asked
]  # fmt: skip


async def test_two_hundred_of_two_hundred_transferred_calls_live_on(house: House) -> None:
    ways = iter(WAYS * CALLS)
    house.exchange.switchboard.report = lambda what, failure: None

    async def hand_over(session: MediaSession) -> None:
        await next(ways)(session)

    async def one_call(inbound: bool) -> EndReason | None:
        far_end = await house.ring() if inbound else (await house.dial())[1]
        await until(lambda: any(s.call.id == far_end.call_id and s.transferred for s in house.sessions))
        assert await house.exchange.wait_for_transfer(far_end.call_id, 30) is TransferStatus.ANSWERED
        call = await house.call_of(far_end)
        await until(lambda: call.reference not in house.exchange.switchboard.sessions)
        await asyncio.sleep(0.1)
        assert far_end.state != "ended" and far_end.transferred_to == DESK
        assert (await house.call_of(far_end)).status is CallStatus.ANSWERED
        await far_end.hang_up()
        return (await house.over(far_end)).reason

    house.answer_with(hand_over)
    reasons: list[EndReason | None] = []
    while len(reasons) < CALLS:
        reasons += await asyncio.gather(*(one_call(inbound) for inbound in (True, False) * (AT_ONCE // 2)))
    assert reasons == [EndReason.TRANSFERRED] * CALLS


@pytest.mark.parametrize("reason", [EndReason.AGENT_HANGUP, EndReason.API_STOP])
async def test_a_transfer_that_fails_gives_the_call_back_and_hanging_up_works_again(
    house: House, reason: EndReason
) -> None:
    if house.provider.answers_in_reply or not house.provider.reports_transfers:
        pytest.skip("capability: its stream ends as the target is rung, or it tells of no outcome")
    outcomes: list[tuple[TransferStatus | None, bool, bool]] = []

    async def hand_over(session: MediaSession) -> None:
        await session.transfer(BUSY)
        rung = session.transferred
        outcomes.append((await session.wait_for_transfer(30), rung, session.transferred))
        await session.hang_up(reason)
        async for _ in session:
            pass

    house.answer_with(hand_over)
    far_end = await house.ring()
    over = await house.over(far_end)
    assert outcomes == [(None, True, False)]
    assert over.reason is reason
    await far_end.wait_for("ended")


async def test_where_the_stream_ends_with_the_request_the_outcome_is_told_by_the_exchange(house: House) -> None:
    if not house.provider.answers_in_reply or not house.provider.reports_transfers:
        pytest.skip("capability: its stream stays open until the target answers, or it tells of no outcome")

    async def hand_over(session: MediaSession) -> None:
        await session.transfer(BUSY)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await house.known(far_end.call_id)
    await until(lambda: far_end.transferred_to == BUSY)
    assert await house.exchange.wait_for_transfer(far_end.call_id, 30) is None
    assert (await house.over(far_end)).reason is EndReason.AGENT_HANGUP, "nobody is left in silence"


async def test_who_waits_for_a_transfer_is_told_when_the_caller_leaves_first(house: House) -> None:
    if not house.provider.reports_transfers:
        pytest.skip("capability: it tells of no outcome")

    async def hand_over(session: MediaSession) -> None:
        await session.transfer(NOBODY_ANSWERS)

    house.answer_with(hand_over)
    far_end = await house.ring()
    await house.known(far_end.call_id)
    await until(lambda: house.sessions and house.sessions[0].transferred)
    with pytest.raises(TimeoutError):
        await house.exchange.wait_for_transfer(far_end.call_id, 0.1)
    waiting = asyncio.ensure_future(house.exchange.wait_for_transfer(far_end.call_id, 30))
    await far_end.hang_up()
    assert await waiting is None
    assert (await house.over(far_end)).reason is EndReason.USER_HANGUP
