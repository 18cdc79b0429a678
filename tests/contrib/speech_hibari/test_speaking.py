"""hibari as a voice: real sound from the real model."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from anycarrier.audio import PCM16_8K, PCM16_16K, PCMU_8K
from anycarrier.errors import SpeechFailed, UnknownVoice
from anycarrier.speech import SpeakingStyle, get_speech_engine

pytest.importorskip("anycarrier_speech_hibari")
from anycarrier_speech_hibari import HibariEngine, HibariSettings
from anycarrier_speech_hibari.engine import SentenceQueue
from anycarrier_speech_hibari.sound import pieces

GREETING = "Hello, how can I help you today?"


async def said(engine: HibariEngine, text: str, style: SpeakingStyle | None = None) -> bytes:
    voice = await engine.synthesizer(style)
    return b"".join([chunk async for chunk in voice.speak(text)])


async def occupied(engine: HibariEngine) -> tuple[asyncio.Future[bytes | None], threading.Event]:
    """Keep the engine's one thread busy until the event is set; the future is then done."""
    going, begun = threading.Event(), threading.Event()

    def slow() -> Iterator[bytes]:
        begun.set()
        assert going.wait(60)
        yield b""

    busy = engine._queue.put(slow(), first=True)
    assert await asyncio.to_thread(begun.wait, 60)
    return asyncio.wrap_future(busy), going


def loud(pcm: bytes) -> list[int]:
    """Where samples are audible."""
    return [at for at, sample in enumerate(struct.unpack(f"<{len(pcm) // 2}h", pcm)) if abs(sample) > 300]


async def test_the_same_text_is_the_same_audio(opened: Any) -> None:
    engine = opened(HibariEngine())
    first = await said(engine, GREETING)
    assert 1.0 < PCMU_8K.seconds(len(first)) < 4.0
    assert await said(engine, GREETING) == first
    assert await said(opened(HibariEngine()), GREETING) == first


async def test_the_first_sound_comes_at_once_and_a_sentence_ends_with_a_short_pause(opened: Any) -> None:
    audio = await said(opened(HibariEngine()), GREETING, SpeakingStyle(format=PCM16_8K))
    audible = loud(audio)
    assert audible[0] < 0.1 * 8000
    assert 0.1 * 8000 < len(audio) // 2 - audible[-1] < 0.5 * 8000
    assert max(abs(s) for s in struct.unpack(f"<{len(audio) // 2}h", audio)) < 32000


async def test_speed_is_heard_and_kept_within_what_the_model_can(opened: Any) -> None:
    engine = opened(HibariEngine(HibariSettings(speed=0.5)))
    normal = len(await said(engine, GREETING, SpeakingStyle(speed=2.0)))
    assert len(await said(engine, GREETING, SpeakingStyle(speed=4.0))) < 0.75 * normal
    assert len(await said(engine, GREETING, SpeakingStyle(speed=1.0))) > 1.5 * normal
    assert await said(engine, GREETING, SpeakingStyle(speed=0.3)) == await said(engine, GREETING)


async def test_other_languages_are_refused_with_their_name(opened: Any) -> None:
    engine = opened(HibariEngine())
    for language in ("en", "en-US", "en_gb", "EN-AU"):
        assert engine.knows_language("speak", language)
        await engine.synthesizer(SpeakingStyle(language=language))
    for language in ("de-DE", "zh", "eng-x", ""):
        assert not engine.knows_language("speak", language)
        with pytest.raises(UnknownVoice, match=f"'{language}'. It speaks English only"):
            await engine.synthesizer(SpeakingStyle(language=language))


async def test_which_voices_it_has_is_told_by_their_files(opened: Any, tmp_path: Path) -> None:
    engine = opened(HibariEngine(HibariSettings(voices=tmp_path)))
    assert engine.knows_voice("heart") and engine.knows_voice("Heart")
    for voice in ("en-us+f2", "nobody", "kore", ""):
        assert not engine.knows_voice(voice)
    file = import_module("hibari.voices").VOICES["kore"]["file"]
    (tmp_path / file).write_bytes(b"")
    assert engine.knows_voice("kore")


async def test_another_script_fails_instead_of_being_silent(opened: Any) -> None:
    engine = opened(HibariEngine())
    with pytest.raises(SpeechFailed, match="no word of the text can be read in English"):
        await said(engine, "你好，世界。")
    assert await said(engine, "Hello 世界.")


@pytest.mark.parametrize("text", ["", " \n", "...", "\U0001f600 \U0001f44d", "\x00\x1b", "-" * 10_000, "%" * 10_000])
async def test_a_text_without_words_makes_no_audio(text: str, opened: Any) -> None:
    assert await said(opened(HibariEngine()), text) == b""


