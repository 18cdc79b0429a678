"""The OpenAI audio API: what is asked of it, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from anycarrier.audio import L16_16K, PCM16_8K, PCMU_8K, AudioFormat, pcmu_to_pcm16, silence
from anycarrier.errors import ConfigurationError, SpeechFailed, UnknownVoice
from anycarrier.speech import (
    Heard,
    Hearing,
    Recognizer,
    SpeakingStyle,
    Synthesizer,
    get_speech_engine,
    open_speech_engine,
)
from anycarrier.wav import read_wav, wav_bytes
from contrib.speech_openai.conftest import KEY, TONE, FakeOpenAI

pytest.importorskip("anycarrier_speech_openai")
from anycarrier_speech_openai import OpenAIEngine, OpenAISettings, api, listening
from anycarrier_speech_openai.speaking import PcmBody


async def take(recognizer: Recognizer, count: int = 1) -> list[Heard]:
    async with asyncio.timeout(30):
        words = aiter(recognizer)
        return [await anext(words) for _ in range(count)]


# --- listening -------------------------------------------------------------------------------------------------------


async def test_an_utterance_is_sent_as_a_wav_and_comes_back_as_words(fake: FakeOpenAI, engine: Any) -> None:
    recognizer = await engine().recognizer(Hearing(language="en-GB", phrases=("Zork", "Frobozz")))
    assert isinstance(recognizer, Recognizer)
    audio = bytes(range(256)) * 10
    for at in range(0, len(audio), 160):
        recognizer.feed(audio[at : at + 160])
    recognizer.finish()
    assert await take(recognizer) == [Heard("Hello there.", final=True, complete=True)]
    (asked,) = fake.transcribed
    assert read_wav(asked.pop("wav")) == (PCM16_8K, pcmu_to_pcm16(audio))
    assert asked == {
        "model": "gpt-transcribe",
        "response_format": "json",
        "languages[]": ["en"],
        "keywords[]": ["Zork", "Frobozz"],
    }
    await recognizer.aclose()


async def test_models_before_gpt_transcribe_take_one_language_and_a_prompt(fake: FakeOpenAI, engine: Any) -> None:
    recognizer = await engine(listen_model="whisper-1").recognizer(
        Hearing(language="pt_BR", phrases=("Zork", "Frobozz"))
    )
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    await take(recognizer)
    (asked,) = fake.transcribed
    del asked["wav"]
    assert asked == {"model": "whisper-1", "response_format": "json", "language": "pt", "prompt": "Zork, Frobozz"}
    await recognizer.aclose()


def test_phrases_are_cleaned_and_no_more_is_sent_than_a_model_reads() -> None:
    hearing = Hearing(phrases=("A <b>\nline", "", *(f"phrase {n}" for n in range(500))))
    keywords = listening.hints("gpt-transcribe", hearing)["keywords[]"]
    assert keywords[:2] == ["A b line", "phrase 0"] and len(", ".join(keywords)) <= listening.LONGEST_HINT


async def test_a_phrase_list_that_comes_back_is_no_speech(fake: FakeOpenAI, engine: Any) -> None:
    fake.texts = ["Zork, Frobozz.", "Frobozz."]
    recognizer = await engine().recognizer(Hearing(phrases=("Zork", "Frobozz")))
    for _ in range(2):
        recognizer.feed(silence(PCMU_8K, 0.5))
        recognizer.finish()
    assert [heard.text for heard in await take(recognizer, 2)] == ["", "Frobozz."]
    await recognizer.aclose()


async def test_a_model_for_english_refuses_other_languages(engine: Any) -> None:
    made = engine(listen_model="Systran/faster-whisper-tiny.en")
    assert made.knows_language("listen", "en-GB") and not made.knows_language("listen", "de")
    with pytest.raises(ConfigurationError, match=r"openai's listen_model .* knows English only, not 'de'"):
        await made.recognizer(Hearing(language="de"))


async def test_decoding_ahead_answers_with_what_was_sent_at_the_pause(fake: FakeOpenAI, engine: Any) -> None:
    fake.texts = ["too early", "all of it"]
    recognizer = await engine(decode_ahead=True).recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.pause()
    assert await take(recognizer) == [Heard("too early")]
    recognizer.resume()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.pause()
    recognizer.feed(silence(PCMU_8K, 0.3))
    recognizer.finish()
    assert (await take(recognizer))[-1] == Heard("all of it", final=True, complete=True)
    assert [len(read_wav(asked["wav"])[1]) for asked in fake.transcribed] == [8000, 16000]
    await recognizer.aclose()


async def test_what_was_sent_at_a_pause_is_dropped_when_the_caller_goes_on(fake: FakeOpenAI, engine: Any) -> None:
    fake.slow = asyncio.Event()
    recognizer = await engine(decode_ahead=True).recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.pause()
    async with asyncio.timeout(30):
        while not fake.transcribed:
            await asyncio.sleep(0.01)
    recognizer.resume()
    fake.texts = ["all of it"] * 3
    fake.slow.set()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    assert await take(recognizer) == [Heard("all of it", final=True, complete=True)]
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.pause()
    recognizer.finish(discard=True)
    assert await take(recognizer) == [Heard("", final=True, complete=True)]
    await recognizer.aclose()


async def test_without_the_setting_a_pause_asks_nothing(fake: FakeOpenAI, engine: Any) -> None:
    recognizer = await engine().recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.pause()
    await asyncio.sleep(0.05)
    assert fake.transcribed == []
    recognizer.finish()
    await take(recognizer)
    assert len(fake.transcribed) == 1
    await recognizer.aclose()


async def test_a_transcript_that_does_not_come_is_a_failure(fake: FakeOpenAI, engine: Any) -> None:
    fake.slow = asyncio.Event()
    recognizer = await engine(timeout=0.1).recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match=r"no transcript within 0\.1 s\. Name a fallback engine"):
        await take(recognizer)
    fake.slow.set()
    await recognizer.aclose()


@pytest.mark.parametrize(
    ("code", "headers", "requests", "advice"),
    [
        (None, {"retry-after-ms": "5"}, 2, "fallback engine"),
        (None, {"retry-after": "30"}, 1, "fallback engine"),
        (None, {"x-should-retry": "false"}, 1, "fallback engine"),
        ("insufficient_quota", {}, 1, "Top up the account"),
    ],
)
async def test_too_many_requests_are_repeated_only_if_a_caller_can_wait(
    fake: FakeOpenAI, engine: Any, code: str | None, headers: dict[str, str], requests: int, advice: str
) -> None:
    fake.statuses, fake.code, fake.headers = [429, 429], code, headers
    recognizer = await engine().recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match=advice):
        await take(recognizer)
    assert len(fake.transcribed) == requests
    await recognizer.aclose()


async def test_answers_come_in_the_order_of_the_questions(fake: FakeOpenAI, engine: Any) -> None:
    fake.texts = ["one", "two"]
    recognizer = await engine().recognizer()
    for length in (1.0, 0.01, 0.5):
        recognizer.feed(silence(PCMU_8K, length))
        recognizer.finish()
    assert [heard.text for heard in await take(recognizer, 3)] == ["one", "", "two"]
    assert [len(read_wav(asked["wav"])[1]) for asked in fake.transcribed] == [16000, 8000]
    await recognizer.aclose()


async def test_a_noise_is_not_sent(fake: FakeOpenAI, engine: Any) -> None:
    recognizer = await engine().recognizer()
    recognizer.feed(silence(PCMU_8K, 1.0))
    recognizer.pause()
    recognizer.resume()
    recognizer.finish(discard=True)
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    assert [heard.text for heard in await take(recognizer, 2)] == ["", "Hello there."]
    assert [len(read_wav(asked["wav"])[1]) for asked in fake.transcribed] == [8000]
    await recognizer.aclose()


async def test_a_cue_cuts_off_what_was_before_it(fake: FakeOpenAI, engine: Any) -> None:
    fake.texts = ["one", "two"]
    recognizer = await engine().recognizer(Hearing(cued=True))
    recognizer.feed(b"\x10" * 80000)
    recognizer.begin()
    recognizer.feed(b"\x20" * 8000)
    recognizer.finish()
    recognizer.feed(b"\x30" * 800)
    recognizer.begin()
    recognizer.finish()
    await take(recognizer, 2)
    lengths = [len(read_wav(asked["wav"])[1]) // 2 for asked in fake.transcribed]
    assert lengths == [4000 + 8000, 800]
    await recognizer.aclose()


async def test_memory_holds_a_minute_of_an_utterance(
    fake: FakeOpenAI, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "KEPT", 1.0)
    recognizer = await engine().recognizer()
    for _ in range(100):
        recognizer.feed(b"\x10" * 800)
    recognizer.finish()
    await take(recognizer)
    assert len(read_wav(fake.transcribed[0]["wav"])[1]) == 16000
    await recognizer.aclose()


async def test_a_passing_failure_is_tried_once_more(
    fake: FakeOpenAI, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "AGAIN_AFTER", 0.01)
    fake.statuses = [503]
    recognizer = await engine().recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    assert (await take(recognizer))[0].text == "Hello there."
    fake.statuses = [429, 500]
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match="openai failed to listen: The server is busy"):
        await take(recognizer)
    assert len(fake.transcribed) == 4
    await recognizer.aclose()


async def test_a_wrong_key_is_told_at_once_and_not_shown(
    fake: FakeOpenAI, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = engine(api_key="sk-not-the-key")
    recognizer = await made.recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match="Check the API key") as refused:
        await take(recognizer)
    assert len(fake.transcribed) == 1
    assert "not-the-key" not in str(refused.value) + repr(made.settings) + caplog.text
    await recognizer.aclose()


def test_without_a_key_the_cloud_is_not_ready_and_a_server_of_ones_own_is() -> None:
    with pytest.raises(ConfigurationError, match=r"'openai' do not fit: api_key is needed at api\.openai\.com"):
        open_speech_engine("openai")
    open_speech_engine("openai", {"base_url": "http://127.0.0.1:8000/v1"})


async def test_a_check_tells_a_wrong_key_from_a_good_one_without_a_sound(fake: FakeOpenAI, engine: Any) -> None:
    await engine().check()
    with pytest.raises(SpeechFailed, match=r"openai failed to speak: Incorrect API key provided\. Check the API key"):
        await engine(api_key="sk-not-the-key").check()
    fake.statuses = [404]
    await engine().check()  # a server without that list
    assert fake.spoken == fake.transcribed == []


async def test_an_answer_without_text_is_a_failure(fake: FakeOpenAI, engine: Any) -> None:
    fake.texts = []
    recognizer = await engine().recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match="no text"):
        await take(recognizer)
    await recognizer.aclose()


async def test_nobody_there_is_a_failure_and_not_a_hang(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "AGAIN_AFTER", 0.01)
    made = engine(base_url="http://127.0.0.1:9/v1")
    recognizer = await made.recognizer()
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match="failed to listen"):
        await take(recognizer)
    await recognizer.aclose()
    voice = await made.synthesizer()
    with pytest.raises(SpeechFailed, match="failed to speak"):
        await anext(voice.speak("Hello."))


# --- speaking --------------------------------------------------------------------------------------------------------


async def said(voice: Synthesizer, text: str) -> bytes:
    return b"".join([piece async for piece in voice.speak(text)])


@pytest.mark.parametrize("format", [PCMU_8K, L16_16K, AudioFormat("PCM16", 24000)])
async def test_speech_is_asked_for_as_pcm_and_becomes_the_calls_format(
    fake: FakeOpenAI, engine: Any, format: AudioFormat
) -> None:
    voice = await engine(instructions="Softly.").synthesizer(SpeakingStyle(speed=1.5, format=format))
    assert isinstance(voice, Synthesizer)
    audio = await said(voice, " Hello. ")
    assert format.seconds(len(audio)) == pytest.approx(1.0, abs=0.001)
    assert fake.spoken == [
        {
            "model": "gpt-4o-mini-tts",
            "voice": "alloy",
            "input": "Hello.",
            "response_format": "pcm",
            "speed": 1.5,
            "instructions": "Softly.",
        }
    ]
    if format.rate == 24000:
        assert audio == fake.body


async def test_the_first_sound_does_not_wait_for_the_last(fake: FakeOpenAI, engine: Any) -> None:
    fake.gate = asyncio.Event()
    voice = await engine().synthesizer(SpeakingStyle(voice="echo"))
    speech = voice.speak("A long story.")
    first = await anext(speech)
    assert 0.05 < PCMU_8K.seconds(len(first)) < 0.2
    fake.gate.set()
    rest = b"".join([piece async for piece in speech])
    assert PCMU_8K.seconds(len(first) + len(rest)) == pytest.approx(1.0, abs=0.001)
    assert fake.spoken[0]["voice"] == "echo"


async def test_an_interruption_ends_the_request(fake: FakeOpenAI, engine: Any) -> None:
    fake.gate = asyncio.Event()
    voice = await engine().synthesizer()
    speech = voice.speak("A long story.")
    await anext(speech)
    await speech.aclose()
    async with asyncio.timeout(30):
        await fake.gone.wait()


@pytest.mark.parametrize(
    "refusal",
    [
        {"error": {"message": "[{'type': 'enum', 'loc': ('body', 'voice'), 'msg': \"Input should be 'nova'\"}]",
                   "type": "invalid_request_error", "param": None, "code": None}},
        {"error": "Voice sage not found"},
        {"detail": [{"loc": ["body", "voice"], "msg": "Input should be 'nova'"}]},
    ],
)  # fmt: skip
async def test_a_voice_it_has_not_is_told_from_other_refusals(
    fake: FakeOpenAI, engine: Any, refusal: dict[str, Any]
) -> None:
    fake.voice_refusal = refusal
    with pytest.raises(UnknownVoice, match="openai has no voice 'sage'"):
        await said(await engine().synthesizer(SpeakingStyle(voice="sage")), "Hello.")
    # The operator's own voice is not an agent's: nothing to fall back to.
    with pytest.raises(SpeechFailed):
        await said(await engine(voice="sage").synthesizer(), "Hello.")
    fake.statuses = [400]
    with pytest.raises(SpeechFailed, match="busy"):
        await said(await engine().synthesizer(SpeakingStyle(voice="nova")), "Hello.")


async def test_speech_is_never_tried_twice(fake: FakeOpenAI, engine: Any) -> None:
    voice = await engine().synthesizer()
    fake.statuses = [503]
    with pytest.raises(SpeechFailed, match="openai failed to speak: The server is busy"):
        await said(voice, "Hello.")
    fake.cut_off = True
    with pytest.raises(SpeechFailed, match="failed to speak"):
        await said(voice, "Hello.")
    assert len(fake.spoken) == 2


async def test_a_wav_is_understood_and_anything_else_refused(fake: FakeOpenAI, engine: Any) -> None:
    voice = await engine().synthesizer()
    fake.body = wav_bytes(TONE * 10, AudioFormat("PCM16", 12000))
    assert PCMU_8K.seconds(len(await said(voice, "Hello."))) == pytest.approx(2.0, abs=0.001)
    fake.body = b"ID3\x04" + bytes(6000)
    with pytest.raises(SpeechFailed, match="compressed file"):
        await said(voice, "Hello.")
    fake.body = b""
    with pytest.raises(SpeechFailed, match="no sound"):
        await said(voice, "Hello.")


@pytest.mark.parametrize(("status", "kind"), [(200, "text/html"), (200, "application/json"), (302, "audio/pcm")])
async def test_an_answer_that_is_no_speech_is_not_played(fake: FakeOpenAI, engine: Any, status: int, kind: str) -> None:
    """Another server's page, played as samples, is a loud noise."""
    fake.kind, fake.body, fake.statuses = kind, b"<html> the page of a router " * 200, [status]
    with pytest.raises(SpeechFailed, match=r"no sound|The server is busy"):
        await said(await engine().synthesizer(), "Hello.")


