"""We ring somebody."""

import asyncio

import pytest

from anycarrier import CallStatus, Direction, EndReason, MachineDetected, MachineDetection, MediaSession
from anycarrier.errors import (
    DestinationNotAllowed,
    InsufficientFunds,
    NumberRejected,
    PermissionDenied,
    ProviderUnavailable,
    RateLimited,
)
from anycarrier.testing.far_end_audio import greeting
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from core.conftest import R1, R2
from whole.conftest import CALLEE, OURS, House, listen, until

NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}
VOICE = bytes(range(0x20, 0x60)) * 50


async def test_answered_heard_and_hung_up_by_the_callee(house: House) -> None:
    call, far_end = await house.dial()
    assert call.direction is Direction.OUTBOUND and call.status.rank < CallStatus.ENDED.rank
    await far_end.wait_for("streaming")
    await far_end.say(VOICE)
    await until(lambda: VOICE in far_end.heard)
    await far_end.hang_up()
    over = await house.over(call)
    assert (over.reason, over.agent_id, over.from_, over.to) == (
        EndReason.USER_HANGUP,
        "front-desk",
        OURS,
        CALLEE,
    )
    told = [status for status in house.progress(over) if status is not CallStatus.INITIATED]  # not all carriers tell it
    assert told == [CallStatus.ANSWERED, CallStatus.ENDED]
    assert over.duration > 0


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome.BUSY, EndReason.BUSY),
        (Outcome.NO_ANSWER, EndReason.NO_ANSWER),
        (Outcome.REJECTED, EndReason.REJECTED),
        (Outcome.NOT_FOUND, EndReason.INVALID_NUMBER),
    ],
)
async def test_not_connected_is_told_quickly_and_with_its_reason(
    house: House, outcome: Outcome, reason: EndReason
) -> None:
    call, _ = await house.dial(NUMBER[outcome], timeout=5)
    over = await house.over(call, timeout=60)  # a carrier may ring five seconds longer than asked
    assert (over.status, over.reason, over.answered_at, over.duration) == (CallStatus.ENDED, reason, None, 0.0)
    assert over.carrier_status, "the carrier's own word is kept"
    assert not house.sessions


@pytest.mark.parametrize(
    ("outcome", "error", "reason"),
    [
        (Outcome.INVALID_NUMBER, NumberRejected, EndReason.INVALID_NUMBER),
        (Outcome.FORBIDDEN, PermissionDenied, EndReason.PROVIDER_PERMISSION_DENIED),
        (Outcome.NO_FUNDS, InsufficientFunds, EndReason.PROVIDER_PERMISSION_DENIED),
        (Outcome.THROTTLED, RateLimited, EndReason.PROVIDER_RATE_LIMITED),
    ],
)
async def test_a_refusal_of_the_carrier_is_a_typed_error_and_an_ended_call(
    house: House, outcome: Outcome, error: type[Exception], reason: EndReason
) -> None:
    with pytest.raises(error) as refused:
        await house.exchange.dial(from_=OURS, to=NUMBER[outcome], reference=R1)
    text = str(refused.value)
    assert house.provider.name in text and "dial" in text and NUMBER[outcome] not in text
    call = await house.exchange.switchboard.calls.get(R1)
    assert call is not None and (call.status, call.reason) == (CallStatus.ENDED, reason)


@pytest.mark.parametrize("house", ["twilio", "telnyx"], indirect=True)  # acme lets anybody show anything
async def test_a_number_the_account_does_not_hold_may_not_be_shown(house: House) -> None:
    lost = "+16505550199"  # given up at the carrier, and still registered here
    await house.exchange.assign(lost, agent_id="front-desk", credential_id="main", configure=False)
    with pytest.raises(PermissionDenied, match="Call from a number this account owns, or one it has verified"):
        await house.exchange.dial(from_=lost, to="+12125550123", reference=R2)
    call = await house.exchange.switchboard.calls.get(R2)
    assert call is not None and call.reason is EndReason.PROVIDER_PERMISSION_DENIED


async def test_a_carrier_that_is_down_is_asked_once_and_the_outcome_is_called_unknown(house: House) -> None:
    if house.listens:  # where the call is its own request, its refusal is known to be the end
        call = await house.exchange.dial(from_=OURS, to=NUMBER[Outcome.SERVER_ERROR])
        assert (await house.over(call)).reason is EndReason.PROVIDER_UNAVAILABLE
    else:
        with pytest.raises(ProviderUnavailable, match="do not dial again before checking"):
            await house.exchange.dial(from_=OURS, to=NUMBER[Outcome.SERVER_ERROR])
    dials = [
        r
        for r in house.sandbox.requests
        if (r.method == "POST" and r.path.rstrip("/").lower().endswith(("/calls", "/calls.json", "/call", "/channels")))
        or (r.method == "INVITE" and r.status != 401)
    ]
    assert len(dials) == 1


async def test_a_forbidden_country_never_reaches_the_carrier(house: House) -> None:
    before = len(house.sandbox.requests)
    with pytest.raises(DestinationNotAllowed):
        await house.exchange.dial(from_=OURS, to="+442071838750")
    assert len(house.sandbox.requests) == before


async def test_it_rings_first_and_is_answered_later(house: House) -> None:
    call, far_end = await house.dial(NUMBER[Outcome.RINGS])
    assert far_end.state == "ringing"
    answered = await house.exchange.wait_for(call, CallStatus.ANSWERED, 30)
    assert answered.answered_at is not None
    await far_end.hang_up()
    assert (await house.over(call)).reason is EndReason.USER_HANGUP


async def test_hung_up_by_us_while_it_rings_is_cancelled(house: House) -> None:
    call, _ = await house.dial(NUMBER[Outcome.NO_ANSWER])
    await house.exchange.hang_up(call)
    over = await house.over(call)
    assert (over.reason, over.answered_at) == (EndReason.CANCELED, None)


async def test_a_machine_is_told_from_a_human(house: House) -> None:
    seen: list[MachineDetected] = []

    async def wait_for_the_beep(session: MediaSession) -> None:
        async for event in session:
            if isinstance(event, MachineDetected):
                seen.append(event)
                if event.greeting_ended:
                    return

    house.answer_with(wait_for_the_beep)
    call, _ = await house.dial(NUMBER[Outcome.MACHINE], machine_detection=MachineDetection.WAIT_FOR_BEEP)
    over = await house.over(call, timeout=60)
    assert (over.answered_by, over.reason) == ("machine", EndReason.AGENT_HANGUP)
    assert seen[-1].greeting_ended and seen[-1].beep


async def test_a_human_is_told_from_a_machine(house: House) -> None:
    house.answer_with(listen)
    call, far_end = await house.dial(machine_detection=MachineDetection.DETECT)
    await far_end.say(greeting())  # where anycarrier listens itself, only a person who speaks is known as one
    await house.exchange.wait_until(call, lambda c: c.answered_by is not None, 30)
    await far_end.hang_up()
    assert (await house.over(call)).answered_by == "human"


async def test_the_time_limit_ends_the_call_whoever_enforces_it(house: House) -> None:
    clock = asyncio.get_running_loop().time
    call, far_end = await house.dial(time_limit=1.0)
    await far_end.wait_for("answered")
    answered = clock()
    over = await house.over(call)
    assert over.reason is EndReason.MAX_DURATION
    assert 0.5 < clock() - answered < 4
    await far_end.wait_for("ended")
