"""A far end names where our sound and RTCP go: nothing goes inside, whoever names it."""

import asyncio
import socket

import pytest

from scripted_sip_peer import House, play, sdp

INSIDE = "127.0.0.53"
"""On loopback, of which the operator has listed 127.0.0.1 alone."""
OPERATOR = {"private_targets": ("127.0.0.1",)}


def inside() -> socket.socket:
    victim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    victim.setblocking(False)
    victim.bind((INSIDE, 0))
    return victim


def described(where: str, victim: socket.socket, house: House) -> str:
    port = victim.getsockname()[1]
    if where == "media":
        return sdp(port).replace("c=IN IP4 127.0.0.1", f"c=IN IP4 {INSIDE}")
    return sdp(house.peer.media_port) + f"a=rtcp:{port} IN IP4 {INSIDE}\r\n"


async def spared(victim: socket.socket) -> None:
    await asyncio.sleep(5.5)  # RTCP goes out each five seconds
    with pytest.raises(BlockingIOError):
        victim.recv(2048)
    victim.close()


@pytest.mark.parametrize("where", ["media", "rtcp"])
@pytest.mark.parametrize("when", ["offer", "answer", "re-invite"])
def test_no_byte_goes_to_a_host_inside_that_a_description_names(where: str, when: str) -> None:
    async def scene(house: House) -> None:
        victim = inside()
        body = described(where, victim, house)
        if when == "answer":
            invite, dialling = await house.dial()
            house.peer.respond(invite, "200 OK", body=body)
            await house.peer.next("ACK")
            await dialling
        elif when == "offer":
            await house.peer.invite(body=body).answered()
        else:
            _, leg = await house.rung()
            leg.invite(body=body)
            await house.peer.next("200 INVITE")
            leg.request("ACK", cseq=leg.cseq)
        await spared(victim)

    play(scene, quiet=False, settings=OPERATOR)
