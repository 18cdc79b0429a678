"""A caller's voice for the tests: flite, or espeak where flite is not what is being tested."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from anycarrier.audio import PCMU_8K, Transcoder, silence
from anycarrier.wav import read_wav

pytest.importorskip("anycarrier_speech_local")

Say = Callable[[str], bytes]


@cache
def spoken(text: str, folder: str) -> bytes:
    path = Path(folder, f"{abs(hash(text))}.wav")
    subprocess.run(["flite", "-voice", "rms", "-t", text, "-o", str(path)], check=True)
    format, pcm = read_wav(path)
    line = Transcoder(format, PCMU_8K)
    return line.convert(pcm) + line.flush()


@pytest.fixture(scope="session")
def say(tmp_path_factory: pytest.TempPathFactory) -> Say:
    """``text`` as a telephone caller's voice: PCMU 8 kHz, a little silence around it."""
    if shutil.which("flite") is None:
        if os.environ.get("ANYCARRIER_CI") == "1":
            pytest.fail("flite is not installed, and CI must not skip this: apt-get install flite")
        pytest.skip("the simulated caller is flite: apt-get install flite")
    folder = str(tmp_path_factory.mktemp("caller"))
    return lambda text: silence(PCMU_8K, 0.3) + spoken(text, folder) + silence(PCMU_8K, 0.4)
