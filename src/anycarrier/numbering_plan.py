"""What a number would reach if dialled: an ordinary telephone, an expensive service, or nothing the plan knows.

Networks ignore digits beyond the ones they need, so a premium number with a digit appended still rings the premium
line. A number is therefore classified by its longest meaningful prefix, not by whether it is valid as a whole. The
ranges come from Google's libphonenumber (the ``phonenumbers`` package); what it omits is added here, with its source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

ORDINARY_RANGES = ("fixed_line", "mobile", "toll_free", "voip", "uan", "voicemail")
PREMIUM_RANGES = ("premium_rate", "shared_cost", "personal_number", "pager")
"""Attributes of libphonenumber's metadata. The owner of a personal number (UK 070, +1 500) or pager sets its price."""

PREMIUM_CODES = frozenset({"870", "878", "881", "882", "883", "979"})
"""Calling codes without a country: satellites, international networks, personal and premium numbers (ITU E.164)."""

EXTRA_PREMIUM = {
    # Pay-per-call exchange in every area code, and carrier-specific services: nationalnanpa.com, "976" and "700 NPA".
    "1": r"[2-9]\d\d976|700",
}
"""Leading digits after a calling code."""

FICTIONAL = {
    # 555-0100 to 555-0199 in every geographic area code (nationalnanpa.com, 555 line numbers): not after 700, 900 and
    # 976, nor after N11, which are services (911). Also the area code 555, which nobody has, and 500-555, with which
    # carriers and our sandboxes play outcomes.
    "1": r"(?!700|900|976|[2-9]11)[2-9]\d\d55501\d\d|555\d{7}|500555\d{4}",
    # ofcom.org.uk, "telephone numbers for use in TV and radio drama programmes"; the others are valid to the plan.
    "44": r"7700900\d{3}|1632960\d{3}",
    # arcep.fr, the mobile numbers of the national plan that are kept for audiovisual works.
    "33": r"63998\d{4}",
}
"""Reserved for fiction and tests, so the metadata does not know them. Nobody is called, and examples use them."""


class Reach(StrEnum):
    """What a dialled number reaches."""

    ORDINARY = "ordinary"
    PREMIUM = "premium"
    """It costs the caller extra: premium-rate, shared-cost, personal and pager ranges, satellites."""
    EMERGENCY = "emergency"
    """Digits appended to an emergency number."""
    UNKNOWN = "unknown"
    """No number of the plan: too long, too short, or of a range that is not assigned."""


class _Ranges:
    """The ranges of one calling code, each compiled on first use: +1 takes 15 ms, most a tenth of that.

    What only numbers outside the plan need (``..._first``, ``..._begins``, ``emergency``) takes four times as long.
    """

    def __init__(self, code: str) -> None:
        from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneMetadata

        self._regions = COUNTRY_CODE_TO_REGION_CODE[int(code)]
        if self._regions == ("001",):
            plans = [PhoneMetadata.metadata_for_nongeo_region(int(code))]
        else:
            plans = [PhoneMetadata.metadata_for_region(region) for region in self._regions]
        self._ordinary = _descriptions(plans, ORDINARY_RANGES)
        self._premium = _descriptions(plans, PREMIUM_RANGES)
        self.fictional = _any_of([FICTIONAL[code]] if code in FICTIONAL else [])
        self.extra_premium = _any_of([EXTRA_PREMIUM[code]] if code in EXTRA_PREMIUM else [])
        self.trunk_prefix = _any_of({plan.national_prefix for plan in plans if plan and plan.national_prefix})

    @cached_property
    def ordinary(self) -> re.Pattern[str]:
        """A whole ordinary number."""
        return _any_of(_whole(*one) for one in self._ordinary)

    @cached_property
    def premium(self) -> re.Pattern[str]:
        """A whole premium number."""
        return _any_of(_whole(*one) for one in self._premium)

    @cached_property
    def premium_first(self) -> re.Pattern[str]:
        """A premium number with anything after it."""
        return _any_of(pattern for pattern, _ in self._premium)

    @cached_property
    def premium_begins(self) -> re.Pattern[str]:
        """Every beginning of a premium number."""
        return _any_of(beginning(pattern) for pattern, _ in self._premium)

    @cached_property
    def ordinary_begins(self) -> re.Pattern[str]:
        """Every beginning of an ordinary number."""
        return _any_of(beginning(pattern) for pattern, _ in self._ordinary)

    @cached_property
    def emergency(self) -> re.Pattern[str]:
        """An emergency number with anything after it."""
        from phonenumbers import PhoneMetadata

        short = [PhoneMetadata.short_metadata_for_region(region) for region in self._regions if region != "001"]
        return _any_of(pattern for pattern, _ in _descriptions(short, ("emergency",)))

    def begins_premium(self, digits: str) -> bool:
        """True if ``digits`` start with a premium number, or with digits that only premium numbers start with."""
        if self.extra_premium.match(digits) or self.premium_first.match(digits):
            return True
        known = next((n for n in range(len(digits), 0, -1) if self.premium_begins.fullmatch(digits[:n])), 0)
        return known > 0 and not self.ordinary_begins.fullmatch(digits[:known])


