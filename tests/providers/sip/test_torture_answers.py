"""What the running provider says to RFC 4475's 49 messages over a socket, and to mutated ones; it lives on.

The parser's judgements are in ``test_torture.py``; here are those of the transactions and of the user agent besides.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from anycarrier import Exchange, MemoryNumberRegistry, Policy
from anycarrier.session import MediaSession
from anycarrier_sip import SipCredential, SipProvider, SipSettings
from rfc4475 import MESSAGES, mutated

OURS = "+14155550101"
SILENCE = 0

ANSWERS = {
    # valid: judged by method and by whether the number is ours
    "wsinv": 481, "intmeth": 501, "esc01": 404, "escnull": 405, "esc02": 501, "lwsdisp": 200, "longreq": 404,
    "dblreq": 405, "semiuri": 200, "transports": 200, "mpart01": 405, "unreason": SILENCE, "noreason": SILENCE,
    # invalid: the parser's judgements, told
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "scalarlg": SILENCE, "quotbal": 400, "ltgtruri": 400,
    "lwsruri": 400, "lwsstart": 400, "trws": 400, "escruri": 400, "baddate": 404, "regbadct": 400, "badaspec": 400,
    "baddn": 400, "badvers": 505, "mismatch01": 400, "mismatch02": 501, "bigcode": SILENCE,
    # the transaction layer's and the user agent's
    "badbranch": 200, "insuf": 400, "unkscm": 416, "novelsc": 416, "unksm2": 405, "bext01": 420, "invut": 415,
    "regaut01": 405, "multi01": 400, "mcl01": 400, "bcast": SILENCE, "zeromf": 200, "cparam01": 405, "cparam02": 405,
    "regescrt": 405, "sdp01": 406,
    "inv2543": 400,  # it may be accepted, and is not: without a Contact nothing could be asked within the call
}  # fmt: skip
FOR_US = ("invut", "sdp01", "inv2543")
"""INVITEs that go to a number of ours, so that more than the number can be judged."""


class Sender:
    """A bare socket that is a peer of ours; answers come back to it, whatever a message's Via says."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)

    def addressed(self, data: bytes) -> bytes:
        """With our place in the topmost Via, and without the transport that it did not come by."""
        ours = b"127.0.0.1:%d" % self.socket.getsockname()[1]
        top = rb"(?i)(\n(?:via|v)\s*:\s*SIP\s*/\s*[27]\.0\s*/\s*)[A-Z]+(\s+)[^;\s,]+"
        return re.sub(top, rb"\1UDP\g<2>" + ours, data, count=1)

    def send(self, data: bytes) -> None:
        self.socket.sendto(data, ("127.0.0.1", self.port))

    async def status(self) -> int:
        """The next final answer's status."""
        loop = asyncio.get_running_loop()
        while True:
            start = (await loop.sock_recv(self.socket, 65536)).partition(b"\r\n")[0]
            if start.startswith(b"SIP/2.0 ") and start[8:9] != b"1":
                return int(start[8:11])

    async def alive(self, number: int) -> None:
        """An OPTIONS of this number is answered, and nothing else was before."""
        options = (
            f"OPTIONS sip:{OURS}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=z9hG4bKalive{number}\r\n"
            f"From: <sip:a@b>;tag=a\r\nTo: <sip:b@c>\r\nCall-ID: alive{number}\r\nCSeq: 1 OPTIONS\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            while True:
                self.send(options.encode())  # again: more than so many datagrams a second are not even read (P8)
                try:
                    async with asyncio.timeout(1):
                        while not (got := await loop.sock_recv(self.socket, 65536)).startswith(b"SIP/2.0 200"):
                            assert got.startswith(b"SIP/2.0 "), "somebody else spoke"
                    return
                except TimeoutError:
                    continue


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    async def agent(session: MediaSession) -> None:
        async for _ in session:
            pass

    exchange = Exchange(
        registry=MemoryNumberRegistry(),
        credentials={"trunk": SipCredential(peers=("127.0.0.1/32",), registers=False, numbers=(OURS,))},
        public_url="https://voice.example.com",
        secret="s" * 32,
        agents=agent,
        policy=Policy(allow=("+1",)),
        carrier_settings=[SipSettings()],
    )
    await exchange.start()
    await exchange.assign(OURS, agent_id="desk", credential_id="trunk")
    provider = await exchange.switchboard.provider("trunk")
    assert isinstance(provider, SipProvider)
    try:
        yield provider.listener.endpoint.addresses["udp"][1]
        assert not [call for call in provider.listener.calls.values() if call.call.direction == "outbound"]
    finally:
        await exchange.stop()


def test_all_are_judged() -> None:
    assert ANSWERS.keys() == MESSAGES.keys()


async def test_each_is_answered_as_the_rfc_says_and_the_next_one_too() -> None:
    wrong = {}
    async with listening() as port:
        for number, (name, expected) in enumerate(ANSWERS.items()):
            sender = Sender(port)  # each its own: answers to an INVITE come until they are acknowledged
            data = sender.addressed(MESSAGES[name])
            if name in FOR_US:
                data = re.sub(rb"(?i)^INVITE sip:[^@]*@", b"INVITE sip:%s@" % OURS.encode(), data)
            sender.send(data)
            if expected is not SILENCE:
                async with asyncio.timeout(30):
                    status = await sender.status()
                if status != expected:
                    wrong[name] = status
            await sender.alive(number)
            sender.socket.close()
    assert not wrong


async def test_mutated_datagrams_and_it_lives_on(caplog: pytest.LogCaptureFixture) -> None:
    seed = random.Random(4475)
    originals = list(MESSAGES.values())
    async with listening() as port:
        sender = Sender(port)
        for number in range(2000):
            sender.send(sender.addressed(mutated(seed, seed.choice(originals))))
            if number % 20 == 0:
                await sender.alive(100 + number)
        await sender.alive(99_999)
        sender.socket.close()
    assert not [record for record in caplog.records if record.exc_info]
