"""The sandbox is a trunk: a telephone of the test's own registers there, is rung, rings, and hears what it should."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from anycarrier.testing.far_end import FarEnd
from anycarrier.testing.sandbox_numbers import OUTCOMES, Outcome
from anycarrier_sip.digest import DigestClient
from anycarrier_sip.message import Headers, Message, Request, Response, parse, reply
from anycarrier_sip.sandbox import SipSandbox
from virtual_time import virtually

OURS, CALLER = "+14155550101", "+12125550110"
NUMBER = {outcome: number for number, outcome in OUTCOMES.items()}
SOUND = bytes(range(0x20, 0x60)) * 5 * 2


class Phone:
    """A bare telephone: each request and response by hand, on one socket for SIP and one for RTP."""

    def __init__(self, sandbox: SipSandbox, user: str, password: str) -> None:
        self.sandbox, self.user = sandbox, user
        self.digest = DigestClient(user, password)
        self.sip, self.rtp = self._bound(), self._bound()
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.packets: list[bytes] = []
        self.numbers = iter(range(1, 1000))
        loop = asyncio.get_running_loop()
        loop.add_reader(self.sip, lambda: self.inbox.put_nowait(parse(self.sip.recv(65536))))
        loop.add_reader(self.rtp, lambda: self.packets.append(self.rtp.recv(2048)))

    @staticmethod
    def _bound() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind(("127.0.0.1", 0))
        return made

    def close(self) -> None:
        for each in (self.sip, self.rtp):
            asyncio.get_running_loop().remove_reader(each)
            each.close()

    @property
    def contact(self) -> str:
        return f"<sip:phone@127.0.0.1:{self.sip.getsockname()[1]}>"

    def description(self, codec: int = 0) -> bytes:
        port = self.rtp.getsockname()[1]
        return (f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
                f"m=audio {port} RTP/AVP {codec} 101\r\na=rtpmap:101 telephone-event/8000\r\n").encode()  # fmt: skip

    def request(self, method: str, to: str, body: bytes = b"", *more: tuple[str, str], **dialog: str) -> Request:
        number = next(self.numbers)
        host, port = self.sandbox.address
        headers = Headers([
            ("Via", f"SIP/2.0/UDP 127.0.0.1:{self.sip.getsockname()[1]};rport;branch=z9hG4bK{self.user}{number}"),
            ("Max-Forwards", "70"), ("From", f"<sip:{self.user}@{host}>;tag=mine"),
            ("To", f"<sip:{to}@{host}>" + (f";tag={dialog['tag']}" if "tag" in dialog else "")),
            ("Call-ID", dialog.get("call_id", f"{self.user}-call")), ("CSeq", f"{number} {method}"),
            ("Contact", self.contact), *more, *([("Content-Type", "application/sdp")] if body else []),
        ])  # fmt: skip
        return Request(method, f"sip:{to}@{host}:{port}", headers, body)

    def send(self, message: Message) -> None:
        self.sip.sendto(message.encode(), self.sandbox.address)

    async def get(self, kind: type[Message]) -> Message:
        async with asyncio.timeout(60):
            while not isinstance(got := await self.inbox.get(), kind):
                pass
        return got

    async def ask(self, request: Request) -> Response:
        """The final response; a challenge is answered once. Refusals of an INVITE are acknowledged."""
        self.send(request)
        while (response := await self.get(Response)).status < 200 or response.cseq.method != request.method:  # type: ignore[union-attr]
            pass
        assert isinstance(response, Response)
        if request.method == "INVITE" and response.status >= 300:
            ack = Request("ACK", request.uri, Headers(request.headers.items()))
            ack.headers.set("CSeq", f"{request.cseq.number} ACK")
            self.send(ack)
        if response.status == 401 and self.digest.authorize(request, response, 0.0):
            request.headers.set("CSeq", f"{(number := next(self.numbers))} {request.method}")
            request.headers.set("Via", (request.headers.get("Via") or "").rpartition("K")[0] + f"K{self.user}{number}")
            return await self.ask(request)
        return response

    async def register(self, expires: int = 60) -> Response:
        return await self.ask(self.request("REGISTER", self.user, b"", ("Expires", str(expires)), call_id="registers"))

    async def dial(self, to: str, codec: int = 0) -> Response:
        return await self.ask(self.request("INVITE", to, self.description(codec)))

    def within(self, method: str, response: Response, body: bytes = b"", *more: tuple[str, str]) -> Request:
        """A request of the dialog that a response of theirs has made."""
        return self.request(method, response.to.uri.user or "", body, *more, tag=response.to.tag or "")

    def acknowledge(self, response: Response) -> None:
        ack = self.within("ACK", response)
        ack.headers.set("CSeq", f"{response.cseq.number} ACK")
        self.send(ack)


@asynccontextmanager
async def trunk(*quirks: str) -> AsyncIterator[tuple[SipSandbox, Phone]]:
    async with SipSandbox() as sandbox:
        sandbox.quirks |= set(quirks)
        sandbox.passwords["201"] = "good"
        sandbox.add_number(OURS)
        phone = Phone(sandbox, "201", "good")
        try:
            yield sandbox, phone
        finally:
            phone.close()


def scene(work: Callable[[SipSandbox, Phone], Awaitable[None]], *quirks: str) -> None:
    async def run() -> None:
        async with trunk(*quirks) as (sandbox, phone):
            await work(sandbox, phone)

    virtually(run())


async def rung(sandbox: SipSandbox, phone: Phone, **how: object) -> tuple[FarEnd, Request]:
    """A caller rings the phone, which says that it rings."""
    await phone.register()
    ringing = asyncio.ensure_future(sandbox.ring(OURS, CALLER, **how))  # type: ignore[arg-type]
    invite = await phone.get(Request)
    assert isinstance(invite, Request)
    phone.send(reply(invite, 180, to_tag="ours"))
    return await ringing, invite


def pick_up(phone: Phone, invite: Request) -> None:
    answer = reply(invite, 200, to_tag="ours", body=phone.description(), content_type="application/sdp")
    answer.headers.add("Contact", phone.contact)
    phone.send(answer)


def test_who_knows_the_password_is_registered_until_they_leave() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        assert (await phone.register()).status == 200 and list(sandbox.registrations) == ["201"]
        stranger = Phone(sandbox, "201", "bad")
        assert (await stranger.register()).status == 401
        assert sandbox.registrations["201"].contact == phone.contact.strip("<>")
        stranger.close()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox.app), base_url="http://x") as http:
            assert (await http.get("/")).json()["registered"] == ["201"]
        assert (await phone.register(0)).status == 200 and not sandbox.registrations

    scene(work)


@pytest.mark.parametrize(
    ("password", "status"), [("wrong", 401), ("suspended", 403), ("broke", 402), ("throttled", 503)]
)
def test_passwords_may_mean_something(password: str, status: int) -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        sandbox.passwords["202"] = f"{password}-secret"
        other = Phone(sandbox, "202", f"{password}-secret")
        assert (await other.register()).status == status
        other.close()

    scene(work)


def test_a_caller_is_heard_hears_and_presses_keys() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        far_end, invite = await rung(sandbox, phone)
        assert (invite.to.uri.user, invite.from_.uri.user, far_end.call_id) == (OURS, CALLER, "ours")
        assert invite.headers.get("P-Called-Party-ID") == f"<sip:{OURS}@{sandbox.at}>"
        pick_up(phone, invite)
        await far_end.wait_for("streaming")
        await far_end.say(SOUND)
        await far_end.press("7")
        sound = b"".join(p[12:] for p in phone.packets if p[1] & 0x7F == 0 and p[12:] != b"\xff" * 160)
        assert sound == SOUND
        stamps = [int.from_bytes(p[4:8], "big") for p in phone.packets if p[1] & 0x7F == 0]
        assert {b - a for a, b in itertools.pairwise(stamps) if b - a < 1000} == {160}
        keys = [p for p in phone.packets if p[1] & 0x7F == 101]
        assert {p[4:8] for p in keys} == {keys[0][4:8]} and {p[12] for p in keys} == {7}
        assert [p[13] >> 7 for p in keys] == [0] * 5 + [1] * 3
        told = sandbox.leg_of(far_end).sound.datagrams.address
        for sequence, payload in enumerate((b"\xff" * 160, SOUND[:160], SOUND[160:320], b"\xff" * 160)):
            phone.rtp.sendto(bytes((0x80, 0)) + sequence.to_bytes(2, "big") + bytes(8) + payload, told)
        for _ in range(3):
            phone.rtp.sendto(bytes((0x80, 101, 0, 9, 0, 0, 9, 9)) + bytes(4) + bytes((11, 0x80, 3, 0)), told)
        await asyncio.sleep(0.1)
        assert (far_end.heard, far_end.digits) == (SOUND[:320], "#")
        await far_end.hang_up()
        bye = await phone.get(Request)
        while bye.method != "BYE":  # type: ignore[union-attr]
            bye = await phone.get(Request)
        assert far_end.state == "ended"

    scene(work)


def test_the_sound_keeps_its_time_through_pauses_of_a_far_end_that_is_quiet() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        far_end, invite = await rung(sandbox, phone)
        pick_up(phone, invite)
        await far_end.wait_for("streaming")
        await far_end.say(SOUND)
        await asyncio.sleep(1.0)
        await far_end.say(SOUND)
        await asyncio.sleep(0.1)
        packets = [(p[1] >> 7, int.from_bytes(p[4:8], "big")) for p in phone.packets]
        assert [mark for mark, _ in packets] == [0, 0, 0, 0, 1, 0, 0, 0]
        assert packets[4][1] - packets[3][1] == pytest.approx(8000 + 160, abs=160)

    scene(work, "quiet")


@pytest.mark.parametrize(
    ("outcome", "statuses"),
    [
        (Outcome.BUSY, [100, 180, 486]),
        (Outcome.REJECTED, [100, 180, 603]),
        (Outcome.NOT_FOUND, [100, 180, 404]),
        (Outcome.INVALID_NUMBER, [484]),
        (Outcome.FORBIDDEN, [403]),
        (Outcome.NO_FUNDS, [402]),
        (Outcome.THROTTLED, [503]),
        (Outcome.SERVER_ERROR, [500]),
        ("+15005559488", [100, 180, 488]),
        ("+15005558017", [100, 180, 480]),
        ("+15005550133", [100, 180, 302]),
    ],
)
def test_a_number_says_how_it_is_refused(outcome: Outcome | str, statuses: list[int]) -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        number = NUMBER[outcome] if isinstance(outcome, Outcome) else outcome
        refused = await phone.dial(number)
        leg = sandbox.leg_of(await sandbox.far_end("mine"))
        assert [line for line in leg.log if line.startswith("<")] == [f"< {status} INVITE" for status in statuses]
        assert leg.far_end.state == "ended"
        assert (refused.headers.get("Retry-After") == "2") is (refused.status == 503)
        assert (refused.headers.get("Reason") or "") == ("Q.850;cause=17" if number == "+15005558017" else "")

    scene(work)


def test_a_call_that_is_given_up_is_terminated_and_one_that_is_answered_then_is_answered() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        for number, status in ((NUMBER[Outcome.NO_ANSWER], 487), ("+15005550132", 200)):
            asked = asyncio.ensure_future(phone.dial(number))
            far_end = await sandbox.far_end("mine")
            await asyncio.sleep(1)
            cancel = phone.request("CANCEL", number)
            [branch] = [key[0] for key in sandbox._replies if key[1] == "INVITE"][-1:]
            cancel.headers.set("Via", f"{branch.replace(' z9', ';rport;branch=z9')}")
            phone.send(cancel)
            response = await asked
            assert response.status == status
            del sandbox.far_ends["mine"]
            phone.user += "x"  # another Call-ID
            sandbox.passwords["201x"] = "good"
            assert (far_end.state == "ended") is (status == 487)

    scene(work)


def test_an_answer_that_needs_a_prack_waits_for_it() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        asked = asyncio.ensure_future(phone.dial("+15005550131"))
        far_end = await sandbox.far_end("mine")
        await asyncio.sleep(5)
        leg = sandbox.leg_of(far_end)
        assert (leg.log[-1], far_end.state) == ("< 183 INVITE", "ringing")
        phone.send(phone.request("PRACK", "+15005550131", b"", ("RAck", "7001 2 INVITE"), tag=leg.tag))
        answered = await asked
        assert answered.status == 200
        phone.acknowledge(answered)
        await far_end.wait_for("streaming")

    scene(work)


@pytest.mark.parametrize(
    ("outcome", "told"),
    [(Outcome.ANSWERS, 200), (Outcome.BUSY, 486), (Outcome.REJECTED, 603), (Outcome.NO_ANSWER, 480)],
)
def test_a_transfer_is_told_of_until_its_target_has_answered_or_not(outcome: Outcome, told: int) -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        answered = await phone.dial("+12125550120")
        phone.acknowledge(answered)
        far_end = await sandbox.far_end("mine")
        target = NUMBER.get(outcome, "+13105550130")
        taken = await phone.ask(phone.within("REFER", answered, b"", ("Refer-To", f"<sip:{target}@{sandbox.at}>")))
        assert taken.status == 202
        notes = []
        while len(notes) < 2:
            note = await phone.get(Request)
            phone.send(reply(note, 200))  # type: ignore[arg-type]
            notes.append(note.body.split()[1])
        assert notes == [b"100", str(told).encode()]
        assert (await phone.ask(phone.within("BYE", answered))).status == 200
        assert far_end.transferred_to == target
        assert (far_end.state == "ended") is (told != 200), "with somebody to talk to, the far end stays"

    scene(work)


def test_a_transfer_may_be_refused() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        answered = await phone.dial("+12125550120")
        phone.acknowledge(answered)
        refused = await phone.ask(phone.within("REFER", answered, b"", ("Refer-To", "<sip:+13105550130@x>")))
        assert refused.status == 603 and (await sandbox.far_end("mine")).transferred_to is None

    scene(work, "no transfers")


def test_hold_and_another_port_are_offered_anew() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        answered = await phone.dial("+12125550120")
        phone.acknowledge(answered)
        far_end = await sandbox.far_end("mine")
        offered = [answered.body]
        for act in (sandbox.hold(far_end), sandbox.hold(far_end, False), sandbox.move(far_end)):
            acting = asyncio.ensure_future(act)
            again = await phone.get(Request)
            offered.append(again.body)
            phone.send(reply(again, 200, body=phone.description(), content_type="application/sdp"))  # type: ignore[arg-type]
            await acting
            assert (await phone.get(Request)).cseq.method == "ACK"
        assert [b"a=sendonly" in body for body in offered] == [False, True, False, False]
        ports = [body.partition(b"m=audio ")[2].split()[0] for body in offered]
        assert ports[0] == ports[1] == ports[2] != ports[3]
        versions = [int(body.partition(b"o=sandbox ")[2].split()[1]) for body in offered]
        assert versions == sorted(set(versions))

    scene(work)


def test_datagrams_are_doubled_and_disordered_on_demand() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        far_end, invite = await rung(sandbox, phone)
        pick_up(phone, invite)
        await far_end.wait_for("streaming")
        await far_end.say(SOUND * 4)
        await asyncio.sleep(0.1)
        order = [int.from_bytes(p[2:4], "big") for p in phone.packets]
        assert len(order) > len(set(order)) and order != sorted(order)

    scene(work, "duplicate", "reorder", "quiet")


def test_a_repeated_answer_is_acknowledged_again_and_a_repeated_request_answered_again() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        far_end, invite = await rung(sandbox, phone)
        for _ in range(3):
            pick_up(phone, invite)
            await asyncio.sleep(0.1)
        assert [phone.inbox.get_nowait().cseq.method for _ in range(3)] == ["ACK"] * 3
        bye = phone.request("BYE", CALLER, b"", call_id=invite.call_id, tag=invite.from_.tag or "")
        assert [(await phone.ask(bye)).status for _ in range(2)] == [200, 200]
        assert (far_end.state, far_end.hangup_cause) == ("ended", "BYE")

    scene(work)


def test_a_codec_it_cannot_send_is_refused_and_another_number_is_nobodys() -> None:
    async def work(sandbox: SipSandbox, phone: Phone) -> None:
        assert (await phone.dial("+12125550120", codec=3)).status == 488
        with pytest.raises(LookupError):
            await sandbox.ring("+14155550199", CALLER)

    scene(work)
