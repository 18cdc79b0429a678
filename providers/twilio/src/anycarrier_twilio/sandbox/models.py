"""The sandbox's state: accounts, debugger entries, and the options of calls and recordings."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from anycarrier_twilio.carrier_side import calls_api

if TYPE_CHECKING:
    from anycarrier_twilio.sandbox.leg import Leg
    from anycarrier_twilio.sandbox.recordings import Recording


def new_sid(prefix: str) -> str:
    """``prefix`` and 32 hexadecimal digits."""
    return prefix + secrets.token_hex(16)


@dataclass(slots=True)
class Account:
    """``numbers`` holds the carrier's own resources by PN sid; ``token`` signs webhooks and may log in."""

    sid: str
    token: str
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    numbers: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: dict[str, Leg] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def number(self, number: str) -> dict[str, Any] | None:
        """The resource of a number the account holds."""
        return next((owned for owned in self.numbers.values() if owned["phone_number"] == number), None)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One entry of the carrier's debugger: an error code, what it says, and the call it is about."""

    code: int
    message: str
    call_sid: str = ""


@dataclass(frozen=True, slots=True)
class RecordingOrder:
    """What was asked for with a recording."""

    source: str = "StartCallRecordingAPI"
    channels: int = 1
    track: str = "both"
    callback: str = ""
    method: str = "POST"
    events: frozenset[str] = frozenset({"completed"})


@dataclass(frozen=True, slots=True)
class End:
    """A call's terminal status, with the SIP code where one is told."""

    status: str
    sip_code: int | None = None


@dataclass(frozen=True, slots=True)
class CallOptions(calls_api.CallOptions):
    """What was asked for with a call, recordings too."""

    record: RecordingOrder | None = None
