"""Somebody rings one of our numbers."""

import pytest

from anycarrier import CallStatus, Direction, EndReason, MediaSession, Reject
from anycarrier.events import IncomingCall
from whole.conftest import CALLER, OURS, SPARE, House, listen, until

VOICE = bytes(range(0x20, 0x60)) * 100
"""0.8 s of mu-law that is nothing but recognisable."""


async def test_the_numbers_agent_answers_hears_and_is_heard(house: House) -> None:
    far_end = await house.ring(said=VOICE)
    await until(lambda: VOICE in far_end.heard)  # whole, in order and untouched
    await far_end.hang_up()
    call = await house.over(far_end)
    assert (call.direction, call.agent_id, call.from_, call.to) == (Direction.INBOUND, "front-desk", CALLER, OURS)
    assert (call.status, call.reason) == (CallStatus.ENDED, EndReason.USER_HANGUP)
    assert call.answered_at is not None and call.carrier_status
    assert house.sessions[0].call.id == far_end.call_id


async def test_reassigned_between_two_calls_the_second_reaches_the_new_agent(house: House) -> None:
    for agent in ("front-desk", "night-desk"):
        await house.exchange.assign(OURS, agent_id=agent, credential_id="main")
        far_end = await house.ring()
        await far_end.wait_for("streaming")
        await far_end.hang_up()
        assert (await house.over(far_end)).agent_id == agent
    assert [session.agent_id for session in house.sessions] == ["front-desk", "night-desk"]


async def test_an_unassigned_number_declines(house: House) -> None:
    if "configure_number" in house.provider.capabilities:
        await house.exchange.assign(SPARE, agent_id="x", credential_id="main")
        await house.exchange.unassign(SPARE, configure=False)  # the carrier is not told: its calls still come
    else:
        house.exchange.switchboard.registry  # noqa: B018 - carriers without configuration send every number's calls here anyway
    far_end = await house.ring(to=SPARE)
    call = await house.over(far_end)
    assert (call.status, call.reason, call.answered_at, call.agent_id) == (
        CallStatus.ENDED,
        EndReason.REJECTED,
        None,
        None,
    )
    assert not house.sessions


@pytest.mark.parametrize("reason", [EndReason.REJECTED, EndReason.BUSY])
async def test_a_call_may_be_declined_by_a_router(house: House, reason: EndReason) -> None:
    async def decline(event: IncomingCall, line: object) -> Reject:
        return Reject(reason)

    house.exchange.switchboard.router = decline
    far_end = await house.ring()
    call = await house.over(far_end)
    assert (call.reason, call.answered_at) == (reason, None)
    assert far_end.state == "ended" and not house.sessions


async def test_a_caller_who_gives_up_while_it_rings_leaves_a_cancelled_call(house: House) -> None:
    from anycarrier import LeaveRinging

    async def ignore(event: IncomingCall, line: object) -> LeaveRinging:
        return LeaveRinging()

    house.exchange.switchboard.router = ignore
    far_end = await house.ring()
    await house.known(far_end.call_id)
    assert far_end.state == "ringing"
    await far_end.hang_up()
    call = await house.over(far_end)
    assert (call.reason, call.answered_at) == (EndReason.CANCELED, None)


async def test_a_forward_the_policy_forbids_declines_the_call(house: House) -> None:
    from anycarrier import Forward

    async def abroad(event: IncomingCall, line: object) -> Forward:
        return Forward("+442071838750")

    house.exchange.switchboard.router = abroad
    far_end = await house.ring()
    call = await house.over(far_end)
    assert (call.reason, call.answered_at, far_end.state) == (EndReason.AGENT_ERROR, None, "ended")


@pytest.mark.parametrize("caller", [CALLER, "anonymous", "sip:al@pbx.example.com"])
async def test_a_call_is_forwarded_whoever_calls(house: House, caller: str) -> None:
    """A second leg needs a number to show, which a withheld or SIP caller has not."""
    from anycarrier import Capability, Forward

    if Capability.FORWARD not in house.provider.capabilities:
        pytest.skip(f"capability: {house.provider.name} has no forward")

    async def onward(event: IncomingCall, line: object) -> Forward:
        return Forward("+12125550199")

    house.exchange.switchboard.router = onward
    far_end = await house.sandbox.ring(OURS, caller)
    await until(lambda: far_end.transferred_to == "+12125550199")
    await far_end.hang_up()
    await house.over(far_end)


async def test_two_callers_at_once_are_kept_apart(house: House) -> None:
    first = await house.sandbox.ring(OURS, "+12125550111", said=b"\x11" * 1600)
    second = await house.sandbox.ring(OURS, "+12125550112", said=b"\x22" * 1600)
    await until(lambda: b"\x11" * 1600 in first.heard and b"\x22" * 1600 in second.heard)
    assert b"\x22" not in first.heard and b"\x11" not in second.heard
    for far_end in (first, second):
        await far_end.hang_up()
        await house.over(far_end)


async def test_custom_values_travel_with_the_stream(house: House) -> None:
    from anycarrier import Answer

    async def answer(event: IncomingCall, line: object) -> Answer:
        return Answer("front-desk", custom={"order": "A&B <7>", "who": "Zoë"})

    house.exchange.switchboard.router = answer
    house.answer_with(listen)
    far_end = await house.ring()
    session: MediaSession = await house.live()
    assert dict(session.custom) == {"order": "A&B <7>", "who": "Zoë"}
    await far_end.hang_up()
    await house.over(far_end)
