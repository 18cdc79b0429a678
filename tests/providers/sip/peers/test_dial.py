"""We ring real telephones: answered, busy, declined, not answered, unknown; and each refusal that SIPp can send."""

from __future__ import annotations

from pathlib import Path

import pytest
from foreign_stack import foreign_phone
from sip_house import NO_TRUNK, OURS, House, open_house, until
from sipp import pause, receive, scenario, send, sipp
from softphone import softphone

from anycarrier import Call, CallStatus, EndReason
from anycarrier.errors import NumberRejected, PermissionDenied


async def settled(house: House, call: Call) -> Call:
    """The call at its end, told alike by the exchange, the carrier's side and its events."""
    over = await house.over(call)
    asked = await house.provider.fetch_call(call.id)
    assert (asked.reason, asked.sip_code) == (over.carrier_reason or over.reason, over.sip_code)
    await until(lambda: any(told.ended for told in house.told(call)))
    assert house.told(call)[-1].reason == asked.reason
    return over


async def test_answered(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address)
        incoming = await phone.event("CALL_INCOMING")
        assert incoming["peeruri"].startswith(f"sip:{OURS}@")
        await house.exchange.wait_for(call, CallStatus.RINGING, 30)
        assert not house.sessions
        await phone.do("accept")
        session = await house.live()
        await until(lambda: len(house.heard[0].pcm) > 20000)
        await phone.press("1")
        await until(lambda: house.heard[0].digits == "1")
        await session.send_digits("2")
        assert (await phone.event("CALL_DTMF_START"))["param"] == "2"
        await phone.do("hangup")
        over = await settled(house, call)
        assert (over.reason, over.duration > 0) == (EndReason.USER_HANGUP, True)
        assert house.heard[0].sound.loud().between(0.2, 1).share(440) > 0.9
        await until(lambda: phone.heard().seconds > 1)
        assert phone.heard().loud().between(0.2, 1).share(600) > 0.9


async def test_a_newer_stack_invites_again_straight_after_the_ack(tmp_path: Path) -> None:
    async with foreign_phone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address)
        await phone.event("incoming")
        await phone.do("answer", call=0)
        await house.live()
        await until(lambda: phone.trace.count("\nINVITE sip:") >= 2)
        await until(lambda: len(house.heard[0].pcm) > 24000 and phone.heard().seconds > 1.5)
        await house.exchange.hang_up(call)
        await phone.event("closed")
        assert (await settled(house, call)).reason is EndReason.API_STOP
        assert house.heard[0].sound.loud().between(0.5, 1.2).share(440) > 0.9
        assert phone.heard().loud().between(0.5, 1.2).share(600) > 0.9


async def test_declined(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address)
        await phone.event("CALL_INCOMING")
        await phone.do("hangup")
        over = await settled(house, call)
        assert (over.reason, over.sip_code) == (EndReason.BUSY, 486)


async def test_not_answered(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address, timeout=5)
        await phone.event("CALL_INCOMING")
        await phone.event("CALL_CLOSED")
        assert (await settled(house, call)).reason is EndReason.NO_ANSWER
        assert "\nCANCEL sip:" in phone.trace


async def test_taken_back(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address)
        await phone.event("CALL_INCOMING")
        await house.exchange.hang_up(call)
        await phone.event("CALL_CLOSED")
        assert (await settled(house, call)).reason is EndReason.CANCELED


@pytest.mark.parametrize(
    ("status", "header", "reason"),
    [
        ("486 Busy Here", "", EndReason.BUSY),
        ("600 Busy Everywhere", "", EndReason.BUSY),
        ("603 Decline", "", EndReason.REJECTED),
        ("607 Unwanted", "", EndReason.MARKED_AS_SPAM),
        ("404 Not Found", "Reason: Q.850;cause=17", EndReason.INVALID_NUMBER),
        ("480 Temporarily Unavailable", 'Reason: Q.850;cause=18;text="No user responding"', EndReason.NO_ANSWER),
        ("503 Service Unavailable", "Reason: Q.850;cause=1", EndReason.INVALID_NUMBER),
        ("487 Request Terminated", "Reason: SIP;cause=600, Q.850;cause=21", EndReason.REJECTED),
        ("403 Forbidden", "", EndReason.PROVIDER_PERMISSION_DENIED),
        ("302 Moved Temporarily", "Contact: <sip:+19005550100@127.0.0.1:9>", EndReason.INVALID_NUMBER),
    ],
)
async def test_refused(tmp_path: Path, status: str, header: str, reason: EndReason) -> None:
    steps = scenario(
        receive(request="INVITE"),
        send("SIP/2.0 180 Ringing\n[last_Via:]\n[last_From:]\n[last_To:];tag=sipp[call_number]\n[last_Call-ID:]\n"
             "[last_CSeq:]\nContact: <sip:sipp@[local_ip]:[local_port]>\nContent-Length: 0", retrans=0),
        pause(300),
        send(f"SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:];tag=sipp[call_number]\n[last_Call-ID:]\n"
             f"[last_CSeq:]\n{header + chr(10) if header else ''}Content-Length: 0"),
        receive(request="ACK"),
    )  # fmt: skip
    async with sipp(tmp_path, steps) as callee, open_house(NO_TRUNK) as house:
        call = await house.exchange.dial(from_=OURS, to=callee.address)
        over = await settled(house, call)
        assert (over.reason, over.sip_code) == (reason, int(status[:3])), over
        assert over.carrier_status is not None and over.carrier_status.startswith(status[4:])
        await callee.finished()


@pytest.mark.parametrize(("status", "error"), [("404 Not Found", NumberRejected), ("403 Forbidden", PermissionDenied)])
async def test_refused_at_once(tmp_path: Path, status: str, error: type[Exception]) -> None:
    steps = scenario(
        receive(request="INVITE"),
        send(f"SIP/2.0 {status}\n[last_Via:]\n[last_From:]\n[last_To:];tag=sipp[call_number]\n[last_Call-ID:]\n"
             "[last_CSeq:]\nContent-Length: 0"),
        receive(request="ACK"),
    )  # fmt: skip
    async with sipp(tmp_path, steps) as callee, open_house(NO_TRUNK) as house:
        with pytest.raises(error, match=status):
            await house.exchange.dial(from_=OURS, to=callee.address)
        await callee.finished()
