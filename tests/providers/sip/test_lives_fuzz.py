"""Calls on a network that loses and doubles, with far ends that say anything at any time and a call book that comes and
goes: each ends in the book, and nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any

import pytest

from anycarrier import AnycarrierError, Call, MediaSession
from anycarrier.errors import StoreUnavailable
from providers.sip.test_lives import Book, nothing_left, stay
from scripted_sip_peer import OURS, THEIRS, Heard, House, Leg, play, sdp

STATUSES = (
    "100 Trying|180 Ringing|183 Progress|199 Gone|200 OK|200 OK|202 Accepted|302 Moved|401 Who|407 Who|408 Late"
    "|422 Too Small|481 Gone|486 Busy|487 Given Up|491 Pending|500 Broken|503 Not Now|603 No"
).split("|")
METHODS = "ACK ACK ACK BYE INVITE INVITE UPDATE INFO NOTIFY PRACK CANCEL OPTIONS REFER".split()
HEADERS: list[tuple[str, ...]] = [
    (), (), (),
    ("Supported: timer", "Session-Expires: 90;refresher=uac"),
    ("Supported: timer", "Session-Expires: 90;refresher=uas"),
    ("Session-Expires: 4;refresher=uac",),
    ("Require: 100rel", "RSeq: 5"),
    ("Allow: INVITE, ACK, BYE",),
    ("Allow: INVITE, UPDATE",),
    ("Retry-After: 3",),
    ("Reason: Q.850;cause=17",),
    ('WWW-Authenticate: Digest realm="a", nonce="b", qop="auth"',),
    ("RAck: 1 1 INVITE",),
    ("Record-Route: <sip:127.0.0.1:5061;lr>",),
    ("Record-Route: <sip:127.0.0.1:5061>",),
    ("Refer-To: <sip:+19005550100@127.0.0.1>",),
]  # fmt: skip
OFFERS = [sdp(5000), sdp(5002, version=2), sdp(5000, direction="sendonly", version=3), sdp(0), "", "", "nothing"]
OUTCOMES = ["SIP/2.0 100 Trying", "SIP/2.0 200 OK", "SIP/2.0 486 Busy", "SIP/2.0 487 Given Up", "", "nothing"]


class Wild:
    """What happens to the house, and what its peer says."""

    def __init__(self, at: House, chance: random.Random) -> None:
        self.at, self.peer, self.chance = at, at.peer, chance
        self.legs: list[Leg] = []
        self.calls: list[Call] = []
        endpoint = at.listener.endpoint
        endpoint.transport.send, endpoint.targets = self._lossy(endpoint.transport.send), self._slow(endpoint.targets)
        self.peer.send = self._lossy(self.peer.send)  # type: ignore[method-assign]

    def _lossy(self, send: Any) -> Any:
        def sends(*given: Any) -> None:
            for _ in range((self.chance.random() > 0.15) + (self.chance.random() < 0.05)):
                send(*given)

        return sends

    def _slow(self, targets: Any) -> Any:
        async def looked_up(*given: Any) -> Any:
            await asyncio.sleep(self.chance.choice([0, 0, 0.5, 8]))
            return await targets(*given)

        return looked_up

    async def dial(self) -> None:
        timeout = self.chance.choice([1, 10, 30])
        self.calls.append(await self.at.exchange.dial(from_=OURS, to=THEIRS, timeout=timeout))

    async def ask(self) -> None:
        """Something of a platform's."""
        exchange, others = self.at.exchange, await self.at.exchange.calls_in_progress()
        if not (known := self.calls + others):
            return
        call = self.chance.choice(known)
        match self.chance.choice(["hang up", "transfer", "digits", "fetch", "attended"]):
            case "hang up":
                await exchange.hang_up(call)
            case "transfer":
                await exchange.transfer(call, "+14155550177")
            case "digits":
                await exchange.send_digits(call, "12")
            case "fetch":
                await exchange.fetch_call(call)
            case _:
                await exchange.transfer(call, replaces=self.chance.choice(known))

    def respond(self) -> None:
        """To anything that came lately, however late it is."""
        asked = [heard for heard in self.peer.heard[-12:] if not heard.status and heard.method != "ACK"]
        if not asked:
            return
        request: Heard = self.chance.choice(asked)
        status, tag = self.chance.choice(STATUSES), self.chance.choice(["theirs", "theirs", "other"])
        body = self.chance.choice(OFFERS) if status[:3] in ("200", "183") else ""
        self.peer.respond(request, status, tag=tag, headers=self.chance.choice(HEADERS), body=body)
        if request.method == "INVITE" and not request.tag("To"):
            self.legs.append(Leg.of(request, self.peer, tag))

    def request(self) -> None:
        """Inside a dialog, in order or not."""
        if not self.legs or self.chance.random() < 0.1:
            self.legs.append(self.peer.invite(call_id=f"call-{len(self.peer.heard)}-{len(self.legs)}"))
            return
        leg, method = self.chance.choice(self.legs), self.chance.choice(METHODS)
        heard = [one for one in self.peer.heard if one.status > 100 and one["Call-ID"] == leg.call_id]
        if heard and not leg.target:
            leg.remote_tag, leg.target = heard[-1].tag("To"), heard[-1].contact if heard[-1].all("Contact") else ""
        headers, body, kind = self.chance.choice(HEADERS), "", "application/sdp"
        number = self.chance.choice([None, None, None, 1])
        if method == "CANCEL":
            return leg.cancel() if leg.cseq in leg.invites else None
        if method == "ACK":
            number, body = max(leg.invites, default=leg.cseq), self.chance.choice(OFFERS)
        elif method in ("INVITE", "UPDATE"):
            body = self.chance.choice(OFFERS)
        elif method == "NOTIFY":
            headers = ("Event: refer", f"Subscription-State: {self.chance.choice(['active', 'terminated'])}")
            body, kind = self.chance.choice(OUTCOMES), "message/sipfrag"
        leg.request(method, headers=headers, body=body, kind=kind, cseq=number)


