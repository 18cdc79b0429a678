"""Nonsense inside a call: no exception of ours, no other call, nothing dialled, and the call goes on."""

from __future__ import annotations

import asyncio
import random

import pytest

from anycarrier import CallStatus, MediaSession
from scripted_sip_peer import House, Leg, play, sdp

NAMES = (
    "Session-Expires Min-SE RAck RSeq Replaces Event Subscription-State Content-Type Contact Record-Route Route Require"
    " Supported Allow Refer-To Referred-By Reason Retry-After Expires P-Asserted-Identity Diversion Warning"
    " WWW-Authenticate Proxy-Authenticate Authorization Identity Max-Forwards"
).split()
PIECES = [
    "", ";", ",", "=", '"', "<", ">", "sip:", "sip:a@127.0.0.1", "<sip:a@127.0.0.1:1;lr>", "0", "-1", "99999999999",
    "1 1", "uac", "refresher", "100rel", "timer", "terminated", "refer", "q.850", "cause", "application/sdp",
    "Digest", "realm", "nonce", "é", "%00", "\t", " ", "*", "tag", "INVITE", "message/sipfrag", "SIP/2.0 200",
    "early-only", "to-tag",
]  # fmt: skip
BODIES = [
    "", "x", "v=0", "SIP/2.0 200 OK", "SIP/2.0 999", "Signal=5", "Signal=", "\x00\x01", "v=0\r\nm=audio 1 RTP/AVP 0",
    "v=0\r\nc=IN IP4 300.1.1.1\r\nm=audio 99999 RTP/AVP 0 0 0", sdp(5000).replace("RTP/AVP", "RTP/SAVP"),
]  # fmt: skip


def nonsense(chance: random.Random) -> tuple[str, ...]:
    return tuple(
        f"{chance.choice(NAMES)}: {chance.choice(('', ' ', ';')).join(chance.choices(PIECES, k=chance.randint(1, 6)))}"
        for _ in range(chance.randint(1, 4))
    )


async def stays(session: MediaSession) -> None:
    async for _ in session:
        pass


@pytest.mark.parametrize("seed", range(4))
def test_requests(seed: int) -> None:
    chance = random.Random(seed)

    async def scene(house: House) -> None:
        listener, peer = house.listener, house.peer
        call, leg = await house.rung()
        methods = "INVITE ACK UPDATE PRACK INFO NOTIFY OPTIONS REFER MESSAGE SUBSCRIBE CANCEL".split()
        for turn in range(300):
            kind = chance.choice(("application/sdp", "application/dtmf-relay", "message/sipfrag", "text/plain"))
            where = leg if turn % 3 else Leg(peer, f"other-{turn}", chance.choice(PIECES) or "x", "y")
            method = chance.choice(methods if where is leg else methods[1:])
            where.request(method, headers=nonsense(chance), body=chance.choice(BODIES), kind=kind)
            if method == "INVITE":
                where.request("ACK", cseq=where.cseq, body=chance.choice(BODIES))
            if turn % 20 == 0:
                await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        assert listener.endpoint.guard.counters.failures == 0
        assert not [heard for heard in peer.heard if heard.what == "INVITE"]
        assert all(listener.known(each).direction == "inbound" for each in listener.calls)
        if call.id in listener.calls:  # a late offer that was answered with nonsense ends a call, and may
            leg.request("OPTIONS")
            await peer.next("200 OPTIONS")
        for each in list(listener.calls):
            await house.provider.hang_up(each)
        peer.waiting.clear()
        await house.rung(call_id="another@peer")

    play(scene, agent=stays)


@pytest.mark.parametrize("seed", range(4))
def test_responses(seed: int) -> None:
    chance = random.Random(seed)

    async def scene(house: House) -> None:
        listener, peer = house.listener, house.peer
        for _ in range(12):
            invite, dialling = await house.dial(timeout=20)
            for _ in range(chance.randint(1, 12)):
                status = chance.choice("100 180 183 199 200 202 299 302 401 407 422 503".split())
                if status[0] in "2" and chance.random() < 0.7:
                    continue
                tag = chance.choice(("a", "b", "c"))
                peer.respond(invite, f"{status} x", tag=tag, headers=nonsense(chance), body=chance.choice(BODIES))
            await asyncio.wait({dialling})
            dialling.exception()
            for call_id in list(listener.calls):
                await house.provider.hang_up(call_id)
            await asyncio.sleep(40)
            peer.waiting.clear()
        await asyncio.sleep(100)
        assert listener.endpoint.guard.counters.failures == 0
        assert not listener.calls and not listener.endpoint.dialogs
        call, _ = await house.dialled()
        assert (await house.exchange.wait_for(call, CallStatus.ANSWERED)).status is CallStatus.ANSWERED

    play(scene, agent=stays)
