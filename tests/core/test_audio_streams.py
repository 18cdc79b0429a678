"""Resampling and transcoding: what goes in as a tone comes out as that tone, wherever the chunks are cut."""

from __future__ import annotations

import math
import random
import struct
import subprocess
import sys
from itertools import pairwise, product

import pytest

from anycarrier.audio import (
    L16_8K,
    L16_16K,
    PCM16_8K,
    PCM16_16K,
    PCMA_8K,
    PCMU_8K,
    AudioFormat,
    Resampler,
    Transcoder,
    pcm16_to_pcmu,
    pcmu_to_pcm16,
    silence,
    swap16,
)
from anycarrier.resampling import Engine

PAIRS = [(8000, 16000), (16000, 8000), (22050, 8000), (24000, 8000), (8000, 24000), (48000, 8000), (8000, 11025)]


def sine(rate: int, frequency: float, seconds: float, peak: int = 12000) -> bytes:
    count = round(rate * seconds)
    return struct.pack(f"<{count}h", *(round(peak * math.sin(math.tau * frequency * n / rate)) for n in range(count)))


def samples(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 2}h", data))


def snr(data: bytes, rate: int, frequency: float, peak: int = 12000) -> float:
    """Decibels between the sine that should be there and all that should not, edges left out."""
    heard = samples(data)
    inner = range(len(heard) // 5, len(heard) * 4 // 5)
    wanted = [peak * math.sin(math.tau * frequency * n / rate) for n in inner]
    error = sum((heard[n] - w) ** 2 for n, w in zip(inner, wanted, strict=True))
    return 10 * math.log10(sum(w * w for w in wanted) / max(error, 1e-9))


def engines() -> list[Engine]:
    return ["python", "numpy", "soxr"]


@pytest.fixture(params=engines())
def engine(request: pytest.FixtureRequest) -> Engine:
    name: Engine = request.param
    if name != "python":
        pytest.importorskip(name)
    return name


@pytest.mark.parametrize(("rate_in", "rate_out"), PAIRS)
def test_a_sine_comes_out_as_the_same_sine(engine: Engine, rate_in: int, rate_out: int) -> None:
    resampler = Resampler(rate_in, rate_out, engine=engine)
    out = resampler.convert(sine(rate_in, 1000, 0.4)) + resampler.flush()
    assert abs(len(out) // 2 - 0.4 * rate_out) <= 1
    assert snr(out, rate_out, 1000) > 75


@pytest.mark.parametrize("frequency", [300, 3000])
def test_the_telephone_band_passes(engine: Engine, frequency: int) -> None:
    for rate_in, rate_out in ((24000, 8000), (8000, 16000)):
        resampler = Resampler(rate_in, rate_out, engine=engine)
        assert snr(resampler.convert(sine(rate_in, frequency, 0.4)) + resampler.flush(), rate_out, frequency) > 30


def test_what_the_lower_rate_cannot_carry_is_filtered_out(engine: Engine) -> None:
    resampler = Resampler(24000, 8000, engine=engine)
    heard = samples(resampler.convert(sine(24000, 5200, 0.3)) + resampler.flush())
    assert max(map(abs, heard[200:-200])) < 12000 * 0.002


def test_cutting_the_stream_anywhere_changes_nothing(engine: Engine) -> None:
    whole = sine(22050, 700, 0.3)
    at_once = Resampler(22050, 8000, engine=engine)
    expected = at_once.convert(whole) + at_once.flush()
    cuts = random.Random(7)
    resampler = Resampler(22050, 8000, engine=engine)
    out, at = b"", 0
    while at < len(whole):
        size = 2 * cuts.choice([0, 1, 2, 5, 160, 441])
        out += resampler.convert(whole[at : at + size])
        at += size
    out += resampler.flush()
    assert len(out) == len(expected)
    assert max(abs(a - b) for a, b in zip(samples(out), samples(expected), strict=True)) <= 2


def test_numpy_and_python_give_the_same_samples() -> None:
    pytest.importorskip("numpy")
    noise = random.Random(3)
    data = struct.pack("<4000h", *(noise.randrange(-32768, 32768) for _ in range(4000)))
    for rate_in, rate_out in PAIRS:
        python, vector = (Resampler(rate_in, rate_out, engine=name) for name in ("python", "numpy"))
        a, b = python.convert(data) + python.flush(), vector.convert(data) + vector.flush()
        assert len(a) == len(b)
        assert max(abs(x - y) for x, y in zip(samples(a), samples(b), strict=True)) <= 2


@pytest.mark.parametrize("name", ["python", "numpy"])
def test_a_live_stream_is_held_back_less_than_three_milliseconds(name: Engine) -> None:
    if name == "numpy":
        pytest.importorskip("numpy")
    for rate_in, rate_out in PAIRS:
        resampler, given, taken = Resampler(rate_in, rate_out, engine=name), 0.0, 0.0
        for _ in range(10):
            taken += rate_in // 50 / rate_in
            given += len(resampler.convert(bytes(rate_in // 50 * 2))) / 2 / rate_out
            assert taken - given < 0.003


def test_after_a_flush_a_new_stream_begins(engine: Engine) -> None:
    resampler = Resampler(16000, 8000, engine=engine)
    tone = sine(16000, 500, 0.2)
    first = resampler.convert(tone) + resampler.flush()
    assert resampler.convert(tone) + resampler.flush() == first
    assert resampler.flush() == b""


def test_full_scale_is_clipped_and_never_wraps(engine: Engine) -> None:
    square = struct.pack("<1600h", *([32767] * 40 + [-32768] * 40) * 20)
    resampler = Resampler(8000, 16000, engine=engine)
    heard = samples(resampler.convert(square) + resampler.flush())
    jumps = sum(abs(a - b) > 60000 for a, b in pairwise(heard))
    assert jumps == 0


def test_an_absent_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(ModuleNotFoundError, match="pip install soxr"):
        Resampler(8000, 16000, engine="soxr")


def test_nonsense_rates_and_half_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        Resampler(0, 8000)
    with pytest.raises(ValueError, match="even number"):
        Resampler(8000, 16000).convert(b"\x00")


# --- transcoder ------------------------------------------------------------------------------------------------------

def _name(format: AudioFormat) -> str:
    return f"{format.encoding}/{format.rate}"


FORMATS = [PCMU_8K, PCMA_8K, L16_8K, PCM16_8K, L16_16K, PCM16_16K, AudioFormat("PCM16", 24000)]


@pytest.mark.parametrize(("source", "target"), list(product(FORMATS, FORMATS)), ids=_name)
def test_a_tone_survives_any_change_of_format(source: AudioFormat, target: AudioFormat) -> None:
    there = Transcoder(AudioFormat("PCM16", source.rate), source)
    spoken = there.convert(sine(source.rate, 440, 0.3))
    transcoder = Transcoder(source, target)
    changed = transcoder.convert(spoken) + transcoder.flush()
    back = Transcoder(target, AudioFormat("PCM16", target.rate)).convert(changed)
    assert snr(back, target.rate, 440) > 30
    assert abs(target.seconds(len(changed)) - 0.3) < 0.001


def test_the_same_format_is_passed_on_untouched() -> None:
    transcoder = Transcoder(L16_16K, L16_16K)
    chunk = b"\x01\x02\x03"
    assert transcoder.is_identity
    assert transcoder.convert(chunk) is chunk
    assert transcoder.flush() == b""


def test_half_a_sample_waits_for_its_other_half() -> None:
    pcm = sine(8000, 440, 0.05)
    transcoder = Transcoder(PCM16_8K, PCMU_8K)
    out = b"".join(transcoder.convert(pcm[n : n + 1]) for n in range(len(pcm)))
    assert out == pcm16_to_pcmu(pcm)
    cut = Transcoder(L16_8K, PCM16_8K)
    big = swap16(pcm)
    assert cut.convert(big[:3]) + cut.convert(big[3:8]) + cut.convert(big[8:]) == pcm


def test_stereo_changes_encoding_and_nothing_else() -> None:
    both = bytes(range(256))
    stereo = Transcoder(AudioFormat("PCMU", 8000, 2), AudioFormat("PCM16", 8000, 2))
    assert stereo.convert(both) == pcmu_to_pcm16(both)
    with pytest.raises(ValueError, match="channels"):
        Transcoder(AudioFormat("PCMU", 8000, 2), PCM16_8K)
    with pytest.raises(ValueError, match="one channel"):
        Transcoder(AudioFormat("PCM16", 8000, 2), AudioFormat("PCM16", 16000, 2))


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(ValueError, match="'OPUS'"):
        Transcoder(AudioFormat("OPUS", 48000), PCMU_8K)


def test_silence_stays_silent_through_every_format() -> None:
    for source, target in product(FORMATS, FORMATS):
        transcoder = Transcoder(source, target)
        out = transcoder.convert(silence(source, 0.1)) + transcoder.flush()
        heard = samples(Transcoder(target, AudioFormat("PCM16", target.rate)).convert(out))
        assert max(map(abs, heard)) <= 12  # A-law has no zero: its silence is an 8


def test_importing_anycarrier_audio_loads_neither_numpy_nor_soxr() -> None:
    code = (
        "import sys, anycarrier.audio, anycarrier.audio, anycarrier.wav;"
        "print(sorted({'numpy', 'soxr'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("format", [PCMU_8K, L16_16K, AudioFormat("PCM16", 48000, 2)])
def test_the_size_of_some_seconds_is_whole_samples_and_sounds_as_long(format: AudioFormat) -> None:
    sample = format.sample_width * format.channels
    for seconds in (0.0, 0.02, 0.1000001, 1.5):
        size = format.size(seconds)
        assert size % sample == 0
        assert abs(format.seconds(size) - seconds) <= 0.5 / format.rate
        assert len(silence(format, seconds)) == size
