"""When a target or a connection is gone: which way a call takes then, and that no telephone rings twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from anycarrier import Call, CallStatus, EndReason, MediaSession
from anycarrier.errors import AnycarrierError, ProviderUnavailable
from dns_server import Dns
from scripted_sip_peer import OPENED, OURS, THEIRS, Heard, House, Peer, QuietStream, echo, house, sdp
from virtual_time import follow_loop, virtually

BOTH = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")


class TcpPeer:
    """A far end on TCP: what came on each connection, and the connections."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.answer: Callable[[Heard, asyncio.StreamWriter], None] = lambda heard, writer: None

    async def serve(self) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self.server.sockets[0].getsockname()[1])

    async def dial(self, us: tuple[str, int]) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection(*us)
        self.reading = asyncio.create_task(self._serve(reader, writer))
        return writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(Heard.read(head.decode())["Content-Length"])
                heard = Heard.read((head + await reader.readexactly(length)).decode())
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                return
            self.heard.append(heard)
            self.answer(heard, writer)

    def count(self, what: str) -> int:
        return sum(heard.what == what for heard in self.heard)

    def close(self) -> None:
        self.server.close()


def written(request: Heard, status: str, *, body: str = "", port: int = 9) -> bytes:
    """Our peer's response to ``request``."""
    to = request["To"] if "tag=" in request["To"] or status.startswith("100") else request["To"] + ";tag=theirs"
    lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in request.all("Via")), f"From: {request['From']}"]
    lines += [f"To: {to}", f"Call-ID: {request['Call-ID']}", f"CSeq: {request['CSeq']}"]
    lines += [f"Contact: <sip:them@127.0.0.1:{port};transport=tcp>", "Content-Type: application/sdp"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode()


Scene = Callable[[House, Dns], Awaitable[None]]


def play(
    scene: Scene, *, transport: str = "udp", agent: Callable[[MediaSession], Awaitable[None]] = echo
) -> None:
    """``scene`` has a house whose trunk is ``trunk.example``, by what its DNS server says."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[House, Dns]]:
        server = await Dns.open()
        server.records["a.trunk.example", "A"] = ["127.0.0.1"]
        settings = {"listen": BOTH, "nameservers": (server.address,)}
        credential = {"host": "trunk.example", "port": None, "transport": transport, "peers": ("127.0.0.1/32",)}
        try:
            async with house(agent=agent, credential=credential, settings=settings) as ours:
                yield ours, server
        finally:
            await server.aclose()

    async def run() -> None:
        async with opened() as (ours, server):
            await scene(ours, server)
        await asyncio.sleep(0.1)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with pytest.MonkeyPatch.context() as patch:
        follow_loop(patch)
        OPENED.clear()
        patch.setattr("anycarrier_sip.listener.RtpStream", QuietStream)
        virtually(run())


def leads_to(house: House, dns: Dns, *ports: int, protocol: str = "_udp") -> None:
    """From now on, the trunk's SRV records name these ports, best first."""
    records = [f"{priority} 0 {port} a.trunk.example." for priority, port in enumerate(ports)]
    dns.records[f"_sip.{protocol}.trunk.example", "SRV"] = records
    house.listener.endpoint.resolver._known.clear()


async def dial(house: House) -> asyncio.Task[Call]:
    return asyncio.create_task(house.exchange.dial(from_=OURS, to=THEIRS))


async def outcome(dialling: asyncio.Task[Call], house: House) -> Call | AnycarrierError:
    try:
        call = await dialling
    except AnycarrierError as refusal:
        return refusal
    return await house.over(call)


def test_dial_goes_to_the_second_target_when_the_first_is_silent_and_then_at_once() -> None:
    async def scene(house: House, dns: Dns) -> None:
        silent, loop = await Peer.open(), asyncio.get_running_loop()
        leads_to(house, dns, silent.port, house.peer.port)
        for patience in (5.0, 0.5):  # within a second of knowing; and known, the second time
            began = loop.time()
            dialling = await dial(house)
            invite = await house.peer.next("INVITE")
            assert loop.time() - began < patience
            house.peer.respond(invite, "486 Busy Here")
            await house.peer.next("ACK")
            await outcome(dialling, house)
        assert silent.count("INVITE") in (3, 4), "of the first call only"
        silent.close()

    play(scene)


def test_dial_goes_to_the_second_target_after_503_and_comes_back_after_retry_after() -> None:
    async def scene(house: House, dns: Dns) -> None:
        busy, loop = await Peer.open(), asyncio.get_running_loop()
        busy.us = house.peer.us
        dns.ttl = 1000
        leads_to(house, dns, busy.port, house.peer.port)
        for first in (True, False):
            dialling = await dial(house)
            if first:
                busy.respond(await busy.next("INVITE"), "503 Service Unavailable", headers=("Retry-After: 60",))
            began = loop.time()
            house.peer.respond(await house.peer.next("INVITE"), "486 Busy Here")
            assert loop.time() - began < 0.5
            await house.peer.next("ACK")
            await outcome(dialling, house)
        await asyncio.sleep(61)
        dialling = await dial(house)
        busy.respond(await busy.next("INVITE"), "486 Busy Here")
        await busy.next("ACK")
        await outcome(dialling, house)
        busy.close()

    play(scene)


def test_dial_goes_to_the_second_target_when_the_first_refuses_connections() -> None:
    async def scene(house: House, dns: Dns) -> None:
        peer = TcpPeer()
        peer.answer = lambda heard, writer: (
            writer.write(written(heard, "486 Busy Here")) if heard.what == "INVITE" else None
        )
        leads_to(house, dns, house.peer.port, await peer.serve(), protocol="_tcp")  # nobody on TCP there
        await outcome(await dial(house), house)
        assert peer.count("INVITE") == 1 and peer.count("ACK") == 1
        peer.close()

    play(scene, transport="tcp")


def test_no_second_target_once_the_first_has_said_anything() -> None:
    """The connection breaks after a 100: a telephone may be ringing by now, and must stay the only one."""

    async def scene(house: House, dns: Dns) -> None:
        first, second = TcpPeer(), TcpPeer()

        def breaks(heard: Heard, writer: asyncio.StreamWriter) -> None:
            writer.write(written(heard, "100 Trying"))
            asyncio.get_running_loop().call_later(1, writer.close)

        first.answer = breaks
        leads_to(house, dns, await first.serve(), await second.serve(), protocol="_tcp")
        found = await outcome(await dial(house), house)
        assert isinstance(found, Call) and found.reason is EndReason.PROVIDER_UNAVAILABLE
        assert first.count("INVITE") == 1 and second.heard == []
        first.close()
        second.close()

    play(scene, transport="tcp")


class TcpCaller(TcpPeer):
    """Rings us from a connection of its own; it listens too, at :attr:`port`, unless that is 9."""

    def __init__(self, house: House, port: int) -> None:
        super().__init__()
        self.house, self.port, self.to = house, port, f"<sip:{OURS}@127.0.0.1>"
        self.us = house.listener.endpoint.addresses["tcp"]
        self.answer = self._answer

    def request(self, method: str, number: int, body: str = "") -> bytes:
        return (
            f"{method} sip:{OURS}@127.0.0.1:{self.us[1]} SIP/2.0\r\n"
            f"Via: SIP/2.0/TCP 127.0.0.1:{self.port};branch=z9hG4bKt{method}{number}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:{THEIRS}@127.0.0.1>;tag=theirs\r\nTo: {self.to}\r\nCall-ID: tcp@peer\r\n"
            f"CSeq: {number} {method}\r\nContact: <sip:them@127.0.0.1:{self.port};transport=tcp>\r\n"
            f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def _answer(self, heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.what == "200 INVITE":
            self.to = heard["To"]
            writer.write(self.request("ACK", 1))
        elif heard.what == "BYE":
            writer.write(written(heard, "200 OK"))

    async def ring(self) -> asyncio.StreamWriter:
        writer = await self.dial(self.us)
        writer.write(self.request("INVITE", 1, sdp(self.house.peer.media_port)))
        return writer

    async def until(self, what: str) -> None:
        async with asyncio.timeout(60):
            while not self.count(what):
                await asyncio.sleep(0.05)


async def talks_for_two_seconds(session: MediaSession) -> None:
    await asyncio.sleep(2)


def test_caller_on_tcp_is_hung_up_by_the_connection_he_came_on() -> None:
    """His Contact names a port where nobody listens, as behind NAT."""

    async def scene(house: House, dns: Dns) -> None:
        caller = TcpCaller(house, 9)
        writer = await caller.ring()
        await caller.until("BYE")
        call = await house.over()
        assert call.status is CallStatus.ENDED and call.reason is EndReason.AGENT_HANGUP
        assert len(caller.writers) == 1 and caller.count("BYE") == 1
        assert not house.listener.endpoint.resolver._resting, "no other way was tried"
        writer.close()
        await caller.reading

    play(scene, agent=talks_for_two_seconds)


def test_caller_whose_connection_is_lost_is_hung_up_by_a_new_one() -> None:
    async def scene(house: House, dns: Dns) -> None:
        caller = TcpCaller(house, 0)
        caller.port = await caller.serve()
        writer = await caller.ring()
        await caller.until("200 INVITE")
        writer.close()
        await caller.until("BYE")
        assert (await house.over()).reason is EndReason.AGENT_HANGUP and len(caller.writers) == 2
        caller.close()

    play(scene, agent=talks_for_two_seconds)


def test_caller_whose_connection_was_lost_hangs_up_by_a_new_one() -> None:
    async def scene(house: House, dns: Dns) -> None:
        caller = TcpCaller(house, 9)
        writer = await caller.ring()
        await caller.until("200 INVITE")
        await asyncio.sleep(1)
        writer.close()
        await caller.reading
        await asyncio.sleep(100)
        assert house.listener.calls, "the call goes on meanwhile"
        writer = await caller.dial(caller.us)
        writer.write(caller.request("BYE", 2))
        await caller.until("200 BYE")
        assert (await house.over()).reason is EndReason.USER_HANGUP
        writer.close()
        await caller.reading

    play(scene)


def test_answer_follows_a_caller_whose_connection_is_lost_while_it_rings() -> None:
    async def scene(house: House, dns: Dns) -> None:
        caller = TcpCaller(house, 0)
        caller.port = await caller.serve()
        writer = await caller.ring()
        writer.transport.abort()
        await caller.until("200 INVITE")
        await caller.until("BYE")
        assert (await house.over()).reason is EndReason.AGENT_HANGUP
        caller.close()

    play(scene, agent=talks_for_two_seconds)


def test_call_of_a_caller_who_is_gone_for_good_ends() -> None:
    async def scene(house: House, dns: Dns) -> None:
        caller = TcpCaller(house, 9)
        (await caller.ring()).transport.abort()
        await asyncio.sleep(0.1)
        call = await house.over()
        assert call.status is CallStatus.ENDED
        await asyncio.sleep(100)
        assert not house.listener.endpoint.dialogs

    play(scene)


def test_trunk_without_an_address_says_so() -> None:
    async def scene(house: House, dns: Dns) -> None:
        found = await outcome(await dial(house), house)
        assert isinstance(found, ProviderUnavailable) and "trunk.example has no address" in str(found)

    play(scene)
