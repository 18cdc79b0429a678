"""espeak-ng as a voice: real sound from the real library."""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import suppress
from typing import Any

import pytest

from anycarrier.audio import L16_16K, PCM16_16K, PCMU_8K, pcmu_to_pcm16
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle, Synthesizer, get_speech_engine
from anycarrier_speech_local import EspeakEngine, EspeakSettings
from anycarrier_speech_local.espeak import espeak_library


def loudness(mulaw: bytes) -> float:
    pcm = pcmu_to_pcm16(mulaw)
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    return (sum(s * s for s in samples) / max(1, len(samples))) ** 0.5


async def test_a_sentence_becomes_telephone_audio(opened: Any, record_property: Any) -> None:
    engine = opened(EspeakEngine())
    await engine.start()
    voice = await engine.synthesizer()
    assert isinstance(voice, Synthesizer)
    assert voice.format == PCMU_8K
    began = time.perf_counter()
    first, audio = 0.0, b""
    async for piece in voice.speak("Hello, how can I help you today?"):
        first = first or time.perf_counter() - began
        audio += piece
    assert 1.0 < PCMU_8K.seconds(len(audio)) < 4.0
    assert 1000 < loudness(audio) < 12000
    record_property("first_audio_ms", round(first * 1000, 2))
    print(f"first audio after {first * 1000:.2f} ms")


async def test_the_same_text_in_another_format_is_as_long(opened: Any) -> None:
    engine = opened(EspeakEngine())
    lengths = []
    for format in (PCMU_8K, PCM16_16K, L16_16K):
        voice = await engine.synthesizer(SpeakingStyle(format=format))
        audio = b"".join([piece async for piece in voice.speak("One two three.")])
        lengths.append(format.seconds(len(audio)))
    assert max(lengths) - min(lengths) < 0.01


async def test_speed_and_voice_are_heard(opened: Any) -> None:
    engine = opened(EspeakEngine(EspeakSettings(voice="en-us+f2")))

    async def said(style: SpeakingStyle) -> bytes:
        voice = await engine.synthesizer(style)
        return b"".join([piece async for piece in voice.speak("Good morning to you all.")])

    normal = await said(SpeakingStyle())
    assert len(await said(SpeakingStyle(speed=2.0))) < 0.75 * len(normal)
    assert await said(SpeakingStyle(voice="en-us+m3")) != normal
    assert await said(SpeakingStyle(voice="de")) != normal


async def test_every_sentence_of_a_text_is_spoken(opened: Any) -> None:
    voice = await opened(EspeakEngine()).synthesizer()
    alone, two = [
        PCMU_8K.seconds(sum([len(piece) async for piece in voice.speak(text)]))
        for text in ("Good morning.", "Good morning. How can I help you today?")
    ]
    assert two > alone + 0.8


async def test_closing_the_generator_stops_the_library(opened: Any) -> None:
    engine = opened(EspeakEngine())
    voice = await engine.synthesizer()
    speech = voice.speak("word " * 70)
    assert await anext(speech)
    await speech.aclose()
    # The one library is free for the next at once: a second voice is not kept waiting by the first one's text.
    again = b"".join([piece async for piece in voice.speak("Yes.")])
    assert 0 < PCMU_8K.seconds(len(again)) < 2.0


async def test_closing_the_voice_ends_what_is_being_said(opened: Any) -> None:
    voice = await opened(EspeakEngine()).synthesizer()
    heard = 0
    async for piece in voice.speak("This is the first sentence. " * 50):
        heard += len(piece)
        await voice.aclose()
    assert PCMU_8K.seconds(heard) < 5.0


async def test_many_calls_share_the_library_without_mixing_their_voices(opened: Any) -> None:
    engine = opened(EspeakEngine())
    texts = ["Alpha bravo charlie.", "Delta echo foxtrot golf.", "One."]

    async def said(text: str, voice: str) -> bytes:
        synthesizer = await engine.synthesizer(SpeakingStyle(voice=voice))
        return b"".join([piece async for piece in synthesizer.speak(text)])

    voices = ["en-us", "en-us+f2", "de"]
    alone = [len(await said(text, voice)) for text, voice in zip(texts, voices, strict=True)]
    together = await asyncio.gather(*(said(text, voice) for text, voice in zip(texts, voices, strict=True)))
    # espeak varies a pause by a sample or two from one run to the next; a foreign voice or text is thousands off.
    assert [abs(len(audio) - length) < 80 for audio, length in zip(together, alone, strict=True)] == [True] * 3