async def test_a_bug_while_an_answer_is_read_fails_the_call_instead_of_its_hearing(
    fake: FakeOpenAI, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = await engine().recognizer()

    async def buggy(audio: bytes) -> str:
        raise RecursionError

    monkeypatch.setattr(recognizer, "_transcribe", buggy)
    recognizer.feed(silence(PCMU_8K, 0.5))
    recognizer.finish()
    with pytest.raises(SpeechFailed, match="RecursionError"):
        await take(recognizer)
    await recognizer.aclose()


async def test_too_much_text_and_none_ask_nothing(fake: FakeOpenAI, engine: Any) -> None:
    voice = await engine().synthesizer()
    assert await said(voice, " \n") == b""
    with pytest.raises(SpeechFailed, match="too many at once"):
        await said(voice, "x" * 5000)
    assert fake.spoken == []


async def test_a_local_server_needs_no_key(fake: FakeOpenAI, engine: Any) -> None:
    assert "authorization" not in engine(api_key=None).http.headers


def test_a_header_may_arrive_in_any_pieces() -> None:
    wav = wav_bytes(TONE, AudioFormat("PCM16", 16000))
    for size in (1, 3, 44, 5000):
        body = PcmBody(24000)
        assert b"".join(body.feed(wav[at : at + size]) for at in range(0, len(wav), size)) == TONE
        assert body.format.rate == 16000
    stereo = PcmBody(24000)
    with pytest.raises(ValueError, match="not 16-bit mono"):
        stereo.feed(wav_bytes(TONE, AudioFormat("PCM16", 16000, 2)))


def test_the_engine_is_found_by_name() -> None:
    assert get_speech_engine("openai") is OpenAIEngine
    assert json.loads(OpenAISettings(api_key=KEY).model_dump_json())["api_key"] == "**********"
