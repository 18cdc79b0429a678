"""The media bench judges as it says: what counts as passed, what neighbours spoilt, what the largest number is."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def levels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("media_levels")


def level(levels: ModuleType, **changed: object) -> object:
    given = {
        "calls": 10, "relayed": 1000, "cpu_us": 10.0, "core": 0.1, "p50_ms": 0.2, "p99_ms": 5.0, "late_ms": 0.1,
        "load_core": 0.1, "delayed": 0.0, "flaws": {"lost": 0, "misrouted": 0},
    }  # fmt: skip
    return levels.Level(**{**given, **changed})


@pytest.mark.parametrize("truth", [1, 2, 17, 170, 449, 451, 3999])
@pytest.mark.parametrize("guess", [1, 200, 450])
def test_the_largest_number_is_found_from_any_guess(levels: ModuleType, truth: int, guess: int) -> None:
    tried: list[int] = []

    def passes(calls: int) -> bool:
        tried.append(calls)
        return calls <= truth

    found = levels.largest(passes, guess)
    assert truth / 1.07 - 1 <= found <= truth
    assert len(tried) <= 30


def test_nothing_passes_when_one_call_does_not(levels: ModuleType) -> None:
    assert levels.largest(lambda calls: False, 200) == 0


@pytest.mark.parametrize(
    ("changed", "passes"),
    [
        ({}, True),
        ({"p99_ms": 20.0}, False),
        ({"p99_ms": -1.0}, False),
        ({"flaws": {"lost": 1, "misrouted": 0}}, False),
        ({"flaws": {"lost": 0, "misrouted": 1}}, False),
    ],
)
def test_one_lost_frame_or_a_slow_hundredth_fails_a_level(
    levels: ModuleType, changed: dict[str, object], passes: bool
) -> None:
    assert level(levels, **changed).passes is passes  # type: ignore[attr-defined]


def test_a_level_is_void_when_neighbours_had_the_core_or_the_load_was_late(levels: ModuleType) -> None:
    assert not level(levels).void  # type: ignore[attr-defined]
    assert "neighbours" in level(levels, delayed=0.2).void  # type: ignore[attr-defined]
    assert "load" in level(levels, late_ms=50.0, load_core=0.99).void  # type: ignore[attr-defined]


def test_time_run_and_time_waited_for_a_core_are_read_from_the_system(levels: ModuleType) -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("capability: this system does not account for the time a process waits")
    before = levels.scheduled(os.getpid())
    sum(range(2_000_000))
    assert levels.scheduled(os.getpid())[0] - before[0] > 0.001
    assert levels.resident_kb(os.getpid()) > 1000


def test_the_most_calls_are_of_the_middle_search_and_their_ratio_of_the_middle_round(levels: ModuleType) -> None:
    bench = importlib.import_module("bench_media")

    def seen(*calls: int, spoilt: int | None = None) -> object:
        found = [bench.Search(level(levels, calls=each) if each else None, each == spoilt) for each in calls]
        return bench.Seen(searches=found)

    assert seen(700, 900, 300).most.calls == 700  # type: ignore[attr-defined]
    assert seen(700, 900, 300, spoilt=300).most.calls == 700  # type: ignore[attr-defined]
    assert seen(700, spoilt=700).most.spoilt and seen().most is None  # type: ignore[attr-defined]
    by_hand = "fast: largest N over the hand-written FastAPI bridge's"

    def times(**field: object) -> float | None:
        names = {"fast": "anycarrier-fast", "by_hand": "fastapi-by-hand"}
        rows = bench.targets({names[name]: each for name, each in field.items()})
        return next(figure for words, figure, _, _ in rows if words == by_hand)

    # The machine was twice as fast in the second round: that is in neither ratio.
    assert times(fast=seen(600, 1200, 660), by_hand=seen(200, 400, 200)) == 3.0
    assert times(fast=seen(600, 1200, spoilt=1200), by_hand=seen(200, 100)) == 3.0
    assert times(fast=seen(600), by_hand=seen(0)) is None


def test_an_unmeasured_target_is_not_kept(levels: ModuleType) -> None:
    bench = importlib.import_module("bench_media")
    assert [figure for _, figure, _, _ in bench.targets({})] == [None] * 6
    assert not bench.held(None, "<=", 1.0)
    assert bench.held(0.9, "<=", 1.0) and not bench.held(0.9, ">=", 1.0)
