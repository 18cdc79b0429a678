"""Calls that come in, until they are answered: declined, sent on, left to ring, taken back; and where all calls end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier import Answer, CallStatus, EndReason, Forward, IncomingCall, LeaveRinging, Reject
from anycarrier_sip.endpoint import Endpoint
from scripted_sip_peer import OPENED, OURS, THEIRS, House, Leg, play, sdp

Route = Callable[[object, object], Awaitable[Any]]


def always(route: Any, after: float = 0) -> Route:
    async def router(event: object, line: object) -> Any:
        await asyncio.sleep(after)
        return route

    return router


# --- who rings ------------------------------------------------------------------------------------------------------


def test_what_is_told_of_a_caller() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(
            from_="anonymous-desk",
            headers=(
                "P-Asserted-Identity: <sip:+12125550188;verstat=TN-Validation-Passed-A@127.0.0.1;user=phone>",
                "Diversion: <sip:+14155550155@127.0.0.1>;reason=unconditional",
                "X-Queue: gold",
                "Subject: secret",
            ),
        )
        await leg.answered()
        event = next(event for event in house.events if isinstance(event, IncomingCall))
        assert (event.call.from_, event.call.to, event.verified) == ("+12125550188", OURS, "A")
        assert event.forwarded_from == "+14155550155" and event.headers == {"X-Queue": "gold"}
        assert event.raw["call_id"] == leg.call_id and event.raw["remote_tag"] == leg.local_tag

    play(scene)


@pytest.mark.parametrize(
    ("headers", "body", "answer"),
    [
        (("Require: precondition, 100rel",), None, "420 INVITE"),
        (("Content-Type: text/plain",), "", "200 INVITE"),
        ((), "v=1", "488 INVITE"),
        ((), sdp(5000, payloads="18 101"), "488 INVITE"),
        (("Supported: timer", "Session-Expires: 30"), None, "422 INVITE"),
    ],
)
def test_invites_that_cannot_be_taken(headers: tuple[str, ...], body: str | None, answer: str) -> None:
    async def scene(house: House) -> None:
        house.peer.invite(headers=headers, body=body)
        heard = await house.peer.next(answer)
        assert "tag=" in heard["To"]
        if answer.startswith("420"):
            assert heard["Unsupported"] == "precondition"
        if answer[0] == "4":
            await asyncio.sleep(0.1)
            assert not house.listener.calls and all(stream.closed for stream in OPENED)

    play(scene)


def test_a_body_of_another_kind_is_415() -> None:
    async def scene(house: House) -> None:
        leg = Leg(house.peer, "c9", OURS, THEIRS)
        leg.request("INVITE", body="hello", kind="text/plain")
        assert (await house.peer.next("415 INVITE"))["Accept"] == "application/sdp"

    play(scene)


def test_an_invite_without_contact_is_400() -> None:
    async def scene(house: House) -> None:
        text = (
            f"INVITE sip:{OURS}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{house.peer.port};branch=z9hG4bKx\r\n"
            f"Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=a\r\nTo: <sip:{OURS}@127.0.0.1>\r\nCall-ID: c\r\n"
            "CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
        house.peer.send(text)
        await house.peer.next("400 INVITE")
        assert not house.events

    play(scene)


def test_repeats_make_one_call() -> None:
    async def scene(house: House) -> None:
        leg = Leg(house.peer, "c1", OURS, THEIRS)
        for _ in range(3):
            leg.request("INVITE", body=sdp(5000), cseq=1, branch="z9hG4bKsame")
        leg.cseq = 1
        await leg.answered()
        assert len(house.listener.calls) == 1 and sum(isinstance(event, IncomingCall) for event in house.events) == 1

    play(scene)


# --- declined, sent on, left to ring --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "answer"),
    [(EndReason.BUSY, "486 INVITE"), (EndReason.REJECTED, "603 INVITE"), (EndReason.AGENT_ERROR, "603 INVITE")],
)
def test_declined(reason: EndReason, answer: str) -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await house.peer.next(answer)
        leg.request("ACK", cseq=1, branch=leg.invites[1])
        over = await house.over()
        assert over.ended and not house.listener.endpoint.dialogs

    play(scene, router=always(Reject(reason)))


def test_a_number_of_ours_without_a_line_is_404() -> None:
    async def scene(house: House) -> None:
        await house.exchange.unassign(OURS)
        house.peer.invite()
        await house.peer.next("404 INVITE")
        assert (await house.over()).ended

    play(scene)


def test_sent_on_by_302() -> None:
    async def scene(house: House) -> None:
        house.peer.invite()
        moved = await house.peer.next("302 INVITE")
        assert moved["Contact"] == f"<sip:+14155550166@127.0.0.1:{house.peer.port}>"
        assert (await house.over()).reason is EndReason.TRANSFERRED

    play(scene, router=always(Forward("+14155550166")))


def test_left_ringing_and_taken_back() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        ringing = await house.peer.next("180 INVITE")
        assert ringing["Contact"] and not ringing.all("RSeq")
        await asyncio.sleep(125)
        assert house.peer.count("180 INVITE") == 3
        leg.cancel()
        await house.peer.next("200 CANCEL")
        await house.peer.next("487 INVITE")
        over = await house.over()
        assert over.reason is EndReason.CANCELED
        assert not house.listener.calls and not house.listener.endpoint.dialogs

    play(scene, router=always(LeaveRinging()))


def test_left_ringing_reliably() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite(headers=("Require: 100rel",))
        ringing = await house.peer.next("180 INVITE")
        assert ringing["Require"] == "100rel"
        await house.peer.next("180 INVITE")  # until it is acknowledged
        leg.remote_tag, leg.target = ringing.tag("To"), ringing.contact
        leg.request("PRACK", headers=("RAck: 1 1 INVITE",))
        await house.peer.next("481 PRACK")
        leg.request("PRACK", headers=(f"RAck: {ringing['RSeq']} 1 INVITE",))
        await house.peer.next("200 PRACK")
        count = house.peer.count("180 INVITE")
        await asyncio.sleep(40)
        assert house.peer.count("180 INVITE") == count and house.listener.calls
        await house.provider.hang_up(next(iter(house.listener.calls)))
        await house.peer.next("603 INVITE")

    play(scene, router=always(LeaveRinging()))


def test_taken_back_while_it_is_decided() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await house.peer.next("100 INVITE")
        leg.cancel()
        await house.peer.next("487 INVITE")
        over = await house.over()
        assert over.reason is EndReason.CANCELED
        await asyncio.sleep(5)
        assert not house.peer.count("200 INVITE") and not OPENED

    play(scene, router=always(Answer("desk"), 3))


def test_a_bye_before_the_answer_takes_it_back_too() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        ringing = await house.peer.next("180 INVITE")
        leg.remote_tag = ringing.tag("To")
        leg.request("BYE")
        await house.peer.next("487 INVITE")
        await house.peer.next("200 BYE")
        assert (await house.over()).reason is EndReason.CANCELED

    play(scene, router=always(LeaveRinging()))


def test_a_cancel_after_the_answer_changes_nothing() -> None:
    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered(ack=False)
        leg.cancel()
        await house.peer.next("200 CANCEL")
        leg.request("ACK", cseq=1)
        await asyncio.sleep(1)
        assert house.listener.calls and not house.peer.count("487 INVITE")

    play(scene)


def test_an_exchange_that_cannot_take_it_now() -> None:
    async def scene(house: House) -> None:
        async def away(*_: object) -> object:
            raise RuntimeError("the store is away")

        house.exchange.switchboard.once.first = away  # type: ignore[method-assign]
        house.peer.invite()
        await house.peer.next("480 INVITE")
        assert not house.listener.calls

    play(scene)


# --- drain and stop -----------------------------------------------------------------------------------------------


def test_a_drain_answers_503() -> None:
    async def scene(house: House) -> None:
        endpoint: Endpoint = house.listener.endpoint
        endpoint.draining = True
        house.peer.invite()
        assert int((await house.peer.next("503 INVITE"))["Retry-After"]) > 0

    play(scene)


def test_stopping_hangs_up_and_tells() -> None:
    async def scene(house: House) -> None:
        call, _ = await house.rung()
        ringing, dialling = await house.dial()
        house.peer.respond(ringing, "180 Ringing")
        dialled = await dialling
        stopping = asyncio.create_task(house.exchange.stop())
        bye = await house.peer.next("BYE")
        house.peer.respond(bye, "200 OK")
        await stopping
        assert house.peer.count("CANCEL")
        for told in (call, dialled):
            known = await house.exchange.switchboard.calls.get(told.reference)
            assert known is not None and known.ended

    play(scene)


def test_a_second_credential_shares_the_socket_and_has_its_own_calls() -> None:
    async def scene(house: House) -> None:
        assert len(house.listener.endpoint.trunks) == 1
        await house.exchange.close_listener("trunk")
        house.peer.invite()
        await asyncio.sleep(3)
        assert not house.peer.count("200 INVITE")

    play(scene)


# --- every call ends ------------------------------------------------------------------------------------------------

SILENT = 3 * 3600.0


async def incoming_unanswered(house: House) -> None:
    house.peer.invite()


async def incoming_reliable(house: House) -> None:
    house.peer.invite(headers=("Require: 100rel",))


async def incoming_unacknowledged(house: House) -> None:
    await house.peer.invite().answered(ack=False)


async def incoming_hung_up_unacknowledged(house: House) -> None:
    await house.peer.invite().answered(ack=False)
    call_id = next(iter(house.listener.calls))
    await house.exchange.wait_for(call_id, CallStatus.ANSWERED)
    await house.exchange.hang_up(call_id)


async def incoming_with_a_timer(house: House) -> None:
    await house.rung(headers=("Supported: timer", "Session-Expires: 300"))


async def ours_to_refresh(house: House) -> None:
    await house.dialled(headers=("Session-Expires: 300;refresher=uac", "Allow: UPDATE"))


async def theirs_to_refresh(house: House) -> None:
    await house.dialled(headers=("Session-Expires: 300;refresher=uas",))


async def lost_without_a_timer(house: House) -> None:
    await house.dialled()
    await asyncio.sleep(60)
    assert OPENED[0].on_lost is not None
    OPENED[0].on_lost()


async def no_answer_to_the_bye(house: House) -> None:
    call, _ = await house.dialled()
    await house.exchange.hang_up(call)


async def no_answer_to_the_invite(house: House) -> None:
    await (await house.dial(timeout=600))[1]


async def ringing_for_ever(house: House) -> None:
    invite, dialling = await house.dial(timeout=600)
    house.peer.respond(invite, "180 Ringing")
    await dialling


async def no_answer_to_the_cancel(house: House) -> None:
    invite, dialling = await house.dial(timeout=600)
    house.peer.respond(invite, "180 Ringing")
    await house.exchange.hang_up(await dialling)


async def hung_up_before_any_answer(house: House) -> None:
    _, dialling = await house.dial(timeout=600)
    await house.exchange.hang_up(await dialling)


async def no_answer_to_the_refer(house: House) -> None:
    call, _ = await house.rung(headers=("Supported: timer", "Session-Expires: 300;refresher=uac"))
    asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177"))
    await asyncio.wait({asking})
    asking.exception()


async def transferred_and_never_heard_of(house: House) -> None:
    call, _ = await house.rung(headers=("Supported: timer", "Session-Expires: 300;refresher=uac"))
    asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177"))
    house.peer.respond(await house.peer.next("REFER"), "202 Accepted")
    await asking


@pytest.mark.parametrize(
    ("state", "routes"),
    [
        (incoming_unanswered, always(LeaveRinging())),
        (incoming_unanswered, always(Answer("desk"), 2 * SILENT)),
        (incoming_reliable, always(LeaveRinging())),
        (incoming_unacknowledged, None),
        (incoming_hung_up_unacknowledged, None),
        (incoming_with_a_timer, None),
        (ours_to_refresh, None),
        (theirs_to_refresh, None),
        (lost_without_a_timer, None),
        (no_answer_to_the_bye, None),
        (no_answer_to_the_invite, None),
        (ringing_for_ever, None),
        (no_answer_to_the_cancel, None),
        (hung_up_before_any_answer, None),
        (no_answer_to_the_refer, None),
        (transferred_and_never_heard_of, None),
    ],
)
def test_a_far_end_that_falls_silent_ends_its_call(
    state: Callable[[House], Awaitable[None]], routes: Route | None
) -> None:
    async def scene(house: House) -> None:
        await state(house)
        await asyncio.sleep(1)
        until = house.peer.loop.time() + SILENT
        listener = house.listener
        while (listener.calls or listener.endpoint.dialogs) and house.peer.loop.time() < until:
            await asyncio.sleep(60)
        assert not listener.calls and not listener.endpoint.dialogs
        assert (await house.over()).ended
        assert all(stream.closed for stream in OPENED)
        await asyncio.sleep(120)
        assert not listener.endpoint.layer.open  # no transaction is left either

    play(scene, **({"router": routes} if routes is not None else {}))
