"""Calls of a dead process: from whom the watch takes them over, and how long it leaves them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from anycarrier import CallStatus, EndReason
from anycarrier.call_phases import QUEUED_AT_CARRIER, RETRY, RING_GRACE, RING_TIME, Phase
from anycarrier.calls import TransferStatus
from anycarrier.errors import CallElsewhere, ProviderUnavailable, UnknownCall
from scripted_calls import DEAD, ME, T0, Desk, R, Scripted, asked, both, done, exactly, hung_up, until

OUTBOUND = {"direction": "outbound", "owner": DEAD}


def test_a_call_is_adopted_from_the_owner_that_was_named_and_from_no_other() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(owner=DEAD)
        assert not await desk.watch.adopt(R, "another process")
        assert desk.stands().owner == DEAD and not desk.watch.watches(R)
        assert await desk.watch.adopt(R, DEAD)
        assert desk.stands().owner == ME and desk.watch.watches(R)
        with pytest.raises(UnknownCall):
            await desk.watch.adopt("no such call", DEAD)

    exactly(scenario)


def test_a_call_that_nobody_owned_is_watched_here_but_not_adopted_from_a_dead_process() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(owner="")
        assert not await desk.watch.adopt(R, DEAD)
        assert (desk.stands().owner, desk.phase()) == ("", Phase.NO_STREAM)
        assert await desk.watch.adopt(R, "")
        assert (desk.stands().owner, desk.phase()) == (ME, Phase.ABANDONED)

    exactly(scenario)


def test_a_call_that_is_over_is_not_adopted() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.ENDED, owner=DEAD)
        assert not await desk.watch.adopt(R, DEAD)
        assert desk.stands().owner == DEAD

    exactly(scenario)


def test_a_stopped_watch_adopts_nothing() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(owner=DEAD)
        desk.watch.stop()
        assert not await desk.watch.adopt(R, DEAD)

    exactly(scenario)


@pytest.mark.parametrize(
    ("fields", "times"),
    [
        ({"status": CallStatus.QUEUED, **OUTBOUND}, asked(0, 30, 90)),
        ({"status": CallStatus.RINGING, **OUTBOUND}, [*asked(0, 30), *both(RING_TIME + RING_GRACE)]),
        ({"transfer": TransferStatus.REQUESTED, "owner": DEAD}, asked(0, 30, 90)),
        ({"status": CallStatus.RINGING, "owner": DEAD}, both(10)),
        ({"owner": DEAD}, both(10)),
        ({"intent": EndReason.API_STOP, "owner": DEAD}, both(10)),
    ],
    ids=["queued", "ringing", "transferred", "offered", "answered", "ending"],
)
def test_an_adopted_call_that_may_go_on_is_asked_about_at_once(fields: dict[str, Any], times: list[Any]) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(**fields)
        await until(1000)
        Scripted.log.clear()
        Scripted.stands = fields.get("status", CallStatus.ANSWERED)
        assert await desk.watch.adopt(R, DEAD)
        await until(1000 + 100)
        assert [(at - 1000, what) for at, what in done()][: len(times)] == times

    exactly(scenario)


@pytest.mark.parametrize(
    ("ago", "looks"), [(25, [0, 30]), (20, [0, 30, 35]), (300, [0]), (-60, [0, 30, 55]), (None, [0, 30, 55])]
)
def test_an_adopted_dial_is_hung_up_shortly_after_its_ring_time(ago: float | None, looks: list[float]) -> None:
    """Its answer, and its stream, may have come while no process was there."""

    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.RINGING, **OUTBOUND)
        dialled_at = None if ago is None else T0 - timedelta(seconds=ago)
        assert await desk.watch.adopt(R, DEAD, ring_time=40, dialled_at=dialled_at)
        await desk.ends(looks[-1] + RETRY[0], EndReason.NO_ANSWER)
        assert done() == [*asked(*looks), *hung_up(looks[-1]), *asked(looks[-1] + RETRY[0])]

    exactly(scenario)


def test_an_adopted_dial_whose_stream_comes_here_before_its_answer_is_told_is_a_dial_like_others() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.RINGING, **OUTBOUND)
        assert await desk.watch.adopt(R, DEAD)
        await until(5)
        desk.connect(desk.stands())
        await desk.ends(240 + RING_TIME + RETRY[0], EndReason.NO_ANSWER)
        assert done()[:4] == asked(0, 30, 90, 210)

    exactly(scenario)


@pytest.mark.parametrize(("ago", "left"), [(50, 40), (-50, 90), (None, 90)])
def test_an_adopted_dial_without_a_name_ends_by_its_ring_time_and_a_minute(ago: float | None, left: float) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.QUEUED, id="", **OUTBOUND)
        dialled_at = None if ago is None else T0 - timedelta(seconds=ago)
        assert await desk.watch.adopt(R, DEAD, dialled_at=dialled_at)
        await desk.ends(left, EndReason.PROVIDER_UNAVAILABLE)
        assert done() == []

    exactly(scenario)


def test_an_adopted_dial_that_is_queued_may_stay_queued_from_now_on() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(CallStatus.QUEUED, **OUTBOUND)
        Scripted.stands = CallStatus.QUEUED
        assert await desk.watch.adopt(R, DEAD, dialled_at=T0 - timedelta(hours=23))
        await desk.ends(QUEUED_AT_CARRIER + RING_TIME + RETRY[0], EndReason.NO_ANSWER)

    exactly(scenario)


@pytest.mark.parametrize(("talked", "left"), [(600, 400), (0, 1000), (-60, 1000)])
def test_an_adopted_call_whose_stream_comes_here_has_the_rest_of_its_time(talked: float, left: float) -> None:
    async def scenario(desk: Desk) -> None:
        answered_at = T0 - timedelta(seconds=talked)
        await desk.open(owner=DEAD, time_limit=1000, answered_at=answered_at)
        assert await desk.watch.adopt(R, DEAD)
        await until(5)
        desk.connect(desk.stands())
        assert desk.phase() is Phase.TALKING
        await until(left + 1)
        assert hung_up(left) == [step for step in done() if step[1] == "hang up"]

    exactly(scenario)


@pytest.mark.parametrize("limit", [{"answered_at": None, "time_limit": 50}, {"answered_at": T0, "time_limit": None}])
def test_an_adopted_call_may_have_no_answer_or_no_time_limit(limit: dict[str, Any]) -> None:
    async def scenario(desk: Desk) -> None:
        status = CallStatus.ANSWERED if limit["answered_at"] else CallStatus.RINGING
        await desk.open(status, owner=DEAD, **limit)
        assert await desk.watch.adopt(R, DEAD)
        await until(11)
        assert done() == both(10)

    exactly(scenario)


@pytest.mark.parametrize(
    ("fields", "at", "reason"),
    [
        ({}, 10, EndReason.MEDIA_ERROR),
        ({"intent": EndReason.API_STOP}, 10, EndReason.API_STOP),
        ({"status": CallStatus.RINGING}, 10, EndReason.PROVIDER_UNAVAILABLE),
        ({"status": CallStatus.RINGING, "direction": "outbound"}, 0, EndReason.PROVIDER_UNAVAILABLE),
        ({"transfer": TransferStatus.ANSWERED}, 0, EndReason.TRANSFERRED),
    ],
    ids=["answered", "to be hung up", "incoming", "dialled", "handed on"],
)
def test_an_adopted_call_that_was_on_the_dead_process_sockets_is_over(
    fields: dict[str, Any], at: float, reason: EndReason
) -> None:
    """Its carrier here does not have it, and nobody else can."""

    async def scenario(desk: Desk) -> None:
        await desk.open(owner=DEAD, **fields)
        Scripted.stands = Scripted.takes = CallElsewhere("scripted", "fetch_call", "leg")
        assert await desk.watch.adopt(R, DEAD)
        await desk.ends(at, reason)
        assert done() == asked(at)

    exactly(scenario)


def test_a_call_that_talks_here_is_over_once_its_carrier_twice_does_not_have_it() -> None:
    async def scenario(desk: Desk) -> None:
        desk.connect(await desk.open())
        Scripted.stands = Scripted.takes = CallElsewhere("scripted", "fetch_call", "leg")
        await desk.ends(600 + RETRY[1], EndReason.MEDIA_ERROR)

    exactly(scenario)


def test_a_call_that_is_hung_up_later_and_was_on_no_sockets_of_ours_is_left_alone() -> None:
    async def scenario(desk: Desk) -> None:
        await desk.open(intent=EndReason.API_STOP)
        Scripted.stands = Scripted.takes = ProviderUnavailable("scripted", "hang_up", "down")
        await until(400)
        assert desk.stands().ended  # written off, and hung up later
        Scripted.stands = Scripted.takes = CallElsewhere("scripted", "hang_up", "leg")
        await until(700)
        tried = len(done())
        await until(3600)
        assert len(done()) == tried and not desk.reports

    exactly(scenario)
