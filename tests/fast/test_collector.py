"""Garbage is looked for when nobody talks, and not for ever put off."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from anycarrier_server.runtime import LONGEST, YOUNG, QuietCollector


class House:
    def __init__(self) -> None:
        self.live = 0
        self.now = 0.0
        self.collector = QuietCollector(lambda: self.live, clock=lambda: self.now)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.collector.stop()


def test_nothing_is_collected_while_a_call_is_up_and_all_once_it_is_over(house: House) -> None:
    house.live = 1
    assert not house.collector.look()
    house.live = 0
    assert house.collector.look()
    assert not house.collector.look(), "nobody has talked since"


def test_a_house_that_is_never_quiet_is_collected_all_the_same(house: House) -> None:
    house.live = 100
    house.now = LONGEST - 1
    assert not house.collector.look()
    house.now = LONGEST
    assert house.collector.look()
    house.now += 1
    assert not house.collector.look()


async def test_the_process_is_left_as_it_was_found(house: House) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    house.collector.start()
    assert gc.get_threshold() == YOUNG
    assert gc.get_freeze_count() > frozen
    house.collector.stop()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


async def test_a_call_that_ended_leaves_nothing_once_it_is_quiet(house: House) -> None:
    class Call:
        freed = 0

        def __init__(self) -> None:
            self.myself = self

        def __del__(self) -> None:
            Call.freed += 1

    house.collector.start()
    house.live = 1
    Call()
    house.collector.look()
    assert Call.freed == 0
    house.live = 0
    house.collector.look()
    assert Call.freed == 1
