"""Phone numbers and secrets that mean something in a sandbox, and the numbers a sandbox has for sale.

The table of outcomes is the same for every carrier, so that one test asks for "busy" everywhere; each sandbox reports
it in its carrier's own way. Numbers for sale are fictional North American ones (NXX 555-01xx).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What becomes of an outbound call."""

    ANSWERS = "answers"
    """Answers at once and stays until somebody hangs up: every number that is not in the table."""
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    """Rings until the timeout the caller asked for."""
    REJECTED = "rejected"
    """The callee declines: SIP 603."""
    INVALID_NUMBER = "invalid_number"
    """The REST request is refused: no such number can exist."""
    MACHINE = "machine"
    """An answering machine: a greeting, then a beep, then it listens."""
    FAX = "fax"
    THROTTLED = "throttled"
    """The REST request is answered 429, with a hint when to come back where the carrier has one."""
    SERVER_ERROR = "server_error"
    """The REST request is answered 500."""
    TIMEOUT = "timeout"
    """The REST request is never answered."""
    FORBIDDEN = "forbidden"
    """The account may not ring this destination."""
    NO_FUNDS = "no_funds"
    """The account has no money left."""
    HANGS_UP = "hangs_up"
    """Answers and hangs up after :data:`HANGS_UP_AFTER` seconds."""
    RINGS = "rings"
    """Rings :data:`RINGS_FOR` seconds, then answers."""
    NOT_FOUND = "not_found"
    """Taken by the API, rings, then the network says SIP 404."""
    MEDIA_DROP = "media_drop"
    """Answers; the media socket breaks after :data:`DROPS_AFTER` seconds while the call stays up."""


OUTCOMES: dict[str, Outcome] = {
    "+15005550101": Outcome.BUSY,
    "+15005550102": Outcome.NO_ANSWER,
    "+15005550103": Outcome.REJECTED,
    "+15005550104": Outcome.INVALID_NUMBER,
    "+15005550105": Outcome.MACHINE,
    "+15005550106": Outcome.FAX,
    "+15005550107": Outcome.THROTTLED,
    "+15005550108": Outcome.SERVER_ERROR,
    "+15005550109": Outcome.TIMEOUT,
    "+15005550110": Outcome.FORBIDDEN,
    "+15005550111": Outcome.NO_FUNDS,
    "+15005550112": Outcome.HANGS_UP,
    "+15005550113": Outcome.RINGS,
    "+15005550114": Outcome.NOT_FOUND,
    "+15005550115": Outcome.MEDIA_DROP,
}

GONE_NUMBER = "+15005550120"
"""Found by search; buying it fails, as if someone else had bought it first."""

PENDING_NUMBER = "+15005550121"
"""Its order stays pending for a while, with carriers whose orders are asynchronous."""

RINGS_FOR = 1.0
HANGS_UP_AFTER = 1.0
DROPS_AFTER = 1.0
RETRY_AFTER = 2.0
"""Seconds a throttled request is told to wait."""


class Login(StrEnum):
    """What a REST secret logs in to. Any secret is good, except those containing one of these words."""

    GOOD = "good"
    WRONG = "wrong"
    SUSPENDED = "suspended"
    BROKE = "broke"
    THROTTLED = "throttled"


def outcome_of(number: str) -> Outcome:
    """What dialling ``number`` leads to."""
    return OUTCOMES.get(number, Outcome.ANSWERS)


def login_of(secret: str) -> Login:
    """What logging in with ``secret`` leads to."""
    if not secret:
        return Login.WRONG
    return next((login for login in Login if login is not Login.GOOD and login.value in secret), Login.GOOD)


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
class NumberForSale:
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


class NumberInventory:
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
    ) -> list[NumberForSale]:
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

    def find(self, number: str) -> NumberForSale | None:
        """The number when it is for sale now."""
        return next((offer for offer in self._all() if offer.number == number and number not in self.sold), None)

    def sell(self, number: str) -> bool:
        """Take the number out of inventory; False when it is not there, or gone in the moment of buying."""
        if number == GONE_NUMBER or self.find(number) is None:
            return False
        self.sold.add(number)
        return True

    def take_back(self, number: str) -> None:
        """A number was released: it is for sale again."""
        self.sold.discard(number)

    def _all(self) -> Iterator[NumberForSale]:
        full = frozenset({"voice", "sms", "mms"})
        fewer = frozenset({"voice", "sms"})
        for last in range(100, 200):
            for code, (country, region, locality) in AREAS.items():
                yield NumberForSale(f"+1{code}5550{last}", country, LOCAL, region, locality, full)
            for code in TOLL_FREE_CODES:
                yield NumberForSale(f"+1{code}5550{last}", "US", TOLL_FREE, None, None, fewer, "2.00")
        for number in (GONE_NUMBER, PENDING_NUMBER):
            yield NumberForSale(number, "US", LOCAL, None, None, full)
