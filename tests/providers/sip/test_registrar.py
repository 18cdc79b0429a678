"""Softphones that register with us, callers that are challenged, and trunks that share a network (P2, P11)."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from anycarrier.errors import ConfigurationError, RequestRejected
from anycarrier_sip.credential import SipCredential
from anycarrier_sip.message import Headers, Request, Response, parse
from anycarrier_sip.registrar import Registrar, admit
from anycarrier_sip.transaction import Flow, ServerTransaction
from anycarrier_sip.trunks import refuse_overlap
from sip_wire import HERE, OneTrunk, Wire, md5, on_a_wire

USERS = [
    {"name": "alice", "password": "swordfish", "number": "+14155550111"},
    {"name": "Bob", "password": "пароль"},
]
SOFTPHONES = SipCredential(preset="softphones", users=USERS)


class Softphones(OneTrunk):
    """A trunk that lets a registrar answer."""

    from_anywhere = challenges = True
    registrar: Registrar

    def __init__(self, wire: Wire) -> None:
        super().__init__(SOFTPHONES)
        self.wire = wire
        self.registrar = Registrar(wire.endpoint, SOFTPHONES.users)
        self.callers: list[str] = []

    def recognizes(self, request: Any, flow: Flow) -> bool:
        return self.registrar.recognizes(request, flow)

    def requested(self, transaction: ServerTransaction) -> None:
        self.registrar.register(transaction)

    def invited(self, transaction: ServerTransaction) -> None:
        if (user := self.registrar.caller(transaction)) is not None:
            self.callers.append(user.name)


class Phone:
    """A telephone somewhere, as RFC 3261 and 7616 have it; digests are computed here."""

    branches = itertools.count(1)

    def __init__(
        self,
        wire: Wire,
        name: str = "alice",
        password: str = "swordfish",
        address: str = "203.0.113.5",
        port: int = 5062,
    ) -> None:
        self.wire = wire
        self.name, self.password = name, password
        self.flow = Flow("udp", HERE, (address, port))
        self.cseq = itertools.count(1)
        self.call_id = f"{name}@{address}"
        self.contact = f"<sip:{name}@10.0.0.2:5062>"

    def send(self, method: str, *headers: str, name: str | None = None, cseq: int | None = None) -> list[Response]:
        """Send it; what came back at once."""
        user = name or self.name
        number = next(self.cseq) if cseq is None else cseq
        lines = [
            f"{method} sip:192.0.2.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 10.0.0.2:5062;rport;branch=z9hG4bK{next(self.branches)}",
            f"From: <sip:{user}@192.0.2.1>;tag=t", f"To: <sip:{user}@192.0.2.1>", f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}", *headers, "Content-Length: 0", "", "",
        ]  # fmt: skip
        before = len(self.wire.sent)
        self.wire.endpoint._received("\r\n".join(lines).encode(), self.flow)
        return [self._read(data, flow) for _, data, flow in self.wire.sent[before:]]

    def _read(self, data: bytes, flow: Flow) -> Response:
        assert flow.remote == self.flow.remote, "answers go where the request came from"
        response = parse(data)
        assert isinstance(response, Response)
        return response

    def authorization(self, challenge: str, method: str, *, count: int = 1, uri: str = "sip:192.0.2.1") -> str:
        nonce = re.search('nonce="([^"]*)"', challenge)
        assert nonce
        ours, theirs = md5(f"{self.name}:anycarrier:{self.password}"), md5(f"{method}:{uri}")
        nc = f"{count:08x}"
        answer = md5(f"{ours}:{nonce[1]}:{nc}:c:auth:{theirs}")
        return (
            f'Authorization: Digest username="{self.name}", realm="anycarrier", nonce="{nonce[1]}", uri="{uri}", '
            f'response="{answer}", algorithm=MD5, qop=auth, nc={nc}, cnonce="c"'
        )

    def challenged(self, method: str = "REGISTER", *headers: str) -> str:
        [response] = self.send(method, *headers)
        assert response.status == 401
        return next(one for one in response.headers.lines("WWW-Authenticate") if "algorithm=MD5" in one)

    def register(self, *headers: str, expires: int = 600, **given: Any) -> Response:
        headers = headers or (f"Contact: {self.contact}", f"Expires: {expires}")
        login = self.authorization(self.challenged("REGISTER"), "REGISTER")
        [response] = self.send("REGISTER", login, *headers, **given)
        return response

    def guess(self) -> list[Response]:
        return self.send("REGISTER", self.authorization(self.challenged(), "REGISTER"), f"Contact: {self.contact}")


def on_softphones(play: Callable[[Wire, Softphones], Awaitable[None]], **settings: Any) -> None:
    async def run(wire: Wire, unused: OneTrunk) -> None:
        wire.endpoint.unregister(unused)
        trunk = Softphones(wire)
        wire.endpoint.register(trunk)
        await play(wire, trunk)
        trunk.registrar.close()
        assert not wire.held
        assert not wire.endpoint.losses

    on_a_wire(run, SOFTPHONES, lambda request, flow: None, softphones=True, **settings)


def test_a_challenge_is_md5_unless_the_operator_wants_more() -> None:
    """baresip 1.0 gives up where it sees SHA-256 beside it."""
    seen: list[list[str]] = []

    async def play(wire: Wire, trunk: Softphones) -> None:
        [response] = Phone(wire).send("REGISTER")
        challenges = response.headers.lines("WWW-Authenticate")
        seen.append([found[1] for one in challenges if (found := re.search(r"algorithm=([\w-]+)", one))])

    on_softphones(play)
    on_softphones(play, digest_algorithms=("SHA-256", "MD5"))
    assert seen == [["MD5"], ["SHA-256", "MD5"]]


def test_a_phone_registers_and_is_rung_where_it_registered_from() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        answer = phone.register(expires=600)
        assert (answer.status, answer.headers.values("Contact")) == (200, ["<sip:alice@10.0.0.2:5062>;expires=600"])
        for to in ("+14155550111", "sip:alice@anything.example", "sip:ALICE@anything.example"):
            [(uri, flow)] = trunk.registrar.ways(to)
            assert (str(uri), flow.remote) == ("sip:alice@10.0.0.2:5062", ("203.0.113.5", 5062))
        assert trunk.registrar.registered() == {"alice": ["udp:203.0.113.5:5062"], "bob": []}
        assert wire.endpoint.layer.open == 0, "no request is kept"

    on_softphones(play)


def test_a_password_of_any_letters_and_a_name_of_any_case() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        assert Phone(wire, "bob", "пароль").register().status == 200

    on_softphones(play)


def test_who_is_not_registered_or_not_ours_cannot_be_called() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        with pytest.raises(RequestRejected, match="no phone is registered as 'alice'"):
            trunk.registrar.ways("+14155550111")
        for to in ("+14155550199", "sip:mallory@192.0.2.1"):
            with pytest.raises(RequestRejected, match="no softphone has this number or name"):
                trunk.registrar.ways(to)

    on_softphones(play)


def test_a_registration_ends_by_itself_or_when_the_phone_says_so() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        phone.register(expires=100)
        await asyncio.sleep(99)
        assert trunk.registrar.ways("+14155550111")
        assert wire.held
        await asyncio.sleep(2)
        assert not wire.held
        assert trunk.registrar.registered()["alice"] == []
        phone.register()
        assert phone.register(expires=0).headers.values("Contact") == []
        phone.register()
        assert phone.register("Contact: *", "Expires: 0").status == 200
        assert trunk.registrar.registered()["alice"] == []
        assert phone.register("Contact: *").status == 400

    on_softphones(play)


def test_more_contacts_than_a_user_may_have_are_refused_before_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        contacts = [f"Contact: <sip:alice@10.0.0.2:{5060 + number}>" for number in range(6)]
        phone = Phone(wire)
        assert phone.register(*contacts[:5]).status == 200
        monkeypatch.setattr("anycarrier_sip.registrar.NameAddr", None)
        assert phone.register(*contacts).status == 403
        assert len(trunk.registrar.registered()["alice"]) == 5

    on_softphones(play)


def test_refreshes_leave_no_timers() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        for _ in range(20):
            assert phone.register().status == 200
            await asyncio.sleep(1)
        timers = [one for one in wire.endpoint.loop._scheduled if not one.cancelled()]  # type: ignore[attr-defined]
        assert len(timers) <= 1

    on_softphones(play)


def test_several_phones_of_one_user_the_newest_first_and_not_without_end() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        for number in range(7):
            phone = Phone(wire, port=6000 + number)
            phone.contact = f"<sip:alice@10.0.0.{number}>"
            phone.call_id = f"c{number}"
            phone.register()
        assert [str(uri) for uri, _ in trunk.registrar.ways("+14155550111")] == [
            f"sip:alice@10.0.0.{number}" for number in (6, 5, 4, 3, 2)
        ]
        phone.register()
        assert len(trunk.registrar.ways("+14155550111")) == 5, "a refresh is no new phone"

    on_softphones(play)


def test_a_registration_too_short_is_told_the_least_and_one_too_long_is_cut() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        refused = phone.register(expires=30)
        assert (refused.status, refused.headers.get("Min-Expires")) == (423, "60")
        assert phone.register(expires=86400).headers.values("Contact") == ["<sip:alice@10.0.0.2:5062>;expires=3600"]
        contact = phone.register(f"Contact: {phone.contact};expires=120", "Expires: 900").headers.values("Contact")
        assert contact == ["<sip:alice@10.0.0.2:5062>;expires=120"]

    on_softphones(play)


def test_an_old_register_that_comes_late_changes_nothing() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        login = phone.authorization(phone.challenged(), "REGISTER")
        phone.send("REGISTER", login, f"Contact: {phone.contact}", "Expires: 600", cseq=50)
        late = phone.authorization(phone.challenged(), "REGISTER")
        [response] = phone.send("REGISTER", late, f"Contact: {phone.contact}", "Expires: 0", cseq=40)
        assert response.status == 500
        assert trunk.registrar.ways("+14155550111")

    on_softphones(play)


def test_a_phone_is_known_by_its_login_or_where_it_registered_from() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone, other = Phone(wire), Phone(wire, "carol")
        recognizes = trunk.registrar.recognizes
        plain = invite()
        assert not recognizes(plain, phone.flow)
        phone.register()
        assert recognizes(plain, phone.flow)
        assert not recognizes(plain, Phone(wire, port=1).flow)
        for one, known in ((phone, True), (other, False)):
            login = one.authorization('nonce="x"', "INVITE").partition(": ")[2]
            assert recognizes(invite(login), Phone(wire, port=1).flow) is known

    on_softphones(play)


def invite(login: str | None = None) -> Request:
    headers = Headers([("From", "<sip:x@y>;tag=1"), ("To", "<sip:x@y>")])
    if login is not None:
        headers.add("Authorization", login)
    return Request("INVITE", "sip:x@y", headers)


def test_a_user_registers_nobody_elses_phone() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        assert phone.register(name="bob").status == 403
        assert phone.register("Contact: <tel:+14155550199>").status == 400
        assert trunk.registrar.registered() == {"alice": [], "bob": []}

    on_softphones(play)


def test_a_phone_whose_connection_ends_is_forgotten() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        phone.flow = Flow("tcp", HERE, ("203.0.113.5", 41000), 7)
        wire._connections[phone] = phone.flow  # type: ignore[index]
        phone.register()
        assert trunk.registrar.registered()["alice"] == ["tcp:203.0.113.5:41000"]
        wire.cut()
        await asyncio.sleep(0)
        assert trunk.registrar.registered()["alice"] == []

    on_softphones(play)


def test_p2_a_call_is_challenged_too_and_then_is_the_users() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        phone.register()
        login = phone.authorization(phone.challenged("INVITE"), "INVITE")
        assert trunk.callers == []
        phone.send("INVITE", login, f"Contact: {phone.contact}")
        assert trunk.callers == ["alice"]

    on_softphones(play)


def test_p2_a_challenge_is_sent_once_and_nothing_is_kept_of_it() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        phone = Phone(wire)
        for method in ("INVITE", "REGISTER"):
            phone.challenged(method)
        assert wire.endpoint.layer.open == 0
        sent = len(wire.sent)
        await asyncio.sleep(60)
        assert len(wire.sent) == sent, "no repeat, no 100"

    on_softphones(play)


def test_p2_at_most_ten_challenges_a_second_an_address() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        await asyncio.sleep(0.5)
        phone, other = Phone(wire), Phone(wire, address="203.0.113.6")
        answers = [len(phone.send("INVITE")) for _ in range(40)]
        assert answers == [1] * 10 + [0] * 30
        assert len(other.send("INVITE")) == 1
        await asyncio.sleep(1)
        assert len(phone.send("REGISTER")) == 1
        assert wire.endpoint.layer.open == 0
        await asyncio.sleep(60)
        assert len(wire.sent) == 12

    on_softphones(play)


def test_p2_three_wrong_answers_are_ten_minutes_of_silence() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        wrong, right = Phone(wire, password="guess"), Phone(wire, address="203.0.113.6")
        answers = []
        for _ in range(3):
            await asyncio.sleep(1)
            login = wrong.authorization(wrong.challenged(), "REGISTER")
            answers += [[one.status for one in wrong.send("REGISTER", login, f"Contact: {wrong.contact}")]]
        assert answers == [[401], [401], []]
        wrong.password = "swordfish"
        await asyncio.sleep(590)
        assert not wire.endpoint.guard.datagram("203.0.113.5", wire.endpoint.now())
        assert right.register().status == 200
        await asyncio.sleep(11)
        assert wire.endpoint.guard.datagram("203.0.113.5", wire.endpoint.now())
        assert wrong.register().status == 200

    on_softphones(play)


def test_p2_a_right_answer_forgives_the_mistakes_of_its_own_name_and_no_others() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        nobody, alice = Phone(wire, "carol"), Phone(wire)
        for _ in range(4):
            alice.password = "typo"
            await asyncio.sleep(1)
            assert alice.register().status == 401
            alice.password = "swordfish"
            assert alice.register().status == 200
        for left in (2, 1, 0):
            await asyncio.sleep(1)
            assert alice.register().status == 200
            assert len(nobody.guess()) == bool(left)
        assert wire.endpoint.guard.counters.wrong_answers == 7, "an unknown name is a wrong answer"
        assert alice.send("REGISTER") == [], "who guesses has a telephone of his own, too"

    on_softphones(play)


def test_p2_a_network_of_ipv6_is_one_guesser() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        for left in (2, 1, 0):
            await asyncio.sleep(1)
            assert len(Phone(wire, password="guess", address=f"2001:db8::{left + 1}").guess()) == bool(left)
        assert Phone(wire, address="2001:db8::9").send("REGISTER") == []
        assert Phone(wire, address="2001:db8:0:1::9").register().status == 200

    on_softphones(play)


def test_p2_an_answer_made_for_another_address_is_worth_nothing() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        alice, thief = Phone(wire), Phone(wire, address="203.0.113.66")
        login = alice.authorization(alice.challenged(), "REGISTER")
        [response] = thief.send("REGISTER", login, f"Contact: {thief.contact}")
        assert response.status == 401
        assert "stale=true" in (response.headers.get("WWW-Authenticate") or "")
        assert trunk.registrar.registered()["alice"] == []

    on_softphones(play)


# --- challenged trunks (P11) --------------------------------------------------------------------------------------


def test_p11_callers_of_a_static_trunk_are_challenged_when_it_says_so() -> None:
    login: dict[str, Any] = {"challenge": True, "username": "alice", "password": "pw"}
    credential = SipCredential(peers=["203.0.113.0/24"], registers=False, **login)

    class Challenging(OneTrunk):
        challenges = True
        admitted: list[str | None] = []

        def invited(self, transaction: ServerTransaction) -> None:
            self.admitted.append(admit(self.endpoint, transaction, lambda name: "pw" if name == "alice" else None))

    async def run(wire: Wire, unused: OneTrunk) -> None:
        wire.endpoint.unregister(unused)
        trunk = Challenging(credential)
        trunk.endpoint = wire.endpoint  # type: ignore[attr-defined]
        wire.endpoint.register(trunk)
        pbx, wrong = Phone(wire, password="pw"), Phone(wire, password="guess", address="203.0.113.9")
        for number in range(20):
            login = pbx.authorization(pbx.challenged("INVITE"), "INVITE")
            pbx.call_id = f"c{number}"
            pbx.send("INVITE", login)
        assert trunk.admitted[1::2] == ["alice"] * 20, "no limit of challenges for a peer"
        for _ in range(5):
            login = wrong.authorization(wrong.challenged("INVITE"), "INVITE")
            assert [one.status for one in wrong.send("INVITE", login)] == [401], "a peer is not silenced"
        assert trunk.admitted[40:] == [None] * 10

    on_a_wire(run, credential, lambda request, flow: None)


# --- two credentials in one process -------------------------------------------------------------------------------


def test_two_tenants_may_not_have_a_softphone_of_one_name() -> None:
    def phones(*names: str) -> OneTrunk:
        users = [{"name": name, "password": "pw"} for name in names]
        return OneTrunk(SipCredential(preset="softphones", users=users))

    with pytest.raises(ConfigurationError, match=r"sip users: ALICE logs in .* Choose a name that no other has"):
        refuse_overlap(phones("bob", "ALICE"), [phones("carol"), phones("Alice", "dave")])
    refuse_overlap(phones("alice"), [phones("bob"), trunk()])


# --- trunks that share a network ----------------------------------------------------------------------------------


def trunk(user: str = "random", *, own: bool = False, **given: Any) -> OneTrunk:
    credential = SipCredential(**{"registers": False, "peers": ["203.0.113.0/24"], **given})
    made = OneTrunk(credential)
    made.contact_user, made.own_user = user, own
    return made


def test_two_tenants_may_not_share_a_carriers_network_without_a_mark() -> None:
    with pytest.raises(ConfigurationError) as caught:
        refuse_overlap(trunk(), [trunk(peers=["198.51.100.0/24"]), trunk(peers=["203.0.113.128/25"])])
    told = str(caught.value)
    assert "calls from 203.0.113.0/24 belong to another credential" in told
    assert "contact_user" in told
    assert "challenge" in told
    refuse_overlap(trunk(), [trunk(peers=["198.51.100.0/24", "2001:db8::/32"])])


def test_an_own_user_tells_them_apart_if_nobody_else_has_it() -> None:
    refuse_overlap(trunk("u1", own=True), [trunk(), trunk("u2", own=True)])
    with pytest.raises(ConfigurationError):
        refuse_overlap(trunk("u2", own=True), [trunk(), trunk("u2", own=True)])
    with pytest.raises(ConfigurationError):
        refuse_overlap(trunk(), [trunk("u2", own=True)])


def test_challenges_tell_them_apart_if_both_challenge() -> None:
    login: dict[str, Any] = {"challenge": True, "username": "u", "password": "p"}
    refuse_overlap(trunk(**login), [trunk(**login)])
    for mine, other in ((login, {}), ({}, login)):
        with pytest.raises(ConfigurationError):
            refuse_overlap(trunk(**mine), [trunk(**other)])


def test_p2_nobody_learns_which_names_there_are() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        told = []
        for number, name in enumerate(("alice", "bob", "nobody")):
            phone = Phone(wire, name, "guess", address=f"203.0.113.{number}")
            phone.call_id, phone.contact = "c", "<sip:x@10.0.0.2>"
            login = phone.authorization(phone.challenged(), "REGISTER")
            [answer] = phone.send("REGISTER", login, f"Contact: {phone.contact}")
            told.append((answer.status, answer.phrase, [name for name, _ in answer.headers.items()]))
        assert told[0] == told[1] == told[2]

    on_softphones(play)


def test_p2_a_login_that_was_heard_on_the_way_is_not_used_again() -> None:
    async def play(wire: Wire, trunk: Softphones) -> None:
        alice = Phone(wire)
        login = alice.authorization(alice.challenged(), "REGISTER")
        [taken] = alice.send("REGISTER", login, f"Contact: {alice.contact}")
        thief = Phone(wire)  # behind the same NAT
        thief.flow, thief.call_id = alice.flow, "other"
        [again] = thief.send("REGISTER", login, "Contact: <sip:thief@203.0.113.5:9>")
        [call] = thief.send("INVITE", login, "Contact: <sip:thief@203.0.113.5:9>")
        assert (taken.status, again.status, call.status) == (200, 401, 401)
        assert len(trunk.registrar.registered()["alice"]) == 1
        assert trunk.callers == []

    on_softphones(play)
