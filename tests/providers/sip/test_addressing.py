"""Who calls and who is called: numbers on the wire, and whose word on a caller counts."""

import base64
import json
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from anycarrier_sip.addressing import Called, Caller, address_of, called, caller, dialled, identity_headers, to_e164
from anycarrier_sip.message import Headers, Request, parse
from anycarrier_sip.presets import Preset

OURS = "+14155550100"


def invite(
    *headers: str,
    uri: str = "sip:+14155550100@192.0.2.1",
    from_: str = "<sip:+14155550199@pbx.example.com>;tag=1",
    to: str = "<sip:+14155550100@192.0.2.1>",
) -> Request:
    lines = [
        f"INVITE {uri} SIP/2.0", "Via: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1", f"From: {from_}", f"To: {to}",
        "Call-ID: a@b", "CSeq: 1 INVITE", *headers, "Content-Length: 0", "", "",
    ]  # fmt: skip
    request = parse("\r\n".join(lines).encode())
    assert isinstance(request, Request)
    return request


# --- numbers ------------------------------------------------------------------------------------------------------

READ = [
    ("+4930123456", None, "+4930123456"), ("+4930123456", "US", "+4930123456"),
    ("004930123456", "DE", "+4930123456"), ("004930123456", "GB", "+4930123456"),
    ("0114930123456", "US", "+4930123456"), ("0104930123456", "JP", "+4930123456"),
    ("030123456", "DE", "+4930123456"), ("02079460000", "GB", "+442079460000"),
    ("4155550100", "US", OURS), ("14155550100", "US", OURS), ("0014155550100", "DE", OURS),
    ("612345678", "ES", "+34612345678"), ("4930123456", "DE", "+4930123456"),
    # What could be another number, or none: left alone.
    ("004930123456", None, None), ("14155550100", None, None), ("004930123456", "US", None),
    ("201", "US", None), ("2015", "DE", None), ("20155", "DE", None), ("5550100", "US", None), ("123456", "DE", None),
    ("911", "US", None), ("112", "DE", None), ("+", None, None), ("+12", None, None), ("", "US", None),
    ("alice", "US", None), ("1800FLOWERS", "US", None), ("*21#", "DE", None), ("0" * 21, "DE", None),
    ("00", "DE", None), ("٤١٥٥٥٥٠١٠٠", "US", None), ("07700900123", "GB", "+447700900123"), ("7700900123", "GB", None),
    ("٠٣٠١٢٣٤٥٦", "DE", None), ("+1415555010０", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("digits", "country", "number"), READ)
def test_digits_are_read_as_they_are_dialled_in_the_country(digits: str, country: str, number: str | None) -> None:
    assert to_e164(digits, country) == number


def test_our_own_numbers_are_recognized_without_plus_and_country_code() -> None:
    assert to_e164("14155550100", None, [OURS]) == OURS
    assert to_e164("14155550100", "DE", [OURS]) == OURS
    assert to_e164("30123456", "DE", ["+4930123456"]) == "+4930123456"
    assert to_e164("30123456", "DE", ["+4940123456"]) is None


def examples() -> list[str]:
    kinds = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.TOLL_FREE)
    regions = sorted(phonenumbers.SUPPORTED_REGIONS)
    found = [phonenumbers.example_number_for_type(one, kind) for one in regions for kind in kinds]
    return sorted({phonenumbers.format_number(one, PhoneNumberFormat.E164) for one in found if one})


@pytest.mark.parametrize("country", ["US", "DE", "GB", "AU", "BR", "JP", "RU", "IT", "ES", "HU", "KI"])
def test_what_is_dialled_from_a_country_is_read_there_as_the_same_number(country: str) -> None:
    for number in examples():
        assert to_e164(dialled(number, "country", country), country) == number


def test_every_country_reads_its_own_numbers_as_they_are_dialled_at_home() -> None:
    for number in examples():
        country = phonenumbers.region_code_for_number(phonenumbers.parse(number))
        if country and country != "001":
            assert to_e164(dialled(number, "country", country), country) == number


@given(digits=st.text("0123456789+", max_size=22), country=st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)))
def test_whatever_is_dialled_becomes_e164_or_nothing(digits: str, country: str) -> None:
    number = to_e164(digits, country)
    assert number is None or (number.startswith("+") and 7 <= len(number[1:]) <= 15)


def test_numbers_are_written_in_the_form_the_trunk_wants() -> None:
    assert dialled("+4930123456", "e164", "DE") == "+4930123456"
    assert dialled("+4930123456", "digits", None) == "4930123456"
    assert dialled("+4930123456", "country", None) == "+4930123456"
    assert dialled("+4930123456", "country", "DE") == "030123456"
    assert dialled("+4930123456", "country", "US") == "0114930123456"
    trunk = Preset(host="h.example", port=5080)
    assert str(address_of(OURS, trunk, None, "h.example")) == "sip:+14155550100@h.example:5080"
    assert str(address_of(OURS, trunk, None, "192.0.2.1")) == "sip:+14155550100@192.0.2.1"


# --- who calls ----------------------------------------------------------------------------------------------------

