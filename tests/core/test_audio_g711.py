"""G.711 and linear PCM, against the Recommendation's tables of values rather than against ourselves."""

from __future__ import annotations

import bisect
import importlib
import struct
import sys
import warnings
from itertools import pairwise

import pytest

from anycarrier import audio

EVERY_CODE = bytes(range(256))
# Decision values between segments, tables 2a (mu-law, 14 bits) and 1a (A-law, 13 bits), by the level below.
SEGMENT_EDGES = {
    2: [(15, 31), (31, 95), (47, 223), (63, 479), (79, 991), (95, 2015), (111, 4063)],
    3: [(31, 64), (47, 128), (63, 256), (79, 512), (95, 1024), (111, 2048)],
}
EVERY_SAMPLE = struct.pack("<65536h", *range(-32768, 32768))


@pytest.fixture(params=["numpy", "no numpy"], autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are encoded by numpy in processes that have imported it, and by Python alone in others."""
    monkeypatch.setitem(sys.modules, "numpy", importlib.import_module("numpy") if request.param == "numpy" else None)


def samples(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 2}h", data))


def test_mulaw_decoder_gives_the_values_of_the_recommendation() -> None:
    # Decoder outputs at the top step of each segment, and of the first steps, from G.711 table 2a.
    decoded = samples(audio.pcmu_to_pcm16(EVERY_CODE))
    assert decoded[0x80] == 8031 * 4
    assert [decoded[0xFF - n] // 4 for n in range(17)] == [0, *range(2, 31, 2), 33]
    assert [decoded[code] // 4 for code in (0x8F, 0x9F, 0xAF, 0xBF, 0xCF, 0xDF, 0xEF)] == [
        4191, 2079, 1023, 495, 231, 99, 33,
    ]  # fmt: skip
    assert all(decoded[code] == -decoded[code | 0x80] for code in range(128))


def test_alaw_decoder_gives_the_values_of_the_recommendation() -> None:
    # G.711 table 1a: outputs 1, 3, 5 ... 31, 33 ... 63, 66 ... 4032 on the 13-bit scale, even bits inverted.
    decoded = samples(audio.pcma_to_pcm16(EVERY_CODE))
    positive = [decoded[0xD5 ^ level] // 8 for level in range(128)]
    assert positive[:33] == [*range(1, 64, 2), 66]
    assert positive[127] == 4032
    assert positive[64] == 16 * 16 + 8
    assert all(decoded[code] == -decoded[code | 0x80] for code in range(128))


@pytest.mark.parametrize(
    ("encode", "decode", "shift", "one_complement"),
    [
        (audio.pcm16_to_pcmu, audio.pcmu_to_pcm16, 2, False),
        (audio.pcm16_to_pcma, audio.pcma_to_pcm16, 3, True),
    ],
    ids=["mulaw", "alaw"],
)
def test_every_sample_goes_to_the_interval_the_decision_values_put_it_in(encode, decode, shift, one_complement) -> None:  # type: ignore[no-untyped-def]
    """Within a segment a decision value lies half way between two outputs; between segments the table has it."""
    outputs = sorted({value >> shift for value in samples(decode(EVERY_CODE)) if value >= 0})
    decisions = [(low + high) / 2 for low, high in pairwise(outputs)]
    for place, value in SEGMENT_EDGES[shift]:
        decisions[place] = value
    reached = samples(decode(encode(EVERY_SAMPLE)))
    for sample, value in zip(range(-32768, 32768), reached, strict=True):
        reduced = sample >> shift
        magnitude = reduced if reduced >= 0 else (~reduced if one_complement else -reduced)
        assert abs(value) >> shift == outputs[bisect.bisect_right(decisions, magnitude)]
        assert value == 0 or (value > 0) == (reduced >= 0)


def test_every_sample_and_code_agrees_with_audioop_where_python_still_has_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = pytest.importorskip("audioop", reason="Python 3.13 and later have no audioop to compare with")
    assert audio.pcmu_to_pcm16(EVERY_CODE) == audioop.ulaw2lin(EVERY_CODE, 2)
    assert audio.pcma_to_pcm16(EVERY_CODE) == audioop.alaw2lin(EVERY_CODE, 2)
    assert audio.pcm16_to_pcmu(EVERY_SAMPLE) == audioop.lin2ulaw(EVERY_SAMPLE, 2)
    assert audio.pcm16_to_pcma(EVERY_SAMPLE) == audioop.lin2alaw(EVERY_SAMPLE, 2)


def test_every_code_survives_decoding_and_encoding() -> None:
    back = audio.pcm16_to_pcmu(audio.pcmu_to_pcm16(EVERY_CODE))
    # Mu-law has two zeros; the negative one comes back as the positive one.
    assert [code for code in range(256) if back[code] != code] == [0x7F]
    assert back[0x7F] == 0xFF
    assert audio.pcm16_to_pcma(audio.pcma_to_pcm16(EVERY_CODE)) == EVERY_CODE


def test_mulaw_to_alaw_is_the_nearest_alaw_value() -> None:
    through = samples(audio.pcma_to_pcm16(audio.pcmu_to_pcma(EVERY_CODE)))
    for mu, a in zip(samples(audio.pcmu_to_pcm16(EVERY_CODE)), through, strict=True):
        assert abs(mu - a) <= max(16, abs(mu) // 32)
    assert audio.pcmu_to_pcma(EVERY_CODE) == audio.pcm16_to_pcma(audio.pcmu_to_pcm16(EVERY_CODE))
    assert audio.pcma_to_pcmu(EVERY_CODE) == audio.pcm16_to_pcmu(audio.pcma_to_pcm16(EVERY_CODE))


def test_l16_is_pcm16_with_its_bytes_swapped() -> None:
    assert audio.swap16(b"\x01\x02\x03\x04") == b"\x02\x01\x04\x03"
    assert audio.swap16(audio.swap16(EVERY_SAMPLE)) == EVERY_SAMPLE


@pytest.mark.parametrize("convert", [audio.pcm16_to_pcmu, audio.pcm16_to_pcma, audio.swap16])
def test_half_a_sample_is_refused(convert) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="even number of bytes"):
        convert(b"\x00\x00\x00")
    assert convert(b"") == b""


def test_silence_decodes_to_nothing_or_next_to_it() -> None:
    assert audio.silence(audio.PCMU_8K, 0.02) == b"\xff" * 160
    assert audio.silence(audio.L16_16K, 0.02) == bytes(640)
    assert set(samples(audio.pcmu_to_pcm16(audio.silence(audio.PCMU_8K, 0.1)))) == {0}
    assert set(samples(audio.pcma_to_pcm16(audio.silence(audio.PCMA_8K, 0.1)))) == {8}  # A-law has no zero
