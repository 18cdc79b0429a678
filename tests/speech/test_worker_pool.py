"""Worker processes: what is opened on them, and what becomes of streams when one cannot start, dies or hangs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from anycarrier.errors import ConfigurationError, SpeechFailed
from anycarrier.speech import Heard, Hearing, Recognizer
from anycarrier.speech.workers import WorkerPool, WorkerRecognizer

Pools = Callable[..., WorkerPool]

LIMIT = 77.0
"""An answer limit that no machine reaches by itself: :class:`Limits` does."""


class Limits:
    """Lets :data:`LIMIT` pass at once, whenever the test says so and never before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self._later = loop.call_later
        self._waiting: list[Callable[[], None]] = []
        monkeypatch.setattr(loop, "call_later", self._call_later)

    def _call_later(self, delay: float, call: Callable[..., Any], *given: Any, **how: Any) -> asyncio.TimerHandle:
        if delay == LIMIT:
            self._waiting.append(call)
        return self._later(delay, call, *given, **how)

    def reach(self) -> None:
        waiting, self._waiting = self._waiting, []
        assert waiting, "a worker that owes an answer is watched"
        for look in waiting:
            look()


@pytest.fixture
async def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    return Limits(monkeypatch)


@pytest.fixture
async def pools(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pools]:
    """Makes pools of ``pool_worker.py`` in a role; closed when the test is over."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made: list[WorkerPool] = []

    def make(*arguments: str, **settings: Any) -> WorkerPool:
        made.append(WorkerPool("brook", "listen", "pool_worker", arguments or ("obedient",), **settings))
        return made[-1]

    yield make
    for pool in made:
        await pool.aclose()


async def asked(recognizer: Recognizer, audio: bytes) -> str:
    recognizer.feed(audio)
    recognizer.finish()
    return (await answer(recognizer)).text


async def answer(recognizer: Recognizer) -> Heard:
    async with asyncio.timeout(30):
        return await anext(aiter(recognizer))


async def test_a_stream_gets_its_configuration_and_its_answers(pools: Pools) -> None:
    recognizer = await WorkerRecognizer.open(pools(), Hearing(), {"beam": 5, "phrases": ("a", "b")})
    assert isinstance(recognizer, Recognizer)
    assert await asked(recognizer, b"12345") == "{'beam': 5, 'phrases': ['a', 'b']} 5"
    await recognizer.aclose()
    assert [heard async for heard in recognizer] == []


async def test_a_worker_gets_the_environment_that_its_libraries_need(pools: Pools) -> None:
    recognizer = await WorkerRecognizer.open(pools(environment={"BROOK": "1"}), Hearing())
    assert await asked(recognizer, b"environment") == "1"


async def test_a_stream_that_is_refused_is_a_configuration_error(pools: Pools) -> None:
    pool = pools()
    with pytest.raises(ConfigurationError, match="brook cannot listen: say yes instead"):
        await WorkerRecognizer.open(pool, Hearing(), "no")
    assert await asked(await WorkerRecognizer.open(pool, Hearing(), "yes"), b"1") == "yes 1"


async def test_a_library_that_prints_does_not_meet_the_messages(pools: Pools) -> None:
    assert await asked(await WorkerRecognizer.open(pools(), Hearing()), b"print") == "None 5"


@pytest.mark.parametrize(
    ("role", "why"),
    [
        ("unusable", "brook failed to listen: the model is cut: pip install it again"),
        ("broken", "RuntimeError: no such library"),
        ("crash", "ended with status 7 before it was ready"),
        ("garbage", "ended with status -9 before it was ready"),
    ],
)
async def test_a_worker_that_cannot_start_says_why_and_is_not_started_over_and_over(
    pools: Pools, role: str, why: str
) -> None:
    pool = pools(role, size=2)
    with pytest.raises(SpeechFailed, match=why):
        await pool.start()
    with pytest.raises(SpeechFailed, match=why):
        await WorkerRecognizer.open(pool, Hearing())
    async with asyncio.timeout(30):
        while pool.process_ids:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert pool.process_ids == []


async def test_a_worker_that_does_not_get_ready_is_given_up(pools: Pools) -> None:
    pool = pools("silent", start_limit=0.05)
    with pytest.raises(SpeechFailed, match="ended with status -9 before it was ready"):
        await pool.start()


async def test_a_stream_whose_worker_dies_goes_on_with_the_next(pools: Pools) -> None:
    pool = pools(size=2)
    await pool.start()
    first, second = [await WorkerRecognizer.open(pool, Hearing(), name) for name in ("one", "two")]
    second.feed(b"123")
    assert await asked(first, b"1") == "one 1"
    killed = pool._homes[second.opening.stream]
    killed.kill()
    await killed.process.wait()
    second.finish()
    assert (await answer(second)).text == "two 3"
    await pool.start()
    assert len(pool.process_ids) == 2


async def test_a_worker_that_died_is_not_said_to_be_silent_too(
    pools: Pools, limits: Limits, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools(answer_limit=LIMIT, moves_limit=1)
    with pytest.raises(SpeechFailed, match="died 2 times"):
        await asked(await WorkerRecognizer.open(pool, Hearing()), b"die")
    limits.reach()
    assert "ended with status" in caplog.text
    assert "not answered" not in caplog.text


async def test_a_worker_that_stops_reading_is_replaced_and_the_log_says_so_once(
    pools: Pools, caplog: pytest.LogCaptureFixture
) -> None:
    pool = pools()
    recognizer = await WorkerRecognizer.open(pool, Hearing(), "read")
    (stuck,) = pool.process_ids
    os.kill(stuck, signal.SIGSTOP)
    for _ in range(50):
        recognizer.feed(bytes(100_000))
    recognizer.finish()
    assert (await answer(recognizer)).text.startswith("read")
    assert stuck not in pool.process_ids
    assert caplog.text.count("MB unread") == 1


async def test_a_stream_that_kills_its_workers_fails(pools: Pools) -> None:
    pool = pools(moves_limit=1)
    recognizer = await WorkerRecognizer.open(pool, Hearing())
    with pytest.raises(SpeechFailed, match="died 2 times"):
        await asked(recognizer, b"die")


async def test_a_stream_that_had_nothing_to_do_is_not_blamed_for_the_death_of_its_worker(pools: Pools) -> None:
    pool = pools(moves_limit=0)
    idle, deadly = [await WorkerRecognizer.open(pool, Hearing(cued=True)) for _ in range(2)]
    deadly.begin()
    with pytest.raises(SpeechFailed, match="died 1 times"):
        await asked(deadly, b"die")
    idle.begin()
    assert await asked(idle, b"12") == "None 2"


async def test_a_stream_fails_when_the_next_worker_cannot_start(pools: Pools, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pool = pools("unusable if marked", str(mark))
    recognizer = await WorkerRecognizer.open(pool, Hearing())
    mark.touch()
    with pytest.raises(SpeechFailed, match="the model is cut"):
        await asked(recognizer, b"die")


async def test_a_worker_that_hangs_is_replaced(pools: Pools) -> None:
    pool = pools(answer_limit=0.5, moves_limit=0)
    recognizer = await WorkerRecognizer.open(pool, Hearing())
    with pytest.raises(SpeechFailed, match="died 1 times"):
        await asked(recognizer, b"hang")


async def test_it_is_noticed_that_a_second_answer_does_not_come(pools: Pools, limits: Limits) -> None:
    """The first answer is a sign of life, and no more: the second is still owed."""
    pool = pools(answer_limit=LIMIT, moves_limit=0)
    recognizer = await WorkerRecognizer.open(pool, Hearing())
    for audio in (b"1", b"hang"):
        recognizer.feed(audio)
        recognizer.finish()
    assert (await answer(recognizer)).text == "None 1"
    limits.reach()
    with pytest.raises(SpeechFailed, match="died 1 times"):
        await answer(recognizer)


async def test_an_answer_that_a_closed_stream_waited_for_is_not_owed(pools: Pools, limits: Limits) -> None:
    pool = pools(answer_limit=LIMIT)
    recognizer, other = [await WorkerRecognizer.open(pool, Hearing()) for _ in range(2)]
    recognizer.feed(b"nothing")
    recognizer.finish()
    await recognizer.aclose()
    (process,) = pool.process_ids
    limits.reach()
    assert await asked(other, b"12") == "None 2"
    assert pool.process_ids == [process]


async def test_a_closed_pool_opens_nothing(pools: Pools) -> None:
    pool = pools()
    recognizer = await WorkerRecognizer.open(pool, Hearing())
    await pool.aclose()
    with pytest.raises(SpeechFailed, match="closed"):
        await answer(recognizer)
    with pytest.raises(SpeechFailed, match="closed"):
        await WorkerRecognizer.open(pool, Hearing())