PAI = "P-Asserted-Identity: \"Ann\" <sip:+14155550111@pbx.example.com>, <tel:+14155550112>"
RPID = "Remote-Party-ID: <sip:+14155550122@pbx.example.com>;party=calling"


def test_the_asserted_identity_counts_first_then_remote_party_id_then_from() -> None:
    assert caller(invite(PAI, RPID), trusted=True, country=None) == Caller("+14155550111", "Ann")
    assert caller(invite(RPID), trusted=True, country=None).number == "+14155550122"
    assert caller(invite(), trusted=True, country=None).number == "+14155550199"


def test_a_claim_of_somebody_who_is_no_peer_does_not_count() -> None:
    verstat = "P-Asserted-Identity: <sip:+14155550111@x;verstat=TN-Validation-Passed-A>"
    claimed = caller(invite(verstat, RPID, "P-Attestation-Indicator: A"), trusted=False, country=None)
    assert claimed == Caller("+14155550199")
    from_ = "<sip:+14155550199@x;verstat=TN-Validation-Passed-A>;tag=1"
    assert caller(invite(from_=from_), trusted=False, country=None).verified is None


def test_an_asserted_name_gives_way_to_an_asserted_number() -> None:
    pai = "P-Asserted-Identity: <sip:ann@pbx.example.com>, <tel:+1-415-555-0112>"
    assert caller(invite(pai), trusted=True, country=None).number == "+14155550112"
    assert caller(invite("P-Asserted-Identity: <sip:ann@x>"), trusted=True, country=None).number == "sip:ann@x"


def test_an_unreadable_claim_is_passed_over() -> None:
    assert caller(invite("P-Asserted-Identity: <sip:"), trusted=True, country=None).number == "+14155550199"


@pytest.mark.parametrize(
    "headers",
    [
        {"headers": [PAI, "Privacy: id"]}, {"headers": [PAI, "Privacy: user;critical"]},
        {"headers": [RPID + ";privacy=full"]},
        {"headers": [PAI], "from_": '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'},
        {"headers": [PAI], "from_": "<sip:thisis@anonymous.invalid>;tag=1"},
        {"headers": [PAI], "from_": "<sip:Restricted@pbx.example.com>;tag=1"},
    ],
)  # fmt: skip
def test_a_caller_who_withholds_his_number_is_anonymous(headers: dict[str, Any]) -> None:
    request = invite(*headers.pop("headers"), **headers)
    assert caller(request, trusted=True, country=None) == Caller("anonymous", anonymous=True)


def test_a_caller_without_a_number_is_his_address_without_what_is_not_his_name() -> None:
    found = caller(invite(from_='"Bob" <sip:201:pw@10.0.0.9:5070;x=y>;tag=1'), trusted=True, country="DE")
    assert found == Caller("sip:201@10.0.0.9", "Bob")
    assert caller(invite(from_="<sip:030123456@x>;tag=1"), trusted=True, country="DE").number == "+4930123456"


def test_local_digits_are_read_in_their_phone_context() -> None:
    for uri in ("tel:555-0199;phone-context=+1-415", "sip:555-0199;phone-context=+1-415@x;user=phone"):
        assert caller(invite(from_=f"<{uri}>;tag=1"), trusted=True, country=None).number == "+14155550199"


def test_names_cannot_carry_line_ends_or_be_endless() -> None:
    request = invite(from_='"A\x07\tB' + "x" * 500 + '" <sip:' + "y" * 500 + "@x>;tag=1")
    found = caller(request, trusted=True, country=None)
    assert found.display.startswith("ABx")
    assert len(found.display) == len(found.number) == 256


def passport(**claims: object) -> str:
    coded = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({}, claims)]
    return ".".join([*coded, "c2ln"]) + ";info=<https://x.example>;alg=ES256"


@pytest.mark.parametrize(
    ("verstat", "headers", "verified"),
    [
        ("TN-Validation-Passed-A", [], "A"), ("TN-Validation-Passed-B", [], "B"), ("tn-validation-passed-c", [], "C"),
        ("TN-Validation-Passed", ["P-Attestation-Indicator: B"], "B"),
        ("TN-Validation-Passed", [f"Identity: {passport(attest='A')}"], "A"),
        ("TN-Validation-Passed", [], None), ("TN-Validation-Passed", ["P-Attestation-Indicator: Z"], None),
        ("TN-Validation-Passed", ["Identity: a.b.c"], None),
        ("TN-Validation-Passed", [f"Identity: {passport(attest='AB')}"], None),
        ("TN-Validation-Failed-A", [f"Identity: {passport(attest='A')}"], None),
        ("No-TN-Validation", ["P-Attestation-Indicator: A"], None),
    ],
)  # fmt: skip
def test_a_number_counts_as_verified_when_the_peer_has_validated_it(
    verstat: str, headers: list[str], verified: str | None
) -> None:
    asserted = f"P-Asserted-Identity: <sip:+14155550111;verstat={verstat}@x>"
    assert caller(invite(asserted, *headers), trusted=True, country=None) == Caller("+14155550111", verified=verified)
    from_ = f"<sip:+14155550111@x;verstat={verstat}>;tag=1"
    assert caller(invite(*headers, from_=from_), trusted=True, country=None).verified == verified


