"""Deepgram's speak socket, against the stand-in of conftest.py."""

from __future__ import annotations

from typing import Any

import pytest

from anycarrier.audio import L16_16K, PCMA_8K, AudioFormat
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle, Synthesizer
from anycarrier_speech_deepgram import speaking
from anycarrier_speech_deepgram.wire import LONGEST_TEXT, pieces

from .conftest import FakeDeepgram


async def said(voice: Synthesizer, text: str) -> bytes:
    return b"".join([piece async for piece in voice.speak(text)])


async def test_text_becomes_telephone_audio_on_one_connection(deepgram: FakeDeepgram, engine: Any) -> None:
    voice = await engine().synthesizer(SpeakingStyle(speed=1.2))
    assert isinstance(voice, Synthesizer)
    for _ in range(2):
        assert await said(voice, "Hello.") == b"\x11" * 800 + b"\x22" * 800
    assert deepgram.messages == ["Speak Hello.", "Flush"] * 2
    assert [dict(query) for query in deepgram.queries] == [
        {"model": "aura-2-thalia-en", "encoding": "mulaw", "sample_rate": "8000", "speed": "1.2"}
    ]
    await voice.aclose()
    await deepgram.until(lambda: deepgram.messages[-1] == "Close")


@pytest.mark.parametrize(
    ("format", "asked"),
    [
        (PCMA_8K, ("alaw", "8000")),
        (L16_16K, ("linear16", "16000")),
        (AudioFormat("PCM16", 11025), ("linear16", "24000")),
    ],
)
async def test_the_format_is_asked_for_or_made(
    deepgram: FakeDeepgram, engine: Any, format: AudioFormat, asked: tuple[str, str]
) -> None:
    voice = await engine().synthesizer(SpeakingStyle(voice="aura-2-zeus-en", format=format))
    audio = await said(voice, "Hello.")
    query = dict(deepgram.queries[0])
    assert (query["encoding"], query["sample_rate"], query["model"]) == (*asked, "aura-2-zeus-en")
    source = AudioFormat("PCMA" if asked[0] == "alaw" else "PCM16", int(asked[1]))
    assert format.seconds(len(audio)) == pytest.approx(source.seconds(1600), abs=0.001)
    await voice.aclose()


async def test_an_interruption_clears_and_nothing_of_it_reaches_the_next_text(
    deepgram: FakeDeepgram, engine: Any
) -> None:
    voice = await engine().synthesizer()
    speech = voice.speak("A long story.")
    assert await anext(speech) == b"\x11" * 800
    await speech.aclose()
    await deepgram.until(lambda: deepgram.messages[-1] == "Clear")
    deepgram.sound = [b"\x33" * 160]
    assert await said(voice, "Sorry?") == b"\x33" * 160
    assert len(deepgram.queries) == 1
    await voice.aclose()


async def test_a_clear_that_is_not_confirmed_costs_the_connection(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "CLEARING", 0.05)
    deepgram.clears = False
    voice = await engine().synthesizer()
    speech = voice.speak("A long story.")
    await anext(speech)
    await speech.aclose()
    deepgram.sound = [b"\x33" * 160]
    assert await said(voice, "Sorry?") == b"\x33" * 160
    assert len(deepgram.queries) == 2
    await voice.aclose()


async def test_a_connection_lost_before_the_first_sound_is_made_again(deepgram: FakeDeepgram, engine: Any) -> None:
    voice = await engine().synthesizer()
    deepgram.hang_up_after_text = 1
    assert await said(voice, "Hello.") == b"\x11" * 800 + b"\x22" * 800
    assert len(deepgram.queries) == 2
    deepgram.hang_up_after_text = 2
    with pytest.raises(SpeechFailed, match="connection was lost"):
        await said(voice, "Hello.")
    assert await said(voice, "Again.") == b"\x11" * 800 + b"\x22" * 800
    await voice.aclose()


