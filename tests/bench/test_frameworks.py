"""The frameworks bench counts what came back, judges as it says, and finds the rows of each framework."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(HERE), *sys.path])
    return importlib.import_module("bench_frameworks")


def heard(bench: ModuleType, *cpu: float, back: float = 1.0) -> list[Any]:
    return [bench.Heard(seconds, 1000, back, [0.001, 0.002, 0.003]) for seconds in cpu]


def row(**changed: Any) -> dict[str, Any]:
    plain = {"difference": False, "marks": True, "interruptions": False}
    return {"subject": "ours", "beside": "theirs", "most": 0.9, **plain, **changed}


def test_a_ratio_is_of_one_round(bench: ModuleType) -> None:
    """The machine was slower in the second round, for both."""
    seen = {("ours", True): heard(bench, 0.08, 0.16, 0.09), ("theirs", True): heard(bench, 0.1, 0.2, 0.1)}
    found = bench.judged(row(), seen)
    assert (found["us"], found["beside_us"], found["kept"]) == (90, 100, True)
    assert found["measured"] == pytest.approx(0.8)
    assert found["p50_ms"] == pytest.approx(2.0)
    assert not bench.judged(row(most=0.79), seen)["kept"]


def test_a_difference_is_in_microseconds(bench: ModuleType) -> None:
    seen = {("ours", True): heard(bench, 0.16), ("theirs", True): heard(bench, 0.1)}
    found = bench.judged(row(most=60, difference=True), seen)
    assert found["measured"] == pytest.approx(60)
    assert bench.cells("x", found)[4:6] == ["+60 µs", "+60 µs"]


def test_a_row_without_a_bound_still_wants_its_audio_back(bench: ModuleType) -> None:
    alone = row(beside="", most=None)
    assert bench.judged(alone, {("ours", True): heard(bench, 0.1)})["kept"]
    assert not bench.judged(alone, {("ours", True): heard(bench, 0.1, 0.1, back=0.99)})["kept"]


def test_how_late_a_clear_is_counts_from_the_interruption_before_it(bench: ModuleType) -> None:
    """Of its own call, and only where there was time for it."""
    cleared = {"a": [1.5, 2.003], "b": [2.5]}
    heard = bench.Heard(0.1, 1000, 1.0, [], begun=1.0, ended=3.0, cleared=cleared)
    told = [("a", 0.5), ("a", 2.0), ("b", 2.0), ("b", 2.6), ("a", 2.95)]
    assert bench.lateness(told, heard) == [pytest.approx(0.003), pytest.approx(0.5), math.inf]


def test_interruptions_are_judged_by_the_slowest_of_a_hundred(bench: ModuleType) -> None:
    def judged(*late: float) -> Any:
        heard = bench.Heard(0.1, 1000, 0.0, [], late=[0.001] * 200 + list(late))
        return bench.judged(row(interruptions=True, most=20), {("ours", True): [heard]})

    assert judged(0.03)["kept"] and not judged(*[0.021] * 4)["kept"] and not judged(*[math.inf] * 4)["kept"]
    assert bench.cells("x", judged(*[0.0205] * 4))[4:] == ["p99 of 204: 20.5 ms", "20 ms", "1.0", "-", "**NOT KEPT**"]
    nothing = bench.Heard(0.1, 1000, 0.0, [])
    assert not bench.judged(row(interruptions=True, most=20), {("ours", True): [nothing]})["kept"]


async def test_interruptions_of_the_bare_session_clear_the_carrier(bench: ModuleType) -> None:
    subject = await bench.Subject.start(sys.executable, "session", "session, interrupted")
    try:
        options = Namespace(calls=2, start=1.0, warm=0.2, seconds=1.5)
        heard = await subject.measure(marks=True, options=options)
    finally:
        await subject.close()
    assert 2 <= len(heard.late) <= 8 and math.inf not in heard.late
    assert heard.back > 0


def test_the_bare_session_is_measured_beside_one_by_hand() -> None:
    words = ["frameworks", "--only", "session", "--rounds", "1", "--calls", "2", "--seconds", "0.4", "--warm", "0.2",
             "--start", "1"]  # fmt: skip
    run = subprocess.run([sys.executable, str(HERE), *words, "--json"], capture_output=True, text=True)
    rows = json.loads(run.stdout)["rows"]
    interrupted = rows.pop("session interrupted")
    assert interrupted["most"] == 20
    assert [each["beside"] for each in rows.values()] == ["FastAPI by hand", "FastAPI by hand", ""]
    assert [each["back"] for each in rows.values()] == [1.0] * len(rows)
    assert all(each["us"] > 0 for each in rows.values())


def test_every_file_of_rows_is_the_bare_sessions_or_a_frameworks(bench: ModuleType) -> None:
    files = {path.stem for path in (HERE / "frameworks").glob("*.py")} - {"subject", "carrier"}
    assert files == set(bench.names())
