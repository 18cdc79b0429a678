"""Events as a subscriber iterates them, and waits for calls that are not known yet."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import Call, CallEvent, CallProgress, CallStatus, Exchange, IncomingCall
from core.conftest import OURS, dialled, echo, post, ring

Seen = list[tuple[CallEvent, Call | None]]


async def told(exchange: Exchange, status: str, number: int) -> None:
    await post(exchange, event="status", status=status, id="in-1", event_id=f"e{number}")


@pytest.fixture
async def rung(exchange: Exchange) -> Exchange:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    await ring(exchange)
    return exchange


async def test_events_come_in_order_with_their_calls_as_they_stood_then(exchange: Exchange) -> None:
    exchange.switchboard.agents = echo
    await exchange.assign(OURS, agent_id="a", credential_id="main")
    async with exchange.subscribe() as events:
        await ring(exchange)
        await told(exchange, "answered", 1)
        await told(exchange, "ended", 2)
        seen: Seen = [await anext(events) for _ in range(3)]
    assert [type(event) for event, _ in seen] == [IncomingCall, CallProgress, CallProgress]
    assert [call.status for _, call in seen if call] == [CallStatus.RINGING, CallStatus.ANSWERED, CallStatus.ENDED]


async def test_who_waits_is_woken_and_each_subscriber_gets_all(rung: Exchange) -> None:
    async with rung.subscribe() as one, rung.subscribe() as other:
        waiting = [asyncio.ensure_future(anext(one)), asyncio.ensure_future(anext(other))]
        await asyncio.sleep(0)
        await told(rung, "answered", 1)
        assert [event.event_id for event, _ in await asyncio.gather(*waiting)] == ["e1", "e1"]


async def test_events_not_taken_are_dropped_oldest_first_and_counted(rung: Exchange) -> None:
    async with rung.subscribe(most=2) as events:
        for number in range(5):
            await told(rung, "answered", number)
        assert events.dropped == 3
        assert [(await anext(events))[0].event_id for _ in range(2)] == ["e3", "e4"]
    with pytest.raises(ValueError, match="one event at least"):
        rung.subscribe(most=0)


@pytest.mark.parametrize("how", ["close", "leave", "stop"])
async def test_a_subscription_ends_with_what_is_at_hand(rung: Exchange, how: str) -> None:
    before = len(rung.switchboard.observers)
    events = rung.subscribe()
    await told(rung, "answered", 1)
    taking = asyncio.ensure_future(collected(events.__aiter__()))
    await asyncio.sleep(0)
    if how == "close":
        events.close()
        events.close()
    elif how == "leave":
        await events.__aexit__(None, None, None)
    else:
        await rung.stop()
    assert [event.event_id for event, _ in await asyncio.wait_for(taking, 30)] == ["e1"]
    assert events.closed and len(rung.switchboard.observers) == before


async def collected(events: object) -> Seen:
    return [one async for one in events]  # type: ignore[attr-defined]


async def test_a_subscriber_who_leaves_while_events_are_told_does_not_disturb_the_others(rung: Exchange) -> None:
    first, seen = rung.subscribe(), []
    rung.switchboard.observers.insert(0, lambda event, call: first.close())
    rung.switchboard.observers.append(lambda event, call: seen.append(event))
    await told(rung, "answered", 1)
    assert len(seen) == 1 and first.closed


@pytest.mark.parametrize("by", ["carrier's id", "reference"])
async def test_a_call_that_is_not_known_yet_is_waited_for(exchange: Exchange, by: str) -> None:
    key = "out-1" if by == "carrier's id" else "a" * 32
    waiting = asyncio.ensure_future(exchange.wait_for(key, CallStatus.INITIATED, 30))
    await asyncio.sleep(0)
    call = await dialled(exchange, reference="a" * 32)
    assert (await waiting).reference == call.reference
    assert not exchange.switchboard._waiters


async def test_a_call_that_nobody_ever_hears_of_is_a_timeout(exchange: Exchange) -> None:
    with pytest.raises(TimeoutError):
        await exchange.wait_for("never-heard-of", timeout=0.5)
    assert not exchange.switchboard._waiters


async def test_what_happens_while_the_book_is_read_is_not_missed(
    rung: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, reading, read = rung.switchboard.calls.get, asyncio.Event(), asyncio.Event()

    async def slow(key: str) -> Call | None:
        found = await get(key)
        if not reading.is_set():
            reading.set()
            await read.wait()
        return found

    monkeypatch.setattr(rung.switchboard.calls, "get", slow)
    waiting = asyncio.ensure_future(rung.wait_for("in-1", CallStatus.ENDED, 30))
    await reading.wait()
    await told(rung, "ended", 1)
    read.set()
    assert (await waiting).ended
