"""The conversation bench counts what it says: waits from the sound itself, and interruptions that did not cut."""

from __future__ import annotations

import pytest

from bench.test_benches import load


def test_waits_are_counted_from_the_sound_and_missing_cuts_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("bench_conversation", monkeypatch)
    said, sound = "tomorrow morning please", bench.clip("tomorrow")
    onset, end = bench.sounding(sound)
    assert 0 <= onset < 0.3 and 1.0 < end <= len(sound) / 8000
    clock = bench.Clock()
    clock.said = [(said, 10.0), (said, 20.0), (said, 30.0)]
    clock.finals = [(said, t + end + 0.5) for t in (10.0, 20.0)]
    clock.finals += [("Tomorrow", 30.0 + onset + 0.6), ("mourning, please.", 30.0 + end + 0.7)]  # ended too early once
    clock.texts = [at for _, at in clock.finals]
    clock.sounds = [at + 0.01 for at in clock.texts]
    clock.clears = [20.0 + onset + 0.2]
    found = bench.waits(clock, {said: sound})
    assert found.ms["end of speech -> final transcript"] == pytest.approx([500, 500, 700])
    assert found.ms["text -> first audio"] == pytest.approx([10, 10, 10])
    assert found.ms["onset of speech -> clear"] == pytest.approx([200])
    assert (found.words, found.word_errors, found.missed) == (9, 1, 1)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 3), (0.95, 5), (1.0, 5)])
def test_percentiles(share: float, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("bench_conversation", monkeypatch).percentile([5, 1, 4, 2, 3], share) == value
