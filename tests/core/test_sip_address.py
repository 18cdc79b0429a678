"""SIP addresses: RFC 3261's grammar, one reading of each, and nothing let past a list of allowed hosts."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from anycarrier.errors import DestinationNotAllowed, InvalidNumber, InvalidSipAddress
from anycarrier.policy import Policy
from anycarrier.sip import LONGEST, SipAddress, destination, host_name

US = "+14155550100"
OURS, OTHER = "pbx.example.com", "other.example"


def test_every_part_is_read() -> None:
    address = SipAddress.parse("SIPS:100:s3cret@PBX.Example.com.:5061;Transport=tls;lr?X-Case=42&X-Desk=a%40b")
    assert (address.scheme, address.user, address.password) == ("sips", "100", "s3cret")
    assert (address.host, address.port) == ("pbx.example.com", 5061)
    assert (address.parameter("transport"), address.parameter("lr"), address.parameter("ttl")) == ("tls", "", None)
    assert address.headers == (("X-Case", "42"), ("X-Desk", "a@b"))
    assert str(address) == "sips:100:s3cret@pbx.example.com:5061;transport=tls;lr?X-Case=42&X-Desk=a%40b"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("sip:pbx.example.com", "pbx.example.com", None),
        ("sip:192.0.2.7:5060", "192.0.2.7", 5060),
        ("sip:100@[2001:DB8:0:0::1]:5060", "2001:db8::1", 5060),
        ("sip:alice%40example.org@pbx.example.com", "pbx.example.com", None),
        ("sip:+14155550100@a-b.example;user=phone", "a-b.example", None),
        # RFC 4475, 3.1.1.2: strange but valid.
        ("sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
         "example.com", None),
    ],
)  # fmt: skip
def test_the_host_is_what_stands_behind_the_user(text: str, host: str, port: int | None) -> None:
    address = SipAddress.parse(text)
    assert (address.host, address.port) == (host, port)
    assert SipAddress.parse(str(address)).host == host


@pytest.mark.parametrize(
    "text",
    [
        "", "sip:", "sips:", "tel:+14155550100", "desk@pbx.example.com", "<sip:desk@pbx.example.com>",
        " sip:a@b.example",
        "sip:@pbx.example.com", "sip:desk@", "sip:desk@pbx.example.com:", "sip:desk@pbx.example.com:0",
        "sip:desk@pbx.example.com:65536", "sip:desk@pbx.example.com:5060x", "sip:desk@.", "sip:desk@a..b",
        "sip:desk@-a.b",
        "sip:desk@a_b.example", "sip:desk@b\u00fccher.example", "sip:desk@pbx%2eexample.com",
        # Other spellings of addresses, which some resolvers understand.
        "sip:desk@2130706433", "sip:desk@0x7f.1", "sip:desk@127.1", "sip:desk@010.0.0.1", "sip:desk@1.2.3.256",
        "sip:desk@[::1", "sip:desk@::1", "sip:desk@[fe80::1%25eth0]", "sip:desk@[::1]5060",
        "sip:desk@[pbx.example.com]",
        "sip:a@b.example@pbx.example.com", "sip:a@b.example,sip:a@pbx.example.com", "sip:a@b.example sip:c@d.example",
        'sip:"desk"@pbx.example.com', "sip:desk@pbx.example.com\n", "sip:desk@pbx.example.com\x00",
        "sip:de sk@pbx.example.com",
        "sip:a%00@pbx.example.com", "sip:a%0d%0aRoute:b@pbx.example.com", "sip:a%zz@pbx.example.com",
        "sip:a%ff@pbx.example.com",
        "sip:a@pbx.example.com;", "sip:a@pbx.example.com;=b", "sip:a@pbx.example.com;lr;LR",
        "sip:a@pbx.example.com;a=<b>",
        "sip:a@pbx.example.com;maddr=", "sip:a@pbx.example.com;maddr=a%40b", "sip:a@pbx.example.com;maddr=127.1",
        "sip:a@pbx.example.com?", "sip:a@pbx.example.com?X-A", "sip:a@pbx.example.com?=b",
        "sip:a@pbx.example.com?X-A=b@c",
        "sip:a@pbx.example.com?X-A=1%0d%0aRoute:b", "sip:a@pbx.example.com?X-A=1;b=2",
        "sip:" + "a" * 3000 + "@pbx.example.com",
    ],
)  # fmt: skip
def test_what_the_grammar_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(InvalidSipAddress) as refused:
        SipAddress.parse(text)
    assert isinstance(refused.value, InvalidNumber), "handled wherever a destination is wrong"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("sip:100@pbx.example.com", None), ("sip:100@pbx.example.com;method=invite;lr?X-Case=1", None),
        ("sip:pbx.example.com;x=a", None), ("sip:Desk-X_9.!~*'()&=+$:X!@pbx.example.com", None),
        ("sip:100:a%2Cb@pbx.example.com", None),
        ("sip:100@pbx.example.com;method=REFER", "parameter method"),
        ("sip:100@pbx.example.com;method", "parameter method"),
        ("sip:100@pbx.example.com;route=x", "parameter route"), ("sip:100@pbx.example.com;fs_path=x", "fs_path"),
        ("sip:100@pbx.example.com?X-A=1&ROUTE=x", "header ROUTE"), ("sip:100@pbx.example.com?Contact=x", "Contact"),
        *((f"sip:1{sign}2@pbx.example.com", "user holds") for sign in ";?/,"),
        ("sip:1:a,b@pbx.example.com", "user holds"),
    ],
)  # fmt: skip
def test_what_would_lead_elsewhere_is_named(text: str, named: str | None) -> None:
    found = SipAddress.parse(text).rerouted()
    assert found is None if named is None else named in (found or "")


@pytest.mark.parametrize(
    "header",
    "route record-route via v path service-route contact m to t from f call-id i cseq max-forwards refer-to r replaces "
    "join target-dialog authorization proxy-authorization proxy-require body content-type c content-length l "
    "content-encoding e".split(),
)  # fmt: skip
def test_no_header_that_makes_it_another_request_is_let_through(header: str) -> None:
    found = SipAddress.parse(f"sip:100@pbx.example.com?{header}=x").rerouted()
    assert found == f"the header {header} changes where the call goes or what it is"


@pytest.mark.parametrize(
    "parameter", "method route received fs_path rn cic tgrp trunk-context phone-context".split()
)
def test_no_parameter_that_makes_it_another_request_is_let_through(parameter: str) -> None:
    found = SipAddress.parse(f"sip:100@pbx.example.com;{parameter.upper()}=x").rerouted()
    assert found == f"the parameter {parameter} changes where the call goes or what it is"


def test_hosts_are_all_that_an_address_names_and_a_parameter_is_found_in_any_case() -> None:
    address = SipAddress.parse("sip:100@pbx.example.com;maddr=OTHER.example.;lr")
    assert (address.maddr, address.hosts) == (OTHER, (OURS, OTHER))
    assert (address.parameter("MADDR"), address.parameter("LR")) == ("OTHER.example.", "")
    plain = SipAddress.parse("sip:pbx.example.com")
    assert (plain.maddr, plain.hosts, plain.user, plain.password, plain.parameters, plain.headers) == (
        None, (OURS,), None, None, (), (),
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "sip:pbx.example.com:1", "sip:pbx.example.com:65535", f"sip:{'a' * 63}.example", f"sip:a.{'a' * 63}",
        f"sip:a@{'a.' * 127}",
        "sip:" + "a" * (2048 - 20) + "@pbx.example.com", "sip:100:@pbx.example.com",
        "sip:a%40b%2Fc@[2001:db8::1]:7;x=%5E",
    ],
)  # fmt: skip
def test_the_longest_and_the_outermost_are_read_and_spelt_again(text: str) -> None:
    address = SipAddress.parse(text)
    assert SipAddress.parse(str(address)) == SipAddress(
        str(address), address.scheme, address.host, address.port, address.user, address.password, address.parameters,
        address.headers,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "sip:" + "a" * (2048 - 19) + "@pbx.example.com", f"sip:{'a' * 64}.example", f"sip:a.{'a' * 64}",
        f"sip:a@{'a.' * 127}a",
        "sip:pbx.example.com:99999", "sip:pbx.example.com:000001",
    ],
)  # fmt: skip
def test_one_more_is_too_many(text: str) -> None:
    with pytest.raises(InvalidSipAddress):
        SipAddress.parse(text)


def test_a_host_alone_is_spelt_like_the_host_of_an_address() -> None:
    assert [host_name(text) for text in ("PBX.example.com.", "2001:DB8::0:1", "[::1]")] == [OURS, "2001:db8::1", "::1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tel:+14155550100", "it must start with sip: or sips:"),
        (f"sip:{'a' * LONGEST}", f"it is longer than {LONGEST} characters"),
        ("sip:a@b.example@c.example", 'it has more than one "@"'),
        ("sip:@pbx.example.com", "its user is empty or"), ("sip:a%ff@pbx.example.com", "an escape in its user is not"),
        ("sip:a%0a@pbx.example.com", "an escape in its user is a control"),
        ("sip:a:<@pbx.example.com", "its password is empty or"),
        ("sip:a@pbx.example.com;", "its parameter is empty or"),
        ("sip:a@pbx.example.com;x=", "its parameter is empty or"),
        ("sip:a@pbx.example.com;lr;LR", "a parameter is there twice"),
        ("sip:a@pbx.example.com?X A=1", "its header is empty or"),
        ("sip:a@pbx.example.com?X=<", "its header is empty or"),
        ("sip:a@pbx.example.com?X", "a header must be like"), ("sip:a@pbx.example.com?=1", "a header must be like"),
        ("sip:a@pbx.example.com:0", "its port is"), ("sip:a@[::1]:x", "its port is"),
        ("sip:a@a_b.example", "its host is no name or address"), ("sip:a@1.2.3.256", "its host is no name or address"),
        ("sip:a@[::1]5", "its host is no name or address"), ("sip:a@[::1", "its host is no name or address"),
        ("sip:a@[a]", "its host is not an IPv6 address"),
        ("sip:a@pbx.example.com;maddr=[a]", "its maddr is not an IPv6 address"),
        ("sip:a@pbx.example.com;maddr", "its maddr is no name or address"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_part_that_is_wrong(text: str, why: str) -> None:
    with pytest.raises(InvalidSipAddress) as refused:
        SipAddress.parse(text)
    assert refused.value.why.startswith(why)


def test_a_host_alone_that_is_none_is_said_to_be_none() -> None:
    for text, why in (
        ("a_b.example", "its host is no name"),
        ("[a]", "its host is not an IPv6"),
        ("a:b:c", "its host"),
    ):
        with pytest.raises(InvalidSipAddress, match=f"not a SIP address: {why}"):
            host_name(text)


def test_only_what_the_grammar_asks_for_is_escaped_when_it_is_spelt_again() -> None:
    user, part, header = "!~*'()&=+$,%3B%3F%2F%40%20", "!~*'()[]/:&+$%3B%3D%3F%20", "!~*'()[]/?:+$%26%3B%3D%20"
    text = f"sip:{user}:{user}@pbx.example.com:5061;x{part}={part};lr?X-A{header}={header}&X-B={header}"
    address = SipAddress.parse(text)
    assert str(address) == text
    assert address.user == address.password == "!~*'()&=+$,;?/@ "
    assert address.headers[1] == ("X-B", "!~*'()[]/?:+$&;= ")
    assert str(SipAddress.parse("SIP:%61@PBX.example.com.;LR=%41?X-A=%41")) == "sip:a@pbx.example.com;lr=A?X-A=A"


@pytest.mark.parametrize("text", [US, "SIP:Desk%41@PBX.Example.com.;LR", "sips:[2001:DB8:0::1]:5061"])
def test_a_destination_is_passed_on_as_it_was_given(text: str) -> None:
    assert destination(text) == text


@pytest.mark.parametrize(
    "text", ["", "911", "sip:", "sip:a b@pbx.example.com", "desk@pbx.example.com", "tel:+1", 5, None]
)
def test_what_is_neither_a_number_nor_a_sip_address_is_no_destination(text: object) -> None:
    with pytest.raises(InvalidNumber) as refused:
        destination(text)  # type: ignore[arg-type]
    assert isinstance(refused.value, InvalidSipAddress) is str(text).startswith("sip:")


# --- against a list of allowed hosts ----------------------------------------------------------------------------------

POLICY = Policy(allow=["US", f"sip:{OURS}", "sip:2001:db8::1"])


@pytest.mark.parametrize(
    "address",
    [
        "sip:100@pbx.example.com", "sips:100@PBX.example.com.", "SIP:100:pass@pbx.example.com:5061;transport=tls",
        "sip:100@pbx.example.com?X-Case=42",
        "sip:100@pbx.example.com:5061;transport=tls?X-Case=42&X-Desk=a%40other.example",
        "sip:100@pbx.example.com;maddr=PBX.example.com", "sip:100@[2001:DB8:0::1]", "sip:pbx.example.com",
        "sip:100@pbx.example.com;method=INVITE", "sip:100@pbx.example.com?User-to-User=abc",
    ],
)  # fmt: skip
def test_what_follows_an_allowed_host_is_allowed(address: str) -> None:
    POLICY.check_destination(US, address)


@pytest.mark.parametrize(
    "address",
    [
        # The host is another one, however it is dressed up.
        "sip:100@other.example", "sip:pbx.example.com@other.example", "sip:pbx.example.com:5060@other.example",
        "sip:100@other.example?x=@pbx.example.com", "sip:100@other.example?X-A=a%40pbx.example.com",
        "sip:100@other.example;x=pbx.example.com", "sip:100%40pbx.example.com@other.example", "sip:other.example",
        "sip:100@pbx.example.com.other.example", "sip:100@otherpbx.example.com", "sip:100@example.com",
        "sip:100@other.example;maddr=pbx.example.com",
        # The call goes elsewhere all the same.
        "sip:100@pbx.example.com;maddr=other.example", "sip:100@pbx.example.com;MADDR=other.example",
        "sip:100@pbx.example.com;%6daddr=other.example", "sip:100@pbx.example.com;maddr=other%2eexample",
        "sip:100@pbx.example.com?Route=%3Csip:other.example%3E", "sip:100@pbx.example.com?X-A=1&rOuTe=other.example",
        "sip:100@pbx.example.com?R%6fute=other.example", "sip:100@pbx.example.com?m=sip:other.example",
        "sip:100@pbx.example.com?To=sip:other.example", "sip:100@pbx.example.com?body=v%3D0",
        "sip:100@pbx.example.com;method=REFER?Refer-To=sip:other.example",
        "sip:100@pbx.example.com;received=other.example",
        # Legal, and read as another host by who looks for the end of the host first.
        "sip:other.example;x=y@pbx.example.com", "sip:other.example?x=@pbx.example.com",
        "sip:other.example/@pbx.example.com",
    ],
)  # fmt: skip
def test_no_spelling_leads_past_the_allowed_hosts(address: str) -> None:
    with pytest.raises((DestinationNotAllowed, InvalidSipAddress)):
        POLICY.check_destination(US, address)


PIECES = st.sampled_from(
    ["sip:", "sips:", "SIP:", OURS, OTHER, OURS.upper(), "@", "%40", ":", ";", "?", "&", "=", "/", ",", "[", "]", "<",
     ">",
     '"', " ", "\n", "\x00", "%00", "%0d%0a", "%25", "\\", "#", ".", "maddr", "%6daddr", "Route", "X-A", "lr", "100",
     "5060",
     "[::1]", "127.0.0.1", "transport=tls", "method=REFER"]
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=10).map("".join), st.sampled_from(["", "sip:", f"sip:100@{OURS}", f"sip:a@{OTHER}"]))
@example("x=@pbx.example.com", "sip:100@other.example?")
@example(";maddr=other.example", "sip:100@pbx.example.com")
@example("?method=REFER", "sip:100@pbx.example.com")
@example(";sip:method=REFER", "sip:100@pbx.example.com")  # a parameter named "sip:method", which nobody knows
def test_whatever_is_let_through_has_one_reading_and_an_allowed_host(text: str, start: str) -> None:
    text = start + text
    try:
        POLICY.check_destination(US, text)
    except (DestinationNotAllowed, InvalidNumber):
        return
    # Read again by hand, with nothing of the parser: one "@" at most, and the host ends at the next of ":;?".
    assert text.isascii() and text.isprintable() and not set(text) & set(' "<>,\\^`{|}')
    rest = text.partition(":")[2]
    assert rest.count("@") <= 1
    user, at, behind = rest.rpartition("@")
    assert not at or not set(user) & set(";?/")
    ends = [behind.index(sign) for sign in ":;?" if sign in behind] or [len(behind)]
    assert behind[: min(ends)].lower().rstrip(".") == OURS
    for part in re.split("[;?&]", behind.lower())[1:]:
        name, _, value = part.partition("=")
        assert unquote(name) != "route" and (unquote(name), unquote(value)) != ("method", "refer")
    for part in behind.partition("?")[0].lower().replace("%6d", "m").split(";")[1:]:
        name, _, value = part.partition("=")
        assert name != "maddr" or value.rstrip(".") == OURS
    assert SipAddress.parse(str(SipAddress.parse(text))).hosts == SipAddress.parse(text).hosts


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_typed_refusal(text: str) -> None:
    for address in (text, f"sip:{text}", f"sip:100@pbx.example.com{text}"):
        try:
            SipAddress.parse(address)
        except InvalidSipAddress:
            continue
