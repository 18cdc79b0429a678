"""What a carrier's buffer does: real-time positions, marks, clear; on a clock the tests move themselves."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from anycarrier.testing.far_end_audio import PlaybackBuffer


class Hands:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, int, Handle]] = []
        self._count = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], /) -> Handle:
        handle = Handle(callback)
        heapq.heappush(self._due, (when, next(self._count), handle))
        return handle

    def move(self, seconds: float) -> None:
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            when, _, handle = heapq.heappop(self._due)
            self.now = max(self.now, when)
            if handle.callback is not None:
                handle.callback()
        self.now = until


class Handle:
    def __init__(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None


def line() -> tuple[Hands, PlaybackBuffer, list[str]]:
    hands = Hands()
    return hands, PlaybackBuffer(clock=hands), []


def test_audio_is_heard_at_the_pace_of_the_clock() -> None:
    hands, playback, _ = line()
    playback.play(b"a" * 8000)
    assert playback.heard == b""
    hands.move(0.25)
    assert len(playback.heard) == 2000 and playback.waiting == 0.75
    hands.move(5)
    assert len(playback.heard) == 8000 and playback.waiting == 0


def test_silence_between_two_pieces_is_not_heard_and_does_not_shorten_the_second() -> None:
    hands, playback, _ = line()
    playback.play(b"a" * 800)
    hands.move(3)
    playback.play(b"b" * 800)
    hands.move(0.05)
    assert playback.heard == b"a" * 800 + b"b" * 400


def test_a_mark_comes_when_what_was_before_it_was_played() -> None:
    hands, playback, told = line()
    playback.play(b"a" * 800)
    playback.mark(lambda: told.append("one"))
    playback.play(b"b" * 800)
    playback.mark(lambda: told.append("two"))
    hands.move(0.0999)
    assert told == []
    hands.move(0.0002)
    assert told == ["one"]
    hands.move(0.1)
    assert told == ["one", "two"]


def test_a_mark_on_an_idle_line_comes_at_once() -> None:
    hands, playback, told = line()
    playback.mark(lambda: told.append("idle"))
    playback.play(b"a" * 800)
    hands.move(1)
    playback.mark(lambda: told.append("idle again"))
    assert told == ["idle", "idle again"]


def test_clear_drops_the_rest_and_lets_marks_go_in_order() -> None:
    hands, playback, told = line()
    playback.play(b"a" * 8000)
    playback.mark(lambda: told.append("one"))
    playback.mark(lambda: told.append("two"))
    hands.move(0.5)
    playback.clear()
    assert told == ["one", "two"] and len(playback.heard) == 4000 and playback.cleared == 4000
    hands.move(5)
    assert told == ["one", "two"] and len(playback.heard) == 4000


def test_a_cut_line_tells_no_marks() -> None:
    hands, playback, told = line()
    playback.play(b"a" * 8000)
    playback.mark(lambda: told.append("never"))
    playback.cut()
    hands.move(5)
    assert told == [] and playback.heard == b""


def test_more_than_the_buffer_holds_is_refused_whole() -> None:
    hands = Hands()
    playback = PlaybackBuffer(limit=1.0, clock=hands)
    assert playback.play(b"a" * 8000)
    assert not playback.play(b"b")
    hands.move(0.5)
    assert playback.play(b"b" * 4000)
    hands.move(5)
    assert playback.heard == b"a" * 8000 + b"b" * 4000


def test_taps_learn_when_each_piece_sounded() -> None:
    hands, playback, _ = line()
    pieces: list[tuple[float, bytes]] = []
    playback.taps.append(lambda when, piece: pieces.append((when, piece)))
    playback.play(b"a" * 800)
    hands.move(0.05)
    assert playback.seconds == 0.05
    hands.move(2)
    playback.play(b"b" * 80)
    hands.move(1)
    assert playback.seconds == 0.11
    assert [(round(when, 3), len(piece)) for when, piece in pieces] == [(100.0, 400), (100.05, 400), (102.05, 80)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("play"), st.integers(0, 5000)),
            st.tuples(st.just("mark"), st.integers(0, 0)),
            st.tuples(st.just("clear"), st.integers(0, 0)),
            st.tuples(st.just("move"), st.integers(0, 700)),
        )
    )
)
def test_no_byte_is_lost_or_doubled_and_every_mark_comes_once_in_order(steps: list[tuple[str, int]]) -> None:
    hands, playback, _ = line()
    sent, marks = 0, 0
    told: list[int] = []
    for what, size in steps:
        if what == "play":
            playback.play(b"x" * size)
            sent += size
        elif what == "mark":
            playback.mark(lambda number=marks: told.append(number))  # type: ignore[misc]
            marks += 1
        elif what == "clear":
            playback.clear()
        else:
            hands.move(size / 1000)
        assert len(playback.heard) + round(playback.waiting * 8000) + playback.cleared == sent
    hands.move(10_000)
    assert told == list(range(marks))
    assert len(playback.heard) + playback.cleared == sent
