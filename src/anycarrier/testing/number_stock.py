"""Numbers a sandbox has on offer: fictional North American ones (NXX 555-01xx), found by the usual filters."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from anycarrier.testing.outcomes import GONE_NUMBER, PENDING_NUMBER

LOCAL = "local"
TOLL_FREE = "toll_free"

AREAS: dict[str, tuple[str, str, str]] = {
    "415": ("US", "CA", "San Francisco"),
    "212": ("US", "NY", "New York"),
    "312": ("US", "IL", "Chicago"),
    "617": ("US", "MA", "Boston"),
    "206": ("US", "WA", "Seattle"),
    "512": ("US", "TX", "Austin"),
    "305": ("US", "FL", "Miami"),
    "720": ("US", "CO", "Denver"),
    "213": ("US", "CA", "Los Angeles"),
    "650": ("US", "CA", "Palo Alto"),
    "416": ("CA", "ON", "Toronto"),
    "514": ("CA", "QC", "Montreal"),
    "604": ("CA", "BC", "Vancouver"),
}
TOLL_FREE_CODES = ("800", "833", "844", "855", "866", "877", "888")
_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")


@dataclass(frozen=True, slots=True)
class StockNumber:
    """One number on offer. Prices are per month and once, in US dollars."""

    number: str
    country: str
    type: str
    region: str | None
    locality: str | None
    features: frozenset[str]
    monthly_cost: str = "1.00"
    upfront_cost: str = "0.00"

    @property
    def area_code(self) -> str:
        return self.number[2:5]


class NumberStock:
    """What is for sale, and what has been sold."""

    def __init__(self) -> None:
        self.sold: set[str] = set()

    def search(
        self,
        *,
        country: str = "US",
        type: str = LOCAL,
        area_code: str | None = None,
        contains: str | None = None,
        region: str | None = None,
        locality: str | None = None,
        features: Collection[str] = (),
    ) -> list[StockNumber]:
        """All numbers on offer that fit; ``contains`` takes digits, letters as on a keypad, and ``*`` for any digit."""
        pattern = f"*{contains.upper().translate(_KEYPAD).lstrip('+').replace('*', '?')}*" if contains else "*"
        return [
            offer
            for offer in self._all()
            if offer.number not in self.sold
            and (offer.country, offer.type) == (country, type)
            and (area_code is None or offer.area_code == area_code)
            and (region is None or (offer.region or "").casefold() == region.casefold())
            and (locality is None or (offer.locality or "").casefold() == locality.casefold())
            and offer.features.issuperset(features)
            and fnmatch.fnmatchcase(offer.number[1:], pattern)
        ]

    def find(self, number: str) -> StockNumber | None:
        """The number when it is for sale now."""
        return next((offer for offer in self._all() if offer.number == number and number not in self.sold), None)

    def sell(self, number: str) -> bool:
        """Take the number out of stock; False when it is not there, or gone in the moment of buying."""
        if number == GONE_NUMBER or self.find(number) is None:
            return False
        self.sold.add(number)
        return True

    def take_back(self, number: str) -> None:
        """A number was released: it is for sale again."""
        self.sold.discard(number)

    def _all(self) -> Iterator[StockNumber]:
        full = frozenset({"voice", "sms", "mms"})
        fewer = frozenset({"voice", "sms"})
        for last in range(100, 200):
            for code, (country, region, locality) in AREAS.items():
                yield StockNumber(f"+1{code}5550{last}", country, LOCAL, region, locality, full)
            for code in TOLL_FREE_CODES:
                yield StockNumber(f"+1{code}5550{last}", "US", TOLL_FREE, None, None, fewer, "2.00")
        for number in (GONE_NUMBER, PENDING_NUMBER):
            yield StockNumber(number, "US", LOCAL, None, None, full)
