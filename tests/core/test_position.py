"""How much was heard: the clock, corrected by marks, not fooled by clears."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier.position import LATE, PlaybackPosition


def test_without_marks_the_clock_tells() -> None:
    position = PlaybackPosition()
    position.queue(3.0, now=10.0)
    assert position.heard(10.0) == 0.0
    assert position.heard(11.5) == pytest.approx(1.5)
    assert position.heard(99.0) == 3.0


def test_an_outstanding_mark_is_an_upper_bound() -> None:
    position = PlaybackPosition()
    position.queue(1.0, now=0.0)
    position.mark()
    position.queue(1.0, now=0.0)
    assert position.heard(1.8) == 1.0, "the carrier has not confirmed the first second"


def test_an_echoed_mark_sets_the_clock_right() -> None:
    position = PlaybackPosition()
    position.queue(2.0, now=0.0)
    name = position.mark()
    position.queue(2.0, now=0.0)
    assert position.reached(name, now=2.7), "the carrier started 0.7 s late"
    assert position.heard(2.7) == pytest.approx(2.0)
    assert position.heard(3.2) == pytest.approx(2.5)


def test_with_two_marks_outstanding_the_first_is_the_bound() -> None:
    position = PlaybackPosition()
    names = []
    for _ in range(3):
        position.queue(1.0, now=0.0)
        names.append(position.mark())
    position.queue(1.0, now=0.0)
    assert position.heard(2.9) == 1.0 and position.remaining(2.9) == 3.0
    assert position.reached(names[0], now=3.0)
    assert position.heard(3.5) == pytest.approx(1.5)
    assert position.heard(6.0) == 2.0, "the second has not come back"
    assert position.reached(names[2], now=6.0), "and then both at once"
    assert position.heard(6.0) == pytest.approx(3.0) and position.heard(6.6) == pytest.approx(3.6)
    assert not position.reached(names[1], now=7.0), "what was passed already proves nothing new"
    assert position.heard(99.0) == 4.0


def test_marks_are_named_by_generation_and_number_and_tell_how_much_came_after_them() -> None:
    position = PlaybackPosition()
    assert position.queue(1.0, now=0.0) == position.since_mark == 1.0
    assert position.mark() == "lc0.1" and position.since_mark == 0.0
    assert position.queue(0.5, now=0.0) == position.since_mark == 0.5
    assert position.mark() == "lc0.2"
    position.clear(now=0.2)
    assert position.queue(0.25, now=1.0) == position.since_mark == 0.25
    assert position.mark() == "lc1.3", "a name is never used twice"
    position.clear(now=1.1)
    position.queue(0.5, now=2.0)
    assert position.mark() == "lc2.4"


def test_what_was_sent_and_dropped_adds_up_over_several_clears() -> None:
    position = PlaybackPosition()
    for begun in (0.0, 10.0, 20.0):
        position.queue(3.0, now=begun)
        assert position.clear(now=begun + 1.0)[:2] == pytest.approx((1.0, 2.0))
    position.queue(4.0, now=30.0)
    assert (position.sent, position.queued) == pytest.approx((13.0, 7.0))
    assert (position.heard(31.0), position.remaining(31.0)) == pytest.approx((4.0, 3.0))
    assert not position.proven
    assert position.reached(position.mark(), now=34.5) and position.proven and position.remaining(34.5) == 0.0


def test_clear_counts_what_was_heard_and_what_was_not() -> None:
    position = PlaybackPosition()
    position.queue(5.0, now=0.0)
    assert position.clear(now=2.0)[:2] == pytest.approx((2.0, 3.0))
    assert position.heard(100.0) == pytest.approx(2.0)
    position.queue(1.0, now=100.0)
    assert position.heard(100.5) == pytest.approx(2.5)


def test_a_mark_echoed_by_a_clear_proves_nothing() -> None:
    position = PlaybackPosition()
    position.queue(5.0, now=0.0)
    name = position.mark()
    position.clear(now=1.0)
    assert not position.reached(name, now=1.0)
    assert position.heard(50.0) == pytest.approx(1.0)


def test_marks_that_do_not_come_back_after_a_clear_leave_the_position_to_the_clock_which_says_so() -> None:
    position = PlaybackPosition()
    position.queue(2.0, now=0.0)
    position.reached(position.mark(), now=2.0)
    position.queue(2.0, now=2.0)
    position.mark()
    assert position.measured(2.5) and position.clear(now=3.0) == pytest.approx((3.0, 1.0, True))
    assert not position.measured(3.0), "of what comes now no mark has come back"
    position.queue(1.0, now=10.0)
    position.mark()
    position.queue(9.0, now=10.0)
    assert position.heard(11.0 + LATE) == pytest.approx(4.0), "the first mark may still come"
    assert position.heard(11.5 + LATE) == pytest.approx(3.0 + 1.5 + LATE) and not position.measured(11.5 + LATE)
    assert position.remaining(11.5 + LATE) == pytest.approx(10.0 - 1.5 - LATE)
    assert position.clear(now=16.0) == pytest.approx((6.0, 4.0, False))


def test_a_mark_that_comes_back_very_late_takes_nothing_back() -> None:
    position = PlaybackPosition()
    position.queue(1.0, now=0.0)
    name = position.mark()
    position.queue(9.0, now=0.0)
    position.mark()
    assert position.heard(5.0) == pytest.approx(5.0)
    assert position.reached(name, now=5.0) and position.measured(5.0)
    assert position.heard(5.0) == position.heard(8.9) == pytest.approx(5.0), "by the mark it is 1.0 now"
    assert position.heard(10.0) == pytest.approx(6.0)


def test_an_overdue_mark_bounds_nothing_whenever_it_was_lost_until_the_next_comes_back() -> None:
    position = PlaybackPosition()
    names = []
    for _ in range(4):
        position.queue(1.0, now=0.0)
        names.append(position.mark())
    position.queue(6.0, now=0.0)
    assert position.reached(names[0], now=1.0) and position.reached(names[1], now=2.5), "half a second late"
    assert position.heard(3.5 + LATE) == 3.0 and position.measured(3.5 + LATE), "the third may still come"
    assert position.heard(4.0 + LATE) == pytest.approx(3.5 + LATE) and not position.measured(4.0 + LATE)
    assert position.clear(now=6.5) == pytest.approx((6.0, 4.0, False))


def test_of_a_far_end_that_returns_no_mark_none_is_waited_for_again_until_one_comes_back() -> None:
    position = PlaybackPosition()
    position.queue(1.0, now=0.0)
    position.mark()
    position.queue(9.0, now=0.0)
    assert position.clear(now=4.0) == pytest.approx((4.0, 6.0, False))
    position.queue(1.0, now=10.0)
    name = position.mark()
    position.queue(9.0, now=10.0)
    position.mark()
    assert position.heard(12.0) == pytest.approx(4.0 + 2.0) and not position.measured(12.0)
    assert position.reached(name, now=12.0) and position.measured(12.0)
    assert position.heard(12.5) == pytest.approx(4.0 + 2.0), "1.5 by the mark, and more was reported"
    position.clear(now=13.0)
    position.queue(1.0, now=20.0)
    position.mark()
    position.queue(9.0, now=20.0)
    assert position.heard(22.0) == pytest.approx(4.0 + 2.0 + 1.0), "marks bound again"


def test_nothing_is_heard_after_the_end_of_the_stream() -> None:
    position = PlaybackPosition()
    position.queue(3.0, now=0.0)
    position.end(now=1.0)
    assert position.heard(2.0) == pytest.approx(1.0) and position.remaining(2.0) == pytest.approx(2.0)


def test_a_mark_lost_before_a_silence_does_not_hold_up_what_is_said_after_it() -> None:
    position = PlaybackPosition()
    position.queue(1.0, now=0.0)
    position.mark()
    position.queue(1.0, now=20.0)
    position.mark()
    assert position.heard(20.5) == pytest.approx(1.5)


def test_the_clock_tells_how_far_ahead_is_sent_whatever_becomes_of_the_marks() -> None:
    position = PlaybackPosition()
    assert position.ahead(5.0) == 0.0
    position.queue(3.0, now=10.0)
    name = position.mark()
    position.queue(1.0, now=10.0)
    assert (position.ahead(10.0), position.ahead(12.0), position.ahead(99.0)) == pytest.approx((4.0, 2.0, 0.0))
    assert position.reached(name, now=13.5) and position.ahead(13.5) == pytest.approx(1.0)
    position.clear(now=13.6)
    assert position.ahead(13.6) == 0.0


@pytest.mark.parametrize("pace", ["ahead", "remaining"])
@pytest.mark.parametrize("lost", ["none", "third", "all from the fifth", "all"])
def test_pacing_goes_on_whichever_marks_the_far_end_loses(pace: str, lost: str) -> None:
    is_lost = {"none": [], "third": [3], "all from the fifth": range(5, 10_000), "all": range(10_000)}[lost]
    position, on_their_way = PlaybackPosition(), list[tuple[float, str]]()
    played_until, sent, made = 0.0, 0, 0
    for now in (step / 50 for step in range(60 * 50)):
        while on_their_way and on_their_way[0][0] <= now:
            position.reached(on_their_way.pop(0)[1], now)
        while getattr(position, pace)(now) < 0.2:
            sent += 1
            played_until = max(played_until, now) + 0.02
            if position.queue(0.02, now) >= 0.5:
                name, made = position.mark(), made + 1
                if made not in is_lost:
                    on_their_way.append((played_until + 0.03, name))
    stalls = 0.0 if pace == "ahead" or lost == "none" else LATE
    assert 60.0 - stalls - 2.0 < sent / 50 < 60.5


def test_without_any_mark_the_position_is_the_clocks() -> None:
    position = PlaybackPosition()
    position.queue(2.0, now=0.0)
    assert not position.measured(0.5) and position.clear(now=1.0) == pytest.approx((1.0, 1.0, False))


def test_foreign_marks_are_not_ours() -> None:
    position = PlaybackPosition()
    assert not any(position.reached(name, 0.0) for name in ("hello", "lc0.9", "lc.", "lc1", ""))


def test_silence_between_two_utterances_is_not_heard_audio() -> None:
    position = PlaybackPosition()
    position.queue(1.0, now=0.0)
    position.queue(1.0, now=10.0)
    assert position.heard(10.5) == pytest.approx(1.5)


@given(st.lists(st.tuples(st.sampled_from(["send", "mark", "echo", "clear", "wait"]), st.floats(0.01, 5.0))))
def test_heard_never_exceeds_sent_and_never_falls(steps: list[tuple[str, float]]) -> None:
    position, now, heard, names = PlaybackPosition(), 0.0, 0.0, []
    for step, amount in steps:
        match step:
            case "send":
                position.queue(amount, now)
            case "mark":
                names.append(position.mark())
            case "echo" if names:
                # A carrier echoes a mark only after playing up to it, so not before the clock allows it either.
                position.reached(names.pop(0), now)
            case "clear":
                position.clear(now)
                names.clear()
            case "wait":
                now += amount
        assert -1e-9 <= position.heard(now) <= position.sent + 1e-9
        assert position.heard(now) >= heard - 1e-9 or step == "echo"
        heard = position.heard(now)


def test_the_last_mark_that_comes_back_late_takes_nothing_back() -> None:
    position = PlaybackPosition()
    position.queue(1.0, 0.0)
    mark = position.mark()
    position.queue(2.0, 0.0)
    assert position.heard(3.5) == 3.0, "overdue: by the clock"
    assert position.reached(mark, 3.5) and position.heard(3.5) == 3.0


def test_after_the_end_no_mark_is_overdue() -> None:
    position = PlaybackPosition()
    position.queue(1.0, 0.0)
    first = position.mark()
    position.queue(3.0, 0.0)
    position.mark()
    position.reached(first, 1.0)
    position.end(2.5)
    assert [(position.measured(at), position.heard(at)) for at in (2.5, 20.0)] == [(True, 2.5)] * 2
