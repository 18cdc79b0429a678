"""Every call ends, in the book and at the far end, whatever is lost on the way, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

import pytest

from anycarrier import (
    Answer,
    Call,
    CallStatus,
    EndReason,
    Exchange,
    LeaveRinging,
    MediaSession,
    MemoryNumberRegistry,
    Policy,
)
from anycarrier.callbook import MemoryCallBook, MemoryOnce
from anycarrier.credentials import MemoryCredentials
from anycarrier.errors import AnycarrierError, CallElsewhere, StoreUnavailable, TicketRefused
from anycarrier_sip.sandbox import SipSandbox
from anycarrier_sip.sandbox.callee import SESSION_SECONDS
from scripted_sip_peer import OURS, THEIRS, Heard, House, Leg, Peer, QuietStream, house, play, sdp
from virtual_time import follow_loop, virtually

OVER = 120.0
"""Seconds after which nothing of a call may be left, whatever its far end does not answer."""


async def stay(session: MediaSession) -> None:
    async for _ in session:
        pass


async def nothing_left(at: House, listener: Any = None) -> None:
    """No call, dialog, task, session, or address that is let in for a call's sake."""
    await asyncio.sleep(OVER)
    listener = listener or at.listener
    endpoint, board = listener.endpoint, at.exchange.switchboard
    assert not await at.exchange.calls_in_progress()
    assert not listener.calls and not endpoint.dialogs and not board.sessions
    assert not listener._tasks and not endpoint.guard._held and not endpoint.pacer.streams


# --- in whatever state it is ----------------------------------------------------------------------------------------


async def answered(at: House) -> None:
    await at.rung()


async def held(at: House) -> None:
    _, leg = await at.rung()
    leg.invite(body=sdp(5000, direction="sendonly", version=2))
    await leg.answered()


async def transferring(at: House) -> None:
    call, _ = await at.rung()
    asking = asyncio.create_task(at.exchange.transfer(call, "+14155550177"))
    at.peer.respond(await at.peer.next("REFER"), "202 Accepted")
    await asking


async def not_acknowledged(at: House) -> None:
    await at.peer.invite().answered(ack=False)


async def ringing_out(at: House) -> None:
    invite, dialling = await at.dial()
    at.peer.respond(invite, "180 Ringing")
    await dialling


async def placed(at: House) -> None:
    await at.dial()


async def ringing_in(at: House) -> None:
    async def router(*_: object) -> LeaveRinging:
        return LeaveRinging()

    at.exchange.switchboard.router = router
    at.peer.invite()
    await at.peer.next("180 INVITE")


async def ending(at: House) -> None:
    call, _ = await at.rung()
    await at.exchange.hang_up(call)


async def stopped(at: House) -> None:
    await at.exchange.close_listener("trunk")


async def deleted(at: House) -> None:
    assert isinstance(at.exchange.switchboard.credentials, MemoryCredentials)
    del at.exchange.switchboard.credentials.by_id["trunk"]
    await at.exchange.close_listener("trunk")


async def changed(at: House) -> None:
    assert isinstance(at.exchange.switchboard.credentials, MemoryCredentials)
    known = at.exchange.switchboard.credentials.by_id
    known["trunk"] = known["trunk"].model_copy(update={"username": "another"})
    await at.exchange.start_listener("trunk")


Step = Callable[[House], Awaitable[None]]


@pytest.mark.parametrize("end", [stopped, deleted, changed])
@pytest.mark.parametrize(
    "state", [answered, held, transferring, not_acknowledged, ringing_out, placed, ringing_in, ending]
)
def test_a_credential_that_goes_takes_its_calls_along(state: Step, end: Step) -> None:
    async def scene(at: House) -> None:
        # The far end answers nothing from here on; another credential keeps the sockets open.
        assert isinstance(at.exchange.switchboard.credentials, MemoryCredentials)
        known = at.exchange.switchboard.credentials.by_id
        known["other"] = known["trunk"].model_copy(update={"port": 9, "host": "127.0.0.2", "numbers": ()})
        await at.exchange.start_listener("other")
        await state(at)
        known_calls = [*at.exchange.switchboard.calls._by_reference.values()]  # type: ignore[attr-defined]
        listener = at.listener
        await end(at)
        for call in known_calls:
            over = await at.exchange.wait_for(call.reference, timeout=10)
            assert over.reason in (EndReason.API_STOP, EndReason.CANCELED, EndReason.REJECTED)
        await asyncio.sleep(5)
        said = {"ringing_out": "CANCEL", "ringing_in": "603 INVITE", "placed": "INVITE"}.get(state.__name__, "BYE")
        assert at.peer.count(said)
        await nothing_left(at, listener)

    play(scene, agent=stay)


