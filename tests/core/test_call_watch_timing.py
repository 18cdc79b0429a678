"""When the watch asks, hangs up and gives up, to the second."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from anycarrier import CallStatus, EndReason
from anycarrier.call_phases import AGAIN, HANG_UP_LATER, QUEUED_AT_CARRIER, RETRY, RING_TIME, RULES, STILL_UP, Phase
from anycarrier.errors import RateLimited
from scripted_calls import (
    DOWN,
    GONE,
    T0,
    UNNAMED,
    Desk,
    R,
    Scripted,
    asked,
    both,
    done,
    exactly,
    hung_up,
    repeated,
    until,
)

# --- each phase in turn ----------------------------------------------------------------------------------------------

PATIENT = {  # phases of calls that may stay up a while: first asked about, and hung up
    Phase.QUEUED: (60 + RING_TIME, QUEUED_AT_CARRIER + RING_TIME),
    Phase.DIALLING: (60 + RING_TIME, 240 + RING_TIME),
    Phase.ROUTING: (60, 600),
    Phase.LEFT_RINGING: (60, 600),
}
SHORT = {
    Phase.OFFERED: 60,
    Phase.NO_STREAM: 30,
    Phase.STREAM_ENDED: 5,
    Phase.ABANDONED: 10,
    Phase.ENDING: 10,
}
REASON = {phase: rule.reason for phase, rule in RULES.items()} | {Phase.ENDING: EndReason.API_STOP}


@pytest.mark.parametrize("phase", PATIENT, ids=lambda phase: phase.name)
def test_a_call_that_may_stay_up_is_asked_about_less_and_less_often_and_then_hung_up(phase: Phase) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        first, last = PATIENT[phase]
        await desk.ends(last + RETRY[0], REASON[phase])
        assert done() == [*asked(*repeated(first, AGAIN, last)), *hung_up(last), *asked(last + RETRY[0])]

    exactly(scenario)


@pytest.mark.parametrize("phase", SHORT, ids=lambda phase: phase.name)
def test_a_call_that_should_not_be_up_is_asked_about_once_and_hung_up(phase: Phase) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        at = SHORT[phase]
        await desk.ends(at + RETRY[0], REASON[phase])
        assert done() == [*both(at), *asked(at + RETRY[0])]

    exactly(scenario)


def test_a_call_that_talks_is_asked_about_every_ten_minutes() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.TALKING)
        await until(3601)
        assert done() == asked(600, 1200, 1800, 2400, 3000, 3600)
        Scripted.stands = DOWN  # and no more often when that fails
        await until(7201)
        assert done(after=3601) == asked(4200, 4800, 5400, 6000, 6600, 7200)
        assert desk.told == []

    exactly(scenario)


def test_a_transferred_call_is_asked_about_for_a_day_and_given_up_without_a_hang_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.TRANSFERRED)
        day = 24 * 3600
        moments = repeated(60, AGAIN, 2 * day)
        over = next(moment for moment in moments if moment >= day)
        await desk.ends(over, EndReason.TRANSFERRED)
        await until(over + 2 * HANG_UP_LATER)
        assert done() == asked(*(moment for moment in moments if moment <= over))
        assert "handed on to somebody else for 86610 s" in caplog.messages[-1]

    exactly(scenario)


def test_the_longest_time_in_a_phase_is_over_when_it_is_reached() -> None:
    async def scenario(desk: Desk) -> None:
        longest = replace(RULES[Phase.TRANSFERRED], at_most=60 + AGAIN[0])
        desk.watch.rules = {**desk.watch.rules, Phase.TRANSFERRED: longest}
        await desk.bring_to(Phase.TRANSFERRED)
        await desk.ends(60 + AGAIN[0], EndReason.TRANSFERRED)

    exactly(scenario)


@pytest.mark.parametrize("ring_time", [None, 50.0])
def test_the_ring_time_of_a_dial_is_added_to_its_patience(ring_time: float | None) -> None:
    async def scenario(desk: Desk) -> None:
        ring = ring_time or RING_TIME
        await desk.open(CallStatus.RINGING, direction="outbound", ring_time=ring_time)
        await desk.open(CallStatus.QUEUED, id="", direction="outbound", reference=UNNAMED, ring_time=ring_time)
        await desk.ends(60 + ring, EndReason.PROVIDER_UNAVAILABLE, UNNAMED)
        await desk.change(answered_by="human")  # news that changes neither the phase nor the ring time
        await desk.ends(240 + ring + RETRY[0], EndReason.NO_ANSWER)
        assert done()[0] == (60 + ring, "ask") and done()[-2] == (240 + ring, "hang up")

    exactly(scenario)


def test_the_ring_time_is_not_added_where_a_rule_never_hangs_up() -> None:
    async def scenario(desk: Desk) -> None:
        rings = replace(RULES[Phase.DIALLING], hang_up_after=None)
        desk.watch.rules = {**desk.watch.rules, Phase.DIALLING: rings}
        await desk.bring_to(Phase.DIALLING)
        await until(61 + 30)
        assert done() == asked(60, 90)

    exactly(scenario)


def test_what_the_carrier_tells_of_the_end_is_taken_at_the_first_question() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM, raw={"what": "the carrier sent"}, answered_at=T0)
        Scripted.stands = CallStatus.ENDED
        await desk.ends(30, EndReason.USER_HANGUP)
        assert done() == asked(30)

    exactly(scenario)


# --- hang-ups and questions that fail --------------------------------------------------------------------------------


def test_a_hang_up_without_effect_is_repeated_until_the_call_is_written_off() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.takes = False
        over = 30 + STILL_UP
        await desk.ends(over, EndReason.MEDIA_ERROR)
        assert done() == [*both(*repeated(30, RETRY, over)[:-1]), *asked(over)]

    exactly(scenario)


def test_a_written_off_call_is_hung_up_for_an_hour_more(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.takes = False
        over = 30 + STILL_UP
        await desk.ends(over, EndReason.MEDIA_ERROR)
        [first, *later] = repeated(over, (RETRY[1], AGAIN[1]), over + 2 * HANG_UP_LATER)
        await until(over + 2 * HANG_UP_LATER)
        tried = [moment for moment in later if moment < over + HANG_UP_LATER]
        last = later[len(tried)]  # the pause that began within the hour
        assert done(after=first, leg="leg") == [(m, what) for m in (*tried, last) for what in ("hang up", "ask")]
        assert "has not said that it is over" in caplog.messages[0]
        assert "may still be up" in caplog.messages[-1]

    exactly(scenario)


@pytest.mark.parametrize("last", ["ended", "gone", "cannot be asked", "down, then ended"])
def test_hanging_up_a_written_off_call_stops_when_it_is_over_at_the_carrier(
    last: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        mute = last == "cannot be asked"
        await desk.open(credential_id="mute" if mute else "main")
        Scripted.takes = False
        over = 30 + (desk.watch.settle if mute else STILL_UP)
        await until(over + 1)
        assert desk.stands().ended
        if last == "gone":
            Scripted.takes = GONE
        elif last == "down, then ended":
            Scripted.takes = DOWN
            await until(over + RETRY[1] + 1)
            Scripted.takes = True
        else:
            Scripted.takes = True
        await until(over + 3 * HANG_UP_LATER)
        again = over + RETRY[1]
        assert done(after=over) == {
            "ended": [*hung_up(again), *asked(again)],
            "gone": hung_up(again),
            "cannot be asked": hung_up(again),
            "down, then ended": [*hung_up(again, again + 2 * RETRY[1]), *asked(again + 2 * RETRY[1])],
        }[last]
        assert not any("may still be up" in message for message in caplog.messages)

    exactly(scenario)


def test_a_carrier_that_cannot_be_asked_has_the_settling_time_to_tell_of_the_end() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(credential_id="mute")
        await desk.ends(30 + desk.watch.settle, EndReason.MEDIA_ERROR)
        assert done() == hung_up(30)

    exactly(scenario)


@pytest.mark.parametrize(
    ("phase", "first", "reason"),
    [
        (Phase.OFFERED, 60, EndReason.PROVIDER_UNAVAILABLE),
        (Phase.NO_STREAM, 30, EndReason.MEDIA_ERROR),  # what that means of an answered call
        (Phase.ENDING, 10, EndReason.API_STOP),
    ],
)
def test_questions_that_fail_are_repeated_until_the_call_is_written_off(
    phase: Phase, first: float, reason: EndReason, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        Scripted.stands = Scripted.takes = DOWN
        await desk.ends(first + 300, reason)
        asks = repeated(first, RETRY, first + 300)
        assert done() == (both(*asks) if phase is Phase.ENDING else asked(*asks))
        assert len([message for message in caplog.messages if "down" in message]) == 2, "at first, and in the end"

    exactly(scenario)


def test_a_call_that_is_to_end_is_hung_up_although_it_cannot_be_asked_about() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.ENDING)
        Scripted.stands = DOWN  # until it is hung up
        await desk.ends(10 + RETRY[0], EndReason.API_STOP)
        assert done() == [*both(10), *asked(10 + RETRY[0])]

    exactly(scenario)


def test_hang_ups_that_fail_are_repeated_until_the_call_is_written_off() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.takes = DOWN
        await desk.ends(330, EndReason.MEDIA_ERROR)
        assert done() == both(*repeated(30, RETRY, 330))

    exactly(scenario)


@pytest.mark.parametrize(
    ("phase", "patience", "reason"),
    [
        (Phase.ROUTING, 300, EndReason.PROVIDER_UNAVAILABLE),
        (Phase.TRANSFERRED, 3600, EndReason.TRANSFERRED),
    ],
)
def test_trouble_that_is_over_counts_no_more(
    phase: Phase, patience: float, reason: EndReason, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        Scripted.stands = DOWN
        await until(61)
        Scripted.stands = CallStatus.INITIATED
        await until(400)
        Scripted.stands = DOWN
        await desk.ends(482 + patience, reason)
        assert done()[:5] == asked(60, 62, 122, 242, 482)
        assert len([message for message in caplog.messages if "down" in message]) == 3, "twice at first, and in the end"

    exactly(scenario)


@pytest.mark.parametrize(
    ("change", "over"),
    [
        ({"status": CallStatus.ANSWERED, "answered_at": T0}, 100 + 30 + 300),
        ({"intent": EndReason.API_STOP}, 60 + 300),
    ],
    ids=["answered", "hung up"],
)
def test_trouble_begins_anew_with_a_phase_unless_it_is_the_end(change: dict[str, Any], over: float) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        Scripted.stands = Scripted.takes = DOWN
        await until(100)
        await desk.change(**change)
        await until(over - 0.5)
        assert not desk.stands().ended
        await until(over + 0.5)
        assert desk.stands().ended

    exactly(scenario)


@pytest.mark.parametrize(
    ("told", "pause"), [(None, RETRY[0]), (1, RETRY[0]), (20, 20), (59.9, 59.9), (3600, 2 * RETRY[1])]
)
def test_a_question_that_is_throttled_is_repeated_as_late_as_the_carrier_says_within_reason(
    told: float | None, pause: float
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.stands = RateLimited("scripted", "fetch_call", retry_after=told)
        await until(30 + pause + 0.5)
        assert done() == asked(30, 30 + pause)
        await desk.ends(330, EndReason.MEDIA_ERROR)

    exactly(scenario)


@pytest.mark.parametrize("phase", [Phase.OFFERED, Phase.ENDING, Phase.NO_STREAM, Phase.TRANSFERRED])
def test_a_call_that_the_carrier_does_not_know_is_over(phase: Phase) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        Scripted.stands = GONE
        first = RULES[phase].ask_after
        answered = EndReason.MEDIA_ERROR  # what an unknown end means then
        reasons = {Phase.OFFERED: EndReason.UNKNOWN, Phase.ENDING: EndReason.API_STOP}
        await desk.ends(first, reasons.get(phase, answered))
        assert done() == asked(first)

    exactly(scenario)


def test_a_call_that_is_gone_when_it_is_hung_up_is_over_with_the_reason_of_the_hang_up() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.takes = GONE
        await desk.ends(30, EndReason.MEDIA_ERROR)
        assert done() == both(30)

    exactly(scenario)


def test_that_a_talking_call_is_gone_has_to_be_said_twice_in_a_row() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.TALKING)
        Scripted.stands = GONE
        await until(601)
        Scripted.stands = CallStatus.ANSWERED
        await until(1200)
        Scripted.stands = GONE
        await desk.ends(630 + 600 + 30, EndReason.MEDIA_ERROR)
        assert done() == asked(600, 630, 1230, 1260)

    exactly(scenario)


def test_a_plugin_s_own_bug_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        Scripted.stands = KeyError("status")
        await desk.ends(360, EndReason.PROVIDER_UNAVAILABLE)
        assert caplog.messages[0].startswith(f"call {R} on scripted: scripted failed the watch's question: KeyError")
        assert done() == asked(*repeated(60, RETRY, 360))

    exactly(scenario)


# --- the time limit --------------------------------------------------------------------------------------------------


def test_a_call_is_hung_up_at_its_time_limit_without_a_question() -> None:
    async def scenario(desk: Desk) -> None:
        call = await desk.bring_to(Phase.TALKING, time_limit=700)
        await until(100)
        desk.watch.note(call)  # news does not begin the time anew
        await desk.ends(700 + RETRY[0], EndReason.MAX_DURATION)
        assert done() == [*asked(600), *hung_up(700), *asked(700 + RETRY[0])]

    exactly(scenario)


def test_the_time_limit_runs_from_the_answer() -> None:
    async def scenario(desk: Desk) -> None:
        call = await desk.open(CallStatus.RINGING, time_limit=100)
        await until(40)
        desk.connect(await desk.change(status=CallStatus.ANSWERED, answered_at=T0))
        await desk.ends(140 + RETRY[0], EndReason.MAX_DURATION)
        assert done() == [*hung_up(140), *asked(140 + RETRY[0])]
        assert call.time_limit == 100

    exactly(scenario)


def test_the_time_limit_ends_no_call_that_somebody_else_has() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.TRANSFERRED, time_limit=75)
        await until(80)
        assert done() == asked(60)
        await desk.change(transfer=None)  # and now it is ours again
        await until(81)
        assert done(after=61) == hung_up(80)

    exactly(scenario)


def test_a_call_without_a_stream_is_hung_up_for_that_before_its_time_limit() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM, time_limit=31)
        await desk.ends(30 + RETRY[0], EndReason.MEDIA_ERROR)

    exactly(scenario)
