"""Where calls may go, and how fast."""

from collections.abc import Sequence
from typing import Any

import pytest

from anycarrier.errors import ConfigurationError, DestinationNotAllowed, InvalidNumber, LimitReached
from anycarrier.policy import Policy

SIP, SIP_HOST = "sip:a@pbx.example", "sip:pbx.example"
US, US2, UK, DE = "+14155550100", "+12125550101", "+442071838750", "+4930123456"


def test_by_default_a_number_rings_its_own_country_only() -> None:
    Policy().check_destination(US, US2)
    with pytest.raises(DestinationNotAllowed, match="country GB"):
        Policy().check_destination(US, UK)


def test_sharing_a_calling_code_is_not_sharing_a_country() -> None:
    jamaica = "+18765550100"
    with pytest.raises(DestinationNotAllowed, match="country JM"):
        Policy().check_destination(US, jamaica)


def test_a_number_of_the_wrong_length_is_of_no_country() -> None:
    for odd in ("+158765550123", "+1415555010"):
        with pytest.raises(DestinationNotAllowed, match="country unknown"):
            Policy().check_destination(US, odd)


@pytest.mark.parametrize("allow", [["US", "GB"], ["+1", "+44"], ["+1212", "+447"], ["*"], ["*", "+1", "US"]])
@pytest.mark.parametrize(
    "number",
    ["+19005550100", "+19001234567", "+1900555010", "+12129761234", "+17005551234", "+449012345678", "+447012345678",
     "+881612345678", "+979123456789"],
)  # fmt: skip
def test_no_country_code_or_star_lets_a_premium_number_through(number: str, allow: list[str]) -> None:
    with pytest.raises(DestinationNotAllowed):
        Policy(allow=allow).check_destination(US, number)


@pytest.mark.parametrize(
    ("prefix", "number"),
    [("+1900", "+19005550100"), ("+49900", "+499001234567"), ("+4470", "+447012345678"), ("+1212976", "+12129761234"),
     ("+881", "+881612345678"), ("+19005550100", "+19005550100"), ("+44070123456789", "+44070123456789")],
)  # fmt: skip
def test_who_names_a_premium_range_means_it(prefix: str, number: str) -> None:
    Policy(allow=[prefix]).check_destination(US, number)
    with pytest.raises(DestinationNotAllowed, match="denied"):
        Policy(allow=[prefix], deny=[prefix]).check_destination(US, number)


def test_a_refused_premium_number_names_the_entry_that_would_allow_it() -> None:
    with pytest.raises(DestinationNotAllowed, match=r"add 'US', '\+1900' to Policy\(allow=") as refused:
        Policy().check_destination(US, "+190055501001")
    Policy(allow=["+1900"]).check_destination(US, "+190055501001")
    assert "+190055501001" not in str(refused.value)


def test_a_number_the_plan_does_not_know_needs_a_longer_prefix() -> None:
    unknown = "+4911833"  # directory enquiries: a short number behind a country code
    for allow in (["DE"], ["+49"], ["*"]):
        with pytest.raises(DestinationNotAllowed, match="knows no such number"):
            Policy(allow=allow).check_destination(US, unknown)
    Policy(allow=["+49118"]).check_destination(US, unknown)


@pytest.mark.parametrize("number", ["+19110000", "+491101234", "+44999000"])
def test_an_emergency_number_with_digits_behind_it_is_never_dialled(number: str) -> None:
    with pytest.raises(DestinationNotAllowed, match="emergency"):
        Policy(allow=["*", number, number[:5]]).check_destination(US, number)


def test_a_number_without_a_country_rings_its_own_network_only() -> None:
    with pytest.raises(DestinationNotAllowed):
        Policy().check_destination("+80012345678", "+819012345678")  # Japan begins with +8 too


def test_the_longest_match_wins_and_deny_wins_a_tie() -> None:
    policy = Policy(allow=["DE", "+493012"], deny=["+4930", "GB", "+493012345"])
    with pytest.raises(DestinationNotAllowed, match="denied"):
        policy.check_destination(US, DE)
    policy.check_destination(US, "+493012999999")
    with pytest.raises(DestinationNotAllowed):
        Policy(allow=["GB"], deny=["GB"]).check_destination(US, UK)


def test_a_bare_country_code_counts_like_a_country() -> None:
    """+1 is 25 countries: denying one of them holds, whichever way the others were allowed."""
    for allow, deny in ((["+1"], ["JM"]), (["JM"], ["+1"])):
        with pytest.raises(DestinationNotAllowed, match="denied"):
            Policy(allow=allow, deny=deny).check_destination(US, "+18765550100")
    Policy(allow=["+1876"], deny=["JM"]).check_destination(US, "+18765550100")


