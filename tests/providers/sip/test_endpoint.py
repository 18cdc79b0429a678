"""The endpoint on loopback: who gets which request, and what the sockets give away to whom. All in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_network
from typing import Any, ClassVar

import pytest

from anycarrier.errors import ConfigurationError
from anycarrier_sip.endpoint import Endpoint
from anycarrier_sip.message import Headers, Request, Response, SipError, StreamReader, parse, reply
from anycarrier_sip.resolver import Target
from anycarrier_sip.settings import SipSettings
from anycarrier_sip.transaction import Flow, ServerTransaction
from anycarrier_sip.transaction_layer import COOKIE
from anycarrier_sip.trunks import OPEN_INVITES
from virtual_time import virtually

BOTH = ("udp:127.0.0.1:0", "tcp:127.0.0.1:0")
TRUNK, OTHER, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.66"


class Line:
    """A trunk that answers everything at once, or a dialog."""

    def __init__(
        self,
        endpoint: Endpoint,
        *peers: str,
        user: str = "",
        own_user: bool = False,
        wants: bool = True,
        anyone: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.credential = None
        self.contact_user = user
        self.peers = [ip_network(peer) for peer in peers]
        self.from_anywhere = self.challenges = anyone
        self.own_user = own_user
        self._wants = wants
        self.got: list[str] = []
        self.transactions: list[ServerTransaction] = []
        self.strays: list[int] = []
        self.status = 200
        self.failure: Exception | None = None

    def resolved(self, addresses: object) -> None: ...

    def wants(self, request: Request, flow: Flow) -> bool:
        return self._wants

    def recognizes(self, request: Request, flow: Flow) -> bool:
        return False

    def peer_allowed(self, flow: Flow) -> bool:
        return any(flow.remote[0] in str(peer) for peer in self.peers)

    def invited(self, transaction: ServerTransaction) -> None:
        self.requested(transaction)

    def requested(self, transaction: ServerTransaction) -> None:
        self.got.append(transaction.request.method)
        self.transactions.append(transaction)
        if self.failure is not None:
            raise self.failure
        if self.status:
            transaction.respond(reply(transaction.request, self.status, to_tag="ours"))

    def stray(self, response: Response, flow: Flow) -> None:
        self.strays.append(response.status)


class Phone:
    """A bare UDP socket at the other end; :func:`play` closes it."""

    bound: ClassVar[list[socket.socket]] = []

    def __init__(self, endpoint: Endpoint, address: str = TRUNK) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.bound.append(self.sock)
        self.sock.setblocking(False)
        self.sock.bind((address, 0))
        self.address: tuple[str, int] = self.sock.getsockname()
        self.endpoint = endpoint

    def send(self, data: bytes | Request | Response) -> None:
        self.sock.sendto(data if isinstance(data, bytes) else data.encode(), self.endpoint.addresses["udp"])

    async def said(self, wait: float = 0.05) -> list[int | str]:
        """Statuses and methods of what has come."""
        words = [data.split(b" ", 2) for data in await self.datagrams(wait)]
        return [int(two) if one == b"SIP/2.0" else one.decode() for one, two, *_ in words]

    async def messages(self) -> list[Request | Response]:
        return [parse(data) for data in await self.datagrams(0.05)]

    async def datagrams(self, wait: float) -> list[bytes]:
        await asyncio.sleep(wait)
        found = []
        while True:
            try:
                found.append(self.sock.recv(65536))
            except BlockingIOError:
                return found

    async def ask(self, request: Request) -> list[int | str]:
        self.send(request)
        return await self.said()


def message(method: str, *, uri: str = "sip:x@127.0.0.1", tag: str = "", number: int = 1, call: str = "") -> Request:
    headers = Headers(
        [
            ("Via", f"SIP/2.0/UDP 127.0.0.9;rport;branch={COOKIE}{random.getrandbits(64):x}"),
            ("From", "<sip:a@127.0.0.9>;tag=theirs"),
            ("To", "<sip:b@127.0.0.1>" + (f";tag={tag}" if tag else "")),
            ("Call-ID", call or f"{random.getrandbits(64):x}@far"),
            ("CSeq", f"{number} {method}"),
            ("Max-Forwards", "70"),
        ]
    )
    return Request(method, uri, headers)


def for_hop_of(request: Request, method: str) -> Request:
    """The CANCEL of an INVITE, or the ACK of its refusal."""
    made = message(method, call=request.call_id, tag="ours" if method == "ACK" else "")
    made.headers.set("Via", request.headers.get("Via") or "")
    return made


def ours(method: str) -> Request:
    headers = Headers([("From", "<sip:a@h>;tag=mine"), ("To", "<sip:b@h>"), ("Call-ID", "c@h")])
    headers.add("CSeq", f"1 {method}")
    return Request(method, "sip:b@127.0.0.2", headers)


Scene = Callable[[Endpoint], Awaitable[None]]


def play(scene: Scene, *, listen: Sequence[str] = BOTH, **settings: Any) -> None:
    async def run() -> None:
        endpoint = await Endpoint.open(SipSettings(listen=tuple(listen), **settings))
        try:
            await scene(endpoint)
        finally:
            await endpoint.aclose()
            while Phone.bound:
                Phone.bound.pop().close()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtually(run())


# --- who gets which request ----------------------------------------------------------------------------------------


def test_request_goes_to_the_trunk_whose_peer_sent_it() -> None:
    async def scene(endpoint: Endpoint) -> None:
        one, two = Line(endpoint, TRUNK), Line(endpoint, OTHER)
        endpoint.register(one)
        endpoint.register(two)
        assert await Phone(endpoint, TRUNK).ask(message("INVITE")) == [200]
        assert await Phone(endpoint, OTHER).ask(message("OPTIONS")) == [200]
        assert (one.got, two.got) == (["INVITE"], ["OPTIONS"])

    play(scene)


SHY, OWN = {"wants": False}, {"own_user": True}


@pytest.mark.parametrize(
    ("lines", "method", "user", "gets"),
    [
        ({"u1": SHY, "u2": {}}, "INVITE", "u1", "u1"),
        ({"u1": SHY, "u2": {}}, "INVITE", "number", "u2"),
        ({"u1": SHY, "u2": {}, "elsewhere": {}}, "INVITE", "elsewhere", "u2"),  # from an address that is not its
        ({"u1": OWN, "u2": {}}, "INVITE", "u1", "u1"),
        ({"u1": OWN, "u2": {}}, "INVITE", "number", "u2"),  # who shares a peer under his own user gets nothing else
        ({"u1": OWN}, "INVITE", "number", "u1"),
        ({"u1": SHY, "u2": SHY}, "INVITE", "number", None),
        ({"u1": {}, "u2": {}}, "INVITE", "number", None),
        ({"u1": SHY, "u2": SHY}, "OPTIONS", "number", "u1"),
    ],
)
def test_request_of_a_shared_peer_goes_by_contact_user_then_by_who_wants_it_and_to_nobody_else(
    lines: dict[str, dict[str, bool]], method: str, user: str, gets: str | None
) -> None:
    async def scene(endpoint: Endpoint) -> None:
        for name, options in lines.items():
            line = Line(endpoint, OTHER if name == "elsewhere" else TRUNK, user=name, **options)
            endpoint.register(line)
        answer = await Phone(endpoint).ask(message(method, uri=f"sip:{user}@127.0.0.1"))
        assert answer == [200 if gets else 404]
        assert [line.contact_user for line in endpoint.trunks if line.got] == [gets] * bool(gets)

    play(scene)


def test_operators_peers_may_ring_every_trunk() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, OTHER)
        endpoint.register(line)
        assert await Phone(endpoint, TRUNK).ask(message("INVITE")) == [200]
        assert line.got == ["INVITE"]

    play(scene, peers=(TRUNK + "/32",))


def test_trunk_gets_requests_from_when_it_is_registered_until_it_is_not() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line, phone = Line(endpoint, TRUNK), Phone(endpoint)
        assert await phone.ask(message("INVITE")) == []
        endpoint.register(line)
        assert await phone.ask(message("INVITE")) == [200]
        endpoint.unregister(line)
        assert await phone.ask(message("INVITE")) == []
        assert line.got == ["INVITE"] and endpoint.guard.counters.strangers == 2

    play(scene)


def test_request_inside_a_dialog_goes_to_the_dialog() -> None:
    async def scene(endpoint: Endpoint) -> None:
        dialog, line = Line(endpoint, TRUNK), Line(endpoint, TRUNK)
        endpoint.register(line)
        endpoint.dialogs["call", "ours"] = dialog
        phone = Phone(endpoint)
        assert await phone.ask(message("BYE", call="call", tag="ours")) == [200]
        phone.send(message("ACK", call="call", tag="ours"))
        assert await phone.said() == []
        assert dialog.got == ["BYE", "ACK"]
        for method in ("BYE", "INVITE", "OPTIONS", "NOTIFY"):
            assert await phone.ask(message(method, call="call", tag="another")) == [481]
        phone.send(message("ACK", call="call", tag="another"))
        phone.send(message("ACK", call="call"))
        assert await phone.said() == []
        assert dialog.got == ["BYE", "ACK"] and line.got == []

    play(scene)


def test_dialog_hears_its_peer_though_no_trunk_lists_it() -> None:
    async def scene(endpoint: Endpoint) -> None:
        dialog, phone = Line(endpoint, OTHER), Phone(endpoint, OTHER)
        flow = await endpoint.flow(Target("udp", *phone.address))
        endpoint.attach("call", "ours", dialog, flow)
        endpoint.attach("call", "ours", dialog, flow)
        assert await phone.ask(message("BYE", call="call", tag="ours")) == [200]
        assert await phone.ask(message("INVITE")) == []
        endpoint.detach("call", "ours")
        endpoint.detach("call", "ours")
        await asyncio.sleep(1)
        assert await phone.ask(message("BYE", call="call", tag="ours")) == []
        assert endpoint.dialogs == {} and not endpoint.guard.datagram(OTHER, endpoint.now())

    play(scene)


def test_p5_request_inside_a_dialog_from_another_peer_is_481() -> None:
    async def scene(endpoint: Endpoint) -> None:
        dialog = Line(endpoint, TRUNK)
        endpoint.dialogs["call", "ours"] = dialog
        endpoint.register(Line(endpoint, TRUNK, OTHER))
        assert await Phone(endpoint, OTHER).ask(message("BYE", call="call", tag="ours")) == [481]
        assert dialog.got == []

    play(scene)


def test_stray_2xx_goes_to_its_dialog() -> None:
    async def scene(endpoint: Endpoint) -> None:
        dialog = Line(endpoint, TRUNK)
        endpoint.register(dialog)
        endpoint.dialogs["c@h", "mine"] = dialog
        phone = Phone(endpoint)
        invite = ours("INVITE")
        invite.headers.set("Via", f"SIP/2.0/UDP 127.0.0.1;branch={COOKIE}gone")
        phone.send(reply(invite, 200, to_tag="x"))
        await phone.said()
        assert dialog.strays == [200]

    play(scene)


def test_draining_refuses_new_calls_and_nothing_else() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line, dialog = Line(endpoint, TRUNK), Line(endpoint, TRUNK)
        endpoint.register(line)
        endpoint.dialogs["call", "ours"] = dialog
        endpoint.draining = True
        phone = Phone(endpoint)
        phone.send(message("INVITE"))
        (refusal,) = await phone.messages()
        assert isinstance(refusal, Response) and refusal.status == 503
        assert int(refusal.headers.get("Retry-After") or 0) > 0 and refusal.to.tag
        phone.send(message("ACK"))
        assert await phone.ask(message("INVITE", call="call", tag="ours")) == [200]
        assert await phone.ask(message("OPTIONS")) == [200]
        assert (line.got, dialog.got) == (["OPTIONS"], ["INVITE"])

    play(scene)


def test_p8_fifty_open_invites_a_credential() -> None:
    async def scene(endpoint: Endpoint) -> None:
        one, two = Line(endpoint, TRUNK), Line(endpoint, OTHER)
        one.status = 180
        endpoint.register(one)
        endpoint.register(two)
        phone = Phone(endpoint)
        for _ in range(OPEN_INVITES):
            phone.send(message("INVITE"))
        assert await phone.said() == [180] * 50
        assert await phone.ask(message("INVITE")) == [503]
        assert await Phone(endpoint, OTHER).ask(message("INVITE")) == [200]
        one.transactions[3].respond(reply(one.transactions[3].request, 486, to_tag="x"))
        phone.send(message("INVITE"))
        assert 180 in await phone.said()
        assert endpoint.guard.counters.refused_invites == 1

    play(scene)


def test_p8_answered_invite_is_open_until_its_ack() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line, phone = Line(endpoint, TRUNK), Phone(endpoint)
        endpoint.register(line)
        endpoint.dialogs["first", "ours"] = line
        for number in range(OPEN_INVITES):
            phone.send(message("INVITE", call="" if number else "first"))
        assert await phone.said() == [200] * 50
        assert await phone.ask(message("INVITE")) == [503]
        phone.send(message("ACK", call="first", tag="ours"))
        assert await phone.ask(message("INVITE")) == [200]
        assert (await phone.ask(message("INVITE")))[-1] == 503
        await asyncio.sleep(33)
        await phone.said()
        assert await phone.ask(message("INVITE")) == [200], "who never acknowledged is hung up by then"

    play(scene)


def test_p8_cancelled_invite_is_open_until_its_ack() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line, phone = Line(endpoint, TRUNK), Phone(endpoint)
        line.status = 180
        endpoint.register(line)
        invites = [message("INVITE") for _ in range(OPEN_INVITES)]
        for invite in invites:
            phone.send(invite)
        assert await phone.said() == [180] * 50
        for invite in invites:
            phone.send(for_hop_of(invite, "CANCEL"))
        said = await phone.said()
        assert (said.count(200), said.count(487)) == (50, 50)
        assert 503 in await phone.ask(message("INVITE"))
        phone.send(for_hop_of(invites[7], "ACK"))
        assert 180 in await phone.ask(message("INVITE"))

    play(scene)


def test_peer_is_found_whatever_the_size_of_his_network() -> None:
    async def scene(endpoint: Endpoint) -> None:
        wide, narrow = Line(endpoint, "192.0.2.0/24", "2001:db8::/48"), Line(endpoint, "192.0.2.16/30")
        endpoint.register(wide)
        endpoint.register(narrow)
        both = ("192.0.2.16", "192.0.2.19", "::ffff:192.0.2.17", "64:ff9b::c000:211")
        one = ("192.0.2.15", "192.0.2.20", "192.0.2.255", "2001:db8::1", "2001:db8:0:ffff::1")
        none = ("192.0.3.0", "192.0.1.255", "2001:db9::", "::192.0.2.16", "64:ff9b::c000:311")
        assert [list(endpoint.trunks.at(address)) for address in both] == [[wide, narrow]] * 4
        assert [list(endpoint.trunks.at(address)) for address in one] == [[wide]] * 5
        assert [list(endpoint.trunks.at(address)) for address in none] == [[]] * 5
        endpoint.unregister(wide)
        assert [list(endpoint.trunks.at(address)) for address in (*both, *one)] == [[narrow]] * 4 + [[]] * 5

    play(scene)


def test_exception_of_a_trunk_is_500_and_the_socket_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        endpoint.register(line)
        phone = Phone(endpoint)
        line.failure = KeyError("a bug")
        assert await phone.ask(message("INVITE")) == [500]
        line.failure = None
        phone.send(message("ACK"))
        assert await phone.ask(message("INVITE")) == [200]
        assert endpoint.guard.counters.failures == 1

    play(scene)
    assert "a bug" in caplog.text


def test_exceptions_in_callbacks_do_not_stop_other_transactions(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(endpoint: Endpoint) -> None:
        def fails(*_: Any) -> None:
            raise RuntimeError("a bug")

        failed: list[str] = []
        flow = await endpoint.flow(Target("udp", *Phone(endpoint).address))
        endpoint.request(ours("OPTIONS"), flow, on_response=fails, on_failure=fails)
        endpoint.request(ours("OPTIONS"), flow, on_response=fails, on_failure=failed.append)
        endpoint.call_later(1, fails)
        await asyncio.sleep(33)
        assert failed == ["timeout"]

    play(scene)
    assert len([record for record in caplog.records if record.exc_info]) == 2, "each is logged"


def test_cancel_reaches_who_was_invited() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        line.status = 180
        endpoint.register(line)
        phone = Phone(endpoint)
        invite = message("INVITE")
        assert await phone.ask(invite) == [180]
        cancel = message("CANCEL", call=invite.call_id)
        cancel.headers.set("Via", invite.headers.values("Via")[0])
        assert await phone.ask(cancel) == [200, 487]

    play(scene)


# --- strangers and nonsense ----------------------------------------------------------------------------------------


def test_p1_stranger_gets_no_byte_whatever_he_sends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        phone = Phone(endpoint, STRANGER)
        for method in ("OPTIONS", "REGISTER", "INVITE", "CANCEL", "BYE"):
            phone.send(message(method))
        phone.send(message("BYE", tag="x"))
        phone.send(b"REGISTER sip:127.0.0.1 SIP/2.0\r\nVia: nonsense\r\n\r\n")
        phone.send(b"\r\n\r\n")
        assert await phone.said(40) == []
        assert endpoint.guard.counters.strangers == 8 and endpoint.layer.open == 0

    play(scene)
    assert len([one for one in caplog.records if "strangers" in one.getMessage()]) == 1


def test_p1_stranger_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(endpoint: Endpoint) -> None:
        monkeypatch.setattr("anycarrier_sip.endpoint.parse", lambda data: pytest.fail("parsed"))
        phone = Phone(endpoint, STRANGER)
        phone.send(message("INVITE"))
        assert await phone.said() == []

    play(scene)


def test_p1_strangers_connection_is_closed_on_accept() -> None:
    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        reader, writer = await dial(endpoint, STRANGER)
        assert await reader.read() == b""
        writer.close()
        assert endpoint.guard.counters.stranger_connections == 1

    play(scene)


def test_p1_who_may_only_answer_us_gets_no_byte() -> None:
    async def scene(endpoint: Endpoint) -> None:
        phone, heard = Phone(endpoint, OTHER), list[int]()
        flow = await endpoint.flow(Target("udp", *phone.address))
        endpoint.request(ours("OPTIONS"), flow, on_response=lambda r: heard.append(r.status), on_failure=heard.append)
        (asked,) = await phone.messages()
        assert isinstance(asked, Request)
        assert await phone.ask(message("INVITE")) == []
        endpoint.dialogs["call", "ours"] = Line(endpoint, TRUNK)
        assert await phone.ask(message("BYE", call="call", tag="ours")) == []
        assert endpoint.guard.counters.strangers == 2
        phone.send(b"INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\nCSeq: nonsense\r\n\r\n")
        assert await phone.said() == []
        phone.send(reply(asked, 200, to_tag="x"))
        await phone.said()
        assert heard == [200]

    play(scene)


def test_p2_with_softphones_strangers_may_register_and_invite_only() -> None:
    async def scene(endpoint: Endpoint) -> None:
        registrar, trunk = Line(endpoint, anyone=True), Line(endpoint, TRUNK)
        registrar.status = 401
        endpoint.register(registrar)
        endpoint.register(trunk)
        phone = Phone(endpoint, STRANGER)
        assert await phone.ask(message("REGISTER")) == [401]
        assert await phone.ask(message("INVITE")) == [401]
        for method in ("OPTIONS", "BYE", "INFO", "MESSAGE", "NOTIFY", "CANCEL"):
            assert await phone.ask(message(method)) == []
        inside = message("INVITE")
        inside.headers.set("To", "<sip:x@127.0.0.1>;tag=guessed")
        assert await phone.ask(inside) == []
        for _ in range(3):
            endpoint.guard.wrong_answer(STRANGER, "x", endpoint.now())
        assert await phone.ask(message("REGISTER")) == []
        assert registrar.got == ["REGISTER", "INVITE"] and trunk.got == []

    play(scene, softphones=True)


def test_refusals_and_cancels_of_softphones_are_finished() -> None:
    async def scene(endpoint: Endpoint) -> None:
        registrar = Line(endpoint, anyone=True)
        endpoint.register(registrar)
        phone = Phone(endpoint, STRANGER)
        registrar.status = 486
        invite, ack = message("INVITE"), message("ACK")
        ack.headers.set("Via", invite.headers.values("Via")[0])
        assert await phone.ask(invite) == [486]
        phone.send(ack)
        assert await phone.said(40) == []
        registrar.status = 180
        invite, cancel = message("INVITE"), message("CANCEL")
        cancel.headers.set("Via", invite.headers.values("Via")[0])
        assert await phone.ask(invite) == [180]
        assert await phone.ask(cancel) == [200, 487]

    play(scene, softphones=True)


def test_malformed_requests_of_peers_are_refused_and_those_of_others_are_not() -> None:
    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        bad = message("OPTIONS").encode().replace(b"CSeq: 1 OPTIONS", b"CSeq: one OPTIONS")
        for address, answer in ((TRUNK, [400]), (STRANGER, [])):
            phone = Phone(endpoint, address)
            phone.send(bad.replace(b"127.0.0.9;rport", f"127.0.0.9:{phone.address[1]};rport".encode()))
            assert await phone.said() == answer
            for count, nothing in ((1, b"\0" * 100), (0, b"\r\n\r\n"), (0, b"\r\n"), (1, b"")):
                before = endpoint.guard.counters.malformed
                phone.send(nothing)
                assert await phone.said() == []
                assert endpoint.guard.counters.malformed == before + count

    play(scene, softphones=True)


def test_p8_more_than_a_thousand_datagrams_a_second_are_dropped() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        endpoint.register(line)
        phone = Phone(endpoint)
        for _ in range(30):
            for _ in range(40):
                phone.send(message("ACK"))
            await asyncio.sleep(0.001)
        assert endpoint.guard.counters.over_rate == 200
        await asyncio.sleep(1)
        assert 200 in await phone.ask(message("OPTIONS"))

    play(scene)


def test_endpoint_survives_ten_thousand_fuzzed_datagrams() -> None:
    lots = random.Random(14)

    def fuzzed() -> bytes:
        data = bytearray(message(lots.choice(("INVITE", "OPTIONS", "ACK", "BYE", "CANCEL", "REGISTER"))).encode())
        if lots.random() < 0.3:
            data = bytearray(reply(message("INVITE"), lots.randrange(100, 700)).encode())
        for _ in range(lots.randrange(1, 4)):
            kind, at = lots.randrange(12), lots.randrange(len(data))
            if kind < 8:
                data[at] = lots.choice(b"abz019.;=") if kind else lots.randrange(256)
            elif kind < 10:
                del data[at : at + lots.randrange(1, 30)]
            elif kind == 10:
                data[at:at] = lots.choice((b"\r\n", b"\0", b'"', b"<", b";", b",", b"%", b"\xff", b":" * 50, data[:at]))
            else:
                data = data[: max(1, at)]
            data = data[:9000] or bytearray(b"x")
        return bytes(data)

    async def scene(endpoint: Endpoint) -> None:
        line, dialog = Line(endpoint, TRUNK), Line(endpoint, TRUNK)
        endpoint.register(line)
        endpoint.dialogs["call", "ours"] = dialog
        phone = Phone(endpoint)
        for _ in range(500):
            for _ in range(20):
                phone.send(fuzzed())
            await phone.said()
        assert endpoint.guard.counters.failures == 0 and endpoint.guard.counters.over_rate == 0
        assert endpoint.guard.counters.malformed > 1000 and len(line.got) > 300
        await asyncio.sleep(40)
        await phone.said()
        assert await phone.ask(message("OPTIONS")) == [200]
        await asyncio.sleep(40)
        assert endpoint.layer.open == 0

    play(scene)


# --- TCP -----------------------------------------------------------------------------------------------------------


async def dial(endpoint: Endpoint, address: str = TRUNK) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*endpoint.addresses["tcp"], local_addr=(address, 0))


async def answers(reader: asyncio.StreamReader, count: int = 1) -> list[int]:
    cut, found = StreamReader(), list[int]()
    while len(found) < count:
        async with asyncio.timeout(30):
            data = await reader.read(65536)
        assert data, "closed"
        found += [message.status for one in cut.feed(data) if isinstance(message := parse(one), Response)]
    return found


def test_tcp_messages_are_cut_by_their_length_however_they_arrive() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        endpoint.register(line)
        reader, writer = await dial(endpoint)
        first, second = message("OPTIONS"), message("OPTIONS")
        first.body = b"\r\n\r\nOPTIONS sip:x SIP/2.0\r\n"
        data = first.encode() + b"\r\n\r\n" + second.encode()
        for at in range(0, len(data), 97):
            writer.write(data[at : at + 97])
            await asyncio.sleep(0.01)
        received = b""
        while received.count(b"SIP/2.0 200") < 2:
            received += await reader.read(65536)
        assert b"\r\n\r\n\r\nSIP/2.0 200" in received  # the ping was answered by CRLF, between the two
        assert line.got == ["OPTIONS"] * 2
        writer.close()

    play(scene)


def test_tcp_stream_that_cannot_be_followed_is_cut() -> None:
    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        assert endpoint.guard.counters.closed_connections == 0
        for nonsense in (b"OPTIONS sip:x SIP/2.0\r\nVia: x\r\n\r\n", b"x" * 70000):
            reader, writer = await dial(endpoint)
            writer.write(nonsense)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b"", "nothing is said"
            writer.close()
        await asyncio.sleep(0)
        assert endpoint.guard.counters.closed_connections == 2

    play(scene)


def test_peer_that_does_not_read_is_cut_off() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        endpoint.register(line)
        reader, writer = await dial(endpoint)
        writer.write(message("OPTIONS").encode())
        assert await answers(reader) == [200]
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        flow = line.transactions[0].flow

        def flood() -> None:
            for _ in range(1000):
                endpoint.transport.send(b"x" * 65536, flow)

        with pytest.raises(ConnectionError, match="does not read"):
            flood()
        with pytest.raises(ConnectionError):
            endpoint.transport.send(b"x", flow)
        await asyncio.sleep(0.01)
        assert not endpoint.alive(flow)
        writer.close()

    play(scene)


def test_p8_ten_seconds_for_a_first_whole_message() -> None:
    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        began = endpoint.now()
        slow, writer = await dial(endpoint)
        pings, pinging = await dial(endpoint)
        for _ in range(9):
            writer.write(b"O")
            pinging.write(b"\r\n\r\n")
            await asyncio.sleep(1)
        assert endpoint.now() - began < 9.5
        assert await slow.read() == b"" and 9.9 < endpoint.now() - began < 10.5
        assert await pings.read() == b"\r\n" * 9 and endpoint.now() - began < 10.5
        writer.close()
        pinging.close()

    play(scene)


def test_p8_sixty_seconds_idle_without_a_dialog() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK)
        endpoint.register(line)
        reader, writer = await dial(endpoint)
        writer.write(message("OPTIONS").encode())
        assert await answers(reader) == [200]
        await asyncio.sleep(50)
        writer.write(message("OPTIONS").encode())
        assert await answers(reader) == [200]
        flow = line.transactions[-1].flow
        endpoint.attach("call", "ours", line, flow)
        await asyncio.sleep(300)
        assert endpoint.alive(flow)
        endpoint.detach("call", "ours")
        began = endpoint.now()
        assert await reader.read() == b"" and endpoint.now() - began < 61
        assert not endpoint.alive(flow)
        with pytest.raises(ConnectionError):
            endpoint.transport.send(b"x", flow)
        writer.close()

    play(scene)


def test_p8_a_hundred_connections_at_a_time() -> None:
    async def scene(endpoint: Endpoint) -> None:
        peers = (TRUNK, "127.0.0.20", OTHER, "127.0.0.30")
        endpoint.register(Line(endpoint, *peers[:2]))
        endpoint.register(Line(endpoint, *peers[2:]))
        writers = [(await dial(endpoint, peers[number % 4]))[1] for number in range(100)]
        await asyncio.sleep(0.1)
        reader, refused = await dial(endpoint)
        assert await reader.read() == b"" and endpoint.guard.counters.refused_connections == 1
        refused.close()
        writers.pop(0).close()
        await asyncio.sleep(0.1)
        reader, writer = await dial(endpoint)
        writer.write(message("OPTIONS").encode())
        assert await answers(reader) == [200]
        for one in (*writers, writer):
            one.close()

    play(scene)


def test_p8_stranger_cannot_keep_more_than_ten_connections_nor_those_by_talking() -> None:
    async def scene(endpoint: Endpoint) -> None:
        line = Line(endpoint, TRUNK, anyone=True)
        line.status = 401
        endpoint.register(line)
        held = [await dial(endpoint, STRANGER) for _ in range(10)]
        await asyncio.sleep(0.1)
        reader, eleventh = await dial(endpoint, STRANGER)
        assert await reader.read() == b"" and endpoint.guard.counters.refused_connections == 1
        eleventh.close()
        known, peer = await dial(endpoint)
        talking = (*(writer for _, writer in held), peer)
        for second in range(58):
            if second % 9 == 0:
                for writer in talking:
                    writer.write(message("REGISTER").encode())
            await asyncio.sleep(1)
        endpoint.hold(line.transactions[0].flow)  # he has logged in
        await asyncio.sleep(4)
        assert [one.held for one in endpoint.transport.connections.values()] == [1, 0]
        assert (await answers(known))[-1] == 401
        for writer in talking:
            writer.close()

    play(scene, softphones=True)


def test_p1_who_speaks_from_many_addresses_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.trunks.REMEMBERED", 50)

    async def scene(endpoint: Endpoint) -> None:
        endpoint.register(Line(endpoint, TRUNK))
        for number in range(70):
            assert not endpoint.guard.datagram(f"10.0.0.{number}", 5)
        assert endpoint.trunks.at.cache_info().currsize == 50

    play(scene)


# --- ICMP ----------------------------------------------------------------------------------------------------------


async def nobody(endpoint: Endpoint) -> Flow:
    """The way to a port where nobody listens."""
    closed = Phone(endpoint)
    closed.sock.close()
    return await endpoint.flow(Target("udp", *closed.address))


async def hears_that_nobody_listens_and_goes_on(endpoint: Endpoint) -> None:
    line, phone, heard = Line(endpoint, TRUNK), Phone(endpoint), list[Any]()
    endpoint.register(line)
    flow, began = await nobody(endpoint), endpoint.now()
    requests = [("INVITE", flow), ("INFO", await endpoint.flow(Target("udp", *phone.address)))]
    for _ in range(2):
        for method, to in requests:
            endpoint.request(ours(method), to, on_response=heard.append, on_failure=heard.append)
        requests.reverse()  # the error comes with the next that is sent, or by itself
        while not heard and endpoint.now() < began + 3:
            await asyncio.sleep(0.01)
        assert heard.pop() == "transport" and endpoint.resolver.resting(Target("udp", *flow.remote))
        assert await phone.ask(message("OPTIONS")) == ["INFO", 200], "sent, and read"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what datagrams an error is about")
def test_request_to_a_udp_port_where_nobody_listens_fails_at_once() -> None:
    play(hears_that_nobody_listens_and_goes_on)


async def takes_errors_that_nothing_is_told_about(endpoint: Endpoint) -> None:
    endpoint.register(Line(endpoint, TRUNK))
    stranger, phone, flow = Phone(endpoint, STRANGER), Phone(endpoint), await nobody(endpoint)
    (sock,) = endpoint.transport._udp.values()
    for _ in range(3):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for size in (500, 1) * 500:
            stranger.send(b"x" * size)  # until nothing fits in, errors neither
        endpoint.transport.send(b"OPTIONS", flow)
        await asyncio.sleep(0.05)
        assert await phone.ask(message("OPTIONS")) == [200]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what datagrams an error is about")
@pytest.mark.parametrize("scene", [hears_that_nobody_listens_and_goes_on, takes_errors_that_nothing_is_told_about])
def test_socket_goes_on_after_an_error_on_uvloop(scene: Scene) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def run() -> None:
        endpoint = await Endpoint.open(SipSettings(listen=BOTH))
        await scene(endpoint)
        await endpoint.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    while Phone.bound:
        Phone.bound.pop().close()


def test_connection_of_ours_is_closed_when_idle_and_not_before() -> None:
    async def scene(endpoint: Endpoint) -> None:
        far = list[asyncio.StreamWriter]()
        server = await asyncio.start_server(lambda reader, writer: far.append(writer), TRUNK, 0)
        flow = await endpoint.flow(Target("tcp", *server.sockets[0].getsockname()[:2]))
        for _ in range(3):
            await asyncio.sleep(50)
            assert endpoint.alive(flow), "it was used"
            endpoint.transport.send(b"\r\n\r\n", flow)
        await asyncio.sleep(61)
        assert not endpoint.alive(flow)
        server.close()
        far[0].close()
        await asyncio.sleep(0.01)

    play(scene)


def test_tcp_connection_is_opened_once_reused_and_opened_again_after_a_loss() -> None:
    async def scene(endpoint: Endpoint) -> None:
        far = await Endpoint.open(SipSettings(listen=("tcp:127.0.0.1:0",)))
        far.register(Line(far, "127.0.0.1"))
        target = Target("tcp", *far.addresses["tcp"])
        one, two = await asyncio.gather(endpoint.flow(target), endpoint.flow(target))
        assert one == two == await endpoint.flow(target)
        heard: list[Any] = []
        endpoint.losses.append(heard.append)
        done = lambda response: heard.append(response.status)  # noqa: E731
        endpoint.request(ours("OPTIONS"), one, on_response=done, on_failure=heard.append)
        await asyncio.sleep(0.1)
        far.trunks[0].status = 0
        endpoint.request(ours("INFO"), one, on_response=done, on_failure=heard.append)
        await asyncio.sleep(0.1)
        endpoint.hold(one)
        far.hold(far.trunks[0].transactions[0].flow)
        await asyncio.sleep(1000)
        assert endpoint.alive(one), "needed on both sides"
        endpoint.release(one)
        await asyncio.sleep(61)
        assert not endpoint.alive(one), "idle"
        again = await endpoint.flow(target)
        assert again != one
        await far.aclose()
        await asyncio.sleep(0.1)
        assert heard == [200, "timeout", one, again]
        with pytest.raises(ConnectionError, match="no connection to tcp:127"):
            await endpoint.flow(target)

    play(scene)


def test_no_address_has_us_open_connections_without_end() -> None:
    async def scene(endpoint: Endpoint) -> None:
        far = list[asyncio.StreamWriter]()
        server = await asyncio.start_server(lambda reader, writer: far.append(writer), TRUNK, 0)
        address = server.sockets[0].getsockname()[:2]
        for number in range(50):
            await endpoint.flow(Target("tcp", *address, f"name{number}.example"))
        with pytest.raises(ConnectionError, match=r"127\.0\.0\.2 has as many connections of ours as one address may"):
            await endpoint.flow(Target("tcp", *address, "name50.example"))
        assert await endpoint.flow(Target("tcp", *address, "name7.example"))
        server.close()
        for writer in far:
            writer.close()
        await asyncio.sleep(0.1)

    play(scene)


def test_lost_connection_fails_what_waits_on_it() -> None:
    async def scene(endpoint: Endpoint) -> None:
        far = await Endpoint.open(SipSettings(listen=("tcp:127.0.0.1:0",)))
        silent = Line(far, "127.0.0.1")
        silent.status = 0
        far.register(silent)
        heard: list[str] = []
        flow = await endpoint.flow(Target("tcp", *far.addresses["tcp"]))
        endpoint.request(ours("INVITE"), flow, on_response=lambda r: None, on_failure=heard.append)
        await asyncio.sleep(0.1)
        await far.aclose()
        await asyncio.sleep(0.1)
        assert heard == ["transport"]

    play(scene)


def test_large_requests_go_by_tcp_where_the_peer_has_it() -> None:
    async def scene(endpoint: Endpoint) -> None:
        far = await Endpoint.open(SipSettings(listen=("udp:127.0.0.1:0",)))
        target = Target("udp", *far.addresses["udp"])
        assert (await endpoint.flow(target, 1300)).transport == "udp"
        assert (await endpoint.flow(target, 1301)).transport == "udp", "nobody listens"
        server = await asyncio.start_server(lambda reader, writer: writer.close(), *far.addresses["udp"])
        assert (await endpoint.flow(target, 1301)).transport == "udp", "not asked again for a while"
        await asyncio.sleep(301)
        assert (await endpoint.flow(target, 1300)).transport == "udp"
        assert (await endpoint.flow(target, 1301)).transport == "tcp"
        server.close()
        await far.aclose()

    play(scene)


# --- who rests -----------------------------------------------------------------------------------------------------


def test_target_that_gives_nothing_or_503_comes_last_until_it_answers() -> None:
    async def scene(endpoint: Endpoint) -> None:
        phone, heard = Phone(endpoint), list[Any]()
        target = Target("udp", *phone.address)

        async def ask(method: str, *answers: int, retry_after: str = "") -> None:
            transaction = endpoint.request(
                ours(method), await endpoint.flow(target), timeout=4,
                on_response=lambda response: heard.append(response.status), on_failure=heard.append,
            )  # fmt: skip
            for status in answers:
                response = reply(transaction.request, status, to_tag="x")
                if retry_after:
                    response.headers.set("Retry-After", retry_after)
                phone.send(response)
            await asyncio.sleep(5)

        await ask("OPTIONS")
        assert heard.pop() == "timeout" and endpoint.resolver.resting(target)
        await ask("OPTIONS", 404)
        assert heard.pop() == 404 and not endpoint.resolver.resting(target)
        await ask("OPTIONS", 503)
        await asyncio.sleep(24)
        assert endpoint.resolver.resting(target)
        await asyncio.sleep(2)
        assert not endpoint.resolver.resting(target)
        await ask("OPTIONS", 503, retry_after="120 (maintenance)")
        await asyncio.sleep(100)
        assert endpoint.resolver.resting(target)
        await asyncio.sleep(20)
        assert not endpoint.resolver.resting(target)
        await ask("OPTIONS", 503, retry_after="999999")
        await asyncio.sleep(600)
        assert not endpoint.resolver.resting(target)
        await ask("OPTIONS", 100)
        assert heard[-1] == "timeout" and not endpoint.resolver.resting(target), "it was heard"

    play(scene)


def test_target_that_refuses_connections_comes_last() -> None:
    async def scene(endpoint: Endpoint) -> None:
        target = Target("tcp", "127.0.0.1", endpoint.addresses["udp"][1])
        with pytest.raises(ConnectionError):
            await endpoint.flow(target)
        assert endpoint.resolver.resting(target)

    play(scene)


# --- opening and closing -------------------------------------------------------------------------------------------


def test_bind_that_fails_names_address_and_port_and_closes_what_was_opened() -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    port = taken.getsockname()[1]

    async def run() -> None:
        free = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        free.bind(("127.0.0.1", 0))
        other = free.getsockname()[1]
        free.close()
        names = rf"sip cannot listen on tcp:127\.0\.0\.1:{port}: .*in use.*Free"
        with pytest.raises(ConfigurationError, match=names) as no:
            await Endpoint.open(SipSettings(listen=(f"udp:127.0.0.1:{other}", f"tcp:127.0.0.1:{port}")))
        assert isinstance(no.value.__cause__, OSError)
        again = await Endpoint.open(SipSettings(listen=(f"udp:127.0.0.1:{other}",)))
        await again.aclose()

    virtually(run())
    taken.close()


def test_contact_and_via_name_the_public_address_and_the_socket_that_listens() -> None:
    async def scene(endpoint: Endpoint) -> None:
        udp, tcp = endpoint.addresses["udp"], endpoint.addresses["tcp"]
        flow = await endpoint.flow(Target("udp", TRUNK, 5060))
        assert endpoint.contact(flow, "u") == f"<sip:u@192.0.2.10:{udp[1]}>"
        connection = Flow("tcp", ("127.0.0.1", 40000), (TRUNK, 5060), 3)
        assert endpoint.contact(connection, "u") == f"<sip:u@192.0.2.10:{tcp[1]};transport=tcp>"
        six = Flow("udp", ("2001:db8::1", 5060), ("2001:db8::2", 5060))
        endpoint.settings = SipSettings()
        assert endpoint.contact(six, "u") == "<sip:u@[2001:db8::1]:5060>"
        endpoint.settings = SipSettings(public_address="192.0.2.10")
        phone = Phone(endpoint)
        flow = await endpoint.flow(Target("udp", *phone.address))
        endpoint.request(ours("OPTIONS"), flow, on_response=lambda r: None, on_failure=lambda why: None)
        (asked,) = await phone.messages()
        assert (asked.via.host, asked.via.port) == ("192.0.2.10", udp[1])

    play(scene, public_address="192.0.2.10")


def test_udp_flow_needs_a_socket_of_its_family() -> None:
    async def scene(endpoint: Endpoint) -> None:
        with pytest.raises(ConnectionError, match="no UDP socket for udp:"):
            await endpoint.flow(Target("udp", "::1", 5060))
        with pytest.raises(SipError):
            parse(b"")

    play(scene)


def test_nothing_is_sent_after_closing() -> None:
    async def run() -> None:
        endpoint = await Endpoint.open(SipSettings())
        flow = await endpoint.flow(Target("udp", TRUNK, 9))
        endpoint.request(ours("INVITE"), flow, on_response=lambda r: None, on_failure=lambda why: None)
        await endpoint.aclose()
        await asyncio.sleep(40)
        with pytest.raises(ConnectionError):
            endpoint.transport.send(b"x", flow)

    virtually(run())
