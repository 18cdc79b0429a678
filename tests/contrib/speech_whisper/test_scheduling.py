"""What the worker decodes next: no model, no thread, and a clock that is told the time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from anycarrier.speech.workers import (
    Begin,
    Close,
    Feed,
    Finish,
    FromWorker,
    Open,
    Pause,
    Recognized,
    Resume,
    ToWorker,
)

pytest.importorskip("anycarrier_speech_whisper")
from anycarrier_speech_whisper.scheduling import KEPT, Job, Kind, Scheduler

SECOND = 8000


class Worker:
    """A scheduler, its clock, and a transcriber whose words are the bytes it was given."""

    def __init__(self, *streams: int) -> None:
        self.scheduler = Scheduler()
        self.now = 100.0
        self.sent: list[FromWorker] = []
        for stream in streams:
            self.tell(Open(stream, "PCMU", 8000, {"language": "en", "phrases": []}))

    def tell(self, *messages: ToWorker) -> None:
        for message in messages:
            self.sent += self.scheduler.take(message, self.now)

    def begin(self) -> Job | None:
        """What is decoded now; its result is still to come."""
        return self.scheduler.next(self.now)

    def end(self, job: Job | None) -> None:
        assert job is not None
        self.sent += self.scheduler.done(job, words(job), self.now)

    def jobs(self) -> Iterator[Job]:
        """Everything there is to decode now, decoded in no time."""
        while (job := self.begin()) is not None:
            self.end(job)
            yield job

    def kinds(self) -> list[tuple[Kind, int]]:
        return [(job.kind, job.stream.number) for job in self.jobs()]

    def wait(self, seconds: float) -> None:
        self.now += seconds


def words(job: Job) -> str:
    return job.audio.decode()


def interim(text: str, stream: int = 1) -> Recognized:
    return Recognized(stream, text, False)


def final(text: str, stream: int = 1) -> Recognized:
    return Recognized(stream, text, True)


# --- decode-ahead ---------------------------------------------------------------------------------------------------


def test_after_a_pause_the_words_are_there_before_they_are_asked_for() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1))
    assert worker.kinds() == [(Kind.AHEAD, 1)]
    assert worker.sent == [interim("hello")]
    worker.tell(Feed(1, b"..."), Finish(1))
    assert worker.sent == [interim("hello"), final("hello")]
    assert worker.kinds() == []


def test_what_was_decoded_ahead_is_dropped_when_the_caller_goes_on() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1))
    worker.kinds()
    worker.tell(Resume(1), Feed(1, b" world"), Finish(1))
    assert worker.sent == [interim("hello")]
    assert worker.kinds() == [(Kind.FINAL, 1)]
    assert worker.sent[1:] == [final("hello world")]


def test_a_decode_ahead_that_is_under_way_becomes_the_final() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1))
    job = worker.begin()
    worker.tell(Feed(1, b"..."), Finish(1))
    assert worker.sent == []
    worker.end(job)
    assert worker.sent == [final("hello")]
    assert worker.kinds() == []


def test_a_decode_ahead_under_way_when_the_caller_went_on_is_no_ones_words() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1))
    job = worker.begin()
    worker.tell(Resume(1), Feed(1, b" world"), Pause(1), Finish(1))
    worker.end(job)
    assert worker.sent == []
    worker.kinds()
    assert worker.sent == [final("hello world")]


def test_what_followed_the_utterance_is_neither_decoded_ahead_nor_in_the_final() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello" + b"n" * 800), Pause(1, following=0.1))
    assert worker.kinds() == [(Kind.AHEAD, 1)]
    assert worker.sent == [interim("hello")]
    worker.tell(Finish(1, following=0.1))
    assert worker.sent[1:] == [final("hello")]
    worker.tell(Begin(1), Feed(1, b"hello" + b"n" * 800), Finish(1, following=0.1))
    assert worker.kinds() == [(Kind.FINAL, 1)]
    assert worker.sent[2:] == [final("hello")]


def test_a_second_pause_without_a_resume_outdates_the_first() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1))
    worker.kinds()
    worker.tell(Feed(1, b" world"), Pause(1))
    worker.kinds()
    worker.tell(Finish(1))
    assert worker.sent == [interim("hello"), interim("hello world"), final("hello world")]


def test_no_words_are_no_interim_but_an_answer() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hum"), Pause(1))
    job = worker.begin()
    assert job is not None
    assert worker.scheduler.done(job, "", worker.now) == []
    worker.tell(Finish(1))
    assert worker.sent == [final("")]


# --- jobs that need not be done -------------------------------------------------------------------------------------


def test_a_pause_that_is_over_before_its_turn_is_not_decoded() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"), Pause(1), Resume(1))
    assert worker.kinds() == []


def test_a_discarded_utterance_is_answered_without_being_decoded() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"cough"), Pause(1), Finish(1, discard=True))
    assert worker.kinds() == []
    assert worker.sent == [final("")]


def test_an_utterance_without_audio_is_answered_at_once() -> None:
    worker = Worker(1)
    worker.tell(Finish(1), Finish(1))
    assert worker.sent == [final(""), final("")]
    assert worker.kinds() == []


def test_nothing_is_decoded_for_a_stream_that_was_closed() -> None:
    worker = Worker(1, 2)
    worker.tell(Begin(1), Feed(1, b"one"), Pause(1), Begin(2), Feed(2, b"two"), Finish(2))
    running = worker.begin()
    worker.tell(Close(1), Close(2))
    worker.end(running)
    worker.wait(10)
    assert worker.kinds() == []
    assert worker.sent == []


def test_a_stream_of_the_same_number_gets_no_answer_of_the_one_before() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"old"), Finish(1))
    running = worker.begin()
    worker.tell(Close(1), Open(1, "PCMU", 8000, {}), Begin(1), Feed(1, b"new"))
    worker.end(running)
    assert worker.sent == []


def test_nobody_speaking_nothing_is_decoded() -> None:
    """A stream without cues is fed all the time: it waits for Finish, however long that takes."""
    worker = Worker(1)
    for _ in range(600):
        worker.tell(Feed(1, b"x" * SECOND))
        worker.wait(1)
        assert worker.kinds() == []
    assert worker.scheduler.wake() is None
    worker.tell(Finish(1))
    (job,) = worker.jobs()
    assert len(job.audio) == KEPT * SECOND


# --- who is first ---------------------------------------------------------------------------------------------------


def test_finals_come_first_then_decode_ahead_then_interims() -> None:
    worker = Worker(1, 2, 3, 4)
    for stream in (1, 2, 3, 4):
        worker.tell(Begin(stream), Feed(stream, b"words"))
    worker.wait(1.5)
    worker.tell(Pause(2), Finish(3), Finish(4))
    assert worker.kinds() == [(Kind.FINAL, 3), (Kind.FINAL, 4), (Kind.AHEAD, 2), (Kind.INTERIM, 1)]


def test_answers_of_one_stream_keep_their_order() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"one"), Finish(1))
    running = worker.begin()
    worker.tell(Begin(1), Feed(1, b"two"), Finish(1), Finish(1))
    assert worker.sent == [], "the third has its answer already, and waits for the first two"
    worker.end(running)
    worker.kinds()
    assert worker.sent == [final("one"), final("two"), final("")]


def test_interims_come_at_most_once_a_second_and_never_after_a_pause() -> None:
    worker = Worker(1)
    worker.tell(Begin(1))
    found = []
    for tick in range(32):
        worker.tell(Feed(1, b"x"))
        found += [(tick, job.kind) for job in worker.jobs()]
        worker.wait(0.125)
    assert found == [(8, Kind.INTERIM), (16, Kind.INTERIM), (24, Kind.INTERIM)]
    worker.tell(Pause(1))
    assert worker.kinds() == [(Kind.AHEAD, 1)]
    worker.wait(5)
    assert worker.kinds() == []
    assert worker.scheduler.wake() is None


def test_after_an_interim_the_worker_rests_three_times_as_long_as_it_took() -> None:
    worker = Worker(1, 2)
    worker.tell(Begin(1), Feed(1, b"one"), Begin(2), Feed(2, b"two"))
    worker.wait(1.5)
    job = worker.begin()
    worker.wait(0.5)
    worker.end(job)
    assert worker.kinds() == []
    assert worker.scheduler.wake() == worker.now + 1.5
    worker.tell(Pause(1))
    assert worker.kinds() == [(Kind.AHEAD, 1)], "what is more than an interim does not wait"
    worker.wait(1.5)
    assert worker.kinds() == [(Kind.INTERIM, 2)]


def test_the_same_words_are_not_told_twice() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"))
    for _ in range(3):
        worker.wait(1.1)
        worker.kinds()
    assert worker.sent == [interim("hello")]


def test_each_pause_has_its_words_also_if_they_are_the_same() -> None:
    """They decide how long the pause lasts."""
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hello"))
    for _ in range(2):
        worker.tell(Pause(1))
        assert worker.kinds() == [(Kind.AHEAD, 1)]
        worker.tell(Resume(1))
    assert worker.sent == [interim("hello")] * 2


def test_an_interim_that_was_begun_before_a_pause_is_not_told_as_its_words() -> None:
    worker = Worker(1)
    worker.tell(Begin(1), Feed(1, b"hel"))
    worker.wait(1.1)
    job = worker.begin()
    assert job is not None and job.kind is Kind.INTERIM
    worker.tell(Feed(1, b"lo"), Pause(1))
    worker.end(job)
    assert worker.sent == []
    assert worker.kinds() == [(Kind.AHEAD, 1)]
    assert worker.sent == [interim("hello")]


def test_interims_can_be_off() -> None:
    worker = Worker(1)
    worker.scheduler = Scheduler(interims=False)
    worker.tell(Open(1, "PCMU", 8000, {}), Begin(1), Feed(1, b"hello"))
    worker.wait(5)
    assert worker.kinds() == []
    assert worker.scheduler.wake() is None


def test_it_says_when_it_has_to_be_asked_again() -> None:
    worker = Worker(1)
    assert worker.scheduler.wake() is None
    worker.tell(Begin(1), Feed(1, b"hello"))
    assert worker.begin() is None
    assert worker.scheduler.wake() == worker.now + 1.0
    worker.wait(1.0)
    assert worker.kinds() == [(Kind.INTERIM, 1)]
    assert worker.scheduler.wake() == worker.now + 1.0


def test_a_line_that_delivers_nothing_is_not_looked_at_over_and_over() -> None:
    worker = Worker(1)
    worker.tell(Begin(1))
    worker.wait(3)
    assert worker.kinds() == []
    assert worker.scheduler.wake() == worker.now + 1.0


# --- more than can be done ------------------------------------------------------------------------------------------


def test_while_finals_have_to_wait_nothing_else_is_decoded() -> None:
    worker = Worker(1, 2)
    worker.tell(Begin(1), Feed(1, b"one"), Begin(2), Feed(2, b"two"), Finish(2))
    worker.wait(0.6)
    worker.tell(Pause(1))
    assert worker.kinds() == [(Kind.FINAL, 2)]
    assert worker.scheduler.wake() == worker.now + 5.0
    worker.wait(4.9)
    assert worker.kinds() == []
    worker.wait(0.2)
    assert worker.kinds() == [(Kind.AHEAD, 1)]


def test_a_final_that_is_too_late_lets_the_others_pass() -> None:
    worker = Worker(1, 2)
    worker.tell(Begin(1), Feed(1, b"late"), Finish(1))
    worker.wait(5)
    worker.tell(Begin(2), Feed(2, b"fresh"), Finish(2))
    assert worker.kinds() == [(Kind.FINAL, 2), (Kind.FINAL, 1)]
    assert worker.sent == [final("fresh", 2), final("late", 1)]


def test_one_utterance_keeps_its_last_seconds_in_whole_samples() -> None:
    worker = Worker()
    worker.tell(Open(1, "PCM16", 8000, {}), Begin(1))
    for _ in range(50):
        worker.tell(Feed(1, bytes(15999)))
    worker.tell(Feed(1, b"\x01" * 51), Finish(1))
    job = worker.begin()
    assert job is not None
    assert KEPT * 16000 - 2 < len(job.audio) <= KEPT * 16000
    assert job.audio.endswith(b"\x01" * 51)
    assert (50 * 15999 + 51 - len(job.audio)) % 2 == 0, "it begins where a sample does"


def test_what_one_stream_has_waiting_is_bounded_and_every_question_is_answered() -> None:
    worker = Worker(1)
    for number in range(10):
        worker.tell(Begin(1), Feed(1, str(number).encode() * 30 * SECOND), Finish(1))
    assert worker.sent == [final("")] * 6
    assert [job.audio[:1] for job in worker.jobs()] == [b"6", b"7", b"8", b"9"]
    assert len(worker.sent) == 10


def test_the_finals_of_twelve_talkers_hardly_wait() -> None:
    """Ten minutes at 0.15 s a decoding: most finals find the words of their last pause."""
    waits, decoded = conversation(talkers=12, cost=0.15, seconds=600.0)
    assert len(waits) > 800
    assert waits[len(waits) // 2] == 0.0
    assert waits[int(len(waits) * 0.95)] < 0.2
    assert decoded[Kind.AHEAD] > 1000 > 100 > decoded[Kind.FINAL]
    assert decoded[Kind.INTERIM] > 400


def test_a_final_that_waited_a_little_turns_interims_off_and_decode_ahead_stays() -> None:
    worker = Worker(1, 2, 3)
    worker.tell(Begin(1), Feed(1, b"one"), Finish(1), Begin(2), Feed(2, b"two"), Begin(3), Feed(3, b"three"))
    worker.wait(0.3)
    assert worker.kinds() == [(Kind.FINAL, 1)]
    worker.wait(2.0)
    assert worker.kinds() == [], "interims of the others would be due"
    worker.tell(Pause(2))
    assert worker.kinds() == [(Kind.AHEAD, 2)]
    worker.wait(3.0)
    assert worker.kinds() == [(Kind.INTERIM, 3)]


def test_with_too_many_talkers_interims_go_first_and_no_answer_is_lost() -> None:
    waits, decoded = conversation(talkers=40, cost=0.15, seconds=300.0)
    assert decoded[Kind.INTERIM] < 200 < decoded[Kind.FINAL]
    assert waits[len(waits) // 2] < 4.0, "those who can be served in time are"


def conversation(talkers: int, cost: float, seconds: float) -> tuple[list[float], Counter[Kind]]:
    """What that many callers' finals waited, shortest first, and what was decoded. Every final must be answered."""
    chance = random.Random(1)
    worker = Worker(*range(talkers))
    coming: list[tuple[float, ToWorker]] = []
    for stream in range(talkers):
        at = chance.uniform(100, 106)
        while at < 100 + seconds:
            coming += [(at, Begin(stream)), (at, Feed(stream, b"x"))]
            at += chance.uniform(1.5, 4.5)
            while chance.random() < 0.35:  # a pause that is not the end
                coming += [(at + 0.2, Pause(stream)), (at + chance.uniform(0.21, 0.49), Resume(stream))]
                at += chance.uniform(0.8, 2.0)
            coming += [(at + 0.2, Pause(stream)), (at + 0.5, Finish(stream))]
            at += chance.uniform(2.0, 4.0)
    coming.sort(key=lambda each: each[0])
    coming.reverse()
    asked: dict[int, list[float]] = {stream: [] for stream in range(talkers)}
    waits: list[float] = []
    decoded: Counter[Kind] = Counter()
    job, free = None, 0.0
    while coming or job is not None:
        if job is not None and (not coming or free <= coming[-1][0]):
            worker.now = free
            worker.end(job)
        elif coming:
            worker.now, message = coming.pop()
            worker.tell(message)
            if isinstance(message, Finish):
                asked[message.stream].append(worker.now)
        for answer in worker.sent:
            if isinstance(answer, Recognized) and answer.final:
                waits.append(worker.now - asked[answer.stream].pop(0))
        worker.sent.clear()
        if job is None or worker.now == free:
            job = worker.begin()
            if job is not None:
                decoded[job.kind] += 1
                free = worker.now + cost * chance.uniform(0.7, 1.5)
            elif (due := worker.scheduler.wake()) is not None and (not coming or due < coming[-1][0]):
                coming.append((due, Close(-1)))  # asks again then
    assert not any(asked.values())
    return sorted(waits), decoded


def test_messages_about_a_stream_that_is_gone_are_ignored() -> None:
    worker = Worker()
    worker.tell(Feed(7, b"x"), Begin(7), Pause(7), Resume(7), Finish(7), Close(7))
    assert (worker.sent, worker.kinds()) == ([], [])
