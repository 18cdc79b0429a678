"""Phone numbers: E.164, what to search for, what a carrier offers and what an account holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from anycarrier.errors import InvalidNumber

E164 = re.compile(r"\+[1-9][0-9]{6,14}")


def e164(text: str) -> str:
    """``text`` unchanged when it is E.164 (``+`` and 7 to 15 digits), else :class:`InvalidNumber`.

    Nothing is guessed: ``0049...`` and ``(415) 555-0100`` are refused, because a wrong guess rings a stranger.
    """
    if not isinstance(text, str) or not E164.fullmatch(text):
        raise InvalidNumber(text)
    return text


def normal(text: object) -> str | None:
    """E.164 of what a carrier writes with or without the plus sign (``14155550100``); None for anything else."""
    number = f"+{str(text).removeprefix('+')}"
    return number if E164.fullmatch(number) else None


def north_american(text: object) -> str:
    """E.164 of ten digits, as carriers of the USA and Canada write numbers, or of what is E.164 already.

    Anything else is :class:`InvalidNumber`.
    """
    return e164(f"+1{text}" if len(str(text)) == 10 else normal(text) or str(text))


_KEYPAD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999")


def digit_pattern(contains: str) -> tuple[str, str]:
    """``NumberQuery.contains`` as (``contains``, ``starts_with`` or ``ends_with``, digits), letters as on a keypad.

    ``555*`` begins with its digits, ``*555`` ends with them. For a pattern that is none of these the digits are "".
    """
    text = contains.upper().translate(_KEYPAD)
    digits = text.strip("*")
    if not (digits.isascii() and digits.isdigit()):
        return "contains", ""
    before, after = text.startswith("*"), text.endswith("*")
    return ("contains" if before == after else "ends_with" if before else "starts_with"), digits


PhoneNumber = Annotated[str, AfterValidator(e164)]
"""An E.164 string, checked at the border."""


@lru_cache(maxsize=4096)  # a tenth of a millisecond each, and asked several times for a call
def country_of(number: str) -> str | None:
    """ISO 3166 country of an E.164 number, e.g. ``"US"``; None when the numbering plan does not tell."""
    import phonenumbers  # 30 ms of metadata: only when somebody asks

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return None
    region = phonenumbers.region_code_for_number(parsed)
    if region and region != "001":
        return region
    if not phonenumbers.is_possible_number(parsed):
        return None  # too long or too short for its country: no telling where it would ring
    # Fictional and unassigned ranges (+1...555-01xx) have no region of their own: their country code's main one.
    main: str = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
    return main if main not in ("001", "ZZ") else None


class NumberType(StrEnum):
    """Kind of number."""

    LOCAL = "local"
    TOLL_FREE = "toll_free"
    MOBILE = "mobile"
    NATIONAL = "national"


class NumberFeature(StrEnum):
    """What a number can carry."""

    VOICE = "voice"
    SMS = "sms"
    MMS = "mms"
    FAX = "fax"


class NumberRequirement(StrEnum):
    """What a carrier wants to know before it sells a regulated number."""

    ADDRESS = "address"
    """An address anywhere."""
    LOCAL_ADDRESS = "local_address"
    """An address in the number's country."""
    FOREIGN_ADDRESS = "foreign_address"
    """An address outside the number's country."""
    IDENTITY = "identity"
    """Who the end user is."""
    DOCUMENTS = "documents"
    """Regulatory documents, approved by the carrier."""


class NumberQuery(BaseModel):
    """What to search for. ``limit`` is per page, ``page`` counts from 1; ``extra`` is merged last into the request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    country: str = Field(default="US", pattern=r"^[A-Z]{2}$", description="ISO 3166 alpha-2")
    area_code: str | None = Field(default=None, pattern=r"^\d{1,6}$")
    contains: str | None = Field(default=None, pattern=r"^[0-9A-Za-z*+]{1,16}$")
    locality: str | None = None
    region: str | None = Field(default=None, description="state or province, e.g. CA")
    type: NumberType = NumberType.LOCAL
    features: tuple[NumberFeature, ...] = (NumberFeature.VOICE,)
    limit: int = Field(default=20, ge=1, le=250)
    page: int = Field(default=1, ge=1)
    extra: Mapping[str, Any] = Field(default_factory=dict)


class AvailableNumber(BaseModel):
    """A number the carrier offers. Prices and ``requirements`` are None where the carrier's search does not tell."""

    model_config = ConfigDict(frozen=True)

    number: PhoneNumber
    provider: str
    country: str
    type: NumberType | None = None
    region: str | None = None
    locality: str | None = None
    features: frozenset[NumberFeature] = frozenset()
    requirements: frozenset[NumberRequirement] | None = None
    monthly_cost: Decimal | None = None
    upfront_cost: Decimal | None = None
    currency: str | None = None
    raw: Mapping[str, Any] = Field(default_factory=dict, repr=False)


class OwnedNumber(BaseModel):
    """A number the account holds. ``id`` is the carrier's id for it, ``webhook_url`` where its calls are sent."""

    model_config = ConfigDict(frozen=True)

    number: PhoneNumber
    provider: str
    id: str
    status: str = "active"
    type: NumberType | None = None
    features: frozenset[NumberFeature] = frozenset()
    friendly_name: str | None = None
    webhook_url: str | None = None
    raw: Mapping[str, Any] = Field(default_factory=dict, repr=False)


class PendingOrder(BaseModel):
    """A purchase the carrier has taken but not finished: ask again with ``Provider.fetch_order(order.id)``."""

    model_config = ConfigDict(frozen=True)

    id: str
    number: PhoneNumber
    provider: str
    raw: Mapping[str, Any] = Field(default_factory=dict, repr=False)


class SyncResult(BaseModel):
    """What configuring a number at the carrier, or undoing that, came to.

    ``changed`` names the carrier's own settings that were written; empty and ``ok`` means all was right already.
    """

    model_config = ConfigDict(frozen=True)

    ok: bool
    message: str
    changed: tuple[str, ...] = ()
    webhook_url: str | None = None
    at: datetime | None = None

    @classmethod
    def of(
        cls,
        changed: Iterable[str],
        webhook_url: str,
        *,
        dry_run: bool = False,
        note: str = "",
        at: datetime | None = None,
    ) -> SyncResult:
        """``changed`` were written, or would be in a dry run; ``note`` is a sentence for the message's end."""
        changed = tuple(changed)
        told = f"{'would write' if dry_run else 'wrote'} {', '.join(changed)}" if changed else "all was right already"
        message = f"{told}. {note}" if note else told
        return cls(ok=True, message=message, changed=changed, webhook_url=webhook_url, at=at or datetime.now(UTC))

    @classmethod
    def failed(cls, why: str, webhook_url: str, *, at: datetime | None = None) -> SyncResult:
        """Nothing was written."""
        return cls(ok=False, message=why, webhook_url=webhook_url, at=at or datetime.now(UTC))
