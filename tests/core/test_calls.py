"""The call state machine."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linecard import Call, CallStatus, Direction, EndReason
from linecard.calls import ANSWERED_REASONS, advance

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def call(status: CallStatus = CallStatus.INITIATED, **fields: object) -> Call:
    return Call.model_validate(
        {
            "id": "c1",
            "provider": "p",
            "direction": Direction.OUTBOUND,
            "from_": "+14155550100",
            "to": "+14155550101",
            "status": status,
            **fields,
        }
    )


def test_a_late_ringing_does_not_undo_an_answer() -> None:
    answered = advance(call(), call(CallStatus.ANSWERED), T0)
    assert advance(answered, call(CallStatus.RINGING), T0) is answered


def test_ended_is_final_but_missing_facts_are_still_filled_in() -> None:
    over = advance(call(), call(CallStatus.ENDED, reason=EndReason.BUSY), T0)
    later = advance(over, call(CallStatus.ENDED, reason=EndReason.REJECTED, sip_code=486), T0)
    assert (later.status, later.reason, later.sip_code) == (CallStatus.ENDED, EndReason.BUSY, 486)


def test_our_reason_for_ending_wins_over_the_carriers() -> None:
    stopped = call(CallStatus.ANSWERED, answered_at=T0, intent=EndReason.API_STOP)
    assert advance(stopped, call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0).reason is EndReason.API_STOP


def test_hanging_up_an_outbound_call_before_it_is_answered_cancels_it() -> None:
    stopped = call(CallStatus.RINGING, intent=EndReason.API_STOP)
    assert advance(stopped, call(CallStatus.ENDED, reason=EndReason.NO_ANSWER), T0).reason is EndReason.CANCELED


def test_a_normal_end_without_an_answer_is_a_cancellation() -> None:
    assert advance(call(), call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0).reason is EndReason.CANCELED


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (EndReason.BUSY, EndReason.USER_HANGUP),
        (EndReason.NO_ANSWER, EndReason.USER_HANGUP),
        (EndReason.PROVIDER_UNAVAILABLE, EndReason.MEDIA_ERROR),
        (EndReason.INVALID_NUMBER, EndReason.MEDIA_ERROR),
        (EndReason.AGENT_ERROR, EndReason.AGENT_ERROR),
    ],
)
def test_a_call_that_was_answered_did_not_fail_to_connect_whatever_code_its_end_carried(
    told: EndReason, reason: EndReason
) -> None:
    live = call(CallStatus.ANSWERED, answered_at=T0)
    over = advance(live, call(CallStatus.ENDED, reason=told, sip_code=486), T0 + timedelta(seconds=9))
    assert (over.reason, over.sip_code) == (reason, 486)


def test_an_end_at_our_time_limit_is_max_duration_whatever_the_carrier_calls_it() -> None:
    live = call(CallStatus.ANSWERED, answered_at=T0, time_limit=60)
    at_limit = advance(live, call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0 + timedelta(seconds=60.2))
    before = advance(live, call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0 + timedelta(seconds=40))
    assert (at_limit.reason, before.reason) == (EndReason.MAX_DURATION, EndReason.USER_HANGUP)


def test_duration_counts_from_the_answer() -> None:
    live = advance(call(created_at=T0), call(CallStatus.ANSWERED), T0 + timedelta(seconds=20))
    over = advance(live, call(CallStatus.ENDED), T0 + timedelta(seconds=50))
    assert over.duration == 30.0
    assert advance(call(created_at=T0), call(CallStatus.ENDED), T0 + timedelta(seconds=50)).duration == 0.0


@given(
    st.lists(st.sampled_from(list(CallStatus)), max_size=12),
    st.sampled_from([None, *EndReason]),
    st.sampled_from([None, EndReason.API_STOP, EndReason.REJECTED, EndReason.TRANSFERRED]),
)
def test_any_order_of_deliveries_moves_one_way_and_reasons_fit_the_answer(
    seen: list[CallStatus], reason: EndReason | None, intent: EndReason | None
) -> None:
    current = call(CallStatus.QUEUED, intent=intent)
    for status in seen:
        before = current
        current = advance(current, call(status, reason=reason if status is CallStatus.ENDED else None), T0)
        assert current.status.rank == max(before.status.rank, status.rank)
        if before.ended:
            assert (current.reason, current.ended_at) == (before.reason, before.ended_at)
    if current.ended:
        assert current.reason is not None
        if current.answered_at is None:
            assert current.reason not in ANSWERED_REASONS
        else:
            assert current.reason in {*ANSWERED_REASONS, EndReason.MEDIA_ERROR, EndReason.AGENT_ERROR, intent}
