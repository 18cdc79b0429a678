"""The range a list of calls is asked for, as two instants. Pure.

A bare date means the whole day, a time without a zone is meant in ``tz``, a time with one is exact whatever ``tz``
says. The start is included, and so is the end.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from anycarrier_server.domain.refusals import Invalid

DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)
TICK = timedelta(microseconds=1)


def zone(name: str | None) -> ZoneInfo:
    """The IANA zone, UTC for None; ``Invalid`` for names it has not."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):  # unknown; not a name at all; a folder of names
        raise Invalid.field("tz", "not an IANA time zone, like America/New_York", where="query") from None


def first_instant(text: str, where: ZoneInfo) -> datetime:
    """From when on."""
    return _read("start_datetime", text, where)[0]


def past_the_end(text: str, where: ZoneInfo) -> datetime:
    """The first instant that is too late."""
    return _read("end_datetime", text, where)[1]


def _read(name: str, text: str, where: ZoneInfo) -> tuple[datetime, datetime]:
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