@pytest.mark.parametrize(
    ("entry", "near"),
    [("us", "'US'"), ("USA", "'US'"), ("UK", "'GB'"), ("'US'", "'US'"), ("[US]", "'US'"),
     ("Germany", "'DE'"), (" US", "'US'"), ("1", "'+1'"),
     ("4420", "'+4420'"),
     ("+44 20", "'+4420'"), ("0044", "'+44'"), ("+0044", "'+44'"), ("**", "'*'"), ("all", "'*'"),
     ("pbx.example.com", "'sip:pbx"),
     ("sips:pbx.example.com", "'sip:pbx.example.com'"), ("sip:desk@pbx.example.com:5060", "'sip:pbx.example.com'"),
     ("US,DE", "one entry for each"), ("", "write a country"), ("+", "write a country"), ("+4", "write a country"),
     ("+999", "write a country"), ("ZZ", "write a country"), ("XUS", "write a country"),
     ("sip:", "write a country"), ("+1212x", "write a country"),
     ("sip:*.example.com", "write a country"), ("\u0661", "write a country"), (1, "entries are texts"),
     (None, "entries are texts")],
)  # fmt: skip
@pytest.mark.parametrize("setting", ["allow", "deny"])
def test_an_entry_that_can_never_match_is_refused_with_the_near_one(setting: str, entry: object, near: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Policy(**{setting: ["US", entry]})  # type: ignore[arg-type]
    told = str(refused.value)
    assert told.startswith(f"{setting}: {entry!r} ") and near in told


def test_one_text_is_no_list_of_entries() -> None:
    with pytest.raises(ConfigurationError, match=r"write \['US'\]"):
        Policy(allow="US")


def test_a_star_is_for_numbers_and_sip_hosts_have_their_own() -> None:
    with pytest.raises(DestinationNotAllowed, match=r"sip:pbx\.example\.com is not in the allowed SIP hosts"):
        Policy(allow=["*"]).check_destination(US, "sip:desk@pbx.example.com")
    Policy(allow=["sip:*"]).check_destination(US, "sip:desk@pbx.example.com")
    with pytest.raises(DestinationNotAllowed, match="denied"):
        Policy(allow=["sip:*"], deny=["sip:PBX.example.com"]).check_destination(US, "sip:desk@pbx.example.com")
    with pytest.raises(DestinationNotAllowed, match="denied"):
        Policy(allow=["sip:*"], deny=["sip:*"]).check_destination(US, "sip:desk@pbx.example.com")
    Policy(allow=["sip:pbx.example.com"], deny=["sip:*"]).check_destination(US, "sip:desk@pbx.example.com")
    with pytest.raises(DestinationNotAllowed, match="country US"):
        Policy(allow=["sip:*"]).check_destination(US, US2)


ABROAD, DEAR = "country GB is not among those allowed", "it is a premium-rate number"
UNKNOWN = "the numbering plan knows no such number (too long, too short or not assigned)"
ROUTE = "the header Route changes where the call goes or what it is"


def add(*entries: str) -> str:
    return f"To let it through, add {', '.join(map(repr, entries))} to Policy(allow=...)"


def take_out(entry: str) -> str:
    return f"To let it through, take {entry!r} out of Policy(deny=...)"


@pytest.mark.parametrize(
    ("given", "to", "shown", "why", "advice"),
    [
        ({}, UK, "+4420…50", ABROAD, add("US", "GB")),
        ({"allow": ["CA"]}, UK, "+4420…50", ABROAD, add("GB")),
        ({}, "+449012345678", "+4490…78", ABROAD, add("US", "+449")),
        ({}, "+158765550123", "+1587…23", "country unknown is not among those allowed", add("US", "+1587")),
        ({}, "+19005550100", "+1900…00", DEAR, add("US", "+1900")),
        ({"allow": ["US"]}, "+12129761234", "+1212…34", DEAR, add("+1212976")),
        ({}, "+10005550123", "+1000…23", UNKNOWN, add("US", "+1000")),
        ({"allow": ["*"]}, "+4911833", "+4911…33", UNKNOWN, add("+49118")),
        ({}, "+19110000", "+1911…00", "it begins with an emergency number", "Those are never dialled"),
        ({"deny": ["US"]}, US2, "+1212…01", "its country or prefix is denied", take_out("US")),
        ({"deny": ["+1", "US"]}, US2, "+1212…01", "its country or prefix is denied", take_out("+1")),
        ({"deny": ["*", "+1212"]}, US2, "+1212…01", "its country or prefix is denied", take_out("+1212")),
        ({}, SIP, "pbx.example", "sip:pbx.example is not in the allowed SIP hosts", add("sip:pbx.example")),
        ({"deny": ["sip:pbx.example", "sip:*"]}, SIP, "pbx.example", "sip:pbx.example is denied", take_out(SIP_HOST)),
        ({"allow": [SIP_HOST], "deny": [SIP_HOST]}, SIP, "pbx.example", f"{SIP_HOST} is denied", take_out(SIP_HOST)),
        ({"allow": ["sip:*"], "deny": ["sip:*"]}, SIP, "pbx.example", "sip:pbx.example is denied", take_out("sip:*")),
        ({"allow": ["sip:*"]}, f"{SIP}?Route=x", "pbx.example", ROUTE, "Leave it out of the address"),
    ],
)
def test_a_refusal_says_why_and_what_would_change_it(
    given: dict[str, list[str]], to: str, shown: str, why: str, advice: str
) -> None:
    with pytest.raises(DestinationNotAllowed) as refused:
        Policy(**given).check_destination(US, to)  # type: ignore[arg-type]
    assert (refused.value.why, refused.value.advice) == (why, advice)
    assert str(refused.value) == f"{shown} may not be called: {why}. {advice}"


def test_a_country_is_more_than_a_star_and_a_prefix_more_than_a_country() -> None:
    Policy(allow=["US"], deny=["*"]).check_destination(US, US2)
    Policy(allow=["+1212"], deny=["US"]).check_destination(US, US2)
    with pytest.raises(DestinationNotAllowed):
        Policy(allow=["*"], deny=["US"]).check_destination(US, US2)
    with pytest.raises(DestinationNotAllowed):
        Policy(allow=["+1212"], deny=["+12125"]).check_destination(US, US2)


def test_a_prefix_is_no_longer_than_a_number() -> None:
    assert Policy(allow=["+123456789012345"]).allow == ("+123456789012345",)
    with pytest.raises(ConfigurationError):
        Policy(allow=["+1234567890123456"])


def test_the_next_step_is_worded_by_who_holds_the_policy() -> None:
    def advise(setting: str, entries: Sequence[str]) -> str:
        return f"ask ops: {setting} {entries[-1]}"

    policy = Policy(allow=["US"], deny=["+1212"], advise=advise)
    for number, told in ((UK, "ask ops: allow GB"), (US2, "ask ops: deny +1212")):
        with pytest.raises(DestinationNotAllowed) as refused:
            policy.check_destination(US, number)
        assert str(refused.value).endswith(told)


def test_a_sip_target_must_be_a_named_host() -> None:
    policy = Policy(allow=["US", "sip:pbx.example.com"])
    policy.check_destination(US, "sip:desk@pbx.example.com:5061;transport=tls")
    for target in ("sip:desk@evil.example.com", "sip:pbx.example.com@evil.example.com", "sips:x@PBX.example.com.evil"):
        with pytest.raises(DestinationNotAllowed):
            policy.check_destination(US, target)
    for host, maddr in (("pbx.example.com", "evil.example.com"), ("evil.example.com", "pbx.example.com")):
        with pytest.raises(DestinationNotAllowed, match=r"sip:evil\.example\.com is not in the allowed SIP hosts"):
            policy.check_destination(US, f"sip:desk@{host};maddr={maddr}")
        with pytest.raises(DestinationNotAllowed, match=r"sip:evil\.example\.com is denied"):
            Policy(allow=["sip:*"], deny=["sip:evil.example.com"]).check_destination(US, f"sip:{host};maddr={maddr}")


@pytest.mark.parametrize("target", ["911", None, 5])
def test_what_is_no_number_is_said_to_be_none(target: Any) -> None:
    with pytest.raises(InvalidNumber):
        Policy(allow=["*"]).check_destination(US, target)


def test_calls_per_second_are_counted_per_credential_and_say_when_to_come_back() -> None:
    now = [0.0]
    policy = Policy(calls_per_second=2, clock=lambda: now[0])
    policy.check_rate("a", 0)
    policy.check_rate("a", 1)
    policy.check_rate("b", 0)
    with pytest.raises(LimitReached) as limit:
        policy.check_rate("a", 2)
    assert limit.value.retry_after == pytest.approx(1.0)
    assert str(limit.value) == "limit reached: 2 calls per second on credential 'a'. Try again in 1 s"
    now[0] = 0.75
    with pytest.raises(LimitReached) as limit:
        policy.check_rate("a", 2)
    assert limit.value.retry_after == pytest.approx(0.25)
    now[0] = 1.0
    policy.check_rate("a", 2)


def test_a_slow_rate_spreads_over_more_than_a_second() -> None:
    now = [0.0]
    policy = Policy(calls_per_second=0.1, clock=lambda: now[0])
    policy.check_rate("a", 0)
    now[0] = 5.0
    with pytest.raises(LimitReached):
        policy.check_rate("a", 0)
    now[0] = 10.01
    policy.check_rate("a", 0)
    Policy(calls_per_second=0.013).check_rate("a", 0)  # of 1 / 0.013 s, in which floats find a little less than one


def test_concurrency_is_bounded() -> None:
    with pytest.raises(LimitReached, match="2 calls at once"):
        Policy(max_concurrent=2).check_rate("a", 2)


def test_errors_mask_the_number() -> None:
    with pytest.raises(DestinationNotAllowed) as refused:
        Policy().check_destination(US, UK)
    assert UK not in str(refused.value)
