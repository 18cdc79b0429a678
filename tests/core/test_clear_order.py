"""A clear and what is being sent: which of them goes first, what goes no further, and how it is counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycarrier import MarkDropped, MediaSession, PacedVoice, Playback
from anycarrier.errors import StreamNotOpen
from fake_carriers import FakeFrames
from fake_sessions import CALL, Control, Recorder
from virtual_time import ExactLoop, virtually

FRAME = 160
"""Bytes in each of the carrier's frames: 20 ms."""


class ShortFrames(FakeFrames):
    """Takes audio in frames of 20 ms."""

    def encode_audio(self, payload: bytes) -> list[str]:
        encode = super().encode_audio
        return [frame for at in range(0, len(payload), FRAME) for frame in encode(payload[at : at + FRAME])]


class Pulled:
    """Takes ``room`` more frames, then makes its writers wait. ``got`` is the audio and clears that arrived."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.room = 10_000
        self.gone = False
        self._more = asyncio.Condition()

    def take(self, frame: str | bytes) -> None:
        if self.gone:
            raise ConnectionError("gone")
        message = json.loads(frame)
        if message["event"] == "media":
            self.got.append(message["audio"][0])
            assert len(message["audio"]) == FRAME
        elif message["event"] == "clear":
            self.got.append("clear")

    async def send(self, frame: str | bytes) -> None:
        async with self._more:
            await self._more.wait_for(lambda: self.room > 0)
            self.room -= 1
        self.take(frame)

    async def allow(self, room: int) -> None:
        self.room = room
        async with self._more:
            self._more.notify_all()
        await settle()

    async def __aiter__(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def close(self, code: int = 1000) -> None: ...


class Pushed(Pulled):
    """The same, where writers have to mind ``paused``."""

    resumed: Callable[[], None] | None = None

    @property
    def paused(self) -> bool:
        return self.room <= 0

    def write(self, frame: str | bytes) -> None:
        if json.loads(frame)["event"] == "media":
            assert not self.paused
            self.room -= 1
        self.take(frame)

    async def send(self, frame: str | bytes) -> None:
        raise AssertionError("who pushes is written to")

    async def allow(self, room: int) -> None:
        self.room = room
        if not self.paused and self.resumed is not None:
            self.resumed()
        await settle()

    def look_first(self, look: object) -> None: ...

    async def push_to(self, receive: object) -> None: ...


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class Call:
    def __init__(self, pushes: bool) -> None:
        self.far_end = Pushed() if pushes else Pulled()
        clock = asyncio.get_running_loop().time
        transport: Any = self.far_end
        self.session = MediaSession(CALL, "a", ShortFrames(), transport, Control(), clock=clock)
        self.session.stream.receive(json.dumps({"event": "start", "call_id": "c1"}))

    def say(self, word: str, frames: int) -> asyncio.Task[None]:
        return asyncio.ensure_future(self.session.send_audio(word.encode("latin-1") * FRAME * frames))

    @property
    def got(self) -> str:
        """Letters with how many frames of each arrived, in order: ``a3 clear b10``."""
        runs = ((word, len(list(run))) for word, run in groupby(self.far_end.got))
        return " ".join(word if word == "clear" else f"{word}{count}" for word, count in runs)


@pytest.fixture(params=[False, True], ids=["pulled", "pushed"])
def pushes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def run(work: Coroutine[Any, Any, None]) -> None:
    virtually(work, ExactLoop)


def test_what_a_clear_overtakes_goes_no_further_and_counts_as_far_as_it_went(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        call.session.tap = tap = Recorder()
        await call.far_end.allow(5)
        talking = call.say("a", 100)
        await asyncio.sleep(0.04)
        # A frame that an awaited transport is sending can no longer be held back; it was not heard.
        sent = 5 if pushes else 6
        assert call.session.clear_now() == pytest.approx((0.04, 0.02 * sent - 0.04, False))
        assert (call.session.ahead, call.session.remaining) == (0.0, 0.0)
        assert call.got == ("a5 clear" if pushes else "a5")
        after = call.say("b", 3)
        await call.far_end.allow(1000)
        await talking
        await after
        assert call.got == f"a{sent} clear b3"
        assert call.session.sent == pytest.approx(0.02 * (sent + 3)) and call.session.queued == pytest.approx(0.1)
        assert [told[0] for told in tap.told] == ["agent", "cut", "agent"]

    run(scene())


def test_what_waited_behind_it_is_overtaken_too_and_nothing_overtakes_the_clear(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        await call.far_end.allow(2)
        before = [call.say("a", 10), call.say("b", 10), asyncio.ensure_future(call.session.mark("said"))]
        before += [asyncio.ensure_future(call.session.flush()), asyncio.ensure_future(call.session.drain())]
        await settle()
        call.session.clear_now()
        after = [call.say("c", 2), call.say("d", 2)]
        clearing = asyncio.ensure_future(call.session.clear())
        last = call.say("e", 2)
        await call.far_end.allow(1000)
        await asyncio.gather(*before, *after, clearing, last)
        assert await anext(call.session) == MarkDropped("said")
        assert call.got == ("a2 clear e2" if pushes else "a3 clear e2") and call.far_end.got.count("clear") == 2

    run(scene())


def test_audio_on_a_free_connection_is_sent_after_the_clear_that_was_asked_for_first(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        await call.session.send_audio(b"a" * FRAME)
        call.session.clear_now()
        await call.session.send_audio(b"b" * FRAME)
        assert call.got == "a1 clear b1"
        assert len(asyncio.all_tasks()) <= 2
        await settle()
        assert call.got == "a1 clear b1" and asyncio.all_tasks() == {asyncio.current_task()}

    run(scene())


def test_a_clear_is_sent_though_whoever_was_to_send_it_first_gives_up() -> None:
    async def scene() -> None:
        call = Call(pushes=False)
        await call.far_end.allow(0)
        talking = call.say("a", 2)
        await settle()
        clearing = asyncio.ensure_future(call.session.clear())
        after = [call.say("b", 2), call.say("c", 2)]
        await settle()
        for task in (talking, clearing, after[0]):
            task.cancel()
        await settle()
        await call.far_end.allow(1000)
        await after[1]
        assert call.got == "clear c2", "the frame of a cancelled sender may have been sent; it was not here"
        assert call.session.queued == pytest.approx(0.04)

    run(scene())


def test_a_connection_that_is_gone_fails_the_clear_or_ends_the_stream_and_leaves_no_task(pushes: bool) -> None:
    async def scene() -> None:
        for at_once in (True, False):
            call = Call(pushes)
            await call.session.send_audio(b"a" * FRAME)
            call.far_end.gone = True
            if not at_once:
                with pytest.raises(StreamNotOpen, match="connection is gone"):
                    await call.session.clear()
            else:
                with pytest.raises(StreamNotOpen) if pushes else contextlib.nullcontext():
                    call.session.clear_now()
            await settle()
            assert call.session.stop_reason == "connection lost"
            with pytest.raises(StreamNotOpen, match="connection lost"):
                call.session.clear_now()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scene())


def test_the_end_of_the_stream_wakes_whoever_waits_to_send(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        await call.far_end.allow(1)
        talking = [call.say("a", 10), call.say("b", 10)]
        await settle()
        call.session.clear_now()
        again = call.say("c", 1)
        await settle()
        call.session.stream.stop("hung up")
        await call.far_end.allow(1000)
        told = await asyncio.gather(*talking, again, return_exceptions=True)
        assert isinstance(told[2], StreamNotOpen), told
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert call.session.stream.output.resumed is None

    run(scene())


def test_a_second_clear_does_not_count_again_what_the_first_found_on_its_way() -> None:
    async def scene() -> None:
        call = Call(pushes=False)
        await call.far_end.allow(0)
        talking = call.say("a", 3)
        await settle()
        assert call.session.clear_now() == pytest.approx((0.0, 0.02, False))
        assert call.session.clear_now() == (0.0, 0.0, False)
        await call.far_end.allow(1000)
        await talking
        assert call.far_end.got == ["a", "clear", "clear"] and call.session.sent == pytest.approx(0.02)

    run(scene())


def test_what_a_cancelled_say_had_not_sent_is_not_sent_after_a_pause(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        voice = PacedVoice(call.session, lead=1.0)
        await call.far_end.allow(3)
        speaking = asyncio.ensure_future(voice.say(b"a" * FRAME * 10))
        await settle()
        speaking.cancel()
        await settle()
        await call.far_end.allow(1000)
        voice.pause()
        voice.resume()
        await settle()
        # The frame that an awaited transport was sending may have been sent.
        assert call.got == ("a3 clear a3" if pushes else "a3 clear a4")

    run(scene())


def test_between_two_who_wait_nobody_sends_out_of_turn(pushes: bool) -> None:
    async def scene() -> None:
        call = Call(pushes)
        await call.far_end.allow(1)

        async def say_twice() -> None:
            await call.session.send_audio(b"a" * FRAME * 2)
            await call.session.send_audio(b"c" * FRAME)

        talking = asyncio.ensure_future(say_twice())
        await settle()
        second = call.say("b", 1)
        await settle()
        await call.far_end.allow(1000)
        await asyncio.gather(talking, second)
        assert call.got == "a2 b1 c1"

    run(scene())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(1, 60)),
        st.tuples(st.sampled_from(["clear_now", "clear", "mark", "flush"]), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("allow"), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.integers(0, 60)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.booleans(), STEPS)
def test_whatever_is_asked_for_in_whatever_order_the_far_end_gets_what_was_counted(
    pushes: bool, steps: list[tuple[str, int]]
) -> None:
    async def scene() -> None:
        call = Call(pushes)
        session, letters = call.session, iter(map(chr, range(200, 256)))
        tasks: list[asyncio.Task[Any]] = []
        asked: list[list[tuple[str, int, asyncio.Task[None]]]] = [[]]
        cleared: list[Playback | asyncio.Task[Playback]] = []
        for step, amount in steps:
            match step:
                case "say":
                    word = next(letters)
                    task = call.say(word, amount)
                    asked[-1].append((word, amount, task))
                    tasks.append(task)
                    await asyncio.sleep(0)
                case "clear_now":
                    cleared.append(session.clear_now())
                    asked.append([])
                case "clear":
                    cleared.append(asyncio.ensure_future(session.clear()))
                    await asyncio.sleep(0)
                    asked.append([])
                case "mark":
                    tasks.append(asyncio.ensure_future(session.mark("m")))
                    await asyncio.sleep(0)
                case "flush":
                    tasks.append(asyncio.ensure_future(session.flush()))
                    await asyncio.sleep(0)
                case "cancel" if tasks:
                    tasks[amount % len(tasks)].cancel()
                    await settle()
                case "allow":
                    await call.far_end.allow(amount)
                case "wait":
                    await asyncio.sleep(amount / 50)
            assert -1e-9 <= session.remaining <= session.sent + 1e-9
        await call.far_end.allow(100_000)
        await asyncio.gather(*tasks, return_exceptions=True)
        playbacks = [played if isinstance(played, Playback) else await played for played in cleared]
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        stretches: list[list[str]] = [[]]
        for arrived in call.far_end.got:
            if arrived == "clear":
                stretches.append([])
            else:
                stretches[-1].append(arrived)
        given_up = any(task.cancelled() for task in tasks)
        assert len(stretches) == len(asked)
        for stretch, words in zip(stretches, asked, strict=True):
            said = {word: count for word, count, _ in words}
            assert [word for word, _ in groupby(stretch)] == [word for word in said if word in stretch], "in order"
            assert all(stretch.count(word) <= said[word] for word in set(stretch))
        for word, count, task in asked[-1]:
            assert task.cancelled() or stretches[-1].count(word) == count, "nothing is lost but by a clear"
        if not given_up:
            for stretch, played in zip(stretches, playbacks, strict=False):
                assert played.heard + played.dropped == pytest.approx(0.02 * len(stretch))
            assert session.sent == pytest.approx(0.02 * sum(map(len, stretches)))

    run(scene())


VOICE_STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            "say say say pause resume resume cut cancel allow allow wait wait clear mark flush drain done".split()
        ),
        st.integers(1, 50),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(st.booleans(), st.sampled_from([0.04, 0.2, 1.0]), VOICE_STEPS, st.booleans())
def test_a_paced_voice_over_a_connection_that_stalls_wedges_nobody(
    pushes: bool, lead: float, steps: list[tuple[str, int]], ends: bool
) -> None:
    async def scene() -> None:
        call = Call(pushes)
        voice, session = PacedVoice(call.session, lead=lead), call.session
        tasks: list[asyncio.Future[Any]] = []
        for step, amount in steps:
            match step:
                case "say":
                    tasks.append(asyncio.ensure_future(voice.say(bytes([64 + amount]) * FRAME * amount)))
                    await asyncio.sleep(0)
                case "cut":
                    voice.cut()
                    assert voice.idle
                case "pause" | "resume":
                    getattr(voice, step)()
                case "cancel" if tasks:
                    tasks[amount % len(tasks)].cancel()
                    await asyncio.sleep(0)
                case "allow":
                    await call.far_end.allow(amount - 1)
                case "wait":
                    await asyncio.sleep(amount / 50)
                case "clear":
                    session.clear_now()
                case "mark":
                    tasks.append(asyncio.ensure_future(session.mark("m")))
                case "flush":
                    tasks.append(asyncio.ensure_future(session.flush()))
                case "drain":
                    tasks.append(asyncio.ensure_future(session.drain(timeout=5)))
                case "done":
                    tasks.append(asyncio.ensure_future(voice.done()))
        if ends:
            session.stream.stop("hung up")
        await call.far_end.allow(100_000)
        voice.resume()
        told = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 200)
        expected = (asyncio.CancelledError, StreamNotOpen) if ends else asyncio.CancelledError
        assert all(result is None or isinstance(result, expected) for result in told)
        await asyncio.wait_for(voice.done(), 50)
        assert ends or voice.idle
        await asyncio.sleep(3)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scene())
