"""The sandbox's state: projects, the error log, and what was asked for with a call or a recording."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anycarrier_signalwire.sandbox.leg import Leg
    from anycarrier_signalwire.sandbox.recordings import Recording

VERSION = "2010-04-01"
ROOT = f"/api/laml/{VERSION}/Accounts"


def new_id() -> str:
    """An id of anything: a UUID without a prefix."""
    return str(uuid.uuid4())


def new_key(prefix: str) -> str:
    """A secret as the dashboard makes them."""
    return prefix + secrets.token_hex(24)


def rfc2822(when: datetime | None) -> str | None:
    """``Tue, 25 Sep 2018 23:00:00 +0000``."""
    return format_datetime(when.astimezone(UTC)) if when else None


@dataclass(slots=True)
class Project:
    """``numbers`` holds the carrier's own resources by id; ``signing_key`` signs the project's webhooks."""

    sid: str
    signing_key: str
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.sid}"

    def number(self, number: str) -> dict[str, Any] | None:
        """The resource of a number the project holds."""
        return next((owned for owned in self.numbers.values() if owned["phone_number"] == number), None)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One entry of the dashboard's log: a code, what it says, and the call it is about."""

    code: int
    message: str
    call_sid: str = ""


@dataclass(frozen=True, slots=True)
class Callback:
    """Where something is told, and which of its events are."""

    url: str
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class Instructions:
    """cXML to be fetched from ``url``, with ``params`` added to the form; ``fallback`` is asked when that fails."""

    url: str
    method: str = "POST"
    params: Mapping[str, str] = field(default_factory=dict)
    fallback: Instructions | None = None


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """What was asked for with a recording."""

    source: str = "StartCallRecordingApi"
    channels: int = 1
    trim: str = "do-not-trim"
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What was asked for with a call; the defaults are the carrier's. ``of_number``: the callback is a number's own."""

    instructions: Instructions | None = None
    timeout: float = 60
    status_callback: Callback | None = None
    of_number: bool = False
    send_digits: str = ""
    detection: str = ""
    detection_async: bool = False
    detection_callback: Callback | None = None
    record: RecordingOrder | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """A call's terminal status, with the SIP code where one is told."""

    status: str
    sip_code: int | None = None
