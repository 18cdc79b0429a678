"""Reading and writing SIP: headers, URIs, addresses, streams, and what must never come out or fall over."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from anycarrier_sip.message import (
    CSeq,
    Headers,
    NameAddr,
    Request,
    Response,
    SipError,
    StreamReader,
    Uri,
    Via,
    parse,
    reply,
)
from rfc4475 import MESSAGES, mutated

INVITE = (
    b"INVITE sip:+15550100@192.0.2.9:5060 SIP/2.0\r\n"
    b"v: SIP/2.0/UDP 192.0.2.1:5066;branch=z9hG4bKa;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'f: "Alice, of Sales" <sip:alice@example.com>;tag=one\r\n'
    b"t: <sip:+15550100@example.com>\r\n"
    b"i: 1@192.0.2.1\r\n"
    b"CSeq: 7 INVITE\r\n"
    b"m: <sip:alice@192.0.2.1:5066>\r\n"
    b"k: timer, 100rel\r\n"
    b"Record-Route: <sip:192.0.2.7;lr>\r\n"
    b"c: application/sdp\r\n"
    b"l: 4\r\n"
    b"\r\n"
    b"v=0\n"
)


def invite(**changed: str) -> Request:
    lines = INVITE.decode().split("\r\n")
    for name, line in changed.items():
        lines = [line if old.startswith(f"{name}:") else old for old in lines]
    message = parse("\r\n".join(lines).encode())
    assert isinstance(message, Request)
    return message


def refusal(data: bytes) -> tuple[int, str]:
    with pytest.raises(SipError) as refused:
        parse(data)
    return refused.value.status, refused.value.phrase


def test_an_invite() -> None:
    message = invite()
    assert (message.method, message.uri, message.body) == ("INVITE", "sip:+15550100@192.0.2.9:5060", b"v=0\n")
    assert message.via == Via("UDP", "192.0.2.1", 5066, {"branch": "z9hG4bKa", "rport": None})
    assert message.from_ == NameAddr("Alice, of Sales", Uri("sip", "alice", "example.com"), {"tag": "one"})
    assert (message.to.tag, message.call_id, message.cseq) == (None, "1@192.0.2.1", CSeq(7, "INVITE"))
    assert message.headers.values("supported") == ["timer", "100rel"]
    assert parse(message.encode()).encode() == message.encode()


def test_what_is_read_follows_the_header() -> None:
    message = invite()
    assert message.cseq.number == 7
    message.headers.set("CSeq", "8 INVITE")
    assert message.cseq.number == 8


def test_a_reply_repeats_what_the_rfc_says() -> None:
    ringing = reply(invite(), 180, to_tag="two")
    assert (ringing.phrase, ringing.to.tag, ringing.from_.tag) == ("Ringing", "two", "one")
    assert ringing.headers.get("Record-Route") == "<sip:192.0.2.7;lr>"
    assert ringing.encode().endswith(b"\r\nContent-Length: 0\r\n\r\n")
    assert reply(invite(), 100, to_tag="two").to.tag is None
    assert "Record-Route" not in reply(invite(), 486).headers
    assert "Record-Route" not in reply(invite(), 100).headers
    tagged = reply(invite(t="t: <sip:+15550100@example.com>;tag=theirs"), 486, to_tag="two")
    assert tagged.to.tag == "theirs"
    answer = reply(invite(), 200, "Fine", to_tag="two", body=b"v=0\r\n", content_type="application/sdp")
    assert answer.encode().startswith(b"SIP/2.0 200 Fine\r\nVia: SIP/2.0/UDP 192.0.2.1:5066;branch=z9hG4bKa;rport\r\n")
    assert answer.encode().endswith(b"Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("t", "t: <sip:bob@example.com>;tag=a;tag=b"),
        ("t", "t: <sip:bob@example.com>tag=a"),
        ("t", "t: <sip:bob@example.com"),
        ("t", 't: "Bob" sip:bob@example.com'),
        ("t", "t: <sip:bob@exa mple.com>"),
        ("t", "t: <sip:bob@>"),
        ("t", "t: <sip:bob@999.1.1.1>"),
        ("t", "t: <sip:bob@example.com:70000>"),
        ("t", "t: <sip:bob@example.com:0>"),
        ("t", "t: <sip:bob%4@example.com>"),
        ("t", "t: <sip:a@b@example.com>"),
        ("t", "t: <sip:bob@[::g]>"),
        ("t", "t: <sip:bob@example.com;a=1;a=2>"),
        ("t", "t: <sip:bob@example.com;a;a=2>"),
        ("t", "t: <sip:bob@example.com;a=1=2>"),
        ("t", "t: <>"),
        ("t", "t: <sip:bob@-example.com>"),
        ("t", "t: <sip:bob@example..com>"),
        ("t", "t: <sip:bob@" + "a" * 256 + ">"),
        ("t", "t: <sip:bob@example.com:65536>"),
        ("t", "t: <sip:bob@example.com?Subject>"),
        ("t", "t: <sip:bob@example.com?=a>"),
        ("t", 't: <sip:bob@example.com>;a="b'),
        ("t", "t: <sip:bob@example.com>;a=b c"),
        ("t", "t: <sip:bob@example.com>;a="),
        ("Max-Forwards", "Session-Expires: 90\r\nx: 91"),
        ("t", "t:"),
        ("v", "v: SIP/2.0/UDP 192.0.2.1;branch=a;branch=b"),
        ("v", "v: SIP/2.0/UDP 192.0.2.1, nonsense"),
        ("v", "v: SIP/2.0/UDP"),
        ("i", "i: two words"),
        ("i", "i: \u00e9"),
        ("CSeq", "CSeq: 2147483648 INVITE"),
        ("CSeq", "CSeq: INVITE"),
        ("CSeq", "CSeq: \u0667 INVITE"),
        ("m", "m: *x"),
        ("m", "m: <sip:a@b>, sip:c@d?e=f"),
        ("Record-Route", "Record-Route: sip:192.0.2.7"),
        ("l", "l: 5"),
        ("l", "l: 4\r\nContent-Length: 4"),
        ("l", "l: \u0664"),
        ("Max-Forwards", "Max-Forwards: 256"),
        ("Max-Forwards", "Max-Forwards: 70\r\nMax-Forwards: 69"),
        ("k", "k timer"),
        ("k", "k\u00e9: timer"),
        ("k", "k: a\rX-Injected: b"),
        ("k", "k: a\nX-Injected: b"),
        ("k", "k: a\0b"),
        ("k", "X-Long: " + "a" * 8192),
        ("k", "\r\n".join(["X-Many: a"] * 128)),
    ],
)
def test_a_bad_line_is_a_400_that_repeats_nothing(name: str, line: str) -> None:
    with pytest.raises(SipError) as refused:
        invite(**{name: line})
    assert refused.value.status == 400
    assert "sip:" not in refused.value.phrase
    assert refused.value.phrase.isprintable()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\r\n\r\n", b"\0\0\0\0", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", INVITE.replace(b"\r\n", b"\n"),
        INVITE.replace(b"INVITE sip", b"INV(TE sip"), INVITE.replace(b"INVITE", b"ACK").replace(b"CSeq: 7", b"CSeq: x"),
        INVITE.replace(b"v: ", b"X-Not-Via: "), INVITE + b"x" * 65536, b"SIP/2.0 200 OK\r\n\r\n",
        b"SIP/2.0 700 No\r\n" + INVITE.partition(b"\r\n")[2], b"SIP/3.0 200 OK\r\n" + INVITE.partition(b"\r\n")[2],
        INVITE.partition(b"\r\n\r\n")[0] + b"\r\n",
    ],
)  # fmt: skip
def test_nonsense_is_met_with_silence(data: bytes) -> None:
    assert refusal(data)[0] == 0


def test_a_refused_request_is_answered_without_what_cannot_be_printed() -> None:
    with pytest.raises(SipError) as refused:
        parse(INVITE.replace(b"Alice, of Sales", b"Alice\x07, of \x1b[2J"). replace(b"CSeq: 7", b"CSeq: \x07"))
    assert refused.value.request is not None
    answer = reply(refused.value.request, 400, to_tag="two")
    assert answer.headers.get("From") == '"Alice?, of ?[2J" <sip:alice@example.com>;tag=one'
    assert (answer.headers.get("CSeq"), answer.headers.get("To")) == ("? INVITE", "<sip:+15550100@example.com>;tag=two")


def test_several_values_a_line_and_quotes() -> None:
    message = invite(
        v="v: SIP/2.0/UDP a.example.com;branch=z9hG4bKb, SIP/2.0/TCP [2001:DB8::1]:5070;branch=z9hG4bKc",
        m='m: "a,b" <sip:a,a@b>;q="x,y", <sip:c@d>',
    )
    assert message.headers.lines("Via")[1] == "SIP/2.0/TCP [2001:DB8::1]:5070;branch=z9hG4bKc"
    assert (message.via.host, Via.parse(message.headers.lines("Via")[1]).host) == ("a.example.com", "2001:db8::1")
    assert str(Via.parse(message.headers.lines("Via")[1])) == "SIP/2.0/TCP [2001:db8::1]:5070;branch=z9hG4bKc"
    assert message.headers.values("Contact") == ['"a,b" <sip:a,a@b>;q="x,y"', "<sip:c@d>"]


def test_line_ends_before_a_message_and_the_largest_one() -> None:
    assert parse(b"\r\n\r\n" + INVITE).encode() == parse(INVITE).encode()
    assert refusal(INVITE + b"x" * (65537 - len(INVITE)))[0] == 0
    assert parse(INVITE + b"x" * (65536 - len(INVITE))).body == b"v=0\n"


def test_who_has_nul_in_his_name_can_be_answered_and_hung_up() -> None:
    message = invite(f='f: "A\\\0" <sip:a@b>;tag="\\\0x"', v='v: SIP/2.0/UDP a;branch=z9hG4bKa;x="\\\0", SIP/2.0/UDP b')
    assert message.from_ == NameAddr("A\0", Uri("sip", "a", "b"), {"tag": "\0x"})
    headers = Headers([("Via", str(message.via)), ("To", str(message.from_))])
    assert headers.get("To") == '"A" <sip:a@b>;tag="x"'
    assert b"\0" not in reply(message, 200).encode()


def test_tabs_fold_too() -> None:
    folded = parse(INVITE.replace(b"k: timer,", b"k: timer,\r\n\t"))
    assert folded.headers.values("Supported") == ["timer", "100rel"]


def test_names_of_people_are_taken_as_they_come() -> None:
    assert NameAddr.parse("J\u00f6rg (Lager) <sip:j@example.com>").display == "J\u00f6rg (Lager)"
    assert parse(INVITE.replace(b'"Alice, of Sales"', b"J\xf6rg")).from_.display == "J\u00f6rg"  # Latin-1
    assert str(NameAddr('A "B" \\', Uri("sip", "a", "b.c"))) == r'"A \"B\" \\" <sip:a@b.c>'


@pytest.mark.parametrize(
    "text",
    [
        "sip:alice@example.com", "sips:alice:secret@example.com:5061;transport=tcp;lr?Subject=a%20b&x=y",
        "sip:[2001:db8::1]:5060", "sip:%2B1555@example.com", "sip:a%3Bb@192.0.2.1", "tel:+15550100;phone-context=x",
        "urn:service:sos", "sip:*72%23@pbx_1.local",
    ],
)  # fmt: skip
def test_a_uri_is_written_as_it_was(text: str) -> None:
    assert str(Uri.parse(text)) == text


def test_a_uri_in_parts() -> None:
    assert Uri.parse("sip:a@b;transport=tls;transport=tls").parameters == {"transport": "tls"}
    uri = Uri.parse("SIPS:Alice:p@Example.COM:5061;Transport=TCP;lr?Replaces=a%3Bb".replace("p@", "p%40@"))
    assert uri == Uri(
        "sips", "Alice", "example.com", 5061, {"transport": "TCP", "lr": None}, {"Replaces": "a;b"}, "p@"
    )
    assert Uri.parse("tel:+1555;ext=2") == Uri("tel", "+1555", "", None, {"ext": "2"})
    assert str(Uri("sips", "b@d c", "::1", None, {}, {}, "p@")) == "sips:b%40d%20c:p%40@[::1]"


def test_headers_added_to_a_uri_leave_it_as_it_was_written() -> None:
    plain = Uri.parse("sip:a%3Bb@example.com;x")
    assert str(plain.with_headers({"Replaces": "1;a=b@c"})) == "sip:a%3Bb@example.com;x?Replaces=1%3Ba%3Db%40c"
    assert plain.with_headers({"H": "a&b"}).with_headers({"I": ""}).headers == {"H": "a&b", "I": ""}
    assert plain.with_headers({}) == plain


def test_headers() -> None:
    headers = Headers([("v", "one"), ("X-Own", "a"), ("Via", "two")])
    assert list(headers.items()) == [("Via", "one"), ("Via", "two"), ("X-Own", "a")]
    headers.set("VIA", "zero", "one")
    headers.add("X-Own", "b")
    assert (headers.lines("Via"), headers.lines("x-own")) == (["zero", "one"], ["a", "b"])
    assert b"\r\nVIA: zero\r\nVIA: one\r\n" in Request("BYE", "sip:a", headers).encode()
    headers.remove("via")
    assert ("Via" in headers, headers.get("Via"), headers.values("Via")) == (False, None, [])
    assert "a" not in repr(Headers([("Authorization", "a")])).removeprefix("Headers(Authorization")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: b", "a\nb", "a\rb", "a\0b"])
def test_p9_nothing_that_is_written_becomes_another_header(value: str) -> None:
    headers = Headers()
    for write in (headers.add, headers.set):
        with pytest.raises(ValueError, match="X-Name holds a line end or NUL"):
            write("X-Name", value)
        with pytest.raises(ValueError, match="no name of a header"):
            write(f"X-{value}", "a")
    with pytest.raises(ValueError, match="start line"):
        Response(200, value, Headers()).encode()
    with pytest.raises(ValueError, match=r"start line|Request-URI"):
        Request("INVITE", f"sip:{value}", Headers()).encode()
    with pytest.raises(ValueError, match="token"):
        Request(f"INVITE{value}", "sip:a", Headers()).encode()
    with pytest.raises(ValueError, match="no space"):
        Request("INVITE", "sip:a SIP/2.0", Headers()).encode()
    assert "\r" not in str(NameAddr.parse(f"<sip:{Uri('sip', value, 'a.b').user and 'x'}@a.b>"))
    assert not set("\r\n\0") & set(str(Uri("sip", value, "a.b", None, {"p": value}, {"H": value})))


class TestStream:
    def test_messages_are_cut_wherever_they_are_broken(self) -> None:
        stream = b"\r\n\r\n" + INVITE + b"\r\n" + MESSAGES["zeromf"] + INVITE
        for size in (1, 2, 3, 7, 100, len(stream)):
            reader, found = StreamReader(), []
            for at in range(0, len(stream), size):
                found += reader.feed(stream[at : at + size])
            assert found == [b"\r\n\r\n", INVITE, MESSAGES["zeromf"], INVITE]

    def test_a_ping_is_given_as_soon_as_it_is_whole(self) -> None:
        reader = StreamReader()
        assert [reader.feed(b"\r\n"), reader.feed(b"\r"), reader.feed(b"\n")] == [[], [], [b"\r\n\r\n"]]

    def test_a_body_that_is_awaited(self) -> None:
        reader = StreamReader()
        assert reader.feed(MESSAGES["clerr"]) == []
        assert len(reader.feed(b"x" * 9999)) == 1

    @pytest.mark.parametrize(
        "data",
        [
            INVITE.replace(b"l: 4\r\n", b""),
            INVITE.replace(b"l: 4", b"l: 4\r\nl: 4"), INVITE.replace(b"l: 4", b"l: -4"),
            INVITE.replace(b"l: 4", b"l: 66000"), MESSAGES["mcl01"], b"x" * 65537,
        ],
    )  # fmt: skip
    def test_what_cannot_be_cut_ends_the_stream(self, data: bytes) -> None:
        with pytest.raises(SipError) as ended:
            StreamReader().feed(data)
        assert ended.value.status == 0

    def test_a_folded_length(self) -> None:
        data = INVITE.replace(b"l: 4", b"Content-Length:\r\n 4")
        assert StreamReader().feed(data) == [data]


def test_ten_thousand_mutated_datagrams() -> None:
    seed = random.Random(4475)
    originals = [INVITE, MESSAGES["wsinv"], MESSAGES["longreq"], *MESSAGES.values()]
    taken = refused = 0
    statuses = set()
    for _ in range(10_000):
        data = mutated(seed, seed.choice(seed.choice((originals, originals[:3]))))
        for read in (parse, StreamReader().feed):
            try:
                read(data)
            except SipError as error:
                statuses.add(error.status)
                if error.request is not None:
                    reply(error.request, error.status, to_tag="t").encode()
        try:
            message = parse(data)
        except SipError:
            refused += 1
            continue
        taken += 1
        if isinstance(message, Request):
            answer = reply(message, 404, to_tag="t").encode()
            assert b"\0" not in answer
        assert message.via and message.from_ and message.to and message.cseq and message.call_id
        for name in ("Contact", "Route"):
            for value in message.headers.values(name):
                assert value == "*" or NameAddr.parse(value)
    assert min(taken, refused) > 1000
    assert statuses == {0, 400, 416, 501, 505}


@given(st.binary(max_size=400))
def test_bytes_are_a_message_or_an_error(data: bytes) -> None:
    for candidate in (data, INVITE.replace(b"Alice", data), INVITE.replace(b"timer, 100rel", data), INVITE + data):
        try:
            parse(candidate)
        except SipError:
            pass


@given(st.text(max_size=40), st.text(max_size=20))
def test_what_is_written_is_read_again(display: str, user: str) -> None:
    display = "".join(sign for sign in display if sign not in "\r\n\0" and not "\ud800" <= sign <= "\udfff")
    user = "".join(sign for sign in user if not "\ud800" <= sign <= "\udfff") or "x"
    address = NameAddr(display, Uri("sip", user, "example.com", None, {"p": user}), {"tag": "t"})
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ['"' * 8000, "<" * 8000, "a" * 8000, "a." * 4000, ";" * 8000, "%41" * 2600, ',"' + ',\\"' * 2600, " " * 8000],
)
def test_hostile_text_costs_its_length_only(text: str) -> None:
    """Nothing is timed here: an exponential pattern would run into the test's timeout."""
    for part in ("sip:" + text, f"sip:a@{text}", f'"{text}', f"<sip:a>;{text}", f"SIP/2.0/UDP {text}"):
        for read in (Uri.parse, NameAddr.parse, Via.parse, CSeq.parse):
            try:
                read(part)
            except SipError:
                pass
        Headers([("Accept", part)]).values("Accept")
    with pytest.raises(SipError):
        parse(INVITE.replace(b"timer", b" " * 60000 + b"\r\n x\0"))
