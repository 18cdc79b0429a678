"""The rules for open calls: which phase a call is in, what is printed of the rules, and how pauses grow."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from anycarrier import Call, CallStatus, EndReason
from anycarrier.call_phases import RING_TIME, RULES, Phase, is_gone, longer, phase_of, table
from anycarrier.calls import TransferStatus
from anycarrier.errors import (
    AnycarrierError,
    NotFound,
    NumberRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
)


def test_every_phase_has_a_rule_with_a_bound_but_a_call_that_talks() -> None:
    assert set(RULES) == set(Phase)
    for phase, rule in RULES.items():
        bound = rule.bound()
        if phase is Phase.TALKING:
            assert bound is None
        else:
            assert bound is not None and rule.ask_after <= (rule.hang_up_after or bound) <= bound


def test_a_bound_counts_the_ring_time_of_dials_and_the_attempts_that_fail() -> None:
    dialling, offered, transferred = (RULES[p] for p in (Phase.DIALLING, Phase.OFFERED, Phase.TRANSFERRED))
    assert dialling.bound() == RING_TIME + 240 + 300
    assert dialling.bound(50) == 50 + 240 + 300
    assert offered.bound(50) == 60 + 300
    assert transferred.bound(50) == 25 * 3600
    assert replace(offered, hang_up_after=100, at_most=7).bound() == 400
    assert replace(offered, hang_up_after=None).bound() is None
    assert replace(offered, write_off_after=None).bound() is None
    assert RULES[Phase.UNCONFIRMED].bound(0) == 60, "nothing can fail: it is written off at once"


def test_the_rules_are_printed_for_people_with_a_row_each() -> None:
    assert [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table().splitlines()] == [
        ("a call that is", "is asked about after", "and hung up after", "is over here by", "with the reason"),
        ("---", "---", "---", "---", "---"),
        (Phase.UNCONFIRMED.value, "-", "-", "ring time + 60 s", "`provider_unavailable`"),
        (Phase.QUEUED.value, "ring time + 60 s", "ring time + 24 h", "ring time + 25 h", "`no_answer`"),
        (Phase.DIALLING.value, "ring time + 60 s", "ring time + 4 min", "ring time + 9 min", "`no_answer`"),
        (Phase.ROUTING.value, "60 s", "10 min", "15 min", "`agent_error`"),
        (Phase.OFFERED.value, "60 s", "60 s", "6 min", "`media_error`"),
        (Phase.LEFT_RINGING.value, "60 s", "10 min", "15 min", "`no_answer`"),
        (Phase.NO_STREAM.value, "30 s", "30 s", "330 s", "`media_error`"),
        (Phase.TALKING.value, "10 min", "-", "the end of the call", "-"),
        (Phase.STREAM_ENDED.value, "5 s", "5 s", "305 s", "`media_error`"),
        (Phase.ABANDONED.value, "10 s", "10 s", "310 s", "`media_error`"),
        (Phase.ENDING.value, "10 s", "10 s", "310 s", "the one given"),
        (Phase.TRANSFERRED.value, "60 s", "-", "25 h", "`transferred`"),
    ]


def test_times_are_printed_in_the_largest_unit_that_is_whole_and_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {}
    for phase, seconds in zip(Phase, (0.5, 60, 119, 120, 121, 3600, 7200, 7260, 90), strict=False):
        rules[phase] = replace(RULES[Phase.OFFERED], ask_after=seconds)
    rules.pop(Phase.UNCONFIRMED)
    monkeypatch.setattr("anycarrier.call_phases.RULES", rules)
    printed = [row.split("|")[2].strip() for row in table().splitlines()[2:]]
    assert printed == ["60 s", "119 s", "2 min", "121 s", "60 min", "2 h", "121 min", "90 s"]


@pytest.mark.parametrize(
    ("problem", "gone"),
    [
        (NotFound("p", "o"), True),
        (RequestRejected("p", "o", status=404), True),
        (RequestRejected("p", "o", status=410), True),
        (RequestRejected("p", "o", status=422), True),
        (NumberRejected("p", "o", status=400), False),
        (RequestRejected("p", "o", status=403), False),
        (RequestRejected("p", "o", status=411), False),
        (RequestRejected("p", "o", status=423), False),
        (RequestRejected("p", "o"), False),
        (ProviderUnavailable("p", "o", status=404), False),
        (RateLimited("p", "o"), False),
        (AnycarrierError("of ours"), False),
    ],
    ids=lambda given: getattr(given, "status", None) or type(given).__name__,
)
def test_only_a_refusal_says_that_a_call_is_gone(problem: AnycarrierError, gone: bool) -> None:
    assert is_gone(problem) is gone


def test_pauses_double_up_to_the_longest() -> None:
    assert [longer((2.0, 30.0), tries) for tries in range(6)] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert longer((5.0, 4.0), 0) == 4.0
    assert longer((1.0, math.inf), 10_000) == longer((1.0, math.inf), 16) == 65536.0, "however often it was tried"


def test_the_phase_follows_from_the_call_and_from_who_has_it() -> None:
    outbound = Call(id="c", provider="p", direction="outbound", from_="", to="", status="ringing")  # type: ignore[arg-type]
    inbound = outbound.model_copy(update={"direction": "inbound"})
    answered = inbound.model_copy(update={"status": CallStatus.ANSWERED})
    ending = answered.model_copy(update={"intent": EndReason.API_STOP})
    handed_on = answered.model_copy(update={"transfer": TransferStatus.REQUESTED, "intent": EndReason.AGENT_HANGUP})
    stopped = handed_on.model_copy(update={"intent": EndReason.API_STOP})
    assert phase_of(outbound.model_copy(update={"id": "", "intent": EndReason.API_STOP})) is Phase.UNCONFIRMED
    assert phase_of(outbound, abandoned=True) is Phase.DIALLING
    assert phase_of(outbound.model_copy(update={"status": CallStatus.QUEUED})) is Phase.QUEUED
    assert phase_of(inbound) is Phase.OFFERED
    assert phase_of(inbound, abandoned=True) is Phase.ABANDONED
    assert phase_of(inbound, routing=True) is Phase.ROUTING
    assert phase_of(inbound, routing=True, left_ringing=True) is Phase.LEFT_RINGING
    assert phase_of(answered) is Phase.NO_STREAM
    assert phase_of(answered, abandoned=True) is Phase.ABANDONED
    assert phase_of(answered, held=True) is Phase.TALKING
    assert phase_of(answered, stream_over=True, abandoned=True) is Phase.STREAM_ENDED
    assert phase_of(ending, held=True, stream_over=True) is Phase.ENDING
    assert phase_of(handed_on, held=True, stream_over=True) is Phase.TRANSFERRED
    assert phase_of(stopped, held=True, stream_over=True) is Phase.ENDING
