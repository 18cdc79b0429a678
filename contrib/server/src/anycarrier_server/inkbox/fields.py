"""What this face's requests and answers are made of: strict bodies that ignore unknown keys, lenient queries.

Ids are plain UUIDs, because the clients parse them as such. Lists are bare arrays unless a module says otherwise.

Ranges of time: a bare date means the whole day, a time without a zone is read in ``tz``, and a time with a zone is
exact. Start and end are included.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from anycarrier_server.refusals import Invalid

API = "/api/v1"
PHONE = "/api/v1/phone"


class Sent(BaseModel):
    """A request body: ``"5"`` is not 5, and keys that mean nothing here are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)

    def given(self, *names: str) -> dict[str, Any]:
        """Those of ``names`` that the client sent, null ones too: absent means keep, null means clear."""
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}


class Given(BaseModel):
    """A query string."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class Shown(BaseModel):
    """An answer. Every key is always there; what is not known is null."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


def _yes_or_no(value: Any) -> bool:
    if value not in ("true", "false"):
        raise ValueError("true or false")
    return bool(value == "true")


def stamp(moment: datetime) -> str:
    """``2026-11-20T10:00:00.000Z``, as the webhooks' bodies write times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


YesOrNo = Annotated[bool, BeforeValidator(_yes_or_no), WithJsonSchema({"type": "boolean"})]
"""``true`` or ``false`` in a query."""

Moment = Annotated[
    datetime,
    PlainSerializer(lambda value: value.astimezone(UTC).isoformat().replace("+00:00", "Z"), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
"""A time in an answer: UTC with a Z."""

Number = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{6,14}$", examples=["+12125550100"])]
"""E.164."""

Id = Annotated[str, Field(min_length=1, max_length=64, description="A uuid")]
Url = Annotated[str, Field(min_length=1, max_length=2048)]
Handle = Annotated[str, Field(pattern=r"^@?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$", examples=["support-bot"])]
"""A name that can stand in a path; a leading ``@`` is dropped."""

Action = Literal["auto_accept", "auto_reject", "webhook", "hosted_agent", "forward"]
Mode = Literal["whitelist", "blacklist"]
Target = Literal["phone", "sip"]
Uuid = UUID


class Slice(Given):
    """A page by position."""

    limit: int = Field(default=50, ge=1, le=200)
    offset: int = Field(default=0, ge=0, le=10_000_000)


class RateLimit(Shown):
    """The rolling day of the organisation."""

    calls_used: int
    calls_remaining: int
    calls_limit: int
    minutes_used: float
    minutes_remaining: float
    minutes_limit: int


DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
TICK = timedelta(microseconds=1)


def zone_named(name: str | None) -> ZoneInfo:
    """The IANA zone, UTC for None; ``Invalid`` for names it has not."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a folder of names
        raise Invalid.field("tz", "not an IANA time zone, like America/New_York", where="query") from None


def first_instant(text: str, where: ZoneInfo) -> datetime:
    """From when on."""
    return _range("start_datetime", text, where)[0]


def past_the_end(text: str, where: ZoneInfo) -> datetime:
    """The first instant that is too late."""
    return _range("end_datetime", text, where)[1]


def _range(name: str, text: str, where: ZoneInfo) -> tuple[datetime, datetime]:
    if "T" in text.upper():  # a plus sign that was not percent-encoded arrives as a space
        text = text.replace(" ", "+")
    try:
        if DAY.fullmatch(text):
            day = date.fromisoformat(text)
            begins, ends = datetime.combine(day, time()), datetime.combine(day + timedelta(days=1), time())
            return _instant(begins, where), _instant(ends, where)
        if TIME.fullmatch(text):
            instant = _instant(datetime.fromisoformat(text.upper()), where)
            return instant, instant + TICK
    except (ValueError, OverflowError):
        pass
    raise Invalid.field(name, "a date, or a date and time, like 2026-01-31 or 2026-01-31T12:00:00Z", where="query")


def _instant(moment: datetime, where: ZoneInfo) -> datetime:
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=where)).astimezone(UTC)
