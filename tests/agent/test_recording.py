"""The stereo recording: aligned, cut where playback was, whole when the process dies."""

import errno
import io
import os
from array import array
from pathlib import Path
from typing import Any

import pytest

from anycarrier import wav as wav_module
from anycarrier.agent.recording import Recorder
from anycarrier.wav import WavWriter, read_wav

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


# --- a disk without room ----------------------------------------------------------------------------------------------


class NearlyFull(io.FileIO):
    """A file on a disk with room for so many bytes: the last write takes what fits, the next one is refused."""

    room = 100_000

    def write(self, data: Any) -> int:
        end = self.tell() + len(data)
        if self.tell() >= self.room and end > os.fstat(self.fileno()).st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(bytes(data)[: max(self.room - self.tell(), 44)])


def test_a_disk_that_fills_up_keeps_what_it_took_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nearly_full(path: Path, mode: str, **how: Any) -> Any:
        return NearlyFull(path, mode) if "w" in mode else open(path, mode, **how)

    monkeypatch.setattr(wav_module, "open", nearly_full, raising=False)
    clock, told = Clock(), []
    recorder = Recorder(tmp_path / "call.wav", clock=clock, failed=lambda why, seconds: told.append((why, seconds)))
    talk(recorder, clock, 10.0, LOUD)
    recorder.agent(LOUD * 8000, starts_in=0.0)
    recorder.cut()
    recorder.close()
    left, _ = sides(tmp_path / "call.wav")
    assert len(left) == (NearlyFull.room - 44) // 4 and all(left)
    assert told == [("No space left on device", round(len(left) / 8000, 3))]


@pytest.mark.parametrize("where", ["folder", "file"])
def test_a_recording_that_cannot_even_begin_is_told_and_costs_nothing(tmp_path: Path, where: str) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    path = tmp_path / "taken" / "call.wav" if where == "folder" else tmp_path
    clock, told = Clock(), []
    recorder = Recorder(path, clock=clock, failed=lambda why, seconds: told.append((why, seconds)))
    talk(recorder, clock, 3.0, LOUD)
    recorder.agent(LOUD * 8000, starts_in=0.0)
    recorder.cut()
    recorder.close()
    assert [seconds for _, seconds in told] == [0.0] and max(map(len, recorder._sides)) == 0


def test_what_does_not_fit_at_the_end_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), []
    recorder = Recorder(tmp_path / "call.wav", clock=clock, failed=lambda why, seconds: told.append((why, seconds)))
    talk(recorder, clock, 3.0, LOUD)

    def full(self: WavWriter) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(WavWriter, "flush", full)
    recorder.close()
    assert told[0][0] == "Disk quota exceeded" and told[0][1] >= 1.0 and len(told) == 1
    assert len(sides(tmp_path / "call.wav")[0]) >= 8000