async def test_an_unknown_voice_is_refused_before_anything_is_said(opened: Any) -> None:
    with pytest.raises(UnknownVoice, match="no voice 'klingon-9'"):
        await opened(EspeakEngine()).synthesizer(SpeakingStyle(voice="klingon-9"))
    with pytest.raises(UnknownVoice, match="no voice 'tlh-QO'"):
        await opened(EspeakEngine()).synthesizer(SpeakingStyle(language="tlh-QO"))


@pytest.mark.parametrize("codes", ["de-DE de", "en_GB en", "pt-PT pt", "zh-CN cmn", "no-NO nb", "es-419 es-419"])
async def test_a_language_with_its_region_is_spoken_as_near_as_espeak_has_it(codes: str, opened: Any) -> None:
    asked, had = codes.split()
    engine = opened(EspeakEngine())

    async def said(style: SpeakingStyle) -> int:
        voice = await engine.synthesizer(style)
        return sum([len(piece) async for piece in voice.speak("Hotel, taxi, radio.")])

    assert abs(await said(SpeakingStyle(language=asked)) - await said(SpeakingStyle(voice=had))) < 400


@pytest.mark.parametrize("language", ["en", "en-US", "de_AT", "pt-BR", "zh-TW", "no", "German", "tlh-QO", "xx", "qu"])
async def test_which_languages_espeak_knows_is_told_as_a_call_would_find(language: str, opened: Any) -> None:
    engine = opened(EspeakEngine())
    try:
        await engine.synthesizer(SpeakingStyle(language=language))
    except UnknownVoice:
        assert not engine.knows_language("speak", language)
    else:
        assert engine.knows_language("speak", language)


@pytest.mark.parametrize(
    "voice", ["de", "en-us+f2", "EN-US+Andrea", "German", "klingon-9", "heart", "en-us+f9", "en-us+", "f2", ""]
)
async def test_which_voices_espeak_has_is_told_as_a_call_would_find(voice: str, opened: Any) -> None:
    engine = opened(EspeakEngine())
    knows = engine.knows_voice(voice)
    assert knows is (voice in ("de", "en-us+f2", "EN-US+Andrea", "German"))
    if knows:
        await engine.synthesizer(SpeakingStyle(voice=voice))
    elif voice:
        with pytest.raises(UnknownVoice):
            await engine.synthesizer(SpeakingStyle(voice=voice))


@pytest.mark.parametrize("name", ["en-us+" + "x" * 80, "x" * 10_000, "../lang/gmw/de", "gmw", "en\0"])
async def test_a_name_that_the_library_must_not_see_is_refused(name: str, opened: Any) -> None:
    """A variant of eighty characters aborts the process."""
    engine = opened(EspeakEngine())
    with pytest.raises(UnknownVoice):
        await engine.synthesizer(SpeakingStyle(voice=name))
    with suppress(UnknownVoice):  # or spoken as English
        await engine.synthesizer(SpeakingStyle(language=name))


async def test_a_variant_is_heard_however_its_name_is_written(opened: Any) -> None:
    async def said(voice: str) -> bytes:
        synthesizer = await opened(EspeakEngine()).synthesizer(SpeakingStyle(voice=voice))
        return b"".join([piece async for piece in synthesizer.speak("Hotel, taxi, radio.")])

    plain, variant = len(await said("en-us")), len(await said("en-us+uniROBOT"))
    assert abs(plain - variant) > 400


async def test_a_closed_engine_says_so() -> None:
    engine = EspeakEngine()
    voice = await engine.synthesizer()
    await engine.aclose()
    with pytest.raises(SpeechFailed, match="closed"):
        await anext(voice.speak("Too late."))


async def test_nothing_to_say_is_no_sound(opened: Any) -> None:
    voice = await opened(EspeakEngine()).synthesizer()
    assert [piece async for piece in voice.speak(" ... *** \n")] == []


def test_the_engines_are_found_by_name() -> None:
    assert get_speech_engine("espeak") is EspeakEngine
    assert get_speech_engine("pocketsphinx").abilities == {"listen"}
    assert get_speech_engine("silero").abilities == {"detect"}


async def test_a_voice_reads_by_the_rules_of_its_own_language(opened: Any, monkeypatch: Any) -> None:
    """An agent's language may be English while its voice is German: the voice decides."""
    library, read = espeak_library(), list[str]()
    monkeypatch.setattr(library, "synthesize", lambda text, *rest: read.append(text))
    engine = opened(EspeakEngine())
    for voice in ("de", "en-us+f2"):
        synthesizer = await engine.synthesizer(SpeakingStyle(voice=voice))
        async for _ in synthesizer.speak("12 kg"):
            pass
    assert read == ["12 kg", "twelve kilograms"]