# --- a call book that is away ---------------------------------------------------------------------------------------


class Book(MemoryCallBook):
    """May be away."""

    away = False

    async def open(self, call: Call) -> Call:
        self._there()
        return await super().open(call)

    async def get(self, key: str) -> Call | None:
        self._there()
        return await super().get(key)

    async def update(self, key: str, change: Callable[[Call], Call]) -> Call:
        self._there()
        return await super().update(key, change)

    async def in_progress(self) -> list[Call]:
        self._there()
        return await super().in_progress()

    async def ending(self, references: Collection[str]) -> list[Call]:
        self._there()
        return await super().ending(references)

    def _there(self) -> None:
        if self.away:
            raise StoreUnavailable("gone")


@pytest.mark.parametrize("when", ["before", "while it is routed"])
def test_a_caller_is_turned_away_while_the_book_is(when: str) -> None:
    book = Book()

    async def router(*_: object) -> Answer:
        book.away = True
        return Answer("desk")

    async def scene(at: House) -> None:
        book.away = when == "before"
        at.peer.invite()
        await at.peer.next("480 INVITE" if book.away else "603 INVITE")
        book.away = False
        await nothing_left(at)

    play(scene, agent=stay, calls=book, router=router)


@pytest.mark.parametrize("what", ["hang_up", "return", "raise", "media"])
def test_a_call_is_hung_up_though_the_book_is_away(what: str) -> None:
    book, go = Book(), asyncio.Event()

    async def agent(session: MediaSession) -> None:
        await go.wait()
        book.away = True
        if what == "hang_up":
            await session.hang_up()
        elif what == "raise":
            raise RuntimeError("a bug")

    async def scene(at: House) -> None:
        if what == "media":
            serve = at.listener.desk.media

            async def media(*given: Any) -> None:
                book.away = True
                await serve(*given)

            at.listener.desk.media = media
        await at.peer.invite().answered()
        go.set()
        at.peer.respond(await at.peer.next("BYE"), "200 OK")
        await asyncio.sleep(30)
        book.away = False
        await asyncio.sleep(40)
        reasons = {"raise": EndReason.AGENT_ERROR, "media": EndReason.MEDIA_ERROR}
        assert (await at.over()).reason is reasons.get(what, EndReason.AGENT_HANGUP)
        await nothing_left(at)

    play(scene, agent=agent, calls=book)


@pytest.mark.parametrize("outage", [5, 100])
def test_an_end_that_the_book_missed_is_written_when_it_is_back(outage: float) -> None:
    book = Book()

    async def scene(at: House) -> None:
        call, leg = await at.rung()
        book.away = True
        leg.request("BYE")
        await at.peer.next("200 BYE")
        await asyncio.sleep(outage)
        book.away = False
        assert (await at.over(call)).reason is EndReason.USER_HANGUP
        await nothing_left(at)

    play(scene, agent=stay, calls=book)


def test_a_call_that_is_answered_while_the_book_is_away_ends() -> None:
    """Nobody could write down what it is called, nor who talks on it."""
    book = Book()

    async def scene(at: House) -> None:
        invite, dialling = await at.dial()
        book.away = True
        at.peer.respond(invite, "180 Ringing")
        with pytest.raises(StoreUnavailable):
            await dialling
        at.peer.respond(invite, "200 OK", body=sdp(5000))
        await at.peer.next("ACK")
        at.peer.respond(await at.peer.next("BYE"), "200 OK")
        book.away = False
        await nothing_left(at)

    play(scene, agent=stay, calls=book)


