"""The transaction machines by bytes and times: each timer of RFC 3261, table 4, and what RFC 6026 corrects."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from anycarrier_sip.message import Headers, Request, Response, parse, reply
from anycarrier_sip.transaction import ClientTransaction, Flow, ServerTransaction
from anycarrier_sip.transaction_layer import COOKIE, TransactionLayer

UDP = Flow("udp", ("192.0.2.1", 5060), ("192.0.2.9", 5062))
TCP = Flow("tcp", ("192.0.2.1", 5060), ("192.0.2.9", 40000), 7)


@dataclass(eq=False)
class Timer:
    timers: list[Timer]
    at: float
    act: Callable[[], None]

    def cancel(self) -> None:
        if self in self.timers:
            self.timers.remove(self)


class Wire:
    """A layer, what it sends and when, and what its user hears."""

    def __init__(self) -> None:
        tokens = itertools.count(1)
        self.layer = TransactionLayer(
            self.send,
            self.call_later,
            token=lambda: f"t{next(tokens)}",
            strays=lambda response, flow: self.strays.append(response.status),
        )
        self.now = 100.0
        self.timers: list[Timer] = []
        self.sent: list[tuple[float, Request | Response, Flow]] = []
        self.strays: list[int] = []
        self.heard: list[int | str] = []
        self.broken = False

    def send(self, data: bytes, flow: Flow) -> None:
        if self.broken:
            raise ConnectionError("gone")
        self.sent.append((round(self.now - 100, 3), parse(data), flow))

    def call_later(self, seconds: float, act: Callable[[], None]) -> Timer:
        self.timers.append(timer := Timer(self.timers, self.now + seconds, act))
        return timer

    def until(self, seconds: float) -> None:
        """Go on to so many seconds after the start, stopping at each timer."""
        while self.timers and (timer := min(self.timers, key=lambda one: one.at)).at <= 100 + seconds:
            self.timers.remove(timer)
            self.now = timer.at
            timer.act()
        self.now = 100 + seconds

    def request(self, method: str, flow: Flow = UDP, **options: float) -> ClientTransaction:
        return self.layer.request(request(method), flow, self.hear, self.heard.append, **options)

    def hear(self, response: Response) -> None:
        self.heard.append(response.status)

    def answer(self, status: int, at: int = 0, *, tag: str = "theirs", flow: Flow = UDP) -> None:
        """Their response to the ``at``-th message that was sent."""
        self.layer.receive(parse(reply(self.asked(at), status, to_tag=tag).encode()), flow)

    def asked(self, at: int) -> Request:
        found = self.sent[at][1]
        assert isinstance(found, Request)
        return found

    def receive(self, message: Request | Response, flow: Flow = UDP) -> ServerTransaction | None:
        return self.layer.receive(parse(message.encode()), flow)

    def invited(self, message: Request, flow: Flow = UDP) -> ServerTransaction:
        transaction = self.receive(message, flow)
        assert transaction is not None
        return transaction

    @property
    def said(self) -> list[tuple[float, int | str]]:
        """When, and which status or method."""
        return [(at, m.status if isinstance(m, Response) else m.method) for at, m, _ in self.sent]

    def times(self, what: int | str) -> list[float]:
        return [at for at, said in self.said if said == what]


@pytest.fixture
def wire() -> Wire:
    return Wire()


def request(method: str, *, number: int = 1, branch: str = "", via: str = "", **headers: str) -> Request:
    """One of ours when ``branch`` and ``via`` are empty, else one of theirs."""
    found = Headers(
        [
            ("From", "<sip:a@192.0.2.1>;tag=mine"),
            ("To", "<sip:b@192.0.2.9>"),
            ("Call-ID", "one@192.0.2.1"),
            ("CSeq", f"{number} {method}"),
        ]
    )
    for name, value in headers.items():
        found.set(name, value)
    if branch or via:
        found.set("Via", via or f"SIP/2.0/UDP 192.0.2.9:5062;branch={COOKIE}{branch}")
    return Request(method, "sip:b@192.0.2.9", found)


# --- client INVITE -------------------------------------------------------------------------------------------------


def test_client_invite_is_repeated_by_timer_a_and_given_up_by_timer_b(wire: Wire) -> None:
    wire.request("INVITE")
    wire.until(31.9)
    assert wire.times("INVITE") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert wire.heard == []
    wire.until(32)
    assert wire.heard == ["timeout"]
    wire.until(100)
    assert len(wire.sent) == 7 and wire.layer.open == 0


def test_client_repeats_are_the_same_bytes(wire: Wire) -> None:
    wire.request("INVITE")
    wire.until(4)
    assert len({message.encode() for _, message, _ in wire.sent}) == 1


def test_client_invite_over_tcp_is_sent_once_and_given_up_by_timer_b(wire: Wire) -> None:
    wire.request("INVITE", TCP)
    wire.until(32)
    assert wire.times("INVITE") == [0] and wire.heard == ["timeout"]


def test_provisional_response_ends_timers_a_and_b(wire: Wire) -> None:
    wire.request("INVITE")
    wire.until(0.7)
    wire.answer(180)
    wire.until(200)
    assert wire.times("INVITE") == [0, 0.5] and wire.heard == [180]


def test_refusal_is_acknowledged_on_the_same_branch_again_for_each_repeat_until_timer_d(wire: Wire) -> None:
    wire.layer.request(request("INVITE", Route="<sip:proxy.example;lr>"), UDP, wire.hear, wire.heard.append)
    wire.answer(100)
    wire.answer(486, tag="busy")
    wire.until(3)
    wire.answer(486, tag="busy")
    invite, ack = wire.asked(0), wire.asked(1)
    assert wire.times("ACK") == [0, 3]
    assert ack.via == invite.via and ack.uri == invite.uri and ack.call_id == invite.call_id
    assert ack.to.tag == "busy" and ack.from_.tag == "mine" and str(ack.cseq) == "1 ACK"
    assert ack.headers.get("Route") == "<sip:proxy.example;lr>"
    assert wire.heard == [100, 486]
    wire.until(31.9)
    wire.answer(486)
    assert wire.times("ACK") == [0, 3, 31.9]
    wire.until(32)
    assert wire.layer.open == 0
    wire.answer(486)
    assert len(wire.times("ACK")) == 3


def test_timer_d_is_zero_over_tcp(wire: Wire) -> None:
    wire.request("INVITE", TCP)
    wire.answer(404, flow=TCP)
    assert wire.times("ACK") == [0] and wire.heard == [404] and wire.layer.open == 0


def test_every_2xx_is_passed_on_until_timer_m_and_then_is_a_stray(wire: Wire) -> None:
    wire.request("INVITE")
    wire.answer(180)
    wire.answer(200)
    wire.answer(200)  # a repeat
    wire.until(31)
    wire.answer(200, tag="another-phone")
    assert wire.heard == [180, 200, 200, 200] and wire.times("ACK") == []
    wire.answer(486)  # too late
    assert wire.times("INVITE") == [0]
    wire.until(32)
    wire.answer(200)
    assert wire.heard == [180, 200, 200, 200] and wire.strays == [200] and wire.layer.open == 0


def test_client_invite_can_be_given_less_time(wire: Wire) -> None:
    wire.request("INVITE", timeout=4)
    wire.until(4)
    assert wire.heard == ["timeout"]
    wire.answer(200)
    assert wire.strays == [200]


# --- CANCEL, ours --------------------------------------------------------------------------------------------------


def test_cancel_waits_for_a_provisional_response(wire: Wire) -> None:
    invite = wire.request("INVITE")
    wire.until(0.6)
    invite.cancel()
    assert wire.times("CANCEL") == []
    wire.until(1)
    wire.answer(100)
    assert wire.times("CANCEL") == [1]
    sent = wire.asked(-1)
    assert sent.via == wire.asked(0).via and str(sent.cseq) == "1 CANCEL" and sent.to.tag is None
    wire.answer(200, -1)
    wire.answer(180)
    assert wire.times("CANCEL") == [1]
    wire.answer(487)
    assert wire.heard == [100, 180, 487] and wire.times("ACK") == [1]


def test_cancel_after_a_provisional_response_goes_out_at_once_once_and_is_repeated(wire: Wire) -> None:
    invite = wire.request("INVITE")
    wire.answer(180)
    invite.cancel()
    invite.cancel()
    wire.until(2)
    assert wire.times("CANCEL") == [0, 0.5, 1.5]


def test_200_that_crosses_cancel_is_passed_on(wire: Wire) -> None:
    invite = wire.request("INVITE")
    wire.answer(180)
    invite.cancel()
    wire.answer(200)
    assert wire.heard == [180, 200]


def test_cancelled_invite_without_final_response_fails_after_64_t1(wire: Wire) -> None:
    invite = wire.request("INVITE")
    wire.answer(180)
    wire.until(50)
    invite.cancel()
    wire.answer(200, -1)
    wire.until(81.9)
    assert wire.heard == [180]
    wire.until(82)
    assert wire.heard == [180, "timeout"] and wire.layer.open == 0


def test_cancel_of_what_is_over_or_no_invite_sends_nothing(wire: Wire) -> None:
    invite = wire.request("INVITE")
    wire.answer(486)
    invite.cancel()
    options = wire.request("OPTIONS")
    wire.answer(100, -1)
    options.cancel()
    assert wire.times("CANCEL") == []


# --- other client requests -----------------------------------------------------------------------------------------


def test_client_request_is_repeated_by_timer_e_up_to_t2_and_given_up_by_timer_f(wire: Wire) -> None:
    wire.request("OPTIONS")
    wire.until(60)
    assert wire.times("OPTIONS") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert wire.heard == ["timeout"] and wire.layer.open == 0


def test_client_request_in_proceeding_is_repeated_each_t2_and_still_given_up(wire: Wire) -> None:
    wire.request("BYE")
    wire.until(0.2)
    wire.answer(100)
    wire.until(40)
    assert wire.times("BYE") == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert wire.heard == [100, "timeout"]


def test_timer_k_absorbs_repeated_responses(wire: Wire) -> None:
    wire.request("BYE")
    wire.answer(200)
    wire.until(4.9)
    wire.answer(200)
    assert wire.heard == [200] and wire.layer.open == 1
    wire.until(5)
    assert wire.layer.open == 0
    wire.answer(200)
    assert wire.heard == [200] and wire.strays == []


def test_timer_k_is_zero_over_tcp(wire: Wire) -> None:
    wire.request("BYE", TCP)
    wire.answer(200, flow=TCP)
    assert wire.heard == [200] and wire.layer.open == 0


def test_ack_is_sent_once_with_a_branch_of_its_own(wire: Wire) -> None:
    wire.request("ACK")
    wire.request("ACK")
    wire.until(40)
    assert wire.times("ACK") == [0, 0] and wire.layer.open == 0
    assert wire.asked(0).via.branch != wire.asked(1).via.branch


def test_response_of_another_method_or_branch_is_nobodys(wire: Wire) -> None:
    wire.request("OPTIONS")
    other = parse(reply(wire.asked(0), 200).encode())
    other.headers.set("CSeq", "1 BYE")
    wire.receive(other)
    foreign = parse(reply(wire.asked(0), 200).encode())
    foreign.headers.set("Via", f"SIP/2.0/UDP 192.0.2.1;branch={COOKIE}x")
    wire.receive(foreign)
    assert wire.heard == []


def test_request_says_who_we_are_and_asks_for_rport(wire: Wire) -> None:
    wire.request("OPTIONS", TCP)
    via = wire.asked(0).via
    assert (via.transport, via.host, via.port) == ("TCP", "192.0.2.1", 5060)
    assert "rport" in via.parameters and via.branch == COOKIE + "t1"
    assert wire.asked(0).headers.get("Max-Forwards") == "70"


def test_ipv6_stands_in_brackets(wire: Wire) -> None:
    wire.request("OPTIONS", Flow("udp", ("2001:db8::1", 5060), ("2001:db8::2", 5060)))
    assert (wire.asked(0).headers.get("Via") or "").startswith("SIP/2.0/UDP [2001:db8::1]:5060;")


def test_request_sent_again_with_credentials_gets_a_new_via(wire: Wire) -> None:
    again = request("REGISTER")
    for _ in range(2):
        wire.layer.request(again, UDP, wire.hear, wire.heard.append)
    assert [len(wire.asked(at).headers.values("Via")) for at in (0, 1)] == [1, 1]
    assert wire.asked(0).via.branch != wire.asked(1).via.branch


# --- failures of the transport -------------------------------------------------------------------------------------


def test_request_that_cannot_be_sent_fails_but_not_within_the_call(wire: Wire) -> None:
    wire.broken = True
    wire.request("INVITE")
    assert wire.heard == []
    wire.until(0)
    assert wire.heard == ["transport"] and wire.layer.open == 0
    assert wire.timers == []


def test_lost_connection_fails_the_requests_that_wait_on_it(wire: Wire) -> None:
    wire.request("INVITE", TCP)
    wire.answer(180, flow=TCP)
    wire.request("OPTIONS", TCP)
    wire.request("INFO")
    wire.layer.lost(TCP)
    wire.until(0)
    assert wire.heard == [180, "transport", "transport"] and wire.layer.open == 1


def test_lost_connection_after_a_2xx_is_no_failure(wire: Wire) -> None:
    wire.request("INVITE", TCP)
    wire.answer(200, flow=TCP)
    wire.layer.lost(TCP)
    wire.until(0)
    assert wire.heard == [200] and wire.layer.open == 0


def test_datagram_that_reached_nobody_fails_its_request_however_little_of_it_is_shown(wire: Wire) -> None:
    wire.request("OPTIONS")
    wire.request("INFO")
    wire.layer.unreachable(wire.sent[0][1].encode()[:150])
    wire.until(0)
    assert wire.heard == ["transport"] and wire.layer.open == 1
    wire.until(1)
    assert wire.times("OPTIONS") == [0]


@pytest.mark.parametrize("shown", [b"", b"OPTIONS", b"\xff " * 50, b"OPTIONS x SIP/2.0\r\nVia: a;branch=z9hG4bKt0\r\n"])
def test_datagram_that_we_did_not_send_fails_nothing(wire: Wire, shown: bytes) -> None:
    wire.request("OPTIONS")
    wire.layer.unreachable(shown)
    wire.until(0)
    assert wire.heard == [] and wire.layer.open == 1


def test_request_that_was_answered_did_reach_somebody(wire: Wire) -> None:
    wire.request("INVITE")
    wire.answer(100)
    wire.layer.unreachable(wire.sent[0][1].encode())
    wire.until(0)
    assert wire.heard == [100] and wire.layer.open == 1


# --- server INVITE -------------------------------------------------------------------------------------------------


def test_invite_without_an_answer_for_200_ms_is_answered_100(wire: Wire) -> None:
    wire.invited(request("INVITE", branch="a"))
    wire.until(5)
    assert wire.said == [(0.2, 100)]


def test_invite_answered_in_time_is_not_answered_100(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 180, to_tag="x"))
    wire.until(5)
    assert wire.said == [(0, 180)]


def test_repeated_invite_is_one_call_and_gets_the_last_answer_again(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    assert wire.receive(request("INVITE", branch="a")) is None
    assert wire.sent == []
    invite.respond(reply(invite.request, 183, to_tag="x"))
    assert wire.receive(request("INVITE", branch="a")) is None
    assert wire.said == [(0, 183), (0, 183)]


def test_refusal_is_repeated_by_timer_g_until_its_ack(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 486, to_tag="x"))
    wire.until(12)
    assert wire.times(486) == [0, 0.5, 1.5, 3.5, 7.5, 11.5]
    assert wire.receive(request("INVITE", branch="a")) is None
    assert wire.times(486)[-1] == 12
    assert wire.receive(request("ACK", branch="a", To="<sip:b@192.0.2.9>;tag=x")) is None
    wire.until(16.9)
    wire.receive(request("INVITE", branch="a"))
    assert len(wire.times(486)) == 7 and wire.layer.open == 1  # timer I absorbs
    wire.until(17)
    assert wire.layer.open == 0


def test_refusal_without_ack_is_given_up_by_timer_h(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 486, to_tag="x"))
    wire.until(31.9)
    assert len(wire.times(486)) == 11 and wire.layer.open == 1
    wire.until(100)
    assert len(wire.times(486)) == 11 and wire.layer.open == 0


def test_refusal_over_tcp_is_sent_once(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"), TCP)
    invite.respond(reply(invite.request, 486, to_tag="x"))
    wire.until(31)
    assert wire.times(486) == [0] and wire.layer.open == 1
    wire.receive(request("ACK", branch="a"), TCP)
    assert wire.layer.open == 0


def test_2xx_is_repeated_by_the_user_and_invites_are_absorbed_until_timer_l(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 200, to_tag="x"))
    wire.until(1)
    assert wire.receive(request("INVITE", branch="a")) is None
    assert wire.times(200) == [0]
    invite.respond(reply(invite.request, 200, to_tag="x"))
    assert wire.times(200) == [0, 1]
    invite.respond(reply(invite.request, 486, to_tag="x"))  # too late
    assert wire.times(486) == []
    wire.until(31.9)
    assert wire.layer.open == 1
    wire.until(32)
    assert wire.layer.open == 0
    invite.respond(reply(invite.request, 200, to_tag="x"))
    assert wire.times(200) == [0, 1]


def test_ack_of_a_2xx_is_passed_on_whatever_its_branch_and_answered_by_nothing(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 200, to_tag="x"))
    for branch in ("b", "a", "b"):
        ack = wire.receive(request("ACK", branch=branch, To="<sip:b@192.0.2.9>;tag=x"))
        assert ack is not None and ack.request.method == "ACK"
        ack.respond(reply(ack.request, 200))
    assert wire.said == [(0, 200)]


def test_ack_before_any_final_response_does_nothing(wire: Wire) -> None:
    wire.invited(request("INVITE", branch="a"))
    assert wire.receive(request("ACK", branch="a")) is None


# --- CANCEL, theirs ------------------------------------------------------------------------------------------------


def test_their_cancel_is_answered_and_told_once(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.respond(reply(invite.request, 180, to_tag="x"))
    told: list[str] = []
    invite.on_cancel = lambda: told.append("cancelled")
    for _ in range(2):
        assert wire.receive(request("CANCEL", branch="a")) is None
    assert told == ["cancelled"] and invite.cancelled
    answers = [message for _, message, _ in wire.sent if str(message.cseq) == "1 CANCEL"]
    assert [answer.status for answer in answers if isinstance(answer, Response)] == [200, 200]
    assert answers[0].to.tag == "x"


def test_their_cancel_with_nobody_to_tell_ends_the_invite_with_487(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    wire.receive(request("CANCEL", branch="a"))
    assert [said for _, said in wire.said] == [200, 487] and invite.final
    assert wire.sent[0][1].to.tag == wire.sent[1][1].to.tag


def test_their_cancel_after_the_final_response_changes_nothing(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    invite.on_cancel = lambda: pytest.fail("too late")
    invite.respond(reply(invite.request, 200, to_tag="x"))
    wire.receive(request("CANCEL", branch="a"))
    assert [said for _, said in wire.said] == [200, 200] and invite.on_cancel is None


def test_cancel_of_nothing_is_481(wire: Wire) -> None:
    wire.receive(request("CANCEL", branch="a"))
    assert wire.said == [(0, 481)]


def test_nobody_cancels_or_acknowledges_from_another_address(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", branch="a"))
    other = Flow("udp", UDP.local, ("198.51.100.1", 5062))
    wire.receive(request("CANCEL", branch="a"), other)
    assert not invite.cancelled and wire.said == [(0, 481)]
    invite.respond(reply(invite.request, 486, to_tag="x"))
    wire.receive(request("ACK", branch="a"), other)
    wire.until(1)
    assert wire.times(486) == [0, 0.5]


# --- other server requests -----------------------------------------------------------------------------------------


def test_repeated_request_gets_its_answer_again_until_timer_j(wire: Wire) -> None:
    options = wire.invited(request("OPTIONS", branch="a"))
    assert wire.receive(request("OPTIONS", branch="a")) is None
    assert wire.sent == []
    options.respond(reply(options.request, 200, to_tag="x"))
    wire.until(31.9)
    assert wire.receive(request("OPTIONS", branch="a")) is None
    assert wire.times(200) == [0, 31.9]
    options.respond(reply(options.request, 500, to_tag="x"))  # one final response
    assert wire.times(500) == [] and wire.layer.open == 0


def test_flood_of_requests_takes_no_more_memory(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycarrier_sip.transaction_layer.ANSWERS", 100_000)
    monkeypatch.setattr("anycarrier_sip.transaction.REFUSALS", 50)
    for number in range(300):
        options = wire.invited(request("OPTIONS", branch=f"o{number}", number=number))
        options.respond(reply(options.request, 200, to_tag="x"))
        invite = wire.invited(request("INVITE", branch=f"i{number}", number=number))
        invite.respond(reply(invite.request, 503, to_tag="x"))
    del options, invite
    layer = wire.layer
    assert 20 < len(layer._answers) < 100
    assert layer.open in (50, 51) and len(layer._merged) == layer.open
    sent = len(wire.sent)
    assert wire.receive(request("OPTIONS", branch="o299", number=299)) is None and len(wire.sent) == sent + 1
    assert wire.receive(request("OPTIONS", branch="o1", number=1)) is not None, "long ago"
    wire.until(100)
    assert wire.timers == []


def test_of_the_invites_of_a_dialog_only_the_last_is_kept(wire: Wire) -> None:
    for number in range(1, 20):
        again = wire.invited(request("INVITE", branch=f"i{number}", number=number, To="<sip:b@192.0.2.9>;tag=x"))
        again.respond(reply(again.request, 200, to_tag="x"))
        assert wire.layer.open == 1
    for dialog in ("y", "z"):
        wire.invited(request("INVITE", branch=dialog, To=f"<sip:b@192.0.2.9>;tag={dialog}"))
    wire.invited(request("INVITE", branch="zz", number=2, To="<sip:b@192.0.2.9>;tag=z"))
    assert wire.layer.open == 4, "of other dialogs, and those without an answer"


def test_timer_j_is_zero_over_tcp(wire: Wire) -> None:
    options = wire.invited(request("OPTIONS", branch="a"), TCP)
    options.respond(reply(options.request, 200, to_tag="x"))
    assert wire.layer.open == 0 and not wire.layer._answers


def test_branches_are_told_apart_by_sent_by_and_method(wire: Wire) -> None:
    wire.invited(request("INVITE", branch="a"))
    wire.invited(request("INVITE", number=2, via=f"SIP/2.0/UDP 192.0.2.9:5070;branch={COOKIE}a"))
    wire.invited(request("INFO", branch="a"))


def test_request_that_came_by_two_ways_is_answered_482_once(wire: Wire) -> None:
    wire.invited(request("INVITE", branch="a"))
    assert wire.receive(request("INVITE", branch="b")) is None
    assert wire.said == [(0, 482)]


def test_request_with_credentials_after_a_refusal_is_not_merged(wire: Wire) -> None:
    first = wire.invited(request("INVITE", branch="a"))
    first.respond(reply(first.request, 401, to_tag="x"))
    wire.invited(request("INVITE", branch="b"))


# --- RFC 2543: no cookie -------------------------------------------------------------------------------------------

OLD = "SIP/2.0/UDP 192.0.2.9:5062"


@pytest.mark.parametrize("via", [OLD, OLD + ";branch=1", OLD + f";branch={COOKIE}"])
def test_requests_of_rfc_2543_are_matched_by_what_they_have(wire: Wire, via: str) -> None:
    invite = wire.invited(request("INVITE", via=via))
    assert wire.receive(request("INVITE", via=via)) is None
    wire.invited(request("INVITE", via=via, number=2))
    invite.respond(reply(invite.request, 486, to_tag="x"))
    stranger = wire.receive(request("ACK", via=via, To="<sip:b@192.0.2.9>;tag=another"))
    assert stranger is not None
    assert wire.receive(request("ACK", via=via, To="<sip:b@192.0.2.9>;tag=x")) is None
    wire.until(10)
    assert wire.times(486) == [0]


def test_cancel_of_rfc_2543_finds_its_invite(wire: Wire) -> None:
    invite = wire.invited(request("INVITE", via=OLD))
    wire.receive(request("CANCEL", via=OLD))
    assert invite.cancelled


# --- where responses go (RFC 3261, 18.2; RFC 3581) ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("via", "port", "told"),
    [
        (f"SIP/2.0/UDP 192.0.2.9:5099;branch={COOKIE}a", 5099, None),
        (f"SIP/2.0/UDP 192.0.2.9;branch={COOKIE}a", 5060, None),
        (f"SIP/2.0/UDP 10.0.0.1:5099;branch={COOKIE}a", 5099, "received=192.0.2.9"),
        (f"SIP/2.0/UDP 10.0.0.1:5099;rport;branch={COOKIE}a", 5062, "rport=5062;branch=z9hG4bKa;received=192.0.2.9"),
        (f"SIP/2.0/UDP 192.0.2.9:5062;rport;branch={COOKIE}a", 5062, "rport=5062;branch=z9hG4bKa;received=192.0.2.9"),
        (f"SIP/2.0/UDP 192.0.2.9:5099;branch={COOKIE}a;maddr=198.51.100.7", 5099, None),
    ],
)
def test_responses_go_to_the_address_the_request_came_from(wire: Wire, via: str, port: int, told: str | None) -> None:
    options = wire.invited(request("OPTIONS", via=via))
    options.respond(reply(options.request, 200, to_tag="x"))
    _, response, flow = wire.sent[0]
    assert flow.remote == ("192.0.2.9", port)
    assert (response.headers.get("Via") or "").endswith(told or via)


def test_only_the_top_via_is_changed(wire: Wire) -> None:
    message = request("OPTIONS", via=f"SIP/2.0/UDP 10.0.0.1;rport;branch={COOKIE}a")
    message.headers.add("Via", "SIP/2.0/UDP 10.9.9.9;branch=x")
    options = wire.invited(message)
    assert options.request.headers.values("Via")[1:] == ["SIP/2.0/UDP 10.9.9.9;branch=x"]


def test_responses_over_tcp_stay_on_the_connection(wire: Wire) -> None:
    options = wire.invited(request("OPTIONS", via=f"SIP/2.0/TCP 192.0.2.9:5099;branch={COOKIE}a"), TCP)
    options.respond(reply(options.request, 200, to_tag="x"))
    assert wire.sent[0][2] == TCP


# --- the end -------------------------------------------------------------------------------------------------------


def test_everything_ends(wire: Wire) -> None:
    """Whatever was going on, nothing is left a minute after the last message."""
    for number, method in enumerate(("INVITE", "INVITE", "BYE", "OPTIONS"), 1):
        wire.request(method)
        theirs = wire.invited(request(method, branch=f"b{number}", number=number))
        theirs.respond(reply(theirs.request, (200, 603, 200, 404)[number - 1], to_tag="x"))
    wire.until(65)
    del theirs
    assert wire.layer.open == 0 and wire.timers == [] and len(wire.layer._merged) == 0


def test_closed_layer_does_nothing_more(wire: Wire) -> None:
    wire.request("INVITE")
    theirs = wire.invited(request("INVITE", branch="a"))
    theirs.respond(reply(theirs.request, 486, to_tag="x"))
    wire.layer.close()
    wire.until(100)
    assert wire.said == [(0, "INVITE"), (0, 486)] and wire.heard == [] and wire.timers == []
