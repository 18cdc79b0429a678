"""A far end that a test plays by hand: a UDP socket, SIP as text, nothing of the adapter's own code.

``house`` is an exchange with one SIP credential whose carrier is this peer, all in one loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from anycarrier import AudioReceived, Call, CallStatus, Exchange, MediaSession, MemoryNumberRegistry, Policy
from anycarrier.events import CallEvent, CallProgress, IncomingCall
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.figures import RtpStats
from anycarrier_sip.frames import control
from anycarrier_sip.provider import SipProvider
from anycarrier_sip.sdp import LocalMedia
from anycarrier_sip.settings import SipSettings
from virtual_time import follow_loop, virtually

OURS, THEIRS = "+14155550101", "+12125550102"
PATIENCE = 30.0


@dataclass
class Heard:
    """One message as it came."""

    text: str
    start: str
    headers: list[tuple[str, str]]
    body: str

    @classmethod
    def read(cls, text: str) -> Heard:
        head, _, body = text.partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return cls(text, start, headers, body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def __getitem__(self, name: str) -> str:
        return self.all(name)[0]

    def get(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def method(self) -> str:
        return self["CSeq"].split()[1]

    @property
    def status(self) -> int:
        return int(self.start.split()[1]) if self.start.startswith("SIP/2.0") else 0

    @property
    def cseq(self) -> int:
        return int(self["CSeq"].split()[0])

    def tag(self, name: str) -> str:
        found = re.search(r";tag=([^;>\s]+)", self[name])
        return found[1] if found else ""

    @property
    def contact(self) -> str:
        found = re.search(r"<([^>]+)>", self["Contact"])
        assert found
        return found[1]

    @property
    def what(self) -> str:
        """``INVITE`` for a request, ``200 INVITE`` for a response."""
        return f"{self.status} {self.method}" if self.status else self.method


def sdp(port: int, *, payloads: str = "0 8 101", direction: str = "sendrecv", version: int = 1) -> str:
    return (
        f"v=0\r\no=- 7 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP {payloads}\r\na=rtpmap:101 telephone-event/8000\r\na={direction}\r\n"
    )


class Peer(asyncio.DatagramProtocol):
    """The socket, and a second one for RTP."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.us: tuple[str, int] = ("", 0)
        """Where the endpoint under test listens."""
        self.waiting: deque[Heard] = deque()
        self.heard: list[Heard] = []
        self._more = asyncio.Event()
        self._count = itertools.count(1)
        self.rtp: list[bytes] = []

    @classmethod
    async def open(cls) -> Peer:
        loop = asyncio.get_running_loop()
        peer = cls(loop)
        while True:  # not of the range that clients' sockets get theirs from: a test may open a TCP server on it, too
            with contextlib.suppress(OSError):
                place = ("127.0.0.1", random.randrange(20_000, 30_000))
                peer.transport, _ = await loop.create_datagram_endpoint(lambda: peer, local_addr=place)
                break
        peer.port = place[1]
        peer.media, _ = await loop.create_datagram_endpoint(lambda: Media(peer.rtp), local_addr=("127.0.0.1", 0))
        peer.media_port = peer.media.get_extra_info("sockname")[1]
        return peer

    transport: asyncio.DatagramTransport
    media: asyncio.DatagramTransport
    port: int
    media_port: int

    @property
    def contact(self) -> str:
        """Where requests inside our dialogs are to come."""
        return f"<sip:them@127.0.0.1:{self.port}>"

    def close(self) -> None:
        self.transport.close()
        self.media.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not data.strip():
            return  # keeps a NAT open
        heard = Heard.read(data.decode())
        self.heard.append(heard)
        self.waiting.append(heard)
        self._more.set()

    async def next(self, what: str, *, within: float = PATIENCE) -> Heard:
        """The next message of that kind; others before it are passed over."""
        until = self.loop.time() + within
        while True:
            while self.waiting:
                heard = self.waiting.popleft()
                if heard.what == what:
                    return heard
            self._more.clear()
            left = until - self.loop.time()
            try:
                await asyncio.wait_for(self._more.wait(), max(0.0, left))
            except TimeoutError:
                raise AssertionError(f"no {what} within {within} s; heard {[h.what for h in self.heard]}") from None

    def count(self, what: str) -> int:
        return sum(heard.what == what for heard in self.heard)

    def send(self, text: str) -> None:
        self.transport.sendto(text.encode(), self.us)

    def respond(
        self, request: Heard, status: str, *, tag: str = "theirs", headers: tuple[str, ...] = (), body: str = ""
    ) -> None:
        """Answer a request of the endpoint's: ``peer.respond(invite, "180 Ringing")``."""
        to = request["To"]
        if "tag=" not in to and not status.startswith("100"):
            to += f";tag={tag}"
        lines = [f"SIP/2.0 {status}", *(f"Via: {via}" for via in request.all("Via")), f"From: {request['From']}"]
        lines += [f"To: {to}", f"Call-ID: {request['Call-ID']}", f"CSeq: {request['CSeq']}"]
        if request.method in ("INVITE", "UPDATE") and not status.startswith("100"):
            lines.append(f"Contact: {self.contact}")
        lines += headers
        if body:
            lines.append("Content-Type: application/sdp")
        self.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]))

    def branch(self) -> str:
        return f"z9hG4bKpeer{next(self._count)}"

    def invite(
        self,
        *,
        to: str = OURS,
        from_: str = THEIRS,
        call_id: str = "call-1@peer",
        headers: tuple[str, ...] = (),
        body: str | None = None,
    ) -> Leg:
        """Send a new INVITE; the leg goes on with it."""
        leg = Leg(self, call_id, to, from_)
        leg.invite(headers=headers, body=body)
        return leg


