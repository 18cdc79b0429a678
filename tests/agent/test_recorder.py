"""The stereo recording: aligned, cut where playback was, whole when the process dies."""

from array import array
from pathlib import Path

from linecard.agent.recorder import Recorder
from linecard.wav import read_wav

LOUD, SILENT = b"\x00", b"\xff"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def sides(path: Path) -> tuple[list[int], list[int]]:
    audio = array("h", read_wav(path)[1])
    return list(audio[0::2]), list(audio[1::2])


def talk(recorder: Recorder, clock: Clock, seconds: float, payload: bytes = SILENT) -> None:
    for _ in range(round(seconds / 0.02)):
        clock.now += 0.02
        recorder.caller(payload * 160)


def test_caller_left_agent_right_each_when_it_sounded(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path / "call.wav", clock=clock)
    talk(recorder, clock, 1.0, LOUD)
    recorder.agent(LOUD * 8000, starts_in=0.5)
    talk(recorder, clock, 2.0)
    recorder.close()
    left, right = sides(tmp_path / "call.wav")
    assert len(left) == len(right) == 24000
    assert all(left[:8000]) and not any(left[8000:])
    assert not any(right[:11900]) and all(right[12000:19900]) and not any(right[20100:])


def test_what_was_cleared_was_never_heard(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path / "call.wav", clock=clock)
    recorder.agent(LOUD * 80000, starts_in=0.0)
    talk(recorder, clock, 1.0)
    recorder.cut()
    talk(recorder, clock, 1.0)
    recorder.close()
    _, right = sides(tmp_path / "call.wav")
    assert all(right[:7900]) and not any(right[8100:]) and len(right) == 16000


def test_a_process_that_dies_leaves_all_but_the_last_moments(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path / "call.wav", clock=clock)
    talk(recorder, clock, 10.0, LOUD)
    left, _ = sides(tmp_path / "call.wav")  # never closed
    assert 8 * 8000 <= len(left) <= 9 * 8000 and all(left)
    recorder.close()


def test_memory_stays_flat_however_long_the_call(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path / "call.wav", clock=clock)
    talk(recorder, clock, 60.0)
    assert max(map(len, recorder._sides)) < 3 * 8000
    recorder.close()


def test_jitter_is_not_silence_and_a_real_gap_is(tmp_path: Path) -> None:
    clock = Clock()
    recorder = Recorder(tmp_path / "call.wav", clock=clock)
    for jitter in (0.03, 0.01, 0.02, 0.04, 0.0, 0.02) * 5:
        clock.now += jitter
        recorder.caller(LOUD * 160)
    clock.now += 1.0
    recorder.caller(LOUD * 160)
    recorder.close()
    left, _ = sides(tmp_path / "call.wav")
    assert all(left[:4700])
    assert left.count(0) > 7000
