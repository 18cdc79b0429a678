"""Dialogs, session timers and numbered provisional answers, by bytes alone."""

from __future__ import annotations

import pytest

from anycarrier_sip.dialog import Dialog, contact_of, options_of, seconds_of
from anycarrier_sip.invitation import Fork
from anycarrier_sip.message import CSeq, NameAddr, Request, Response, SipError, parse, reply
from anycarrier_sip.session_timer import SessionTimer


def invite(*headers: str, method: str = "INVITE", cseq: int = 7) -> Request:
    lines = [
        f"{method} sip:us@192.0.2.1 SIP/2.0",
        "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1",
        'From: "Them" <sip:them@192.0.2.9>;tag=t1',
        "To: <sip:us@192.0.2.1>",
        "Call-ID: c1",
        f"CSeq: {cseq} {method}",
        *headers,
    ]
    message = parse(("\r\n".join(lines) + "\r\n\r\n").encode())
    assert isinstance(message, Request)
    return message


CONTACT = "Contact: <sip:them@192.0.2.9:5070;transport=tcp>"


def theirs(*headers: str) -> Dialog:
    return Dialog.incoming(invite(CONTACT, *headers), "ours")


def answered(status: int, *headers: tuple[str, str]) -> Response:
    response = reply(invite(CONTACT), status, to_tag="b")
    for name, value in headers:
        response.headers.add(name, value)
    return response


def test_a_request_inside_their_dialog() -> None:
    bye = theirs("Record-Route: <sip:p1;lr>, <sip:p2;lr>").request("BYE")
    assert bye.uri == "sip:them@192.0.2.9:5070;transport=tcp"
    assert bye.headers.values("Route") == ["<sip:p1;lr>", "<sip:p2;lr>"]
    assert (bye.from_.tag, bye.to.tag, bye.call_id, bye.cseq) == ("ours", "t1", "c1", CSeq(1, "BYE"))
    assert bye.headers.get("Max-Forwards") == "70"


def test_our_dialog_takes_the_routes_the_other_way_round_and_counts_on() -> None:
    us, them = NameAddr.parse("<sip:us@192.0.2.1>;tag=a"), NameAddr.parse("<sip:t@h>")
    ours = Dialog("c1", us, them, "sip:t@h", True, local_cseq=41)
    assert ours.request("INVITE").cseq == CSeq(42, "INVITE") and ours.remote_tag == ""
    routes = ("Record-Route", "<sip:p1;lr>, <sip:p2;lr>")
    confirmed = ours.answered(answered(200, ("Contact", "<sip:t@192.0.2.9>"), routes))
    assert (confirmed.remote_tag, confirmed.target) == ("b", "sip:t@192.0.2.9")
    assert confirmed.routes == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert confirmed.request("ACK", cseq=42).cseq == CSeq(42, "ACK")
    assert confirmed.request("BYE").cseq == CSeq(43, "BYE")
    assert str(confirmed.next_hop) == "sip:p2;lr"


def test_a_strict_router_gets_the_target_as_its_last_route() -> None:
    bye = theirs("Record-Route: <sip:old@p1>, <sip:p2;lr>").request("BYE")
    assert bye.uri == "sip:old@p1"
    assert bye.headers.values("Route") == ["<sip:p2;lr>", "<sip:them@192.0.2.9:5070;transport=tcp>"]


def test_without_a_contact_there_is_no_dialog() -> None:
    with pytest.raises(SipError) as refused:
        Dialog.incoming(invite(), "ours")
    assert refused.value.status == 400
    assert contact_of(invite("Contact: *")) is None


def test_order_and_target() -> None:
    dialog = theirs()
    assert not dialog.in_order(invite(cseq=7, method="INFO")) and not dialog.in_order(invite(cseq=6))
    assert dialog.in_order(invite(cseq=9, method="INFO")) and not dialog.in_order(invite(cseq=8, method="INFO"))
    assert dialog.in_order(invite(CONTACT, cseq=7, method="ACK"))
    dialog.refresh(invite("Contact: <sip:new@192.0.2.10>"))
    dialog.refresh(invite())
    assert dialog.target == "sip:new@192.0.2.10"


def test_replaces_has_the_tags_as_the_far_end_sees_them() -> None:
    assert theirs().replaces() == "c1;to-tag=t1;from-tag=ours"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1800;refresher=uac", 1800), (" 90 ", 90), ("7 (later)", 7), ("x", None), ("-1", None), ("", None)],
)
def test_seconds(value: str, seconds: int | None) -> None:
    assert seconds_of(answered(200, ("Session-Expires", value)), "Session-Expires") == seconds


def test_when_a_session_is_over() -> None:
    assert (SessionTimer(1800, True).over_after, SessionTimer(90, True).over_after) == (1768, 60)


@pytest.mark.parametrize(
    ("headers", "timer"),
    [
        (("Supported: timer", "Session-Expires: 600;refresher=uac"), SessionTimer(600, False)),
        (("Supported: timer", "Session-Expires: 600;Refresher=UAS"), SessionTimer(600, True)),
        (("Supported: timer", "Session-Expires: 600"), SessionTimer(600, False)),
        (("Session-Expires: 60",), SessionTimer(90, True)),
        (("Supported: timer", "Min-SE: 3600"), SessionTimer(3600, False)),
        ((), None),
    ],
)
def test_what_we_grant(headers: tuple[str, ...], timer: SessionTimer | None) -> None:
    assert SessionTimer.asked(invite(*headers)) == timer


@pytest.mark.parametrize(
    ("value", "timer"),
    [("600;refresher=uac", SessionTimer(600, True)), ("600;refresher=uas", SessionTimer(600, False)),
     ("600", SessionTimer(600, True)), (None, None)],
)  # fmt: skip
def test_what_we_are_granted(value: str | None, timer: SessionTimer | None) -> None:
    headers = (("Session-Expires", value),) if value else ()
    assert SessionTimer.granted(answered(200, *headers)) == timer


def test_provisional_answers_in_order() -> None:
    seen = Fork(theirs())

    def ring(rseq: str, require: str = "100rel", status: int = 180) -> str | None:
        return seen.rack(answered(status, ("Require", require), ("RSeq", rseq)))

    assert ring("5", require="timer") is None and ring("x") is None and ring("5", status=200) is None
    assert ring("5") == "5 7 INVITE"
    assert ring("5") is None and ring("7") is None
    assert ring("6") == "6 7 INVITE" and ring("7") == "7 7 INVITE"


def test_option_tags() -> None:
    assert options_of(invite("Supported: Timer, 100rel", "k: replaces"), "Supported") == {"timer", "100rel", "replaces"}