class Media(asyncio.DatagramProtocol):
    def __init__(self, packets: list[bytes]) -> None:
        self.packets = packets

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.packets.append(data)


@dataclass
class Leg:
    """A dialog of the peer's, as caller or, by :meth:`of`, as callee."""

    peer: Peer
    call_id: str
    to: str
    from_: str
    local_tag: str = "theirs"
    remote_tag: str = ""
    cseq: int = 0
    target: str = ""
    invites: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, invite: Heard, peer: Peer, tag: str = "theirs") -> Leg:
        """The callee's side of an INVITE that came."""
        return cls(peer, invite["Call-ID"], OURS, THEIRS, tag, invite.tag("From"), 100, invite.contact)

    @property
    def us(self) -> str:
        return f"<sip:{self.to}@127.0.0.1>" + (f";tag={self.remote_tag}" if self.remote_tag else "")

    def request(
        self,
        method: str,
        *,
        headers: tuple[str, ...] = (),
        body: str = "",
        kind: str = "application/sdp",
        cseq: int | None = None,
        branch: str | None = None,
    ) -> None:
        if cseq is None:
            self.cseq += 1
        number = cseq or self.cseq
        branch = branch or self.peer.branch()
        uri = self.target or f"sip:{self.to}@127.0.0.1:{self.peer.us[1]}"
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{self.peer.port};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:{self.from_}@127.0.0.1>;tag={self.local_tag}",
            f"To: {self.us}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            f"Contact: {self.peer.contact}",
            *headers,
        ]
        if body:
            lines.append(f"Content-Type: {kind}")
        if method == "INVITE":
            self.invites[number] = branch
        self.peer.send("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]))

    def invite(self, *, headers: tuple[str, ...] = (), body: str | None = None) -> None:
        self.request("INVITE", headers=headers, body=sdp(self.peer.media_port) if body is None else body)

    def cancel(self) -> None:
        self.request("CANCEL", cseq=self.cseq, branch=self.invites[self.cseq])

    async def answered(self, *, ack: bool = True, body: str = "") -> Heard:
        """Wait for the 200 to the last INVITE, and acknowledge it."""
        ok = await self.peer.next("200 INVITE")
        self.remote_tag, self.target = ok.tag("To"), ok.contact
        if ack:
            self.request("ACK", cseq=self.cseq, body=body)
        return ok


async def echo(session: MediaSession) -> None:
    async for event in session:
        if isinstance(event, AudioReceived):
            await session.send_audio(event.payload)


class QuietStream:
    """A ``PushTransport`` in place of the RTP stream, without sockets: hours of silence cost nothing."""

    def __init__(self, *, call_id: str, **_: Any) -> None:
        OPENED.append(self)
        self.local = LocalMedia("127.0.0.1", 40000, session_id=1)
        self.call_id = call_id
        self.custom: dict[str, str] = {}
        self.resumed: Any = None
        self.paused = self.sounding = False
        self.on_lost: Callable[[], None] | None = None
        self.agreed: list[Any] = []
        self.holds: list[bool] = []
        self.keys: list[str] = []
        self.written: list[bytes | str] = []
        self.closed = False
        self.over = asyncio.Event()
        self._receive: Callable[[Any], object] | None = None

    def connect(self, terms: Any) -> None:
        assert not self.closed
        self.agreed.append(terms)
        self._start()

    def _start(self) -> None:
        if self._receive is not None and self.agreed:
            self._receive(control("start", call=self.call_id, codec=self.agreed[0].codec, custom=self.custom))

    def hold(self, held: bool) -> None:
        if held != (bool(self.holds) and self.holds[-1]):
            self.holds.append(held)
            if self._receive is not None:
                self._receive(control("hold", held=held))

    def stats(self) -> RtpStats:
        return RtpStats(*[0] * len(fields(RtpStats)))

    def send_digits(self, digits: str) -> None:
        self.keys.append(digits)

    def look_first(self, look: Any) -> None:
        pass

    def write(self, frame: bytes | str) -> None:
        self.written.append(frame)

    async def send(self, frame: bytes | str) -> None:
        self.write(frame)

    async def push_to(self, receive: Callable[[Any], object]) -> None:
        self._receive = receive
        self._start()
        await self.over.wait()

    def __aiter__(self) -> AsyncIterator[Any]:
        raise NotImplementedError

    def stop(self, reason: str = "") -> None:
        if self._receive is not None and not self.closed:
            self._receive(control("stop", reason=reason))
        self.closed = True
        self.over.set()

    async def close(self, code: int = 1000) -> None:
        self.stop()


OPENED: list[QuietStream] = []
"""The streams of the scene that is played."""


@dataclass
class House:
    exchange: Exchange
    peer: Peer
    provider: SipProvider
    events: list[CallEvent]
    """What the exchange was told."""

    @property
    def listener(self) -> Any:
        return self.provider.listener

    async def dial(self, **options: Any) -> tuple[Heard, asyncio.Task[Call]]:
        """Begin a call to :data:`THEIRS`: its INVITE as it came, and the dial as a task."""
        dialling = asyncio.create_task(self.exchange.dial(from_=OURS, **{"to": THEIRS, **options}))
        return await self.peer.next("INVITE"), dialling

    async def dialled(self, *, headers: tuple[str, ...] = (), **options: Any) -> tuple[Call, Leg]:
        """A call that was answered, and its far end's side."""
        invite, dialling = await self.dial(**options)
        self.peer.respond(invite, "200 OK", headers=headers, body=sdp(self.peer.media_port))
        await self.peer.next("ACK")
        return await dialling, Leg.of(invite, self.peer)

    async def rung(self, *, headers: tuple[str, ...] = (), body: str | None = None, **invite: Any) -> tuple[Call, Leg]:
        """A call that came in and was answered."""
        leg = self.peer.invite(headers=headers, body=body, **invite)
        await leg.answered()
        return await self.exchange.wait_for(next(iter(self.listener.calls)), CallStatus.ANSWERED), leg

    async def over(self, call: Call | None = None) -> Call:
        """The call once it has ended, the last one that was told of if none is named."""
        if call is None:
            call = next(event.call for event in reversed(self.events) if isinstance(event, CallProgress | IncomingCall))
        return await self.exchange.wait_for(call.reference or call.id, timeout=7200)


@asynccontextmanager
async def house(
    *,
    agent: Callable[[MediaSession], Awaitable[None]] = echo,
    credential: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    standing: bool = False,
    **options: Any,
) -> AsyncIterator[House]:
    """An exchange with the line :data:`OURS`, whose carrier is the peer."""
    peer = await Peer.open()
    given = {"host": "127.0.0.1", "port": peer.port, "registers": False, "numbers": (OURS,), **(credential or {})}
    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"trunk": SipCredential(**given)},
        public_url="https://voice.example.com",
        secret="s" * 32,
        agents=agent,
        policy=Policy(allow=("+1", "sip:127.0.0.1")),
        carrier_settings=[SipSettings(**(settings or {}))],
        **options,
    )
    try:
        await exchange.start()
        await exchange.assign(OURS, agent_id="desk", credential_id="trunk")
        provider = await exchange.switchboard.provider("trunk")
        assert isinstance(provider, SipProvider)
        events: list[CallEvent] = []
        exchange.switchboard.observers.append(lambda event, call: events.append(event))
        peer.us = provider.listener.endpoint.addresses["udp"]
        if provider.listener.standing is not None and not standing:
            await provider.listener.standing.stop()  # its OPTIONS and REGISTERs are not what most tests are about
        yield House(exchange, peer, provider, events)
        await asyncio.sleep(0)
    finally:
        await exchange.stop()
        peer.close()


def play(scene: Callable[[House], Awaitable[None]], *, quiet: bool = True, **options: Any) -> None:
    """Run ``scene`` in virtual time, in a house of its own; unless ``quiet``, with RTP."""

    async def run() -> None:
        async with house(**options) as ours:
            await scene(ours)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with pytest.MonkeyPatch.context() as patch:
        follow_loop(patch)
        OPENED.clear()
        if quiet:
            patch.setattr("anycarrier_sip.listener.RtpStream", QuietStream)
        virtually(run())
