"""What the watch does when a call or the book changes under it: races, outages, a stop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anycarrier import Call, CallStatus, EndReason
from anycarrier.call_phases import RING_TIME, Phase
from anycarrier.call_watch import AT_ONCE, BOOK_RETRY
from anycarrier.calls import TransferStatus
from scripted_calls import DOWN, Desk, R, Scripted, asked, both, done, exactly, referred, until

# --- what comes between ----------------------------------------------------------------------------------------------


def test_a_call_that_moves_on_while_it_is_asked_about_has_the_patience_of_its_new_phase() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        Scripted.stands = CallStatus.ANSWERED  # as the question brings out
        await until(91)
        assert done() == [*asked(60), *both(90)]

    exactly(scenario)


def test_one_call_is_looked_after_by_one_question_at_a_time() -> None:
    async def slowly() -> CallStatus:
        await asyncio.sleep(100)
        return CallStatus.ANSWERED

    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        Scripted.stands = slowly
        await until(70)
        await desk.change(status=CallStatus.ANSWERED)  # due at 100, while the first question is open
        await until(159)
        assert done() == asked(60)
        Scripted.stands = CallStatus.ANSWERED
        await until(161)
        assert done() == [*asked(60), *both(160)]

    exactly(scenario)


@pytest.mark.parametrize(
    ("phase", "meanwhile", "next_look"),
    [
        (Phase.OFFERED, {"status": CallStatus.ANSWERED}, 60 + 30),
        (Phase.OFFERED, {"transfer": TransferStatus.REQUESTED}, 60 + 60),
        (Phase.OFFERED, {"owner": ""}, 60 + BOOK_RETRY),
        (Phase.OFFERED, {"owner": "another process"}, None),
        (Phase.OFFERED, {"status": CallStatus.ENDED}, None),
        (Phase.ENDING, {"owner": "another process"}, None),
        (Phase.ENDING, {"status": CallStatus.ENDED}, None),
        (Phase.ENDING, {"intent": EndReason.AGENT_HANGUP, "transfer": TransferStatus.REQUESTED}, 10 + 60),
    ],
)
def test_a_call_that_has_moved_on_since_the_question_is_not_hung_up(
    phase: Phase, meanwhile: dict[str, Any], next_look: float | None
) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(phase)
        first = 60 if phase is Phase.OFFERED else 10
        desk.book.meanwhile = lambda call: call.model_copy(update=meanwhile)
        await until((next_look or 1000) - 1)
        assert done() == asked(first)
        await until((next_look or 1000) + 1)
        assert done()[:2] == asked(first, *([next_look] if next_look else []))

    exactly(scenario)


def test_a_call_whose_media_socket_comes_in_the_moment_of_the_hang_up_talks_on() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)

        def connected(call: Call) -> Call:
            desk.connect(call)
            return call

        desk.book.meanwhile = connected
        await until(630 - 1)
        assert (done(), desk.phase(), desk.stands().intent) == (asked(30), Phase.TALKING, None)
        await until(631)
        assert done() == asked(30, 630)

    exactly(scenario)


def test_an_end_that_comes_in_while_the_carrier_is_asked_is_not_told_twice() -> None:
    async def scenario(desk: Desk) -> None:
        async def ended() -> CallStatus:
            await desk.change(status=CallStatus.ENDED, reason=EndReason.USER_HANGUP)
            return CallStatus.ENDED

        await desk.bring_to(Phase.NO_STREAM)
        Scripted.stands = ended
        await until(500)
        assert (done(), desk.told, desk.watch.watches(R)) == (asked(30), [], False)

    exactly(scenario)


def test_a_dial_that_is_named_in_time_is_a_dial_like_others() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.UNCONFIRMED)
        await until(50)
        await desk.change(id="leg", status=CallStatus.RINGING)
        assert desk.phase() is Phase.DIALLING
        await until(50 + 91)
        assert done() == asked(50 + 60 + RING_TIME)

    exactly(scenario)


# --- what the exchange tells -----------------------------------------------------------------------------------------


def test_a_change_of_status_begins_the_time_anew_and_other_news_does_not() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.INITIATED, direction="outbound")
        await until(80)
        await desk.change(status=CallStatus.RINGING)
        await until(160)
        await desk.change(answered_by="human")
        await until(171)
        assert done() == asked(80 + 90)

    exactly(scenario)


def test_a_router_that_has_decided_leaves_the_call_to_its_answer() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        await until(40)
        with desk.watch.routing(R):
            assert desk.phase() is Phase.ROUTING
            await until(90)
        assert desk.phase() is Phase.OFFERED
        await until(90 + 61)
        assert done() == both(90 + 60)
        with desk.watch.routing("no such call"):
            pass
        desk.watch.leave_ringing("no such call")
        desk.watch.stream_ended("no such call")
        assert not desk.watch.watches("no such call")

    exactly(scenario)


def test_a_call_that_ends_while_the_router_decides_is_watched_no_more() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.OFFERED)
        with desk.watch.routing(R):
            await desk.change(status=CallStatus.ENDED)
        assert not desk.watch.watches(R)

    exactly(scenario)


def test_a_stop_waits_for_the_calls_that_may_talk() -> None:
    async def scenario(desk: Desk) -> None:
        for phase in Phase:
            await desk.bring_to(phase, reference=referred(phase.name))
            assert desk.phase(referred(phase.name)) is phase
        nobodys = {Phase.ENDING, Phase.TRANSFERRED, Phase.LEFT_RINGING, Phase.STREAM_ENDED, Phase.ABANDONED}
        assert desk.watch.expected() == {referred(phase.name) for phase in set(Phase) - nobodys}
        for phase in Phase:
            await desk.change(referred(phase.name), status=CallStatus.ENDED)
        assert desk.watch.expected() == set()

    exactly(scenario)


def test_after_lost_news_every_call_is_asked_about_that_nobody_talks_on() -> None:
    async def scenario(desk: Desk) -> None:
        for phase in Phase:
            await desk.bring_to(phase, reference=referred(phase.name))
        Scripted.stands = CallStatus.INITIATED
        await until(2)
        assert done() == []
        desk.watch.hurry()
        await until(3)
        spared = {Phase.TALKING, Phase.UNCONFIRMED}
        assert sorted(Scripted.log) == sorted((2, "ask", referred(phase.name)) for phase in set(Phase) - spared)
        assert desk.watch.watches(referred(Phase.UNCONFIRMED.name))

    exactly(scenario)


def test_a_stopped_watch_looks_at_nothing_until_it_is_started() -> None:
    async def scenario(desk: Desk) -> None:
        call = await desk.bring_to(Phase.NO_STREAM)
        desk.watch.stop()
        assert not desk.watch.watches(R)
        desk.watch.note(call)
        desk.watch.hurry()
        await until(1000)
        assert (done(), desk.watch.watches(R)) == ([], False)
        desk.watch.start()
        desk.watch.note(call)
        await until(1000 + 31)
        assert done() == both(1000 + 30)

    exactly(scenario)


def test_a_stop_during_a_question_hangs_nothing_up() -> None:
    async def slowly() -> CallStatus:
        await asyncio.sleep(10)
        return CallStatus.INITIATED

    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.stands = slowly
        await until(35)
        desk.watch.stop()
        await until(1000)
        assert done() == asked(30)
        assert not desk.stands().ended

    exactly(scenario)


# --- the book, and other calls ---------------------------------------------------------------------------------------


def test_while_the_book_is_away_the_watch_looks_every_few_seconds_and_says_so_once() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        for outage in (1, 2):
            desk.book.away = True
            desk.book.looks.clear()
            first = 30 if outage == 1 else 30 + 3 * BOOK_RETRY + 600
            await until(first + 2.5 * BOOK_RETRY)
            assert desk.book.looks == [first, first + BOOK_RETRY, first + 2 * BOOK_RETRY]
            report = ("the watch over open calls failed, trying again", "ConnectionRefusedError")
            assert desk.reports == [report] * outage
            assert done(after=first - 1) == []
            desk.book.away = False
            if outage == 1:
                desk.connect(desk.stands())
                desk.watch._again(desk.watch._watched[R], 0.5 * BOOK_RETRY)
                await until(first + 3 * BOOK_RETRY + 1)
                assert done() == asked(first + 3 * BOOK_RETRY)
        await until(first + 3 * BOOK_RETRY + 1)
        assert done()[1:] == asked(first + 3 * BOOK_RETRY)

    exactly(scenario)


def test_a_time_limit_that_is_reached_while_the_book_is_away_holds_afterwards() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.TALKING, time_limit=100)
        desk.book.away = True
        await until(100 + 2.5 * BOOK_RETRY)
        assert desk.book.looks == [100, 100 + BOOK_RETRY, 100 + 2 * BOOK_RETRY]
        desk.book.away = False
        await until(100 + 4 * BOOK_RETRY)
        assert done()[0] == (100 + 3 * BOOK_RETRY, "hang up")
        assert desk.stands().reason is EndReason.MAX_DURATION

    exactly(scenario)


def test_a_call_that_the_book_has_lost_is_dropped() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        desk.book._by_reference.clear()
        await until(1000)
        assert (desk.book.looks, desk.reports, done()) == ([30], [], [])
        assert not desk.watch.watches(R)

    exactly(scenario)


def test_what_another_process_wrote_is_seen_before_the_carrier_is_asked() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.bring_to(Phase.NO_STREAM)
        desk.book._store(desk.stands().model_copy(update={"owner": "another process"}))
        await until(1000)
        assert (done(), desk.watch.watches(R)) == ([], False)

    exactly(scenario)


def test_a_carrier_that_hangs_holds_up_its_own_credential_s_calls_only() -> None:
    async def scenario(desk: Desk) -> None:
        gate = asyncio.Event()

        async def hanging() -> CallStatus:
            if Scripted.log[-1][2].startswith(b"main".hex()):
                await gate.wait()
            return CallStatus.INITIATED

        Scripted.stands, Scripted.takes = hanging, False
        for credential in ("main", "second"):
            for number in range(AT_ONCE + 2):
                await desk.open(reference=referred(f"{credential}-{number}"), credential_id=credential)
            await until(1)  # the second's are due when the first's hang
        await until(32)
        begun = [leg for _, what, leg in Scripted.log if what == "ask"]
        assert len([leg for leg in begun if leg.startswith(b"second".hex())]) == AT_ONCE + 2
        first, second = {referred(f"main-{number}") for number in range(AT_ONCE + 2)} - set(begun)  # these wait
        await desk.change(first, intent=EndReason.API_STOP)  # a new phase, with a time of its own
        gate.set()
        await until(43)
        assert (done(leg=first)[0], done(leg=second)[0]) == ((32 + 10, "ask"), (32, "ask"))

    exactly(scenario)


def test_what_the_watch_does_beside_has_a_name_for_the_log() -> None:
    async def scenario(desk: Desk) -> None:
        names: list[str] = []
        spawn = desk.exchange.switchboard.spawn
        desk.exchange.switchboard.spawn = lambda work, what: names.append(what) or spawn(work, what)  # type: ignore[method-assign,func-returns-value]
        await desk.bring_to(Phase.NO_STREAM)
        Scripted.stands = Scripted.takes = DOWN
        await until(400)
        assert set(names) == {"look after an open call", "hang up a call that was written off"}

    exactly(scenario)