# --- agents ---------------------------------------------------------------------------------------------------------


async def raises(session: MediaSession) -> None:
    raise RuntimeError("a bug")


async def hangs(session: MediaSession) -> None:
    await asyncio.Event().wait()


async def floods(session: MediaSession) -> None:
    while True:
        await session.send_audio(b"\xff" * 160_000)


async def will_not_go(session: MediaSession) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("agent", "reason"),
    [
        (raises, EndReason.AGENT_ERROR),
        (hangs, EndReason.USER_HANGUP),
        (floods, EndReason.USER_HANGUP),
        (will_not_go, EndReason.USER_HANGUP),
    ],
)
def test_whatever_the_agent_does(agent: Callable[[MediaSession], Awaitable[None]], reason: EndReason) -> None:
    async def scene(at: House) -> None:
        leg = at.peer.invite()
        await leg.answered()
        await asyncio.sleep(20)
        if reason is EndReason.USER_HANGUP:
            leg.request("BYE")
            await at.peer.next("200 BYE")
        else:
            at.peer.respond(await at.peer.next("BYE"), "200 OK")
        assert (await at.over()).reason is reason
        await nothing_left(at)

    play(scene, agent=agent, quiet=agent is not floods)


def test_a_ticket_that_is_shown_again_costs_the_call_nothing() -> None:
    async def scene(at: House) -> None:
        call, leg = await at.rung()
        taken = at.listener.calls[call.id]
        with pytest.raises(TicketRefused):
            await at.listener.desk.media(taken.ticket, taken.media)
        await asyncio.sleep(60)
        assert at.exchange.switchboard.sessions
        leg.request("BYE")
        await at.peer.next("200 BYE")
        await nothing_left(at)

    play(scene, agent=stay)


# --- far ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["", "481 Gone", "500 Broken", "100 Trying", "401 Unauthorized"])
def test_a_bye_that_is_not_taken_ends_the_call_all_the_same(answer: str) -> None:
    async def scene(at: House) -> None:
        call, _ = await at.rung()
        await at.exchange.hang_up(call)
        await at.peer.next("BYE")
        for number in range(100 if answer else 0):
            bye = next(heard for heard in at.peer.heard[::-1] if heard.what == "BYE")
            challenge = (f'WWW-Authenticate: Digest realm="x", nonce="{number}"',) if answer[:3] == "401" else ()
            at.peer.respond(bye, answer, headers=challenge)
            await asyncio.sleep(1)
        assert (await at.over(call)).reason is EndReason.API_STOP
        await nothing_left(at)

    play(scene, agent=stay, credential={"username": "user", "password": "secret"})


