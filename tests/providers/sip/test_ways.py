"""Ways to a far end: by TCP when a request is large, anew when a connection was lost, back to whom it came from behind
NAT; and what a call does when this process has no more to give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from anycarrier import Call, CallStatus, EndReason
from anycarrier.errors import ProviderUnavailable, TicketRefused
from anycarrier_sip.pacer import PortsExhausted
from scripted_sip_peer import OPENED, OURS, THEIRS, Heard, House, Leg, Peer, play, sdp


class TcpPeer(Peer):
    """The same by TCP: its latest connection is the one it writes to."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                self.datagram_received(head.encode() + await reader.readexactly(length), None)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def contact(self) -> str:
        return f"<sip:them@127.0.0.1:{self.port};transport=tcp>"

    def send(self, text: str) -> None:
        self.connections[-1].write(text.encode())


@asynccontextmanager
async def beside(house: House) -> AsyncIterator[TcpPeer]:
    """A TCP server on the port of the house's peer."""
    tcp = TcpPeer(house.peer.loop)
    server = await asyncio.start_server(tcp.serve, "127.0.0.1", house.peer.port)
    tcp.port, tcp.media_port = house.peer.port, house.peer.media_port
    try:
        yield tcp
    finally:
        server.close()
        for each in tcp.connections:
            each.close()
        await server.wait_closed()


async def dialled(house: House, tcp: TcpPeer, **options: Any) -> tuple[Call, Heard]:
    """A call to the TCP server that was answered, and its INVITE."""
    dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS, **options))
    invite = await tcp.next("INVITE")
    tcp.respond(invite, "200 OK", body=sdp(5000))
    await tcp.next("ACK")
    return await dialling, invite


LONG = {f"X-Long-{number}": "x" * 300 for number in range(4)}


def test_a_large_invite_goes_by_tcp_and_the_call_stays_there() -> None:
    async def scene(house: House) -> None:
        async with beside(house) as tcp:
            call, invite = await dialled(house, tcp, headers=LONG)
            assert invite["Via"].startswith("SIP/2.0/TCP") and "transport=tcp" in invite["Contact"]
            await house.exchange.hang_up(call)
            bye = await tcp.next("BYE")
            tcp.respond(bye, "200 OK")
            assert not house.peer.count("INVITE")

    play(scene)


def test_a_large_invite_goes_by_udp_where_nobody_takes_tcp() -> None:
    async def scene(house: House) -> None:
        invite, dialling = await house.dial(headers=LONG)
        assert len(invite.text) > 1300
        house.peer.respond(invite, "486 Busy Here")
        await dialling

    play(scene)


def test_a_connection_that_was_lost_is_opened_again_for_the_next_request() -> None:
    async def scene(house: House) -> None:
        async with beside(house) as tcp:
            call, _ = await dialled(house, tcp)
            tcp.connections[-1].close()
            await asyncio.sleep(0.5)
            await house.exchange.hang_up(call)
            bye = await tcp.next("BYE")
            assert len(tcp.connections) > 1
            tcp.respond(bye, "200 OK")
            assert (await house.over(call)).ended

    play(scene, credential={"transport": "tcp"})


def test_a_connection_that_is_lost_while_it_rings_is_opened_again_to_take_the_call_back() -> None:
    async def scene(house: House) -> None:
        async with beside(house) as tcp:
            dialling = asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))
            invite = await tcp.next("INVITE")
            tcp.respond(invite, "180 Ringing")
            call = await dialling
            tcp.connections[-1].close()
            cancel = await tcp.next("CANCEL")
            assert cancel["Via"] == invite["Via"] and len(tcp.connections) == 2
            assert (await house.over(call)).reason is EndReason.PROVIDER_UNAVAILABLE
            tcp.respond(cancel, "200 OK")
            tcp.respond(invite, "200 OK", body=sdp(5000))  # it was answered meanwhile
            assert (await tcp.next("ACK")).tag("To") == "theirs"
            tcp.respond(await tcp.next("BYE"), "200 OK")
            await asyncio.sleep(200)
            assert not house.listener.endpoint.dialogs

    play(scene, credential={"transport": "tcp"})


def test_a_connection_that_is_lost_while_a_request_waits() -> None:
    async def scene(house: House) -> None:
        async with beside(house) as tcp:
            call, _ = await dialled(house, tcp)
            asking = asyncio.create_task(house.exchange.transfer(call, "+14155550177"))
            await tcp.next("REFER")
            tcp.connections[-1].close()
            again = await tcp.next("REFER")
            tcp.respond(again, "202 Accepted")
            await asking

    play(scene, credential={"transport": "tcp"})


def test_a_contact_that_leads_nowhere_is_answered_where_the_call_came_from() -> None:
    async def scene(house: House) -> None:
        leg = Leg(house.peer, "nat", OURS, THEIRS)
        peer_port, house.peer.port = house.peer.port, 5999  # its Contact and Via name another port
        leg.request("INVITE", body=sdp(5000))
        house.peer.port = peer_port
        await leg.answered()
        await house.exchange.wait_for(next(iter(house.listener.calls)), CallStatus.ANSWERED)

        async def nowhere(*_: Any) -> list[Any]:
            raise ConnectionError("no way")

        house.listener.endpoint.targets = nowhere
        await house.provider.hang_up(next(iter(house.listener.calls)))
        bye = await house.peer.next("BYE")
        house.peer.respond(bye, "200 OK")

    play(scene)


def test_no_port_left() -> None:
    async def scene(house: House) -> None:
        async def none(*_: Any, **__: Any) -> Any:
            raise PortsExhausted("sip: no RTP port is free")

        house.listener.open_media = none
        with pytest.raises(PortsExhausted):
            await house.exchange.dial(from_=OURS, to=THEIRS)
        assert (await house.over()).reason is EndReason.PROVIDER_UNAVAILABLE
        house.peer.invite()
        assert (await house.peer.next("503 INVITE"))["Retry-After"]
        assert not house.listener.calls and not house.listener.endpoint.dialogs

    play(scene)


def test_no_way_from_here() -> None:
    async def scene(house: House) -> None:
        with pytest.raises(ProviderUnavailable) as failed:
            await house.exchange.dial(from_=OURS, to=THEIRS)
        assert not failed.value.sent

    play(scene, credential={"transport": "tcp"})  # nobody listens there


def test_a_session_that_is_refused_ends_the_call() -> None:
    async def scene(house: House) -> None:
        async def refuse(*_: Any) -> None:
            raise TicketRefused("it is used")

        house.listener.desk.media = refuse
        leg = house.peer.invite()
        await leg.answered()
        bye = await house.peer.next("BYE")
        house.peer.respond(bye, "200 OK")
        assert (await house.over()).reason is EndReason.MEDIA_ERROR
        assert OPENED[0].closed

    play(scene)
