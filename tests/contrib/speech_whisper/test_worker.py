"""The worker's threads around a model that is told when to answer: reading never waits for decoding."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from anycarrier.audio import L16_16K, PCMU_8K, AudioFormat, Transcoder
from anycarrier.speech.workers import Begin, Close, Feed, Finish, FromWorker, Open, Opened, Pause, Recognized, Refused

pytest.importorskip("anycarrier_speech_whisper")
from anycarrier_speech_whisper.worker import Decoding, samples

ENGLISH = {"language": "en", "phrases": ["oat milk"]}


class Model:
    """Takes what it is to answer from ``answers``; an exception is raised."""

    def __init__(self) -> None:
        self.answers: queue.Queue[str | BaseException] = queue.Queue()
        self.asked: queue.Queue[tuple[int, Sequence[str], str]] = queue.Queue()

    def prompt(self, phrases: Sequence[str], language: str) -> list[int]:
        if language != "en":
            raise ValueError("English only")
        return []

    def transcribe(self, samples: Any, *, phrases: Sequence[str] = (), language: str = "en", retry: bool = True) -> str:
        self.asked.put((len(samples), phrases, language))
        answer = self.answers.get(timeout=30)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Bench:
    """A worker's insides with a model of our own; what it sends waits in ``sent``."""

    def __init__(self) -> None:
        self.model = Model()
        self.sent: queue.Queue[FromWorker] = queue.Queue()
        self.crashed: queue.Queue[int] = queue.Queue()
        self.gone = threading.Event()
        self.decoding = Decoding(self.send, self.model, crash=self.crashed.put)

    def send(self, message: FromWorker) -> None:
        if self.gone.is_set():
            raise BrokenPipeError
        self.sent.put(message)

    def tell(self, *messages: Any) -> None:
        for message in messages:
            self.decoding.take(message)

    def next(self) -> FromWorker:
        return self.sent.get(timeout=30)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.model.answers.put(SystemExit())  # ends the thread, whether it decodes or is still to
    made.tell(Open(99, "PCMU", 8000, ENGLISH), Feed(99, b"x"), Finish(99))
    made.crashed.get(timeout=30)


def test_an_utterance_goes_to_the_model_with_what_to_expect(bench: Bench) -> None:
    bench.model.answers.put("Hello.")
    bench.tell(Open(1, "PCMU", 8000, ENGLISH), Feed(1, b"\xff" * 800), Finish(1))
    assert [bench.next(), bench.next()] == [Opened(1), Recognized(1, "Hello.", True)]
    assert bench.model.asked.get(timeout=30) == (1600, ("oat milk",), "en")


def test_a_language_that_the_model_does_not_know_is_refused_when_the_stream_opens(bench: Bench) -> None:
    bench.tell(Open(1, "PCMU", 8000, {"language": "fr"}), Feed(1, b"x"), Finish(1))
    assert bench.next() == Refused(1, "English only")
    assert bench.sent.empty()


def test_an_answer_that_is_known_does_not_wait_for_another_calls_decoding(bench: Bench) -> None:
    bench.model.answers.put("One.")
    bench.tell(*(Open(stream, "PCMU", 8000, ENGLISH) for stream in (1, 2)))
    bench.tell(Begin(1), Feed(1, b"x" * 800), Pause(1))
    assert [bench.next() for _ in range(3)] == [Opened(1), Opened(2), Recognized(1, "One.", False)]
    bench.tell(Begin(2), Feed(2, b"x" * 800), Finish(2))
    for _ in range(2):
        bench.model.asked.get(timeout=30)  # after the second of them, the model is busy
    bench.tell(Finish(1), Begin(1), Finish(1, discard=True), Close(1))
    assert [bench.next(), bench.next()] == [Recognized(1, "One.", True), Recognized(1, "", True)]
    bench.model.answers.put("Two.")
    assert bench.next() == Recognized(2, "Two.", True)


def test_a_model_that_fails_ends_the_worker(bench: Bench) -> None:
    bench.model.answers.put(RuntimeError("out of memory"))
    bench.tell(Open(1, "PCMU", 8000, ENGLISH), Feed(1, b"x" * 800), Finish(1))
    assert bench.crashed.get(timeout=30) == 1
    bench.decoding = Decoding(bench.send, bench.model, crash=bench.crashed.put)


def test_an_engine_that_is_gone_is_no_crash(bench: Bench) -> None:
    bench.model.answers.put("One.")
    bench.tell(Open(1, "PCMU", 8000, ENGLISH), Feed(1, b"x" * 800))
    bench.gone.set()
    bench.tell(Finish(1))
    assert bench.crashed.get(timeout=30) == 0
    bench.gone.clear()
    bench.decoding = Decoding(bench.send, bench.model, crash=bench.crashed.put)


@pytest.mark.parametrize("format", [PCMU_8K, L16_16K, AudioFormat("PCM16", 24000)], ids=str)
def test_any_format_is_sixteen_kilohertz_to_the_model(format: AudioFormat) -> None:
    tone = (12000 * np.sin(np.arange(16000) * 2 * np.pi * 440 / 16000)).astype("<i2")
    there = Transcoder(AudioFormat("PCM16", 16000), format)
    found = samples(there.convert(tone.tobytes()) + there.flush(), format)
    assert found.dtype == np.float32
    assert len(found) == pytest.approx(16000, abs=50)
    spectrum = np.abs(np.fft.rfft(found[:16000]))
    assert spectrum.argmax() * 16000 / len(found[:16000]) == pytest.approx(440, abs=2)
    assert np.abs(found).max() == pytest.approx(12000 / 32768, rel=0.1)
