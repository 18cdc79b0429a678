"""WAV files: readable by others, by us, and after a crash."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import wave
from pathlib import Path

import pytest

from anycarrier.audio import PCM16_8K, PCMU_8K, AudioFormat
from anycarrier.wav import WavWriter, read_wav, repair_wav, wav_bytes


def test_what_is_written_is_read_by_the_standard_library(tmp_path: Path) -> None:
    audio = bytes(range(256)) * 100
    with WavWriter(tmp_path / "a.wav", channels=2) as wav:
        for at in range(0, len(audio), 320):
            wav.write(audio[at : at + 320])
        assert wav.seconds == len(audio) / 4 / 8000
    with wave.open(str(tmp_path / "a.wav")) as read:
        assert (read.getnchannels(), read.getframerate(), read.getsampwidth()) == (2, 8000, 2)
        assert read.readframes(read.getnframes()) == audio
    assert read_wav(tmp_path / "a.wav") == (AudioFormat("PCM16", 8000, 2), audio)


def test_a_process_killed_while_writing_leaves_every_whole_second(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    code = textwrap.dedent(
        """
        import os, signal, sys
        from anycarrier.wav import WavWriter
        wav = WavWriter(sys.argv[1])
        for _ in range(175):
            wav.write(bytes([1, 0]) * 160)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    died = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    with wave.open(str(path)) as read:
        assert read.getnframes() == 3 * 8000  # 3.5 s were given; the half second was in memory
    assert repair_wav(path) == 3.0


def test_a_file_that_lost_its_last_header_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with WavWriter(path) as wav:
        wav.write(bytes(2 * 8000))
    with open(path, "ab") as file:
        file.write(b"\x05\x00" * 4000 + b"\x01")
    assert read_wav(path)[1] == bytes(2 * 8000)
    assert repair_wav(path) == 1.5
    assert read_wav(path)[1] == bytes(2 * 8000) + b"\x05\x00" * 4000
    assert os.stat(path).st_size == 44 + 3 * 8000


def test_memory_never_holds_more_than_a_second(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    wav = WavWriter(path)
    for _ in range(300):
        wav.write(bytes(320))
        assert wav.seconds - (os.stat(path).st_size - 44) / 16000 < 1.0
    wav.close()
    wav.close()
    assert os.stat(path).st_size == 44 + 300 * 320


def test_mulaw_chunks_before_the_audio_and_cut_files_are_read() -> None:
    head = struct.pack("<4sIHHIIHH", b"fmt ", 18, 7, 1, 8000, 8000, 1, 8) + b"\x00\x00"
    listing = b"LIST" + struct.pack("<I", 3) + b"abc\x00"
    data = b"RIFF\x00\x00\x00\x00WAVE" + listing + head + b"data" + struct.pack("<I", 1000) + b"\xff" * 400
    assert read_wav(data) == (PCMU_8K, b"\xff" * 400)


def test_bytes_of_a_whole_file() -> None:
    assert read_wav(wav_bytes(b"\x01\x02" * 10, PCM16_8K)) == (PCM16_8K, b"\x01\x02" * 10)
    with pytest.raises(ValueError, match="PCM16 first"):
        wav_bytes(b"\xff", PCMU_8K)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"RIFF\x00\x00\x00\x00WAVEdata\x04\x00\x00\x00abcd",
        b"RIFF\0\0\0\0WAVE" + struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32) + b"data\0\0\0\0",
        b"ID3\x03 not a wav at all",
    ],
)
def test_what_is_no_wav_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="WAV"):
        read_wav(data)


def test_a_cut_frame_is_refused(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "a.wav", channels=2) as wav, pytest.raises(ValueError, match="whole frames"):
        wav.write(b"\x00\x00")
    with pytest.raises(ValueError, match="one channel or two"):
        WavWriter(tmp_path / "b.wav", channels=3)
