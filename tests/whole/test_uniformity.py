"""The same story told on every carrier leaves the same record: events, statuses, reasons."""

from collections.abc import Awaitable, Callable
from typing import Any

from anycarrier import AudioReceived, CallStatus, MediaSession
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from whole.conftest import CARRIERS, House, open_house, until

NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}


async def inbound(house: House) -> Any:
    media: list[str] = []

    async def talk(session: MediaSession) -> None:
        async for event in session:
            if not isinstance(event, AudioReceived):
                media.append(type(event).__name__)
            elif not media:
                await session.send_audio(event.payload)
                await session.mark("m")

    house.answer_with(talk)
    far_end = await house.ring(said=b"\x42" * 1600)
    await until(lambda: "MarkReached" in media)
    await far_end.press("1")
    await until(lambda: "DigitPressed" in media)
    await far_end.hang_up()
    call = await house.over(far_end)
    return record(house, call), media[: media.index("DigitPressed") + 1][-1], call.direction


async def outbound(house: House) -> Any:
    call, far_end = await house.dial()
    await far_end.wait_for("streaming")
    await house.exchange.hang_up(call)
    return record(house, await house.over(call))


async def busy(house: House) -> Any:
    call, _ = await house.dial(NUMBER[Outcome.BUSY])
    return record(house, await house.over(call))


async def declined(house: House) -> Any:
    call, _ = await house.dial(NUMBER[Outcome.REJECTED])
    return record(house, await house.over(call))


def record(house: House, call: Any) -> Any:
    """What must not differ: the way it went, why it ended, and whether it ever talked."""
    way = [status for status in house.progress(call) if status is not CallStatus.INITIATED]
    return way, call.status, call.reason, call.answered_at is not None, call.agent_id


async def test_the_record_of_a_story_is_the_same_on_every_carrier() -> None:
    stories: list[Callable[[House], Awaitable[Any]]] = [inbound, outbound, busy, declined]
    records: dict[str, dict[str, Any]] = {}
    for carrier in CARRIERS:
        for story in stories:
            async with open_house(carrier) as house:
                records.setdefault(story.__name__, {})[carrier] = await story(house)
    for name, by_carrier in records.items():
        first = by_carrier[CARRIERS[0]]
        assert all(found == first for found in by_carrier.values()), f"{name}: {by_carrier}"


async def test_only_a_carrier_that_says_so_reports_ringing() -> None:
    for carrier in CARRIERS:
        async with open_house(carrier) as house:
            call, far_end = await house.dial(NUMBER[Outcome.RINGS])
            await house.exchange.wait_for(call, CallStatus.ANSWERED, 30)
            rang = any(
                getattr(event, "call", None) is not None and event.call.status is CallStatus.RINGING  # type: ignore[attr-defined]
                for event, _ in house.events
            )
            assert rang is house.provider.reports_ringing, carrier
            await far_end.hang_up()
            await house.over(call)