async def test_no_sound_in_time_is_a_failure(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.sound, deepgram.pause = [b"\x11" * 160, b"\x22" * 160], 60
    voice = await engine(speech_timeout=0.05).synthesizer()
    with pytest.raises(SpeechFailed, match="no sound"):
        await said(voice, "Hello.")
    await voice.aclose()


async def test_past_the_limit_on_flushes_the_text_is_still_heard_to_its_end(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speaking, "AFTER_WARNING", 0.05)
    deepgram.warns = True
    voice = await engine().synthesizer()
    assert await said(voice, "Hello.") == b"\x11" * 800 + b"\x22" * 800
    await voice.aclose()


@pytest.mark.parametrize("header", [True, False])
async def test_a_voice_it_has_not_is_told_from_other_refusals(
    deepgram: FakeDeepgram, engine: Any, header: bool
) -> None:
    deepgram.unknown_models, deepgram.says_why_in_a_header = {"aura-2-helios-en"}, header
    with pytest.raises(UnknownVoice, match="deepgram has no voice 'aura-2-helios-en'"):
        await engine().synthesizer(SpeakingStyle(voice="aura-2-helios-en"))
    # The operator's own model is no agent's voice: nothing to fall back to.
    with pytest.raises(SpeechFailed, match=r"No such model.* Check model, language and URL"):
        await engine(speak_model="aura-2-helios-en").synthesizer()
    deepgram.refuse = [400]
    with pytest.raises(SpeechFailed, match="HTTP 400"):
        await engine().synthesizer(SpeakingStyle(voice="aura-2-thalia-en"))


@pytest.mark.parametrize(
    ("language", "speak_model", "model"),
    [
        ("en-GB", "aura-2-zeus-en", "aura-2-zeus-en"),
        ("de", "aura-2-zeus-en", "aura-2-viktoria-de"),
        ("de", "aura-2-kara-de", "aura-2-kara-de"),
        ("cy", "our-own-model", "our-own-model"),
    ],
)
async def test_an_agent_speaks_its_language(
    deepgram: FakeDeepgram, engine: Any, language: str, speak_model: str, model: str
) -> None:
    made = engine(speak_model=speak_model)
    assert made.knows_language("speak", language)
    await (await made.synthesizer(SpeakingStyle(language=language, speed=3.0))).aclose()
    assert dict(deepgram.queries[0])["model"] == model and dict(deepgram.queries[0])["speed"] == "1.5"


async def test_a_language_without_a_voice_is_refused_unless_the_agent_names_one(
    deepgram: FakeDeepgram, engine: Any
) -> None:
    assert not engine().knows_language("speak", "cy") and engine().knows_language("listen", "cy")
    with pytest.raises(UnknownVoice, match="deepgram has no voice 'cy'"):
        await engine().synthesizer(SpeakingStyle(language="cy"))
    await (await engine().synthesizer(SpeakingStyle(language="cy", voice="our-own-model"))).aclose()


async def test_nothing_to_say_asks_nothing(deepgram: FakeDeepgram, engine: Any) -> None:
    voice = await engine().synthesizer()
    assert await said(voice, "  \n") == b""
    assert deepgram.messages == []
    await voice.aclose()


def test_long_texts_are_cut_at_sentences_and_nothing_is_lost() -> None:
    text = "This is a sentence of some length. " * 200
    cut = pieces(text)
    assert all(len(piece) <= LONGEST_TEXT and piece.endswith(".") for piece in cut)
    assert " ".join(cut) == text.strip()
    assert "".join(pieces("x" * 4000)) == "x" * 4000


async def test_a_check_is_a_login_without_a_word(deepgram: FakeDeepgram, engine: Any) -> None:
    await engine().check()
    with pytest.raises(SpeechFailed, match=r"deepgram .* Check the API key"):
        await engine(api_key="not-the-key").check()
    assert deepgram.messages == [] or "Speak" not in str(deepgram.messages)