@pytest.mark.parametrize("says", ["100 Trying", "180 Ringing"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_a_call_that_nobody_ever_answers_ends_soon_after_its_ring_time(says: str, goes_on: bool) -> None:
    """Whether its far end falls silent or says the same for ever: it answers no CANCEL."""

    async def scene(at: House) -> None:
        invite, dialling = await at.dial(timeout=20)

        async def ring() -> None:
            while True:
                at.peer.respond(invite, says)
                await asyncio.sleep(2 if goes_on else OVER)

        ringing = asyncio.create_task(ring())
        call = await at.exchange.wait_for(await dialling, timeout=26)
        assert call.reason is (EndReason.NO_ANSWER if says.startswith("180") else EndReason.UNREACHABLE)
        assert at.peer.count("CANCEL")
        await nothing_left(at)
        ringing.cancel()

    play(scene, agent=stay)


def test_a_held_call_stays_for_an_hour() -> None:
    async def scene(at: House) -> None:
        call, leg = await at.rung()
        leg.invite(body=sdp(5000, direction="sendonly", version=2))
        await leg.answered()
        await asyncio.sleep(3600)
        leg.invite(body=sdp(5000, version=3))
        await leg.answered()
        leg.request("BYE")
        await at.peer.next("200 BYE")
        assert (await at.over(call)).reason is EndReason.USER_HANGUP
        await nothing_left(at)

    play(scene, agent=stay)


def test_a_caller_that_has_restarted_with_the_same_call_id_is_a_new_call() -> None:
    async def scene(at: House) -> None:
        first, _ = await at.rung()
        again = at.peer.invite()
        await at.peer.next("482 INVITE")  # the same request by another way, as it looks (RFC 3261, 8.2.2.2)
        await asyncio.sleep(40)
        again = at.peer.invite()
        await again.answered()
        assert len(at.listener.calls) == 2
        again.request("BYE")
        await at.peer.next("200 BYE")
        assert [*at.listener.calls] == [first.id]

    play(scene, agent=stay)


def test_an_answer_that_crosses_the_cancel_and_names_a_place_that_is_looked_up_leaves_nothing() -> None:
    """The call is over by the time it is known where the ACK goes."""

    async def scene(at: House) -> None:
        async def looked_up(*given: Any) -> Any:
            await asyncio.sleep(0.5)
            return await targets(*given)

        endpoint = at.listener.endpoint
        targets, endpoint.targets = endpoint.targets, looked_up
        elsewhere = await Peer.open()
        invite, dialling = await at.dial()
        at.peer.respond(invite, "180 Ringing")
        await at.exchange.hang_up(await dialling)
        await at.peer.next("CANCEL")
        port, at.peer.port = at.peer.port, elsewhere.port  # in its Contact
        at.peer.respond(invite, "200 OK", body=sdp(5000))
        at.peer.port, elsewhere.us = port, at.peer.us
        await elsewhere.next("ACK")
        elsewhere.respond(await elsewhere.next("BYE"), "200 OK")
        elsewhere.close()
        await nothing_left(at)

    play(scene, agent=stay)


def test_three_telephones_answer_and_two_are_hung_up() -> None:
    async def scene(at: House) -> None:
        invite, dialling = await at.dial()
        for tag in "abc":
            at.peer.respond(invite, "200 OK", tag=tag, body=sdp(5000))
        call = await dialling
        byes = {(bye := await at.peer.next("BYE")).tag("To"): bye for _ in range(2)}
        for bye in byes.values():
            at.peer.respond(bye, "200 OK")
        assert set(byes) == {"b", "c"} and at.peer.count("ACK") == 3
        await asyncio.sleep(60)
        await at.exchange.hang_up(call)
        last = await at.peer.next("BYE")
        assert last.tag("To") == "a"
        at.peer.respond(last, "200 OK")
        await nothing_left(at)

    play(scene, agent=stay)


def test_offers_of_both_sides_cross_twice_and_both_get_through() -> None:
    async def scene(at: House) -> None:
        timer = ("Allow: INVITE, ACK, BYE, CANCEL", "Session-Expires: 100;refresher=uac", "Require: timer")
        call, leg = await at.dialled(headers=timer)
        ours = await at.peer.next("INVITE", within=60)
        for _ in range(2):
            leg.invite(body=sdp(5002, version=2))
            await at.peer.next("491 INVITE")
            leg.request("ACK", cseq=leg.cseq, branch=leg.invites[leg.cseq])
            at.peer.respond(ours, "491 Request Pending")
            await at.peer.next("ACK")
            ours = await at.peer.next("INVITE", within=5)
        at.peer.respond(ours, "200 OK", body=sdp(5002, version=3), headers=timer[1:2])
        await at.peer.next("ACK")
        leg.invite(body=sdp(5004, version=4))
        await leg.answered()
        leg.request("BYE")
        await at.peer.next("200 BYE")
        assert (await at.over(call)).reason is EndReason.USER_HANGUP
        await nothing_left(at)

    play(scene, agent=stay)


# --- other processes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "said", "reason"),
    [
        (answered, "BYE", EndReason.API_STOP),
        (ringing_out, "CANCEL", EndReason.CANCELED),
        (ringing_in, "603 INVITE", EndReason.REJECTED),
    ],
)
def test_another_process_has_a_call_ended_by_the_one_that_has_it(state: Step, said: str, reason: EndReason) -> None:
    shared = {"calls": MemoryCallBook(), "once": MemoryOnce()}

    async def scene(at: House) -> None:
        async with house(agent=stay, **shared) as other:
            await state(at)
            [call] = await at.exchange.calls_in_progress()
            assert (await other.exchange.fetch_call(call)).status is call.status
            with pytest.raises(CallElsewhere):
                await other.exchange.transfer(call, "+14155550177")
            await other.exchange.hang_up(call.reference)
            heard = await at.peer.next(said, within=2.5)
            if not heard.status:
                at.peer.respond(heard, "200 OK")
            assert (await at.over(call)).reason is reason
            await nothing_left(at)
            await nothing_left(other)

    play(scene, agent=stay, **shared)


def test_a_call_that_another_process_took_for_lost_is_hung_up() -> None:
    """This one had stood still for long."""
    book = MemoryCallBook()

    async def scene(at: House) -> None:
        call, _ = await at.rung()
        over = {"status": CallStatus.ENDED, "reason": EndReason.MEDIA_ERROR, "owner": "another"}
        await book.update(call.reference, lambda known: known.model_copy(update=over))
        at.peer.respond(await at.peer.next("BYE", within=2.5), "200 OK")
        await nothing_left(at)

    play(scene, agent=stay, calls=book)


def test_the_far_ends_session_timer_ends_the_call_of_a_process_that_was_killed() -> None:
    """It answers with a session of 90 s that is ours to refresh."""

    async def scene() -> None:
        async with SipSandbox() as sandbox:
            sandbox.add_number(OURS)
            exchange = Exchange(
                registry=MemoryNumberRegistry(), credentials={"trunk": sandbox.credential()}, agents=stay,
                public_url="https://voice.example.com", secret="s" * 32, policy=Policy(allow=["US"]),
            )  # fmt: skip
            await exchange.start()
            await exchange.assign(OURS, agent_id="desk", credential_id="trunk")
            call = await exchange.dial(from_=OURS, to="+15005550135")
            far_end = await sandbox.far_end(call.id)
            await exchange.wait_for(call, CallStatus.ANSWERED)
            provider: Any = await exchange.switchboard.provider("trunk")
            assert far_end.state != "ended"
            provider.listener.endpoint.transport.send = lambda *_: None
            await asyncio.sleep(SESSION_SECONDS + 1)
            assert far_end.state == "ended"
            await exchange.stop()

    with pytest.MonkeyPatch.context() as patch:
        follow_loop(patch)
        patch.setattr("anycarrier_sip.listener.RtpStream", QuietStream)
        virtually(scene())


# --- many, and of all kinds -----------------------------------------------------------------------------------------


def open_files() -> int:
    """Of this process, where the system tells."""
    with suppress(FileNotFoundError):
        return len(os.listdir("/proc/self/fd"))
    return 0


def test_more_calls_than_ports_are_sent_elsewhere_and_every_socket_comes_back() -> None:
    async def scene(at: House) -> None:
        before = open_files()
        for rounds in range(2):
            ids = [f"call-{rounds}-{number}" for number in range(40)]
            legs = {call_id: at.peer.invite(call_id=call_id) for call_id in ids}
            await asyncio.sleep(1)
            final = {one["Call-ID"]: one for one in at.peer.heard if one.status >= 200 and one["Call-ID"] in legs}
            # Another program may have some of the ten pairs.
            assert len(final) == 40 and 0 < sum(heard.status == 200 for heard in final.values()) <= 10
            for call_id, heard in final.items():
                leg = legs[call_id]
                leg.remote_tag = heard.tag("To")
                if heard.status == 200:
                    leg.target = heard.contact
                    leg.request("ACK", cseq=1)
                    leg.request("BYE")
                else:
                    assert heard.status == 503 and heard["Retry-After"]
                    leg.request("ACK", cseq=1, branch=leg.invites[1])
            await nothing_left(at)
        assert open_files() == before

    play(scene, agent=stay, quiet=False, settings={"rtp_ports": (23000, 23020)})


class Careless:
    """Answers, or does not, whatever comes to the peer; rings us, and lets go."""

    def __init__(self, at: House, chance: random.Random) -> None:
        self.peer, self.chance = at.peer, chance
        self.legs: dict[str, Leg] = {}
        self.rung: dict[str, Heard] = {}

    async def run(self) -> None:
        while True:
            while self.peer.waiting:
                heard = self.peer.waiting.popleft()
                (self._response if heard.status else self._request)(heard)
            self.peer._more.clear()
            await self.peer._more.wait()

    def ring(self, call_id: str) -> None:
        timers = ("Supported: timer", "Session-Expires: 100;refresher=uas")
        self.legs[call_id] = self.peer.invite(
            call_id=call_id, headers=self.chance.choice([(), timers, ("Require: 100rel",)])
        )

    def _response(self, heard: Heard) -> None:
        leg = self.legs.get(heard["Call-ID"])
        if leg is None or heard.method != "INVITE" or heard.status < 200:
            return
        leg.remote_tag = heard.tag("To")
        if heard.status < 300:
            leg.target = heard.contact
            if self.chance.random() < 0.9:
                leg.request("ACK", cseq=heard.cseq)
        else:
            leg.request("ACK", cseq=heard.cseq, branch=leg.invites[heard.cseq])

    def _request(self, heard: Heard) -> None:
        answers = {
            "BYE": ["200 OK", "200 OK", "481 Gone", ""],
            "UPDATE": ["200 OK", "501 Unknown", ""],
            "REFER": ["202 Accepted", "603 Decline", ""],
            "OPTIONS": ["200 OK"],
        }
        if heard.method in answers:
            if answer := self.chance.choice(answers[heard.method]):
                self.peer.respond(heard, answer)
        elif heard.method == "CANCEL" and self.chance.random() < 0.8:
            self.peer.respond(heard, "200 OK")
            if last := self.chance.choice(["487 Request Terminated", "200 OK", ""]):
                self.peer.respond(self.rung[heard["Call-ID"]], last, body=sdp(5000) if last == "200 OK" else "")
        elif heard.method == "INVITE" and heard["Call-ID"] not in self.rung:
            self.rung[heard["Call-ID"]] = heard
            for answer in self.chance.choice(
                [[], ["486 Busy Here"], ["503 No"], ["180 Ringing"], ["180 Ringing", "200 OK"], ["200 OK", "200 Twice"]]
            ):
                body, tag = (sdp(5000), answer[4:]) if answer.startswith("200") else ("", "OK")
                self.peer.respond(heard, answer, body=body, tag=tag)


@pytest.mark.parametrize("seed", range(3))
def test_a_hundred_calls_of_all_kinds_leave_nothing(seed: int) -> None:
    chance = random.Random(seed)

    async def agent(session: MediaSession) -> None:
        what = chance.random()
        if what < 0.2:
            raise RuntimeError("a bug")
        if what < 0.4:
            return await asyncio.sleep(3 * chance.random())
        await stay(session)

    async def one(exchange: Exchange, far: Careless, number: int, listener: Any) -> None:
        call_id = f"call-{number}"
        try:
            if number % 2:
                sip_id = (await exchange.dial(from_=OURS, to=THEIRS, timeout=chance.choice([1, 5, 20]))).id
            else:
                far.ring(call_id)
                await asyncio.sleep(1)
                sip_id = next((each.call.id for each in listener.calls.values() if each.dialog.call_id == call_id), "")
            await asyncio.sleep(5 * chance.random())
            what = chance.choice(["hang up", "transfer", "bye", "cancel", "nothing"])
            if what == "hang up" and sip_id:
                await exchange.hang_up(sip_id)
            elif what == "transfer" and sip_id:
                await exchange.transfer(sip_id, "+14155550177")
            elif what == "bye" and call_id in far.legs:
                far.legs[call_id].request("BYE")
            elif what == "cancel" and call_id in far.legs:
                far.legs[call_id].cancel()
        except AnycarrierError:
            pass

    async def scene(at: House) -> None:
        far = Careless(at, chance)
        answering = asyncio.create_task(far.run())
        making = []
        for number in range(100):
            making.append(asyncio.create_task(one(at.exchange, far, number, at.listener)))
            await asyncio.sleep(0.3 * chance.random())
        await asyncio.gather(*making)
        await asyncio.sleep(300)
        for call in await at.exchange.calls_in_progress():
            await at.exchange.hang_up(call)
        await nothing_left(at)
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)

    play(scene, agent=agent)
