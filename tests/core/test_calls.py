"""The call state machine."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycarrier import Call, CallStatus, Direction, EndReason
from anycarrier.calls import ANSWERED_REASONS, TransferStatus, advance, advance_transfer, reason_of_sip

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


def test_an_answer_told_after_the_end_was_an_answer_all_the_same() -> None:
    over = advance(call(), call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0 + timedelta(seconds=20))
    assert (over.reason, over.duration) == (EndReason.CANCELED, 0.0)
    told = call(CallStatus.ANSWERED, answered_at=T0 + timedelta(seconds=5))
    corrected = advance(over, told, T0 + timedelta(seconds=21))
    assert (corrected.status, corrected.ended_at) == (CallStatus.ENDED, over.ended_at)
    assert (corrected.reason, corrected.duration) == (EndReason.USER_HANGUP, 15.0)
    assert advance(corrected, told, T0 + timedelta(seconds=22)) is corrected


@pytest.mark.parametrize(
    ("told", "intent", "reason"),
    [
        (EndReason.AGENT_HANGUP, None, EndReason.AGENT_HANGUP),
        (EndReason.BUSY, None, EndReason.USER_HANGUP),
        (EndReason.USER_HANGUP, EndReason.API_STOP, EndReason.API_STOP),
        (None, None, EndReason.USER_HANGUP),
    ],
)
def test_what_the_carrier_meant_is_kept_for_an_answer_that_is_told_late(
    told: EndReason | None, intent: EndReason | None, reason: EndReason
) -> None:
    over = advance(call(intent=intent), call(CallStatus.ENDED, reason=told), T0 + timedelta(seconds=20))
    assert advance(over, call(CallStatus.ANSWERED, answered_at=T0), T0).reason is reason


def test_an_answer_without_a_time_of_its_own_is_not_after_the_end() -> None:
    over = advance(call(), call(CallStatus.ENDED, reason=EndReason.USER_HANGUP), T0)
    late = advance(over, call(CallStatus.ANSWERED), T0 + timedelta(minutes=5))
    assert (late.answered_at, late.duration, late.reason) == (T0, 0.0, EndReason.USER_HANGUP)


def test_the_carriers_time_of_the_answer_wins_over_that_of_the_first_sound() -> None:
    heard = call(CallStatus.ANSWERED, answered_at=T0 + timedelta(seconds=8))
    assert advance(heard, call(CallStatus.ANSWERED, answered_at=T0), T0 + timedelta(seconds=9)).answered_at == T0
    almost = call(CallStatus.ANSWERED, answered_at=T0 + timedelta(seconds=0.9))
    assert advance(almost, call(CallStatus.ANSWERED, answered_at=T0), T0 + timedelta(seconds=9)) is almost


def test_an_answer_is_corrected_by_a_second_or_more_and_only_to_an_earlier_time() -> None:
    heard = call(CallStatus.ANSWERED, answered_at=T0 + timedelta(seconds=1))
    later = T0 + timedelta(seconds=9)
    assert advance(heard, call(CallStatus.ANSWERED, answered_at=T0), later).answered_at == T0
    assert advance(heard, call(CallStatus.ANSWERED, answered_at=later - timedelta(seconds=2)), later) is heard


def test_an_end_that_tells_the_time_of_the_answer_fills_it_in_but_corrects_none() -> None:
    """It tells a duration, in whole seconds at best."""
    told = call(CallStatus.ENDED, answered_at=T0, ended_at=T0 + timedelta(seconds=30), reason=EndReason.USER_HANGUP)
    over = advance(call(), told, T0 + timedelta(seconds=31))
    assert (over.answered_at, over.reason, over.duration) == (T0, EndReason.USER_HANGUP, 30.0)
    heard = call(CallStatus.ANSWERED, answered_at=T0 + timedelta(seconds=8))
    assert advance(heard, told, T0 + timedelta(seconds=31)).answered_at == heard.answered_at
    ringing = call(CallStatus.RINGING, answered_at=T0)
    assert advance(call(), ringing, T0).answered_at is None, "nonsense of a carrier's"


@pytest.mark.parametrize(
    ("told", "taken"),
    [(None, 5.0), (5.0, 5.0), (4.001, 5.0), (4.0, 4.0), (1.0, 1.0), (5.5, 5.5), (60.0, 60.0)],
)
def test_our_time_is_the_finer_reading_of_the_carriers_second(told: float | None, taken: float) -> None:
    told_at = None if told is None else T0 + timedelta(seconds=told)
    at, moment = T0 + timedelta(seconds=5), T0 + timedelta(seconds=taken)
    moved = advance(call(), call(CallStatus.ANSWERED, answered_at=told_at), at)
    over = advance(call(), call(CallStatus.ENDED, ended_at=told_at), at)
    assert (moved.answered_at, over.ended_at) == (moment, moment)


@pytest.mark.parametrize(
    ("talked", "reason"),
    [(59.4, EndReason.USER_HANGUP), (59.5, EndReason.MAX_DURATION), (60, EndReason.MAX_DURATION)],
)
def test_a_carrier_may_reach_the_time_limit_half_a_second_early(talked: float, reason: EndReason) -> None:
    live = call(CallStatus.ANSWERED, answered_at=T0, time_limit=60)
    gone = call(CallStatus.ENDED, reason=EndReason.USER_HANGUP)
    assert advance(live, gone, T0 + timedelta(seconds=talked)).reason is reason


def test_news_fills_in_what_is_missing_and_the_carriers_last_word_stays() -> None:
    seen = {"answered_by": "human", "created_at": T0, "sip_code": 180, "carrier_status": "ringing", "raw": {"a": "1"}}
    begun = call(id="", carrier_status="queued", raw={"a": "0"})
    rung = advance(begun, call(CallStatus.RINGING, **seen), T0)
    assert {name: getattr(rung, name) for name in seen} == seen
    assert rung.id == "c1"
    other = {"id": "c2", "answered_by": "machine", "created_at": T0 + timedelta(days=1), "sip_code": 200}
    answered = advance(rung, call(CallStatus.ANSWERED, **other), T0)
    assert {name: getattr(answered, name) for name in seen} == seen and answered.id == "c1"
    assert advance(answered, call(CallStatus.RINGING, carrier_status="late", raw={"a": "2"}), T0) is answered


@pytest.mark.parametrize(
    ("told", "direction", "reason"),
    [
        (None, Direction.OUTBOUND, EndReason.UNKNOWN),
        (EndReason.NO_ANSWER, Direction.OUTBOUND, EndReason.NO_ANSWER),
        (EndReason.NO_ANSWER, Direction.INBOUND, EndReason.CANCELED),
        (EndReason.BUSY, Direction.INBOUND, EndReason.BUSY),
        (EndReason.AGENT_HANGUP, Direction.INBOUND, EndReason.CANCELED),
    ],
)
def test_the_end_of_a_call_that_was_not_answered(
    told: EndReason | None, direction: Direction, reason: EndReason
) -> None:
    over = advance(call(direction=direction), call(CallStatus.ENDED, reason=told), T0)
    assert (over.reason, over.carrier_reason, over.ended_at) == (reason, told, T0)


@pytest.mark.parametrize(
    ("intent", "direction", "reason"),
    [
        (EndReason.API_STOP, Direction.OUTBOUND, EndReason.CANCELED),
        (EndReason.API_STOP, Direction.INBOUND, EndReason.REJECTED),
        (EndReason.BUSY, Direction.INBOUND, EndReason.BUSY),
        (EndReason.AGENT_ERROR, Direction.INBOUND, EndReason.AGENT_ERROR),
    ],
)
def test_our_own_end_of_a_call_that_was_not_answered(
    intent: EndReason, direction: Direction, reason: EndReason
) -> None:
    assert advance(call(direction=direction, intent=intent), GONE, T0).reason is reason


def test_declining_a_call_that_had_been_answered_was_hanging_up() -> None:
    live = call(CallStatus.ANSWERED, answered_at=T0, intent=EndReason.REJECTED, direction=Direction.INBOUND)
    assert advance(live, call(CallStatus.ENDED), T0).reason is EndReason.AGENT_HANGUP


# --- transfers -------------------------------------------------------------------------------------------------------

LIVE = call(CallStatus.ANSWERED, answered_at=T0, transfer=TransferStatus.REQUESTED)
GONE = call(CallStatus.ENDED, reason=EndReason.USER_HANGUP)


def test_a_call_is_transferred_once_its_target_has_answered() -> None:
    taken = advance_transfer(LIVE, "answered", T0)
    assert taken.transfer is TransferStatus.ANSWERED
    assert advance(taken, GONE, T0).reason is EndReason.TRANSFERRED
    assert advance_transfer(taken, "completed", T0) is taken


def test_a_caller_who_leaves_while_the_target_rings_is_not_transferred() -> None:
    over = advance(LIVE, GONE, T0)
    assert over.reason is EndReason.USER_HANGUP
    assert advance_transfer(over, "canceled", T0).reason is EndReason.USER_HANGUP


def test_an_answer_of_the_target_that_is_told_after_the_end_corrects_the_reason() -> None:
    assert advance_transfer(advance(LIVE, GONE, T0), "answered", T0).reason is EndReason.TRANSFERRED


def test_an_agent_that_left_while_the_target_rang_did_not_end_the_call_but_a_stop_did() -> None:
    left = LIVE.model_copy(update={"intent": EndReason.AGENT_HANGUP})
    assert advance(left, GONE, T0).reason is EndReason.USER_HANGUP
    assert advance(advance_transfer(left, "busy", T0), GONE, T0).reason is EndReason.AGENT_HANGUP
    stopped = LIVE.model_copy(update={"intent": EndReason.API_STOP})
    assert advance(stopped, GONE, T0).reason is EndReason.API_STOP


def test_a_target_that_completed_had_answered_and_not_after_the_end() -> None:
    completed = advance_transfer(LIVE, "completed", T0 + timedelta(seconds=9))
    assert (completed.transfer, completed.answered_at) == (TransferStatus.ANSWERED, T0)
    unanswered = call(CallStatus.RINGING, direction=Direction.INBOUND, transfer=TransferStatus.REQUESTED)
    over = advance(unanswered, GONE, T0 + timedelta(seconds=5))
    for told, answered in ((3, 3), (8, 5)):
        late = advance_transfer(over, "answered", T0 + timedelta(seconds=told))
        assert (late.status, late.answered_at) == (CallStatus.ENDED, T0 + timedelta(seconds=answered))


def test_a_transfer_that_fails_undoes_none_that_was_answered() -> None:
    taken = advance_transfer(LIVE, "answered", T0)
    assert advance_transfer(taken, "failed", T0) is taken
    ours = call(CallStatus.ANSWERED, answered_at=T0)
    assert advance_transfer(ours, "failed", T0) is ours


@pytest.mark.parametrize("status", ["busy", "no_answer", "failed", "canceled"])
def test_a_transfer_that_fails_gives_the_call_back(status: str) -> None:
    back = advance_transfer(LIVE, status, T0)
    assert (back.transfer, back.status, back.expected_reason) == (None, CallStatus.ANSWERED, None)


def test_a_forwarded_call_is_answered_by_its_target() -> None:
    ringing = call(CallStatus.RINGING, direction=Direction.INBOUND, transfer=TransferStatus.REQUESTED)
    taken = advance_transfer(ringing, "answered", T0)
    assert (taken.status, taken.answered_at) == (CallStatus.ANSWERED, T0)
    assert advance(ringing, GONE, T0).reason is EndReason.CANCELED


# --- what a call says of itself --------------------------------------------------------------------------------------


def test_the_parties_of_a_call_are_seen_from_us() -> None:
    out, in_ = call(), call(direction=Direction.INBOUND)
    assert (out.line_number, out.remote_number) == ("+14155550100", "+14155550101")
    assert (in_.line_number, in_.remote_number) == ("+14155550101", "+14155550100")
    assert in_.caller_id is None
    assert call(direction=Direction.INBOUND, from_="anonymous").caller_id == "+14155550101"


def test_the_reason_to_expect_is_the_reason_once_there_is_one() -> None:
    assert call().expected_reason is None
    assert call(intent=EndReason.API_STOP).expected_reason is EndReason.API_STOP
    handed_on = call(intent=EndReason.AGENT_HANGUP, transfer=TransferStatus.REQUESTED)
    assert handed_on.expected_reason is EndReason.TRANSFERRED
    assert handed_on.handed_on and not call().handed_on
    assert not call(intent=EndReason.API_STOP, transfer=TransferStatus.REQUESTED).handed_on
    over = handed_on.model_copy(update={"reason": EndReason.BUSY})
    assert over.expected_reason is EndReason.BUSY


def test_a_duration_is_never_negative() -> None:
    assert call(CallStatus.ENDED, answered_at=T0, ended_at=T0 - timedelta(seconds=5)).duration == 0.0
    assert call(CallStatus.ANSWERED, answered_at=T0).duration == 0.0
    assert call(CallStatus.ENDED, answered_at=T0, ended_at=T0 + timedelta(seconds=0.5)).duration == 0.5


# --- any order -------------------------------------------------------------------------------------------------------


@given(
    st.permutations(["initiated", "ringing", "answered", "transfer", "ended", "answered", "ended"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, *EndReason]),
    st.sampled_from([None, EndReason.API_STOP, EndReason.AGENT_HANGUP, EndReason.REJECTED]),
)
def test_whatever_order_a_calls_news_comes_in_its_record_is_the_same(
    order: list[str], was_answered: bool, was_transferred: bool, told: EndReason | None, intent: EndReason | None
) -> None:
    """Carriers repeat themselves and promise no order; what they tell has its time."""
    begin = call(CallStatus.QUEUED, intent=intent, time_limit=60)

    def hear(current: Call, kind: str) -> Call:
        match kind:
            case "answered" if was_answered:
                at = T0 + timedelta(seconds=5)
                return advance(current, call(CallStatus.ANSWERED, answered_at=at), at)
            case "transfer" if was_answered and was_transferred:
                return advance_transfer(current, "answered", T0 + timedelta(seconds=10))
            case "ended":
                at = T0 + timedelta(seconds=20)
                return advance(current, call(CallStatus.ENDED, ended_at=at, reason=told), at)
            case "initiated" | "ringing":
                return advance(current, call(CallStatus(kind)), T0)
        return current

    def record(kinds: list[str]) -> tuple[object, ...]:
        current = begin
        for kind in kinds:
            before, current = current, hear(current, kind)
            assert current.status.rank >= before.status.rank
        return current.status, current.reason, current.answered_at, current.ended_at, current.transfer

    as_it_happened = record(["initiated", "ringing", "answered", "transfer", "ended"])
    assert record(order) == as_it_happened
    reason = as_it_happened[1]
    if not was_answered:
        assert reason not in ANSWERED_REASONS
    else:
        assert reason in {*ANSWERED_REASONS, EndReason.MEDIA_ERROR, EndReason.AGENT_ERROR}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, EndReason.INVALID_NUMBER), (407, EndReason.PROVIDER_AUTH_FAILED), (480, EndReason.NO_ANSWER),
        (486, EndReason.BUSY), (487, EndReason.CANCELED), (600, EndReason.BUSY), (603, EndReason.REJECTED),
        (608, EndReason.MARKED_AS_SPAM), (500, EndReason.PROVIDER_UNAVAILABLE), (599, EndReason.PROVIDER_UNAVAILABLE),
        (499, None), (200, None), (0, None), (None, None),
    ],
)  # fmt: skip
def test_a_sip_code_means_the_same_for_every_carrier(code: int | None, reason: EndReason | None) -> None:
    assert reason_of_sip(code) is reason
