"""Carriers with sockets of their own: what their listeners share, and the operator's settings that they get."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from anycarrier import Exchange, MemoryNumberRegistry
from anycarrier.errors import ConfigurationError
from anycarrier.listener import Desk
from anycarrier.listeners import SharedValues
from fake_carriers import FakeCredential, TrunkProvider


class Socket:
    """Something shared, which says how often it was made and closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1
        await asyncio.sleep(0)


class Maker:
    """Makes sockets, one at a time; ``gate`` holds the making up, ``failures`` are raised first."""

    def __init__(self, *failures: Exception) -> None:
        self.made: list[Socket] = []
        self.failures = list(failures)
        self.making = 0

    async def __call__(self) -> Socket:
        self.making += 1
        assert self.making == 1, "two make the same value at once"
        try:
            await asyncio.sleep(0)
            assert all(each.closed for each in self.made), "the last one is still open"
            if self.failures:
                raise self.failures.pop(0)
            self.made.append(Socket())
            return self.made[-1]
        finally:
            self.making -= 1


# --- what listeners share --------------------------------------------------------------------------------------------


async def test_one_value_for_all_closed_when_the_last_user_leaves() -> None:
    shared, make = SharedValues(), Maker()
    async with shared.hold("socket", make) as first:
        async with shared.hold("socket", make) as second, shared.hold("another", Maker()) as other:
            assert first is second and other is not first
        assert not first.closed
    assert first.closed == 1 and make.made == [first]


async def test_two_openers_at_once_make_one() -> None:
    shared, make, leave = SharedValues(), Maker(), asyncio.Event()

    async def use() -> Socket:
        async with shared.hold("socket", make) as mine:
            await leave.wait()
            assert not mine.closed
            return mine

    users = [asyncio.ensure_future(use()) for _ in range(5)]
    await asyncio.sleep(0.1)
    leave.set()
    assert len(set(await asyncio.gather(*users))) == 1
    assert [each.closed for each in make.made] == [1]


async def test_a_failed_make_is_retried_by_the_next() -> None:
    shared, make = SharedValues(), Maker(OSError("taken"))

    async def use() -> Socket:
        async with shared.hold("socket", make) as mine:
            await asyncio.sleep(0.01)
            return mine

    failed, opened, same = await asyncio.gather(use(), use(), use(), return_exceptions=True)
    assert isinstance(failed, OSError) and opened is same and isinstance(opened, Socket)


async def test_a_value_is_made_anew_only_once_the_last_one_is_closed() -> None:
    shared, make = SharedValues(), Maker()
    for _ in range(3):
        async with shared.hold("socket", make) as mine:
            assert not mine.closed  # and the maker saw the one before closed

    async def use() -> None:
        async with shared.hold("socket", make):
            await asyncio.sleep(0)

    await asyncio.gather(*(use() for _ in range(9)))
    assert all(each.closed == 1 for each in make.made)


async def test_whoever_enters_while_the_last_user_leaves_gets_an_open_value() -> None:
    shared, make, leave = SharedValues(), Maker(), asyncio.Event()

    async def use() -> None:
        async with shared.hold("socket", make):
            await leave.wait()

    user = asyncio.ensure_future(use())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leave.set()
    for _ in range(4):  # at each step of its leaving
        await asyncio.sleep(0)
        async with shared.hold("socket", make) as mine:
            await asyncio.sleep(0)
            assert not mine.closed
    await user


async def test_a_maker_that_is_cancelled_leaves_the_making_to_the_next() -> None:
    shared, make, never = SharedValues(), Maker(), asyncio.Event()

    async def stuck() -> Socket:
        await never.wait()
        raise AssertionError

    async def use(how: Any) -> Socket:
        async with shared.hold("socket", how) as mine:
            return mine

    first, second = asyncio.ensure_future(use(stuck)), asyncio.ensure_future(use(make))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).closed == 1 and first.cancelled()


# --- settings of the operator ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrunkSettings:
    listen: str = "udp:127.0.0.1:0"


@dataclass(frozen=True)
class OtherSettings:
    listen: str = "tcp:127.0.0.1:0"


def an_exchange(*settings: object) -> Exchange:
    return Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"one": FakeCredential(provider="trunk"), "two": FakeCredential(provider="trunk")},
        public_url="https://voice.example.com",
        secret="x" * 32,
        carrier_settings=settings,
    )


async def desks(exchange: Exchange) -> list[Desk]:
    await exchange.start()
    return [entry[1].desk for entry in TrunkProvider.log if entry[0] == "listener"]


async def test_a_listener_gets_the_operators_settings_of_its_type_else_the_defaults(fake_plugins: None) -> None:
    exchange = an_exchange(TrunkSettings("udp:192.0.2.1:5060"))
    one, two = await desks(exchange)
    assert one.settings(TrunkSettings) == two.settings(TrunkSettings) == TrunkSettings("udp:192.0.2.1:5060")
    assert one.settings(OtherSettings) == OtherSettings()
    await exchange.stop()


def test_two_settings_of_one_type_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two TrunkSettings"):
        an_exchange(TrunkSettings(), TrunkSettings())


async def test_listeners_of_one_exchange_share_and_of_another_do_not(fake_plugins: None) -> None:
    exchange, make = an_exchange(), Maker()
    one, two = await desks(exchange)
    TrunkProvider.log.clear()
    elsewhere, other = an_exchange(), Maker()
    far, _ = await desks(elsewhere)
    async with one.shared("key", make) as mine, two.shared("key", make) as yours, far.shared("key", other) as theirs:
        assert mine is yours and theirs is not mine
    await exchange.stop()
    await elsewhere.stop()