def test_a_passport_that_nobody_validated_proves_nothing() -> None:
    assert caller(invite(f"Identity: {passport(attest='A')}"), trusted=True, country=None).verified is None


# --- who is called ------------------------------------------------------------------------------------------------


def test_the_request_uri_says_who_is_called() -> None:
    assert called(invite(to="<sip:+14155550177@x>")) == Called(OURS)
    assert called(invite(uri="sip:030123456@x"), country="DE") == Called("+4930123456")
    assert called(invite(uri="tel:+1-415-555-0100")) == Called(OURS)
    assert called(invite(uri="sip:192.0.2.1")) == Called(OURS), "To, where it names nobody"
    assert called(invite(uri="sip:14155550100@x"), numbers=[OURS]) == Called(OURS)


def test_what_is_no_number_is_passed_on_as_it_came() -> None:
    assert called(invite(uri="sip:900442079460000@x"), country="US") == Called("900442079460000")
    assert called(invite(uri="sip:support@x")) == Called("support")


def test_behind_our_contact_user_other_headers_say_who_was_called() -> None:
    ours = {"contact_user": "k3j2", "numbers": [OURS]}
    uri = "sip:k3j2@192.0.2.1"
    party = "P-Called-Party-ID: <sip:+14155550177@x>"
    assert called(invite(party, uri=uri), contact_user="k3j2") == Called("+14155550177")
    assert called(invite(uri=uri), **ours) == Called(OURS)  # type: ignore[arg-type]
    assert called(invite(party, uri=uri), **ours) == Called(OURS)  # type: ignore[arg-type]
    diversion = "Diversion: <sip:+14155550100@x>;reason=unconditional"
    assert called(invite(diversion, uri=uri, to="<sip:k3j2@x>"), **ours).to == OURS  # type: ignore[arg-type]
    history = "History-Info: <sip:+14155550100@x>;index=1, <sip:k3j2@x>;index=1.1"
    assert called(invite(history, uri=uri, to="<sip:k3j2@x>"), **ours).to == OURS  # type: ignore[arg-type]
    assert called(invite(uri=uri, to="<sip:201@x>"), **ours).to == "201"  # type: ignore[arg-type]


def test_headers_do_not_turn_a_call_to_another_number() -> None:
    """Only where the Request-URI names nobody: else a caller could choose whose line rings."""
    request = invite("P-Called-Party-ID: <sip:+14155550100@x>", uri="sip:+14155550177@x", to="<sip:+14155550100@x>")
    assert called(request, contact_user="k3j2", numbers=[OURS]).to == "+14155550177"


def test_who_sent_the_call_on_is_told() -> None:
    diversion = "Diversion: <sip:+14155550133@x>;reason=user-busy, <sip:+14155550144@x>;reason=unknown"
    assert called(invite(diversion)).forwarded_from == "+14155550133"
    history = "History-Info: <sip:+14155550133@x?Reason=SIP%3Bcause%3D486>;index=1, <sip:+14155550100@x>;index=1.1;mp=1"
    assert called(invite(history)) == Called(OURS, "+14155550133")
    assert called(invite("History-Info: <sip:+14155550100@x>;index=1")).forwarded_from is None
    assert called(invite("Diversion: <sip:201@x>")).forwarded_from == "201"


# --- what we say of ourselves -------------------------------------------------------------------------------------


def ours(**given: Any) -> Headers:
    headers = Headers()
    for name, value in identity_headers(OURS, country=None, host="h.example", **given):
        headers.add(name, value)
    return headers


def test_a_callee_is_told_our_lines_number() -> None:
    headers = ours(trunk=Preset(), display="Café")
    assert headers.get("From") == '"Café" <sip:+14155550100@h.example>'
    assert "P-Asserted-Identity" not in headers
    assert ours(trunk=Preset(identity="pai")).get("P-Asserted-Identity") == "<sip:+14155550100@h.example>"
    assert ours(trunk=Preset(identity="rpid")).get("Remote-Party-ID") == (
        "<sip:+14155550100@h.example>;party=calling;privacy=off;screen=yes"
    )


@pytest.mark.parametrize("identity", ["pai", "rpid", "from"])
def test_an_anonymous_call_tells_the_callee_nothing_and_the_carrier_all(identity: Any) -> None:
    headers = ours(trunk=Preset(identity=identity), display="Acme", anonymous=True)
    assert headers.get("From") == '"Anonymous" <sip:anonymous@anonymous.invalid>'
    assert headers.get("Privacy") == "id"
    told = headers.get("Remote-Party-ID" if identity == "rpid" else "P-Asserted-Identity")
    assert told is not None
    assert "+14155550100@h.example" in told
    assert identity != "rpid" or "privacy=full" in told


def test_a_display_name_cannot_add_a_header() -> None:
    with pytest.raises(ValueError, match="line end"):
        ours(trunk=Preset(), display="A\r\nX-Evil: 1")
