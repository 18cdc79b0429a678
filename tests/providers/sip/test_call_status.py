"""What an end of a call means: the whole table, each row, and what wins over what."""

from __future__ import annotations

import pytest

from anycarrier import EndReason
from anycarrier_sip.call_status import (
    RAISED,
    cause_of,
    reason_after_answer,
    reason_before_answer,
    transfer_status,
    words_of,
)

BUSY, REJECTED, SPAM = EndReason.BUSY, EndReason.REJECTED, EndReason.MARKED_AS_SPAM
WRONG, NO_ANSWER, UNREACHABLE = EndReason.INVALID_NUMBER, EndReason.NO_ANSWER, EndReason.UNREACHABLE
DENIED, AUTH = EndReason.PROVIDER_PERMISSION_DENIED, EndReason.PROVIDER_AUTH_FAILED
LIMITED, GONE = EndReason.PROVIDER_RATE_LIMITED, EndReason.PROVIDER_UNAVAILABLE

ROWS = {
    BUSY: (486, 600),
    REJECTED: (603,),
    SPAM: (607, 608),
    DENIED: (402, 403),
    WRONG: (404, 410, 416, 484, 485, 604, 301, 302, 300, 305, 380),
    UNREACHABLE: (408, 480, 504),
    EndReason.CANCELED: (487,),
    AUTH: (401, 407),
    LIMITED: (429,),
    GONE: (500, 501, 502, 503, 505, 513, 580, 606, 488, 415, 420, 406, 482, 483, 421, 494, 400),
}
CAUSES = {
    BUSY: (17,),
    REJECTED: (21,),
    NO_ANSWER: (18, 19),
    WRONG: (1, 2, 3, 22, 28),
    UNREACHABLE: (20, 27),
    GONE: (34, 38, 41, 42, 44, 47, 58, 65, 79, 88),
    DENIED: (50, 52, 55, 57, 87),
}


@pytest.mark.parametrize(("status", "reason"), [(code, why) for why, codes in ROWS.items() for code in codes])
def test_each_status(status: int, reason: EndReason) -> None:
    assert reason_before_answer(status) is reason


@pytest.mark.parametrize("status", [408, 480, 504])
def test_nobody_picked_up_once_it_rang(status: int) -> None:
    assert reason_before_answer(status, rang=True) is NO_ANSWER


@pytest.mark.parametrize(
    ("status", "reason"), [(399, WRONG), (499, GONE), (555, GONE), (699, BUSY), (409, GONE), (199, EndReason.UNKNOWN)]
)
def test_an_unknown_status_is_its_class(status: int, reason: EndReason) -> None:
    assert reason_before_answer(status) is reason


def test_503_with_retry_after_is_a_limit_and_no_answer_at_all_is_the_carriers() -> None:
    assert reason_before_answer(503, retry_after=True) is LIMITED
    assert reason_before_answer(500, retry_after=True) is GONE
    assert reason_before_answer(None) is GONE


@pytest.mark.parametrize(("cause", "reason"), [(code, why) for why, codes in CAUSES.items() for code in codes])
@pytest.mark.parametrize("status", [480, 487, 500, 503])
def test_a_cause_wins_over_a_vague_status(status: int, cause: int, reason: EndReason) -> None:
    assert reason_before_answer(status, cause=cause, retry_after=True) is reason


@pytest.mark.parametrize("status", [486, 603, 404, 403, 408])
def test_a_cause_does_not_win_over_a_clear_one(status: int) -> None:
    assert reason_before_answer(status, cause=27) is reason_before_answer(status)
    assert reason_before_answer(status, cause=21) is reason_before_answer(status)


@pytest.mark.parametrize("cause", [16, 31, 127, 0, 200])
def test_some_causes_say_nothing_before_the_answer(cause: int) -> None:
    assert reason_before_answer(480, cause=cause, rang=True) is NO_ANSWER
    assert reason_before_answer(500, cause=cause) is GONE


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(None, EndReason.USER_HANGUP), (16, EndReason.USER_HANGUP), (31, EndReason.USER_HANGUP),
     (17, EndReason.USER_HANGUP), (38, EndReason.MEDIA_ERROR), (41, EndReason.MEDIA_ERROR),
     (102, EndReason.MEDIA_ERROR)],
)  # fmt: skip
def test_after_the_answer(cause: int | None, reason: EndReason) -> None:
    assert reason_after_answer(cause) is reason


@pytest.mark.parametrize(
    ("reasons", "cause"),
    [
        (["Q.850;cause=17"], 17),
        (["q.850 ; CAUSE = 21 ;text=x"], 21),
        (['Q.850;text="a;cause=1, b";cause=34'], 34),
        (['Q.850;cause=34;text="a;cause=1, b"'], 34),
        (['SIP;cause=200;text="Call completed elsewhere"', "Q.850;cause=26"], 26),
        (["SIP;cause=486"], None),
        (["Q.850;cause=1234"], None),
        (["Q.850;because=17"], None),
        (["Q.850"], None),
        ([], None),
        ([";" * 5000 + "cause"], None),
    ],
)
def test_reason_headers(reasons: list[str], cause: int | None) -> None:
    assert cause_of(reasons) == cause


def test_the_carriers_words() -> None:
    assert words_of("Busy Here", []) == "Busy Here"
    assert words_of("Temporarily Unavailable", ['Q.850;cause=20;text="absent"']) == (
        "Temporarily Unavailable; Q.850 20 absent"
    )
    assert words_of("a\tb", ["SIP;cause=1"]) == "a b"


@pytest.mark.parametrize(
    ("status", "told"),
    [(100, None), (180, None), (183, None), (200, "answered"), (202, "answered"), (486, "busy"), (600, "busy"),
     (408, "no_answer"), (480, "no_answer"), (487, "canceled"), (404, "failed"), (503, "failed"), (302, "failed")],
)  # fmt: skip
def test_transfers(status: int, told: str | None) -> None:
    assert transfer_status(status) == told


def test_what_a_dial_raises_is_for_somebody_to_correct() -> None:
    assert {BUSY, NO_ANSWER, REJECTED, UNREACHABLE, EndReason.CANCELED, GONE}.isdisjoint(RAISED)
    assert {AUTH, DENIED, WRONG, LIMITED} == set(RAISED)
