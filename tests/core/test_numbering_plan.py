"""What a number would reach: judged by the longest prefix that means something, over the plans of all countries."""

from __future__ import annotations

import re

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberType

from anycarrier.numbering_plan import Reach, beginning, calling_code, is_premium_range, premium_range, reach

DEAR = (
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.PERSONAL_NUMBER,
    PhoneNumberType.PAGER,
)
KINDS = [*DEAR, *(kind for kind in range(11) if kind not in DEAR)]


def examples(*kinds: int) -> list[str]:
    """The numbering plan's own examples of these kinds, over all countries."""
    found = (phonenumbers.example_number_for_type(region, kind) for region in REGIONS for kind in kinds)
    return [phonenumbers.format_number(one, phonenumbers.PhoneNumberFormat.E164) for one in found if one]


def valid(number: str) -> bool:
    """The plan knows it as a whole, so that it is what it is."""
    return phonenumbers.is_valid_number(phonenumbers.parse(number))


REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


def test_every_countrys_examples_are_what_the_plan_says_they_are() -> None:
    wrong = []
    for number in examples(*KINDS):
        dear = phonenumbers.number_type(phonenumbers.parse(number)) in DEAR
        if reach(number) is not (Reach.PREMIUM if dear else Reach.ORDINARY):
            wrong.append((number, reach(number)))
    assert not wrong


def test_digits_too_many_do_not_make_a_premium_number_ordinary() -> None:
    """A network takes the digits it needs: with one, two or three more, the premium line rings."""
    passed = [
        number + more
        for number in examples(*DEAR)
        for more in ("", "1", "12", "123", "0", "00")
        # Japan's ten-digit personal numbers begin like its eleven-digit mobiles.
        if reach(number + more) is not Reach.PREMIUM and not valid(number + more)
    ]
    assert not passed


def test_digits_too_few_do_not_either() -> None:
    passed = [
        number[:-1]
        for number in examples(PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST)
        if reach(number[:-1]) is Reach.ORDINARY and not valid(number[:-1])
    ]
    assert not passed


@pytest.mark.parametrize(
    "number",
    [
        "+19005550100", "+19001234567", "+119002345678", "+12129761234", "+112129761234",
        "+17005551234", "+15002345678", "+447012345678", "+4470123456789", "+44070123456789", "+447640123456",
        "+4990012345", "+4909001123456", "+881612345678", "+870773111632", "+882161234567", "+979123456789",
        "+878101234567", "+883510012345", "+80812345678",
    ],
)  # fmt: skip
def test_dear_ranges_are_premium_however_they_are_padded(number: str) -> None:
    assert reach(number) is Reach.PREMIUM


@pytest.mark.parametrize(
    "number", ["+19110000", "+491101234", "+44999000", "+1911555010", "+19115550100", "+33112000", "+19990000"]
)
def test_an_emergency_number_with_digits_behind_it_is_one(number: str) -> None:
    assert reach(number) is Reach.EMERGENCY


@pytest.mark.parametrize(
    "number",
    ["+158765550123", "+1415555010", "+4911833", "+44118118", "+4402079460100", "+999123456", "+19765550100",
     "+14115550100", "+447700901000", "+33639990000", "+80801234567", "+800123456789",
     "+141555501001", "+4416329601234", "+5005550006"],
)  # fmt: skip
def test_what_the_plan_does_not_know_is_unknown(number: str) -> None:
    assert reach(number) is Reach.UNKNOWN


@pytest.mark.parametrize(
    "number",
    ["+14155550100", "+18765550100", "+15551234567", "+15005550006", "+15005550108", "+447700900123", "+441632960123",
     "+442079460188", "+33639980123", "+919876543210", "+61491570156", "+80012345678"],
)  # fmt: skip
def test_numbers_reserved_for_fiction_and_tests_are_ordinary(number: str) -> None:
    assert reach(number) is Reach.ORDINARY


def test_a_premium_range_is_one_with_nothing_else_in_it() -> None:
    dear = ["+1900", "+49900", "+4470", "+44871", "+1212976", "+1700", "+881", "+49137", "+8081", "+979", "+870"]
    mixed = ["+1", "+49", "+447", "+448", "+1212", "+353", "+3", "+999", "+", "+800", "+808"]
    assert [prefix for prefix in [*dear, *mixed] if is_premium_range(prefix)] == dear
    assert premium_range("+19005550100") == "+1900"
    assert premium_range("+49900112345678") == "+49900"
    assert premium_range("+14155550100") == "+14155550100", "no prefix of it is one"


def test_calling_codes_have_one_to_three_digits() -> None:
    assert [calling_code(text) for text in ("+1900", "+4420", "+35315", "+999", "+")] == ["1", "44", "353", None, None]


@given(st.data())
def test_a_beginning_is_what_can_still_become_a_match(data: st.DataObject) -> None:
    """Over the pattern's own matches: each beginning is one, and one digit that no match has is none."""
    pattern = data.draw(st.sampled_from(PATTERNS))
    whole = data.draw(st.from_regex(pattern, fullmatch=True, alphabet="0123456789"))
    begun = re.compile(beginning(pattern))
    assert all(begun.fullmatch(whole[:end]) for end in range(len(whole) + 1))
    assert not begun.fullmatch("x" + whole)


PATTERNS = [
    "900[2-9]\\d{6}",
    "(?:8(?:4[2-5]|7[0-3])|9(?:[01]\\d|8[2-49]))\\d{7}|845464\\d",
    "1(?:3(?:7[1-6]\\d\\d|8)\\d{4}|80\\d{1,7})",
    "30(?:0\\d)?\\d{2,3}",
]


def test_a_beginning_is_no_longer_than_a_match() -> None:
    begun = re.compile(beginning("90[0-2](?:1|22)?\\d{2,3}"))
    assert [bool(begun.fullmatch(text)) for text in ("", "9", "903", "90222", "90022123", "900221234")] == [
        True, True, False, True, True, False,
    ]  # fmt: skip
    with pytest.raises(ValueError, match="another kind"):
        beginning("9+")
