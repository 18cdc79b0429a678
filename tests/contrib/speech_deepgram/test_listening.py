"""Deepgram's listen socket, against the stand-in of conftest.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from anycarrier.audio import L16_16K, swap16
from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import Heard, Hearing, Recognizer, get_speech_engine, open_speech_engine
from anycarrier_speech_deepgram import DeepgramEngine, listening
from anycarrier_speech_deepgram.connection import hints

from .conftest import KEY, FakeDeepgram, results


async def take(recognizer: Recognizer, count: int) -> list[Heard]:
    heard: list[Heard] = []
    async with asyncio.timeout(30):
        words: AsyncIterator[Heard] = aiter(recognizer)
        while len(heard) < count:
            heard.append(await anext(words))
    return heard


async def test_audio_goes_out_as_it_came_and_the_question_is_in_the_url(deepgram: FakeDeepgram, engine: Any) -> None:
    recognizer = await engine().recognizer(Hearing(language="de", phrases=("Zahnarzt", "morgen früh")))
    assert isinstance(recognizer, Recognizer)
    recognizer.feed(b"\x01" * 160)
    recognizer.feed(b"\x02" * 160)
    await deepgram.until(lambda: deepgram.audio == [b"\x01" * 160 + b"\x02" * 160])
    (query,) = deepgram.queries
    assert dict(query) | {"keyterm": ""} == {
        "model": "nova-3",
        "language": "de",
        "encoding": "mulaw",
        "sample_rate": "8000",
        "channels": "1",
        "interim_results": "true",
        "smart_format": "true",
        "endpointing": "300",
        "keyterm": "",
    }
    assert [value for name, value in query if name == "keyterm"] == ["Zahnarzt", "morgen früh"]
    await recognizer.aclose()
    await deepgram.until(lambda: "CloseStream" in deepgram.messages)


async def test_big_endian_audio_is_turned_round(deepgram: FakeDeepgram, engine: Any) -> None:
    recognizer = await engine().recognizer(Hearing(format=L16_16K))
    recognizer.feed(b"\x01\x02\x03")
    recognizer.feed(b"\x04")
    await deepgram.until(lambda: deepgram.audio[0] == swap16(b"\x01\x02\x03\x04"))
    assert ("encoding", "linear16") in deepgram.queries[0]
    await recognizer.aclose()


async def test_interims_segments_and_the_answer_to_a_question(deepgram: FakeDeepgram, engine: Any) -> None:
    recognizer = await engine().recognizer()
    for frame in (
        results("my"),
        results(""),
        results("My name is Ada.", is_final=True, speech_final=True),
        '{"type":"SpeechStarted","channel":[0],"timestamp":1.0}',
        '{"type":"UtteranceEnd","channel":[0,1],"last_word_end":1.0}',
        '{"type":"SomethingNew","channel":"?"}',
        results("i am"),
    ):
        await deepgram.sockets[0].send(frame)
    assert await take(recognizer, 3) == [Heard("my"), Heard("My name is Ada.", final=True), Heard("i am")]
    recognizer.finish()
    assert await take(recognizer, 1) == [Heard("the answer", final=True, complete=True)]
    await recognizer.aclose()


async def test_words_made_of_a_noise_are_not_passed_on(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.answers_finalize = False
    recognizer = await engine().recognizer()
    await deepgram.sockets[0].send(results("hm"))
    assert await take(recognizer, 1) == [Heard("hm")]
    recognizer.finish(discard=True)
    recognizer.finish()
    for frame in (
        results("hmm"),
        results("Hmm.", is_final=True),
        results("Hmm", is_final=True, from_finalize=True),
        results("Hello.", is_final=True, from_finalize=True),
    ):
        await deepgram.sockets[0].send(frame)
    assert await take(recognizer, 2) == [Heard(text, final=True, complete=True) for text in ("", "Hello.")]
    await recognizer.aclose()


async def test_a_question_deepgram_does_not_answer_is_answered_by_us(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.answers_finalize = False
    recognizer = await engine(answer_timeout=0.05).recognizer()
    await deepgram.sockets[0].send(results("hello"))
    await take(recognizer, 1)
    recognizer.finish()
    recognizer.finish()
    assert await take(recognizer, 2) == [Heard("", final=True, complete=True)] * 2
    await deepgram.sockets[0].send(results("too late", is_final=True, from_finalize=True))
    await deepgram.sockets[0].send(results("next"))
    assert await take(recognizer, 1) == [Heard("next")]
    await recognizer.aclose()


async def test_deepgram_may_end_utterances_where_that_is_wanted(deepgram: FakeDeepgram, engine: Any) -> None:
    recognizer = await engine(ends_utterances=True).recognizer()
    await deepgram.sockets[0].send(results("Hello.", is_final=True, speech_final=True))
    assert await take(recognizer, 1) == [Heard("Hello.", final=True, complete=True)]
    await recognizer.aclose()


async def test_a_lost_connection_is_made_again_and_what_was_not_heard_is_said_again(
    deepgram: FakeDeepgram, engine: Any
) -> None:
    recognizer = await engine().recognizer()
    recognizer.feed(b"\x01" * 8000)
    recognizer.feed(b"\x02" * 8000)
    await deepgram.until(lambda: len(deepgram.audio[0]) == 16000)
    await deepgram.sockets[0].send(results("First second.", start=0.0, duration=1.0, is_final=True))
    assert await take(recognizer, 1) == [Heard("First second.", final=True)]
    deepgram.sockets[0].transport.abort()
    recognizer.feed(b"\x03" * 8000)
    await deepgram.until(lambda: len(deepgram.audio) == 2 and len(deepgram.audio[1]) == 16000)
    assert deepgram.audio[1] == b"\x02" * 8000 + b"\x03" * 8000
    recognizer.finish()
    assert await take(recognizer, 1) == [Heard("the answer", final=True, complete=True)]
    await recognizer.aclose()


async def test_a_question_that_died_with_its_connection_is_put_again(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.answers_finalize = False
    recognizer = await engine().recognizer()
    await deepgram.sockets[0].send(results("hello"))
    await take(recognizer, 1)
    recognizer.feed(b"\x01" * 160)
    recognizer.finish()
    await deepgram.until(lambda: deepgram.messages == ["Finalize"])
    deepgram.answers_finalize = True
    deepgram.sockets[0].transport.abort()
    assert await take(recognizer, 1) == [Heard("the answer", final=True, complete=True)]
    assert deepgram.audio[1] == b"\x01" * 160
    await recognizer.aclose()


async def test_it_gives_up_when_no_connection_can_be_had(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSES", (0.01, 0.01))
    recognizer = await engine().recognizer()
    deepgram.refuse = [503, 503]
    deepgram.sockets[0].transport.abort()
    with pytest.raises(SpeechFailed, match="2 new ones failed"):
        await take(recognizer, 1)
    recognizer.feed(b"\x01" * 160)
    recognizer.finish()
    await recognizer.aclose()


async def test_without_a_connection_memory_is_bounded(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "KEPT", 1.0)
    monkeypatch.setattr(listening, "PAUSES", (0.2,))
    recognizer = await engine().recognizer()
    deepgram.sockets[0].transport.abort()
    await asyncio.sleep(0)
    for n in range(200):
        recognizer.feed(bytes([n]) * 160)
    await deepgram.until(lambda: len(deepgram.audio) == 2 and deepgram.audio[1].endswith(bytes([199]) * 160))
    assert len(deepgram.audio[1]) == 8000
    await recognizer.aclose()


async def test_silence_keeps_the_connection_alive(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "QUIET", 0.02)
    recognizer = await engine().recognizer()
    await deepgram.until(lambda: deepgram.messages.count("KeepAlive") >= 2)
    await recognizer.aclose()


async def test_a_failure_that_may_pass_is_tried_twice(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.refuse = [503]
    await (await engine().recognizer()).aclose()
    deepgram.refuse = [429, 429]
    with pytest.raises(SpeechFailed, match=r"HTTP 429\. Too many connections at once"):
        await engine().recognizer()
    assert deepgram.refuse == []


async def test_phrases_that_deepgram_refuses_cost_no_call_its_recognizer(deepgram: FakeDeepgram, engine: Any) -> None:
    deepgram.refuse = [400]
    recognizer = await engine().recognizer(Hearing(phrases=("Zork",)))
    assert "keyterm" not in dict(deepgram.queries[0])
    await recognizer.aclose()
    deepgram.refuse = [400]
    with pytest.raises(SpeechFailed, match="HTTP 400"):
        await engine().recognizer()


def test_no_more_phrases_are_sent_than_deepgram_takes() -> None:
    phrases = [f"phrase {n}" for n in range(300)]
    assert hints("nova-3-medical", phrases) == [("keyterm", phrase) for phrase in phrases[:100]]
    assert sum(len(word.encode()) for _, word in hints("nova-3", ["naïve " * 20] * 2 + ["é" * 700, "late"])) <= 1200
    assert hints("nova-2", ["two words", "words"]) == [("keywords", "two"), ("keywords", "words")]


async def test_further_parameters_are_sent_but_none_that_the_engine_decides(
    deepgram: FakeDeepgram, engine: Any
) -> None:
    made = engine(listen_language="multi", listen_options={"numerals": "true"}, tag="desk", mip_opt_out=True)
    await (await made.recognizer(Hearing(language="de"))).aclose()
    query = dict(deepgram.queries[0])
    sent = {name: query[name] for name in ("language", "numerals", "tag", "mip_opt_out")}
    assert sent == {"language": "multi", "numerals": "true", "tag": "desk", "mip_opt_out": "true"}
    with pytest.raises(ConfigurationError, match="smart_format cannot be set here"):
        open_speech_engine("deepgram", {"api_key": KEY, "listen_options": {"smart_format": "false"}})


async def test_a_service_that_ends_every_connection_is_given_up_with_its_reason(
    deepgram: FakeDeepgram, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSES", (0.01, 0.01))

    async def hang_up(socket: Any) -> None:
        await socket.send('{"type":"Error","description":"Something is wrong."}')
        await socket.close(1011, "NET-0000")

    monkeypatch.setattr(deepgram, "listen", hang_up)
    recognizer = await engine().recognizer()
    with pytest.raises(SpeechFailed, match=r"it ends every connection\. Something is wrong\. NET-0000"):
        await take(recognizer, 1)
    assert len(deepgram.queries) == 3
    await recognizer.aclose()


@pytest.mark.parametrize(("status", "advice"), [(402, "Top up"), (403, "may do"), (400, "model, language and URL")])
async def test_refusals_say_what_to_do(deepgram: FakeDeepgram, engine: Any, status: int, advice: str) -> None:
    deepgram.refuse = [status]
    with pytest.raises(SpeechFailed, match=advice):
        await engine().recognizer()


async def test_a_wrong_key_is_told_and_not_shown(
    deepgram: FakeDeepgram, engine: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = engine(api_key="not-the-key")
    with pytest.raises(SpeechFailed, match=r"Invalid credentials\. Check the API key") as refused:
        await made.recognizer()
    ours = " ".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert "not-the-key" not in str(refused.value) + repr(made.settings) + ours


async def test_nobody_there_is_a_failure_and_not_a_hang(engine: Any) -> None:
    with pytest.raises(SpeechFailed, match="no connection"):
        await engine(base_url="ws://127.0.0.1:9", connect_timeout=1.0).recognizer()


def test_the_engine_is_found_by_name() -> None:
    assert get_speech_engine("deepgram") is DeepgramEngine
    assert DeepgramEngine.abilities == {"listen", "speak"}


async def test_a_result_that_nobody_can_place_fails_the_call_instead_of_its_hearing(
    deepgram: FakeDeepgram, engine: Any
) -> None:
    recognizer = await engine().recognizer()
    await deepgram.sockets[0].send(results("hi", start=1e308, duration=1e308, is_final=True))
    with pytest.raises(SpeechFailed, match="an unexpected failure: OverflowError"):
        await take(recognizer, 1)
    await recognizer.aclose()