@pytest.mark.parametrize("part", ["x", "a1", "Ab", "1", "a word ", "é"])
async def test_a_very_long_text_is_made_piece_by_piece(part: str, opened: Any) -> None:
    """Each wait is for a piece of bounded length, whatever the words are."""
    voice = await opened(HibariEngine()).synthesizer()
    spoken = 0
    async for chunk in voice.speak(part * (10_000 // len(part))):
        spoken += len(chunk)
        if PCMU_8K.seconds(spoken) > 60:
            break
    assert PCMU_8K.seconds(spoken) > 20


async def test_calls_do_not_mix_and_share_one_model(opened: Any) -> None:
    engine = opened(HibariEngine(HibariSettings(threads=2)))
    texts = [GREETING, "One.", "This is a longer sentence, with a comma in it. And another one.", "Goodbye."]
    alone = [await said(engine, text) for text in texts]
    assert await asyncio.gather(*(said(engine, text) for text in texts * 3)) == alone * 3


def test_first_sentences_go_before_those_made_ahead_and_cancelled_ones_are_not_made() -> None:
    queue, going, made = SentenceQueue(1), threading.Event(), list[str]()

    def sentences(name: str) -> Iterator[bytes]:
        made.append(name)
        yield name.encode()

    def slow() -> Iterator[bytes]:
        assert going.wait(30)
        yield b""

    busy = queue.put(slow())
    ahead, dropped = queue.put(sentences("ahead")), queue.put(sentences("dropped"))
    first = queue.put(sentences("first"), first=True)
    assert dropped.cancel()
    going.set()
    assert [done.result(30) for done in (busy, first, ahead)] == [b"", b"first", b"ahead"]
    queue.close()
    assert made == ["first", "ahead"]


async def test_a_generator_that_is_closed_leaves_nothing_in_the_queue(opened: Any) -> None:
    engine = opened(HibariEngine())
    voice = await engine.synthesizer()
    speaking = voice.speak("This is a sentence. " * 50)
    assert await anext(speaking)
    busy, going = await occupied(engine)
    waits = False
    while not waits:  # up to the sentence that has to wait
        step = asyncio.ensure_future(anext(speaking))
        await asyncio.sleep(0)
        while not step.done() and not (waits := not engine._queue._waiting.empty()):
            await asyncio.sleep(0)
    step.cancel()
    await asyncio.gather(step, return_exceptions=True)
    await speaking.aclose()
    _, _, waiting, _ = engine._queue._waiting.get_nowait()
    assert waiting.cancelled()
    going.set()
    await busy


async def test_nothing_is_said_after_closing_while_a_sentence_is_being_made(opened: Any) -> None:
    voice = await opened(HibariEngine()).synthesizer()
    speaking = asyncio.create_task(anext(voice.speak(GREETING), b""))
    await asyncio.sleep(0)
    await voice.aclose()
    assert await speaking == b""


async def test_memory_of_a_long_sentence_is_given_back() -> None:
    """onnxruntime's arena would keep the longest; hibari makes its own session with one."""
    from anycarrier_speech_hibari import voices

    model = voices.load("heart", None)
    assert not model.sess.get_session_options().enable_cpu_mem_arena
    assert len(model.from_phonemes("həlˈO", 1.0, 0)) > 4000


def test_what_the_model_cannot_take_is_cut_before_it() -> None:
    assert max(map(len, " ".join(pieces("Ab" * 500 + " x" + "é" * 100, "en-US")).split())) <= 40
    assert max(map(len, " ".join(pieces("x" + "1" * 100, "en-US")).split())) <= 2
    assert all(len(piece) < 230 for piece in pieces("some words, " * 200, "en-US"))


def test_a_long_first_sentence_begins_with_its_first_clause() -> None:
    text = "We have two rooms free on that day, one with a view of the sea, and one without."
    assert pieces(text, "en-US") == [text[:35], text[36:]]
    assert pieces("Yes, of course, we do.", "en-US") == ["Yes, of course, we do."]


async def test_a_number_within_a_word_is_no_failure(opened: Any) -> None:
    assert await said(opened(HibariEngine()), "x" + "1" * 50)


async def test_a_closed_engine_says_so_even_to_sentences_that_wait(opened: Any) -> None:
    engine = HibariEngine()
    synthesizers = [await engine.synthesizer() for _ in range(5)]
    busy, going = await occupied(engine)
    waiting = [asyncio.create_task(anext(voice.speak(GREETING * 5))) for voice in synthesizers]
    await asyncio.sleep(0)
    await engine.aclose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [SpeechFailed] * 5
    going.set()
    await busy
    with pytest.raises(SpeechFailed, match="closed"):
        await anext(synthesizers[0].speak(GREETING))


async def test_the_engine_is_found_by_name_and_ranks_before_a_robot() -> None:
    assert get_speech_engine("hibari") is HibariEngine
    assert HibariEngine.rank == 10


async def test_16_khz_has_what_a_telephone_cuts_off(opened: Any) -> None:
    """The band above 4 kHz must not fold back into 8 kHz, and must be there at 16 kHz."""
    import numpy as np

    engine = opened(HibariEngine())
    wide = np.frombuffer(await said(engine, "Sixty-six sisters.", SpeakingStyle(format=PCM16_16K)), "<i2")
    narrow = np.frombuffer(await said(engine, "Sixty-six sisters.", SpeakingStyle(format=PCM16_8K)), "<i2")
    spectrum = np.abs(np.fft.rfft(wide)) ** 2
    high = spectrum[len(spectrum) // 2 :].sum() / spectrum.sum()
    assert high > 0.002
    low = np.abs(np.fft.rfft(narrow)) ** 2
    assert abs(len(wide) - 2 * len(narrow)) < 4
    assert low.sum() * 4 == pytest.approx(spectrum[: len(low)].sum(), rel=0.05)
