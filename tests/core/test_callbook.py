"""The call book in memory, and how an exchange changes a call once for an event on either kind of book."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from anycarrier import Call, CallStatus, Direction, Exchange
from anycarrier.callbook import MemoryCallBook
from anycarrier.errors import ConfigurationError, UnknownCall
from core.conftest import CALLER, OURS, R2, R3, R4, R5, dialled


def made(reference: str, call_id: str = "", status: CallStatus = CallStatus.RINGING) -> Call:
    return Call(
        id=call_id, provider="p", direction=Direction.INBOUND, from_=CALLER, to=OURS, status=status, reference=reference
    )


def ended(call: Call) -> Call:
    return call.model_copy(update={"status": CallStatus.ENDED})


async def test_a_call_is_found_by_its_reference_and_by_the_carriers_id_once_it_has_one() -> None:
    book = MemoryCallBook()
    call = await book.open(made(R2))
    assert await book.get(R2) == call and await book.get("c-1") is None
    named = await book.update(R2, lambda c: c.model_copy(update={"id": "c-1"}))
    assert await book.get("c-1") == await book.get(R2) == named
    assert (await book.update("c-1", ended)).ended
    with pytest.raises(UnknownCall, match=R3):
        await book.update(R3, ended)


async def test_a_call_that_is_there_is_not_opened_again_whichever_name_it_comes_by() -> None:
    book = MemoryCallBook()
    call = await book.open(made(R2, "c-1"))
    for again in (made(R2, "c-2"), made(R3, "c-1")):
        assert await book.open(again) == call
    await book.open(made(R4))
    await book.open(made(R5))
    assert {c.reference for c in await book.in_progress()} == {R2, R4, R5}, "no id yet is no name"


async def test_only_the_last_calls_that_ended_are_kept_and_every_open_one() -> None:
    book = MemoryCallBook(keep=2)
    for number in range(4):
        await book.open(made(f"{number:032x}", f"c-{number}"))
    await book.open(made("a" * 32, "c-open"))
    for number in (1, 0, 3, 2):
        await book.update(f"{number:032x}", ended)
    await book.update(f"{3:032x}", lambda c: c.model_copy(update={"agent_id": "late"}))
    kept = [name for number in range(4) for name in (f"{number:032x}", f"c-{number}") if await book.get(name)]
    assert kept == [f"{2:032x}", "c-2", f"{3:032x}", "c-3"] and len(book._reference_of) == 3
    assert [call.reference for call in await book.in_progress()] == ["a" * 32]
    for number in range(3):  # dials that were refused never had a carrier's id
        await book.open(made(f"{number + 8:032x}"))
        await book.update(f"{number + 8:032x}", ended)
    assert await book.get(f"{8:032x}") is None and await book.get(f"{10:032x}") is not None


async def test_a_call_whose_reference_is_none_is_refused() -> None:
    book = MemoryCallBook()
    for wrong in ("", "r-1", "A" * 32, "a" * 31, "a" * 33):
        with pytest.raises(ConfigurationError, match="32 lower-case hexadecimal digits"):
            await book.open(made(wrong))
    assert await book.in_progress() == []


class OnceBook(MemoryCallBook):
    """Keeps the once-only keys itself."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def update_once(self, event: str, ttl: float, key: str, change: Callable[[Call], Call]) -> Call | None:
        if event in self.seen:
            return None
        self.seen.add(event)
        return await self.update(key, change)


@pytest.mark.parametrize("book", [MemoryCallBook, OnceBook])
async def test_a_change_is_made_and_told_once_for_an_event(exchange: Exchange, book: type[MemoryCallBook]) -> None:
    exchange.switchboard.calls = book()
    call = await dialled(exchange)
    waiting = asyncio.ensure_future(exchange.wait_until(call, lambda c: c.agent_id == "b", 2))
    await asyncio.sleep(0)

    def talks(agent: str) -> Callable[[Call], Call]:
        return lambda c: c.model_copy(update={"agent_id": agent})

    first = await exchange.switchboard.update_once("e1", 60.0, call.reference, talks("b"))
    assert first is not None and await waiting == first
    assert await exchange.switchboard.update_once("e1", 60.0, call.reference, talks("c")) is None
    assert await exchange.switchboard.calls.get(call.reference) == first
    assert (await exchange.switchboard.update_once("e2", 60.0, call.reference, talks("d"))) is not None
    assert await exchange.switchboard.once.first("e1", 60.0) is (book is OnceBook), "kept in one place"


async def test_who_waits_is_given_the_call_as_it_was_then_though_it_has_moved_on(exchange: Exchange) -> None:
    call = await dialled(exchange)
    waiting = asyncio.ensure_future(exchange.wait_for(call, CallStatus.ANSWERED, timeout=2))
    await asyncio.sleep(0)
    for status in (CallStatus.ANSWERED, CallStatus.ENDED):  # before the one who waits can run
        exchange.switchboard.tell(call.model_copy(update={"status": status}))
    assert (await waiting).status is CallStatus.ANSWERED
