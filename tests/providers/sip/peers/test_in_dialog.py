"""What happens during a call and while it begins: hold, moves, late offers, refreshes, PRACK, forks, glare, races."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from foreign_stack import foreign_phone
from kamailio import kamailio
from peer_process import HOST
from sip_house import CALLEE, NO_TRUNK, OURS, House, open_house, until
from sipp import (
    CALLED,
    CALLER,
    accept_invite,
    ack,
    answered,
    called_by,
    invite,
    pause,
    receive,
    respond,
    scenario,
    sdp,
    send,
    sipp,
    with_body,
    within,
)
from softphone import softphone

from anycarrier import CallStatus, EndReason, IncomingCall, LeaveRinging, Line, Route
from anycarrier.events import HoldChanged
from anycarrier_sip.session_timer import SessionTimer

KEPT = "us,them,via,cseq"


def holds(house: House, session: int = 0) -> list[bool]:
    return [event.held for event in house.heard[session].events if isinstance(event, HoldChanged)]


async def test_debian_s_baresip_holds_and_resumes(tmp_path: Path) -> None:
    async with softphone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        await phone.dial(house.line)
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 4000)
        await phone.do("hold")
        await until(lambda: holds(house) == [True])
        await phone.do("resume")
        await until(lambda: holds(house) == [True, False])
        heard = len(house.heard[0].pcm)
        await until(lambda: len(house.heard[0].pcm) > heard + 8000)
        await phone.do("hangup")
        assert (await house.over(await house.only_call())).reason is EndReason.USER_HANGUP


async def test_a_newer_stack_holds_and_resumes(tmp_path: Path) -> None:
    async with foreign_phone(tmp_path) as phone, open_house({"port": phone.port}) as house:
        call = await house.exchange.dial(from_=OURS, to=phone.address)
        await phone.event("incoming")
        await phone.do("answer", call=0)
        await house.live()
        await until(lambda: len(house.heard[0].pcm) > 4000)
        await phone.do("hold", call=0)
        await until(lambda: holds(house) == [True])
        await phone.do("resume", call=0)
        await until(lambda: holds(house) == [True, False])
        heard = len(house.heard[0].pcm)
        await until(lambda: len(house.heard[0].pcm) > heard + 8000)
        await house.exchange.hang_up(call)
        await phone.event("closed")


SCENES = {
    "a late offer": [
        invite(),
        answered(),
        ack(1, sdp()),
        pause(300),
        within("BYE", 2),
        receive(response=200),
    ],
    "PCMA only": [
        invite(sdp("8 101")),
        answered('<action><ereg regexp="RTP/AVP 8 101" search_in="body" check_it="true" assign_to="1"/></action>'),
        ack(),
        pause(300),
        within("BYE", 2),
        receive(response=200),
    ],
    "no codec of ours": [
        invite(sdp("18")),
        receive(response=100, optional=True) + receive(response=488),
        ack(),
    ],
    "media moved": [
        invite(sdp()),
        answered(),
        ack(),
        pause(200),
        within("INVITE", 2, sdp(port="[media_port+2]", version=2)),
        receive(response=100, optional=True) + receive(response=200),
        ack(2),
        pause(300),
        within("BYE", 3),
        receive(response=200),
    ],
    "media moved to another place by UPDATE, then held the old way": [
        invite(sdp()),
        answered(),
        ack(),
        within("UPDATE", 2, sdp(port="[media_port+2]", version=2)),
        receive(response=200),
        within("INVITE", 3, sdp(version=3).replace("[media_ip]", "0.0.0.0")),
        receive(response=100, optional=True) + receive(response=200),
        ack(3),
        pause(200),
        within("BYE", 4),
        receive(response=200),
    ],
    "they refresh the session": [
        invite(sdp(), "Supported: timer\nSession-Expires: 90;refresher=uac\nMin-SE: 90"),
        answered('<action><ereg regexp="90;refresher=uac" search_in="hdr" header="Session-Expires:" check_it="true"'
                 ' assign_to="1"/></action>'),
        ack(),
        within("UPDATE", 2, more="Supported: timer\nSession-Expires: 90;refresher=uac"),
        receive(response=200),
        within("INVITE", 3, sdp(version=1), "Supported: timer\nSession-Expires: 90;refresher=uac"),
        receive(response=100, optional=True) + receive(response=200),
        ack(3),
        within("BYE", 4),
        receive(response=200),
    ],
    "a session too short": [
        invite(sdp(), "Supported: timer\nSession-Expires: 30"),
        receive(response=100, optional=True) + receive(response=422),
        ack(),
    ],
    "an unknown extension": [
        invite(sdp(), "Require: nothingSupportsThis"),
        receive(response=100, optional=True) + receive(response=420),
        ack(),
    ],
    "INFO keys, another INFO, OPTIONS": [
        invite(sdp("0")),
        answered(),
        ack(),
        pause(1000),  # for the session to begin, on a busy machine too
        within("INFO", 2, "Signal=5\nDuration=160\n").replace("application/sdp", "application/dtmf-relay"),
        receive(response=200),
        within("INFO", 3, "v=0\n"),
        receive(response=415),
        within("OPTIONS", 4),
        receive(response=200),
        within("NOTIFY", 5, more="Event: refer\nSubscription-State: active"),
        receive(response=481),
        pause(300),
        within("BYE", 6),
        receive(response=200),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SCENES)
async def test_a_caller_does_what_callers_do(tmp_path: Path, name: str) -> None:
    steps = scenario(*SCENES[name], variables="1" if "assign_to" in str(SCENES[name]) else "")
    async with open_house({}) as house:
        async with sipp(tmp_path, steps, remote=house.address, service=OURS) as caller:
            await caller.finished()
        if house.sessions:
            assert (await house.over(await house.only_call())).reason is EndReason.USER_HANGUP
        if "INFO" in name:
            assert house.heard[0].digits == "5"
        if "held" in name:
            assert holds(house) == [True]
        await until(lambda: not house.provider.listener.endpoint.dialogs)


async def test_a_caller_wants_to_know_that_it_rings(tmp_path: Path) -> None:
    """100rel demanded: the 180 has an RSeq, and is not repeated after its PRACK; then the caller gives up."""

    async def nobody_yet(event: IncomingCall, line: Line | None) -> Route:
        return LeaveRinging()

    one = CALLER.replace("branch=[branch]", "branch=z9hG4bK-invite-[call_number]")
    line = "sip:[service]@[remote_ip]:[remote_port]"
    steps = scenario(
        send(with_body(f"INVITE {line} SIP/2.0\n{one}\nCSeq: 1 INVITE\nRequire: 100rel", sdp())),
        receive(response=100, optional=True)
        + '<recv response="180" rrs="true"><action><ereg regexp="[0-9]+" search_in="hdr" header="RSeq:" check_it="true"'
          ' assign_to="rseq"/></action></recv>',
        within("PRACK", 2, more="RAck: [$rseq] 1 INVITE"),
        receive(response=200),
        pause(700),
        send(with_body(f"CANCEL {line} SIP/2.0\n{one.replace('[peer_tag_param]', '')}\nCSeq: 1 CANCEL")),
        receive(response=200),
        receive(response=487),
        send(with_body(f"ACK {line} SIP/2.0\n{one}\nCSeq: 1 ACK"), retrans=0),
        variables="rseq",
    )  # fmt: skip
    async with open_house({}, router=nobody_yet) as house:
        async with sipp(tmp_path, steps, remote=house.address, service=OURS) as caller:
            await caller.finished()
        assert (await house.over(await house.only_call())).reason is EndReason.CANCELED
        assert caller.trace.count("SIP/2.0 180 Ringing") == 1


CALLEES = {
    "PRACK for a reliable progress": [
        called_by(),
        respond("183 Session Progress", sdp(), "Require: 100rel\nRSeq: 17\n"),
        '<recv request="PRACK"><action><ereg regexp="17 [0-9]+ INVITE" search_in="hdr" header="RAck:" check_it="true"'
        ' assign_to="1"/></action></recv>',
        respond("200 OK", tag=False),
        pause(300),
        accept_invite(sdp()),
        receive(request="ACK"),
        pause(200),
        within("BYE", 1, caller=CALLED),
        receive(response=200),
    ],
    "a plain answer, PCMA": [
        called_by(),
        accept_invite(sdp("8 101")),
        receive(request="ACK"),
        pause(300),
        within("BYE", 1, caller=CALLED),
        receive(response=200),
    ],
    "two offers of theirs, the late one held": [
        called_by(),
        accept_invite(sdp(), "Supported: timer\nRequire: timer\nSession-Expires: 90;refresher=uas\n"),
        receive(request="ACK"),
        within("INVITE", 1, sdp(version=2), caller=CALLED),
        receive(response=100, optional=True) + receive(response=200),
        ack(1, caller=CALLED),
        within("INVITE", 2, caller=CALLED),  # a late offer, held the moment it is answered
        receive(response=100, optional=True) + receive(response=200),
        ack(2, sdp(more="a=inactive\n", version=3), caller=CALLED),
        pause(200),
        within("BYE", 3, caller=CALLED),
        receive(response=200),
    ],
    "they do not know UPDATE, and we refresh by INVITE": [
        called_by(),
        accept_invite(sdp(), "Supported: timer\nSession-Expires: 90;refresher=uac\n"),
        receive(request="ACK"),
        pause(200),
        within("BYE", 1, caller=CALLED),
        receive(response=200),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLEES)
async def test_a_callee_does_what_callees_do(tmp_path: Path, name: str) -> None:
    variables = KEPT + (",1" if 'assign_to="1"' in str(CALLEES[name]) else "")
    async with sipp(tmp_path, scenario(*CALLEES[name], variables=variables)) as callee, open_house(NO_TRUNK) as house:
        call = await house.exchange.dial(from_=OURS, to=callee.address)
        await callee.finished()
        assert (await house.over(call)).reason is EndReason.USER_HANGUP
        assert len(house.sessions) == 1
        if "held" in name:
            assert holds(house) == [True]
        await until(lambda: not house.provider.listener.endpoint.dialogs)


async def test_offers_cross_and_each_side_makes_its_own_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """491 both ways: theirs is refused while ours is open, ours by them, and both get through later."""
    monkeypatch.setattr(SessionTimer, "over_after", 60.0)  # of a session so short that we refresh it after a second
    crossing = CALLED.replace("branch=[branch]", "branch=z9hG4bK-crosses-[call_number]")
    pending = "SIP/2.0 491 Request Pending\nVia:[$ours]\nFrom:[$them]\nTo:[$us];tag=sipp[call_number]\n"
    steps = scenario(
        called_by(),
        accept_invite(sdp(), "Supported: timer\nSession-Expires: 2;refresher=uac\nAllow: INVITE, ACK, BYE\n"),
        receive(request="ACK"),
        '<recv request="INVITE"><action>'
        '<ereg regexp=".*" search_in="hdr" header="Via:" assign_to="ours"/>'
        '<ereg regexp=".*" search_in="hdr" header="CSeq:" assign_to="number"/></action></recv>',
        within("INVITE", 1, sdp(version=2), caller=crossing),
        receive(response=100, optional=True) + receive(response=491),
        ack(1, caller=crossing),
        send(f"{pending}Call-ID: [call_id]\nCSeq:[$number]\nContent-Length: 0", retrans=0),
        receive(request="ACK"),
        pause(100),
        within("INVITE", 2, sdp(port="[media_port+2]", version=3), caller=CALLED),
        receive(response=100, optional=True) + receive(response=200),
        ack(2, caller=CALLED),
        receive(request="INVITE"),
        respond("200 OK", sdp(port="[media_port+2]", version=3), tag=False),
        receive(request="ACK"),
        within("BYE", 3, caller=CALLED),
        receive(response=200),
        variables=f"{KEPT},ours,number",
    )
    async with sipp(tmp_path, steps) as callee, open_house(NO_TRUNK) as house:
        call = await house.exchange.dial(from_=OURS, to=callee.address)
        await callee.finished()
        assert (await house.over(call)).reason is EndReason.USER_HANGUP
        assert len(house.sessions) == 1


async def test_two_telephones_of_one_user_ring_and_one_answers(tmp_path: Path) -> None:
    """kamailio forks: two early dialogs, one answer, and a CANCEL for the other."""
    async with kamailio(tmp_path) as pbx:
        login = {"domain": f"{HOST}:{pbx.port}", "account": "transport=udp>;regint=60;auth_user=202;auth_pass=pw-202"}
        async with (
            softphone(tmp_path / "desk", "202", **login) as desk,
            softphone(tmp_path / "kitchen", "202", frequency=700, **login) as kitchen,
            open_house({"port": pbx.port, "registers": True, "username": "201", "password": "pw-201"}) as house,
        ):
            await asyncio.sleep(0.5)
            call = await house.exchange.dial(from_=OURS, to=CALLEE)
            await desk.event("CALL_INCOMING")
            await kitchen.event("CALL_INCOMING")
            await house.exchange.wait_for(call, CallStatus.RINGING, 30)
            await kitchen.do("accept")
            await desk.event("CALL_CLOSED")
            await house.live()
            await until(lambda: len(house.heard[0].pcm) > 16000)
            assert house.heard[0].sound.loud().share(700) > 0.9
            await house.exchange.hang_up(call)
            await kitchen.event("CALL_CLOSED")
            assert (await house.over(call)).reason is EndReason.API_STOP


async def test_they_answer_while_we_take_the_call_back(tmp_path: Path) -> None:
    """The 200 crosses our CANCEL: it is acknowledged, and the call hung up."""
    steps = scenario(
        called_by(),
        respond("180 Ringing"),
        receive(request="CANCEL"),
        respond("200 OK", tag=False),
        accept_invite(sdp()),
        receive(request="ACK"),
        receive(request="BYE"),
        respond("200 OK", tag=False),
        variables=KEPT,
    )
    async with sipp(tmp_path, steps) as callee, open_house(NO_TRUNK) as house:
        call = await house.exchange.dial(from_=OURS, to=callee.address)
        await house.exchange.wait_for(call, CallStatus.RINGING, 30)
        await house.exchange.hang_up(call)
        assert (await house.over(call)).reason is EndReason.CANCELED
        await callee.finished()
        assert not house.sessions
