"""Where calls may go, and how fast."""

import pytest

from linecard.errors import DestinationNotAllowed, InvalidNumber, LimitReached
from linecard.policy import Policy

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


def test_premium_rate_needs_a_prefix_of_its_own() -> None:
    premium = "+19005550100"
    with pytest.raises(DestinationNotAllowed, match="premium"):
        Policy(allow=["US", "*"]).check_destination(US, premium)
    Policy(allow=["+1900"]).check_destination(US, premium)


def test_the_longest_match_wins_and_deny_wins_a_tie() -> None:
    policy = Policy(allow=["DE", "+493012"], deny=["+4930", "GB", "+493012345"])
    with pytest.raises(DestinationNotAllowed, match="denied"):
        policy.check_destination(US, DE)
    policy.check_destination(US, "+493012999999")
    with pytest.raises(DestinationNotAllowed):
        Policy(allow=["GB"], deny=["GB"]).check_destination(US, UK)


def test_a_sip_target_must_be_a_named_host() -> None:
    policy = Policy(allow=["US", "sip:pbx.example.com"])
    policy.check_destination(US, "sip:desk@pbx.example.com:5061;transport=tls")
    for target in ("sip:desk@evil.example.com", "sip:pbx.example.com@evil.example.com", "sips:x@PBX.example.com.evil"):
        with pytest.raises(DestinationNotAllowed):
            policy.check_destination(US, target)


def test_what_is_no_number_is_said_to_be_none() -> None:
    with pytest.raises(InvalidNumber):
        Policy(allow=["*"]).check_destination(US, "911")


def test_calls_per_second_are_counted_per_credential_and_say_when_to_come_back() -> None:
    now = [0.0]
    policy = Policy(calls_per_second=2, clock=lambda: now[0])
    policy.check_rate("a", 0)
    policy.check_rate("a", 1)
    policy.check_rate("b", 0)
    with pytest.raises(LimitReached) as limit:
        policy.check_rate("a", 2)
    assert limit.value.retry_after == pytest.approx(1.0)
    now[0] = 1.01
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


def test_concurrency_is_bounded() -> None:
    with pytest.raises(LimitReached, match="2 calls at once"):
        Policy(max_concurrent=2).check_rate("a", 2)


def test_errors_mask_the_number() -> None:
    with pytest.raises(DestinationNotAllowed) as refused:
        Policy().check_destination(US, UK)
    assert UK not in str(refused.value)
