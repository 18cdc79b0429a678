"""Calls through the real exchange, against a far end that is typed by hand: who begins, who ends, what is told."""

from __future__ import annotations

import asyncio

import pytest

from anycarrier import Call, CallStatus, EndReason, MediaSession
from scripted_sip_peer import OURS, THEIRS, House, Leg, play, sdp


async def ended(house: House) -> Call:
    """The only call, once it is over."""
    [call] = [event.call for event in house.events if hasattr(event, "call")][:1]
    return await house.exchange.wait_for(call.reference or call.id)


def test_a_call_comes_in_is_heard_and_hangs_up() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        leg = peer.invite()
        ok = await leg.answered()
        assert ok["Content-Type"] == "application/sdp"
        port = int(ok.body.split("m=audio ")[1].split()[0])
        for number in range(20):
            header = bytes([0x80, 0]) + number.to_bytes(2) + (160 * number).to_bytes(4) + b"peer"
            packet = header + bytes([number] * 160)
            peer.media.sendto(packet, ("127.0.0.1", port))
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        heard = b"".join(packet[12:] for packet in peer.rtp)
        assert bytes([7] * 160) + bytes([8] * 160) in heard
        leg.request("BYE")
        await peer.next("200 BYE")
        call = await ended(house)
        assert (call.from_, call.to, call.reason) == (THEIRS, OURS, EndReason.USER_HANGUP)
        assert call.id.startswith("sip_") and call.raw["call_id"] == "call-1@peer"
        assert not house.listener.calls and not house.listener.endpoint.dialogs

    play(scene, quiet=False)


@pytest.mark.parametrize(
    ("silence", "cleared", "waits"), [(0, False, 0.08), (1, False, 0), (0, True, 0)], ids=["sound", "silence", "clear"]
)
def test_the_far_end_hears_our_last_word_before_the_bye(silence: float, cleared: bool, waits: float) -> None:
    async def agent(session: MediaSession) -> None:
        await session.send_audio(b"\x01" * 1600)
        if cleared:
            await asyncio.sleep(0.1)
            await session.clear()
        else:
            await session.drain()
        await asyncio.sleep(silence)
        await session.hang_up()
        hung_up.append(asyncio.get_running_loop().time())
        await asyncio.sleep(9)

    hung_up: list[float] = []

    async def scene(house: House) -> None:
        await house.peer.invite().answered()
        bye = await house.peer.next("BYE")
        waited = house.peer.loop.time() - hung_up[0]
        assert waits <= waited < waits + 0.02
        after = b"".join(packet[12:] for packet in house.peer.rtp).rpartition(b"\x01")[2]
        assert len(after) >= 160 * waits / 0.02 and set(after) <= {0xFF}
        house.peer.respond(bye, "200 OK")
        assert (await ended(house)).reason is EndReason.AGENT_HANGUP

    play(scene, agent=agent, quiet=False)


def test_the_agent_hangs_up() -> None:
    async def agent(session: object) -> None:
        await asyncio.sleep(1)

    async def scene(house: House) -> None:
        leg = house.peer.invite()
        await leg.answered()
        bye = await house.peer.next("BYE")
        assert (bye["Call-ID"], bye.tag("To"), bye.tag("From")) == ("call-1@peer", "theirs", leg.remote_tag)
        house.peer.respond(bye, "200 OK")
        assert (await ended(house)).reason is EndReason.AGENT_HANGUP
        await asyncio.sleep(1)
        assert not house.listener.endpoint.dialogs

    play(scene, agent=agent)


def test_a_number_without_a_line_is_404_and_a_caller_may_give_up() -> None:
    async def scene(house: House) -> None:
        house.peer.invite(to="+14155550199", call_id="c2")
        await house.peer.next("404 INVITE")
        assert not house.events

    play(scene)


def test_dial_answered_and_hung_up_there() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
        invite = await peer.next("INVITE")
        assert invite.start == f"INVITE sip:{THEIRS}@127.0.0.1:{peer.port} SIP/2.0"
        assert OURS in invite["From"] and invite["Supported"] == "100rel, timer, replaces"
        peer.respond(invite, "100 Trying")
        call = await dialling
        assert call.id.startswith("sip_") and call.status is CallStatus.INITIATED
        peer.respond(invite, "180 Ringing")
        await house.exchange.wait_for(call, CallStatus.RINGING)
        peer.respond(invite, "200 OK", body=sdp(peer.media_port))
        ack = await peer.next("ACK")
        assert ack.cseq == invite.cseq and ack.start.startswith(f"ACK sip:them@127.0.0.1:{peer.port}")
        await house.exchange.wait_for(call, CallStatus.ANSWERED)
        assert (await house.exchange.fetch_call(call)).status is CallStatus.ANSWERED
        leg = Leg.of(invite, peer)
        leg.request("BYE")
        await peer.next("200 BYE")
        over = await house.exchange.wait_for(call)
        assert over.reason is EndReason.USER_HANGUP and over.duration > 0
        assert (await house.provider.fetch_call(call.id)).ended

    play(scene)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("486 Busy Here", EndReason.BUSY),
        ("603 Decline", EndReason.REJECTED),
        ("404 Not Found", EndReason.INVALID_NUMBER),
    ],
)
def test_dial_not_answered(status: str, reason: EndReason) -> None:
    async def scene(house: House) -> None:
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
        invite = await house.peer.next("INVITE")
        house.peer.respond(invite, "100 Trying")
        call = await dialling
        house.peer.respond(invite, status)
        await house.peer.next("ACK")
        over = await house.exchange.wait_for(call)
        assert (over.reason, over.sip_code) == (reason, int(status[:3]))
        assert over.carrier_status == status[4:]

    play(scene)


def test_a_dialled_call_is_taken_back() -> None:
    async def scene(house: House) -> None:
        peer = house.peer
        dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
        invite = await peer.next("INVITE")
        peer.respond(invite, "180 Ringing")
        call = await dialling
        await house.exchange.hang_up(call)
        cancel = await peer.next("CANCEL")
        assert cancel["Via"] == invite["Via"] and cancel.cseq == invite.cseq
        peer.respond(cancel, "200 OK")
        peer.respond(invite, "487 Request Terminated")
        await peer.next("ACK")
        assert (await house.exchange.wait_for(call)).reason is EndReason.CANCELED

    play(scene)
