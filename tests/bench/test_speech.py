"""The speech bench's arithmetic, without a model: bounds, the simulated line, tracks, and which answer is whose."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import pytest

from bench.test_benches import load

np = pytest.importorskip("numpy")

SECOND = 8000


@pytest.fixture
def sounds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("speech_line", monkeypatch)


@pytest.fixture
def calls(sounds: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("speech_calls", monkeypatch)


@pytest.fixture
def bench(calls: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    load("speech_listening", monkeypatch)
    return load("bench_speech", monkeypatch)


def clip(
    sounds: ModuleType, seconds: float = 1.0, level: float = 0.1, quiet: float = 0.5, text: str = "one two"
) -> object:
    """A tone with silence after it."""
    tone = 0.1 * np.sin(np.arange(round(seconds * SECOND)) * 0.5)
    return sounds.Clip("a", np.concatenate([tone, np.zeros(round(quiet * SECOND))]).astype("f4"), "one two")


def test_values_must_be_reached_and_all_else_must_not_be_exceeded(bench: ModuleType) -> None:
    def kept(name: str, value: float) -> bool:
        return bool(bench.Figure(name, value, "").kept)

    assert kept("words wrong, clean", 0.09)
    assert not kept("words wrong, clean", 0.091)
    assert kept("command values heard with a phrase list, clean", 0.95)
    assert not kept("command values heard with a phrase list, clean", 0.94)
    assert not kept("talkers on one worker, late frames", 1)
    assert kept("words wrong, clean: pocketsphinx without a grammar", 0.66), "it has no bound"


def test_the_table_shows_the_limit_and_what_was_not_kept(bench: ModuleType) -> None:
    rows = bench.table(
        [
            bench.Figure("words wrong, clean", 0.12, "12.0 %", "12 of 100"),
            bench.Figure("command values heard with a phrase list, clean", 0.96, "96.0 %"),
            bench.Figure("memory of a whisper worker, MB", 180.0, "180 MB"),
        ]
    )
    assert rows[0] == ["words wrong, clean", "12.0 % (not kept)", "≤ 9.0 %", "12 of 100"]
    assert rows[1][2] == "≥ 95.0 %"
    assert rows[2][1:3] == ["180 MB", "-"]


def test_the_end_of_a_clip_is_that_of_its_speech(sounds: ModuleType) -> None:
    assert clip(sounds, seconds=1.0, quiet=0.5).end == pytest.approx(1.0, abs=0.02)  # type: ignore[attr-defined]


def test_the_level_leaves_pauses_out(sounds: ModuleType) -> None:
    alone = sounds.active_db(clip(sounds, quiet=0.0).sound)  # type: ignore[attr-defined]
    assert alone == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.1)
    assert sounds.active_db(clip(sounds, quiet=3.0).sound) == pytest.approx(alone, abs=0.1)  # type: ignore[attr-defined]


def test_noise_is_as_much_quieter_as_was_asked(sounds: ModuleType) -> None:
    from anycarrier.audio import pcmu_to_pcm16

    speech = clip(sounds, quiet=0.0)
    noisy = sounds.line(speech, [speech], noise=15.0, after=8.0)
    tail = np.frombuffer(pcmu_to_pcm16(noisy), "<i2").astype("f4")[-6 * SECOND :] / 32768
    level = 20 * np.log10(np.sqrt((tail**2).mean()))
    assert level == pytest.approx(sounds.active_db(speech.sound) - 15, abs=1.5)  # type: ignore[attr-defined]


def test_frames_are_lost_in_bursts_of_two_on_average(sounds: ModuleType) -> None:
    lost = list(sounds.lost_frames(200_000, 3.0, np.random.default_rng(1)))
    bursts = 1 + sum(after != before + 1 for before, after in pairwise(lost))
    assert len(lost) / 200_000 == pytest.approx(0.03, rel=0.1)
    assert len(lost) / bursts == pytest.approx(2.0, rel=0.1)
    assert list(sounds.lost_frames(1000, 0.0, np.random.default_rng(1))) == []


def test_a_lost_frame_is_silence_and_the_same_seed_loses_the_same(sounds: ModuleType) -> None:
    speech = clip(sounds, seconds=4.0)
    whole = sounds.line(speech, [speech])
    with_loss = sounds.line(speech, [speech], loss=10.0, seed=3)
    assert with_loss == sounds.line(speech, [speech], loss=10.0, seed=3)
    frames = [(whole[at : at + 160], with_loss[at : at + 160]) for at in range(0, len(whole), 160)]
    changed = [after for before, after in frames if before != after]
    assert changed
    assert set(changed) == {b"\xff" * 160}


def test_there_are_54_sounds_without_words_of_three_lengths(sounds: ModuleType) -> None:
    found = sounds.wordless([clip(sounds)])
    assert len(found) == 54
    assert sorted({len(sound) for sound in found.values()}) == [SECOND, 2 * SECOND, 4 * SECOND]
    assert all(np.abs(sound).max() > 0.005 for name, sound in found.items() if not name.startswith("silence"))


def test_tracks_say_when_the_speech_ends_and_leave_a_pause(sounds: ModuleType, calls: ModuleType) -> None:
    one = clip(sounds, seconds=1.0, quiet=0.5)
    made = calls.tracks([one], 3, seconds=13.0, every=6.0)
    assert [len(track.ends) for track in made] == [2, 2, 2]
    for number, track in enumerate(made):
        assert [end for end, _ in track.ends] == pytest.approx([2.0 + 2 * number, 8.0 + 2 * number], abs=0.03)
        sound = track.audio
        first = next(at for at, byte in enumerate(sound) if byte != 0xFF) / SECOND
        assert first == pytest.approx(1.0 + 2 * number, abs=0.01)


def test_each_answer_belongs_to_the_utterance_before_it(sounds: ModuleType, calls: ModuleType) -> None:
    track = calls.Track()
    for _ in range(3):
        track.add(clip(sounds), every=6.0)  # ends at 2, 8 and 14
    began = 100.0
    finals = [
        calls.Final(began + 2.6, began + 1.2, "one", 0.1),
        calls.Final(began + 3.2, began + 2.05, "two", 0.1),
        calls.Final(began + 14.7, began + 14.1, "six", 0.2),
    ]
    found = calls.answers(track, began, finals)
    assert [[final.text for final in one] for one in found] == [["one", "two"], [], ["six"]]


def test_a_cut_recording_is_shorter_and_ends_where_it_is_quiet(sounds: ModuleType, bench: ModuleType) -> None:
    tone = np.full(SECOND, 0.1, np.float32)
    speech = sounds.Clip("a", np.concatenate([tone, np.zeros(SECOND // 5, np.float32), tone]), "one two")
    at = len(bench.cut_at_pause(speech)) / SECOND
    assert 1.0 <= at <= 1.2
    assert 0 < len(bench.cut_anywhere(speech)) < len(speech.sound)
    assert len(bench.whole(speech)) == len(speech.sound)