@lru_cache(maxsize=4096)
def reach(number: str) -> Reach:
    """What ``number`` (E.164) would reach."""
    code = calling_code(number)
    if code is None:
        return Reach.UNKNOWN
    if code in PREMIUM_CODES:
        return Reach.PREMIUM
    ranges, digits = _ranges(code), number[1 + len(code) :]
    if ranges.fictional.fullmatch(digits):
        return Reach.ORDINARY
    if ranges.extra_premium.match(digits) or ranges.premium.fullmatch(digits):
        return Reach.PREMIUM
    if ranges.ordinary.fullmatch(digits):
        return Reach.ORDINARY
    # Not a number of the plan as a whole: what do its first digits reach? Some networks also drop a trunk prefix.
    if ranges.emergency.match(digits):
        return Reach.EMERGENCY
    without = digits[found.end() :] if (found := ranges.trunk_prefix.match(digits)) else digits
    if ranges.begins_premium(digits) or ranges.begins_premium(without):
        return Reach.PREMIUM
    return Reach.UNKNOWN


@lru_cache(maxsize=1024)
def is_premium_range(prefix: str) -> bool:
    """True if all numbers of the plan that start with ``prefix`` (like ``+1900``) are premium."""
    code = calling_code(prefix)
    if code is None or code in PREMIUM_CODES:
        return code is not None
    return _ranges(code).begins_premium(prefix[1 + len(code) :])


def premium_range(number: str) -> str:
    """The shortest prefix of a premium ``number`` with only premium numbers; the number itself if there is none."""
    return next((number[:end] for end in range(2, len(number)) if is_premium_range(number[:end])), number)


def calling_code(number: str) -> str | None:
    """The digits after the plus sign that name a country or network, like ``"1"`` or ``"353"``; None if none do."""
    codes = _calling_codes()
    return next((number[1:end] for end in (2, 3, 4) if number[1:end] in codes), None)


@lru_cache(maxsize=1)
def countries() -> frozenset[str]:
    """ISO codes of the countries that have telephone numbers."""
    import phonenumbers

    return frozenset(phonenumbers.SUPPORTED_REGIONS)


@lru_cache(maxsize=1)
def _calling_codes() -> frozenset[str]:
    import phonenumbers  # 30 ms of metadata: load it on first use

    return frozenset(map(str, phonenumbers.COUNTRY_CODE_TO_REGION_CODE))


@lru_cache(maxsize=256)
def _ranges(code: str) -> _Ranges:
    return _Ranges(code)


def _descriptions(plans: Iterable[Any], ranges: Iterable[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Pattern and possible lengths of each of the ranges that a country has."""
    found = (getattr(plan, name) for plan in plans if plan is not None for name in ranges)
    return [(one.national_number_pattern, one.possible_length) for one in found if one and one.national_number_pattern]


def _whole(pattern: str, lengths: Iterable[int]) -> str:
    """``pattern`` with one of the possible lengths, which the pattern alone does not always enforce."""
    return f"(?=(?:{'|'.join(rf'[0-9]{{{length}}}' for length in lengths)})$)(?:{pattern})"


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    """One regular expression for all of ``patterns``; without any it matches nothing."""
    return re.compile("|".join(f"(?:{pattern})" for pattern in dict.fromkeys(patterns)) or r"(?!)")


_PART = re.compile(r"(?P<one>[0-9]|\\d|\[[0-9-]+\])|(?P<sign>\(\?:|\||\)|\?|\{(?P<least>\d+)(?:,(?P<most>\d+))?\})")


def beginning(pattern: str) -> str:
    """A regular expression that fully matches every beginning of what ``pattern`` matches, the empty one included.

    ``re`` cannot be asked whether a text might still become a match. The metadata's patterns are made of digits,
    classes, groups, ``?`` and ``{n,m}``; anything else is a ``ValueError``.
    """
    parts = list(_PART.finditer(pattern))
    if "".join(part.group() for part in parts) != pattern:
        raise ValueError(f"a pattern of another kind: {pattern}")
    return _alternatives(iter(parts))[1]


def _alternatives(parts: Iterator[re.Match[str]]) -> tuple[str, str]:
    """``parts`` up to the closing bracket, as (what matches it whole, what matches its beginnings)."""
    branches: list[list[tuple[str, str]]] = [[]]
    for part in parts:
        sign = part["sign"]
        if sign == ")":
            break
        if sign == "|":
            branches.append([])
        elif sign == "(?:":
            branches[-1].append(_alternatives(parts))
        elif sign is None:
            branches[-1].append((part["one"], f"{part['one']}?"))
        else:
            least, most = ("0", "1") if sign == "?" else (part["least"], part["most"] or part["least"])
            whole, begun = branches[-1].pop()
            before = f"(?:{whole}){{0,{int(most) - 1}}}"
            branches[-1].append((f"(?:{whole}){{{least},{most}}}", f"(?:{before}{begun})"))
    wholes = "|".join("".join(whole for whole, _ in branch) for branch in branches)
    return f"(?:{wholes})", f"(?:{'|'.join(map(_begun, branches))})"


def _begun(branch: Sequence[tuple[str, str]]) -> str:
    """Beginnings of a sequence: of its first part, or its first part whole and beginnings of the rest."""
    pattern = ""
    for whole, begun in reversed(branch):
        pattern = f"(?:{whole}{pattern}|{begun})" if pattern else begun
    return pattern
