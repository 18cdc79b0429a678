"""The files of hibari's voices: missing, cut, altered, and put in place by somebody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle

pytest.importorskip("anycarrier_speech_hibari")
from hibari import voices as registry

from anycarrier_speech_hibari import HibariEngine, HibariSettings, voices


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not loaded anything yet."""
    monkeypatch.setattr(voices, "_models", {})
    voices._registry.cache_clear()
    yield
    voices._registry.cache_clear()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None) -> Path:
    """The installed distribution's files, copied to where they may be damaged."""
    distribution = metadata.distribution("hibari-tts")
    here = Path(str(distribution.locate_file("")))
    for folder in ("hibari/assets", f"hibari_tts-{distribution.version}.dist-info"):
        shutil.copytree(here / folder, tmp_path / folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "hibari/assets"


async def failure_of(engine: HibariEngine) -> str:
    with pytest.raises(SpeechFailed) as caught:
        await engine.start()
    with pytest.raises(SpeechFailed):
        await engine.synthesizer()
    await engine.aclose()
    return str(caught.value)


async def test_a_whole_distribution_is_accepted(installed: Path) -> None:
    voices.verify_distribution()


@pytest.mark.parametrize("name", ["hibari.onnx", "lexicon_us_gold.json.gz", "oov.onnx"])
async def test_a_missing_file_is_named_with_the_command_that_brings_it(name: str, installed: Path) -> None:
    (installed / name).unlink()
    told = await failure_of(HibariEngine())
    assert f"{installed / name} cannot be read" in told
    assert "bytes with the SHA-256" in told
    assert "pip install --force-reinstall --no-deps hibari-tts==" in told


async def test_a_cut_file_is_told_by_its_length(installed: Path) -> None:
    whole = (installed / "hibari.onnx").read_bytes()
    (installed / "hibari.onnx").write_bytes(whole[:1000])
    told = await failure_of(HibariEngine())
    assert f"hibari.onnx has 1,000 bytes; expected {len(whole):,} bytes with the SHA-256 5f70741d4e90" in told


async def test_an_altered_file_is_told_by_its_checksum(installed: Path) -> None:
    whole = bytearray((installed / "tagger.json.gz").read_bytes())
    whole[5000] ^= 1
    (installed / "tagger.json.gz").write_bytes(whole)
    assert "tagger.json.gz was altered" in await failure_of(HibariEngine())


async def test_a_distribution_that_is_not_there(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "DISTRIBUTION", "no-such-distribution")
    assert "no-such-distribution is not installed. Run: pip install" in await failure_of(HibariEngine())


# --- other voices ----------------------------------------------------------------------------------------------------


async def refusal(voice: str, folder: Path | None = None) -> str:
    engine = HibariEngine(HibariSettings(voices=folder))
    try:
        with pytest.raises(UnknownVoice) as caught:
            await engine.synthesizer(SpeakingStyle(voice=voice))
    finally:
        await engine.aclose()
    return str(caught.value)


async def test_a_voice_whose_file_is_not_there_is_never_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "download", lambda *args: pytest.fail("it downloads"))
    told = await refusal("emma", tmp_path)
    assert f"expected at {tmp_path / 'bf_emma.int8.onnx'}" in told
    assert f'HIBARI_HOME={tmp_path} hibari --voice emma -o test.wav "Hello"' in told
    assert "Voices whose file is here: heart" in told


async def test_without_a_setting_voices_are_expected_in_hibaris_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIBARI_HOME", str(tmp_path))
    assert f"expected at {tmp_path / 'bm_fable.int8.onnx'}" in await refusal("fable")


async def test_a_voice_that_nobody_has_is_refused_with_the_names(tmp_path: Path) -> None:
    assert "It has heart, emma, fenrir, fable, kore" in await refusal("klingon-9", tmp_path)


async def test_an_altered_voice_fails_and_the_others_go_on_speaking(tmp_path: Path, unloaded: None) -> None:
    shutil.copy(registry.voice_path("heart"), tmp_path / "bf_emma.int8.onnx")
    engine = HibariEngine(HibariSettings(voices=tmp_path))
    await engine.start()
    with pytest.raises(SpeechFailed, match=r"bf_emma.int8.onnx was altered; .* Run: HIBARI_HOME="):
        await engine.synthesizer(SpeakingStyle(voice="Emma"))
    await engine.synthesizer(SpeakingStyle(voice="HEART"))
    await engine.aclose()


async def test_a_british_voice_reads_as_the_british_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unloaded: None
) -> None:
    """The American model stands in for the file, which is in no package: what is tested is how it is read."""
    shutil.copy(registry.voice_path("heart"), tmp_path / "bf_emma.int8.onnx")
    monkeypatch.setitem(registry.VOICES["emma"], "sha256", registry.VOICES["heart"]["sha256"])
    british, american = voices.load("emma", tmp_path), voices.load("heart", tmp_path)
    assert british.phonemize("A tomato, rather.") != american.phonemize("A tomato, rather.")
    assert voices.load("emma", tmp_path) is british
    engine = HibariEngine(HibariSettings(voice="emma", voices=tmp_path))
    await engine.start()
    voice = await engine.synthesizer(SpeakingStyle(language="en-GB"))
    assert [chunk async for chunk in voice.speak("Hello.")]
    await engine.aclose()
