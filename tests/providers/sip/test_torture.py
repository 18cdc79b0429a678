"""RFC 4475's 49 messages, each judged as the RFC says: by the parser, or accepted there for the user agent to judge.

What the user agent says to those (405, 415, 420 ...) is asked over a socket in ``test_torture_answers.py``.
"""

from __future__ import annotations

import pytest

from anycarrier_sip.message import NameAddr, Request, Response, SipError, Uri, parse, reply
from rfc4475 import MESSAGES

VALID = (
    "wsinv intmeth esc01 escnull esc02 lwsdisp longreq dblreq semiuri transports mpart01 unreason noreason"  # 3.1.1
    " baddate"  # 3.1.2.12: a Date that nobody here reads may be ignored
    " badbranch"  # 3.2.1: for the transaction layer, which takes it for an RFC 2543 branch
    # 3.3: well-formed, and for the user agent to answer or not
    " unksm2 bext01 invut regaut01 zeromf cparam01 cparam02 regescrt sdp01"
    " inv2543"  # 3.4
).split()
REFUSED = {
    "badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "quotbal": 400, "ltgtruri": 400, "lwsruri": 400,
    "lwsstart": 400, "trws": 400, "escruri": 400, "regbadct": 400, "badaspec": 400, "baddn": 400, "badvers": 505,
    "mismatch01": 400,
    "mismatch02": 501,  # 400 would do; the RFC prefers 501
    "insuf": 400, "unkscm": 416, "novelsc": 416, "multi01": 400, "mcl01": 400,
}  # fmt: skip
DROPPED = ("scalarlg", "bigcode", "bcast")
"""Responses that must be discarded: numbers out of range, and a second Via, so that it is for somebody else."""


def request(name: str) -> Request:
    message = parse(MESSAGES[name])
    assert isinstance(message, Request)
    return message


def test_every_message_is_judged_once() -> None:
    assert sorted([*VALID, *REFUSED, *DROPPED]) == sorted(MESSAGES)
    assert len(MESSAGES) == 49


@pytest.mark.parametrize("name", VALID)
def test_valid(name: str) -> None:
    message = parse(MESSAGES[name])
    assert message.call_id
    assert message.cseq.number >= 0
    if isinstance(message, Request):
        answer = reply(message, 404, to_tag="ours")
        answer.headers.set("Via", str(answer.via))  # or a parser would drop it, as is right
        told = parse(answer.encode())
        assert (told.call_id, told.cseq, told.via) == (message.call_id, message.cseq, message.via)
        assert (told.from_.tag, told.to.tag) == (message.from_.tag, message.to.tag or "ours")
        assert (told.from_.uri, told.to.uri) == (message.from_.uri, message.to.uri)


@pytest.mark.parametrize(("name", "status"), REFUSED.items())
def test_refused(name: str, status: int) -> None:
    with pytest.raises(SipError) as refused:
        parse(MESSAGES[name])
    assert refused.value.status == status
    assert refused.value.request is not None
    answer = reply(refused.value.request, status, to_tag="ours").encode()
    assert answer.startswith(b"SIP/2.0 %d " % status)
    assert b"\r\nVia: SIP/" in answer
    assert not any(sign in answer.replace(b"\r\n", b"") for sign in b"\r\n\0")


@pytest.mark.parametrize("name", DROPPED)
def test_dropped(name: str) -> None:
    with pytest.raises(SipError) as dropped:
        parse(MESSAGES[name])
    assert (dropped.value.status, dropped.value.request) == (0, None)


