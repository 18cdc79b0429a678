"""The conversation bench counts what it says: waits from the sound itself, and interruptions that did not cut."""

from __future__ import annotations

import pytest

from bench.test_benches import load


def test_waits_are_counted_from_the_sound_and_missing_cuts_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("bench_conversation", monkeypatch)
    clip = bench.clip("tomorrow")
    onset, end = bench.sounding(clip)
    assert 0 <= onset < 0.3 and 1.0 < end <= len(clip) / 8000
    clock = bench.Clock()
    words = bench.PHRASES["tomorrow"]
    clock.said = [("tomorrow", 10.0), ("tomorrow", 20.0), ("tomorrow", 30.0)]
    clock.finals = [(words, t + end + 0.5) for t in (10.0, 20.0)] + [("tomato", 30.0 + end + 0.7)]
    clock.texts = [at for _, at in clock.finals]
    clock.sounds = [at + 0.01 for at in clock.texts]
    clock.clears = [20.0 + onset + 0.2]
    waits, understood, missed = bench.spans(clock)
    assert waits["end of speech -> final transcript"] == pytest.approx([500, 500, 700])
    assert waits["text -> first audio"] == pytest.approx([10, 10, 10])
    assert waits["onset of speech -> clear"] == pytest.approx([200])
    assert (understood, missed) == (2, 1)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_percentiles(share: float, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("bench_conversation", monkeypatch).percentile([5, 1, 4, 2, 3], share) == value
