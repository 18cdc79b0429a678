"""Far ends name where our requests and answers go. None goes to a host inside that the operator has not listed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from scripted_sip_peer import House, Leg, play, sdp

INSIDE = "127.0.0.53"
"""On loopback, of which the operator has listed 127.0.0.1 alone."""
OPERATOR = {"private_targets": ("127.0.0.1",), "listen": ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")}


@pytest.fixture
def victim() -> Iterator[socket.socket]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connections,
    ):
        datagrams.bind((INSIDE, 0))
        datagrams.setblocking(False)
        connections.bind(datagrams.getsockname())
        connections.listen()
        connections.setblocking(False)
        yield datagrams
        with pytest.raises(BlockingIOError):
            datagrams.recv(65536)
        with pytest.raises(BlockingIOError):
            connections.accept()


def named(victim: socket.socket) -> list[str]:
    port = victim.getsockname()[1]
    return [
        f"<sip:x@{INSIDE}:{port}>",
        f"<sip:x@{INSIDE}:{port};transport=tcp>",
        f"<sip:x@127.0.0.1;maddr={INSIDE}:{port}>",
        f"<sip:x@127.0.0.1:{port};maddr={INSIDE}>",
        f"<sip:x@[::ffff:{INSIDE}]:{port}>",
        f"<sips:x@{INSIDE}:{port}>",
    ]


@pytest.mark.parametrize("spelling", range(6))
@pytest.mark.parametrize("where", ["Contact", "Record-Route", "re-INVITE", "UPDATE"])
def test_a_caller_leads_nothing_inside(where: str, spelling: int, victim: socket.socket) -> None:
    async def scene(house: House) -> None:
        there = named(victim)[spelling].replace(">", ";lr>" if where == "Record-Route" else ">")
        honest = type(house.peer).contact
        try:
            if where in ("Contact", "re-INVITE", "UPDATE"):
                lying = property(lambda peer: there)
                if where == "Contact":
                    type(house.peer).contact = lying  # type: ignore[assignment]
            call, leg = await house.rung(headers=(f"Record-Route: {there}",) if where == "Record-Route" else ())
            if where in ("re-INVITE", "UPDATE"):
                type(house.peer).contact = lying  # type: ignore[assignment]
                leg.request(where.removeprefix("re-"), body=sdp(house.peer.media_port))
                await house.peer.next(f"200 {where.removeprefix('re-')}")
                leg.request("ACK", cseq=leg.cseq) if where == "re-INVITE" else None
        finally:
            type(house.peer).contact = honest  # type: ignore[method-assign]
        house.listener.calls[call.id].on_lost = None
        await house.exchange.hang_up(call.id)
        house.peer.respond(await house.peer.next("BYE"), "200 OK")
        await asyncio.sleep(40)

    play(scene, settings=OPERATOR)


@pytest.mark.parametrize("spelling", range(6))
@pytest.mark.parametrize("answer", ["183 Session Progress", "200 OK"])
def test_a_callee_leads_nothing_inside(answer: str, spelling: int, victim: socket.socket) -> None:
    async def scene(house: House) -> None:
        there = named(victim)[spelling]
        invite, dialling = await house.dial()
        honest = type(house.peer).contact
        type(house.peer).contact = property(lambda peer: there)  # type: ignore[assignment, method-assign]
        reliable = ("Require: 100rel", "RSeq: 1") if answer.startswith("183") else ()
        house.peer.respond(invite, answer, headers=reliable, body=sdp(house.peer.media_port))
        type(house.peer).contact = honest  # type: ignore[method-assign]
        await house.peer.next("PRACK" if reliable else "ACK")
        call = await dialling
        await house.exchange.hang_up(call.id)
        await asyncio.sleep(40)

    play(scene, settings=OPERATOR)


@pytest.mark.parametrize("via", ["{}:{}", "{}:{};rport", "127.0.0.1;maddr={};x={}", "127.0.0.1:{1};received={0}"])
def test_answers_go_to_where_a_request_came_from(via: str, victim: socket.socket) -> None:
    async def scene(house: House) -> None:
        there = via.format(*victim.getsockname())
        for method in ("OPTIONS", "INVITE", "BYE"):
            house.peer.send(
                f"{method} sip:+14155550101@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {there};branch=z9hG4bK{method}\r\n"
                f"From: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: {method}\r\nCSeq: 1 {method}\r\n"
                f"Contact: {house.peer.contact}\r\nContent-Length: 0\r\n\r\n"
            )
        await asyncio.sleep(40)

    play(scene, settings=OPERATOR)


def test_a_transfer_that_is_told_of_leads_nothing_inside(victim: socket.socket) -> None:
    """A 302 is followed by nobody, and no header that names a place for notices is."""

    async def scene(house: House) -> None:
        there = named(victim)[0]
        invite, dialling = await house.dial()
        house.peer.respond(invite, "302 Moved Temporarily", headers=(f"Contact: {there}",))
        await asyncio.gather(dialling, return_exceptions=True)
        leg = Leg(house.peer, "c", "+14155550101", "+12125550102")
        leg.invite(headers=(f"Call-Info: {there}", f"Alert-Info: {there}", f"Reply-To: {there}", f"Route: {there}"))
        await leg.answered()
        leg.request("REFER", headers=(f"Refer-To: {there}",))
        await house.peer.next("603 REFER")
        leg.request("BYE")
        await house.peer.next("200 BYE")

    play(scene, settings=OPERATOR)
