"""The spectrogram against its definition, computed another way: one window and one mel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("anycarrier_speech_whisper")

from anycarrier_speech_whisper.features import RATE, Samples, log_mel, padded


def tone(hertz: float, seconds: float = 1.0, level: float = 0.5) -> Samples:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def mel(hertz: float) -> float:
    """Slaney's scale: 3 mels for each 200 Hz up to 1 kHz, then 27 for each factor of 6.4."""
    return 3 * hertz / 200 if hertz <= 1000 else 15 + 27 * math.log(hertz / 1000, 6.4)


def hertz(of: float) -> float:
    return of * 200 / 3 if of <= 15 else 1000 * 6.4 ** ((of - 15) / 27)


def one_value(samples: Samples, frame: int, row: int, mels: int) -> float:
    """The log energy of one mel in one window, before clamping and scaling."""
    window = samples[frame * 160 - 200 : frame * 160 + 200]
    left, middle, right = (hertz(mel(8000) * (row + corner) / (mels + 1)) for corner in range(3))
    energy = 0.0
    for k in range(201):
        shaped = [x * math.sin(math.pi * n / 400) ** 2 for n, x in enumerate(window)]
        real = sum(x * math.cos(2 * math.pi * k * n / 400) for n, x in enumerate(shaped))
        imaginary = sum(x * math.sin(2 * math.pi * k * n / 400) for n, x in enumerate(shaped))
        weight = min((k * 40 - left) / (middle - left), (right - k * 40) / (right - middle))
        energy += max(0.0, weight) * 2 / (right - left) * (real**2 + imaginary**2)
    return math.log10(max(energy, 1e-10))


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize(("frame", "row"), [(20, 5), (50, 30), (70, 60)])
def test_each_value_is_what_the_definition_gives(mels: int, frame: int, row: int) -> None:
    noise = np.random.default_rng(7).normal(0, 0.1, RATE).astype(np.float32)
    features = log_mel(noise, mels)
    assert features.shape == (mels, 100)
    assert features[row, frame] == pytest.approx((one_value(noise, frame, row, mels) + 4) / 4, abs=1e-3)


def test_a_tone_is_loudest_in_its_mel_and_the_rest_is_cut_eight_decades_below() -> None:
    features = log_mel(tone(1000.0))
    loudest = int(features[:, 50].argmax())
    assert abs(loudest + 1 - 81 * mel(1000) / mel(8000)) <= 1
    assert features.max() - features.min() == pytest.approx(8 / 4, abs=1e-5)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 1), (160, 1), (161, 2), (RATE, 100)])
def test_there_is_one_value_for_each_ten_milliseconds(samples: int, frames: int) -> None:
    features = log_mel(np.zeros(samples, np.float32))
    assert features.shape == (80, frames)
    assert np.isfinite(features).all()


def test_a_context_is_filled_with_zeros_and_never_longer_than_the_model_hears() -> None:
    features = log_mel(tone(440.0))
    twelve = padded(features, 12.0)
    assert twelve.shape == (80, 1200)
    assert (twelve[:, :100] == features).all()
    assert not twelve[:, 100:].any()
    assert padded(features, 1.013).shape == (80, 102)  # even, since the encoder halves it
    assert padded(log_mel(tone(440.0, 31.0)), 40.0).shape == (80, 3000)