@pytest.mark.parametrize("seed", range(8))
def test_each_call_ends_and_leaves_nothing(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance, book = random.Random(seed), Book()

    async def agent(session: MediaSession) -> None:
        match chance.choice(["raise", "return", "speak", "stay", "stay", "stay"]):
            case "raise":
                raise ArithmeticError("a bug of an agent")
            case "return":
                await asyncio.sleep(20 * chance.random())
            case "speak":
                await session.send_audio(b"\x11" * 16000)
                await session.drain()
            case _:
                await stay(session)

    async def quietly(work: Any) -> None:
        with suppress(AnycarrierError, StoreUnavailable):
            await work

    async def scene(at: House) -> None:
        wild, tasks = Wild(at, chance), []
        for _ in range(150):
            match chance.choices(["dial", "ask", "respond", "request", "book", "wait"], [5, 10, 35, 35, 5, 10])[0]:
                case "dial":
                    tasks.append(asyncio.create_task(quietly(wild.dial())))
                case "ask":
                    tasks.append(asyncio.create_task(quietly(wild.ask())))
                case "respond":
                    wild.respond()
                case "request":
                    wild.request()
                case "book":
                    book.away = not book.away
                case _:
                    await asyncio.sleep(chance.choice([0.01, 1, 5, 40]))
            await asyncio.sleep(0.2 * chance.random())
        book.away = False
        await asyncio.sleep(60)
        for call in await at.exchange.calls_in_progress():
            await quietly(at.exchange.hang_up(call))
        await asyncio.sleep(300)
        await asyncio.gather(*tasks)
        await nothing_left(at)
        assert at.listener.endpoint.guard.counters.failures == 0

    play(scene, agent=agent, calls=book, credential={"username": "user", "password": "secret"})
    failed = [record for record in caplog.records if record.levelno >= logging.ERROR and record.exc_info]
    assert {record.exc_info[0] for record in failed if record.exc_info} <= {ArithmeticError, StoreUnavailable}
