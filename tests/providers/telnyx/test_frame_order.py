"""Frames come out in the carrier's order: at once when they are in turn, within a window when they are not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from anycarrier_telnyx.frames import WINDOW, Reorder


def run(chunks: list[int]) -> list[int]:
    order: Reorder[int] = Reorder()
    out: list[int] = []
    for chunk in chunks:
        out += order.push(chunk, chunk) or []
    return out + order.drain()


@st.composite
def shuffled_within_the_window(draw: st.DrawFn) -> list[int]:
    """1..n in an order in which never more than WINDOW frames overtake one that is missing."""
    left = list(range(1, draw(st.integers(1, 60)) + 1))
    out: list[int] = []
    overtaken = 0
    while left:
        pick = draw(st.integers(0, min(WINDOW - overtaken, len(left) - 1)))
        out.append(left.pop(pick))
        overtaken = len([chunk for chunk in out if left and chunk > left[0]])
    return out


@given(shuffled_within_the_window())
def test_any_order_within_the_window_comes_out_in_order_and_nothing_is_lost(chunks):
    assert run(chunks) == sorted(chunks)


@given(st.integers(1, 200))
def test_a_frame_in_its_turn_is_never_held(count):
    order: Reorder[int] = Reorder()
    assert [order.push(chunk, chunk) for chunk in range(1, count)] == [[chunk] for chunk in range(1, count)]
    assert not order.waiting


@given(st.lists(st.integers(-5, 40), max_size=80))
def test_no_order_of_chunks_keeps_more_than_the_window_waiting(chunks):
    order: Reorder[int] = Reorder()
    for chunk in chunks:
        order.push(chunk, chunk)
        assert len(order.waiting) <= WINDOW


def test_a_lost_frame_is_given_up_once_the_window_is_full():
    assert run([1, 3, 4, 5, 6, 7]) == [1, 3, 4, 5, 6, 7]
    order: Reorder[int] = Reorder()
    order.push(1, 1)
    held = [order.push(chunk, chunk) for chunk in range(3, 3 + WINDOW + 1)]
    assert held[:-1] == [[]] * WINDOW
    assert held[-1] == list(range(3, 3 + WINDOW + 1))


def test_a_frame_after_it_was_given_up_and_a_repeated_one_are_too_late():
    order: Reorder[int] = Reorder()
    for chunk in (1, 2, 4, 5, 6, 7, 8, 9):
        order.push(chunk, chunk)
    assert order.push(3, 3) is None
    assert order.push(9, 9) is None
    assert order.push(10, 10) == [10]


def test_a_counter_that_begins_anew_silences_the_call_for_a_moment_only():
    order: Reorder[int] = Reorder()
    for chunk in range(1, 100):
        order.push(chunk, chunk)
    heard = [order.push(chunk, chunk) for chunk in range(1, 20)]
    assert [chunk for ready in heard for chunk in ready or []] == list(range(WINDOW + 1, 20))


def test_stragglers_over_a_long_call_never_turn_it_back():
    order: Reorder[int] = Reorder()
    out: list[int] = []
    for chunk in range(1, 300):
        out += order.push(chunk, chunk) or []
        if chunk % 10 == 0:
            assert order.push(chunk - 5, -1) is None
    assert out == list(range(1, 300))


def test_a_stream_numbered_from_zero_or_joined_in_the_middle_begins_where_it_is():
    assert run([0, 1, 2]) == [0, 1, 2]
    assert run([500, 501, 503, 502]) == [500, 501, 502, 503]