def test_wsinv_is_read_through_its_white_space() -> None:
    message = request("wsinv")
    assert message.to.tag == "1918181833n"
    assert (message.from_.display, message.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert message.from_.uri == Uri("sip", "jdrosen", "example.com")
    assert (message.cseq.number, message.cseq.method) == (9, "INVITE")
    assert message.headers.lines("Via")[1:] == [
        "SIP  / 2.0  / TCP     spindle.example.com   ; branch  =   z9hG4bK9ikj8",
        "SIP  /    2.0   / UDP  192.168.255.111   ; branch= z9hG4bK30239",
    ]
    assert (message.via.host, message.via.branch) == ("192.0.2.2", "390skdjuw")
    assert message.headers.get("Subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    [route] = message.headers.values("Route")
    assert NameAddr.parse(route).uri.parameters == {"lr": None, "unknownwith": "value", "unknown-no-value": None}
    [contact] = message.headers.values("Contact")
    assert NameAddr.parse(contact).display == 'Quoted string ""'
    assert NameAddr.parse(contact).parameters == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}
    assert len(message.body) == 150


def test_intmeth_has_every_character_that_is_allowed() -> None:
    message = request("intmeth")
    assert message.method == message.cseq.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert message.to.display == "BEL:\a NUL:\0 DEL:\x7f"
    uri = Uri.parse(message.uri)
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert str(uri) == message.uri
    assert message.from_.parameters["fromparam''~+*_!.-%"] == "работающий"
    answer = reply(message, 405, to_tag="ours")
    assert answer.to.uri == message.to.uri
    assert "\0" not in (answer.headers.get("To") or "")


def test_escapes_are_read_where_they_mean_something_and_nowhere_else() -> None:
    message = request("esc01")
    assert Uri.parse(message.uri).user == "sips:user@example.com"
    assert Uri.parse(message.uri).host == "example.net"
    assert message.to.uri.user == "user"
    assert message.from_.uri.user == "I have spaces"
    contact = NameAddr.parse(message.headers.get("Contact") or "").uri
    assert contact.user == "caller"
    assert contact.parameters == {"lr": None, "name": "value%41"}
    assert str(contact) == "sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31"

    nulls = request("escnull").headers.values("Contact")
    assert [NameAddr.parse(value).uri.user for value in nulls] == ["\0", "\0\0"]
    assert [str(NameAddr.parse(value)) for value in nulls] == nulls

    methods = request("esc02")
    assert methods.method == "RE%47IST%45R"
    assert methods.to.display == "%Z%45"
    assert len(methods.headers.values("Contact")) == 2


def test_lengths_lists_and_what_comes_behind() -> None:
    assert request("lwsdisp").from_.display == "caller"
    long = request("longreq")
    assert len(long.headers.lines("via")) == 34
    assert len(long.from_.uri.user or "") == 115
    twice = request("dblreq")
    assert (twice.method, twice.body) == ("REGISTER", b"")
    assert Uri.parse(request("semiuri").uri) == Uri("sip", "user;par=u@example.net", "example.com")
    assert request("semiuri").headers.values("Accept")[-2:] == ["message/sip", "message/sipfrag"]
    assert [via.split()[0] for via in request("transports").headers.values("Via")][3] == "SIP/2.0/UNKNOWN"
    assert request("mpart01").body.endswith(b"--7a9cbec02ceef655--")


def test_phrases() -> None:
    unusual, none = parse(MESSAGES["unreason"]), parse(MESSAGES["noreason"])
    assert isinstance(unusual, Response)
    assert isinstance(none, Response)
    assert unusual.phrase == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert (none.status, none.phrase) == (100, "")


def test_of_parameters_behind_a_bare_uri_the_header_has_them() -> None:
    bare = NameAddr.parse(request("cparam01").headers.get("Contact") or "")
    assert (bare.parameters, bare.uri.parameters) == ({"unknownparam": None}, {})
    within = NameAddr.parse(request("cparam02").headers.get("Contact") or "")
    assert (within.parameters, within.uri.parameters) == ({}, {"unknownparam": None})
    escaped = NameAddr.parse(request("regescrt").headers.get("Contact") or "")
    assert escaped.uri.headers == {"Route": "<sip:sip.example.com>"}


def test_old_elements_have_no_tag_and_no_branch() -> None:
    old = request("inv2543")
    assert (old.from_.tag, old.via.branch, len(old.body)) == (None, None, 105)
    assert request("badbranch").via.branch == "z9hG4bK"


def test_unknown_schemes_are_kept() -> None:
    unknown = request("unksm2")
    assert (unknown.to.uri.scheme, unknown.from_.uri.scheme) == ("isbn", "http")
    assert str(unknown.from_) == "<http://www.example.com>;tag=3234233"
