"""What a recognizer on a worker sends: the moment before a cue is part of the utterance; no audio is heard twice."""

from __future__ import annotations

import pytest

from anycarrier.speech import Hearing
from anycarrier.speech.workers import Begin, Feed, Finish, Pause, Resume, ToWorker, WorkerRecognizer, WorkerStream

SECOND = 8000


class FakePool:
    """Notes what it is sent."""

    def __init__(self) -> None:
        self.sent: list[ToWorker] = []

    def number(self) -> int:
        return 1

    async def open(self, stream: WorkerStream) -> None:
        pass

    def send(self, message: ToWorker) -> None:
        self.sent.append(message)

    @property
    def utterances(self) -> list[bytes]:
        """The audio of each utterance."""
        found: list[bytes] = []
        for message in self.sent:
            if isinstance(message, Begin):
                found.append(b"")
            elif isinstance(message, Feed):
                found[-1] += message.audio
        return found


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


async def opened(pool: FakePool) -> WorkerRecognizer:
    return await WorkerRecognizer.open(pool, Hearing(cued=True))  # type: ignore[arg-type]


async def test_half_a_second_before_the_cue_belongs_to_the_utterance(pool: FakePool) -> None:
    recognizer = await opened(pool)
    recognizer.feed(b"a" * SECOND + b"b" * 4000)
    recognizer.begin()
    recognizer.feed(b"c" * 10)
    assert pool.utterances == [b"b" * 4000 + b"c" * 10]


async def test_who_goes_on_just_after_the_end_loses_no_word(pool: FakePool) -> None:
    """The detector tells of a voice some hundredths of a second late: the end may have come in between."""
    recognizer = await opened(pool)
    recognizer.begin()
    recognizer.feed(b"one")
    recognizer.pause()
    recognizer.feed(b"tw")
    recognizer.finish()
    recognizer.feed(b"o")
    recognizer.begin()
    assert pool.utterances == [b"onetw", b"two"]
    assert [type(message) for message in pool.sent if not isinstance(message, Feed)] == [Begin, Pause, Finish, Begin]


async def test_what_was_said_before_a_pause_is_heard_once(pool: FakePool) -> None:
    recognizer = await opened(pool)
    recognizer.begin()
    recognizer.feed(b"one")
    recognizer.pause()
    recognizer.resume()
    recognizer.feed(b"two")
    recognizer.finish()
    recognizer.begin()
    recognizer.feed(b"three")
    assert pool.utterances == [b"onetwo", b"three"]
    assert Resume(1) in pool.sent


async def test_an_utterance_that_is_announced_late_is_whole(pool: FakePool) -> None:
    recognizer = await opened(pool)
    recognizer.feed(b"a" * 3 * SECOND + b"b" * 2 * SECOND)
    recognizer.begin(2.0)
    assert pool.utterances == [b"b" * 2 * SECOND]


async def test_what_is_kept_before_an_utterance_is_bounded(pool: FakePool) -> None:
    recognizer = await opened(pool)
    for _ in range(60):
        recognizer.feed(b"a" * SECOND)
    recognizer.begin(60.0)
    assert pool.utterances == [b"a" * 5 * SECOND]


async def test_an_utterance_announced_late_has_nothing_of_the_one_before_it(pool: FakePool) -> None:
    recognizer = await opened(pool)
    recognizer.begin(0.0)
    recognizer.feed(b"one" + b"t" * 800)
    recognizer.finish(following=0.1)
    recognizer.feed(b"wo")
    recognizer.begin(3.0)
    assert pool.utterances == [b"one" + b"t" * 800, b"t" * 800 + b"wo"]
    assert Finish(1, following=0.1) in pool.sent, "the worker leaves out of the first what is sent with the second"


async def test_a_pause_that_is_told_late_keeps_what_followed_it_for_the_next_utterance(pool: FakePool) -> None:
    recognizer = await opened(pool)
    recognizer.begin(0.0)
    recognizer.feed(b"one" + b"t" * 800)
    recognizer.pause(following=0.1)
    recognizer.feed(b"w")
    recognizer.finish(following=0.100125)
    recognizer.feed(b"o")
    recognizer.begin(3.0)
    assert pool.utterances[1] == b"t" * 800 + b"wo"


async def test_without_announcements_the_next_utterance_gets_what_followed_the_last(pool: FakePool) -> None:
    recognizer = await WorkerRecognizer.open(pool, Hearing())  # type: ignore[arg-type]
    recognizer.feed(b"one" + b"t" * 800)
    recognizer.finish(following=0.1)
    assert [m.audio for m in pool.sent if isinstance(m, Feed)] == [b"one" + b"t" * 800, b"t" * 800]
